-- What the extension and the apps must look like, asked of the catalogs: each
-- query lists offenders and returns no row.
BEGIN;
SELECT plan(18);

CREATE TEMPORARY VIEW our_schemas AS
SELECT n.oid, n.nspname
	FROM pg_namespace AS n
	WHERE n.nspname = 'ringfence'
		OR n.nspname IN (SELECT unnest(a.schemas) FROM ringfence_data.apps AS a);

CREATE TEMPORARY VIEW members AS
SELECT d.classid, d.objid
	FROM pg_depend AS d
		JOIN pg_extension AS e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass
		AND d.deptype = 'e'
		AND e.extname = 'ringfence';

CREATE TEMPORARY VIEW our_functions AS
SELECT p.*, l.lanname
	FROM pg_proc AS p
		JOIN pg_language AS l ON l.oid = p.prolang
		JOIN our_schemas AS s ON s.oid = p.pronamespace;

-- Functions, relations, types and schemas of ours, less what only accompanies
-- another object: indexes, owned sequences, row types, array types.
CREATE TEMPORARY VIEW our_objects AS
SELECT 'pg_proc'::regclass AS classid, f.oid AS objid
	FROM our_functions AS f
UNION ALL
SELECT 'pg_class'::regclass, c.oid
	FROM pg_class AS c
		JOIN our_schemas AS s ON s.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
		OR (c.relkind = 'S' AND NOT EXISTS (
			SELECT
				FROM pg_depend AS d
				WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
UNION ALL
SELECT 'pg_type'::regclass, t.oid
	FROM pg_type AS t
		JOIN our_schemas AS s ON s.oid = t.typnamespace
		LEFT JOIN pg_class AS c ON c.oid = t.typrelid
	WHERE t.typelem = 0
		AND t.typtype <> 'm'
		AND (t.typrelid = 0 OR c.relkind = 'c')
UNION ALL
SELECT 'pg_namespace'::regclass, s.oid
	FROM our_schemas AS s
UNION ALL
SELECT 'pg_event_trigger'::regclass, e.oid
	FROM pg_event_trigger AS e
		JOIN our_functions AS f ON f.oid = e.evtfoid
UNION
SELECT m.classid, m.objid
	FROM members AS m
	WHERE m.classid NOT IN ('pg_type'::regclass, 'pg_class'::regclass);

SELECT is_empty($$
	SELECT pg_describe_object(o.classid, o.objid, 0)
		FROM our_objects AS o
		WHERE obj_description(o.objid, o.classid::regclass::name) IS NULL
		ORDER BY 1
$$, 'every object has a comment');

SELECT is_empty($$
	SELECT pg_describe_object(m.classid, m.objid, 0)
		FROM members AS m
			JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
		WHERE c.relkind <> 'c'
$$, 'no table, view or sequence is a member of the extension');

SELECT is_empty($$
	SELECT a.attrelid::regclass, a.attname, a.atttypid::regtype
		FROM pg_attribute AS a
			JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm', 'f')
			JOIN pg_type AS t ON t.oid = a.atttypid
			JOIN members AS m ON m.classid = 'pg_type'::regclass AND m.objid IN (t.oid, t.typelem)
		WHERE a.attnum > 0 AND NOT a.attisdropped
$$, 'no table has a column of a type that DROP EXTENSION would take along');

SELECT is_empty($$
	SELECT f.oid::regprocedure
		FROM our_functions AS f
			CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS x
		WHERE x.grantee = 0
		ORDER BY 1
$$, 'no function is executable by PUBLIC');

SELECT is_empty($$
	SELECT f.oid::regprocedure, f.proconfig
		FROM our_functions AS f
		WHERE f.prosecdef
			AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (f.proconfig), false)
$$, 'SECURITY DEFINER functions pin search_path to pg_catalog, pg_temp');

SELECT is_empty($$
	SELECT f.oid::regprocedure, r.rolname
		FROM our_functions AS f
			JOIN pg_roles AS r ON r.oid = f.proowner
		WHERE f.prosecdef
			AND f.lanname <> 'c'
			AND (r.rolsuper OR r.rolbypassrls)
			AND has_function_privilege('ringfence_member', f.oid, 'EXECUTE')
$$, 'tenants reach no SECURITY DEFINER code whose owner bypasses row security');

-- A procedure that commits can't have a SET clause.
SELECT is_empty($$
	SELECT f.oid::regprocedure, f.proconfig
		FROM our_functions AS f
		WHERE f.lanname IN ('sql', 'plpgsql')
			AND f.prosqlbody IS NULL
			AND NOT (f.prokind = 'p' AND f.prosrc ~* '\mcommit\M')
			AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (f.proconfig), false)
$$, 'functions with a body in a string pin search_path to pg_catalog, pg_temp');

SELECT is_empty($$
	SELECT f.oid::regprocedure
		FROM our_functions AS f
		WHERE f.provolatile <> 'v' AND f.proparallel = 'u'
$$, 'no function that only reads is labeled parallel unsafe');

SELECT is_empty($$
	SELECT f.oid::regprocedure
		FROM our_functions AS f
		WHERE f.proleakproof AND f.pronargs = 0
$$, 'no function without arguments is labeled leakproof');

SELECT is_empty($$
	SELECT f.oid::regprocedure, f.prosrc
		FROM our_functions AS f
		WHERE f.lanname = 'c'
			AND (f.prosrc NOT LIKE 'ringfence\_%' OR f.probin <> '$libdir/ringfence')
$$, 'C functions are named by their symbol');

SELECT is_empty($$
	SELECT f.oid::regprocedure
		FROM our_functions AS f
			JOIN pg_namespace AS n ON n.oid = f.pronamespace AND n.nspname LIKE '%\_v1'
		WHERE f.pronargs > 0
			AND (f.proargnames IS NULL OR '' = ANY (f.proargnames[:f.pronargs]))
$$, 'endpoints name their arguments');

SELECT is_empty($$
	SELECT c.oid::regclass
		FROM pg_class AS c
			JOIN our_schemas AS s ON s.oid = c.relnamespace
		WHERE c.relkind = 'v'
			AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)
$$, 'views run with the rights of who reads them');

SELECT is_empty($$
	SELECT c.oid::regclass::text, pg_get_userbyid(c.relowner)
		FROM pg_class AS c
			JOIN our_schemas AS s ON s.oid = c.relnamespace
		WHERE s.nspname <> 'ringfence' AND c.relowner <> 'ringfence_owner'::regrole
	UNION ALL
	SELECT f.oid::regprocedure::text, pg_get_userbyid(f.proowner)
		FROM our_functions AS f
			JOIN pg_namespace AS n ON n.oid = f.pronamespace
		WHERE n.nspname <> 'ringfence' AND f.proowner <> 'ringfence_owner'::regrole
$$, 'what the apps made belongs to ringfence_owner');

SELECT is_empty($$
	SELECT t.tgrelid::regclass, t.tgname
		FROM pg_trigger AS t
			JOIN pg_class AS c ON c.oid = t.tgrelid
			JOIN our_schemas AS s ON s.oid = c.relnamespace
		WHERE t.tgenabled <> 'O'
	UNION ALL
	SELECT NULL, e.evtname
		FROM pg_event_trigger AS e
			JOIN our_functions AS f ON f.oid = e.evtfoid
		WHERE e.evtenabled <> 'O' OR e.evtname NOT LIKE 'ringfence\_%' OR 'ALTER EXTENSION' = ANY (e.evttags)
$$, 'triggers are enabled the ordinary way, event triggers carry our name and tags of their own');

SELECT is_empty($$
	SELECT c.oid::regclass, x.privilege_type, x.grantee::regrole
		FROM pg_class AS c
			JOIN our_schemas AS s ON s.oid = c.relnamespace
			CROSS JOIN LATERAL aclexplode(c.relacl) AS x
		WHERE x.grantee <> c.relowner
			AND x.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER')
$$, 'nobody but the owner may truncate, reference or put triggers on a table');

SELECT is_empty($$
	SELECT c.oid::regclass, x.privilege_type
		FROM pg_class AS c
			JOIN our_schemas AS s ON s.oid = c.relnamespace
			CROSS JOIN LATERAL aclexplode(c.relacl) AS x
		WHERE x.grantee = 0
	UNION ALL
	SELECT NULL, x.privilege_type
		FROM pg_namespace AS n
			JOIN our_schemas AS s ON s.oid = n.oid
			CROSS JOIN LATERAL aclexplode(n.nspacl) AS x
		WHERE x.grantee = 0
			AND x.privilege_type = 'CREATE'
$$, 'PUBLIC may do nothing with our relations and make nothing in our schemas');

SELECT is_empty($$
	SELECT p.polrelid::regclass, p.polname
		FROM pg_policy AS p
			JOIN pg_class AS c ON c.oid = p.polrelid
			JOIN our_schemas AS s ON s.oid = c.relnamespace
		WHERE p.polcmd IN ('w', '*') AND p.polwithcheck IS NULL
$$, 'policies on writes say what may be written');

-- An app's page names all that it serves; what core does stands on the rooms' pages.
\set cleaning `cat doc/cleaning.md`
\set merchant `cat doc/merchant.md`
\set all `cat doc/*.md`
SELECT is_empty(format($$
	SELECT e.api, e.name
		FROM (
			SELECT p.pronamespace, p.proname FROM pg_proc AS p WHERE p.prokind <> 'a'
			UNION
			SELECT c.relnamespace, c.relname FROM pg_class AS c WHERE c.relkind = 'v'
		) AS e (api, name)
			JOIN (VALUES ('cleaning_v1'::regnamespace, %L), ('merchant_v1', %L), ('ringfence_v1', %L)) AS p (api, page)
				ON p.api = e.api
		WHERE p.page !~ ('[`/.]' || e.name || '\M')
$$, :'cleaning', :'merchant', :'all'), 'every endpoint is on a page');

SELECT * FROM finish();
ROLLBACK;
