-- Secrets never reach the audit log, whether a label says so or a name, of a column
-- or of a field at any depth; personal values are kept apart from the rest, each
-- with a salt of its own. Labels and patterns count at once in every session.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(72);

-- Nothing of a secret anywhere in the log.
CREATE FUNCTION public.leaks(secret text) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l::text LIKE '%' || secret || '%'
$$;

-- Labels

CREATE TABLE public.people (id integer PRIMARY KEY, name text, pin text, note text, n integer, born date, extra jsonb);
SELECT ringfence.audit('public.people') \g /dev/null
SELECT ringfence.label('public.people', 'pin', 'secret'), ringfence.label('public.people', 'n', 'secret'),
	ringfence.label('public.people', 'name', 'personal'), ringfence.label('public.people', 'born', 'personal'),
	ringfence.label('public.people', 'extra', 'personal') \g /dev/null
SELECT set_eq($$SELECT column_name::text, label COLLATE "default" FROM ringfence.labels() WHERE relation = 'public.people'::regclass$$,
	$$VALUES ('pin', 'secret'), ('n', 'secret'), ('name', 'personal'), ('born', 'personal'), ('extra', 'personal')$$, 'labels of columns');
INSERT INTO people VALUES (1, 'Ann', 'hunter2', 'plain', 987654321, '1990-05-06', '{"k": 1}');
SELECT is((SELECT new FROM newest), '{"id": 1, "note": "plain", "pin": "[secret]", "n": "[secret]"}', 'secrets are masked, personal values are not among the others');
SELECT is((SELECT jsonb_object_agg(p.key, p.value -> 'value') FROM newest, jsonb_each(personal -> 'new') AS p),
	'{"name": "Ann", "born": "1990-05-06", "extra": {"k": 1}}', 'but apart');
SELECT is((SELECT count(*) FROM newest, jsonb_object_keys(personal)), 1::bigint, 'of one side where there is one');
SELECT ok(bool_and((SELECT array_agg(k ORDER BY k) = '{salt,value}' FROM jsonb_object_keys(p.value) AS k)), 'a salt and a value each')
	FROM newest, jsonb_each(personal -> 'new') AS p;
SELECT ok(bool_and(length(decode(p.value ->> 'salt', 'base64')) = 16) AND count(DISTINCT p.value ->> 'salt') = 3, 'salts of 16 bytes, no two the same')
	FROM newest, jsonb_each(personal -> 'new') AS p;
SELECT is(leaks('hunter2') + leaks('987654321'), 0::bigint, 'a secret is nowhere');
UPDATE people SET pin = 'hunter3', name = 'Anne';
SELECT is((SELECT concat_ws(' ', old, new, personal #> '{old,name,value}', personal #> '{new,name,value}') FROM newest),
	'{"pin": "[secret]"} {"pin": "[secret]"} "Ann" "Anne"', 'that one changed is known');
SELECT isnt((SELECT personal #>> '{old,name,salt}' FROM newest), (SELECT personal #>> '{new,name,salt}' FROM newest), 'old and new have salts of their own');
UPDATE people SET pin = pin, n = n, name = name;
SELECT is((SELECT personal #>> '{new,name,value}' FROM newest), 'Anne', 'and that none did');
UPDATE people SET name = 'Anna';
SELECT is((SELECT old IS NULL AND new IS NULL FROM newest), true, 'a change of nothing but personal values has no other');
UPDATE people SET pin = NULL, born = NULL;
SELECT is((SELECT concat_ws(' ', old, new, personal #> '{old,born,value}', personal #> '{new,born,value}') FROM newest),
	'{"pin": "[secret]"} {"pin": null} "1990-05-06" null', 'nothing is shown as nothing');
DELETE FROM people;
SELECT is((SELECT jsonb_build_array(old, personal #> '{old,name,value}', personal -> 'new') FROM newest),
	'[{"id": 1, "n": "[secret]", "note": "plain"}, "Anna", null]', 'DELETE likewise');
SELECT is(leaks('hunter'), 0::bigint, 'still nowhere');

-- Names

CREATE TABLE public.names (id integer PRIMARY KEY, "Password" text, api_key text, "user-token" text, "X.Authorization" json, "my cookie" bytea, client_secret_2 integer,
	passwort text, key text, tok_en text, secrecy text);
SELECT ringfence.audit('public.names') \g /dev/null
INSERT INTO names VALUES (1, 's', 's', 's', '{"a": 1}', 's', 5, 'a', 'b', 's', 'c');
SELECT is((SELECT new FROM newest), '{"id": 1, "Password": "[secret]", "api_key": "[secret]", "user-token": "[secret]", "X.Authorization": "[secret]", "my cookie": "[secret]",
	"client_secret_2": "[secret]", "passwort": "a", "key": "b", "tok_en": "[secret]", "secrecy": "c"}', 'columns by their names, whatever their case and separators');
SELECT ringfence.label('public.names', 'api_key', 'plain'), ringfence.label('public.names', 'Password', 'personal') \g /dev/null
UPDATE names SET api_key = 'open', "Password" = 'shut';
SELECT is((SELECT concat_ws(' ', new, personal) FROM newest), '{"api_key": "open", "Password": "[secret]"}', 'the label plain goes before a name, personal doesn''t');
SELECT ringfence.label('public.names', 'api_key', NULL) \g /dev/null
UPDATE names SET api_key = 'closed';
SELECT is((SELECT new FROM newest), '{"api_key": "[secret]"}', 'without the label it is a secret again');
SELECT is(leaks('closed'), 0::bigint, 'and nowhere');

-- Inside values

CREATE TYPE public.login AS (username text, password text);
CREATE TYPE public.account AS (id integer, logins login[]);
CREATE TABLE public.nested (id integer PRIMARY KEY, v json, b jsonb, c account, a login[], d jsonb[]);
SELECT ringfence.audit('public.nested') \g /dev/null
CREATE FUNCTION public.nest(value text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	as_json jsonb;
	as_jsonb jsonb;
BEGIN
	DELETE FROM public.nested;
	INSERT INTO public.nested (id, v, b) VALUES (1, value::json, value::jsonb);
	SELECT n.new -> 'v', n.new -> 'b' INTO as_json, as_jsonb FROM public.newest AS n;
	IF as_json IS DISTINCT FROM as_jsonb THEN
		RAISE EXCEPTION 'json is recorded as % and jsonb as %', as_json, as_jsonb;
	END IF;
	RETURN as_json;
END $$;
SELECT is(nest(t.value), t.expected::jsonb, t.value)
FROM (VALUES
	('{"token": "T"}', '{"token": "[secret]"}'),
	('{"a": {"b": [{"API-Key": "T"}, 1]}, "c": "C"}', '{"a": {"b": [{"API-Key": "[secret]"}, 1]}, "c": "C"}'),
	('[[[{"refresh_token": "T"}]]]', '[[[{"refresh_token": "[secret]"}]]]'),
	('{"token": {"type": "bearer", "deep": [1, 2]}, "z": 1}', '{"token": "[secret]", "z": 1}'),
	('{"tokens": ["T", "U"], "z": [1]}', '{"tokens": "[secret]", "z": [1]}'),
	('{"secret": {}, "cookie": []}', '{"secret": "[secret]", "cookie": "[secret]"}'),
	('{"password": 123, "passphrase": true, "otp": 1.5}', '{"password": "[secret]", "passphrase": "[secret]", "otp": "[secret]"}'),
	('{"password": null, "other": null}', '{"password": null, "other": null}'),
	('{"password": "[secret]"}', '{"password": "[secret]"}'),
	('{"pass\u0077ord": "T"}', '{"password": "[secret]"}'),
	('{"PASSWORD": "T", "p_a_s_s_w_o_r_d": "T", "my.pass word": "T"}', '{"PASSWORD": "[secret]", "p_a_s_s_w_o_r_d": "[secret]", "my.pass word": "[secret]"}'),
	('{"a": {"token": {"token": {"x": "T"}}}, "b": {"c": {"cvv": "T", "d": 1}, "e": 2}}', '{"a": {"token": "[secret]"}, "b": {"c": {"cvv": "[secret]", "d": 1}, "e": 2}}'),
	('{"a": "my password is shown", "": "x"}', '{"a": "my password is shown", "": "x"}'),
	('"password"', '"password"'),
	('["token", "T"]', '["token", "T"]'),
	('{}', '{}')
) AS t (value, expected);
SELECT is(nest((SELECT jsonb_object_agg('k' || g, CASE WHEN g % 100 = 0 THEN '{"token": "T"}'::jsonb ELSE to_jsonb(g) END) FROM generate_series(1, 1000) AS g)::text),
	(SELECT jsonb_object_agg('k' || g, CASE WHEN g % 100 = 0 THEN '{"token": "[secret]"}'::jsonb ELSE to_jsonb(g) END) FROM generate_series(1, 1000) AS g), 'in a wide object');
SELECT is(nest(repeat('{"a":', 500) || '{"token": "T"}' || repeat('}', 500)), (repeat('{"a":', 500) || '{"token": "[secret]"}' || repeat('}', 500))::jsonb, 'in a deep one');
SELECT is(nest('{"' || repeat('long', 100) || 'pass_word": "T", "' || repeat('_', 300) || 'token": "T"}'),
	jsonb_build_object(repeat('long', 100) || 'pass_word', '[secret]', repeat('_', 300) || 'token', '[secret]'), 'behind long names');
TRUNCATE nested;
INSERT INTO nested (id, c, a, d) VALUES (2, '(5,"{""(ann,T3cret)"",""(bob,)""}")', '{"(ann,T3cret)"}', ARRAY['{"token": "T3cret"}', '[1]']::jsonb[]);
SELECT is((SELECT new FROM newest), '{"id": 2, "c": {"id": 5, "logins": [{"username": "ann", "password": "[secret]"}, {"username": "bob", "password": null}]},
	"a": [{"username": "ann", "password": "[secret]"}], "d": [{"token": "[secret]"}, [1]]}', 'in composites, their arrays, and arrays of JSON');
UPDATE nested SET c.logins[1].password = 'T3cret2';
SELECT is((SELECT new FROM newest), (SELECT old FROM newest), 'that one in a composite changed is known, and not to what');
SELECT is(leaks('T3cret'), 0::bigint, 'none of it is anywhere');
-- What jsonb can't hold is recorded as text, or not at all where that may tell a secret.
DELETE FROM nested;
INSERT INTO nested (id, v) VALUES (3, '{"password": "T3cret", "n": "\u0000"}'), (4, '{"pass\u0077ord": "T3cret", "n": "\u0000"}'),
	(5, '{"\u0070assword": "T3cret", "n": "\ud800"}'), (6, '{"to\u006bEN": "T3cret", "n": 1e400000}');
SELECT is(leaks('T3cret'), 0::bigint, 'also in what jsonb can''t hold');
INSERT INTO nested (id, v) VALUES (7, '{"n": "\u0000", "open": "shown"}');
SELECT is((SELECT new ->> 'v' FROM newest), '{"n": "\u0000", "open": "shown"}', 'without one it is shown');
SELECT ringfence.label('public.nested', 'b', 'plain'), ringfence.label('public.nested', 'v', 'personal') \g /dev/null
INSERT INTO nested (id, v, b) VALUES (8, '{"token": "T3cret", "x": 1}', '{"token": "T3cret", "x": 1}');
SELECT is((SELECT jsonb_build_array(new -> 'b', personal #> '{new,v,value}') FROM newest), '[{"token": "[secret]", "x": 1}, {"token": "[secret]", "x": 1}]',
	'a label of the column doesn''t open what is inside');

-- Keys

CREATE TABLE public.tokens (token text PRIMARY KEY, password text);
SELECT ringfence.audit('public.tokens') \g /dev/null
INSERT INTO tokens VALUES ('t1', 'p');
SELECT is((SELECT key || new FROM newest), 't1{"token": "t1", "password": "[secret]"}', 'a key is shown whatever its name: without it a record would tell of no row');

-- Partitions and children, renamed and dropped columns

CREATE TABLE public.base (id integer PRIMARY KEY, ssn text);
CREATE TABLE public.derived (more text) INHERITS (public.base);
SELECT ringfence.audit('public.base') \g /dev/null
SELECT ringfence.label('public.base', 'ssn', 'secret'), ringfence.label('public.derived', 'more', 'personal') \g /dev/null
INSERT INTO derived VALUES (1, '123-45', 'm');
SELECT is((SELECT concat_ws(' ', new, personal #> '{new,more,value}') FROM newest), '{"id": 1, "ssn": "[secret]"} "m"', 'a child has its parent''s labels and its own');
SELECT ringfence.label('public.derived', 'ssn', 'plain') \g /dev/null
UPDATE derived SET ssn = '999-99';
SELECT is((SELECT new FROM newest), '{"ssn": "[secret]"}', 'of two labels the stricter one counts');
CREATE TABLE public.split (k integer, card text) PARTITION BY LIST (k);
CREATE TABLE public.split1 PARTITION OF public.split FOR VALUES IN (1);
SELECT ringfence.audit('public.split'), ringfence.label('public.split', 'card', 'secret') \g /dev/null
CREATE TABLE public.split2 PARTITION OF public.split FOR VALUES IN (2);
INSERT INTO split VALUES (1, '4111'), (2, '4222');
INSERT INTO split2 VALUES (2, '4333');
SELECT is(leaks('"4[123]'), 0::bigint, 'a partition has those of the table');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE new ->> 'card' = '[secret]'), 3::bigint, 'made later as well');
ALTER TABLE public.split RENAME card TO pan;
INSERT INTO split VALUES (1, '4444');
SELECT is((SELECT new FROM newest), '{"k": 1, "pan": "[secret]"}', 'a renamed column keeps its label');
BEGIN;
ALTER TABLE public.split DROP pan;
ALTER TABLE public.split ADD pan text;
INSERT INTO split VALUES (1, 'open');
SELECT is((SELECT new FROM newest), '{"k": 1, "pan": "open"}', 'one that was dropped and made again is another column');
ROLLBACK;
INSERT INTO split VALUES (1, '4555');
SELECT is((SELECT new FROM newest), '{"k": 1, "pan": "[secret]"}', 'unless that is rolled back');

-- At once, and back

BEGIN;
SELECT ringfence.label('public.people', 'note', 'secret') \g /dev/null
INSERT INTO people (id, note) VALUES (2, 'T4cret');
SELECT is((SELECT new FROM newest), '{"id": 2, "note": "[secret]"}', 'a label counts in its own transaction');
ROLLBACK;
INSERT INTO people (id, note) VALUES (2, 'shown');
SELECT is((SELECT new FROM newest), '{"id": 2, "note": "shown"}', 'and goes with it');
SELECT dblink_connect('other', format('dbname=%L host=%L port=%L user=postgres', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))) \g /dev/null
SELECT dblink_exec('other', 'INSERT INTO public.people (id, note) VALUES (3, ''before'')') \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 3, "note": "before"}', 'another session');
SELECT ringfence.label('public.people', 'note', 'secret') \g /dev/null
SELECT dblink_exec('other', 'INSERT INTO public.people (id, note) VALUES (4, ''T4cret'')') \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 4, "note": "[secret]"}', 'has the new label at its next write');
UPDATE ringfence_data.columns SET label = 'plain' WHERE relation = 'public.people'::regclass AND column_name = 'note';
SELECT dblink_exec('other', 'INSERT INTO public.people (id, note) VALUES (5, ''plain'')') \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 5, "note": "plain"}', 'also one that was not given by label()');
DELETE FROM ringfence_data.columns WHERE relation = 'public.people'::regclass;
SELECT dblink_exec('other', 'INSERT INTO public.people (id, pin) VALUES (6, ''now plain'')') \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 6, "pin": "now plain"}', 'or that was taken away');
INSERT INTO ringfence_data.secret_names (pattern) VALUES ('note');
SELECT dblink_exec('other', $$INSERT INTO public.people (id, note, extra) VALUES (7, 'T4cret', '{"foot_notes": "T4cret", "pin": 1}')$$) \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 7, "note": "[secret]", "extra": {"foot_notes": "[secret]", "pin": 1}}', 'a new pattern likewise, for columns and fields');
UPDATE ringfence_data.secret_names SET pattern = 'pin' WHERE pattern = 'note';
SELECT dblink_exec('other', $$INSERT INTO public.people (id, note, extra) VALUES (8, 'shown', '{"foot_notes": "shown", "pin": 1}')$$) \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 8, "note": "shown", "extra": {"foot_notes": "shown", "pin": "[secret]"}}', 'another one in its place');
TRUNCATE ringfence_data.secret_names;
SELECT dblink_exec('other', $$INSERT INTO public.people (id, extra) VALUES (9, '{"password": "shown"}')$$) \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 9, "extra": {"password": "shown"}}', 'without any pattern no name is secret');
SELECT ringfence.label('public.people', 'note', 'secret') \g /dev/null
SELECT dblink_exec('other', 'INSERT INTO public.people (id, note) VALUES (10, ''T4cret'')') \g /dev/null
TRUNCATE ringfence_data.columns;
SELECT dblink_exec('other', 'INSERT INTO public.people (id, note) VALUES (11, ''no label'')') \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 11, "note": "no label"}', 'nor any column without a label');
SELECT is(leaks('T4cret'), 0::bigint, 'what was a secret when it was written is nowhere');
SELECT dblink_disconnect('other') \g /dev/null

-- Who may say so

SELECT throws_ok($$SELECT ringfence.label('public.people', 'note', 'private')$$, '22023', 'invalid label "private"', 'a label that there isn''t');
SELECT throws_ok($$SELECT ringfence.label('public.people', 'nothing', 'secret')$$, '42703', 'column "nothing" of table public.people does not exist', 'a column that there isn''t');
SELECT throws_ok($$SELECT ringfence.label(NULL, 'note', 'secret')$$, '22004', 'table and column must be given', 'no table');
SELECT lives_ok($$SELECT ringfence.label('public.people', 'note', 'secret')$$, 'the database''s owner labels');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok($$SELECT ringfence.label('public.people', 'note', 'plain')$$, '42501', 'permission denied for function label', 'a member doesn''t');
SELECT throws_ok($$DELETE FROM ringfence_data.columns$$, '42501', 'permission denied for table columns', 'nor takes a label away');
SELECT throws_ok($$DELETE FROM ringfence_data.secret_names$$, '42501', 'permission denied for table secret_names', 'or a pattern');
COMMIT;
SET SESSION AUTHORIZATION regress_operator;
SELECT throws_ok($$SELECT ringfence.label('public.people', 'note', 'plain')$$, '42501', 'permission denied for function label', 'nor does an operator');
SELECT throws_ok($$UPDATE ringfence_data.columns SET label = 'plain'$$, '42501', 'permission denied for table columns', 'or change one');
RESET SESSION AUTHORIZATION;
SELECT results_eq($$
	SELECT l.operation COLLATE "default", l.old ->> 'label', l.new ->> 'label'
	FROM ringfence_data.audit_log AS l INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	WHERE r.name = 'ringfence_data.columns' AND (l.key LIKE '%"note"]' OR l.operation = 'TRUNCATE')
	ORDER BY l.recorded_at, l.id$$,
	$$VALUES ('INSERT', NULL, 'secret'), ('UPDATE', 'secret', 'plain'), ('DELETE', 'plain', NULL), ('INSERT', NULL, 'secret'), ('TRUNCATE', NULL, NULL),
		('INSERT', NULL, 'secret')$$, 'changes of labels are on record themselves');

SELECT * FROM finish();
