-- Exports where who they are of comes to an end: a person who is forgotten is in no
-- file, and in no error of one either; an organization that is deleted leaves no
-- file behind, whatever became of it.
\ir include/exports.sql
SELECT plan(11);

CREATE FUNCTION public.asks_books(query text) RETURNS text
LANGUAGE sql RETURN public.asks('aaaaaaaa-0000-4000-8000-0000000000b1', '0aaaaaaa-0000-7000-8000-00000000000a', query);
CREATE FUNCTION public.begun(arguments text DEFAULT '''sales''') RETURNS text LANGUAGE sql RETURN public.asks_books(public.starts(arguments));
CREATE FUNCTION public.left_of(org uuid) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', (SELECT count(*) FROM ringfence_data.exports AS e WHERE e.org_id = org),
		(SELECT count(*) FROM ringfence_data.export_parts AS p WHERE p.org_id = org),
		(SELECT count(*) FROM ringfence_data.export_schedules AS s WHERE s.org_id = org))
$$;
CREATE PROCEDURE public.finish_deletions() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..5000 LOOP
		EXIT WHEN ringfence.delete_orgs_step() = 0;
		COMMIT;
	END LOOP;
END
$$;

-- A person whose name an export stumbled on.
CREATE TABLE shop.people (org_id uuid NOT NULL DEFAULT ringfence.org_id(), id uuid NOT NULL, name text NOT NULL, PRIMARY KEY (org_id, id));
SELECT ringfence.protect('shop.people', '{"admin,books": "all"}') \g /dev/null
SELECT ringfence.declare_subject('client', 'shop.people', 'id', 'delete', is_root => true) \g /dev/null
CREATE VIEW shop.numbered WITH (security_invoker = true) AS SELECT p.id, p.name::integer AS number FROM shop.people AS p;
GRANT SELECT ON shop.numbered TO ringfence_member;
SELECT ringfence.declare_export('numbered', 'shop.numbered', '{id}', '{books}') \g /dev/null
INSERT INTO shop.people (org_id, id, name) VALUES (:'org_a', :'client_b', 'Zoe Zimmer');
SELECT begun('''numbered''') AS stumbled, asks(:'user_client', :'org_a', starts()) AS lost \gset
UPDATE ringfence_data.memberships SET roles = '{clerk}' WHERE user_id = :'user_client';
SELECT steps() \g /dev/null
SELECT is(error(:'stumbled'), 'failed 22P02: invalid input syntax for type integer: "Zoe Zimmer"', 'an error may be of a row');
SELECT is_empty($$SELECT l.id FROM ringfence_data.audit_log AS l WHERE l.action = 'export.failed' AND concat(l.reason, l.new) ~ 'Zoe'$$, 'which is not for the log');
SELECT asks(:'user_a', :'org_a', format('SELECT count(*) FROM ringfence_v1.erase_subject(''client'', %L, ''asked by mail'', false)', :'client_b')) \g /dev/null
SELECT is(ARRAY[error(:'stumbled'), error(:'lost')], '{failed 22P02,failed 42501}', 'it goes with the person');
UPDATE ringfence_data.exports SET finished_at = now() - interval '2 hours' WHERE id = :'stumbled';
SELECT is(steps(), 0, 'a right that was lost is still no fault of the job''s');
UPDATE ringfence_data.memberships SET roles = '{client}' WHERE user_id = :'user_client';
DELETE FROM ringfence_data.exports;

-- One that is done, one of another organization, one that failed, one that was
-- canceled, one in the middle, one that waits; and one that is made every month.
SELECT begun() AS done, asks(:'user_b', :'org_b', starts()) AS theirs \gset
SELECT steps() \g /dev/null
SELECT job('RESET ROLE; SET ringfence.export_part_bytes = 1000; SET ROLE ringfence_jobs') \g /dev/null
SELECT begun() AS failed \gset
SELECT steps(4) \g /dev/null
UPDATE ringfence_data.exports SET state = 'failed', finished_at = now(), last_error = 'XX000: x' WHERE id = :'failed';
SELECT begun() AS canceled \gset
SELECT steps(4) \g /dev/null
SELECT asks_books(format('SELECT ringfence_v1.cancel_export(%L)', :'canceled')) \g /dev/null
SELECT begun() AS running \gset
SELECT steps(5) \g /dev/null
SELECT begun() AS queued, asks_books($$SELECT ringfence_v1.schedule_export('sales', 'month')$$) AS schedule \gset
SELECT is((SELECT array_agg(e.state COLLATE "default" ORDER BY e.id) FROM ringfence_data.exports AS e WHERE e.org_id = :'org_a'),
	'{done,failed,canceled,running,queued}', 'exports in each state');
SELECT is((SELECT array_agg(DISTINCT p.export_id::text ORDER BY p.export_id::text) FROM ringfence_data.export_parts AS p WHERE p.org_id = :'org_a'),
	ARRAY[:'done', :'failed', :'running'], 'and parts of those that have begun');

UPDATE ringfence_data.orgs SET status = 'closed' WHERE id = :'org_a';
SELECT ringfence.delete_org(:'org_a', 'they left', '0') \g /dev/null
CALL public.finish_deletions();
SELECT is((SELECT d.stage || ' ' || coalesce(d.waits_for, '') FROM ringfence_data.org_deletions AS d), 'done ', 'the organization is deleted');
SELECT is(left_of(:'org_a'), '0 0 0', 'no export of it is left, no part and no schedule');
SELECT is((SELECT count(*) FROM ringfence_data.org_export_parts AS p WHERE p.relation = 'ringfence_data.exports'), 1::bigint, 'what it exported is in its own export');
SELECT is((SELECT count(*) FROM ringfence_data.org_export_parts AS p WHERE p.relation = 'ringfence_data.export_parts'), 0::bigint, 'and the files are not, which are its rows once more');
SELECT is(left(whole(:'theirs'), 6) || (SELECT e.rows FROM ringfence_data.exports AS e WHERE e.id = :'theirs'), 'id,day100', 'another organization''s file stays');

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
