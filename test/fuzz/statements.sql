-- What random statements meet: tables of every kind, with triggers that write,
-- raise and catch; columns of many types; functions with effects. Each of those
-- draws from a sequence, which no rollback hides. f.refill() makes all as it was,
-- f.state() tells what there is.

SET check_function_bodies = off;
CREATE SCHEMA f;
CREATE SEQUENCE f.effects;
CREATE SEQUENCE f.numbers START 1000;
CREATE TYPE f.mood AS ENUM ('calm', 'glad', 'so, "so"');
CREATE TYPE f.pair AS (x integer, y text);
CREATE TYPE f.floats AS RANGE (subtype = double precision);
CREATE DOMAIN f.small AS integer CHECK (VALUE BETWEEN -100 AND 1000);
CREATE DOMAIN f.mark AS f.pair CHECK ((VALUE).x IS DISTINCT FROM -1);
CREATE DOMAIN f.smalls AS f.small[];

CREATE TABLE f.log (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text, a integer);

-- --- Functions ---

CREATE FUNCTION f.effect(what text, a integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('f.effects');
	INSERT INTO f.log (what, a) VALUES (effect.what, effect.a);
END $$;
CREATE FUNCTION f.vol(n integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('vol', n);
	RETURN n * 2;
END $$;
CREATE FUNCTION f.vol_sql(n integer) RETURNS integer LANGUAGE sql AS 'SELECT f.vol($1) + 1';
CREATE FUNCTION f.vol_void(n integer) RETURNS void LANGUAGE sql AS $$SELECT f.effect('void', $1)$$;
CREATE FUNCTION f.vol_bool(n integer) RETURNS boolean LANGUAGE sql AS 'SELECT f.vol($1) % 3 <> 0';
CREATE FUNCTION f.vol_text(n integer) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('text', n);
	RETURN repeat('tä"x', n % 5);
END $$;
CREATE FUNCTION f.vol_json(n integer) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO f.log (what, a) VALUES ('json', n);
	SELECT jsonb_build_object('n', n, 'log', nextval('f.effects'));
$$;
CREATE FUNCTION f.vol_set(n integer) RETURNS SETOF integer LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n % 4 LOOP
		PERFORM f.effect('set', i);
		RETURN NEXT i;
	END LOOP;
END $$;
CREATE FUNCTION f.vol_table(n integer) RETURNS TABLE (id integer, b text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('table', n);
	RETURN QUERY SELECT g, md5(g::text) FROM generate_series(1, n % 6) AS g;
END $$;
CREATE FUNCTION f.vol_pair(n integer) RETURNS f.pair LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('pair', n);
	RETURN CASE WHEN n % 4 <> 0 THEN ROW(n, 'p,"' || n)::f.pair END;
END $$;
CREATE FUNCTION f.vol_out(n integer, OUT p integer, OUT q text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('out', n);
	p := n;
	q := 'q';
END $$;
CREATE FUNCTION f.vol_raise(n integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('raise', n);
	IF n % 3 = 0 THEN
		RAISE EXCEPTION 'it is %', n USING ERRCODE = 'PT402';
	END IF;
	RETURN n;
END $$;
-- Its subtransactions end both ways.
CREATE FUNCTION f.vol_catch(n integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text := '';
BEGIN
	FOR i IN n .. n + 2 LOOP
		BEGIN
			PERFORM f.vol_raise(i);
			said := said || i;
		EXCEPTION WHEN SQLSTATE 'PT402' THEN
			said := said || SQLERRM;
		END;
	END LOOP;
	RETURN said;
END $$;
CREATE FUNCTION f.vol_respond(n integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('respond', n);
	PERFORM set_config('response.status', (200 + n % 5)::text, true);
	PERFORM set_config('response.headers', '[{"X-N": "' || n || '"}]', true);
	RETURN n;
END $$;
CREATE FUNCTION f.vol_equal(integer, integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('equal', $1);
	RETURN $1 % 5 = $2 % 5;
END $$;
CREATE OPERATOR f.=% (FUNCTION = f.vol_equal, LEFTARG = integer, RIGHTARG = integer);
CREATE FUNCTION f.vol_step(integer, integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('step', $2);
	RETURN $1 + coalesce($2, 0);
END $$;
CREATE AGGREGATE f.vol_sum (integer) (SFUNC = f.vol_step, STYPE = integer, INITCOND = '0');
CREATE FUNCTION f.stable(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT count(*)::integer + n FROM f.log';
CREATE FUNCTION f.stable_set(n integer) RETURNS SETOF integer LANGUAGE sql STABLE ROWS 5 AS
	'SELECT id FROM f.plain WHERE id <= n ORDER BY id';
CREATE FUNCTION f.exact(n integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT n * n % 97';

-- --- Triggers ---

CREATE FUNCTION f.before_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('f.effects');
	IF TG_OP = 'DELETE' THEN
		RETURN CASE WHEN OLD.a % 11 <> 0 THEN OLD END;
	END IF;
	NEW.b := left(NEW.b, 50) || '+';
	IF NEW.a % 13 = 0 AND NEW.a <> 0 THEN
		RAISE EXCEPTION 'unlucky %', NEW.a USING ERRCODE = 'check_violation';
	END IF;
	BEGIN
		NEW.b := NEW.b || 6 / (NEW.a % 3);
	EXCEPTION WHEN division_by_zero THEN
		INSERT INTO f.log (what, a) VALUES (TG_OP || ' caught', NEW.a);
	END;
	RETURN CASE WHEN NEW.a % 11 IS DISTINCT FROM 0 THEN NEW END;
END $$;
CREATE FUNCTION f.after_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect(TG_NAME || ' ' || TG_OP, CASE TG_OP WHEN 'DELETE' THEN OLD.a ELSE NEW.a END);
	IF TG_OP = 'INSERT' AND NEW.a = 7 THEN
		RAISE NOTICE 'seven';
	END IF;
	IF TG_OP <> 'DELETE' AND NEW.a = 77 THEN
		RAISE EXCEPTION 'never 77';
	END IF;
	RETURN NULL;
END $$;
CREATE FUNCTION f.each_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect(TG_WHEN || ' ' || TG_OP, -1);
	RETURN NULL;
END $$;
CREATE FUNCTION f.with_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('rows', (SELECT sum(r.a)::integer FROM rows AS r));
	RETURN NULL;
END $$;
CREATE FUNCTION f.instead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM f.effect('instead ' || TG_OP, CASE TG_OP WHEN 'DELETE' THEN OLD.a ELSE NEW.a END);
	CASE TG_OP
		WHEN 'INSERT' THEN
			INSERT INTO f.plain (id, a, b) VALUES (NEW.id, NEW.a, NEW.b) RETURNING id, a, b INTO NEW.id, NEW.a, NEW.b;
			RETURN NEW;
		WHEN 'UPDATE' THEN
			UPDATE f.plain AS p SET a = NEW.a, b = NEW.b WHERE p.id = OLD.id;
			RETURN CASE WHEN FOUND THEN NEW END;
		ELSE
			DELETE FROM f.plain AS p WHERE p.id = OLD.id;
			RETURN OLD;
	END CASE;
END $$;

-- --- Tables: all have id, a, b ---

CREATE TABLE f.plain (
	id integer GENERATED BY DEFAULT AS IDENTITY (START 200) PRIMARY KEY,
	a integer,
	b text DEFAULT 'none'
);
CREATE TABLE f.made (
	id integer DEFAULT nextval('f.numbers') PRIMARY KEY,
	a integer CHECK (a > -1000),
	b text,
	double integer GENERATED ALWAYS AS (a * 2) STORED,
	at timestamptz DEFAULT '2020-01-01 12:00Z',
	serial integer GENERATED ALWAYS AS IDENTITY
);
CREATE TABLE f.wide (id integer PRIMARY KEY, a integer, b text);
ALTER TABLE f.wide ALTER COLUMN b SET STORAGE EXTERNAL;
CREATE TABLE f.hooked (id integer PRIMARY KEY, a integer, b text);
CREATE TRIGGER a_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON f.hooked EXECUTE FUNCTION f.each_statement();
CREATE TRIGGER b_row BEFORE INSERT OR UPDATE OR DELETE ON f.hooked FOR EACH ROW EXECUTE FUNCTION f.before_row();
CREATE TRIGGER c_row AFTER INSERT OR UPDATE OR DELETE ON f.hooked FOR EACH ROW EXECUTE FUNCTION f.after_row();
CREATE TRIGGER d_statement AFTER INSERT OR UPDATE OR DELETE ON f.hooked EXECUTE FUNCTION f.each_statement();
CREATE TRIGGER e_rows AFTER INSERT ON f.hooked REFERENCING NEW TABLE AS rows EXECUTE FUNCTION f.with_rows();
CREATE TRIGGER f_rows AFTER UPDATE ON f.hooked REFERENCING OLD TABLE AS rows EXECUTE FUNCTION f.with_rows();
CREATE CONSTRAINT TRIGGER g_late AFTER INSERT OR UPDATE ON f.hooked DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION f.after_row();

CREATE TABLE f.parent (id integer PRIMARY KEY, a integer UNIQUE DEFERRABLE INITIALLY DEFERRED, b text);
CREATE TABLE f.child (
	id integer PRIMARY KEY,
	a integer REFERENCES f.parent ON UPDATE CASCADE ON DELETE CASCADE,
	b text
);
CREATE TRIGGER c_row AFTER INSERT OR UPDATE OR DELETE ON f.child FOR EACH ROW EXECUTE FUNCTION f.after_row();
CREATE TABLE f.late (
	id integer PRIMARY KEY,
	a integer REFERENCES f.parent DEFERRABLE INITIALLY DEFERRED,
	b text
);

CREATE TABLE f.parted (id integer NOT NULL, a integer NOT NULL, b text, PRIMARY KEY (id, a)) PARTITION BY RANGE (a);
CREATE TABLE f.parted_low PARTITION OF f.parted FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE f.parted_mid PARTITION OF f.parted FOR VALUES FROM (10) TO (30) PARTITION BY LIST (a);
CREATE TABLE f.parted_mid_few (b text, id integer NOT NULL, gone integer, a integer NOT NULL);
ALTER TABLE f.parted_mid_few DROP COLUMN gone;
ALTER TABLE f.parted_mid ATTACH PARTITION f.parted_mid_few FOR VALUES IN (10, 11, 12, 20);
CREATE TABLE f.parted_mid_rest PARTITION OF f.parted_mid DEFAULT;
CREATE TABLE f.parted_high PARTITION OF f.parted FOR VALUES FROM (30) TO (90);
CREATE TRIGGER b_row BEFORE INSERT OR UPDATE OR DELETE ON f.parted_high FOR EACH ROW EXECUTE FUNCTION f.before_row();
CREATE TRIGGER c_row AFTER INSERT OR UPDATE OR DELETE ON f.parted FOR EACH ROW EXECUTE FUNCTION f.after_row();
CREATE TRIGGER d_statement AFTER UPDATE OR DELETE ON f.parted EXECUTE FUNCTION f.each_statement();

CREATE TABLE f.elder (id integer PRIMARY KEY, a integer, b text);
CREATE TABLE f.heir (c text DEFAULT 'c') INHERITS (f.elder);
CREATE TRIGGER c_row AFTER INSERT OR UPDATE OR DELETE ON f.heir FOR EACH ROW EXECUTE FUNCTION f.after_row();

CREATE UNLOGGED TABLE f.secured (id integer PRIMARY KEY, a integer, b text);
ALTER TABLE f.secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON f.secured USING (a % 7 <> 3) WITH CHECK (a % 7 <> 4);

-- Its changes are recorded. A superuser writes it without a context.
INSERT INTO ringfence_data.orgs (id, name) VALUES ('0aaaaaaa-0000-7000-8000-00000000000a', 'A');
INSERT INTO ringfence_data.users (id, email, name) VALUES ('0aaaaaaa-0000-7000-8000-0000000000aa', 'a@example.com', 'Owner');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles)
VALUES ('0aaaaaaa-0000-7000-8000-00000000000a', '0aaaaaaa-0000-7000-8000-0000000000aa', '{owner}');
CREATE TABLE f.audited (id integer NOT NULL, a integer, b text);
SELECT ringfence.protect('f.audited', '{"owner": "all"}') \g /dev/null
ALTER TABLE f.audited ALTER COLUMN org_id SET DEFAULT '0aaaaaaa-0000-7000-8000-00000000000a';
CREATE SEQUENCE f.audit_log_before;

CREATE TABLE f.ruled (id integer PRIMARY KEY, a integer, b text);
CREATE RULE also AS ON INSERT TO f.ruled DO ALSO INSERT INTO f.log (what, a) VALUES ('ruled', NEW.a);
CREATE RULE other AS ON UPDATE TO f.ruled DO INSTEAD
	UPDATE f.plain SET a = NEW.a, b = NEW.b WHERE plain.id = OLD.id RETURNING plain.id, plain.a, plain.b;
CREATE RULE none AS ON DELETE TO f.ruled DO INSTEAD NOTHING;

CREATE VIEW f.easy AS SELECT id, a, b FROM f.hooked WHERE a < 60 WITH CASCADED CHECK OPTION;
CREATE VIEW f.joined AS SELECT p.id, p.a, p.b, count(c.*) AS n FROM f.plain AS p LEFT JOIN f.child AS c ON c.a = p.id GROUP BY p.id;
CREATE TRIGGER instead INSTEAD OF INSERT OR UPDATE OR DELETE ON f.joined FOR EACH ROW EXECUTE FUNCTION f.instead();

CREATE TABLE f.types (
	id integer PRIMARY KEY,
	a integer,
	b text,
	c_int2 smallint,
	c_int8 bigint,
	c_numeric numeric,
	c_numeric_2 numeric(12,2),
	c_float4 real,
	c_float8 double precision,
	c_bool boolean,
	c_date date,
	c_time time(3),
	c_timetz timetz,
	c_timestamp timestamp,
	c_timestamptz timestamptz,
	c_interval interval,
	c_bytea bytea,
	c_uuid uuid,
	c_json json,
	c_jsonb jsonb,
	c_text_a text[],
	c_int_a integer[],
	c_date_a date[],
	c_pair_a f.pair[],
	c_mood f.mood,
	c_pair f.pair,
	c_small f.small,
	c_mark f.mark,
	c_smalls f.smalls,
	c_int4range int4range,
	c_tstzrange tstzrange,
	c_nummultirange nummultirange,
	c_floats f.floats,
	c_inet inet,
	c_macaddr macaddr,
	c_bit bit(5),
	c_varbit varbit,
	c_money money,
	c_char "char",
	c_bpchar character(6),
	c_varchar varchar(20),
	c_name name,
	c_tsvector tsvector,
	c_tsquery tsquery,
	c_point point,
	c_polygon polygon,
	c_jsonpath jsonpath,
	c_regclass regclass,
	c_regtype regtype,
	c_pg_lsn pg_lsn
);

-- --- As it was, and as it is ---

CREATE FUNCTION f.refill() RETURNS void LANGUAGE plpgsql
SET session_replication_role = replica SET row_security = off AS $$
BEGIN
	PERFORM setval('f.audit_log_before', 1 + (SELECT count(*) FROM ringfence_data.audit_log));
	TRUNCATE f.log, f.audited, f.plain, f.made, f.wide, f.hooked, f.parent, f.child, f.late, f.parted, f.elder, f.secured,
		f.ruled, f.types RESTART IDENTITY CASCADE;
	DELETE FROM ringfence_data.idempotency_keys;
	PERFORM setval('f.effects', 1), setval('f.numbers', 1000);
	INSERT INTO f.plain (id, a, b) SELECT g, g * 7 % 50, 'b' || g FROM generate_series(1, 20) AS g;
	INSERT INTO f.made (id, a, b) SELECT g, g - 5, NULLIF('m' || g % 4, 'm0') FROM generate_series(1, 12) AS g;
	INSERT INTO f.wide (id, a, b) SELECT g, g, repeat(md5(g::text), 200 * (g % 3)) FROM generate_series(1, 6) AS g;
	INSERT INTO f.hooked (id, a, b) SELECT g, g * 3 % 40, 'h' || g FROM generate_series(1, 16) AS g;
	INSERT INTO f.parent (id, a, b) SELECT g, g * 2, 'parent' FROM generate_series(1, 10) AS g;
	INSERT INTO f.child (id, a, b) SELECT g, 1 + g % 5, 'child' FROM generate_series(1, 15) AS g;
	INSERT INTO f.late (id, a, b) SELECT g, 6 + g % 3, 'late' FROM generate_series(1, 8) AS g;
	INSERT INTO f.parted (id, a, b) SELECT g, g * 4, 'part' FROM generate_series(1, 18) AS g;
	INSERT INTO f.elder (id, a, b) SELECT g, g, 'elder' FROM generate_series(1, 8) AS g;
	INSERT INTO f.heir (id, a, b) SELECT g, g, 'heir' FROM generate_series(9, 14) AS g;
	INSERT INTO f.secured (id, a, b) SELECT g, g, 's' FROM generate_series(1, 14) AS g;
	INSERT INTO f.audited (id, a, b) SELECT g, g, 'audited' FROM generate_series(1, 9) AS g;
	INSERT INTO f.ruled (id, a, b) SELECT g, g, 'r' FROM generate_series(1, 6) AS g;
	DELETE FROM f.log;
	INSERT INTO f.types VALUES
	(1, 1, 'all', 1, 2, 3.140, 3.14, 1.1, 0.1, true, '2020-02-29', '12:34:56.789', '12:00+02', '2020-01-01 01:02:03.5',
		'2020-06-01 00:00+02', '1 mon -2 days +03:04:05', '\x00ff', '0aaaaaaa-0000-7000-8000-00000000000a', '{"a" :  1}', '{"b": [1.50, null]}',
		'{a,NULL,"NULL","",",{}\\\""}', '[2:3][0:1]={{1,2},{3,NULL}}', '{2020-01-31,infinity}', ARRAY[ROW(1, 'a,"b'), ROW(NULL, NULL)]::f.pair[], 'so, "so"',
		ROW(5, '(y)'), 42, ROW(1, ''), '{1,2}', '[1,5)', '[2020-01-01 00:00Z,)', '{[1,2),[5,7]}', '(0.1,0.3]', '10.0.0.1/8', '08:00:2b:01:02:03',
		'10110', '101', '-1234.56', 'x', 'ab', 'v ä', 'n"ame', '''a b'':1A c:3', 'a & (b | !c)', '(0.1,-2)', '((0,0),(1,1),(1e-5,2))', '$.a[*] ? (@ > 1)',
		'f.plain', 'f.pair[]', '1/ABCD'),
	(2, 2, E'line\nä€\t"''\\', -1, -2, 'NaN', 0, 'NaN', '-Infinity', false, 'infinity', '24:00', '00:00-12', '-infinity',
		'0044-03-15 12:00:00+00 BC', '-1 year 2 mons -00:00:00.000001', '', '00000000-0000-0000-0000-000000000000', '[]', 'null', '{}', '{}', '{NULL}', '{}',
		'calm', ROW(NULL, NULL), -100, NULL, '{}', 'empty', '(,)', '{}', 'empty', '::1', 'ff:ff:ff:ff:ff:ff', '00000', '', '0.01', '', '', '', '', '',
		'x', '(NaN,1e300)', '((1,1))', '$', 'pg_class', 'integer', '0/0');
	INSERT INTO f.types (id, a) VALUES (3, 3);
END $$;

-- Without the settings of who asks.
CREATE FUNCTION f.state() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog SET datestyle = 'ISO' SET intervalstyle = postgres SET timezone = 'UTC' SET extra_float_digits = 1
SET bytea_output = hex SET quote_all_identifiers = off SET row_security = off AS $$
DECLARE
	name text;
	one text;
	state text := '';
BEGIN
	FOREACH name IN ARRAY ARRAY['log', 'plain', 'made', 'wide', 'hooked', 'parent', 'child', 'late', 'parted', 'elder',
		'secured', 'audited', 'ruled', 'types'] LOOP
		EXECUTE format('SELECT count(*) || ''.'' || left(md5(string_agg(t.tableoid::text || t::text, ''|'' ORDER BY t.id, t::text COLLATE "C")), 8) FROM f.%I AS t', name)
		INTO one;
		state := state || name || '=' || coalesce(one, '0') || ' ';
	END LOOP;
	state := state || 'records=' ||
		(SELECT count(*) FROM ringfence_data.audit_log) - (SELECT last_value FROM f.audit_log_before) + 1 || ' ';
	FOREACH name IN ARRAY ARRAY['effects', 'numbers', 'log_id_seq', 'plain_id_seq', 'made_serial_seq'] LOOP
		EXECUTE format('SELECT last_value || CASE WHEN is_called THEN '''' ELSE ''-'' END FROM f.%I', name) INTO one;
		state := state || '#' || name || '=' || one || ' ';
	END LOOP;
	RETURN state;
END $$;
