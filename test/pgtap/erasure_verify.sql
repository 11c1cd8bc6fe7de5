-- verify() names subjects who could not be erased, or of whom something personal
-- would be left, with the statement that removes the finding.
\ir include/subjects.sql
SELECT plan(9);

CREATE FUNCTION public.found() RETURNS SETOF text LANGUAGE sql
AS $$SELECT concat_ws(' ', v.severity, v.code, v.object) FROM ringfence.verify_subjects() AS v ORDER BY 1$$;

SELECT is_empty('SELECT public.found()', 'nothing is wrong');
SELECT ringfence.label('shop.receipts', 'total', 'personal') \g /dev/null
SELECT is_empty('SELECT public.found()', 'rows that are kept are kept as they are');
SELECT ringfence.label('shop.orders', 'person_id', 'personal') \g /dev/null
SELECT results_eq('SELECT public.found()', ARRAY['warning personal_column_kept shop.orders.person_id'], 'a personal column without a rule is found');
SELECT ringfence.declare_subject('person', 'shop.orders', 'person_id', 'anonymize', '{"address": {"constant": "erased"}, "person_id": "keep"}') \g /dev/null
SELECT is_empty('SELECT public.found()', 'unless it is to be kept');
SELECT ringfence.label('shop.people', 'name', NULL) \g /dev/null
SELECT results_eq('SELECT public.found()', ARRAY['warning personal_label_missing shop.people.name'], 'a pseudonym for what the log keeps is found');
SELECT v.fix AS fix FROM ringfence.verify_subjects() AS v \gset
:fix \g /dev/null
SELECT is_empty('SELECT public.found()', 'its fix removes it');
CREATE FUNCTION public.going(person uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS '';
SELECT ringfence.on_erase('person', 'public.going(uuid)') \g /dev/null
DROP FUNCTION public.going(uuid);
SELECT results_eq('SELECT public.found()', ARRAY['error erase_hook_missing public.going(uuid)'], 'a hook that is gone is found');
SELECT v.fix AS fix FROM ringfence.verify_subjects() AS v \gset
:fix
DROP TABLE shop.people CASCADE;
SELECT results_eq('SELECT DISTINCT split_part(f, '' '', 2) FROM public.found() AS f', ARRAY['subject_root_missing'], 'a kind whose root was dropped is found');
SELECT throws_ok(format('SELECT ringfence.check_subject_kind(%L)', 'person'), '22023', 'unknown kind of subject "person"', 'and nobody of it erased');

SELECT * FROM finish();
