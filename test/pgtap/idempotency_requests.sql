-- Idempotency in requests: whatever PostgREST sends with an Idempotency-Key has
-- one effect, and each repetition gets the first one's status, body and Location,
-- and says that it is one. A key that was used stands for that request alone; one
-- that is malformed is refused; one of a request that failed is free.
\ir include/idempotency.sql
SET client_min_messages = warning;
SELECT plan(162);

CREATE SCHEMA regress_v1;
CREATE SCHEMA regress_v2;
CREATE TABLE regress_v1.items (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	name text NOT NULL,
	qty integer NOT NULL DEFAULT 1 CONSTRAINT items_qty_check CHECK (qty > 0),
	version integer NOT NULL DEFAULT 1
);
SELECT ringfence.protect('regress_v1.items', '{"owner": "all"}') \g /dev/null
ALTER TABLE regress_v1.items ADD CONSTRAINT items_name_key UNIQUE (org_id, name);
CREATE VIEW regress_v1.things WITH (security_invoker = true) AS SELECT i.id, i.org_id, i.name, i.qty, i.version FROM regress_v1.items AS i;
CREATE VIEW regress_v2.items WITH (security_invoker = true) AS SELECT i.id, i.org_id, i.name, i.qty, i.version FROM regress_v1.items AS i;
GRANT SELECT, INSERT, UPDATE, DELETE ON regress_v1.things, regress_v2.items TO ringfence_member;
GRANT USAGE ON SCHEMA regress_v1, regress_v2 TO ringfence_member;
CREATE ROLE regress_item_clerk IN ROLE ringfence_member;
GRANT regress_item_clerk TO regress_web;

-- An UPDATE that were done twice would show.
CREATE FUNCTION public.count_versions() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN NEW.version := OLD.version + 1; RETURN NEW; END $$;
CREATE TRIGGER count_versions BEFORE UPDATE ON regress_v1.items FOR EACH ROW EXECUTE FUNCTION public.count_versions();
-- 13 fails when the transaction commits, as long as it is unlucky.
CREATE TABLE public.unlucky ();
GRANT SELECT ON public.unlucky TO ringfence_member;
CREATE FUNCTION public.check_late() RETURNS trigger LANGUAGE plpgsql
AS $$
BEGIN
	IF NEW.qty = 13 AND EXISTS (SELECT FROM public.unlucky) THEN
		RAISE EXCEPTION 'a dozen is enough' USING ERRCODE = 'check_violation';
	END IF;
	RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER check_late AFTER INSERT ON regress_v1.items DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION public.check_late();

CREATE FUNCTION public.owner() RETURNS jsonb LANGUAGE sql STABLE RETURN test.claims('Alder Clean', 'owner');

-- What there is: rows, their versions, records of them in the audit log.
CREATE FUNCTION public.effects() RETURNS bigint[] LANGUAGE sql
AS $$
	SELECT ARRAY[count(*), coalesce(sum(i.version), 0), (
			SELECT count(*)
			FROM ringfence_data.audit_log AS l
			JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
			WHERE r.name = 'regress_v1.items'
		)]
	FROM regress_v1.items AS i
$$;
CREATE TABLE public.first AS SELECT NULL::integer AS status, NULL::jsonb AS body, NULL::jsonb AS headers;

-- Sends a request three times. The status, and what it changed in all: rows,
-- versions, records; then what is wrong with the repetitions.
CREATE FUNCTION public.thrice(call text) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	before bigint[] := effects();
	after bigint[];
	answer test.response;
	again test.response;
	line text;
BEGIN
	EXECUTE 'SELECT r.* FROM ' || call || ' AS r' INTO answer;
	line := concat_ws(' ', answer.status, answer.code, answer.message);
	UPDATE public.first SET status = answer.status, body = answer.body, headers = answer.headers;
	IF answer.headers ? 'Idempotency-Replayed' THEN
		line := line || ', says it is a repetition';
	END IF;
	FOR n IN 2 .. 3 LOOP
		EXECUTE 'SELECT r.* FROM ' || call || ' AS r' INTO again;
		IF (again.headers -> 'Idempotency-Replayed') IS DISTINCT FROM '"true"' THEN
			line := line || format(', %s does not say that it is a repetition', n);
		END IF;
		IF (again.status, again.body, again.headers - 'Idempotency-Replayed') IS DISTINCT FROM (answer.status, answer.body, answer.headers) THEN
			line := line || format(', %s answers: %s %s %s', n, again.status, again.body, again.headers);
		END IF;
	END LOOP;
	after := effects();
	RETURN concat_ws(' ', line, to_char(after[1] - before[1], 'FMSG0'), to_char(after[2] - before[2], 'FMSG0'), to_char(after[3] - before[3], 'FMSG0'));
END
$$;

-- Tables and views

SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "a", "qty": 5}', test.keyed('post-1', 'representation'))$$),
	'201 +1 +1 +1', 'POST of a row');
SELECT is(body #- '{0,id}' #- '{0,org_id}', '[{"name": "a", "qty": 5, "version": 1}]', 'with the row as it was stored') FROM public.first;
SELECT is((SELECT i.id::text FROM regress_v1.items AS i WHERE i.name = 'a'), body #>> '{0,id}', 'under its id') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "b"}', test.keyed('post-2', 'minimal'))$$), '201 +1 +1 +1', 'return=minimal');
SELECT is(body, NULL, 'without a body') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "c"}', test.keyed('post-3'))$$), '201 +1 +1 +1', 'no preference');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "d"}', test.keyed('post-4', 'headers-only'))$$), '201 +1 +1 +1', 'return=headers-only');
SELECT is(headers, jsonb_build_object('location', '/items?id=eq.' || (SELECT i.id FROM regress_v1.items AS i WHERE i.name = 'd')), 'with the Location') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '[{"name": "e1"}, {"name": "e2"}, {"name": "e3"}]', test.keyed('post-5', 'representation'))$$),
	'201 +3 +3 +3', 'POST of several rows');
SELECT is(jsonb_path_query_array(body, '$[*].name'), '["e1", "e2", "e3"]', 'with all of them') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '[]', test.keyed('post-6', 'representation'))$$), '201 +0 +0 +0', 'POST of none');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "a", "qty": 6}', test.keyed('upsert-1', 'representation,resolution=merge-duplicates'), '{org_id,name}')$$),
	'200 +0 +1 +1', 'POST that merges: a row that there was');
SELECT is(body #> '{0,version}', '2', 'in its second version') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "f", "qty": 6}', test.keyed('upsert-2', 'representation,resolution=merge-duplicates'), '{org_id,name}')$$),
	'201 +1 +1 +1', 'a row that there was not, whose repetitions are not of one that there is');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '[{"name": "a"}, {"name": "g"}]', test.keyed('upsert-3', 'representation,resolution=ignore-duplicates'), '{org_id,name}')$$),
	'201 +1 +1 +1', 'POST that ignores duplicates');
SELECT is(jsonb_path_query_array(body, '$[*].name'), '["g"]', 'answers with the one that was new, again as well') FROM public.first;
SELECT is(thrice($$test.patch(owner(), 'regress_v1', 'items', 'items.name = $1', '{"qty": 7}', '{a}', test.keyed('patch-1', 'representation'))$$),
	'200 +0 +1 +1', 'PATCH');
SELECT is(body #- '{0,id}' #- '{0,org_id}', '[{"name": "a", "qty": 7, "version": 3}]', 'with the row as it was then') FROM public.first;
SELECT is(thrice($$test.patch(owner(), 'regress_v1', 'items', 'items.name = $1', '{"qty": 7}', '{a}', test.keyed('patch-2', 'minimal'))$$),
	'204 +0 +1 +1', 'PATCH, return=minimal');
SELECT is(thrice($$test.patch(owner(), 'regress_v1', 'items', 'items.name = ANY ($1)', '{"qty": 8}', '{"{e1,e2,e3}"}', test.keyed('patch-3', 'representation'))$$),
	'200 +0 +3 +3', 'PATCH of several rows');
SELECT is(thrice($$test.patch(owner(), 'regress_v1', 'items', 'items.name = $1', '{"qty": 7}', '{none}', test.keyed('patch-4', 'representation'))$$),
	'200 +0 +0 +0', 'PATCH of none');
INSERT INTO regress_v1.items (org_id, name) SELECT (owner() ->> 'org_id')::uuid, 'none';
SELECT is(test.sent($$test.patch(owner(), 'regress_v1', 'items', 'items.name = $1', '{"qty": 7}', '{none}', test.keyed('patch-4', 'representation'))$$),
	'200 again', 'again when there is one');
SELECT is((SELECT i.qty FROM regress_v1.items AS i WHERE i.name = 'none'), 1, 'which stays as it is');
SELECT is(thrice($$test.delete(owner(), 'regress_v1', 'items', 'name = $1', '{b}', test.keyed('delete-1', 'representation'))$$),
	'200 -1 -1 +1', 'DELETE');
SELECT is(body #>> '{0,name}', 'b', 'with the row that was') FROM public.first;
SELECT is(thrice($$test.delete(owner(), 'regress_v1', 'items', 'name = $1', '{c}', test.keyed('delete-2'))$$), '204 -1 -1 +1', 'DELETE without a body');
\set put '$$test.request(''PUT'', ''/items'', owner(), ''INSERT INTO "regress_v1"."items"("id", "name", "qty") SELECT "pgrst_body"."id", "pgrst_body"."name", "pgrst_body"."qty" FROM (SELECT $1 AS json_data) pgrst_payload, LATERAL (SELECT "id", "name", "qty" FROM json_to_record(pgrst_payload.json_data) AS _("id" uuid, "name" text, "qty" integer) ) pgrst_body WHERE id = $2 ON CONFLICT(org_id, id) DO UPDATE SET "name" = EXCLUDED."name", "qty" = EXCLUDED."qty" RETURNING "regress_v1"."items".*'', ARRAY[''{"id": "0eeeeeee-0000-7000-8000-000000000001", "name": "put", "qty": 1}'', ''0eeeeeee-0000-7000-8000-000000000001''], test.keyed(%L, NULL, ''{"content-profile": "regress_v1"}''))$$'
SELECT is(thrice(format(:put, 'put-1')), '200 +1 +1 +1', 'PUT of a row that there was not');
SELECT is(thrice(format(:put, 'put-2')), '200 +0 +1 +1', 'PUT of one that there was');
SELECT is(body #- '{0,org_id}', '[{"id": "0eeeeeee-0000-7000-8000-000000000001", "qty": 1, "name": "put", "version": 2}]', 'with the row') FROM public.first;

SELECT is(thrice($$test.post(owner(), 'regress_v1', 'things', '{"name": "v1"}', test.keyed('post-1', 'representation'))$$), '201 +1 +1 +1', 'POST to a view');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'things', '[{"name": "v2"}, {"name": "v3"}]', test.keyed('post-2'))$$), '201 +2 +2 +2', 'of several rows');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'things', '{"name": "v4"}', test.keyed('post-3', 'headers-only'))$$), '201 +1 +1 +1', 'headers-only');
SELECT is(headers, jsonb_build_object('location', '/things?id=eq.' || (SELECT i.id FROM regress_v1.items AS i WHERE i.name = 'v4')), 'with the Location') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'things', '{"name": "v1", "qty": 2}', test.keyed('post-4', 'representation,resolution=merge-duplicates'), '{org_id,name}')$$),
	'200 +0 +1 +1', 'merging');
SELECT is(thrice($$test.patch(owner(), 'regress_v1', 'things', 'things.name = $1', '{"qty": 3}', '{v1}', test.keyed('patch-1', 'representation'))$$), '200 +0 +1 +1', 'PATCH of a view');
SELECT is(thrice($$test.delete(owner(), 'regress_v1', 'things', 'name = $1', '{v2}', test.keyed('delete-1', 'representation'))$$), '200 -1 -1 +1', 'DELETE');
SELECT is(thrice($$test.post(owner(), 'cleaning_v1', 'teams', '{"name": "Once"}', test.keyed('team', 'representation'))$$), '201 +0 +0 +0', 'POST to an app');
SELECT is((SELECT count(*) FROM cleaning.teams WHERE name = 'Once'), 1::bigint, 'makes one row');

-- Other forms of the body

SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "csv"}', test.keyed('accept-1', 'representation', '{"accept": "text/csv"}'))$$), '201 +1 +1 +1', 'text/csv');
SELECT matches(body #>> '{}', '^id,name,qty,version,org_id\n[0-9a-f-]{36},csv,1,1,[0-9a-f-]{36}$', 'is text') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "object"}', test.keyed('accept-2', 'representation', '{"accept": "application/vnd.pgrst.object+json"}'))$$), '201 +1 +1 +1', 'one object');
SELECT is(body ->> 'name', 'object', 'is no list') FROM public.first;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "sträße \"\\ \u20ac \ud83d\ude00"}', test.keyed('text-1', 'representation'))$$), '201 +1 +1 +1', 'any text');
SELECT is(body #>> '{0,name}', 'sträße "\ € 😀', 'comes back as it was') FROM public.first;

-- Functions

CREATE FUNCTION regress_v1.make(item text) RETURNS uuid LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item) RETURNING id';
CREATE FUNCTION regress_v1.make_many(item text, n integer) RETURNS SETOF uuid LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) SELECT item || i FROM generate_series(1, n) AS i RETURNING id';
CREATE FUNCTION regress_v1.make_void(item text) RETURNS void LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item)';
CREATE FUNCTION regress_v1.make_json(item text) RETURNS json LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item) RETURNING json_build_object(''id'', id, ''none'', NULL)';
CREATE FUNCTION regress_v1.make_table(item text) RETURNS TABLE (id uuid, name text) LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item || 1), (item || 2) RETURNING id, name';
CREATE FUNCTION regress_v1.make_row(item text) RETURNS regress_v1.items LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item) RETURNING items.*';
CREATE FUNCTION regress_v1.make_rows(item text) RETURNS SETOF regress_v1.items LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item || 1), (item || 2) RETURNING items.*';
CREATE FUNCTION regress_v1.make_out(item text, OUT id uuid, OUT at timestamptz) LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item) RETURNING id, clock_timestamp()';
CREATE FUNCTION regress_v1.make_null(item text) RETURNS text LANGUAGE plpgsql VOLATILE
AS $$ BEGIN INSERT INTO regress_v1.items (name) VALUES (item); RETURN NULL; END $$;
CREATE FUNCTION regress_v1.make_none(item text) RETURNS SETOF text LANGUAGE plpgsql VOLATILE
AS $$ BEGIN INSERT INTO regress_v1.items (name) VALUES (item); END $$;
CREATE FUNCTION regress_v1.make_later(item text) RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	INSERT INTO regress_v1.items (name) VALUES (item);
	PERFORM set_config('response.status', '202', true),
		set_config('response.headers', '[{"Location": "/things?name=eq.' || item || '"}, {"X-Made": "1"}]', true);
	RETURN 'later';
END
$$;
CREATE FUNCTION regress_v1.make_empty(item text) RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	INSERT INTO regress_v1.items (name) VALUES (item);
	PERFORM set_config('response.status', '205', true), set_config('response.headers', ' [ ] ', true);
END
$$;

SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make', '{"item": "m1"}', headers => test.keyed('rpc'))$$), '200 +1 +1 +1', 'a function with a scalar');
SELECT is(body #>> '{}', (SELECT i.id::text FROM regress_v1.items AS i WHERE i.name = 'm1'), 'which it returned') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_many', '{"item": "m2", "n": 3}', headers => test.keyed('rpc'))$$), '200 +3 +3 +3', 'a set of them');
SELECT is(body, (SELECT jsonb_agg(i.id ORDER BY i.name) FROM regress_v1.items AS i WHERE i.name LIKE 'm2%'), 'in order') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_many', '{"item": "m3", "n": 0}', headers => test.keyed('rpc-none'))$$), '200 +0 +0 +0', 'an empty set');
SELECT is(body, '[]', 'is none again') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_void', '{"item": "m4"}', headers => test.keyed('rpc'))$$), '204 +1 +1 +1', 'nothing');
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_json', '{"item": "m5"}', headers => test.keyed('rpc'))$$), '200 +1 +1 +1', 'json');
SELECT is(body, jsonb_build_object('id', (SELECT i.id FROM regress_v1.items AS i WHERE i.name = 'm5'), 'none', NULL), 'as it is') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_table', '{"item": "m6"}', headers => test.keyed('rpc'))$$), '200 +2 +2 +2', 'a table');
SELECT is(jsonb_path_query_array(body, '$[*].name'), '["m61", "m62"]', 'of rows') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_row', '{"item": "m7"}', headers => test.keyed('rpc'))$$), '200 +1 +1 +1', 'a row of a table');
SELECT is(body #- '{id}' #- '{org_id}', '{"name": "m7", "qty": 1, "version": 1}', 'with its columns') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_rows', '{"item": "m8"}', headers => test.keyed('rpc'))$$), '200 +2 +2 +2', 'rows of a table');
SELECT is(jsonb_path_query_array(body, '$[*].name'), '["m81", "m82"]', 'all of them') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_out', '{"item": "m9"}', headers => test.keyed('rpc'))$$), '200 +1 +1 +1', 'a row of its own, with the time');
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_null', '{"item": "m10"}', headers => test.keyed('rpc'))$$), '200 +1 +1 +1', 'null');
SELECT is(body, 'null', 'is null again') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_none', '{"item": "m11"}', headers => test.keyed('rpc'))$$), '200 +1 +1 +1', 'no row');
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_later', '{"item": "m12"}', headers => test.keyed('rpc'))$$), '202 +1 +1 +1', 'one that sets the status');
SELECT is(ROW(body, headers), ROW('"later"'::jsonb, '{"Location": "/things?name=eq.m12", "X-Made": "1"}'::jsonb), 'and headers') FROM public.first;
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'make_empty', '{"item": "m13"}', headers => test.keyed('rpc'))$$), '205 +1 +1 +1', 'or an empty list of them');

-- What is a function in the API needn't be one in the plan.
CREATE SEQUENCE public.numbers;
GRANT USAGE ON SEQUENCE public.numbers TO ringfence_member;
CREATE FUNCTION regress_v1.next_number() RETURNS bigint LANGUAGE sql VOLATILE
RETURN nextval('public.numbers');
CREATE FUNCTION regress_v1.new_token() RETURNS uuid LANGUAGE sql VOLATILE
RETURN gen_random_uuid();
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'next_number', headers => test.keyed('rpc'))$$), '200 +0 +0 +0', 'one of SQL that is taken apart: a sequence');
SELECT is(body, '1', 'counts') FROM public.first;
SELECT is((SELECT n.last_value FROM public.numbers AS n), 1::bigint, 'by one');
SELECT is(thrice($$test.rpc(owner(), 'regress_v1', 'new_token', headers => test.keyed('rpc'))$$), '200 +0 +0 +0', 'what is random is not so again');

-- What a repetition may differ in, and what it may not

SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation'))$$), '201', 'a request');
SELECT is(test.sent($$test.post(owner() || '{"iat": 1767225600, "jti": "x"}', 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation'))$$), '201 again', 'again with another token');
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation', '{"x-request-id": "r-2", "user-agent": "Other/1.0", "x-forwarded-for": "192.0.2.9"}'))$$),
	'201 again', 'with other headers of no meaning');
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('"same"', 'representation'))$$), '201 again', 'with the key in quotes');
SELECT set_config('test.connection', 'other', false) \g /dev/null
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation'))$$), '201 again', 'over another connection');
SELECT test.disconnect() \g /dev/null
SELECT set_config('test.connection', 'web', false) \g /dev/null
SELECT effects() AS before \gset
SELECT is(test.sent(call), '422 PT422 the idempotency key was used for another request', 'refused: ' || what)
FROM (VALUES
	('another body', $$test.post(owner(), 'regress_v1', 'items', '{"name": "r2"}', test.keyed('same', 'representation'))$$),
	('another spelling of the body', $$test.post(owner(), 'regress_v1', 'items', '{"name": "r1", "qty": 1}', test.keyed('same', 'representation'))$$),
	('a list of the one', $$test.post(owner(), 'regress_v1', 'items', '[{"name": "r1"}]', test.keyed('same', 'representation'))$$),
	('another preference', $$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'minimal'))$$),
	('another resolution', $$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation,resolution=ignore-duplicates'), '{org_id,name}')$$),
	('another form of the answer', $$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation', '{"accept": "text/csv"}'))$$),
	('another schema', $$test.post(owner(), 'regress_v2', 'items', '{"name": "r1"}', test.keyed('same', 'representation'))$$),
	('another database role', $$test.post(owner() || '{"role": "regress_item_clerk"}', 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation'))$$),
	('another filter', $$test.patch(owner(), 'regress_v1', 'items', 'items.name = $1', '{"qty": 7}', '{r1}', test.keyed('patch-1', 'representation'))$$),
	('another kind of filter', $$test.patch(owner(), 'regress_v1', 'items', 'items.name >= $1', '{"qty": 7}', '{a}', test.keyed('patch-1', 'representation'))$$),
	('another row to delete', $$test.delete(owner(), 'regress_v1', 'items', 'name = $1', '{r1}', test.keyed('delete-1', 'representation'))$$),
	('another argument', $$test.rpc(owner(), 'regress_v1', 'make', '{"item": "r2"}', headers => test.keyed('rpc'))$$)
) AS r (what, call);
SELECT is(effects(), :'before', 'none of them had an effect');
SELECT is(test.sent($$test.post(owner() || '{"role": "regress_item_clerk"}', 'regress_v1', 'items', '{"name": "r3"}', test.keyed('clerk'))$$), '201', 'that role may do it with a key of its own');
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "r1"}', test.keyed('same', 'representation'))$$), '201 again', 'and the first request is still known');
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "r4"}', '{}')$$), '201', 'without a key');
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "r4"}', '{}')$$), '409 23505 duplicate key value violates unique constraint "items_name_key"', 'nothing is known');

-- Keys

SELECT is(test.sent(format('test.post(owner(), ''regress_v1'', ''items'', ''{"name": "k"}'', jsonb_build_object(''idempotency-key'', %L))', key)), '400 PT400 invalid idempotency key', 'no key: ' || what)
FROM (VALUES
	('', 'nothing'),
	(repeat('k', 256), '256 bytes'),
	(repeat('ä', 128), '128 characters of 2 bytes'),
	(E'a\u0001b', 'a control character'),
	(E'a\nb', 'a line feed'),
	(E'a\u007f', 'DEL'),
	('""', 'quoted nothing'),
	('"' || repeat('k', 256) || '"', '256 bytes in quotes'),
	(E'"a\u0001b"', 'a control character in quotes'),
	('"abc', 'a quote that does not end'),
	('"', 'a quote'),
	('"abc\', 'an escape that does not end'),
	('"abc\"', 'an escaped end'),
	('"a\bc"', 'another escape'),
	('"a"b', 'something behind it'),
	('"a"b"', 'a quote within'),
	('"a";p=1', 'a parameter'),
	('"a" b', 'something behind a space'),
	('"a", "b"', 'two')
) AS k (key, what);
SELECT is(r.body, '{"code": "PT400", "message": "invalid idempotency key", "details": "A key has 1 to 255 bytes and no control characters; it is sent bare, or in double quotes as in RFC 8941.", "hint": null}',
	'the body says what a key is')
FROM test.post(owner(), 'regress_v1', 'items', '{"name": "k"}', test.keyed('')) AS r;
SELECT is((SELECT count(*) FROM regress_v1.items AS i WHERE i.name = 'k'), 0::bigint, 'none of them had an effect');
SELECT is(ARRAY[test.sent(format(post, sent_first)), test.sent(format(post, sent_then))], '{201,201 again}', what)
FROM (VALUES
	('1', repeat('k', 255), '"' || repeat('k', 255) || '"', '255 bytes'),
	('2', '"' || repeat('ä', 127) || '"', repeat('ä', 127), 'not only ASCII'),
	('3', '"a\"b\\c"', 'a"b\c', 'escapes stand for what they escape'),
	('4', '"8e03978e-40d5-43dd-bc93-6894a57f9324"', '8e03978e-40d5-43dd-bc93-6894a57f9324', 'a UUID'),
	('5', 'a, b;c=d', '"a, b;c=d"', 'any other characters'),
	('6', '\', '"\\"', 'a backslash')
) AS k (n, sent_first, sent_then, what),
	LATERAL (SELECT format('test.post(owner(), ''regress_v1'', ''items'', ''{"name": "key-%s"}'', jsonb_build_object(''idempotency-key'', %%L))', n) AS post) AS p;
SELECT is(ARRAY[test.sent(format(post, 'case')), test.sent(format(post, 'Case')), test.sent(format(post, E' case\t '))],
	'{201,"409 23505 duplicate key value violates unique constraint \"items_name_key\"","201 again"}',
	'keys that differ by a byte are two, but for blanks around them')
FROM (VALUES ('test.post(owner(), ''regress_v1'', ''items'', ''{"name": "key-case"}'', jsonb_build_object(''idempotency-key'', %L))')) AS p (post);

-- Reading

CREATE FUNCTION regress_v1.name_of(item text) RETURNS text LANGUAGE sql STABLE
AS 'SELECT name FROM regress_v1.items WHERE name = item';
SELECT is(test.sent($$test.get(owner(), 'regress_v1', 'items', 'name = $1', '{a}', test.keyed('get'))$$), '200', 'GET');
SELECT is(test.sent($$test.get(owner(), 'regress_v1', 'items', 'name = $1', '{e1}', test.keyed('get'))$$), '200', 'takes no notice of a key');
SELECT is(test.sent($$test.get(owner(), 'regress_v1', 'items', 'name = $1', '{a}', test.keyed(''))$$), '200', 'or of what is none');
SELECT is(test.sent($$test.get(owner(), 'regress_v1', 'items', headers => test.keyed('get'), method => 'HEAD')$$), '200', 'nor does HEAD');
SELECT is(test.sent($$test.rpc(owner(), 'regress_v1', 'name_of', '{"item": "a"}', headers => test.keyed('get'))$$), '200', 'or POST to a function that reads');
SELECT is(test.sent($$test.rpc(owner(), 'regress_v1', 'name_of', '{"item": "e1"}', headers => test.keyed('get'))$$), '200', 'with this key or that');
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'get'), 0::bigint, 'nothing is recorded of it');
SELECT is(test.sent($$test.rpc(owner(), 'regress_v1', 'make', '{"item": "get"}', 'GET', test.keyed('get'))$$),
	'405 25006 cannot execute INSERT in a read-only transaction', 'GET of a function that writes is refused');

-- Endpoints that require a key

SELECT ringfence.require_idempotency_key('POST', '/items'), ringfence.require_idempotency_key('POST', '/rpc/make'), ringfence.require_idempotency_key('POST', '/rpc/name_of') \g /dev/null
SELECT is(test.sent(call), '400 PT400 the request needs an idempotency key', 'refused without one: ' || what)
FROM (VALUES
	('POST', $$test.post(owner(), 'regress_v1', 'items', '{"name": "q1"}', '{}')$$),
	('a function', $$test.rpc(owner(), 'regress_v1', 'make', '{"item": "q1"}')$$),
	('an escape in the path', $$test.request('POST', '/%69tems', owner(), 'INSERT INTO regress_v1.items (name) VALUES (''q1'') RETURNING items.*')$$),
	('escapes in capitals', $$test.request('POST', '/i%74em%73', owner(), 'INSERT INTO regress_v1.items (name) VALUES (''q1'') RETURNING items.*')$$),
	('another schema', $$test.post(owner(), 'regress_v2', 'items', '{"name": "q1"}', '{}')$$),
	('nobody', $$test.post(NULL, 'regress_v1', 'items', '{"name": "q1"}', '{}')$$),
	('what looks like one', $$test.post(owner(), 'regress_v1', 'items', '{"name": "q1"}', '{"x-idempotency-key": "q1"}')$$)
) AS r (what, call);
SELECT is(r.hint, 'Send a header Idempotency-Key with a value of its own, such as a random UUID, and repeat that value when repeating the request.', 'with a hint')
FROM test.post(owner(), 'regress_v1', 'items', '{"name": "q1"}', '{}') AS r;
SELECT is((SELECT count(*) FROM regress_v1.items AS i WHERE i.name = 'q1'), 0::bigint, 'none of them had an effect');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "q2"}', test.keyed('q2'))$$), '201 +1 +1 +1', 'with a key it is done');
SELECT is(test.sent($$test.request('POST', '/%69tems', owner(), 'INSERT INTO regress_v1.items (name) VALUES (''q3'') RETURNING items.*', '{}', test.keyed('q2'))$$),
	'422 PT422 the idempotency key was used for another request', 'which is the key of the path in any spelling');
SELECT is(test.sent(call), '2' || status, 'not needed: ' || what)
FROM (VALUES
	('04', 'another method', $$test.patch(owner(), 'regress_v1', 'items', 'items.name = $1', '{"qty": 9}', '{q2}', '{}')$$),
	('00', 'reading', $$test.get(owner(), 'regress_v1', 'items', 'name = $1', '{q2}')$$),
	('00', 'a function that reads', $$test.rpc(owner(), 'regress_v1', 'name_of', '{"item": "q2"}')$$),
	('01', 'another path', $$test.post(owner(), 'regress_v1', 'things', '{"name": "q4"}', '{}')$$),
	('01', 'an escape of an escape', $$test.request('POST', '/%2569tems', owner(), 'INSERT INTO regress_v1.items (name) VALUES (''q5'') RETURNING items.*')$$)
) AS r (status, what, call);
SELECT ringfence.require_idempotency_key('POST', '/items', false) \g /dev/null
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "q6"}', '{}')$$), '201', 'no longer required');

-- Requests that fail

CREATE FUNCTION regress_v1.fail(item text) RETURNS uuid LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	INSERT INTO regress_v1.items (name) VALUES (item);
	RAISE EXCEPTION 'not now' USING ERRCODE = 'PT503';
END
$$;
SELECT is(ARRAY[test.sent(call), test.sent(call)], ARRAY[status, status], 'fails, and again: ' || what)
FROM (VALUES
	('400 23514 new row for relation "items" violates check constraint "items_qty_check"', 'a check',
		$$test.post(owner(), 'regress_v1', 'items', '{"name": "f1", "qty": 0}', test.keyed('f1'))$$),
	('409 23505 duplicate key value violates unique constraint "items_name_key"', 'a key of the table''s',
		$$test.post(owner(), 'regress_v1', 'items', '[{"name": "f2"}, {"name": "a"}]', test.keyed('f2'))$$),
	('400 PGRST204 Could not find the ''nonsense'' column of ''items'' in the schema cache', 'a column that is not there',
		$$test.post(owner(), 'regress_v1', 'items', '{"nonsense": 1}', test.keyed('f3'))$$),
	('503 PT503 not now', 'a function', $$test.rpc(owner(), 'regress_v1', 'fail', '{"item": "f4"}', headers => test.keyed('f4'))$$),
	('406 PGRST116 JSON object requested, multiple (or no) rows returned', 'too many rows',
		$$test.patch(owner(), 'regress_v1', 'items', 'items.name = ANY ($1)', '{"qty": 99}', '{"{e1,e2}"}', test.keyed('f5', 'representation', '{"accept": "application/vnd.pgrst.object+json"}'))$$),
	('403 42501 new row violates row-level security policy "org_isolation" for table "items"', 'a policy',
		$$test.post(owner(), 'regress_v1', 'items', '{"name": "f6", "org_id": "0d9f6c1e-0000-7000-8000-00000000000b"}', test.keyed('f6'))$$)
) AS r (status, what, call);
INSERT INTO public.unlucky DEFAULT VALUES;
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "f7", "qty": 13}', test.keyed('f7', 'representation'))$$), '400 23514 a dozen is enough', 'fails at its end');
-- as with "Prefer: tx=rollback"
SELECT test.connection() AS web \gset
SELECT dblink_exec(:'web', 'BEGIN') \g /dev/null
SELECT * FROM dblink(:'web', format($$
	SELECT set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', %L, true), set_config('request.method', 'POST', true),
		set_config('request.path', '/items', true), set_config('request.headers', '{"idempotency-key": "f8"}', true)
$$, owner())) AS t (a text, b text, c text, d text, e text) \g /dev/null
SELECT * FROM dblink(:'web', 'SELECT ringfence.pre_request()') AS t (a text) \g /dev/null
SELECT is(dblink_exec(:'web', 'INSERT INTO regress_v1.items (name) VALUES (''f8'')'), 'INSERT 0 1', 'rolled back');
SELECT dblink_exec(:'web', 'ROLLBACK') \g /dev/null
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.key ~ '^f[1-9]'), 0::bigint, 'no key of theirs is left');
SELECT is((SELECT count(*) FROM regress_v1.items AS i WHERE i.name ~ '^f[1-9]'), 0::bigint, 'nor a row');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "f1", "qty": 1}', test.keyed('f1'))$$), '201 +1 +1 +1', 'the key is free for another request');
DELETE FROM regress_v1.items AS i WHERE i.name = 'a';
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '[{"name": "f2"}, {"name": "a"}]', test.keyed('f2'))$$), '201 +2 +2 +2', 'and for the same');
DELETE FROM regress_v1.items AS i WHERE i.name = 'e1';
SELECT is(thrice($$test.patch(owner(), 'regress_v1', 'items', 'items.name = ANY ($1)', '{"qty": 99}', '{"{e1,e2}"}', test.keyed('f5', 'representation', '{"accept": "application/vnd.pgrst.object+json"}'))$$),
	'200 +0 +1 +1', 'which now concerns one row');
DELETE FROM public.unlucky;
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "f7", "qty": 13}', test.keyed('f7', 'representation'))$$), '201 +1 +1 +1', 'or reaches its end');
SELECT is(thrice($$test.post(owner(), 'regress_v1', 'items', '{"name": "f8"}', test.keyed('f8'))$$), '201 +1 +1 +1', 'or is meant');

-- What is recorded

SELECT results_eq($$
	SELECT (k.org_id = (owner() ->> 'org_id')::uuid AND k.user_id = (owner() ->> 'sub')::uuid AND k.created_at <= now() AND k.expires_at > now())::text,
			concat_ws(' ', k.method, k.path, k.key) COLLATE "default", k.status COLLATE "default", k.headers, k.processed, k.complete
		FROM ringfence_data.idempotency_keys AS k
		WHERE k.key IN ('post-4', 'rpc') AND k.path IN ('/items', '/rpc/make_later')
		ORDER BY k.path
$$, $$VALUES
	('true', 'POST /items post-4', NULL, NULL, 1::bigint, true),
	('true', 'POST /rpc/make_later rpc', '202', '[{"Location": "/things?name=eq.m12"}, {"X-Made": "1"}]', 1, true)
$$, 'whose it is, the endpoint, and what the response was');
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.path = '/rpc/make_later'), 1::bigint, 'once');

SELECT test.disconnect() \g /dev/null
REVOKE regress_item_clerk FROM regress_web;
DROP ROLE regress_item_clerk;
SELECT * FROM finish();
