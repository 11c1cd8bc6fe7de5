-- verify() about retention: nothing is found in what the apps make; a table whose
-- personal columns nobody said a period of, a policy whose column or index is gone
-- are found, as one finding each, which is gone once its own "fix" has run.
BEGIN;
SET LOCAL client_min_messages = error;
SELECT plan(24);

CREATE FUNCTION pg_temp.verified() RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql AS $$
	SELECT v.severity, v.code, v.object, v.message, v.fix
	FROM ringfence.verify() AS v
	WHERE v.code IN ('personal_unretained', 'retention_stale', 'retention_index_missing')
$$;
CREATE FUNCTION pg_temp.findings() RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT format('%s %s %s: %s', v.severity, v.code, v.object, v.message) FROM pg_temp.verified() AS v ORDER BY 1
$$;
-- Makes a defect, sees the finding, runs its fix, sees nothing.
CREATE FUNCTION pg_temp.defect(about text, defect text, expected text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
	finding record;
BEGIN
	EXECUTE defect;
	RETURN NEXT is((SELECT string_agg(f, E'\n') FROM pg_temp.findings() AS f), expected, about);
	FOR finding IN SELECT v.fix FROM pg_temp.verified() AS v LOOP
		EXECUTE finding.fix;
	END LOOP;
	RETURN NEXT is_empty('SELECT f FROM pg_temp.findings() AS f', about || ': fixed');
END
$$;

SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'the apps say of all that is personal how long it is kept');

CREATE TABLE public.people (id uuid NOT NULL PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz, name text, phone text, state text);
SELECT ringfence.protect('public.people', '{"owner": "all"}');
CREATE INDEX people_created_at_idx ON public.people (org_id, created_at);
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'what is not personal needs no period');
SELECT pg_temp.defect('a personal column', $$SELECT ringfence.label('public.people', 'name', 'personal'), ringfence.label('public.people', 'phone', 'personal')$$,
	'warning personal_unretained public.people: nothing says how long its personal columns are kept: name, phone');
SELECT results_eq($$SELECT p.step, p.reason FROM ringfence_data.retention_policies AS p WHERE p.relation = 'public.people'::regclass$$,
	$$VALUES ('forever', 'nobody has said yet how long')$$, 'until somebody says more it is kept');
SELECT pg_temp.defect('one whose period was taken back', $$SELECT ringfence.unretain('public.people')$$,
	'warning personal_unretained public.people: nothing says how long its personal columns are kept: name, phone');
SELECT ringfence.retain_forever('public.people', 'evidence');
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'for good is a period');
SELECT ringfence.unretain('public.people') \g /dev/null
SELECT ringfence.label('public.people', 'name', NULL), ringfence.label('public.people', 'phone', NULL) \g /dev/null
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'where nothing is personal any more there is none to say');

-- The index
SELECT ringfence.retain('public.people', 'created_at', '1 year');
SELECT pg_temp.defect('an index that is gone', 'DROP INDEX public.people_created_at_idx',
	'error retention_index_missing public.people, delete: each batch of the policy reads the whole table');
DROP INDEX public.people_org_id_created_at_idx;
SELECT pg_temp.defect('one that is not valid', $$CREATE INDEX people_created_at_idx ON public.people (org_id, created_at);
		UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.people_created_at_idx'::regclass$$,
	'error retention_index_missing public.people, delete: each batch of the policy reads the whole table');
CREATE INDEX people_phone_idx ON public.people (org_id, created_at) WHERE (phone IS NOT NULL);
SELECT ringfence.retain('public.people', 'created_at', '90 days', 'anonymize', '{"phone": "null"}');
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'several steps have their indexes');
SELECT pg_temp.defect('rules that the index is not about any more', $$UPDATE ringfence_data.retention_policies SET rules = '{"phone": "null", "name": "null"}' WHERE relation = 'public.people'::regclass AND step = 'anonymize';
		DROP INDEX public.people_org_id_created_at_idx; DROP INDEX public.people_created_at_idx; SELECT ringfence.unretain('public.people', 'delete')$$,
	'error retention_index_missing public.people, anonymize: each batch of the policy reads the whole table');
SELECT ringfence.unretain('public.people') \g /dev/null

-- Columns
CREATE INDEX people_seen_at_idx ON public.people (org_id, seen_at);
SELECT ringfence.retain('public.people', 'seen_at', '1 year', step => 'unseen');
SELECT pg_temp.defect('a column that is gone', 'ALTER TABLE public.people DROP seen_at',
	'error retention_stale public.people, unseen: the policy names a column that does not exist: seen_at');
CREATE INDEX people_created_at_idx ON public.people (org_id, created_at);
SELECT ringfence.retain('public.people', 'created_at', '1 year', 'anonymize', '{"name": "null", "phone": "null"}');
SELECT pg_temp.defect('one of the rules', 'ALTER TABLE public.people DROP phone',
	'error retention_stale public.people, anonymize: the policy names a column that does not exist: phone');
SELECT ringfence.retain('public.people', 'created_at', '1 year', filter => '{"state": "lost"}');
SELECT pg_temp.defect('one of the filter', 'ALTER TABLE public.people RENAME state TO status',
	'error retention_stale public.people, delete: the policy names a column that does not exist: state');

-- The table
SELECT ringfence.retain('public.people', 'created_at', '1 year');
SELECT ringfence.label('public.people', 'name', 'personal') \g /dev/null
ALTER TABLE public.people RENAME TO persons;
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'a table that is called otherwise is the same');
DROP TABLE public.persons;
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'one that is gone leaves nothing behind');

SELECT * FROM finish();
ROLLBACK;
