-- Retention: what has come due by the clock is removed or anonymized, in the order
-- that foreign keys want, and nothing else is; each run, each batch and each purge
-- is on record. The clock stands where ringfence.retention_clock puts it.
\ir include/tenants.sql
SET client_min_messages = error;
SET ringfence.retention_rest = 0;
SET ringfence.retention_clock = '2026-01-01 00:00+00';
SELECT plan(206);

-- "SQLSTATE message / detail / hint" of what fails; "nothing" otherwise.
CREATE FUNCTION public.failure(statement text) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	code text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' / ', code || ' ' || message, nullif(detail, ''), nullif(hint, ''));
END
$$;
-- A table of the class "org", with what has an age. Ids are numbers.
CREATE FUNCTION public.make(name text, columns text, VARIADIC indexes text[] DEFAULT '{"(org_id, at)"}') RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
	index text;
BEGIN
	EXECUTE format('CREATE TABLE public.%I (id integer NOT NULL, at timestamptz, %s, PRIMARY KEY (id))', name, columns);
	PERFORM ringfence.protect(format('public.%I', name), '{"owner": "all"}');
	FOREACH index IN ARRAY indexes LOOP
		EXECUTE format('CREATE INDEX ON public.%I %s', name, index);
	END LOOP;
END
$$;
-- The ids of a table's rows by organization, "A 1,2 B 3"; what has come due, alike.
CREATE FUNCTION public.ids(name text, condition text DEFAULT 'true') RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SELECT string_agg(o.name || '' '' || o.ids, '' '' ORDER BY o.name)
		FROM (SELECT right(g.name, 1) AS name, string_agg(t.id::text, '','' ORDER BY t.id) AS ids
			FROM public.%I AS t INNER JOIN ringfence_data.orgs AS g ON g.id = t.org_id WHERE %s GROUP BY g.name) AS o', name, condition)
		INTO answer;
	RETURN coalesce(answer, '-');
END
$$;
-- What the last run left on record, and what it did: tables and steps in order.
CREATE VIEW public.last_run AS
SELECT r.id, r.state COLLATE "default" AS state, r.rows, r.batches, r.errors, r.last_error, r.for_relation, r.for_org
FROM ringfence_data.retention_runs AS r
ORDER BY r.started_at DESC, r.id DESC
LIMIT 1;
CREATE FUNCTION public.done() RETURNS SETOF text LANGUAGE sql STABLE
AS $$
	SELECT concat_ws(' ', coalesce(right(o.name, 1), '-'), b.relation, b.step, b.action, sum(b.rows), min(b.error))
	FROM ringfence_data.retention_batches AS b
	INNER JOIN public.last_run AS r ON r.id = b.run_id
	LEFT JOIN ringfence_data.orgs AS o ON o.id = b.org_id
	GROUP BY o.name, b.relation, b.step, b.action
	ORDER BY min(min(b.id::text COLLATE "C")) OVER (PARTITION BY b.relation, b.step), o.name
$$;
CREATE FUNCTION public.preview(rel regclass) RETURNS SETOF text LANGUAGE sql
AS $$
	SELECT concat_ws(' ', right(o.name, 1), p.relation, p.step, p.action, p.rows, 'held', p.held, 'referenced', p.referenced)
	FROM ringfence.retention_preview(rel) AS p
	LEFT JOIN ringfence_data.orgs AS o ON o.id = p.org_id
	ORDER BY p.relation, p.step, o.name
$$;
-- Events of a table's purges that the audit log got since this was asked last, oldest first.
CREATE FUNCTION public.purges(name text) RETURNS SETOF text LANGUAGE plpgsql
AS $$
DECLARE
	seen CONSTANT text := coalesce(nullif(current_setting('test.seen', true), ''), '00000000-0000-0000-0000-000000000000');
BEGIN
	RETURN QUERY
	SELECT concat_ws(' ', coalesce(right(o.name, 1), '-'), l.new ->> 'step', l.new ->> 'action', l.new ->> 'rows')
	FROM ringfence_data.audit_log AS l
	LEFT JOIN ringfence_data.orgs AS o ON o.id = l.org_id
	WHERE l.id::text > seen AND l.action = 'retention.purged' AND l.key = 'public.' || purges.name
	ORDER BY l.id;
	PERFORM set_config('test.seen', (SELECT max(l.id::text) FROM ringfence_data.audit_log AS l), false);
END
$$;
CREATE FUNCTION public.records(name text, wanted text DEFAULT 'DELETE') RETURNS bigint LANGUAGE sql STABLE
AS $$
	SELECT count(*)
	FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	WHERE r.name = 'public.' || records.name AND l.operation = wanted
$$;

-- What retain() refuses

SELECT make('item', 'v text, email text, phone text NOT NULL DEFAULT '''', lat double precision, n integer, state text, ok boolean, short varchar(20)', VARIADIC '{}');
CREATE VIEW public.a_view AS SELECT now() AS at;
CREATE TEMPORARY TABLE passing (at timestamptz);
CREATE TABLE public.parts (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE public.part PARTITION OF public.parts DEFAULT;
SELECT is(failure(format('SELECT ringfence.retain(%s)', call)), answer, call)
FROM (VALUES
	($$'public.item', 'nope', '1 day'$$, '42703 column "nope" of table public.item does not exist'),
	($$'public.item', 'v', '1 day'$$, '42804 column "v" of table public.item is of type text / A period counts from a date or a timestamp.'),
	($$'public.a_view', 'at', '1 day'$$, '42809 "public.a_view" is not a table that can have a retention policy / Name an ordinary or partitioned table, not a partition.'),
	($$'public.part', 'at', '1 day'$$, '42809 "public.part" is not a table that can have a retention policy / Name an ordinary or partitioned table, not a partition.'),
	($$'passing', 'at', '1 day'$$, '42809 "passing" is not a table that can have a retention policy / Name an ordinary or partitioned table, not a partition.'),
	($$'pg_class', 'relname', '1 day'$$, '42809 "pg_class" is not a table that can have a retention policy / Name an ordinary or partitioned table, not a partition.'),
	($$NULL, 'at', '1 day'$$, '42809 NULL is not a table that can have a retention policy / Name an ordinary or partitioned table, not a partition.'),
	($$'public.item', 'at', NULL$$, '22004 column, period and action must be given'),
	($$'public.item', NULL, '1 day'$$, '22004 column, period and action must be given'),
	($$'public.item', 'at', '1 day', 'forget'$$, '22023 invalid action "forget" / It is delete, anonymize or drop_partition; ringfence.retain_forever() keeps a table''s rows for good.'),
	($$'public.item', 'at', '1 day', 'forever'$$, '22023 invalid action "forever" / It is delete, anonymize or drop_partition; ringfence.retain_forever() keeps a table''s rows for good.'),
	($$'public.item', 'at', '0'$$, '22023 invalid period 00:00:00 / It is longer than nothing, lies between min_keep and max_keep, and is at most 1000 years.'),
	($$'public.item', 'at', '-1 day'$$, '22023 invalid period -1 days / It is longer than nothing, lies between min_keep and max_keep, and is at most 1000 years.'),
	($$'public.item', 'at', '1 day', min_keep => '2 days'$$, '22023 invalid period 1 day / It is longer than nothing, lies between min_keep and max_keep, and is at most 1000 years.'),
	($$'public.item', 'at', '3 days', max_keep => '2 days'$$, '22023 invalid period 3 days / It is longer than nothing, lies between min_keep and max_keep, and is at most 1000 years.'),
	($$'public.item', 'at', '1001 years'$$, '22023 invalid period 1001 years / It is longer than nothing, lies between min_keep and max_keep, and is at most 1000 years.'),
	($$'public.item', 'at', '1 day', min_keep => '-1 day'$$, '22023 invalid period 1 day / It is longer than nothing, lies between min_keep and max_keep, and is at most 1000 years.'),
	($$'public.item', 'at', '1 day', rules => '{"v": "null"}'$$, '22023 rules are for the action "anonymize", which needs them'),
	($$'public.item', 'at', '1 day', 'anonymize'$$, '22023 rules are for the action "anonymize", which needs them')
) AS r (call, answer);
SELECT is(failure(format('SELECT ringfence.retain(''public.item'', ''at'', ''1 day'', ''anonymize'', %L)', rules)), answer, 'rules: ' || rules)
FROM (VALUES
	('{}', '22023 rules must be a JSON object that changes a column / Write for example {"name": "pseudonym", "phone": "null", "lat": {"truncate": 1}, "id": "keep"}.'),
	('[]', '22023 rules must be a JSON object that changes a column / Write for example {"name": "pseudonym", "phone": "null", "lat": {"truncate": 1}, "id": "keep"}.'),
	('{"v": "keep"}', '22023 rules must be a JSON object that changes a column / Write for example {"name": "pseudonym", "phone": "null", "lat": {"truncate": 1}, "id": "keep"}.'),
	('{"nope": "null"}', '42703 column "nope" of table public.item does not exist'),
	('{"ctid": "null"}', '42703 column "ctid" of table public.item does not exist'),
	('{"phone": "null"}', '22023 column "phone" of table public.item cannot be null / Drop its NOT NULL, or give it another rule.'),
	('{"n": "pseudonym"}', '22023 column "n" of table public.item cannot hold a pseudonym / A pseudonym is text of up to 60 characters.'),
	('{"short": "pseudonym"}', '22023 column "short" of table public.item cannot hold a pseudonym / A pseudonym is text of up to 60 characters.'),
	('{"v": {"truncate": 1}}', '22023 column "v" of table public.item is no number'),
	('{"lat": {"truncate": -1}}', '22023 invalid rule {"truncate": -1} for column "lat" / A rule is "null", "pseudonym", "keep", {"constant": value} or {"truncate": number of decimals, 0 to 9}.'),
	('{"n": {"constant": "x"}}', '22P02 invalid input syntax for type integer: "x"'),
	('{"v": {"constant": null}}', '22023 invalid rule {"constant": null} for column "v" / A rule is "null", "pseudonym", "keep", {"constant": value} or {"truncate": number of decimals, 0 to 9}.'),
	('{"v": {"constant": "x", "truncate": 1}}', '22023 invalid rule {"constant": "x", "truncate": 1} for column "v" / A rule is "null", "pseudonym", "keep", {"constant": value} or {"truncate": number of decimals, 0 to 9}.'),
	('{"v": "sql"}', '22023 invalid rule "sql" for column "v" / A rule is "null", "pseudonym", "keep", {"constant": value} or {"truncate": number of decimals, 0 to 9}.'),
	('{"v": null}', '22023 invalid rule null for column "v" / A rule is "null", "pseudonym", "keep", {"constant": value} or {"truncate": number of decimals, 0 to 9}.'),
	('{"id": {"constant": 1}}', '22023 column "id" of table public.item cannot be changed / It is part of the primary key, or generated.'),
	('{"org_id": {"constant": "0aaaaaaa-0000-7000-8000-00000000000a"}}', '22023 column "org_id" of table public.item cannot be changed / It is part of the primary key, or generated.')
) AS r (rules, answer);
SELECT is(failure(format('SELECT ringfence.retain(''public.item'', ''at'', ''1 day'', filter => %L)', filter)), answer, 'filter: ' || filter)
FROM (VALUES
	('{}', '22023 a filter must be a JSON object with a column / Write for example {"status": ["lost", "canceled"]}.'),
	('"state"', '22023 a filter must be a JSON object with a column / Write for example {"status": ["lost", "canceled"]}.'),
	('{"nope": 1}', '42703 column "nope" of table public.item does not exist'),
	('{"state": {"like": "x"}}', '22023 invalid filter {"like": "x"} on column "state" / It is a value, a list of values, null, or {"not": one of these}.'),
	('{"state": {"not": {"not": "x"}}}', '22023 invalid filter {"not": {"not": "x"}} on column "state" / It is a value, a list of values, null, or {"not": one of these}.'),
	('{"state": []}', '22023 invalid filter [] on column "state" / It is a value, a list of values, null, or {"not": one of these}.'),
	('{"state": ["x", null]}', '22023 invalid filter ["x", null] on column "state" / It is a value, a list of values, null, or {"not": one of these}.'),
	('{"n": "x"}', '22P02 invalid input syntax for type integer: "x"'),
	('{"n": [1, "x"]}', '22P02 invalid input syntax for type integer: "x"'),
	('{"ok": "perhaps"}', '22P02 invalid input syntax for type boolean: "perhaps"')
) AS r (filter, answer);
SELECT is(failure($$SELECT ringfence.retain_forever('public.item', ' - ')$$), '23502 a reason is required to keep rows for good', 'what is kept for good is kept for a reason');

-- The index, which the hint makes

SELECT is(failure($$SELECT ringfence.retain('public.item', 'at', '1 day')$$),
	'55000 table public.item has no index in whose order its rows come due / Without one each batch would read the whole table. / CREATE INDEX ON public.item (org_id, at);',
	'an index is missing');
CREATE INDEX ON public.item (at);
CREATE INDEX ON public.item (org_id, n, at);
CREATE INDEX ON public.item USING hash (at);
CREATE INDEX ON public.item (org_id, at) WHERE n > 0;
CREATE INDEX ON public.item (org_id, (id + 1), at);
SELECT alike(failure($$SELECT ringfence.retain('public.item', 'at', '1 day')$$), '55000 table public.item has no index %', 'other indexes are none');
CREATE INDEX ON public.item (org_id, at);
SELECT is(failure($$SELECT ringfence.retain('public.item', 'at', '1 day')$$), 'nothing', 'the index of the hint will do');
SELECT alike(failure($$SELECT ringfence.retain('public.item', 'at', '1 day', step => 'Not; a name')$$),
	'23514 new row for relation "retention_policies" violates check constraint "retention_policies_step_check"%', 'a step has a name');
DROP INDEX public.item_org_id_at_idx1;
SELECT is(failure($$SELECT ringfence.retain('public.item', 'at', '1 day', 'anonymize', '{"v": "null", "n": {"constant": 0}}', '{"state": "lost"}')$$),
	'55000 table public.item has no index in whose order its rows come due / Without one each batch would read the whole table, and without a condition the rows that are done. / '
		|| 'CREATE INDEX ON public.item (org_id, at) WHERE (n IS DISTINCT FROM ''0''::integer OR v IS NOT NULL);',
	'for rows that stay it is one of those that are not done');
CREATE INDEX ON public.item (org_id, at) WHERE (n IS DISTINCT FROM '0'::integer OR v IS NOT NULL);
SELECT is(failure($$SELECT ringfence.retain('public.item', 'at', '1 day', 'anonymize', '{"v": "null", "n": {"constant": 0}}', '{"state": "lost"}')$$), 'nothing',
	'the index of that hint will do');
SELECT is(failure($$SELECT ringfence.retain('public.item', 'at', '1 day', 'delete', filter => '{"state": "lost"}', step => 'lost')$$),
	'55000 table public.item has no index in whose order its rows come due / Without one each batch would read the whole table. / CREATE INDEX ON public.item (org_id, at);',
	'that of other rows will not');
CREATE INDEX ON public.item (org_id, at) WHERE state = 'lost';
SELECT is(failure($$SELECT ringfence.retain('public.item', 'at', '1 day', 'delete', filter => '{"state": "lost"}', step => 'lost')$$), 'nothing', 'that of the filter''s rows will');

CREATE TABLE public.hinted (org_id uuid NOT NULL, id integer, at timestamptz, v text, email text, n integer, lat double precision, lng numeric(9,6), ok boolean, day date, state varchar(9), code char(2));
-- What the hint is, run, and whether the call is taken then.
CREATE FUNCTION public.hinted(call text) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	hint CONSTANT text := split_part(failure(call), ' / ', 3);
	answer text;
BEGIN
	IF failure(call) NOT LIKE '55000 %' THEN
		RETURN failure(call);
	END IF;
	BEGIN
		EXECUTE hint;
		answer := failure(call);
		RAISE EXCEPTION 'undo' USING ERRCODE = 'P0002';
	EXCEPTION WHEN no_data_found THEN
		RETURN concat_ws(' :: ', answer, CASE WHEN answer <> 'nothing' THEN hint END);
	END;
END
$$;
SELECT is(hinted(format('SELECT ringfence.retain(''public.hinted'', ''at'', ''1 day'', ''anonymize'', %L)', rules)), 'nothing', 'the index that is hinted at will do for rules ' || rules)
FROM unnest(ARRAY['{"v": "null"}', '{"v": "pseudonym"}', '{"email": "pseudonym"}', '{"v": {"constant": "it''s"}}', '{"n": {"constant": 0}}', '{"ok": {"constant": false}}', '{"lat": {"truncate": 2}}',
	'{"lng": {"truncate": 0}}', '{"lng": {"constant": 1.5}}', '{"day": {"constant": "2020-01-01"}}', '{"state": {"constant": "x"}}', '{"code": {"constant": "x"}}', '{"v": "null", "n": "null", "day": "null"}']) AS rules;
SELECT ringfence.unretain('public.hinted') \g /dev/null

-- What is declared

SELECT results_eq($$SELECT p.step, p.keep, p.action COLLATE "default", p.min_keep, p.max_keep, p.audit_rows, p.outlives_org, p.reason
		FROM ringfence_data.retention_policies AS p WHERE p.relation = 'public.item'::regclass ORDER BY 1$$,
	$$VALUES ('anonymize', interval '1 day', 'anonymize', interval '1 day', interval '1 day', false, false, NULL),
		('delete', interval '1 day', 'delete', interval '1 day', interval '1 day', false, false, NULL),
		('lost', interval '1 day', 'delete', interval '1 day', interval '1 day', false, false, NULL)$$, 'steps are called by their action, unless they have a name');
CREATE INDEX ON public.item (org_id, at);
SELECT ringfence.retain('public.item', 'at', '5 days', step => 'lost', min_keep => '2 days', max_keep => '7 days', audit_rows => true, outlives_org => true, reason => 'why');
SELECT results_eq($$SELECT p.keep, p.filter, p.min_keep, p.max_keep, p.audit_rows, p.outlives_org, p.reason
		FROM ringfence_data.retention_policies AS p WHERE p.relation = 'public.item'::regclass AND p.step = 'lost'$$,
	$$VALUES (interval '5 days', NULL::jsonb, interval '2 days', interval '7 days', true, true, 'why')$$, 'declared again, a step is what it is then');
SELECT is(ARRAY[ringfence.unretain('public.item', 'lost'), ringfence.unretain('public.item', 'lost')], '{t,f}', 'a step is taken back once');
SELECT ringfence.retain_forever('public.item', 'evidence');
SELECT results_eq($$SELECT p.step, p.action COLLATE "default", p.keep, p.reason FROM ringfence_data.retention_policies AS p WHERE p.relation = 'public.item'::regclass$$,
	$$VALUES ('forever', 'forever', NULL::interval, 'evidence')$$, 'what is kept for good has no other step');
SELECT ringfence.retain('public.item', 'at', '1 day');
SELECT results_eq($$SELECT p.step, p.action COLLATE "default" FROM ringfence_data.retention_policies AS p WHERE p.relation = 'public.item'::regclass$$,
	$$VALUES ('delete', 'delete')$$, 'until it has one again');
SELECT is(ringfence.unretain('public.item'), true, 'all steps are taken back together');
SELECT is_empty($$SELECT p.step FROM ringfence_data.retention_policies AS p WHERE p.relation = 'public.item'::regclass$$, 'none is left');
SELECT ringfence.retain('public.item', 'at', '1 day');
DROP TABLE public.item;
SELECT is_empty($$SELECT p.step FROM ringfence_data.retention_policies AS p WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = p.relation)$$,
	'a policy goes with its table');

-- The clock, and where a period ends

SELECT make('due', 'v text');
INSERT INTO public.due (org_id, id, at) VALUES
	(:'org_a', 1, '2025-10-02 23:59:59.999999+00'), (:'org_a', 2, '2025-10-03 00:00:00+00'), (:'org_a', 3, '2025-10-03 00:00:00.000001+00'),
	(:'org_a', 4, '2026-01-01 00:00+00'), (:'org_a', 5, NULL), (:'org_a', 6, 'infinity'), (:'org_b', 7, '2025-01-01 00:00+00'), (:'org_b', 8, '2025-12-31 00:00+00');
SELECT ringfence.retain('public.due', 'at', '90 days');
SELECT is(ringfence.retention_now(), '2026-01-01 00:00+00', 'the clock stands');
SET ringfence.retention_clock = '';
SELECT is(ringfence.retention_now() BETWEEN now() AND clock_timestamp(), true, 'without one it is the server''s');
SET ringfence.retention_clock = '2026-01-01 00:00+00';
SELECT results_eq($$SELECT preview('public.due')$$, '{A public.due delete delete 1 held 0 referenced 0,B public.due delete delete 1 held 0 referenced 0}'::text[],
	'what has come due, by organization');
SELECT is(ids('due'), 'A 1,2,3,4,5,6 B 7,8', 'a preview touches nothing');
SELECT results_eq($$SELECT p.cutoff, p.oldest, p.age FROM ringfence.retention_preview('public.due') AS p ORDER BY p.org_id$$,
	$$VALUES (timestamptz '2025-10-03 00:00+00', timestamptz '2025-10-02 23:59:59.999999+00', interval '90 days 00:00:00.000001'),
		('2025-10-03 00:00+00', '2025-01-01 00:00+00', '365 days')$$, 'since when, and how old');
SELECT results_eq(format($$SELECT p.org_id, p.rows FROM ringfence.retention_preview('public.due', %L) AS p$$, :'org_b'),
	format('VALUES (%L::uuid, 1::bigint)', :'org_b'), 'of one organization');
CALL ringfence.run_retention(60, 'public.due', :'org_b');
SELECT is(ids('due'), 'A 1,2,3,4,5,6 B 8', 'a run for one organization');
SELECT results_eq('SELECT r.state, r.rows, r.for_relation, r.for_org FROM last_run AS r', format($$VALUES ('finished', 1::bigint, 'public.due', %L::uuid)$$, :'org_b'), 'is on record as one');
CALL ringfence.run_retention(60, 'public.due');
SELECT is(ids('due'), 'A 2,3,4,5,6 B 8', 'what is older than the period goes: not what is as old, not what has no age');
SELECT is_empty($$SELECT preview('public.due')$$, 'then nothing is due');
SET ringfence.retention_clock = '2026-01-01 00:00:00.000002+00';
CALL ringfence.run_retention(60, 'public.due');
SELECT is(ids('due'), 'A 4,5,6 B 8', 'a moment later the next');
SET ringfence.retention_clock = '2500-01-01';
CALL ringfence.run_retention(60, 'public.due');
SELECT is(ids('due'), 'A 5,6', 'and in the end all that has an age');
SET ringfence.retention_clock = 'yesteryear';
SELECT is(failure('SELECT ringfence.retention_now()'), '22007 invalid input syntax for type timestamp with time zone: "yesteryear"', 'a clock that shows no time is none');
SET ringfence.retention_clock = '2026-01-01 00:00+00';

-- Runs, batches, events, and no record for each row

SELECT make('many', 'v text');
INSERT INTO public.many (org_id, id, at)
SELECT o.id, n + 10000 * (o.name = 'Tenant B')::integer, timestamptz '2020-01-01 00:00+00' + n / 10 * interval '1 minute'
FROM ringfence_data.orgs AS o, generate_series(1, 2500) AS n
WHERE o.name LIKE 'Tenant _';
INSERT INTO public.many (org_id, id, at) VALUES (:'org_a', 9999, '2025-12-31 00:00+00');
SELECT ringfence.retain('public.many', 'at', '1 year');
CALL ringfence.run_retention(60, 'public.many');
SELECT is(ids('many'), 'A 9999', 'many rows');
SELECT results_eq('SELECT r.state, r.rows, r.errors, r.last_error FROM last_run AS r', $$VALUES ('finished', 5000::bigint, 0::bigint, NULL)$$, 'are a run');
SELECT results_eq('SELECT done()', '{A public.many delete delete 2500,B public.many delete delete 2500}'::text[], 'of batches for each organization');
SELECT is((SELECT r.batches FROM last_run AS r), (SELECT count(*) FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id), 'that are counted');
SELECT is((SELECT count(*) > 2 FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id), true, 'more than one each');
SELECT is((SELECT count(DISTINCT (l.transaction_id, l.org_id)) FROM ringfence_data.audit_log AS l WHERE l.key = 'public.many' AND l.action = 'retention.purged'),
	(SELECT r.batches FROM last_run AS r), 'each in a transaction of its own');
SELECT results_eq('SELECT p FROM purges(''many'') AS p',
	$$SELECT concat_ws(' ', right(o.name, 1), b.step, b.action, b.rows) COLLATE "default"
	FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id INNER JOIN ringfence_data.orgs AS o ON o.id = b.org_id ORDER BY b.id$$,
	'each is an event in the organization''s log');
SELECT is(records('many'), 0::bigint, 'and no row has a record of its own');
SELECT is((SELECT bool_and(b.bytes IS NOT NULL AND b.duration > '0' AND b.error IS NULL) FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id), true, 'a batch has a size and a duration');
CALL ringfence.run_retention(60, 'public.many');
SELECT results_eq('SELECT r.state, r.rows, r.batches FROM last_run AS r', $$VALUES ('finished', 0::bigint, 0::bigint)$$, 'where nothing is due a run does nothing');
SELECT is_empty('SELECT purges(''many'')', 'and is no event');
SELECT is((SELECT count(*) FROM ringfence_v1.retention_progress), 0::bigint, 'no run is under way');

-- Out of time: the next one goes on
INSERT INTO public.many (org_id, id, at) SELECT :'org_a', n, timestamptz '2020-01-01' + n * interval '1 minute' FROM generate_series(1, 1500) AS n;
CALL ringfence.run_retention(0, 'public.many');
SELECT results_eq('SELECT r.state, r.rows BETWEEN 500 AND 1499, r.batches FROM last_run AS r', $$VALUES ('out of time', true, 1::bigint)$$, 'without time a run does a batch');
SELECT is((SELECT count(*) FROM public.many AS m WHERE m.id <= 1500), (SELECT 1500 - r.rows FROM last_run AS r), 'and leaves the rest');
CALL ringfence.run_retention(60, 'public.many');
SELECT is(ARRAY[(SELECT r.state FROM last_run AS r), ids('many')], '{finished,A 9999}', 'which the next one does');
-- A run that was killed
INSERT INTO ringfence_data.retention_runs (id, pid) VALUES ('00000000-0000-7000-8000-000000000001', 1);
CALL ringfence.run_retention(60, 'public.many');
SELECT results_eq($$SELECT r.state COLLATE "default", r.finished_at IS NOT NULL FROM ringfence_data.retention_runs AS r WHERE r.id = '00000000-0000-7000-8000-000000000001'$$,
	$$VALUES ('interrupted', true)$$, 'one that did not come to its end is marked by the next');
-- Sums
SELECT is(ringfence.retention_rollup() > 0, true, 'batches are summed up');
SELECT results_eq($$SELECT right(o.name, 1), s.step, s.action COLLATE "default", s.rows, s.errors FROM ringfence_data.retention_stats AS s
		INNER JOIN ringfence_data.orgs AS o ON o.id = s.org_id WHERE s.relation = 'public.many' ORDER BY 1$$,
	$$VALUES ('A', 'delete', 'delete', 4000::bigint, 0::bigint), ('B', 'delete', 'delete', 2500, 0)$$, 'by organization, table and step');
SELECT is(ringfence.retention_rollup(), 0::bigint, 'once');

-- A record for each row, where the policy wants them
SELECT make('recorded', 'v text', '(org_id, at)', '(org_id, at) WHERE (v IS NOT NULL)');
SELECT ringfence.retain('public.recorded', 'at', '1 year', audit_rows => true);
SELECT ringfence.retain('public.recorded', 'at', '1 month', 'anonymize', '{"v": "null"}', audit_rows => true);
INSERT INTO public.recorded (org_id, id, at, v) VALUES (:'org_a', 1, '2020-01-01', 'x'), (:'org_a', 2, '2020-01-01', 'x'), (:'org_a', 3, '2025-11-01', 'x');
CALL ringfence.run_retention(60, 'public.recorded');
SELECT is(ids('recorded'), 'A 3', 'rows go');
SELECT is(ARRAY[records('recorded'), records('recorded', 'UPDATE')], '{2,1}', 'and have records');
SELECT results_eq('SELECT purges(''recorded'')', '{A delete delete 2,A anonymize anonymize 1}'::text[], 'beside the events');

-- Rules

SELECT make('person', 'name text, email text, phone text, lat double precision, lng numeric(9,6), note text, state text, age integer', '(org_id, at)');
SELECT ringfence.retain('public.person', 'at', '1 year', 'anonymize',
	'{"name": "pseudonym", "email": "pseudonym", "phone": "null", "lat": {"truncate": 1}, "lng": {"truncate": 0}, "note": "keep", "state": {"constant": "it''s over"}, "age": {"constant": 0}}');
INSERT INTO public.person (org_id, id, at, name, email, phone, lat, lng, note, state, age) VALUES
	(:'org_a', 1, '2020-01-01', 'Ada', 'ada@example.com', '1', 48.2082, 16.373819, 'n1', 'active', 40),
	(:'org_a', 2, '2020-01-02', 'Ada', 'ada@example.com', '2', -48.2082, -16.373819, 'n2', NULL, NULL),
	(:'org_a', 3, '2020-01-03', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(:'org_a', 4, '2025-12-01', 'New', 'new@example.com', '4', 48.2082, 16.373819, 'n4', 'active', 40);
CALL ringfence.run_retention(60, 'public.person');
SELECT results_eq('SELECT p.id, p.phone, p.lat, p.lng, p.note, p.state, p.age FROM public.person AS p ORDER BY 1',
	$$VALUES (1, NULL, 48.2::double precision, 16.000000::numeric, 'n1', 'it''s over', 0), (2, NULL, -48.2, -16.000000, 'n2', 'it''s over', 0),
		(3, NULL, NULL, NULL, NULL, 'it''s over', 0), (4, '4', 48.2082, 16.373819, 'n4', 'active', 40)$$, 'columns become what rules say');
SELECT results_eq('SELECT p.id FROM public.person AS p WHERE p.name ~ ''^anon-[0-9a-f]{32}$'' AND p.email ~ ''^anon-[0-9a-f]{32}@anonymous\.invalid$'' ORDER BY 1', '{1,2}'::integer[], 'names are pseudonyms, and an address one that nobody has');
SELECT is((SELECT count(DISTINCT x) FROM public.person AS p, unnest(ARRAY[p.name, split_part(p.email, '@', 1)]) AS x WHERE p.id IN (1, 2)), 4::bigint, 'of their own: nothing links them');
SELECT results_eq('SELECT p.name, p.email FROM public.person AS p WHERE p.id IN (3, 4) ORDER BY p.id', $$VALUES (NULL, NULL), ('New', 'new@example.com')$$, 'none where nothing was, or where it is new');
SELECT string_agg(p::text, E'\n' ORDER BY p.id) AS before FROM public.person AS p \gset
CALL ringfence.run_retention(60, 'public.person');
SELECT results_eq('SELECT r.state, r.rows FROM last_run AS r', $$VALUES ('finished', 0::bigint)$$, 'what is done is not done again');
SELECT is((SELECT string_agg(p::text, E'\n' ORDER BY p.id) FROM public.person AS p), :'before', 'and stays as it is');
UPDATE public.person SET phone = 'found again' WHERE id = 1;
CALL ringfence.run_retention(60, 'public.person');
SELECT results_eq('SELECT r.rows, (SELECT p.phone FROM public.person AS p WHERE p.id = 1) FROM last_run AS r', $$VALUES (1::bigint, NULL)$$, 'what is undone is');

-- Filters

SELECT make('filtered', 'state text, ok boolean, n integer, day date, note text', '(org_id, at)');
CREATE FUNCTION public.due_under(filter jsonb) RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM ringfence.retain('public.filtered', 'at', '1 year', filter => due_under.filter);
	RETURN ids('filtered', ringfence.filter_condition('public.filtered', due_under.filter) || ' AND t.at < ''2025-01-01''');
END
$$;
INSERT INTO public.filtered (org_id, id, at, state, ok, n, day, note) VALUES
	(:'org_a', 1, '2020-01-01', 'lost', true, 1, '2020-01-01', NULL), (:'org_a', 2, '2020-01-01', 'won', false, 2, '2020-01-02', 'x'),
	(:'org_a', 3, '2020-01-01', NULL, NULL, NULL, NULL, 'null'), (:'org_a', 4, '2020-01-01', 'it''s', true, 1, '2020-01-01', '[1]'),
	(:'org_a', 5, '2025-12-01', 'lost', true, 1, '2020-01-01', NULL);
SELECT is(due_under(filter::jsonb), wanted, 'filter ' || filter)
FROM (VALUES
	('{"state": "lost"}', 'A 1'), ('{"state": ["lost", "won"]}', 'A 1,2'), ('{"state": null}', 'A 3'),
	('{"state": {"not": "lost"}}', 'A 2,3,4'), ('{"state": {"not": ["lost", "won"]}}', 'A 3,4'), ('{"state": {"not": null}}', 'A 1,2,4'),
	('{"state": "it''s"}', 'A 4'), ('{"ok": true}', 'A 1,4'), ('{"ok": {"not": true}}', 'A 2,3'), ('{"n": 1}', 'A 1,4'), ('{"n": [1, 2], "ok": true}', 'A 1,4'),
	('{"day": "2020-01-02"}', 'A 2'), ('{"note": "null"}', 'A 3'), ('{"note": ["x", "[1]"]}', 'A 2,4'), ('{"n": 1, "state": {"not": "lost"}}', 'A 4')
) AS r (filter, wanted);
SELECT ringfence.retain('public.filtered', 'at', '1 year', filter => '{"state": {"not": ["won", "it''s"]}, "note": null}');
CALL ringfence.run_retention(60, 'public.filtered');
SELECT is(ids('filtered'), 'A 2,3,4,5', 'a run removes the rows that a filter picks');

-- Several steps, each in its time: without its place after 90 days, gone after a year

SELECT make('visit', 'lat double precision, lng double precision', '(org_id, at)', '(org_id, at) WHERE (lat IS NOT NULL OR lng IS NOT NULL)');
SELECT ringfence.retain('public.visit', 'at', '90 days', 'anonymize', '{"lat": "null", "lng": "null"}', step => 'place');
SELECT ringfence.retain('public.visit', 'at', '1 year');
INSERT INTO public.visit (org_id, id, at, lat, lng) VALUES
	(:'org_a', 1, '2024-06-01', 1, 1), (:'org_a', 2, '2025-06-01', 1, NULL), (:'org_b', 3, '2025-09-01', 1, 1), (:'org_b', 4, '2025-12-01', 1, 1);
CALL ringfence.run_retention(60, 'public.visit');
SELECT results_eq('SELECT done()', '{A public.visit delete delete 1,A public.visit place anonymize 1,B public.visit place anonymize 1}'::text[], 'what goes is not anonymized before');
SELECT results_eq('SELECT v.id, v.lat, v.lng FROM public.visit AS v ORDER BY 1', $$VALUES (2, NULL::double precision, NULL::double precision), (3, NULL, NULL), (4, 1, 1)$$, 'places go first');
SET ringfence.retention_clock = '2026-07-01 00:00+00';
CALL ringfence.run_retention(60, 'public.visit');
SELECT results_eq('SELECT done()', '{A public.visit delete delete 1,B public.visit place anonymize 1}'::text[], 'then the rows');
SELECT is(ids('visit'), 'B 3,4', 'as they come of age');
SET ringfence.retention_clock = '2026-01-01 00:00+00';

-- Dates, and timestamps without a zone, are UTC's, wherever the session is

CREATE TABLE public.daily (id integer PRIMARY KEY, day date);
CREATE TABLE public.local (id integer PRIMARY KEY, at timestamp);
CREATE INDEX ON public.daily (day);
CREATE INDEX ON public.local (at);
INSERT INTO public.daily SELECT n, date '2025-12-20' + n FROM generate_series(1, 5) AS n;
INSERT INTO public.local SELECT n, timestamp '2025-12-24 22:00' + n * interval '1 hour' FROM generate_series(1, 5) AS n;
SELECT ringfence.retain('public.daily', 'day', '1 week'), ringfence.retain('public.local', 'at', '1 week') \g /dev/null
SET timezone = 'Pacific/Kiritimati';
CALL ringfence.run_retention(60, 'public.daily');
CALL ringfence.run_retention(60, 'public.local');
SET timezone = 'Pacific/Pago_Pago';
CALL ringfence.run_retention(60, 'public.daily');
CALL ringfence.run_retention(60, 'public.local');
RESET timezone;
SELECT is((SELECT array_agg(d.id ORDER BY d.id) FROM public.daily AS d), '{5}', 'days before the one a week ago');
SELECT is((SELECT array_agg(d.id ORDER BY d.id) FROM public.local AS d), '{2,3,4,5}', 'hours before that day''s first');
SELECT results_eq('SELECT done()', '{}'::text[], 'a second run in another zone found nothing');

-- Tables of no organization
SELECT results_eq($$SELECT b.org_id, b.rows FROM ringfence_data.retention_batches AS b WHERE b.relation = 'public.daily'$$,
	$$VALUES ('00000000-0000-0000-0000-000000000000'::uuid, 4::bigint)$$, 'rows of no organization are on record as such');
SELECT is((SELECT array_agg(l.org_id) FROM ringfence_data.audit_log AS l WHERE l.action = 'retention.purged' AND l.key = 'public.daily'), '{00000000-0000-0000-0000-000000000000}', 'the event is nobody''s');

-- Months of different lengths
SELECT make('monthly', 'v text');
SELECT ringfence.retain('public.monthly', 'at', '1 month');
INSERT INTO public.monthly (org_id, id, at) VALUES (:'org_a', 1, '2026-02-27 23:59+00'), (:'org_a', 2, '2026-02-28 00:00+00');
SET ringfence.retention_clock = '2026-03-31 00:00+00';
CALL ringfence.run_retention(60, 'public.monthly');
SELECT is(ids('monthly'), 'A 2', 'a month before 31 March is 28 February');
SET ringfence.retention_clock = '2026-01-01 00:00+00';

-- Foreign keys: children before parents, and what is referenced stays

SELECT make('parent', 'v text');
SELECT make('child', 'parent_id integer', '(org_id, at)');
ALTER TABLE public.child ADD FOREIGN KEY (org_id, parent_id) REFERENCES public.parent (org_id, id);
SELECT make('grandchild', 'child_id integer', '(org_id, at)');
ALTER TABLE public.grandchild ADD FOREIGN KEY (org_id, child_id) REFERENCES public.child (org_id, id);
INSERT INTO public.parent (org_id, id, at) SELECT :'org_a', n, '2020-01-01' FROM generate_series(1, 4) AS n;
INSERT INTO public.child (org_id, id, at, parent_id) VALUES (:'org_a', 1, '2020-01-01', 1), (:'org_a', 2, '2025-12-01', 2), (:'org_a', 3, '2020-01-01', 3);
INSERT INTO public.grandchild (org_id, id, at, child_id) VALUES (:'org_a', 1, '2020-01-01', 1), (:'org_a', 3, '2025-12-01', 3);
SELECT ringfence.retain('public.parent', 'at', '1 year');
SELECT results_eq($$SELECT preview('public.parent')$$, '{A public.parent delete delete 4 held 0 referenced 3}'::text[], 'what is referenced still');
CALL ringfence.run_retention(60, 'public.parent');
SELECT is(ids('parent'), 'A 1,2,3', 'stays');
SELECT is((SELECT r.state || ' ' || r.errors FROM last_run AS r), 'finished 0', 'and is no error');
SELECT ringfence.retain('public.child', 'at', '1 year'), ringfence.retain('public.grandchild', 'at', '1 year') \g /dev/null
CALL ringfence.run_retention(60, org => :'org_a');
SELECT results_eq('SELECT d FROM done() AS d WHERE d LIKE ''% public.%''', '{A public.grandchild delete delete 1,A public.child delete delete 1,A public.parent delete delete 1}'::text[], 'children go first');
SELECT is(ARRAY[ids('parent'), ids('child'), ids('grandchild')], '{"A 2,3","A 2,3","A 3"}', 'and leave what is not due, with all that it needs');

-- What cascades goes along; what would be changed or removed by it and is referenced keeps it
SELECT make('head', 'v text');
SELECT make('line', 'head_id integer', VARIADIC '{}');
SELECT make('note', 'head_id integer', VARIADIC '{}');
SELECT make('claim', 'line_id integer', VARIADIC '{}');
ALTER TABLE public.line ADD FOREIGN KEY (org_id, head_id) REFERENCES public.head (org_id, id) ON DELETE CASCADE;
ALTER TABLE public.note ADD FOREIGN KEY (org_id, head_id) REFERENCES public.head (org_id, id) ON DELETE SET NULL (head_id);
ALTER TABLE public.claim ADD FOREIGN KEY (org_id, line_id) REFERENCES public.line (org_id, id);
INSERT INTO public.head (org_id, id, at) SELECT :'org_a', n, '2020-01-01' FROM generate_series(1, 3) AS n;
INSERT INTO public.line (org_id, id, head_id) VALUES (:'org_a', 11, 1), (:'org_a', 12, 1), (:'org_a', 21, 2);
INSERT INTO public.note (org_id, id, head_id) VALUES (:'org_a', 1, 1), (:'org_a', 3, 3);
INSERT INTO public.claim (org_id, id, line_id) VALUES (:'org_a', 21, 21);
SELECT ringfence.retain('public.head', 'at', '1 year');
SELECT results_eq($$SELECT preview('public.head')$$, '{A public.head delete delete 3 held 0 referenced 1}'::text[], 'what is referenced by what would go along');
CALL ringfence.run_retention(60, 'public.head');
SELECT is(ARRAY[ids('head'), ids('line'), ids('claim'), ids('note', 't.head_id IS NULL')], '{"A 2","A 21","A 21","A 1,3"}', 'rows go with those that they belong to');
SELECT is((SELECT r.rows || ' ' || r.state FROM last_run AS r), '2 finished', 'and are counted with them');

-- A chain within a table, from its end; a circle
SELECT make('chain', 'previous integer', '(org_id, at)');
ALTER TABLE public.chain ADD FOREIGN KEY (org_id, previous) REFERENCES public.chain (org_id, id);
INSERT INTO public.chain (org_id, id, at, previous) VALUES (:'org_a', 1, '2020-01-01', NULL), (:'org_a', 2, '2020-01-02', 1), (:'org_a', 3, '2025-12-01', NULL), (:'org_a', 4, '2020-01-01', 3);
SELECT ringfence.retain('public.chain', 'at', '1 year');
CALL ringfence.run_retention(60, 'public.chain');
CALL ringfence.run_retention(60, 'public.chain');
SELECT is(ids('chain'), 'A 3', 'rows that reference each other go from the end');
SELECT make('circle', 'next integer', '(org_id, at)');
ALTER TABLE public.circle ADD FOREIGN KEY (org_id, next) REFERENCES public.circle (org_id, id) ON DELETE CASCADE;
SELECT ringfence.retain('public.circle', 'at', '1 year');
INSERT INTO public.circle (org_id, id, at, next) VALUES (:'org_a', 1, '2020-01-01', 1);
CALL ringfence.run_retention(60, 'public.circle');
SELECT is((SELECT r.state || ' ' || r.last_error FROM last_run AS r), 'failed public.circle, delete: 55000: foreign keys of table public.circle go round in a circle', 'a cascade without an end is none');
SELECT is(ids('circle'), 'A 1', 'and touches nothing');
SELECT ringfence.unretain('public.circle') \g /dev/null

-- Deferred constraints and triggers are seen to with the batch
SELECT make('later', 'v text');
SELECT make('later_child', 'later_id integer', VARIADIC '{}');
ALTER TABLE public.later_child ADD FOREIGN KEY (org_id, later_id) REFERENCES public.later (org_id, id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE public.told (id integer, who name);
GRANT INSERT ON public.told TO ringfence_owner;
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (OLD.id, current_user); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER tell AFTER DELETE ON public.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.tell();
INSERT INTO public.later (org_id, id, at) VALUES (:'org_a', 1, '2020-01-01'), (:'org_a', 2, '2020-01-01');
INSERT INTO public.later_child (org_id, id, later_id) VALUES (:'org_a', 1, 1);
SELECT ringfence.retain('public.later', 'at', '1 year');
CALL ringfence.run_retention(60, 'public.later');
SELECT is(ARRAY[ids('later'), ids('later_child'), (SELECT r.state FROM last_run AS r)], '{-,-,finished}', 'with deferred constraints rows go as well');
SELECT results_eq('SELECT t.id, t.who FROM public.told AS t ORDER BY 1', $$VALUES (1, name 'ringfence_owner'), (2, 'ringfence_owner')$$, 'triggers run as the table''s owner');

-- Guard triggers let pass what retention does, and nothing else

SELECT make('guarded', 'v text');
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql
AS $$
BEGIN
	IF ringfence.retaining() THEN
		RETURN OLD;
	END IF;
	RAISE EXCEPTION 'rows stay as they are' USING ERRCODE = '55000';
END
$$;
CREATE TRIGGER guard BEFORE DELETE ON public.guarded FOR EACH ROW EXECUTE FUNCTION public.guard();
INSERT INTO public.guarded (org_id, id, at) VALUES (:'org_a', 1, '2020-01-01'), (:'org_a', 2, '2025-12-01');
SELECT ringfence.retain('public.guarded', 'at', '1 year');
SELECT is(failure('DELETE FROM public.guarded'), '55000 rows stay as they are', 'a guard guards');
CALL ringfence.run_retention(60, 'public.guarded');
SELECT is(ids('guarded'), 'A 2', 'and lets retention pass');
SELECT is(ringfence.retaining(), false, 'which is over then');
SELECT is(failure('DELETE FROM public.guarded'), '55000 rows stay as they are', 'for everybody');

-- Inheritance, partitions

SELECT make('base', 'v text');
CREATE TABLE public.derived_1 () INHERITS (public.base);
CREATE TABLE public.derived_2 () INHERITS (public.base);
ALTER TABLE public.derived_1 OWNER TO ringfence_owner;
ALTER TABLE public.derived_2 OWNER TO ringfence_owner;
CREATE INDEX ON public.derived_1 (org_id, at);
CREATE INDEX ON public.derived_2 (org_id, at);
-- The same times at the same places, in more than one batch
INSERT INTO public.base (org_id, id, at) SELECT :'org_a', n, timestamptz '2020-01-01 00:00+00' + n * interval '1 minute' FROM generate_series(1, 700) AS n;
INSERT INTO public.derived_1 (org_id, id, at) SELECT :'org_a', 1000 + n, timestamptz '2020-01-01 00:00+00' + n * interval '1 minute' FROM generate_series(1, 700) AS n;
INSERT INTO public.derived_2 (org_id, id, at) SELECT :'org_a', 2000 + n, timestamptz '2020-01-01 00:00+00' + n * interval '1 minute' FROM generate_series(1, 700) AS n;
INSERT INTO public.derived_2 (org_id, id, at) VALUES (:'org_a', 9999, '2025-12-01');
SELECT ringfence.retain('public.base', 'at', '1 year');
CALL ringfence.run_retention(60, 'public.base');
SELECT is(ids('base'), 'A 9999', 'rows of tables that inherit');
SELECT is((SELECT r.rows || ' ' || r.state FROM last_run AS r), '2100 finished', 'are all done in one run');
CREATE TABLE public.measured (id integer, at timestamptz, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE public.measured_2020 PARTITION OF public.measured FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE public.measured_rest PARTITION OF public.measured DEFAULT;
SELECT ringfence.protect('public.measured', '{"owner": "all"}');
CREATE INDEX ON public.measured (org_id, at);
INSERT INTO public.measured (org_id, id, at) SELECT CASE n % 2 WHEN 0 THEN :'org_a' ELSE :'org_b' END::uuid, n, timestamptz '2020-10-01' + n * interval '1 month' FROM generate_series(1, 60) AS n;
SELECT ringfence.retain('public.measured', 'at', '1 year');
CALL ringfence.run_retention(60, 'public.measured');
SELECT is((SELECT min(m.at) FROM public.measured AS m), '2025-01-01 00:00+00', 'rows of partitions');
SELECT results_eq('SELECT done()', '{A public.measured delete delete 25,B public.measured delete delete 25}'::text[], 'across them');

-- What fails is on record, and keeps nothing else

SELECT make('poison', 'v text');
SELECT make('sound', 'v text');
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN IF OLD.v = 'poison' THEN RAISE EXCEPTION 'row % stays', OLD.id USING ERRCODE = 'P0001'; END IF; RETURN OLD; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON public.poison FOR EACH ROW EXECUTE FUNCTION public.refuse();
INSERT INTO public.poison (org_id, id, at, v) SELECT :'org_a', n, timestamptz '2020-01-01' + n * interval '1 hour', CASE n WHEN 1234 THEN 'poison' END FROM generate_series(1, 3000) AS n;
INSERT INTO public.sound (org_id, id, at) VALUES (:'org_b', 1, '2020-01-01');
SELECT ringfence.retain('public.poison', 'at', '1 year'), ringfence.retain('public.sound', 'at', '1 year') \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(ARRAY[ids('poison'), ids('sound')], '{"A 1234",-}', 'one row that can''t go keeps no other');
SELECT results_eq('SELECT r.state, r.errors > 0, r.last_error FROM last_run AS r', $$VALUES ('failed', true, 'public.poison, delete: P0001: row 1234 stays')$$, 'and is on record');
SELECT is((SELECT bool_and(b.rows = 0 AND b.relation = 'public.poison' AND b.error = 'P0001: row 1234 stays') FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id WHERE b.error IS NOT NULL), true,
	'with the batches that failed');
SELECT is((SELECT count(*) < 20 FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id WHERE b.error IS NOT NULL), true, 'which are few');
INSERT INTO public.sound (org_id, id, at) VALUES (:'org_b', 2, '2020-01-01');
ALTER TABLE public.poison DROP at;
CALL ringfence.run_retention(60);
SELECT is((SELECT r.state || ' ' || r.last_error FROM last_run AS r), 'failed public.poison, delete: 42703: column "at" of table public.poison does not exist', 'a column that is gone is an error');
SELECT is(ids('sound'), '-', 'and keeps no other table');
SELECT ringfence.unretain('public.poison') \g /dev/null

-- Rows of one and the same time, more of them than a batch has
SELECT make('tied', 'v text');
CREATE TRIGGER refuse BEFORE DELETE ON public.tied FOR EACH ROW EXECUTE FUNCTION public.refuse();
SELECT ringfence.retain('public.tied', 'at', '1 year');
INSERT INTO public.tied (org_id, id, at) SELECT o.id, n + 10000 * (o.name = 'Tenant B')::integer, '2020-01-01' FROM ringfence_data.orgs AS o, generate_series(1, 5000) AS n WHERE o.name LIKE 'Tenant _';
INSERT INTO public.tied (org_id, id, at) VALUES (:'org_a', 20001, '2019-12-31'), (:'org_a', 20002, '2020-01-02'), (:'org_a', 9999, '2025-12-31');
CALL ringfence.run_retention(60, 'public.tied');
SELECT is(ids('tied'), 'A 9999', 'rows of one time are done in one run');
SELECT is((SELECT r.rows || ' ' || r.state FROM last_run AS r), '10002 finished', 'each of them once');
INSERT INTO public.tied (org_id, id, at, v) SELECT :'org_a', n, '2020-01-01', CASE n WHEN 1234 THEN 'poison' END FROM generate_series(1, 3000) AS n;
INSERT INTO public.tied (org_id, id, at) VALUES (:'org_a', 20001, '2019-12-31'), (:'org_a', 20002, '2020-01-02');
CALL ringfence.run_retention(60, 'public.tied');
SELECT results_eq($$SELECT count(*) FILTER (WHERE t.v IS NULL), count(*) FILTER (WHERE t.v = 'poison') FROM public.tied AS t WHERE t.at < '2025-01-01'$$, $$VALUES (0::bigint, 1::bigint)$$,
	'and one that can''t go keeps no other of its time');
SELECT ringfence.unretain('public.tied') \g /dev/null

-- A table that somebody has locked keeps none but itself
SELECT make('locked', 'v text');
SELECT make('unlocked', 'v text');
INSERT INTO public.locked (org_id, id, at) VALUES (:'org_a', 1, '2020-01-01'), (:'org_b', 2, '2020-01-01');
INSERT INTO public.unlocked (org_id, id, at) VALUES (:'org_a', 1, '2020-01-01'), (:'org_b', 2, '2020-01-01');
SELECT ringfence.retain('public.locked', 'at', '1 year'), ringfence.retain('public.unlocked', 'at', '1 year') \g /dev/null
SELECT dblink_connect('locker', format('dbname=%L host=%L port=%L user=postgres', current_database(), split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))) \g /dev/null
SELECT dblink_exec('locker', 'BEGIN'), dblink_exec('locker', 'LOCK TABLE public.locked IN ACCESS EXCLUSIVE MODE') \g /dev/null
CALL ringfence.run_retention(30);
SELECT is(ids('unlocked'), '-', 'a table that somebody has locked keeps no other');
SELECT results_eq('SELECT r.state, r.last_error FROM last_run AS r', $$VALUES ('failed', 'public.locked, delete: 55P03: canceling statement due to lock timeout')$$, 'and is on record');
SELECT is((SELECT count(*) < 10 FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id WHERE b.error IS NOT NULL), true, 'not too often');
SELECT dblink_exec('locker', 'ROLLBACK'), dblink_disconnect('locker') \g /dev/null
CALL ringfence.run_retention(60, 'public.locked');
SELECT is(ids('locked'), '-', 'its rows go as it is free');

-- Extremes
SELECT make('ever', 'v text');
INSERT INTO public.ever (org_id, id, at) VALUES (:'org_a', 1, '-infinity'), (:'org_a', 2, '4713-01-01 BC'), (:'org_a', 3, 'infinity');
SELECT ringfence.retain('public.ever', 'at', '1 year');
SELECT results_eq($$SELECT preview('public.ever')$$, '{A public.ever delete delete 2 held 0 referenced 0}'::text[], 'what was there from the beginning of time is due');
CALL ringfence.run_retention(60, 'public.ever');
SELECT is(ids('ever'), 'A 3', 'and goes');
-- Times as another style writes them
SELECT make('styled', 'v text');
SELECT ringfence.retain('public.styled', 'at', '1 year 2 months 3 days 04:05:06.5');
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Kolkata';
SET intervalstyle = 'sql_standard';
INSERT INTO public.styled (org_id, id, at) SELECT :'org_a', n, timestamptz '2020-01-01 00:00+00' + n * interval '1 minute' FROM generate_series(1, 2500) AS n;
CALL ringfence.run_retention(60, 'public.styled');
SELECT is((SELECT r.rows || ' ' || r.state FROM last_run AS r), '2500 finished', 'however a session writes dates and intervals');
RESET datestyle;
RESET timezone;
RESET intervalstyle;

-- Periods of an organization's own, within bounds

SELECT make('chosen', 'v text');
INSERT INTO public.chosen (org_id, id, at) VALUES
	(:'org_a', 1, '2025-12-01'), (:'org_a', 2, '2025-09-01'), (:'org_a', 3, '2024-01-01'), (:'org_b', 4, '2025-12-01'), (:'org_b', 5, '2025-09-01'), (:'org_b', 6, '2023-12-31 23:59+00');
SELECT ringfence.retain('public.chosen', 'at', '1 year', min_keep => '30 days', max_keep => '3 years', reason => 'a year is enough');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq($$SELECT r.step, r.action COLLATE "default", r.keep, r.default_keep, r.min_keep, r.max_keep, r.reason FROM ringfence_v1.retention AS r WHERE r.relation = 'public.chosen'$$,
	$$VALUES ('delete', 'delete', interval '1 year', interval '1 year', interval '30 days', interval '3 years', 'a year is enough')$$, 'an owner sees what is in force');
SELECT is(failure(format('SELECT ringfence_v1.set_retention(%s)', call)), answer, 'set_retention ' || call)
FROM (VALUES
	($$'public.chosen', 'delete', '29 days'$$, '22023 invalid period 29 days / It is between 30 days and 3 years.'),
	($$'public.chosen', 'delete', '3 years 1 day'$$, '22023 invalid period 3 years 1 day / It is between 30 days and 3 years.'),
	($$'public.chosen', 'nope', '90 days'$$, 'PT404 retention policy not found / The view "retention" lists them.'),
	($$'public.nope', 'delete', '90 days'$$, 'PT404 retention policy not found / The view "retention" lists them.'),
	($$'ringfence_data.users', 'forever', '90 days'$$, 'PT404 retention policy not found / The view "retention" lists them.'),
	($$'public.many', 'delete', '2 years'$$, '22023 invalid period 2 years / It is between 1 year and 1 year.')
) AS r (call, answer);
SELECT ringfence_v1.set_retention('public.chosen', 'delete', '90 days', 'we are quick');
SELECT results_eq($$SELECT r.keep, r.reason FROM ringfence_v1.retention AS r WHERE r.relation = 'public.chosen'$$, $$VALUES (interval '90 days', 'we are quick')$$, 'a period of its own');
COMMIT;
BEGIN;
SELECT claim(:'claims_b');
SELECT results_eq($$SELECT r.keep, r.reason FROM ringfence_v1.retention AS r WHERE r.relation = 'public.chosen'$$, $$VALUES (interval '1 year', 'a year is enough')$$, 'is nobody else''s');
SELECT ringfence_v1.set_retention('public.chosen', 'delete', '2 years');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT right(o.name, 1), o2.keep, o2.set_by FROM ringfence_data.retention_overrides AS o2 INNER JOIN ringfence_data.orgs AS o ON o.id = o2.org_id ORDER BY 1',
	format($$VALUES ('A', interval '90 days', %L::uuid), ('B', interval '2 years', %L::uuid)$$, :'user_a', :'user_b'), 'who chose is on record');
SELECT results_eq($$SELECT preview('public.chosen')$$, '{A public.chosen delete delete 2 held 0 referenced 0,B public.chosen delete delete 1 held 0 referenced 0}'::text[], 'each organization by its own');
CALL ringfence.run_retention(60, 'public.chosen');
SELECT is(ids('chosen'), 'A 1 B 4,5', 'so is it kept');
-- Bounds that were changed since
SELECT ringfence.retain('public.chosen', 'at', '6 months', min_keep => '100 days', max_keep => '6 months');
INSERT INTO public.chosen (org_id, id, at) VALUES (:'org_a', 7, '2025-09-24'), (:'org_a', 8, '2025-09-22'), (:'org_b', 9, '2025-06-30');
CALL ringfence.run_retention(60, 'public.chosen');
SELECT is(ids('chosen'), 'A 1,7 B 4,5', 'bounds of the policy''s come before');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq($$SELECT r.keep FROM ringfence_v1.retention AS r WHERE r.relation = 'public.chosen'$$, '{100 days}'::interval[], 'and are shown');
SELECT ringfence_v1.set_retention('public.chosen', 'delete', NULL);
SELECT results_eq($$SELECT r.keep FROM ringfence_v1.retention AS r WHERE r.relation = 'public.chosen'$$, '{6 months}'::interval[], 'what was chosen is taken back');
SELECT results_eq($$SELECT count(*) > 0, bool_and(b.error IS NULL) FROM ringfence_v1.retention_batches AS b WHERE b.relation = 'public.chosen'$$, $$VALUES (true, true)$$, 'an owner sees the batches');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT results_eq($$SELECT right(o.name, 1) FROM ringfence_data.retention_overrides AS v INNER JOIN ringfence_data.orgs AS o ON o.id = v.org_id$$, '{B}'::text[], 'the other''s stays');
SELECT ringfence.unretain('public.chosen') \g /dev/null
SELECT is_empty('SELECT v.step FROM ringfence_data.retention_overrides AS v', 'and goes with the policy');

-- Within a transaction
INSERT INTO public.many (org_id, id, at) VALUES (:'org_a', 1, '2020-01-01');
SELECT throws_ok($$CALL ringfence.run_retention(60, 'public.many')$$, '2D000', 'invalid transaction termination', 'a run is no part of a transaction');
CALL ringfence.run_retention(60, 'public.many');
SELECT is((SELECT r.rows || ' ' || r.state FROM last_run AS r), '1 finished', 'the next one runs');
SELECT ringfence.job_unlock('retention') \g /dev/null

-- The policies of all apps, to the end of time: everything that can go does, with no
-- error, and each stored object's tombstone is left.
SELECT count(*) AS photos FROM cleaning.photos \gset
DELETE FROM ringfence_data.tombstones;
SET ringfence.retention_clock = '2500-01-01';
CALL ringfence.run_retention(300);
CALL ringfence.run_retention(300);
CALL ringfence.run_retention(300);
SELECT results_eq('SELECT r.state, r.last_error FROM last_run AS r', $$VALUES ('finished', NULL::text)$$, 'all policies of all apps can be carried out');
SELECT is_empty($$SELECT p.relation, p.step, p.org_id, p.rows FROM ringfence.retention_preview() AS p WHERE p.rows > p.held + p.referenced AND p.relation NOT LIKE 'ringfence_data.retention_%'$$, 'and nothing is left that could go');
SELECT is((SELECT count(*) FROM ringfence_data.tombstones), (SELECT :photos - count(*) FROM cleaning.photos), 'a tombstone for each stored object');
SELECT is_empty('SELECT v FROM ringfence.audit_verify() AS v', 'the audit log verifies');
SELECT is_empty('SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v', 'and so do the books');

SELECT * FROM finish();
