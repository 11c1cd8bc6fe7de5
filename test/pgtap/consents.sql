-- Consents are added to and never changed; the last record of a purpose counts, in
-- one organization; a withdrawal erases what rested on it, unless it is held; each
-- person reads and gives their own, an owner for others.
\ir include/subjects.sql
SELECT plan(65);

CREATE FUNCTION public.give(id uuid, purpose text, version text DEFAULT 'v1', evidence jsonb DEFAULT NULL, kind text DEFAULT 'person') RETURNS text
LANGUAGE sql RETURN format('SELECT ringfence_v1.give_consent(%L, %L, %L, %L, %L) IS NOT NULL', kind, id, purpose, version, evidence);
CREATE FUNCTION public.withdraw(id uuid, purpose text, reason text DEFAULT 'no more', kind text DEFAULT 'person') RETURNS text
LANGUAGE sql RETURN format('SELECT coalesce(ringfence_v1.withdraw_consent(%L, %L, %L, %L)::text, ''held'')', kind, id, purpose, reason);
CREATE FUNCTION public.has(id uuid, purpose text, kind text DEFAULT 'person') RETURNS text
LANGUAGE sql RETURN format('SELECT ringfence.has_consent(%L, %L, %L)', kind, id, purpose);
CREATE FUNCTION public.listed() RETURNS text
LANGUAGE sql RETURN 'SELECT concat_ws('' '', c.purpose, c.action, c.text_version) FROM ringfence_v1.consents AS c ORDER BY c.recorded_at';

-- Given and withdrawn

SELECT is(asks(:'user_a', :'org_a', has(:'pat', 'marketing')), 'f', 'nobody consents to anything');
SELECT is(asks(:'user_pat', :'org_a', give(:'pat', 'marketing', 'v1', '{"form": "signup"}')), 't', 'until they do');
SELECT is(asks(:'user_a', :'org_a', has(:'pat', 'marketing')), 't', 'which counts');
SELECT is(asks(:'user_a', :'org_a', has(:'pat', 'location')), 'f', 'for that purpose');
SELECT is(asks(:'user_a', :'org_a', has(:'quinn', 'marketing')), 'f', 'for that person');
SELECT is(asks(:'user_b', :'org_b', has(:'pat', 'marketing')), 'f', 'in that organization');
SELECT results_eq('SELECT org_id, subject_kind COLLATE "default", subject_id, text_version, evidence, recorded_by FROM ringfence_data.consents',
	format('VALUES (%L::uuid, ''person'', %L::uuid, ''v1'', ''{"form": "signup"}''::jsonb, %L::uuid)', :'org_a', :'pat', :'user_pat'), 'on record is who consented to what');
SELECT is(asks(:'user_a', :'org_a', give(:'pat', 'marketing', 'v2')), 't', 'an owner records another text');
SELECT is(asks(:'user_pat', :'org_a', withdraw(:'pat', 'marketing')), '0', 'the person withdraws');
SELECT is(asks(:'user_a', :'org_a', has(:'pat', 'marketing')), 'f', 'and it counts no more');
SELECT is(asks(:'user_pat', :'org_a', withdraw(:'pat', 'marketing')), '0', 'what is withdrawn is not withdrawn twice');
SELECT is(asks(:'user_pat', :'org_a', withdraw(:'pat', 'profiling')), '0', 'nor what was never given');
SELECT is(asks(:'user_pat', :'org_a', give(:'pat', 'marketing', 'v3')), 't', 'it is given again');
SELECT is(asks(:'user_pat', :'org_a', has(:'pat', 'marketing')), 't', 'and counts again');
SELECT is(asks(:'user_pat', :'org_a', listed()), E'marketing given v1\nmarketing given v2\nmarketing withdrawn\nmarketing given v3', 'all of it is on record');

-- Only added to

SELECT throws_ok(s, '42501', 'consents are only added to', 'nobody changes it: ' || left(s, 12))
FROM unnest(ARRAY['UPDATE ringfence_data.consents SET text_version = ''v9''', 'DELETE FROM ringfence_data.consents']) AS s;
SELECT matches(asks(:'user_a', :'org_a', s), '^42501 permission denied for ', 'a member least of all: ' || left(s, 12))
FROM unnest(ARRAY['UPDATE ringfence_data.consents SET action = ''given'' RETURNING action', 'DELETE FROM ringfence_data.consents RETURNING action',
	'INSERT INTO ringfence_data.consents (subject_kind, subject_id, purpose, action) VALUES (''person'', ringfence.user_id(), ''x'', ''withdrawn'') RETURNING action',
	format('SELECT ringfence.give_consent(''person'', %L, ''x'', ''1'')', :'pat'), format('SELECT ringfence.withdraw_consent(''person'', %L, ''x'')', :'pat')]) AS s;
SET ROLE ringfence_owner;
SELECT throws_ok('TRUNCATE ringfence_data.consents', '42501', 'permission denied for table consents', 'the owner''s code does not empty it');
RESET ROLE;

-- Whose

SELECT is(asks(:'user_quinn', :'org_a', listed()), '', 'a member does not read another''s consents');
SELECT is(asks(:'user_quinn', :'org_a', has(:'pat', 'marketing')), 'f', 'nor asks for them');
SELECT is(asks(:'user_clerk', :'org_a', listed()), '', 'nor does one who is nobody''s');
SELECT is(asks(:'user_b', :'org_b', listed()), '', 'nor another organization');
SELECT is(asks(:'user_quinn', :'org_a', f), '42501 permission denied for this subject', 'nor speaks for another: ' || left(f, 40))
FROM unnest(ARRAY[give(:'pat', 'marketing'), withdraw(:'pat', 'marketing'), give(:'user_pat', 'marketing', kind => 'user')]) AS f;
SELECT is(asks(:'user_a', :'org_a', f), 'PT404 subject not found', 'an owner finds no other organization''s: ' || left(f, 40))
FROM unnest(ARRAY[give(:'bob', 'marketing'), withdraw(:'bob', 'location'), give(:'nobody', 'marketing'), withdraw(:'nobody', 'location')]) AS f;
SELECT is(asks(:'user_pat', NULL, give(:'user_pat', 'marketing', kind => 'user')), '42501 no organization is set for this transaction', 'a consent is to an organization');
SELECT is(asks(:'user_pat', :'org_a', give(:'user_pat', 'marketing', kind => 'user')), 't', 'also a user''s');
SELECT is(asks(:'user_pat', :'org_a', has(:'user_pat', 'marketing', 'user')), 't', 'which they read');

-- What is none

SELECT is(asks(:'user_pat', :'org_a', f.query), f.answer, 'refused: ' || f.query)
FROM (VALUES
	(give(:'pat', 'Marketing'), '22023 invalid purpose "Marketing"'),
	(give(:'pat', 'x''; DROP TABLE shop.people'), '22023 invalid purpose "x''; DROP TABLE shop.people"'),
	(give(:'pat', NULL), '22004 subject and purpose must be given'),
	(give(NULL, 'marketing'), '22004 subject and purpose must be given'),
	(give(:'pat', 'marketing', kind => 'nobody'), '22023 unknown kind of subject "nobody"'),
	(give(:'pat', 'marketing', ''), '22023 invalid consent'),
	(give(:'pat', 'marketing', NULL), '22023 invalid consent'),
	(give(:'pat', 'marketing', 'v1', '[]'), '22023 invalid consent'),
	(give(:'pat', 'marketing', 'v1', jsonb_build_object('x', repeat('x', 9000))), '22023 invalid consent'),
	(withdraw(:'pat', 'marketing', ' '), '22023 a reason must be given')
) AS f (query, answer);

-- What rests on one

SELECT is(asks(:'user_pat', :'org_a', give(:'pat', 'location')), 't', 'tracks rest on a consent');
SELECT operator_asks(:'org_a', format('SELECT ringfence.place_hold(''lawsuit'', subject_kind => ''person'', subject_id => %L)', :'pat')) AS hold \gset
SELECT is(asks(:'user_pat', :'org_a', withdraw(:'pat', 'location')), 'held', 'a hold keeps them');
SELECT is(asks(:'user_a', :'org_a', has(:'pat', 'location')), 'f', 'though it is withdrawn');
SELECT is((SELECT count(*) FROM shop.tracks AS t WHERE t.person_id = :'pat'), 1::bigint, 'they are there');
SELECT operator_asks(:'org_a', format('SELECT ringfence.release_hold(%L, ''over'')', :'hold')) \g /dev/null
SELECT is(asks(:'user_pat', :'org_a', withdraw(:'pat', 'location')), '1', 'once it is released they go');
SELECT results_eq('SELECT lat FROM shop.tracks ORDER BY 1', 'VALUES (2.5::double precision), (3.5)', 'others'' are there');
SELECT is((SELECT p.name FROM shop.people AS p WHERE p.id = :'pat'), 'Pat Person', 'and so is what rests on nothing');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.personal::text LIKE '%1.5%'), 0::bigint, 'the log forgets where Pat was');
SELECT results_eq($$SELECT key COLLATE "default", new FROM ringfence_data.audit_log WHERE action = 'consent.withdrawn' ORDER BY id$$,
	format($$VALUES (%1$L, '{"held": true, "rows": {}, "purpose": "location"}'::jsonb), (%1$L, '{"held": false, "rows": {"shop.tracks": 1, "ringfence_data.audit_log": 1}, "purpose": "location"}')$$, 'person:' || :'pat'), 'both are on record');
SELECT is_empty($$SELECT l.reason FROM ringfence_data.audit_log AS l WHERE l.reason = 'no more'$$, 'without the person''s own words, which stay with the consent');
SELECT is((SELECT count(*) FROM ringfence_data.consents AS c WHERE c.reason = 'no more'), 2::bigint, 'where they are');
SELECT is_empty('SELECT * FROM ringfence_data.erasures', 'nobody was erased as a whole');

-- Code of an app, of a sign-up by somebody who is nobody yet

CREATE FUNCTION shop.sign_up(name text) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new_id uuid;
BEGIN
	INSERT INTO shop.people (name, email) VALUES (sign_up.name, 'new@people.test') RETURNING id INTO new_id;
	PERFORM ringfence.give_consent('person', new_id, 'location', 'v1');
	RETURN new_id;
END
$$;
GRANT USAGE, CREATE ON SCHEMA shop TO ringfence_owner;
ALTER FUNCTION shop.sign_up(text) OWNER TO ringfence_owner;
SELECT is(asks(:'user_clerk', :'org_a', 'SELECT ringfence.has_consent(''person'', shop.sign_up(''New''), ''location'')'), 'f', 'a clerk signs somebody up, whose consent the clerk does not read');
SELECT is((SELECT c.action COLLATE "default" FROM ringfence_data.consents AS c INNER JOIN shop.people AS p ON p.id = c.subject_id AND p.name = 'New'), 'given', 'and which is on record');

-- Who was erased

SELECT is(asks(:'user_a', :'org_a', erase('person', :'pat')) LIKE '%shop.people anonymize 1%', true, 'Pat is erased');
SELECT is(asks(:'user_a', :'org_a', f), 'PT404 subject not found', 'and consents to nothing any more: ' || left(f, 40))
FROM unnest(ARRAY[give(:'pat', 'marketing', 'v1', '{"name": "Pat"}'), withdraw(:'pat', 'marketing')]) AS f;
SELECT is_empty($$SELECT c.id FROM ringfence_data.consents AS c WHERE c.evidence IS NOT NULL OR c.reason IS NOT NULL$$, 'nothing is left of what was said');

SELECT * FROM finish();
