-- Objects to be deleted outside the database. Written by leave_tombstone(), worked
-- off by ringfence_jobs; no tenant reads, writes or takes one. There is no foreign
-- key: what an object belonged to, its organization included, may be gone first.

CREATE TABLE ringfence_data.tombstones (
	id uuid NOT NULL DEFAULT ringfence.uuid7() PRIMARY KEY,
	org_id uuid NOT NULL,
	store text COLLATE "C" NOT NULL,
	object_key text COLLATE "C" NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	attempts integer NOT NULL DEFAULT 0,
	claimed_at timestamptz,
	claimed_by text,
	last_error text,
	done_at timestamptz,
	CONSTRAINT tombstones_store_check CHECK (store ~ '^[a-z][a-z0-9_-]{0,62}$'),
	CONSTRAINT tombstones_object_key_check CHECK (ringfence.is_object_key(object_key, org_id)),
	CONSTRAINT tombstones_attempts_check CHECK (attempts >= 0),
	CONSTRAINT tombstones_claimed_at_check CHECK ((claimed_at IS NULL) = (claimed_by IS NULL))
);
CREATE INDEX tombstones_due_at_idx ON ringfence_data.tombstones (due_at) WHERE done_at IS NULL;
CREATE INDEX tombstones_done_at_idx ON ringfence_data.tombstones (org_id, done_at);
COMMENT ON TABLE ringfence_data.tombstones IS
	'stored objects whose rows are gone, for a worker to delete: tombstone_claim(), tombstone_done(), tombstone_failed()';
COMMENT ON COLUMN ringfence_data.tombstones.id IS 'identifies the tombstone';
COMMENT ON COLUMN ringfence_data.tombstones.org_id IS 'the organization whose object it is; it may be gone';
COMMENT ON COLUMN ringfence_data.tombstones.store IS 'where the object is: photos; lower case, the worker knows what it stands for';
COMMENT ON COLUMN ringfence_data.tombstones.object_key IS 'the object in the store: ORG/...; see is_object_key()';
COMMENT ON COLUMN ringfence_data.tombstones.created_at IS 'when the row went that named it';
COMMENT ON COLUMN ringfence_data.tombstones.due_at IS 'from when it can be taken: at once, when the lease of who took it is over, or some time after it failed';
COMMENT ON COLUMN ringfence_data.tombstones.attempts IS 'how often it was taken';
COMMENT ON COLUMN ringfence_data.tombstones.claimed_at IS 'when it was taken last; NULL before';
COMMENT ON COLUMN ringfence_data.tombstones.claimed_by IS 'login role and process id of the session that took it; NULL before';
COMMENT ON COLUMN ringfence_data.tombstones.last_error IS 'why it failed last, 1000 characters of it; NULL if it never did';
COMMENT ON COLUMN ringfence_data.tombstones.done_at IS 'when the object was gone; NULL until then';

-- ringfence_owner's code leaves tombstones where no context is, or another one:
-- within a trigger, and in no other way.
ALTER TABLE ringfence_data.tombstones ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.tombstones FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.tombstones AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.tombstones AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id())
	WITH CHECK (org_id = ringfence.org_id() OR (current_user = 'ringfence_owner' AND pg_trigger_depth() > 0));
CREATE POLICY operator_read ON ringfence_data.tombstones AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
REVOKE TRUNCATE ON ringfence_data.tombstones FROM ringfence_owner;
GRANT SELECT ON ringfence_data.tombstones TO ringfence_operator, ringfence_jobs;
GRANT UPDATE (due_at, attempts, claimed_at, claimed_by, last_error, done_at) ON ringfence_data.tombstones TO ringfence_jobs;

SELECT ringfence.register_table('ringfence_data.tombstones', 'directory', '{}');
SELECT ringfence.except_reference('ringfence_data.tombstones', 'org_id', 'an object is deleted after its organization');

-- What is done is proof for a while.
SELECT ringfence.retain('ringfence_data.tombstones', 'done_at', '90 days', outlives_org => true);
