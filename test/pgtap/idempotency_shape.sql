-- An answer that was recorded is given again only in the form in which it was: if
-- columns, types or functions have changed since, the repetition is refused (PT409),
-- has no effect and does no harm, and neither does a record that somebody damaged.
\ir include/idempotency.sql
SET client_min_messages = warning;
SELECT plan(45);

CREATE FUNCTION public.shape() RETURNS text LANGUAGE sql IMMUTABLE RETURN 'PT409 the answer to the idempotency key was recorded under another shape';

-- Columns of a table

CREATE TABLE public.t (a integer, b text, c numeric(10, 2));
\set insert '$$INSERT INTO t (a, b, c) VALUES (1, ''x'', 1.26), (NULL, NULL, NULL) RETURNING *$$'
SELECT is(test.once('t', :insert, 3), '(1,x,1.26), (,,)', 'an answer');
ALTER TABLE public.t ADD d integer;
SELECT is(test.once('t', :insert, 4), shape(), 'a column was added');
ALTER TABLE public.t DROP d;
SELECT is(test.once('t', :insert, 3), '(1,x,1.26), (,,)', 'and dropped again');
ALTER TABLE public.t RENAME b TO d;
ALTER TABLE public.t ADD b text;
SELECT is(test.once('t', :insert, 4), shape(), 'one was renamed and another took its name');
ALTER TABLE public.t DROP d;
SELECT is(test.once('t', :insert, 3), shape(), 'they have another order now');
ALTER TABLE public.t RENAME TO u;
CREATE TABLE public.t (a bigint, b text, c numeric(10, 2));
SELECT is(test.once('t', :insert, 3), shape(), 'one has another type');
ALTER TABLE public.t ALTER a TYPE integer, ALTER c TYPE numeric(10, 1);
SELECT is(test.once('t', :insert, 3), '(1,x,1.26), (,,)', 'another precision: values are what they were');
ALTER TABLE public.t ALTER c TYPE numeric(10, 2), ALTER b TYPE varchar(10);
SELECT is(test.once('t', :insert, 3), shape(), 'or another type that holds less');
DROP TABLE public.t;
CREATE TABLE public.t (c numeric(10, 2), b text, a integer);
SELECT is(test.once('t', :insert, 3), shape(), 'the same in another order');
DROP TABLE public.t;
SELECT is(test.once('t', :insert, 3), '42P01 relation "t" does not exist', 'the table is gone');
CREATE VIEW public.t AS SELECT a, b, c FROM public.u;
SELECT is(test.once('t', :insert, 3), '(1,x,1.26), (,,)', 'the answer fits whatever has its columns');
SELECT is((SELECT count(*) FROM u), 2::bigint, 'one effect in all');

-- Types

CREATE TYPE public.mood AS ENUM ('sad', 'glad', 'new');
CREATE TYPE public.pair AS (a integer, b integer);
CREATE TYPE public.nest AS (one pair, two integer);
CREATE TYPE public.span AS RANGE (subtype = integer);
CREATE DOMAIN public.small AS integer CHECK (VALUE < 10);
CREATE DOMAIN public.good AS public.pair CHECK ((VALUE).a > 0);
CREATE TABLE public.v (n integer);
CREATE FUNCTION public.typed(what text) RETURNS text LANGUAGE sql
AS $$ SELECT test.once('typed ' || what, format('INSERT INTO v VALUES (1) RETURNING %s', what)) $$;
CREATE TABLE public.typings AS
SELECT what, typed(what) AS answer
FROM unnest(ARRAY['''sad''::mood', '''glad''::mood', 'ARRAY[''sad'']::mood[]', 'ROW (1, 2)::pair', 'ARRAY[ROW (1, 2)]::pair[]', 'ROW (1, 2)::good', 'ROW (ROW (1, 2), 3)::nest', '5::small', 'int4range(1, 2)', 'v',
	'''[1,2]''::span']) AS what;
SELECT results_eq('SELECT answer FROM typings', ARRAY['sad', 'glad', '{sad}', '(1,2)', '{"(1,2)"}', '(1,2)', '("(1,2)",3)', '5', '[1,2)', '(1)', '[1,2]'], 'answers of types of one''s own');
CREATE FUNCTION public.changed() RETURNS text LANGUAGE sql
AS $$ SELECT coalesce(string_agg(t.what, '; ' ORDER BY t.what), 'none') FROM public.typings AS t WHERE typed(t.what) = shape() $$;
CREATE FUNCTION public.same() RETURNS bigint LANGUAGE sql
AS $$ SELECT count(*) FROM public.typings AS t WHERE typed(t.what) = t.answer $$;
SELECT is(same(), 11::bigint, 'given again');
CREATE FUNCTION public.feel() RETURNS mood LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (2); SELECT enum_first(NULL::mood)';
CREATE FUNCTION public.feel_all() RETURNS mood[] LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (2); SELECT enum_range(NULL::mood)';
SELECT is(ARRAY[test.once('feel', 'SELECT feel()'), test.once('feel all', 'SELECT feel_all()')], '{sad,"{sad,glad,new}"}', 'labels');
ALTER TYPE public.mood RENAME VALUE 'new' TO 'newer';
SELECT is(ARRAY[test.once('feel', 'SELECT feel()'), test.once('feel all', 'SELECT feel_all()')], ARRAY['sad', shape()], 'one was renamed: an answer that has it');
ALTER TYPE public.mood RENAME VALUE 'sad' TO 'blue';
SELECT is(test.once('feel', 'SELECT feel()'), shape(), 'another one too');
ALTER TYPE public.mood RENAME VALUE 'blue' TO 'sad';
ALTER TYPE public.mood RENAME VALUE 'newer' TO 'new';
ALTER TYPE public.mood ADD VALUE 'wild' BEFORE 'sad';
SELECT is(ARRAY[test.once('feel', 'SELECT feel()'), test.once('feel all', 'SELECT feel_all()')], '{sad,"{sad,glad,new}"}', 'back, with one more');
SELECT is((SELECT count(*) FROM v WHERE n = 2), 2::bigint, 'one effect each');
ALTER TYPE public.pair RENAME ATTRIBUTE a TO x;
ALTER TYPE public.pair RENAME ATTRIBUTE b TO a;
ALTER TYPE public.pair RENAME ATTRIBUTE x TO b;
SELECT is(changed(), 'ARRAY[ROW (1, 2)]::pair[]; ROW (1, 2)::good; ROW (1, 2)::pair; ROW (ROW (1, 2), 3)::nest', 'attributes changed their names: wherever the type is');
ALTER TYPE public.pair RENAME ATTRIBUTE a TO x;
ALTER TYPE public.pair RENAME ATTRIBUTE b TO a;
ALTER TYPE public.pair RENAME ATTRIBUTE x TO b;
SELECT is(same(), 11::bigint, 'and back');
ALTER TABLE public.v ADD w integer;
SELECT is(changed(), 'v', 'a row of a table that has more columns');
ALTER TABLE public.v DROP w;
SELECT is(same(), 11::bigint, 'and has not');
ALTER DOMAIN public.small DROP CONSTRAINT small_check;
ALTER DOMAIN public.small ADD CHECK (VALUE > 10) NOT VALID;
SELECT is(test.once('typed 5::small', 'INSERT INTO v VALUES (1) RETURNING 5::small'), '5', 'a domain that no longer has a value: it is what it was');
ALTER DOMAIN public.small DROP CONSTRAINT small_check;
CREATE FUNCTION public.five() RETURNS small LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO v VALUES (5); RETURN 5; END $$;
SELECT is(test.once('five', 'SELECT five()'), '5', 'a value of a domain');
CREATE FUNCTION public.note_check(n integer) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO public.v VALUES (6); RETURN n > 10; END $$;
ALTER DOMAIN public.small ADD CHECK (note_check(VALUE)) NOT VALID;
SELECT is(test.once('five', 'SELECT five()'), '5', 'is the same, whatever the domain asks now');
SELECT is((SELECT array_agg(n) FROM v WHERE n IN (5, 6)), '{5}', 'which is asked nothing');
ALTER DOMAIN public.small DROP CONSTRAINT small_check;

-- Functions

CREATE FUNCTION public.f() RETURNS TABLE (a integer, b text) LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (10) RETURNING n, ''first''';
SELECT is(test.once('f', 'SELECT * FROM f()', 2), '(10,first)', 'a function''s answer');
CREATE OR REPLACE FUNCTION public.f() RETURNS TABLE (a integer, b text) LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (10) RETURNING n, ''second''';
SELECT is(test.once('f', 'SELECT * FROM f()', 2), '(10,first)', 'one with another body is not asked');
DROP FUNCTION public.f();
SELECT is(test.once('f', 'SELECT * FROM f()', 2), '42883 function f() does not exist', 'there is none');
CREATE FUNCTION public.f() RETURNS TABLE (a integer, c text) LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (10) RETURNING n, ''third''';
SELECT is(test.once('f', 'SELECT * FROM f()', 2), shape(), 'with other names');
DROP FUNCTION public.f();
CREATE FUNCTION public.f() RETURNS TABLE (b text, a integer) LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (10) RETURNING ''fourth'', n';
SELECT is(test.once('f', 'SELECT * FROM f()', 2), shape(), 'in another order');
DROP FUNCTION public.f();
CREATE FUNCTION public.f() RETURNS TABLE (a bigint, b text) LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (10) RETURNING n::bigint, ''fifth''';
SELECT is(test.once('f', 'SELECT * FROM f()', 2), shape(), 'of other types');
DROP FUNCTION public.f();
CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql VOLATILE AS 'INSERT INTO v VALUES (10) RETURNING n';
SELECT is(test.once('f', 'SELECT * FROM f()'), shape(), 'a scalar');
DROP FUNCTION public.f();
CREATE FUNCTION public.f(OUT a integer, OUT b text) LANGUAGE sql IMMUTABLE AS 'SELECT 1, ''read only''';
SELECT is(test.once('f', 'SELECT * FROM f()', 2), '(1,"read only")', 'one that only reads needs no key');
SELECT is((SELECT count(*) FROM v WHERE n = 10), 1::bigint, 'one effect in all');

-- What PostgREST answers with is a body, which has no columns.

CREATE SCHEMA regress_v1;
GRANT USAGE ON SCHEMA regress_v1 TO ringfence_member;
CREATE TABLE regress_v1.items (id uuid NOT NULL DEFAULT ringfence.uuid7(), name text NOT NULL);
SELECT ringfence.protect('regress_v1.items', '{"owner": "all"}') \g /dev/null
\set post '$$test.post(test.claims(''Alder Clean'', ''owner''), ''regress_v1'', ''items'', ''{"name": "x"}'', test.keyed(''shape'', ''representation''))$$'
SELECT is(test.sent(:post), '201', 'a request');
ALTER TABLE regress_v1.items ADD qty integer NOT NULL DEFAULT 1;
SELECT is(test.sent(:post), '201 again', 'is answered as it was when there are more columns');
ALTER TABLE regress_v1.items RENAME name TO label;
SELECT is(test.sent(:post), '400 PGRST204 Could not find the ''name'' column of ''items'' in the schema cache', 'as long as it means something');
SELECT is((SELECT count(*) FROM regress_v1.items), 1::bigint, 'one effect');

-- A record that somebody damaged

CREATE TABLE public.d (a integer, b text, c numeric);
\set insert '$$INSERT INTO d VALUES (1, ''one'', 1.5), (2, NULL, 2) RETURNING *$$'
SELECT is(test.once('damage', :insert, 3), '(1,one,1.5), (2,,2)', 'an answer');
SELECT k.response AS whole, test.answer('SELECT pg_backend_pid()') AS pid FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'damage' \gset
CREATE TABLE public.damages (what text, answer text);
CREATE PROCEDURE public.damage(what text, response bytea) LANGUAGE plpgsql
AS $$
DECLARE
	answer text;
BEGIN
	UPDATE ringfence_data.idempotency_keys AS k SET response = damage.response WHERE k.key = 'damage';
	COMMIT;
	answer := test.once('damage', 'INSERT INTO d VALUES (1, ''one'', 1.5), (2, NULL, 2) RETURNING *', 3);
	BEGIN
		PERFORM convert_from(convert_to(answer, 'UTF8'), 'UTF8');
	EXCEPTION WHEN character_not_in_repertoire THEN
		answer := 'no text';
	END;
	INSERT INTO public.damages VALUES (what, regexp_replace(answer, '^\(.*\), \(.*\)$', 'rows'));
END
$$;
CREATE PROCEDURE public.damage_all(whole bytea) LANGUAGE plpgsql
AS $$
BEGIN
	FOR n IN 0 .. length(whole) - 1 LOOP
		CALL public.damage('cut short', substr(whole, 1, n));
		FOR bit IN n * 8 .. n * 8 + 7 LOOP
			CALL public.damage('a bit', set_bit(whole, bit, 1 - get_bit(whole, bit)));
		END LOOP;
	END LOOP;
	CALL public.damage('longer', whole || '\x00');
	CALL public.damage('gone', NULL);
	CALL public.damage('whole', whole);
END
$$;
CALL public.damage_all(:'whole');
SELECT results_eq('SELECT d.what, array_agg(DISTINCT split_part(d.answer, '' '', 1)) FROM damages AS d GROUP BY 1 ORDER BY 1', $$VALUES
	('a bit', '{PT409,XX001,rows}'::text[]), ('cut short', '{PT409,XX001}'), ('gone', '{PT409}'), ('longer', '{XX001}'), ('whole', '{rows}')$$, 'is refused, or read if it makes sense');
SELECT is(array_agg(DISTINCT d.answer), '{"XX001 the answer to the idempotency key cannot be read"}', 'with an error that says so') FROM damages AS d WHERE d.answer LIKE 'XX%';
SELECT is(test.answer('SELECT pg_backend_pid()'), :'pid', 'nobody crashed');
SELECT is((SELECT count(*) FROM d), 2::bigint, 'one effect in all');
SELECT * FROM finish();
