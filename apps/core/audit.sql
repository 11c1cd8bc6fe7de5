-- The audit log. Records are written by the library alone, beside privileges
-- and triggers, and by nobody else: not by the tables' owner either.

-- What a record's relation was called, and its columns, when it was written:
-- a row for each name and shape that an audited table has had.
CREATE TABLE ringfence_data.audit_relations (
	id integer NOT NULL PRIMARY KEY,
	relation regclass NOT NULL,
	name text COLLATE "C" NOT NULL,
	columns jsonb NOT NULL,
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_relations_relation_idx ON ringfence_data.audit_relations (relation);
COMMENT ON TABLE ringfence_data.audit_relations IS
	'names and columns that audited tables have had: a record keeps those of its time, whatever is renamed later';
COMMENT ON COLUMN ringfence_data.audit_relations.id IS 'identifies the shape; relation_id in audit_log';
COMMENT ON COLUMN ringfence_data.audit_relations.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.audit_relations.name IS 'its name then, with its schema, as SQL writes it';
COMMENT ON COLUMN ringfence_data.audit_relations.columns IS 'its columns then: {"1": "id", ...}, by attribute number';
COMMENT ON COLUMN ringfence_data.audit_relations.recorded_at IS 'when it was first written with that shape';

-- A transaction's number means something in one server only: a restored dump
-- goes on in the next incarnation.
CREATE TABLE ringfence_data.audit_incarnations (
	number integer NOT NULL PRIMARY KEY,
	system_identifier bigint NOT NULL,
	started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT audit_incarnations_number_check CHECK (number > 0)
);
COMMENT ON TABLE ringfence_data.audit_incarnations IS
	'servers that this database has lived in: transaction_id counts within one of them';
COMMENT ON COLUMN ringfence_data.audit_incarnations.number IS 'counts them from 1';
COMMENT ON COLUMN ringfence_data.audit_incarnations.system_identifier IS 'the server''s, as pg_control_system() shows it';
COMMENT ON COLUMN ringfence_data.audit_incarnations.started_at IS 'when the first record was written there';

CREATE TABLE ringfence_data.audit_log (
	org_id uuid NOT NULL,
	id uuid NOT NULL,
	recorded_at timestamptz NOT NULL,
	transaction_id bigint NOT NULL,
	incarnation integer NOT NULL,
	relation_id integer,
	user_id uuid,
	operation text COLLATE "C" NOT NULL,
	actor text COLLATE "C" NOT NULL,
	login text COLLATE "C" NOT NULL,
	role text COLLATE "C" NOT NULL,
	action text COLLATE "C",
	key text COLLATE "C",
	request_id text COLLATE "C",
	correlation_id text COLLATE "C",
	client_ip inet,
	user_agent text,
	reason text,
	old jsonb,
	new jsonb,
	personal jsonb,
	PRIMARY KEY (org_id, recorded_at, id),
	CONSTRAINT audit_log_operation_check CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'EVENT')),
	CONSTRAINT audit_log_actor_check CHECK (actor IN ('anonymous', 'user', 'operator', 'job', 'system')),
	CONSTRAINT audit_log_relation_id_check CHECK (relation_id IS NOT NULL OR operation = 'EVENT'),
	CONSTRAINT audit_log_action_check CHECK ((action IS NOT NULL) = (operation = 'EVENT'))
) PARTITION BY RANGE (recorded_at);
-- For audit_seal(), which looks for the transactions since its last block: rows
-- come in nearly in that order, so that this costs next to nothing. A btree costs
-- a change as much as its record does, so table and key have one only in months
-- that are over, from make_audit_partitions(). Page summaries of keys would be of
-- all organizations together: the time a search takes would tell one tenant
-- which keys another has.
CREATE INDEX audit_log_transaction_idx ON ringfence_data.audit_log
	USING brin (transaction_id) WITH (pages_per_range = 32);
COMMENT ON TABLE ringfence_data.audit_log IS
	'what happened: a record for each changed row of an audited table, and for each event; written by the library alone; partitions by month';
COMMENT ON COLUMN ringfence_data.audit_log.org_id IS
	'the organization it concerns, or 00000000-0000-0000-0000-000000000000 for what belongs to none';
COMMENT ON COLUMN ringfence_data.audit_log.id IS 'identifies the record; UUID version 7';
COMMENT ON COLUMN ringfence_data.audit_log.recorded_at IS 'when it happened, by the server''s clock';
COMMENT ON COLUMN ringfence_data.audit_log.transaction_id IS
	'the transaction that did it, as pg_current_xact_id() counts';
COMMENT ON COLUMN ringfence_data.audit_log.incarnation IS 'the server that transaction_id counts in; audit_incarnations';
COMMENT ON COLUMN ringfence_data.audit_log.relation_id IS 'the table and its shape, in audit_relations; NULL for an event';
COMMENT ON COLUMN ringfence_data.audit_log.user_id IS 'the user who did it, or NULL';
COMMENT ON COLUMN ringfence_data.audit_log.operation IS 'INSERT, UPDATE, DELETE, TRUNCATE or EVENT';
COMMENT ON COLUMN ringfence_data.audit_log.actor IS
	'user, operator, job, anonymous (a request of nobody known) or system (a login of its own, without a context)';
COMMENT ON COLUMN ringfence_data.audit_log.login IS 'the database role that had logged in';
COMMENT ON COLUMN ringfence_data.audit_log.role IS 'the database role that was in force';
COMMENT ON COLUMN ringfence_data.audit_log.action IS 'what happened, for an event: "audit.read", "org.entered"';
COMMENT ON COLUMN ringfence_data.audit_log.key IS
	'the row''s primary key without org_id: one column''s text, or several as a JSON array; an event''s subject; NULL where there is none';
COMMENT ON COLUMN ringfence_data.audit_log.request_id IS 'the request''s id, or NULL outside one';
COMMENT ON COLUMN ringfence_data.audit_log.correlation_id IS 'x-correlation-id of the request, or the trace id of its traceparent';
COMMENT ON COLUMN ringfence_data.audit_log.client_ip IS 'the address of the client';
COMMENT ON COLUMN ringfence_data.audit_log.user_agent IS 'user-agent of the request, at most 256 bytes';
COMMENT ON COLUMN ringfence_data.audit_log.reason IS 'the reason given: ringfence.reason, x-reason, or that of enter_org()';
COMMENT ON COLUMN ringfence_data.audit_log.old IS
	'columns before: those that an UPDATE changed, those that are not NULL for a DELETE; "[secret]" stands for a secret';
COMMENT ON COLUMN ringfence_data.audit_log.new IS
	'columns after: those that an UPDATE changed, those that are not NULL for an INSERT; an event''s details';
COMMENT ON COLUMN ringfence_data.audit_log.personal IS
	'personal columns, apart from old and new so that they can be forgotten: {"new": {"email": {"salt": base64, "value": ...}}}, or {"commitment": base64} once forgotten';

-- What columns hold, where their names don't tell.
CREATE TABLE ringfence_data.columns (
	relation regclass NOT NULL,
	column_name name NOT NULL,
	label text COLLATE "C" NOT NULL,
	PRIMARY KEY (relation, column_name),
	CONSTRAINT columns_label_check CHECK (label IN ('secret', 'personal', 'plain'))
);
COMMENT ON TABLE ringfence_data.columns IS 'labels of columns; written by label()';
COMMENT ON COLUMN ringfence_data.columns.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.columns.column_name IS 'the column';
COMMENT ON COLUMN ringfence_data.columns.label IS
	'secret: never in the audit log; personal: there, until forgotten; plain: neither, whatever its name is like';

CREATE TABLE ringfence_data.secret_names (
	pattern text COLLATE "C" NOT NULL PRIMARY KEY,
	CONSTRAINT secret_names_pattern_check CHECK (pattern ~ '^[a-z0-9]{3,63}$')
);
COMMENT ON TABLE ringfence_data.secret_names IS
	'what the name of a column or of a field in JSON contains if its value is a secret, whatever its case and without "_", "-", "." and spaces';
COMMENT ON COLUMN ringfence_data.secret_names.pattern IS 'lower case letters and digits';
INSERT INTO ringfence_data.secret_names (pattern)
VALUES ('password'), ('passwd'), ('passphrase'), ('token'), ('secret'), ('apikey'), ('authorization'),
	('privatekey'), ('accesskey'), ('credential'), ('cookie'), ('otp'), ('cvv'), ('cvc');

-- How far audit_forget_before() came.
CREATE TABLE ringfence_data.audit_forgotten (
	relation regclass NOT NULL,
	org_id uuid NOT NULL,
	since timestamptz NOT NULL,
	reached timestamptz NOT NULL,
	settled_at timestamptz NOT NULL,
	seen_at timestamptz NOT NULL,
	seen_xid bigint NOT NULL,
	incarnation integer NOT NULL,
	oldest timestamptz NOT NULL,
	relation_ids integer[] NOT NULL,
	PRIMARY KEY (relation, org_id)
);
COMMENT ON TABLE ringfence_data.audit_forgotten IS
	'up to when the personal values in a table''s records have been forgotten by age, so that they are not read again; written by audit_forget_before()';
COMMENT ON COLUMN ringfence_data.audit_forgotten.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.audit_forgotten.org_id IS
	'the organization, or 00000000-0000-0000-0000-000000000000 for what belongs to none';
COMMENT ON COLUMN ringfence_data.audit_forgotten.since IS 'before this time nothing is left to forget';
COMMENT ON COLUMN ringfence_data.audit_forgotten.reached IS 'where the next call goes on, at or after since';
COMMENT ON COLUMN ringfence_data.audit_forgotten.settled_at IS
	'before this time no record can come any more: all transactions that began then are over';
COMMENT ON COLUMN ringfence_data.audit_forgotten.seen_at IS 'the time that will be settled next';
COMMENT ON COLUMN ringfence_data.audit_forgotten.seen_xid IS 'as soon as all transactions before this one are over';
COMMENT ON COLUMN ringfence_data.audit_forgotten.incarnation IS 'the server that seen_xid counts in; audit_incarnations';
COMMENT ON COLUMN ringfence_data.audit_forgotten.oldest IS
	'the first time that the log had a partition for: one for an earlier time is looked at from its beginning';
COMMENT ON COLUMN ringfence_data.audit_forgotten.relation_ids IS
	'the table''s rows in audit_relations that since is true of';
SELECT ringfence.audit_close('ringfence_data.audit_forgotten');
SELECT ringfence.create_policies('ringfence_data.audit_forgotten', 'system', '{}');
GRANT SELECT ON ringfence_data.audit_forgotten TO ringfence_jobs;
SELECT ringfence.register_table('ringfence_data.audit_forgotten', 'system', '{}');
