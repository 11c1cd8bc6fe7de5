-- Who reads the audit log: owners and admins what concerns their organization,
-- operators that of the one they have entered, which is recorded. Nobody writes.

SELECT ringfence.audit_close(t.rel)
FROM unnest(ARRAY[
	'ringfence_data.audit_log', 'ringfence_data.audit_relations', 'ringfence_data.audit_incarnations'
]::regclass[]) AS t (rel);

CREATE POLICY org_isolation ON ringfence_data.audit_log AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_log AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_log AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());
GRANT SELECT ON ringfence_data.audit_log TO ringfence_member, ringfence_operator, ringfence_jobs;

-- What tables and columns are called, now or formerly: no tenant's secret, since
-- the catalogs show it to everybody. When a table was first written to would say
-- something of whoever wrote.
CREATE POLICY org_isolation ON ringfence_data.audit_relations AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (ringfence.org_id() IS NOT NULL) WITH CHECK (ringfence.org_id() IS NOT NULL);
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_relations AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_relations AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
GRANT SELECT (id, relation, name, columns) ON ringfence_data.audit_relations TO ringfence_member, ringfence_operator;
GRANT SELECT ON ringfence_data.audit_relations TO ringfence_jobs;

SELECT ringfence.create_policies('ringfence_data.audit_incarnations', 'system', '{}');
GRANT SELECT ON ringfence_data.audit_incarnations TO ringfence_jobs;

SELECT
	ringfence.register_table('ringfence_data.audit_log', 'directory', '{"owner,admin": "select"}'),
	ringfence.register_table('ringfence_data.audit_relations', 'directory', '{"owner,admin": "select"}'),
	ringfence.register_table('ringfence_data.audit_incarnations', 'system', '{}'),
	ringfence.make_audit_partitions(3);

-- Labels count at once in every session.
CREATE TRIGGER ringfence_labels_changed AFTER INSERT OR UPDATE OR DELETE ON ringfence_data.columns
	FOR EACH ROW EXECUTE FUNCTION ringfence.audit_labels_changed();
CREATE TRIGGER ringfence_labels_truncated AFTER TRUNCATE ON ringfence_data.columns
	FOR EACH STATEMENT EXECUTE FUNCTION ringfence.audit_labels_changed();
CREATE TRIGGER ringfence_labels_changed AFTER INSERT OR UPDATE OR DELETE ON ringfence_data.secret_names
	FOR EACH ROW EXECUTE FUNCTION ringfence.audit_labels_changed();
CREATE TRIGGER ringfence_labels_truncated AFTER TRUNCATE ON ringfence_data.secret_names
	FOR EACH STATEMENT EXECUTE FUNCTION ringfence.audit_labels_changed();

SELECT
	ringfence.label('ringfence_data.users', 'email', 'personal'),
	ringfence.label('ringfence_data.users', 'name', 'personal'),
	ringfence.label('ringfence_data.memberships', 'invited_as', 'personal'),
	ringfence.label('ringfence_data.jwt_keys', 'secret', 'secret');

-- Those that have policies of their own; protect() sees to the others.
SELECT ringfence.audit(t.rel)
FROM unnest(ARRAY[
	'ringfence_data.orgs', 'ringfence_data.users', 'ringfence_data.memberships'
]::regclass[]) AS t (rel);
SELECT ringfence.protect(t.rel, row_class => 'system')
FROM unnest(ARRAY['ringfence_data.columns', 'ringfence_data.secret_names']::regclass[]) AS t (rel);

CREATE VIEW ringfence_v1.audit_log WITH (security_invoker = true) AS
SELECT
	l.id,
	l.recorded_at,
	l.operation,
	r.name AS relation,
	l.key,
	l.actor,
	l.user_id,
	l.login,
	l.role,
	l.action,
	l.request_id,
	l.correlation_id,
	l.client_ip,
	l.user_agent,
	l.reason,
	l.transaction_id,
	ringfence.audit_values(l.old, l.personal, 'old') AS old,
	ringfence.audit_values(l.new, l.personal, 'new') AS new,
	ringfence.audit_forgotten(l.personal) AS forgotten
FROM ringfence_data.audit_log AS l
LEFT JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id;
COMMENT ON VIEW ringfence_v1.audit_log IS
	'what happened in the organization, for its owners and admins: one record for each changed row and each event, never changed itself';
COMMENT ON COLUMN ringfence_v1.audit_log.id IS 'identifies the record; ids grow with time';
COMMENT ON COLUMN ringfence_v1.audit_log.recorded_at IS 'when it happened';
COMMENT ON COLUMN ringfence_v1.audit_log.operation IS 'INSERT, UPDATE, DELETE, TRUNCATE or EVENT';
COMMENT ON COLUMN ringfence_v1.audit_log.relation IS 'the table, as it was called then; null for an event';
COMMENT ON COLUMN ringfence_v1.audit_log.key IS 'the row''s key, or an event''s subject';
COMMENT ON COLUMN ringfence_v1.audit_log.actor IS 'user, operator, job, anonymous or system';
COMMENT ON COLUMN ringfence_v1.audit_log.user_id IS 'the user who did it';
COMMENT ON COLUMN ringfence_v1.audit_log.login IS 'the database role that had logged in';
COMMENT ON COLUMN ringfence_v1.audit_log.role IS 'the database role that was in force';
COMMENT ON COLUMN ringfence_v1.audit_log.action IS 'what happened, for an event';
COMMENT ON COLUMN ringfence_v1.audit_log.request_id IS 'the request that it was part of';
COMMENT ON COLUMN ringfence_v1.audit_log.correlation_id IS 'x-correlation-id of the request, or the trace id of its traceparent';
COMMENT ON COLUMN ringfence_v1.audit_log.client_ip IS 'the address of the client';
COMMENT ON COLUMN ringfence_v1.audit_log.user_agent IS 'the client''s user-agent';
COMMENT ON COLUMN ringfence_v1.audit_log.reason IS 'the reason that was given';
COMMENT ON COLUMN ringfence_v1.audit_log.transaction_id IS 'the same for all that happened together';
COMMENT ON COLUMN ringfence_v1.audit_log.old IS
	'columns before: those that an UPDATE changed, all that were not null for a DELETE; "[secret]" stands for a secret';
COMMENT ON COLUMN ringfence_v1.audit_log.new IS
	'columns after: those that an UPDATE changed, all that are not null for an INSERT; an event''s details';
COMMENT ON COLUMN ringfence_v1.audit_log.forgotten IS 'columns whose values were erased since: null in old and new';
GRANT SELECT ON ringfence_v1.audit_log TO ringfence_member, ringfence_operator, ringfence_jobs;

CREATE VIEW ringfence_v1.audit_changes WITH (security_invoker = true) AS
SELECT
	l.id,
	l.recorded_at,
	l.operation,
	r.name AS relation,
	l.key,
	l.actor,
	l.user_id,
	l.request_id,
	l.reason,
	c.column_name,
	c.old,
	c.new
FROM ringfence_data.audit_log AS l
INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
CROSS JOIN LATERAL (
	SELECT coalesce(o.key, n.key) AS column_name, o.value AS old, n.value AS new
	FROM jsonb_each(ringfence.audit_values(l.old, l.personal, 'old')) AS o
	FULL JOIN jsonb_each(ringfence.audit_values(l.new, l.personal, 'new')) AS n ON n.key = o.key
) AS c;
COMMENT ON VIEW ringfence_v1.audit_changes IS
	'the same, one line for each column that a record tells of, old beside new';
COMMENT ON COLUMN ringfence_v1.audit_changes.id IS 'the record, in audit_log';
COMMENT ON COLUMN ringfence_v1.audit_changes.recorded_at IS 'when it happened';
COMMENT ON COLUMN ringfence_v1.audit_changes.operation IS 'INSERT, UPDATE or DELETE';
COMMENT ON COLUMN ringfence_v1.audit_changes.relation IS 'the table, as it was called then';
COMMENT ON COLUMN ringfence_v1.audit_changes.key IS 'the row''s key';
COMMENT ON COLUMN ringfence_v1.audit_changes.actor IS 'user, operator, job, anonymous or system';
COMMENT ON COLUMN ringfence_v1.audit_changes.user_id IS 'the user who did it';
COMMENT ON COLUMN ringfence_v1.audit_changes.request_id IS 'the request that it was part of';
COMMENT ON COLUMN ringfence_v1.audit_changes.reason IS 'the reason that was given';
COMMENT ON COLUMN ringfence_v1.audit_changes.column_name IS 'the column, as it was called then';
COMMENT ON COLUMN ringfence_v1.audit_changes.old IS 'its value before';
COMMENT ON COLUMN ringfence_v1.audit_changes.new IS 'its value after';
GRANT SELECT ON ringfence_v1.audit_changes TO ringfence_member, ringfence_operator, ringfence_jobs;
