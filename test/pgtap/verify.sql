-- verify(): nothing is found in what core and cleaning make; each defect is made
-- here, found as exactly one finding with its code and object, and gone once the
-- finding's own "fix" has run.
BEGIN;
SET LOCAL client_min_messages = error;
SELECT plan(282);

-- What verify() says now, but for the server that the tests happen to run on;
-- verify_server() is asked about others at the end.
CREATE FUNCTION pg_temp.verified() RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql AS $$
	SELECT v.severity, v.code, v.object, v.message, v.fix
	FROM ringfence.verify() WITH ORDINALITY AS v (severity, code, object, message, fix, place)
	WHERE v.code <> 'server_too_old'
	ORDER BY v.place
$$;
CREATE FUNCTION pg_temp.findings() RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT format('%s %s: %s', v.severity, v.code, v.object) FROM pg_temp.verified() AS v
$$;

-- Makes a defect, sees the findings, runs their fixes, sees nothing.
CREATE FUNCTION pg_temp.defect(about text, defect text, VARIADIC expected text[]) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
	finding record;
BEGIN
	EXECUTE defect;
	RETURN NEXT results_eq('SELECT f FROM pg_temp.findings() AS f ORDER BY 1',
		format('SELECT e FROM unnest(%L::text[]) AS e ORDER BY 1', expected), about);
	FOR finding IN SELECT v.fix FROM pg_temp.verified() AS v LOOP
		EXECUTE finding.fix;
	END LOOP;
	RETURN NEXT is_empty('SELECT f FROM pg_temp.findings() AS f', about || ': fixed');
END
$$;

-- The database as it comes.

SELECT is((SELECT array_agg(f) FROM pg_temp.findings() AS f), ARRAY['warning temp_tables_granted: ' || current_database()],
	'core and cleaning are clean; PostgreSQL''s default of temporary tables for all is a finding');
SELECT is((SELECT v.fix FROM pg_temp.verified() AS v), format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC;', current_database()),
	'its fix is for the database');
DO $$ BEGIN EXECUTE (SELECT v.fix FROM pg_temp.verified() AS v); END $$;
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'after which verify() returns nothing');
SELECT * FROM pg_temp.defect('a grant of temporary tables to members',
	format('GRANT TEMPORARY ON DATABASE %I TO ringfence_member', current_database()),
	'warning temp_tables_granted: ' || current_database());

-- A schema of a DBA's own.

CREATE SCHEMA shop;
CREATE TABLE shop.customers (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs,
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	code text NOT NULL,
	PRIMARY KEY (org_id, id),
	UNIQUE (org_id, code)
);
CREATE TABLE shop.orders (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs,
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	customer_id uuid,
	customer_code text,
	during tstzrange,
	PRIMARY KEY (org_id, id),
	CONSTRAINT orders_customer_id_fkey FOREIGN KEY (org_id, customer_id) REFERENCES shop.customers
);
CREATE INDEX orders_customer_id_idx ON shop.orders (org_id, customer_id);
CREATE TABLE shop.events (org_id uuid NOT NULL, id uuid NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE shop.currencies (code text PRIMARY KEY);
CREATE TABLE shop.preferences (user_id uuid PRIMARY KEY REFERENCES ringfence_data.users, theme text);
SELECT ringfence.protect('shop.customers', '{"owner": "all", "client": "select where id is client"}');
SELECT ringfence.protect('shop.orders',
	'{"owner": "all", "client": "select where customer_id is client", "worker": "select where customer_id matches shop.orders as worker"}');
ALTER TABLE shop.events ADD PRIMARY KEY (org_id, id, at);
ALTER TABLE shop.events_2026 OWNER TO ringfence_owner;
SELECT ringfence.protect('shop.events', '{"owner": "select insert"}');
SELECT ringfence.protect('shop.currencies', row_class => 'reference');
SELECT ringfence.protect('shop.preferences', '{"*": "all"}', 'user');
SELECT ringfence.protect_schema('shop');
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'tables of every row class, as protect() makes them, are clean');

-- Row security.

SELECT * FROM pg_temp.defect('row security disabled', 'ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY',
	'error rls_disabled: shop.orders');
SELECT * FROM pg_temp.defect('row security not forced', 'ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY',
	'error rls_not_forced: shop.orders');
SELECT * FROM pg_temp.defect('row security disabled on a reference table', 'ALTER TABLE shop.currencies DISABLE ROW LEVEL SECURITY',
	'error rls_disabled: shop.currencies');
SELECT * FROM pg_temp.defect('row security disabled on core''s own', 'ALTER TABLE ringfence_data.memberships DISABLE ROW LEVEL SECURITY',
	'error rls_disabled: ringfence_data.memberships');
SELECT * FROM pg_temp.defect('a new table', 'CREATE TABLE shop.notes (id uuid PRIMARY KEY)',
	'error rls_disabled: shop.notes', 'error table_not_protected: shop.notes');
SELECT * FROM pg_temp.defect('a new table with row security and no policy',
	'CREATE TABLE shop.jottings (id uuid PRIMARY KEY); ALTER TABLE shop.jottings ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.jottings FORCE ROW LEVEL SECURITY',
	'error table_not_protected: shop.jottings');
SELECT * FROM pg_temp.defect('a new partition',
	$$CREATE TABLE shop.events_2027 PARTITION OF shop.events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')$$,
	'error partition_reachable: shop.events_2027');
SELECT * FROM pg_temp.defect('a grant on a partition', 'GRANT SELECT ON shop.events_2026 TO ringfence_member',
	'error partition_reachable: shop.events_2026');
SELECT * FROM pg_temp.defect('a child table', 'CREATE TABLE shop.big_orders () INHERITS (shop.orders)',
	'error partition_reachable: shop.big_orders');
DROP TABLE shop.big_orders;
SELECT * FROM pg_temp.defect('a parent that is not protected',
	'CREATE TABLE public.all_orders (customer_code text); ALTER TABLE shop.orders INHERIT public.all_orders',
	'error parent_not_protected: public.all_orders');

-- Policies.

SELECT * FROM pg_temp.defect('no isolation policy', 'DROP POLICY org_isolation ON shop.orders',
	'error isolation_policy_missing: org_isolation ON shop.orders');
SELECT * FROM pg_temp.defect('no isolation policy of users', 'DROP POLICY user_isolation ON shop.preferences',
	'error isolation_policy_missing: user_isolation ON shop.preferences');
SELECT * FROM pg_temp.defect('another isolation policy',
	'ALTER POLICY org_isolation ON shop.orders USING (org_id = ringfence.org_id() OR true)',
	'error isolation_policy_altered: org_isolation ON shop.orders');
SELECT * FROM pg_temp.defect('an isolation policy that checks nothing',
	'ALTER POLICY org_isolation ON shop.orders WITH CHECK (true)',
	'error isolation_policy_altered: org_isolation ON shop.orders');
SELECT * FROM pg_temp.defect('an isolation policy for one role only',
	'ALTER POLICY org_isolation ON shop.orders TO ringfence_anon',
	'error isolation_policy_altered: org_isolation ON shop.orders');
SELECT * FROM pg_temp.defect('an isolation policy that is permissive',
	'DROP POLICY org_isolation ON shop.orders; CREATE POLICY org_isolation ON shop.orders USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id())',
	'error isolation_policy_altered: org_isolation ON shop.orders');
SELECT * FROM pg_temp.defect('an isolation policy for SELECT only',
	'DROP POLICY org_isolation ON shop.orders; CREATE POLICY org_isolation ON shop.orders AS RESTRICTIVE FOR SELECT USING (org_id = ringfence.org_id())',
	'error isolation_policy_altered: org_isolation ON shop.orders');
SELECT * FROM pg_temp.defect('a policy that is missing', 'DROP POLICY select_for_owner ON shop.orders',
	'warning policy_missing: select_for_owner ON shop.orders');
SELECT * FROM pg_temp.defect('a client''s policy widened',
	'ALTER POLICY select_for_client_own_customer_id ON shop.orders USING (ringfence.has_role(''client''))',
	'warning policy_altered: select_for_client_own_customer_id ON shop.orders');
SELECT * FROM pg_temp.defect('a worker''s policy widened within its condition',
	$$ALTER POLICY select_for_worker_own_customer_id ON shop.orders USING (ringfence.has_role('worker') AND customer_id =
		(SELECT p.customer_id FROM shop.orders AS p WHERE p.org_id = ringfence.org_id() AND p.id = ringfence.party_id('client')))$$,
	'warning policy_altered: select_for_worker_own_customer_id ON shop.orders');
SELECT * FROM pg_temp.defect('a role that was added', 'ALTER POLICY update_for_owner ON shop.orders USING (ringfence.has_role(''owner'', ''client''))',
	'warning policy_altered: update_for_owner ON shop.orders');
SELECT * FROM pg_temp.defect('a policy of the DBA''s own', 'CREATE POLICY mine ON shop.orders TO ringfence_member USING (true)',
	'info policy_not_declared: mine ON shop.orders');

SAVEPOINT policies;
DROP POLICY org_isolation ON ringfence_data.orgs;
SELECT is((SELECT array_agg(f) FROM pg_temp.findings() AS f),
	ARRAY['error isolation_policy_missing: org_isolation ON ringfence_data.orgs'], 'core''s own policies are missed as well');
SELECT alike((SELECT v.fix FROM pg_temp.verified() AS v), '--%', 'their fix is to be written by hand');
ROLLBACK TO policies;

CREATE TABLE shop.places (org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs, id uuid, customer_id uuid, PRIMARY KEY (org_id, id));
SELECT ringfence.protect('shop.places');
SELECT ringfence.except_reference('shop.places', 'customer_id', 'no customer of ours');
SELECT ringfence.protect('shop.customers', '{"owner": "all", "clerk": "select where id is user", "worker": "select where id is clerk"}');
CREATE TABLE public.staff (org_id uuid, id uuid, customer_id uuid);
SELECT ringfence.protect('shop.orders', '{"worker": "select where customer_id matches public.staff as worker"}');
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'each form of condition is recognized in the catalog');
SELECT * FROM pg_temp.defect('an access matrix whose table is gone', 'DROP TABLE public.staff CASCADE',
	'error access_invalid: shop.orders');
SELECT ringfence.protect('shop.orders', '{"owner": "all", "client": "select where customer_id is client"}');
ALTER EVENT TRIGGER ringfence_forget DISABLE;
CREATE TABLE public.brief (id uuid PRIMARY KEY);
SELECT ringfence.protect('public.brief');
SELECT set_config('test.brief', 'public.brief'::regclass::oid::text, true);
DROP TABLE public.brief;
ALTER EVENT TRIGGER ringfence_forget ENABLE;
SELECT * FROM pg_temp.defect('a table that was dropped past the event trigger', 'SELECT 1',
	'warning register_stale: ' || current_setting('test.brief'));
SELECT * FROM pg_temp.defect('a protected schema that is gone',
	$$CREATE SCHEMA brief; SELECT ringfence.protect_schema('brief'); DROP SCHEMA brief$$,
	'warning register_stale: brief');

-- org_id.

SELECT * FROM pg_temp.defect('org_id may be null',
	'ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id); ALTER TABLE shop.orders ALTER COLUMN org_id DROP NOT NULL',
	'error org_id_nullable: shop.orders', 'warning key_not_led_by_org: shop.orders',
	'warning unique_reveals_values: orders_pkey ON shop.orders');
SELECT * FROM pg_temp.defect('org_id has no default', 'ALTER TABLE shop.orders ALTER COLUMN org_id DROP DEFAULT',
	'warning org_id_default: shop.orders');
SELECT * FROM pg_temp.defect('org_id has another default', 'ALTER TABLE shop.orders ALTER COLUMN org_id SET DEFAULT gen_random_uuid()',
	'warning org_id_default: shop.orders');
SELECT * FROM pg_temp.defect('org_id references nothing', 'ALTER TABLE shop.orders DROP CONSTRAINT orders_org_id_fkey',
	'warning org_id_unreferenced: shop.orders');
SELECT * FROM pg_temp.defect('org_id is gone',
	'ALTER TABLE shop.places DROP COLUMN org_id CASCADE',
	'error org_id_missing: shop.places');

-- Foreign keys.

SELECT * FROM pg_temp.defect('a foreign key without org_id',
	'ALTER TABLE shop.customers ADD CONSTRAINT customers_id_key UNIQUE (id); ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_id_fkey, ADD CONSTRAINT orders_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES shop.customers (id) ON DELETE CASCADE',
	'error foreign_key_without_org: orders_customer_id_fkey ON shop.orders',
	'warning unique_reveals_values: customers_id_key ON shop.customers');
SELECT fk_ok('shop', 'orders', ARRAY['org_id', 'customer_id'], 'shop', 'customers', ARRAY['org_id', 'id'],
	'its fix made a composite one');
SELECT is((SELECT confdeltype FROM pg_constraint WHERE conrelid = 'shop.orders'::regclass AND confrelid = 'shop.customers'::regclass),
	'c', 'with the same action');
SELECT * FROM pg_temp.defect('a foreign key without org_id to a key of its own kind',
	'ALTER TABLE shop.customers ADD COLUMN number text, ADD CONSTRAINT customers_number_key UNIQUE (number); ALTER TABLE shop.orders ADD COLUMN number text REFERENCES shop.customers (number)',
	'error foreign_key_without_org: orders_number_fkey ON shop.orders',
	'error unique_reveals_values: customers_number_key ON shop.customers');
SELECT * FROM pg_temp.defect('a user''s row that references an organization''s',
	'ALTER TABLE shop.customers ADD CONSTRAINT customers_id_only UNIQUE (id); ALTER TABLE shop.preferences ADD COLUMN customer_id uuid REFERENCES shop.customers (id)',
	'error foreign_key_without_org: preferences_customer_id_fkey ON shop.preferences',
	'warning unique_reveals_values: customers_id_only ON shop.customers');
SELECT * FROM pg_temp.defect('a foreign key that would empty org_id',
	'ALTER TABLE shop.orders DROP CONSTRAINT orders_org_id_customer_id_fkey, ADD CONSTRAINT orders_customer_id_fkey FOREIGN KEY (org_id, customer_id) REFERENCES shop.customers ON DELETE SET NULL',
	'warning foreign_key_nulls_org: orders_customer_id_fkey ON shop.orders');
SELECT * FROM pg_temp.defect('a foreign key that was not validated',
	'ALTER TABLE shop.orders ADD CONSTRAINT again FOREIGN KEY (org_id, customer_id) REFERENCES shop.customers NOT VALID',
	'warning foreign_key_not_validated: again ON shop.orders');
SELECT * FROM pg_temp.defect('a foreign key without an index', 'DROP INDEX shop.orders_customer_id_idx; ALTER TABLE shop.orders DROP CONSTRAINT again',
	'warning foreign_key_index_missing: orders_org_id_customer_id_fkey ON shop.orders');
SELECT * FROM pg_temp.defect('a foreign key that is not checked', 'ALTER TABLE shop.orders DISABLE TRIGGER ALL',
	'error foreign_key_disabled: orders_org_id_customer_id_fkey ON shop.orders',
	'error foreign_key_disabled: orders_org_id_fkey ON shop.orders',
	'error foreign_key_disabled: orders_org_id_number_fkey ON shop.orders',
	'warning trigger_disabled: ringfence_audit ON shop.orders',
	'warning trigger_disabled: ringfence_audit_truncate ON shop.orders');

SELECT * FROM pg_temp.defect('a column that is named for a table and references none',
	'CREATE TABLE shop.returns (id uuid PRIMARY KEY, order_id uuid); SELECT ringfence.protect(''shop.returns'')',
	'warning foreign_key_missing: shop.returns.order_id');
SELECT fk_ok('shop', 'returns', ARRAY['org_id', 'order_id'], 'shop', 'orders', ARRAY['org_id', 'id'], 'its fix made it reference that table');
SELECT * FROM pg_temp.defect('one of a table whose foreign keys are required',
	'ALTER TABLE shop.returns ADD COLUMN user_id uuid; SELECT FROM ringfence.require_foreign_keys(''shop.returns'')',
	'error foreign_key_missing: shop.returns.user_id');
SELECT fk_ok('shop', 'returns', ARRAY['user_id'], 'ringfence_data', 'users', ARRAY['id'], 'its fix made it reference users');
DROP TABLE shop.returns;

-- Unique keys and indexes.

SELECT * FROM pg_temp.defect('a unique constraint over all organizations',
	'ALTER TABLE shop.customers ADD CONSTRAINT customers_code UNIQUE (code)',
	'error unique_reveals_values: customers_code ON shop.customers');
SELECT col_is_unique('shop', 'customers', ARRAY['org_id', 'code'], 'its fix made it one of each organization');
ALTER TABLE shop.customers DROP CONSTRAINT customers_code;
SELECT * FROM pg_temp.defect('a unique index on an expression',
	'CREATE UNIQUE INDEX customers_lower ON shop.customers (lower(code)) WHERE code <> ''''',
	'error unique_reveals_values: customers_lower ON shop.customers');
SELECT is(pg_get_indexdef('shop.customers_lower'::regclass),
	'CREATE UNIQUE INDEX customers_lower ON shop.customers USING btree (org_id, lower(code)) WHERE (code <> ''''::text)',
	'its fix kept expression and condition');
SELECT * FROM pg_temp.defect('a unique constraint on a uuid',
	'ALTER TABLE shop.customers ADD CONSTRAINT customers_uuid UNIQUE (id)',
	'warning unique_reveals_values: customers_uuid ON shop.customers');
SELECT * FROM pg_temp.defect('a primary key on a number',
	'CREATE TABLE shop.numbered (org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs, id serial, UNIQUE (org_id, id)); SELECT ringfence.protect(''shop.numbered''); ALTER TABLE shop.numbered DROP CONSTRAINT numbered_pkey, ADD PRIMARY KEY (id)',
	'error unique_reveals_values: numbered_pkey ON shop.numbered');
SELECT * FROM pg_temp.defect('org_id at the end of a key',
	'ALTER TABLE shop.customers ADD CONSTRAINT customers_back UNIQUE (code, org_id)',
	'warning key_not_led_by_org: customers_back ON shop.customers');
SELECT * FROM pg_temp.defect('org_id at the end of a unique index',
	'CREATE UNIQUE INDEX customers_end ON shop.customers (lower(code), org_id)',
	'warning key_not_led_by_org: customers_end ON shop.customers');
SELECT * FROM pg_temp.defect('no key with org_id',
	'ALTER TABLE shop.places DROP CONSTRAINT places_pkey; CREATE INDEX ON shop.places (org_id)',
	'warning key_not_led_by_org: shop.places');
SAVEPOINT exclusion;
ALTER TABLE shop.orders ADD CONSTRAINT orders_during EXCLUDE USING gist (during WITH &&);
SELECT is((SELECT array_agg(f) FROM pg_temp.findings() AS f),
	ARRAY['error unique_reveals_values: orders_during ON shop.orders'], 'an exclusion constraint over all organizations');
SELECT is((SELECT v.fix FROM pg_temp.verified() AS v),
	'ALTER TABLE shop.orders DROP CONSTRAINT orders_during, ADD CONSTRAINT orders_during EXCLUDE USING gist (org_id WITH =, during WITH &&);',
	'its fix, which takes the extension btree_gist');
ROLLBACK TO exclusion;
SELECT * FROM pg_temp.defect('no index led by org_id',
	'ALTER TABLE shop.places DROP CONSTRAINT places_pkey; DROP INDEX shop.places_org_id_idx',
	'warning foreign_key_index_missing: places_org_id_fkey ON shop.places',
	'warning key_not_led_by_org: shop.places', 'warning org_index_missing: shop.places');

-- Triggers and rules.

CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touch();
SELECT * FROM pg_temp.defect('a trigger that does not fire', 'ALTER TABLE shop.orders DISABLE TRIGGER touch',
	'warning trigger_disabled: touch ON shop.orders');
SELECT * FROM pg_temp.defect('a rule', 'CREATE RULE copy AS ON DELETE TO shop.orders DO ALSO DELETE FROM shop.customers',
	'error rule_on_table: copy ON shop.orders');

-- Views.

SELECT * FROM pg_temp.defect('a view with its owner''s rights',
	'CREATE VIEW shop.all_orders AS SELECT id FROM shop.orders; GRANT SELECT ON shop.all_orders TO ringfence_member',
	'error view_not_invoker: shop.all_orders');
SELECT * FROM pg_temp.defect('a view over a view',
	'CREATE VIEW public.order_ids WITH (security_invoker = off) AS SELECT id FROM shop.all_orders; GRANT SELECT (id) ON public.order_ids TO PUBLIC',
	'error view_not_invoker: public.order_ids');
SELECT * FROM pg_temp.defect('a view over a partition, which tenants can''t read',
	'CREATE VIEW public.events AS SELECT id FROM shop.events_2026',
	'warning view_not_invoker: public.events');
CREATE MATERIALIZED VIEW public.totals AS SELECT count(*) FROM shop.all_orders;
SELECT is((SELECT array_agg(f) FROM pg_temp.findings() AS f), ARRAY['info materialized_view: public.totals'], 'a materialized view');
GRANT SELECT ON public.totals TO ringfence_member;
SELECT is((SELECT array_agg(f) FROM pg_temp.findings() AS f), ARRAY['error materialized_view_readable: public.totals'],
	'a materialized view that tenants read');
DO $$ BEGIN EXECUTE (SELECT v.fix FROM pg_temp.verified() AS v); END $$;
SELECT is((SELECT array_agg(f) FROM pg_temp.findings() AS f), ARRAY['info materialized_view: public.totals'],
	'a materialized view that tenants read: fixed, and still one');
SELECT * FROM pg_temp.defect('a materialized view', 'SELECT 1', 'info materialized_view: public.totals');
SELECT * FROM pg_temp.defect('a foreign table in a protected schema',
	'CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; CREATE FOREIGN TABLE shop.far (id uuid) SERVER nowhere',
	'warning foreign_table: shop.far');
SELECT * FROM pg_temp.defect('a foreign table where requests arrive',
	'CREATE FOREIGN TABLE cleaning_v1.far (id uuid) SERVER nowhere; GRANT SELECT ON cleaning_v1.far TO ringfence_member',
	'error foreign_table: cleaning_v1.far');

-- Grants.

SELECT * FROM pg_temp.defect('TRUNCATE granted', 'GRANT TRUNCATE, TRIGGER ON shop.orders TO ringfence_member',
	'error owner_privilege_granted: shop.orders');
SELECT * FROM pg_temp.defect('REFERENCES granted on a column to operators', 'GRANT REFERENCES (id) ON shop.orders TO ringfence_operator',
	'error owner_privilege_granted: shop.orders');
SELECT * FROM pg_temp.defect('TRUNCATE for the owner''s functions', 'GRANT TRUNCATE ON shop.orders, shop.events_2026 TO ringfence_owner',
	'warning owner_truncates: shop.events_2026', 'warning owner_truncates: shop.orders');
SELECT ringfence.protect('shop.orders', t.access, columns => '{"update": ["customer_code"]}') FROM ringfence_data.tables AS t WHERE t.relation = 'shop.orders'::regclass;
SELECT * FROM pg_temp.defect('a column that members were not to write', 'GRANT UPDATE (customer_id) ON shop.orders TO ringfence_member',
	'warning column_limit_exceeded: shop.orders');
SELECT * FROM pg_temp.defect('all columns where some were meant', 'GRANT UPDATE ON shop.orders TO ringfence_member',
	'warning column_limit_exceeded: shop.orders');
SELECT is(has_column_privilege('ringfence_member', 'shop.orders', 'customer_code', 'UPDATE'), true, 'its fix leaves those that were meant');
SELECT * FROM pg_temp.defect('everything granted to everybody', 'GRANT ALL ON shop.orders TO PUBLIC',
	'error anonymous_privilege: shop.orders', 'error owner_privilege_granted: shop.orders');
SELECT * FROM pg_temp.defect('a right of anonymous callers', 'GRANT SELECT (id) ON shop.orders TO ringfence_anon',
	'error anonymous_privilege: shop.orders');
SELECT * FROM pg_temp.defect('a reference table that members write', 'GRANT INSERT, UPDATE (code) ON shop.currencies TO ringfence_member',
	'error reference_table_writable: shop.currencies');
SELECT * FROM pg_temp.defect('a reference table that anybody writes', 'GRANT DELETE ON shop.currencies TO ringfence_anon',
	'error anonymous_privilege: shop.currencies');
SELECT * FROM pg_temp.defect('a table beside, which members read',
	'CREATE TABLE public.leftover (name text); GRANT SELECT ON public.leftover TO ringfence_member',
	'warning unprotected_table_reachable: public.leftover');
SELECT * FROM pg_temp.defect('rights given in advance',
	'ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO ringfence_anon',
	'warning default_privileges: postgres IN shop');
SELECT * FROM pg_temp.defect('rights to functions given in advance',
	'ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO ringfence_anon',
	'warning default_privileges: postgres IN every schema');
SELECT * FROM pg_temp.defect('a schema in which members make things', 'GRANT CREATE ON SCHEMA public TO PUBLIC',
	'error create_granted: public');
SELECT * FROM pg_temp.defect('a database in which members make schemas',
	format('GRANT CREATE ON DATABASE %I TO ringfence_member', current_database()),
	'error create_granted: ' || current_database());

-- Functions.

SELECT * FROM pg_temp.defect('a definer function without search_path',
	'CREATE FUNCTION shop.loose() RETURNS integer LANGUAGE sql SECURITY DEFINER AS ''SELECT 1''; REVOKE EXECUTE ON FUNCTION shop.loose() FROM PUBLIC',
	'warning function_search_path: shop.loose()');
SELECT * FROM pg_temp.defect('a definer function whose search_path lets temporary tables come first',
	'ALTER FUNCTION shop.loose() OWNER TO ringfence_owner; ALTER FUNCTION shop.loose() SET search_path = pg_catalog; GRANT EXECUTE ON FUNCTION shop.loose() TO ringfence_member',
	'error function_search_path: shop.loose()');
SELECT * FROM pg_temp.defect('a superuser''s definer function that members execute, in a schema that all may use',
	'CREATE FUNCTION public.god(a integer, b text) RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ''SELECT 1''',
	'error function_bypasses_rls: public.god(integer,text)');
SELECT * FROM pg_temp.defect('a definer procedure of a role with BYPASSRLS',
	'CREATE PROCEDURE shop.job() LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ''SELECT 1''; ALTER PROCEDURE shop.job() OWNER TO ringfence_jobs; REVOKE EXECUTE ON PROCEDURE shop.job() FROM PUBLIC; GRANT EXECUTE ON PROCEDURE shop.job() TO ringfence_member; GRANT USAGE ON SCHEMA shop TO ringfence_member',
	'error function_bypasses_rls: shop.job()');
SELECT * FROM pg_temp.defect('a superuser''s definer trigger on a protected table',
	'ALTER FUNCTION shop.touch() SECURITY DEFINER SET search_path = pg_catalog, pg_temp',
	'warning function_bypasses_rls: shop.touch()');
SELECT * FROM pg_temp.defect('a function that everybody may execute',
	'CREATE FUNCTION cleaning_v1.open_door() RETURNS integer LANGUAGE sql RETURN 1',
	'warning function_public: cleaning_v1.open_door()');
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'a function in a schema that requests do not reach is not minded');
CREATE FUNCTION public.open_door() RETURNS integer LANGUAGE sql RETURN 1;
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'a function in a schema where requests do not arrive is let be');
ALTER ROLE regress_web SET pgrst.db_schemas = 'cleaning_v1, "public"';
SELECT ok('warning function_public: public.open_door()' IN (SELECT f FROM pg_temp.findings() AS f),
	'unless PostgREST''s setting names that schema');
ALTER ROLE regress_web RESET pgrst.db_schemas;

-- Roles.

SELECT * FROM pg_temp.defect('a login that bypasses row security', 'ALTER ROLE regress_web BYPASSRLS',
	'error role_bypasses_rls: regress_web');
SELECT * FROM pg_temp.defect('a superuser among the logins', 'CREATE ROLE regress_verify_super SUPERUSER LOGIN NOINHERIT; GRANT ringfence_authenticator TO regress_verify_super',
	'error role_bypasses_rls: regress_verify_super');
SELECT * FROM pg_temp.defect('a superuser that a login can become', 'GRANT regress_verify_super TO regress_web',
	'error role_bypasses_rls: regress_verify_super');
SELECT * FROM pg_temp.defect('members who bypass row security', 'ALTER ROLE ringfence_member BYPASSRLS',
	'error role_bypasses_rls: ringfence_member');
SELECT * FROM pg_temp.defect('an owner who bypasses row security', 'ALTER ROLE ringfence_owner BYPASSRLS',
	'error role_bypasses_rls: ringfence_owner');
SELECT * FROM pg_temp.defect('a login that makes roles', 'ALTER ROLE regress_web CREATEROLE',
	'error role_creates_roles: regress_web');
SELECT * FROM pg_temp.defect('a login that can become the owner', 'GRANT ringfence_owner TO regress_web',
	'error role_is_privileged: ringfence_owner');
SELECT * FROM pg_temp.defect('members who can become jobs', 'GRANT ringfence_jobs TO ringfence_member',
	'error role_is_privileged: ringfence_jobs');
SELECT * FROM pg_temp.defect('a login that is an operator too', 'GRANT ringfence_operator TO regress_web',
	'error role_is_privileged: ringfence_operator');
SELECT * FROM pg_temp.defect('a login that can read the server''s files', 'GRANT pg_read_server_files TO regress_web',
	'error role_is_privileged: pg_read_server_files');
SELECT * FROM pg_temp.defect('a login that can become a table''s owner',
	'CREATE ROLE regress_verify_keeper; GRANT regress_verify_keeper TO regress_web; ALTER TABLE shop.orders OWNER TO regress_verify_keeper; ALTER TABLE shop.events_2026 OWNER TO regress_verify_keeper',
	'error role_owns_tables: regress_verify_keeper');
SELECT * FROM pg_temp.defect('a login that owns the database', format('ALTER DATABASE %I OWNER TO regress_web', current_database()),
	'error role_owns_database: regress_web');
SELECT * FROM pg_temp.defect('a login with its members'' rights at all times',
	'CREATE ROLE regress_verify_lazy LOGIN INHERIT; GRANT ringfence_authenticator TO regress_verify_lazy',
	'warning authenticator_inherits: regress_verify_lazy');

SELECT * FROM pg_temp.defect('a login that signs in with tokens and can become a superuser',
	'CREATE ROLE regress_verify_reports LOGIN IN ROLE ringfence_member; GRANT regress_verify_super TO regress_verify_reports',
	'error role_bypasses_rls: regress_verify_super');

-- The audit log.

SELECT * FROM pg_temp.defect('a table that is not audited', 'SELECT ringfence.unaudit(''shop.orders'')',
	'warning table_not_audited: shop.orders');
SELECT * FROM pg_temp.defect('a table of which TRUNCATE is not recorded', 'DROP TRIGGER ringfence_audit_truncate ON shop.orders',
	'warning table_not_audited: shop.orders');
SELECT * FROM pg_temp.defect('a trigger that records some changes only',
	'DROP TRIGGER ringfence_audit ON shop.orders; CREATE TRIGGER ringfence_audit AFTER INSERT OR UPDATE OR DELETE ON shop.orders FOR EACH ROW WHEN (pg_trigger_depth() > 0) EXECUTE FUNCTION ringfence.audit_row(''org_id'')',
	'warning table_not_audited: shop.orders');
SELECT * FROM pg_temp.defect('a trigger that does not see DELETE',
	'DROP TRIGGER ringfence_audit ON shop.orders; CREATE TRIGGER ringfence_audit AFTER INSERT OR UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row(''org_id'')',
	'warning table_not_audited: shop.orders');
SELECT * FROM pg_temp.defect('changes recorded as nobody''s', 'SELECT ringfence.audit(''shop.orders'', '''')',
	'error audit_org_wrong: shop.orders');
SELECT * FROM pg_temp.defect('a partition whose trigger does not fire', 'ALTER TABLE shop.events_2026 DISABLE TRIGGER ringfence_audit',
	'warning table_not_audited: shop.events_2026');
SELECT * FROM pg_temp.defect('core''s own table that is not audited', 'DROP TRIGGER ringfence_audit ON ringfence_data.memberships',
	'warning table_not_audited: ringfence_data.memberships');
SELECT * FROM pg_temp.defect('an audit log that its owner may write', 'GRANT INSERT, DELETE ON ringfence_data.audit_log TO ringfence_owner',
	'error audit_log_writable: ringfence_data.audit_log');
SELECT * FROM pg_temp.defect('a column of it that jobs may write', 'GRANT UPDATE (reason) ON ringfence_data.audit_log TO ringfence_jobs',
	'error audit_log_writable: ringfence_data.audit_log');
SELECT * FROM pg_temp.defect('a part of it that may be written', 'GRANT UPDATE ON ringfence_data.audit_relations TO ringfence_jobs',
	'error audit_log_writable: ringfence_data.audit_relations');
SELECT * FROM pg_temp.defect('one that could be emptied', 'GRANT TRUNCATE ON ringfence_data.audit_log TO ringfence_owner',
	'warning owner_truncates: ringfence_data.audit_log');
SELECT * FROM pg_temp.defect('a part of it that refuses nothing', 'DROP TRIGGER ringfence_audit_refuse ON ringfence_data.audit_incarnations',
	'error audit_refuse_missing: ringfence_data.audit_incarnations');
SELECT set_config('test.partition', to_char(now() AT TIME ZONE 'UTC', '"ringfence_data.audit_log_"YYYYMM'), true);
SELECT * FROM pg_temp.defect('a partition of it that refuses nothing', format('ALTER TABLE %s DISABLE TRIGGER ringfence_audit_refuse', current_setting('test.partition')),
	'error audit_refuse_missing: ' || current_setting('test.partition'));
SELECT * FROM pg_temp.defect('no partition for the next month',
	format('DROP TABLE %s', to_char((now() AT TIME ZONE 'UTC') + interval '1 month', '"ringfence_data.audit_log_"YYYYMM')),
	'warning audit_partition_missing: ' || to_char((now() AT TIME ZONE 'UTC') + interval '1 month', '"ringfence_data.audit_log_"YYYYMM'));
-- The ledger.

SELECT * FROM pg_temp.defect('balances that a role may write', 'GRANT INSERT ON ringfence_data.ledger_balances TO ringfence_jobs',
	'error ledger_writable: ringfence_data.ledger_balances');
SELECT * FROM pg_temp.defect('transfers that their owner may write', 'GRANT UPDATE (amount), DELETE ON ringfence_data.ledger_transfers TO ringfence_owner',
	'error ledger_writable: ringfence_data.ledger_transfers');
SELECT * FROM pg_temp.defect('transfers that nothing refuses to change', 'DROP TRIGGER ringfence_ledger_refuse ON ringfence_data.ledger_transfers',
	'error ledger_guard_missing: ringfence_ledger_refuse ON ringfence_data.ledger_transfers');
SELECT * FROM pg_temp.defect('a trigger that refuses less',
	'CREATE OR REPLACE TRIGGER ringfence_ledger_refuse BEFORE DELETE ON ringfence_data.ledger_holds EXECUTE FUNCTION ringfence.ledger_refuse()',
	'error ledger_guard_missing: ringfence_ledger_refuse ON ringfence_data.ledger_holds');
SELECT * FROM pg_temp.defect('accounts whose rules change unchecked', 'DROP TRIGGER ringfence_ledger_200_rules ON ringfence_data.ledger_accounts',
	'error ledger_guard_missing: ringfence_ledger_200_rules ON ringfence_data.ledger_accounts');
SELECT * FROM pg_temp.defect('a trigger that is disabled, once', 'ALTER TABLE ringfence_data.ledger_balances DISABLE TRIGGER ringfence_ledger_refuse',
	'warning trigger_disabled: ringfence_ledger_refuse ON ringfence_data.ledger_balances');
CREATE FUNCTION shop.notice() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NULL; END $$;
REVOKE EXECUTE ON FUNCTION shop.notice() FROM PUBLIC;
SELECT * FROM pg_temp.defect('a trigger that would never fire',
	'CREATE TRIGGER notice AFTER INSERT ON ringfence_data.ledger_transfers FOR EACH ROW EXECUTE FUNCTION shop.notice()',
	'error ledger_trigger_ignored: notice ON ringfence_data.ledger_transfers');
SELECT * FROM pg_temp.defect('a constraint that would not be kept',
	'ALTER TABLE ringfence_data.ledger_transfers ADD CONSTRAINT small CHECK (amount < 1000000)',
	'error ledger_constraint_ignored: small ON ringfence_data.ledger_transfers');
SELECT * FROM pg_temp.defect('a reference to what comes and goes',
	'ALTER TABLE shop.orders ADD COLUMN hold uuid, ADD CONSTRAINT orders_hold_fkey FOREIGN KEY (org_id, hold) REFERENCES ringfence_data.ledger_holds; CREATE INDEX ON shop.orders (org_id, hold)',
	'error ledger_constraint_ignored: orders_hold_fkey ON shop.orders');
ALTER TABLE ringfence_data.ledger_transfers DROP CONSTRAINT ledger_transfers_amount_check;
SELECT results_eq('SELECT f FROM pg_temp.findings() AS f', $$VALUES ('error ledger_constraint_missing: ledger_transfers_amount_check ON ringfence_data.ledger_transfers')$$,
	'a constraint that is gone');
SELECT * FROM pg_temp.defect('made again, not validated',
	'ALTER TABLE ringfence_data.ledger_transfers ADD CONSTRAINT ledger_transfers_amount_check CHECK (amount > 0) NOT VALID',
	'error ledger_constraint_not_valid: ledger_transfers_amount_check ON ringfence_data.ledger_transfers');
DROP INDEX ringfence_data.ledger_transfers_reverses_id_key;
CREATE INDEX ON ringfence_data.ledger_transfers (org_id, reverses_id);
SELECT results_eq('SELECT f FROM pg_temp.findings() AS f', $$VALUES ('error ledger_index_missing: ringfence_data.ledger_transfers_reverses_id_key')$$,
	'a unique index that is gone');
CREATE UNIQUE INDEX ledger_transfers_reverses_id_key ON ringfence_data.ledger_transfers (org_id, reverses_id) WHERE reverses_id IS NOT NULL;
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'and one that is back');

SELECT ringfence.label('shop.orders', 'customer_code', 'personal');
ALTER EVENT TRIGGER ringfence_forget DISABLE;
ALTER TABLE shop.orders DROP COLUMN customer_code;
ALTER EVENT TRIGGER ringfence_forget ENABLE;
SELECT * FROM pg_temp.defect('a label for nothing', 'SELECT 1', 'warning label_stale: shop.orders.customer_code');
SAVEPOINT unsealed;
SET LOCAL session_replication_role = replica;
INSERT INTO ringfence_data.audit_blocks (number, incarnation, snapshot, sealed_at, records, nonce, root, entries, previous, details, hash, key_id, signature)
VALUES (1, 1, pg_current_snapshot(), now() - interval '2 days', 1, '', '', '', '', '', '', '', '');
SET LOCAL session_replication_role = origin;
SELECT set_eq('SELECT f FROM pg_temp.findings() AS f', ARRAY['info audit_not_sealed: ringfence_data.audit_log']
	|| CASE WHEN ringfence.audit_key_usable() THEN '{}' ELSE ARRAY['warning audit_key_missing: ringfence.audit_key_file'] END,
	'a log that is no longer sealed');
ROLLBACK TO unsealed;

-- The database.

SELECT * FROM pg_temp.defect('no guard', 'DROP EVENT TRIGGER ringfence_guard', 'error guard_missing: ringfence_guard');
SELECT * FROM pg_temp.defect('a guard that is off', 'ALTER EVENT TRIGGER ringfence_forget DISABLE', 'error guard_disabled: ringfence_forget');
SELECT * FROM pg_temp.defect('a guard with fewer tags',
	'DROP EVENT TRIGGER ringfence_guard; CREATE EVENT TRIGGER ringfence_guard ON ddl_command_end WHEN TAG IN (''CREATE TABLE'') EXECUTE FUNCTION ringfence.guard_ddl()',
	'error guard_altered: ringfence_guard');
SELECT * FROM pg_temp.defect('a publication of a table', 'CREATE PUBLICATION p1 FOR TABLE shop.orders, TABLE shop.customers', 'info published: p1');
SELECT * FROM pg_temp.defect('a publication of a schema', 'CREATE PUBLICATION p2 FOR TABLES IN SCHEMA shop', 'info published: p2');
SELECT * FROM pg_temp.defect('a publication of everything', 'CREATE PUBLICATION p3 FOR ALL TABLES', 'info published: p3');
CREATE PUBLICATION p4 FOR TABLE shop.orders WHERE (org_id = '0d9f6c1e-0000-7000-8000-00000000000a');
SELECT is_empty('SELECT f FROM pg_temp.findings() AS f', 'a publication with a row filter is meant');

SAVEPOINT version;
SET LOCAL allow_system_table_mods = on;
UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'ringfence';
SELECT results_eq('SELECT v.code, v.fix FROM pg_temp.verified() AS v',
	$$VALUES ('extension_outdated', 'ALTER EXTENSION ringfence UPDATE;')$$, 'a database that was not updated with its server');
ROLLBACK TO version;

SELECT results_eq(
	$$SELECT s.version, v.severity, v.code, v.object, v.fix
		FROM unnest(ARRAY[140023, 150013, 150018, 150019, 160009, 170010, 180004, 180005, 190000]) AS s (version)
		CROSS JOIN ringfence.verify_server(s.version) AS v
		ORDER BY 1$$,
	$$VALUES
		(140023, 'error', 'server_too_old', 'PostgreSQL 14.23', '-- Update the server to 15 or later.'),
		(150013, 'error', 'server_too_old', 'PostgreSQL 15.13', '-- Update the server to 15.19 or later.'),
		(150018, 'error', 'server_too_old', 'PostgreSQL 15.18', '-- Update the server to 15.19 or later.'),
		(160009, 'error', 'server_too_old', 'PostgreSQL 16.9', '-- Update the server to 16.15 or later.'),
		(170010, 'error', 'server_too_old', 'PostgreSQL 17.10', '-- Update the server to 17.11 or later.'),
		(180004, 'error', 'server_too_old', 'PostgreSQL 18.4', '-- Update the server to 18.5 or later.')$$,
	'servers without a fix that row security needs');
SELECT matches((SELECT v.message FROM ringfence.verify_server(150015) AS v), 'CVE-2026-2004.*CVE-2026-14666',
	'the holes that such a server has are named');
SELECT unalike((SELECT v.message FROM ringfence.verify_server(150015) AS v), '%CVE-2025-8713%', 'those that it has no longer are not');

SAVEPOINT bare;
SELECT ringfence.uninstall('cleaning', true), ringfence.uninstall('merchant', true);
SELECT ringfence.unprotect(t) FROM unnest(ARRAY['shop.orders', 'shop.customers']::regclass[]) AS t;
DROP SCHEMA shop CASCADE;
DROP TABLE public.all_orders CASCADE;
SELECT ringfence.uninstall('core', true);
SELECT * FROM pg_temp.defect('a database without core', 'SELECT 1', 'warning core_not_installed: ' || current_database());
ROLLBACK TO bare;

-- Who may ask.

SELECT function_privs_are('ringfence', 'verify', '{}', r, ARRAY[]::text[], r || ' may not call verify()')
	FROM unnest(ARRAY['ringfence_anon', 'ringfence_member', 'ringfence_operator', 'ringfence_jobs', 'ringfence_authenticator']) AS r;
CREATE ROLE regress_verify_dba;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO regress_verify_dba', current_database()); END $$;
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
SET LOCAL ROLE regress_verify_dba;
SET LOCAL row_security = off;
SELECT results_eq('SELECT v.code, v.object FROM pg_temp.verified() AS v', $$VALUES ('rls_disabled', 'shop.orders')$$,
	'the database''s owner may, and sees the same');
RESET ROLE;
SET LOCAL search_path = shop, public;
SELECT results_eq('SELECT v.object, v.fix FROM pg_temp.verified() AS v',
	$$VALUES ('shop.orders', 'ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.orders FORCE ROW LEVEL SECURITY;')$$,
	'names are qualified whatever the caller''s search_path');

SELECT * FROM finish();
ROLLBACK;
