-- The access matrix of core.

SELECT ringfence.protect(t.rel, t.access, t.row_class)
FROM (VALUES
	('ringfence_data.org_entries'::regclass, 'org',    '{"owner,admin": "select"}'::jsonb),
	('ringfence_data.apps'::regclass,              'system', '{}'),
	('ringfence_data.tables'::regclass,            'system', '{}'),
	('ringfence_data.protected_schemas'::regclass, 'system', '{}'),
	('ringfence_data.reference_exemptions'::regclass, 'system', '{}'),
	('ringfence_data.jwt_keys'::regclass,          'system', '{}')
) AS t (rel, row_class, access);

-- orgs: the organization of the context, and those of one's own memberships.
-- An INSERT makes a new tenant, which crosses nobody's border; only
-- ringfence_owner's functions may.
ALTER TABLE ringfence_data.orgs ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.orgs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.orgs AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.orgs AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (
		id = ringfence.org_id()
		OR id IN (SELECT m.org_id FROM ringfence_data.memberships AS m WHERE m.user_id = ringfence.user_id())
	)
	WITH CHECK (id = ringfence.org_id());
CREATE POLICY select_for_member ON ringfence_data.orgs AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.installed());
CREATE POLICY operator_read ON ringfence_data.orgs AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
GRANT SELECT ON ringfence_data.orgs TO ringfence_member, ringfence_operator;
-- So that the database's owner can protect tables of their own.
GRANT REFERENCES (id) ON ringfence_data.orgs, ringfence_data.users TO pg_database_owner;

-- users: oneself; for owners and admins also the active members of their
-- organization. ringfence_owner's functions find an invited address anywhere.
ALTER TABLE ringfence_data.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.users FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.users AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY user_isolation ON ringfence_data.users AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (
		id = ringfence.user_id()
		OR current_user = 'ringfence_owner'
		OR id IN (
			SELECT m.user_id FROM ringfence_data.memberships AS m
			WHERE m.org_id = ringfence.org_id() AND m.status = 'active'
		)
	)
	WITH CHECK (id = ringfence.user_id() OR current_user = 'ringfence_owner');
CREATE POLICY select_for_owner_admin ON ringfence_data.users AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY select_for_member_own_id ON ringfence_data.users AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (id = ringfence.user_id());
CREATE POLICY operator_read ON ringfence_data.users AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
GRANT SELECT (id, email, name, created_at) ON ringfence_data.users TO ringfence_member, ringfence_operator;

-- memberships: one's own anywhere; for owners and admins those of their
-- organization. A new one is made in the organization of the context only.
ALTER TABLE ringfence_data.memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.memberships AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.memberships AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id() OR user_id = ringfence.user_id())
	WITH CHECK (org_id = ringfence.org_id() OR user_id = ringfence.user_id());
CREATE POLICY org_insert ON ringfence_data.memberships AS RESTRICTIVE FOR INSERT TO PUBLIC
	WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.memberships AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY select_for_member_own_user_id ON ringfence_data.memberships AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (user_id = ringfence.user_id());
CREATE POLICY operator_read ON ringfence_data.memberships AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
GRANT SELECT ON ringfence_data.memberships TO ringfence_member, ringfence_operator;

-- As protect() does: not even ringfence_owner's functions may empty these.
REVOKE TRUNCATE ON ringfence_data.orgs, ringfence_data.users, ringfence_data.memberships FROM ringfence_owner;

SELECT
	ringfence.register_table('ringfence_data.orgs', 'directory', '{"*": "select"}'),
	ringfence.register_table('ringfence_data.users', 'directory', '{"owner,admin": "select", "*": "select where id is user"}'),
	ringfence.register_table('ringfence_data.memberships', 'directory', '{"owner,admin": "select", "*": "select where user_id is user"}'),
	ringfence.protect_schema('ringfence_data');
