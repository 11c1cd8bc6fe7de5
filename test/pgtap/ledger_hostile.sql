-- The ledger where somebody means it harm: nobody writes it but the library, neither
-- a tenant nor the code or the owner of its tables nor a superuser by an ordinary
-- statement; nobody learns anything of another organization's ledger, nor more of
-- their own than is theirs; nobody posts who was not given the right. What is
-- refused is tried without what refuses it, too.
\ir include/ledger.sql
SET client_min_messages = warning;
SELECT plan(279);

CREATE ROLE regress_ledger_job LOGIN IN ROLE ringfence_jobs;
CREATE ROLE regress_ledger_dba LOGIN;
CREATE ROLE regress_ledger_maker LOGIN;
SELECT format('ALTER DATABASE %I OWNER TO regress_ledger_dba', current_database()) \gexec
GRANT USAGE ON SCHEMA ringfence_data, ringfence TO regress_ledger_maker;
GRANT CREATE ON SCHEMA public TO regress_ledger_maker;

-- Something of everything, in both organizations
CREATE TABLE public.filled AS
SELECT o.org, said('SELECT ringfence.open_account(''only ' || o.org || ''', ''Only'', ''EUR'', ''asset'')', o.org) AS account,
	said(format('SELECT ringfence.transfer(a(%L), a(%L), 500, ''deposit'', id(%L), posted_at => ''2025-01-10Z'')', o.pre || 'cash', o.pre || 'wallet', 'deposit' || o.org), o.org) AS deposit,
	said(format('SELECT ringfence.transfer(a(%L), a(%L), 10, ''charge'', id(%L), pending => true)', o.pre || 'wallet', o.pre || 'sales', 'hold' || o.org), o.org) AS hold,
	said(format('SELECT ringfence.transfer(a(%L), a(%L), 20, ''rent'', id(%L), pending => true)', o.pre || 'rent', o.pre || 'cash', 'other hold' || o.org), o.org) AS other_hold,
	said(format('SELECT ringfence.transfer(a(%L), a(%L), 7, ''points'', id(%L))', o.pre || 'issued', o.pre || 'points', 'points' || o.org), o.org) AS points,
	said(format('SELECT ringfence.transfer(a(%L), a(%L), 30, ''sale'', id(%L), posted_at => ''2025-01-10Z'')', o.pre || 'cash', o.pre || 'sales', 'sale' || o.org), o.org) AS sale,
	said('SELECT ringfence.close_period(''2025-02-01'')', o.org) AS period
FROM (VALUES ('A', ''), ('B', 'B:')) AS o (org, pre);
SELECT is((SELECT count(*) FROM public.filled AS f WHERE concat_ws(' ', f.account, f.deposit, f.hold, f.other_hold, f.points, f.sale) ~ '^[-0-9a-f ]{221}$' AND f.period IS NOT NULL), 2::bigint, 'both have a ledger');

-- Writing

-- Tries all ways to write these tables as whoever calls it. Tells of those that were
-- not refused with 42501 and one of these messages.
CREATE FUNCTION public.unrefused(rels text[], VARIADIC messages text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	attempt text;
	target record;
	statement text;
	caught text;
BEGIN
	FOR target IN
		SELECT c.oid::regclass AS rel, c.relname AS name, quote_ident(a.attname) AS col, quote_ident(l.attname) AS last,
			(SELECT string_agg(quote_ident(k.attname), ', ') FROM pg_attribute AS k WHERE k.attrelid = c.oid AND k.attnum = ANY (i.indkey)) AS key
		FROM pg_class AS c
		INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = 1
		INNER JOIN pg_attribute AS l ON l.attrelid = c.oid AND l.attnum = c.relnatts
		INNER JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
		WHERE c.relnamespace = 'ringfence_data'::regnamespace AND c.relname = ANY (rels)
		ORDER BY 1
	LOOP
		FOREACH attempt IN ARRAY ARRAY[
			'INSERT INTO %1$s DEFAULT VALUES',
			'INSERT INTO %1$s (%2$s) SELECT NULL WHERE false',
			'INSERT INTO %1$s SELECT * FROM %1$s',
			'INSERT INTO %1$s (%2$s) VALUES (NULL) ON CONFLICT DO NOTHING',
			'INSERT INTO %1$s SELECT * FROM %1$s ON CONFLICT (%4$s) DO UPDATE SET %3$s = EXCLUDED.%3$s',
			'UPDATE %1$s SET %2$s = DEFAULT',
			'UPDATE %1$s SET %2$s = %2$s',
			'UPDATE %1$s SET %3$s = %3$s',
			'UPDATE %1$s SET %2$s = NULL WHERE false',
			'DELETE FROM %1$s',
			'DELETE FROM %1$s WHERE false',
			'TRUNCATE %1$s CASCADE',
			'TRUNCATE ONLY %1$s CASCADE',
			'MERGE INTO %1$s AS t USING (SELECT 1) AS s ON false WHEN NOT MATCHED THEN INSERT (%2$s) VALUES (NULL)',
			'MERGE INTO %1$s AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN UPDATE SET %2$s = t.%2$s',
			'MERGE INTO %1$s AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE',
			'WITH gone AS (DELETE FROM %1$s RETURNING 1) SELECT count(*) FROM gone',
			'WITH made AS (INSERT INTO %1$s SELECT * FROM %1$s RETURNING 1) SELECT count(*) FROM made'
		] LOOP
			statement := format(attempt, target.rel, target.col, target.last, target.key);
			BEGIN
				EXECUTE statement;
				RETURN NEXT statement;
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS caught = MESSAGE_TEXT;
				IF SQLSTATE <> '42501' OR caught NOT IN (SELECT format(m.m, target.name) FROM unnest(messages) AS m (m)) THEN
					RETURN NEXT statement || ': ' || SQLSTATE || ' ' || caught;
				END IF;
			END;
		END LOOP;
	END LOOP;
END $$;
\set closed '{ledger_transfers,ledger_holds,ledger_balances,ledger_blocks}'
\set all '{ledger_transfers,ledger_holds,ledger_balances,ledger_blocks,ledger_assets,ledger_accounts,ledger_periods,ledger_closing_balances}'
SELECT set_eq($$SELECT c.relname::text FROM pg_class AS c WHERE c.relnamespace = 'ringfence_data'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname ~ '^ledger_'$$,
	format('SELECT unnest(%L::text[])', :'all'), 'the tables of the ledger');
SELECT state() AS before \gset

SELECT is_empty(format('SELECT unrefused(%L, ''the ledger is written by ringfence alone'')', :'closed'), 'a superuser');
SELECT throws_ok(format('COPY ringfence_data.%s FROM PROGRAM ''echo''', rel), '42501', 'the ledger is written by ringfence alone', 'by COPY: ' || rel) FROM unnest(:'closed'::text[]) AS rel;
SELECT throws_ok(format(statement, rel), '42501', 'the ledger is written by ringfence alone', format(statement, rel))
FROM unnest('{ledger_assets,ledger_accounts,ledger_periods,ledger_closing_balances}'::text[]) AS rel,
	unnest(ARRAY['DELETE FROM ringfence_data.%s', 'TRUNCATE ringfence_data.%s CASCADE']) AS statement;
SELECT throws_ok(format('UPDATE ringfence_data.%s SET org_id = org_id', rel), '42501', 'the ledger is written by ringfence alone', 'nor change ' || rel)
FROM unnest('{ledger_periods,ledger_closing_balances}'::text[]) AS rel;
SELECT throws_ok('TRUNCATE ringfence_data.orgs CASCADE', '42501', NULL, 'nor by way of orgs');
SET ROLE ringfence_owner;
SELECT is_empty(format('SELECT unrefused(%L, ''permission denied for table %%s'', ''the ledger is written by ringfence alone'')', :'closed'), 'the owner of the tables');
RESET ROLE;
SET SESSION AUTHORIZATION regress_ledger_dba;
SELECT is_empty(format('SELECT unrefused(%L, ''permission denied for table %%s'')', :'all'), 'the owner of the database');
SET SESSION AUTHORIZATION regress_ledger_maker;
SELECT is_empty(format('SELECT unrefused(%L, ''permission denied for table %%s'')', :'all'), 'a role that sees the schema');
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'look') \g /dev/null
SELECT is_empty(format('SELECT unrefused(%L, ''permission denied for table %%s'')', :'all'), 'an operator in an organization');
COMMIT;
SET SESSION AUTHORIZATION regress_ledger_job;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'nightly') \g /dev/null
SELECT is_empty(format('SELECT unrefused(%L, ''permission denied for table %%s'')', :'all'), 'a job');
SET LOCAL ROLE ringfence_jobs;
SELECT is_empty(format('SELECT unrefused(%L, ''permission denied for table %%s'')', :'all'), 'past row security');
COMMIT;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is_empty(format('SELECT unrefused(%L, ''permission denied for table %%s'')', :'all'), 'an organization''s owner');
SELECT throws_ok(format('SELECT 1 FROM ringfence_data.%s FOR %s', rel, lock), '42501', 'permission denied for table ' || rel, format('can''t lock a row of %s for %s', rel, lock))
FROM unnest('{ledger_balances,ledger_holds,ledger_transfers,ledger_accounts}'::text[]) AS rel, unnest('{UPDATE,"KEY SHARE"}'::text[]) AS lock;
SELECT throws_ok(format('LOCK ringfence_data.%s IN ROW EXCLUSIVE MODE', rel), '42501', 'permission denied for table ' || rel, 'can''t lock the table ' || rel)
FROM unnest('{ledger_balances,ledger_holds,ledger_transfers,ledger_accounts,ledger_periods}'::text[]) AS rel;
SELECT throws_ok(format(statement, rel), state, NULL, 'nor by a view: ' || format(statement, rel))
FROM (VALUES ('ledger_assets', '42501'), ('ledger_accounts', '55000'), ('ledger_transfers', '42501')) AS v (rel, state),
	unnest('{UPDATE ringfence_v1.%s SET name = NULL,DELETE FROM ringfence_v1.%s,INSERT INTO ringfence_v1.%s DEFAULT VALUES}'::text[]) AS statement
WHERE NOT (rel = 'ledger_transfers' AND statement LIKE 'UPDATE%');
SELECT throws_ok('UPDATE ringfence_v1.ledger_transfers SET amount = 1', '42501', 'permission denied for view ledger_transfers', 'nor an amount');
SELECT throws_ok(statement, '42501', NULL, statement)
FROM unnest(ARRAY[
	'ALTER TABLE ringfence_data.ledger_transfers DISABLE TRIGGER ALL', 'DROP TRIGGER ringfence_ledger_refuse ON ringfence_data.ledger_transfers',
	'ALTER TABLE ringfence_data.ledger_balances NO FORCE ROW LEVEL SECURITY', 'SET LOCAL session_replication_role = replica',
	'CREATE POLICY p ON ringfence_data.ledger_transfers USING (true)', 'CREATE RULE r AS ON INSERT TO ringfence_data.ledger_transfers DO INSTEAD NOTHING',
	'SELECT ringfence.ledger_guard()', 'SELECT ringfence.ledger_lock(ringfence.org_id())', 'SELECT ringfence.ledger_seal()', 'SELECT ringfence.expire_pending()',
	'SELECT ringfence.ledger_settle(''0'')', 'SELECT ringfence.ledger_add_block(ringfence.org_id(), ''2025-01-01'', ''2025-01-02'', 1, '''', ''{}'')',
	'SELECT ringfence.open_asset(''X'', 0)', 'SELECT ringfence.open_account(''x'', ''X'', ''EUR'', ''asset'')', 'SELECT ringfence.set_account_limit(a(''cash''), false)',
	'SELECT ringfence.close_account(a(''till''))', 'SELECT ringfence.reopen_account(a(''till''))', 'SELECT ringfence.set_account_closed(a(''till''), true)', 'SELECT ringfence.close_period(''2025-03-01'')',
	'SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'')', 'SELECT ringfence.transfers(''{}'')', 'SELECT ringfence.post_pending(id(''holdA''))',
	'SELECT ringfence.void_pending(id(''holdA''))', 'SELECT ringfence.reverse(id(''saleA''), ''mine'')', 'SELECT ringfence_data.accounting_org()'
]) AS statement;
COMMIT;
BEGIN;
SELECT claim('{"role": "ringfence_anon"}', 'ringfence_anon');
SELECT throws_ok(statement, '42501', NULL, 'nobody can: ' || statement)
FROM unnest(ARRAY[
	'DELETE FROM ringfence_data.ledger_transfers', 'SELECT 1 FROM ringfence_data.ledger_accounts', 'SELECT 1 FROM ringfence_v1.ledger_accounts', 'SELECT ringfence.balance(a(''cash''))',
	'SELECT ringfence_v1.ledger_statement(a(''cash''))', 'SELECT ringfence_v1.trial_balance()', 'SELECT ringfence.account(''cash'')', 'SELECT ringfence.transfers(''{}'')'
]) AS statement;
COMMIT;
RESET SESSION AUTHORIZATION;
-- Code with the owner's rights, and a superuser's, called by a member.
CREATE FUNCTION public.definer_unrefused(rels text[]) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT public.unrefused(rels, 'permission denied for table %s', 'the ledger is written by ringfence alone') $$;
ALTER FUNCTION public.definer_unrefused(text[]) OWNER TO ringfence_owner;
CREATE FUNCTION public.superuser_unrefused(rels text[]) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT public.unrefused(rels, 'the ledger is written by ringfence alone') $$;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is_empty(format('SELECT definer_unrefused(%L)', :'closed'), 'a function of ringfence_owner''s');
SELECT is_empty(format('SELECT superuser_unrefused(%L)', :'closed'), 'a superuser''s');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is(state(), :'before', 'after all that the ledger is the same');

-- Each of what refuses does so by itself: without the others it is refused still,
-- without any of them it isn't.
CREATE FUNCTION public.change(role text DEFAULT 'ringfence_owner') RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	n integer;
	answer text;
BEGIN
	PERFORM ringfence.set_context('0aaaaaaa-0000-7000-8000-00000000000a');
	EXECUTE format('SET LOCAL ROLE %I', role);
	UPDATE ringfence_data.ledger_transfers SET amount = amount + 1 WHERE id = public.id('saleA');
	GET DIAGNOSTICS n = ROW_COUNT;
	RESET ROLE;
	RETURN n;
EXCEPTION WHEN OTHERS THEN
	RESET ROLE;
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE FUNCTION public.without(VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	statement text;
BEGIN
	FOREACH statement IN ARRAY statements LOOP
		EXECUTE statement;
	END LOOP;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = change();
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN SQLERRM;
END
$$;
\set trigger 'ALTER TABLE ringfence_data.ledger_transfers DISABLE TRIGGER ringfence_ledger_refuse'
\set privilege 'GRANT UPDATE ON ringfence_data.ledger_transfers TO ringfence_owner'
\set policy 'CREATE POLICY p ON ringfence_data.ledger_transfers FOR UPDATE TO ringfence_owner USING (true)'
\set force 'ALTER TABLE ringfence_data.ledger_transfers NO FORCE ROW LEVEL SECURITY'
SELECT is(change(), '42501 permission denied for table ledger_transfers', 'to change an amount');
SELECT is(without(:'privilege', :'policy'), '42501 the ledger is written by ringfence alone', 'the trigger alone');
SELECT is(without(:'trigger', :'policy'), '42501 permission denied for table ledger_transfers', 'privileges alone');
SELECT is(without(:'trigger', :'privilege'), '0', 'policies alone');
SELECT is(without(:'trigger', :'privilege', :'policy'), '1', 'nothing');
SELECT is(without(:'trigger', :'privilege', :'force'), '1', 'nothing, where row security isn''t forced');
SELECT is(without('SET LOCAL session_replication_role = replica', :'privilege', :'policy'), '1', 'as replicas are loaded');
CREATE FUNCTION public.emptied(rel regclass) RETURNS boolean LANGUAGE plpgsql
AS $$
DECLARE
	n bigint;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE format('DELETE FROM %s', rel);
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = n;
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN SQLERRM::bigint > 0;
END
$$;
SELECT is(emptied(('ringfence_data.' || rel)::regclass), true, 'a superuser who means it empties ' || rel)
FROM unnest('{ledger_transfers,ledger_holds,ledger_balances,ledger_accounts}'::text[]) AS rel;
SELECT is(state(), :'before', 'the ledger is the same');

-- What an app's code may do with the tables that it writes
CREATE FUNCTION public.code(statement text) RETURNS text LANGUAGE sql
AS $$ SELECT regexp_replace(said('WITH w AS (' || statement || ' RETURNING 1) SELECT count(*) FROM w'), ' \| .*', '') $$;
SELECT is(code(statement), answer, statement)
FROM (VALUES
	(1, 'UPDATE ringfence_data.ledger_accounts SET name = ''Cash in hand'', code = ''cash in hand'' WHERE id = a(''till'')', '1'),
	(2, 'UPDATE ringfence_data.ledger_accounts SET code = ''till'', name = ''Till'' WHERE id = a(''cash in hand'')', '1'),
	(3, 'UPDATE ringfence_data.ledger_accounts SET kind = ''liability'' WHERE id = a(''cash'')', '23514 columns of table ringfence_data.ledger_accounts never change: kind'),
	(4, 'UPDATE ringfence_data.ledger_accounts SET asset = ''PTS'' WHERE id = a(''cash'')', '23514 columns of table ringfence_data.ledger_accounts never change: asset'),
	(5, 'UPDATE ringfence_data.ledger_accounts SET id = id(''x''), created_at = now() WHERE id = a(''cash'')', '23514 columns of table ringfence_data.ledger_accounts never change: id, created_at'),
	(6, format('UPDATE ringfence_data.ledger_accounts SET org_id = %L WHERE id = a(''cash'')', :'org_b'), '23514 columns of table ringfence_data.ledger_accounts never change: org_id'),
	(7, 'UPDATE ringfence_data.ledger_accounts SET closed_at = ''2025-01-01'' WHERE id = a(''cash'')', '23514 account "cash" cannot be closed'),
	(8, 'UPDATE ringfence_data.ledger_accounts SET no_overdraft = true WHERE id = a(''sales'')', '1'),
	(9, 'UPDATE ringfence_data.ledger_accounts SET no_overdraft = false WHERE id = a(''sales'')', '1'),
	(10, 'UPDATE ringfence_data.ledger_accounts SET name = name WHERE id = a(''B:cash'')', '0'),
	(11, format('INSERT INTO ringfence_data.ledger_accounts (org_id, code, name, asset, kind) VALUES (%L, ''x'', ''X'', ''EUR'', ''asset'')', :'org_b'), '42501 new row violates row-level security policy "org_isolation" for table "ledger_accounts"'),
	(12, 'UPDATE ringfence_data.ledger_assets SET name = ''Euros'' WHERE code = ''EUR''', '1'),
	(13, 'UPDATE ringfence_data.ledger_assets SET scale = 3 WHERE code = ''EUR''', '23514 columns of table ringfence_data.ledger_assets never change: scale'),
	(14, 'UPDATE ringfence_data.ledger_assets SET code = ''EUX'' WHERE code = ''EUR''', '23514 columns of table ringfence_data.ledger_assets never change: code'),
	(15, format('INSERT INTO ringfence_data.ledger_periods (org_id, closed_before) VALUES (%L, ''2025-03-01'')', :'org_b'), '42501 new row violates row-level security policy "org_isolation" for table "ledger_periods"'),
	(16, 'INSERT INTO ringfence_data.ledger_periods (closed_before) VALUES (''infinity'')', '23514 books cannot be closed before infinity'),
	(17, 'INSERT INTO ringfence_data.ledger_periods (closed_before) VALUES (''2999-01-01'')', '23514 books cannot be closed before 2999-01-01 00:00:00+00'),
	(18, 'UPDATE ringfence_data.ledger_periods SET closed_before = ''2020-01-01''', '42501 permission denied for table ledger_periods'),
	(19, 'UPDATE ringfence_data.ledger_periods SET org_id = org_id', '42501 the ledger is written by ringfence alone'),
	(20, 'DELETE FROM ringfence_data.ledger_periods', '42501 permission denied for table ledger_periods'),
	(21, 'DELETE FROM ringfence_data.ledger_accounts', '42501 permission denied for table ledger_accounts'),
	(22, 'DELETE FROM ringfence_data.ledger_closing_balances', '42501 permission denied for table ledger_closing_balances')
) AS r (n, statement, answer)
ORDER BY r.n;
SELECT is(said(format('SELECT count(*) FROM (SELECT 1 FROM ringfence_data.%s FOR UPDATE) AS l', rel)), '0', 'code locks no row of ' || rel) FROM unnest('{ledger_balances,ledger_holds,ledger_transfers}'::text[]) AS rel;

-- The trigger that gives accounts their balances makes none for other tables.
CREATE TRIGGER planted AFTER INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_account_opened();
SELECT throws_ok(format('INSERT INTO public.notes (org_id, body) VALUES (%L, ''x'')', :'org_a'), '39P01', 'function "ledger_account_opened" is for the ledger''s accounts alone', 'on another table');
DROP TRIGGER planted ON public.notes;
CREATE TRIGGER planted BEFORE INSERT ON public.notes FOR EACH STATEMENT EXECUTE FUNCTION ringfence.ledger_account_opened();
SELECT throws_ok(format('INSERT INTO public.notes (org_id, body) VALUES (%L, ''x'')', :'org_a'), '39P01', 'function "ledger_account_opened" must be called as a trigger after INSERT for each row', 'at another time');
DROP TRIGGER planted ON public.notes;
SET SESSION AUTHORIZATION regress_ledger_maker;
CREATE TABLE public.forged (org_id uuid, id uuid);
SELECT throws_ok('CREATE TRIGGER x AFTER INSERT ON public.forged FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_account_opened()', '42501', 'permission denied for function ringfence.ledger_account_opened', 'or by who may not');
SELECT throws_ok('CREATE TABLE public.watch (org_id uuid, id uuid, FOREIGN KEY (org_id, id) REFERENCES ringfence_data.ledger_transfers (org_id, id))', '42501', 'permission denied for table ledger_transfers', 'nor can they hold on to transfers');
SELECT throws_ok('CREATE TRIGGER x BEFORE INSERT ON ringfence_data.ledger_accounts FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', '42501', 'permission denied for table ledger_accounts', 'nor have triggers on them');
RESET SESSION AUTHORIZATION;

-- Another organization's

-- An id of B's has the same answer as one that is not there, letter by letter.
CREATE TABLE public.calls (n integer GENERATED ALWAYS AS IDENTITY, call text, theirs text, answer text);
INSERT INTO public.calls (call, theirs, answer) VALUES
	('SELECT ringfence.balance(%L)', 'cash', 'PT404'),
	('SELECT ringfence.balance(%L, ''2025-06-01'')', 'cash', 'PT404'),
	('SELECT ringfence.available(%L)', 'wallet', 'PT404'),
	('SELECT count(*) FROM ringfence.statement(%L)', 'cash', 'PT404'),
	('SELECT count(*) FROM ringfence.statement(%L, ''2025-01-01'', ''2026-01-01'')', 'cash', 'PT404'),
	('SELECT count(*) FROM ringfence_v1.ledger_statement(%L)', 'cash', 'PT404'),
	('SELECT ringfence.set_account_limit(%L, true)', 'cash', 'PT404'),
	('SELECT ringfence.close_account(%L)', 'only B', 'PT404'),
	('SELECT ringfence.reopen_account(%L)', 'only B', 'PT404'),
	('SELECT ringfence.transfer(%L, a(''sales''), 1, ''charge'')', 'cash', 'PT404'),
	('SELECT ringfence.transfer(a(''cash''), %L, 1, ''charge'')', 'sales', 'PT404'),
	('SELECT ringfence.transfer(%L, %1$L, 1, ''charge'')', 'cash', '22023'),
	('SELECT ringfence.transfer(a(''cash''), %L, 1, ''charge'', asset => ''PTS'', posted_at => ''2024-01-01'')', 'sales', 'PT404'),
	('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'', id => %L) IS NOT NULL', 'id: saleB', 'true'),
	('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'', id => %L, pending => true) IS NOT NULL', 'id: holdB', 'true'),
	('SELECT ringfence.post_pending(%L)', 'id: holdB', 'PT404'),
	('SELECT ringfence.post_pending(%L, 1000000)', 'id: holdB', 'PT404'),
	('SELECT ringfence.void_pending(%L)', 'id: holdB', 'PT404'),
	('SELECT ringfence.reverse(%L, ''mine'')', 'id: saleB', 'PT404'),
	('SELECT ringfence.reverse(%L, ''mine'')', 'id: holdB', 'PT404'),
	('SELECT r.code FROM ringfence.transfers(ARRAY[t(jsonb_build_object(''pending_id'', %L))]) AS r', 'id: holdB', 'pending_not_found'),
	('SELECT r.code FROM ringfence.transfers(ARRAY[t(jsonb_build_object(''pending_id'', %L, ''debit'', ''B:wallet'', ''credit'', ''B:sales'', ''amount'', 10))]) AS r', 'id: holdB', 'pending_not_found'),
	('SELECT r.code FROM ringfence.transfers(ARRAY[t(jsonb_build_object(''id'', %L))]) AS r', 'id: saleB', 'ok'),
	('SELECT string_agg(r.code, '' '') FROM ringfence.transfers(ARRAY[t(jsonb_build_object(''id'', %L, ''state'', ''pending'')), t(jsonb_build_object(''pending_id'', %1$L))]) AS r', 'id: holdB', 'ok ok'),
	('SELECT count(*) FROM ringfence.trial_balance(%L)', 'org', '42501'),
	('SELECT count(*) FROM ringfence.ledger_verify(%L)', 'org', '42501'),
	('SELECT ringfence.account(%L)', 'code', 'PT404'),
	('SELECT count(*) FROM ringfence_data.ledger_transfers AS t WHERE t.id = %L', 'id: saleB', '0'),
	('SELECT count(*) FROM ringfence_data.ledger_holds AS t WHERE t.id = %L', 'id: holdB', '0'),
	('SELECT count(*) FROM ringfence_data.ledger_balances AS t WHERE t.account_id = %L', 'cash', '0'),
	('SELECT count(*) FROM ringfence_data.ledger_accounts AS t WHERE t.id = %L', 'cash', '0'),
	('SELECT count(*) FROM ringfence_data.ledger_closing_balances AS t WHERE t.account_id = %L', 'cash', '0');
CREATE FUNCTION public.answered(call text, argument text) RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = replace(coalesce(said(format(call, argument)), 'NULL'), argument, 'IT');
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN SQLERRM;
END
$$;
CREATE TABLE public.answers AS
SELECT c.n, c.call, c.answer AS expected,
	answered(c.call, CASE WHEN c.theirs LIKE 'id: %' THEN id(substr(c.theirs, 5))::text WHEN c.theirs = 'org' THEN :'org_b' WHEN c.theirs = 'code' THEN 'only B' ELSE a('B:' || c.theirs)::text END) AS theirs,
	answered(c.call, CASE WHEN c.theirs = 'code' THEN 'nowhere' ELSE '0e000000-0000-7000-8000-00000000000e' END) AS none
FROM public.calls AS c;
SELECT ok(s.theirs = s.none AND s.theirs LIKE s.expected || '%', format('%s: %s', s.call, s.theirs)) FROM public.answers AS s ORDER BY s.n;
SELECT is((SELECT string_agg(concat_ws(' ', t.org_id = :'org_b', t.amount), ', ' ORDER BY t.amount) FROM ringfence_data.ledger_transfers AS t WHERE t.id IN (id('saleB'), id('holdB'))), 't 10, t 30', 'B''s are as they were');
-- That it is refused matters: in B these ids are good.
SELECT is(said('SELECT ringfence.balance(a(''B:cash''))', 'B'), '530', 'B''s balance is B''s');
SELECT is(said('SELECT ringfence.post_pending(id(''holdB''), 1, id(''x'')) = id(''x'')', 'B'), 'true', 'as is its hold');
-- Row security aside, nothing but the organization of the key would tell them apart:
-- without org_isolation the other one's balances are there for A's code to see.
BEGIN;
DROP POLICY org_isolation ON ringfence_data.ledger_accounts;
DROP POLICY org_isolation ON ringfence_data.ledger_balances;
SELECT said('SELECT count(*) FROM ringfence_data.ledger_accounts') AS accounts, said('SELECT ringfence.balance(a(''B:cash''))') AS balance \gset
ROLLBACK;
SELECT is(:'accounts'::integer > 20, true, 'without row security they are seen');
SELECT is(:'balance', format('PT404 account "%s" does not exist', a('B:cash')), 'and balance() asks for the organization''s by itself');

-- Members, by role and party

INSERT INTO ringfence_data.users (id, email) SELECT id(u), replace(u, ' ', '.') || '@a.test' FROM unnest('{admin,accountant,worker,client,other client,driver,b client,client accountant}'::text[]) AS u;
INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party) VALUES
	(:'org_a', id('admin'), '{admin}', '{}'),
	(:'org_a', id('accountant'), '{accountant}', '{}'),
	(:'org_a', id('worker'), '{worker,auditor}', '{}'),
	(:'org_a', id('client'), '{client}', jsonb_build_object('client', :'client_a')),
	(:'org_a', id('other client'), '{client}', jsonb_build_object('client', id('x'))),
	-- the same id, of another kind
	(:'org_a', id('driver'), '{driver}', jsonb_build_object('driver', :'client_a')),
	-- the same client in another organization
	(:'org_b', id('b client'), '{client}', jsonb_build_object('client', :'client_a')),
	(:'org_a', id('client accountant'), '{accountant}', jsonb_build_object('client', :'client_a'));
CREATE FUNCTION public.claims(name text, org text DEFAULT '0aaaaaaa-0000-7000-8000-00000000000a') RETURNS text LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('role', 'ringfence_member', 'sub', id(name), 'org_id', org)::text;
-- How many rows of each table and view the caller sees; "-" for no right to look.
CREATE FUNCTION public.seen() RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	rel text;
	n text;
	counts text := '';
BEGIN
	FOREACH rel IN ARRAY '{ringfence_data.ledger_assets,ringfence_data.ledger_accounts,ringfence_data.ledger_transfers,ringfence_data.ledger_holds,ringfence_data.ledger_balances,ringfence_data.ledger_periods,ringfence_data.ledger_closing_balances,ringfence_v1.ledger_assets,ringfence_v1.ledger_accounts,ringfence_v1.ledger_transfers}'::text[] LOOP
		BEGIN
			EXECUTE 'SELECT count(*) FROM ' || rel INTO n;
		EXCEPTION WHEN insufficient_privilege THEN
			n := '-';
		END;
		counts := concat_ws(' ', nullif(counts, ''), n);
	END LOOP;
	RETURN counts;
END
$$;
-- What comes of a call as whoever calls it
CREATE FUNCTION public.try(call text) RETURNS text LANGUAGE plpgsql
AS $$ DECLARE answer text; BEGIN EXECUTE 'SELECT ' || call INTO answer; RETURN answer; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM; END $$;
CREATE FUNCTION public.tries() RETURNS text LANGUAGE sql
AS $$
	SELECT string_agg(left(try(c.c), 5), ' ' ORDER BY c.n)
	FROM unnest(ARRAY['ringfence.balance(a(''wallet''))', 'ringfence.available(a(''wallet''))', '(SELECT count(*) FROM ringfence_v1.ledger_statement(a(''wallet'')))', 'ringfence.balance(a(''wallet''), ''2025-01-31'')',
		'ringfence.balance(a(''cash''))', '(SELECT count(*) FROM ringfence_v1.ledger_statement(a(''cash'')))', '(SELECT count(*) FROM ringfence_v1.trial_balance())',
		'(SELECT count(*) FROM ringfence_v1.ledger_verify())']) WITH ORDINALITY AS c (c, n)
$$;
SET SESSION AUTHORIZATION regress_web;
BEGIN; SELECT claim(:'claims_a'); SELECT is(seen() || ', ' || tries(), '2 11 5 2 11 1 3 2 11 5, 500 490 1 500 530 2 11 0', 'the owner sees all'); COMMIT;
BEGIN; SELECT claim(claims('admin')); SELECT is(seen() || ', ' || tries(), '2 11 5 2 11 1 3 2 11 5, 500 490 1 500 530 2 11 0', 'so does an admin'); COMMIT;
BEGIN; SELECT claim(claims('accountant')); SELECT is(seen() || ', ' || tries(), '2 11 5 2 11 1 3 2 11 5, 500 490 1 500 530 2 11 0', 'and an accountant'); COMMIT;
BEGIN; SELECT claim(claims('client accountant')); SELECT is(seen() || ', ' || tries(), '2 11 5 2 11 1 3 2 11 5, 500 490 1 500 530 2 11 0', 'who may have an account'); COMMIT;
BEGIN; SELECT claim(claims('worker')); SELECT is(seen() || ', ' || tries(), '0 0 0 0 0 0 0 0 0 0, PT404 PT404 PT404 PT404 PT404 PT404 42501 42501', 'other roles see nothing'); COMMIT;
BEGIN; SELECT claim(claims('client')); SELECT is(seen() || ', ' || tries(), '1 1 2 1 1 0 1 1 1 2, 500 490 1 500 PT404 PT404 42501 42501', 'a party sees its own');
SELECT is((SELECT v.code || ' ' || v.balance || ' ' || v.available FROM ringfence_v1.ledger_accounts AS v), 'wallet 500 490', 'the account');
SELECT set_eq('SELECT v.id FROM ringfence_v1.ledger_transfers AS v', 'VALUES (id(''depositA'')), (id(''holdA''))', 'what was posted to it');
SELECT is((SELECT s.counterparty_id FROM ringfence_v1.ledger_statement(a('wallet')) AS s), a('cash'), 'and by whose account, which it can''t look up');
SELECT is((SELECT count(*) FROM ringfence_v1.ledger_accounts AS v WHERE v.id = a('cash')), 0::bigint, 'since it isn''t theirs');
COMMIT;
BEGIN; SELECT claim(claims('other client')); SELECT is(seen() || ', ' || tries(), '0 0 0 0 0 0 0 0 0 0, PT404 PT404 PT404 PT404 PT404 PT404 42501 42501', 'another party doesn''t'); COMMIT;
BEGIN; SELECT claim(claims('driver')); SELECT is(seen() || ', ' || tries(), '0 0 0 0 0 0 0 0 0 0, PT404 PT404 PT404 PT404 PT404 PT404 42501 42501', 'nor does one of another kind'); COMMIT;
BEGIN; SELECT claim(claims('b client', :'org_b')); SELECT is(seen() || ', ' || tries(), '0 0 0 0 0 0 0 0 0 0, PT404 PT404 PT404 PT404 PT404 PT404 42501 42501', 'nor the same one of another organization'); COMMIT;
BEGIN; SELECT claim(claims('client', :'org_b')); SELECT is(seen() || ', ' || tries(), '0 0 0 0 0 0 0 0 0 0, 42501 42501 42501 42501 42501 42501 42501 42501', 'who is no member there'); COMMIT;
BEGIN; SELECT claim(jsonb_set(claims('driver')::jsonb, '{party}', jsonb_build_object('client', :'client_a'))::text); SELECT is(seen(), '0 0 0 0 0 0 0 0 0 0', 'whatever its token says'); COMMIT;
BEGIN; SELECT claim(jsonb_set(claims('worker')::jsonb, '{roles}', '["owner"]')::text); SELECT is(seen(), '0 0 0 0 0 0 0 0 0 0', 'of roles as well'); COMMIT;
BEGIN; SELECT claim('{"role": "ringfence_member"}'); SELECT is(seen() || ', ' || tries(), '0 0 0 0 0 0 0 0 0 0, 42501 42501 42501 42501 42501 42501 42501 42501', 'without claims one sees nothing'); COMMIT;
BEGIN; SELECT claim(:'claims_b'); SELECT is(seen() || ', ' || tries(), '2 11 6 1 11 1 3 2 11 6, PT404 PT404 PT404 PT404 PT404 PT404 11 0', 'B''s owner sees B''s');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_transfers AS t WHERE t.org_id <> :'org_b'), 0::bigint, 'and none of A''s'); COMMIT;
RESET SESSION AUTHORIZATION;
-- Without the party's kind in the policy the driver would see the client's.
ALTER POLICY select_for_accountant ON ringfence_data.ledger_accounts USING (party_id = ringfence.party_id('driver'));
SET SESSION AUTHORIZATION regress_web;
BEGIN; SELECT claim(claims('driver')); SELECT is((SELECT count(*) FROM ringfence_v1.ledger_accounts), 1::bigint, 'it is the policy that keeps them apart'); COMMIT;
RESET SESSION AUTHORIZATION;
ALTER POLICY select_for_accountant ON ringfence_data.ledger_accounts
	USING (ringfence.has_role('owner', 'admin', 'accountant') OR party_id = ringfence.party_id(party_kind));
SET SESSION AUTHORIZATION regress_web;
BEGIN; SELECT claim(claims('worker')); SELECT is(try('ringfence_v1.close_period(''2025-03-01'')'), '42501 permission denied for this organization', 'other roles don''t close books'); COMMIT;
BEGIN; SELECT claim(claims('client')); SELECT is(try('ringfence_v1.close_period(''2025-03-01'')'), '42501 permission denied for this organization', 'nor do parties'); COMMIT;
BEGIN; SELECT claim(claims('accountant')); SELECT is(try('ringfence_v1.close_period(''2025-03-01'')'), '2025-03-01 00:00:00+00', 'accountants do'); COMMIT;
RESET SESSION AUTHORIZATION;
SELECT set_eq('SELECT p.org_id, p.closed_by FROM ringfence_data.ledger_periods AS p WHERE p.closed_before = ''2025-03-01''', format('VALUES (%L::uuid, id(''accountant''))', :'org_a'), 'their own');

-- Operators read the organization that they have entered, and jobs post to it.
SET SESSION AUTHORIZATION regress_operator;
SELECT is(try('seen()'), '0 0 0 0 0 0 0 0 0 0', 'an operator sees nothing');
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'ticket 1') \g /dev/null
SELECT is(seen() || ', ' || tries(), '2 11 5 2 11 2 3 2 11 5, 500 490 1 500 530 2 11 0', 'but of the organization that was entered');
SELECT is(left(try(call), 5), '42501', 'only: ' || call)
FROM unnest(ARRAY['ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'')', 'ringfence.transfers(''{}'')', 'ringfence.post_pending(id(''holdA''))', 'ringfence.void_pending(id(''holdA''))',
	'ringfence.reverse(id(''saleA''), ''x'')', 'ringfence.open_asset(''X'', 0)', 'ringfence.open_account(''x'', ''X'', ''EUR'', ''asset'')', 'ringfence.set_account_limit(a(''cash''), false)',
	'ringfence.close_account(a(''till''))', 'ringfence.reopen_account(a(''till''))', 'ringfence.close_period(''2025-04-01'')', 'ringfence.expire_pending()', 'ringfence.ledger_seal()']) AS call;
COMMIT;
SET SESSION AUTHORIZATION regress_ledger_job;
SELECT is(try('ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'')'), '42501 no organization is set for this transaction', 'a job has to enter one');
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'nightly') \g /dev/null
SELECT is(try('ringfence.transfer(a(''cash''), a(''sales''), 1, ''interest'', id(''job''))'), id('job')::text, 'then it posts');
SELECT is(try('ringfence.transfer(a(''B:cash''), a(''B:sales''), 1, ''interest'')'), 'PT404 there is no such debit account', 'there alone');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT concat_ws(' ', t.org_id = :'org_a', coalesce(t.actor::text, 'nobody')) FROM ringfence_data.ledger_transfers AS t WHERE t.id = id('job')), 't nobody', 'in no user''s name');
CREATE FUNCTION public.pay(amount bigint) RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT ringfence.transfer(public.a('wallet'), public.a('sales'), amount, 'charge', public.id('paid')) $$;
ALTER FUNCTION public.pay(bigint) OWNER TO ringfence_owner;
SET SESSION AUTHORIZATION regress_web;
BEGIN; SELECT claim(claims('client')); SELECT is(try('public.pay(3)'), id('paid')::text, 'a member pays by an app''s function'); COMMIT;
BEGIN; SELECT claim(:'claims_b'); SELECT is(try('public.pay(3)'), 'PT404 there is no such debit account', 'of the own organization'); COMMIT;
BEGIN; SELECT claim('{"role": "ringfence_member"}'); SELECT is(try('public.pay(3)'), '42501 no organization is set for this transaction', 'and of none without'); COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT t.actor FROM ringfence_data.ledger_transfers AS t WHERE t.id = id('paid')), id('client'), 'in the member''s name');

-- Who may execute what

SELECT set_eq(
	$$SELECT r.role || ' ' || p.proname
		FROM pg_proc AS p CROSS JOIN unnest('{ringfence_anon,ringfence_member,ringfence_operator,regress_ledger_maker}'::text[]) AS r (role)
		WHERE p.pronamespace = 'ringfence'::regnamespace AND has_function_privilege(r.role, p.oid, 'EXECUTE')
			AND (p.proname ~ 'ledger|account|transfer|pending|asset|balance|turnover|statement|period' OR p.proname IN ('reverse', 'available'))$$,
	$$SELECT 'ringfence_member ' || f FROM unnest('{account,available,balance,ledger_account_kind,ledger_day,ledger_entries,ledger_org,ledger_turnover,normal_balance,own_accounts,statement}'::text[]) AS f
		UNION ALL SELECT 'ringfence_operator ' || f FROM unnest('{account,available,balance,ledger_account_kind,ledger_block_ends,ledger_constraints,ledger_day,ledger_defences,ledger_digests,ledger_entries,ledger_flaw,ledger_flawed_transfers,ledger_moved,ledger_org,ledger_period_ends,ledger_recount,ledger_root,ledger_scope,ledger_triggers,ledger_turnover,ledger_turnovers,ledger_verify,ledger_verify_accounts,ledger_verify_blocks,ledger_verify_links,normal_balance,statement,trial_balance}'::text[]) AS f$$,
	'members read, operators read, nobody else does anything');
SELECT set_eq(
	$$SELECT r.role || ' ' || p.proname
		FROM pg_proc AS p CROSS JOIN unnest('{ringfence_anon,ringfence_member,ringfence_operator,regress_ledger_maker}'::text[]) AS r (role)
		WHERE p.pronamespace = 'ringfence_v1'::regnamespace AND has_function_privilege(r.role, p.oid, 'EXECUTE') AND p.proname ~ 'ledger|account|balance|period'$$,
	$$SELECT 'ringfence_member ' || f FROM unnest('{close_period,ledger_statement,ledger_verify,trial_balance}'::text[]) AS f
		UNION ALL SELECT 'ringfence_operator ' || f FROM unnest('{ledger_statement,ledger_verify,trial_balance}'::text[]) AS f$$,
	'the endpoints');

-- Text that would be something else

CREATE TABLE public.texts (n integer GENERATED ALWAYS AS IDENTITY, x text);
INSERT INTO public.texts (x) VALUES ('''; DROP TABLE ringfence_data.ledger_transfers; --'), ('%s %I %L %1$s %%'), (E'\\'' OR true --'), ('$1 $$ ${x}'), (E'line\nbreak\ttab'), ('"}, {"amount": 1'), ('{"a": 1}'), ('<script>'), ('=1+1'), (U&'\202Egnp.exe\FEFF');
SELECT is(said(format('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'', id(%L), reference => %L, metadata => %L)', 'text ' || x.n, x.x, jsonb_build_object(x.x, x.x))), id('text ' || x.n)::text, 'a reference: ' || to_json(x.x)::text)
FROM public.texts AS x ORDER BY x.n;
SELECT is((SELECT count(*) FROM public.texts AS x INNER JOIN ringfence_data.ledger_transfers AS t ON t.id = id('text ' || x.n) AND t.reference = x.x AND t.metadata = jsonb_build_object(x.x, x.x)), 10::bigint, 'is kept to the letter');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_transfers AS t, LATERAL (SELECT said(format('SELECT s.reference FROM ringfence.statement(a(''sales'')) AS s WHERE s.transfer_id = %L', t.id)) AS r) AS s WHERE t.reference IN (SELECT x.x FROM public.texts AS x) AND s.r = t.reference), 10::bigint, 'and given back so');
SELECT is(said(format('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, %L)', x.x)), '22023 a kind begins with a lower case letter and has at most 63 of them, digits, underscores and dots | The ledger refused it: kind_invalid.', 'no kind: ' || to_json(x.x)::text)
FROM public.texts AS x ORDER BY x.n;
SELECT is(said(format('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'', asset => %L)', x.x)), 'PT409 the accounts do not both hold that asset | The ledger refused it: asset_mismatch.', 'no asset: ' || to_json(x.x)::text)
FROM public.texts AS x ORDER BY x.n LIMIT 3;
SELECT is(said(format('SELECT ringfence.account(%L)', x.x)), format('PT404 account "%s" does not exist', x.x), 'no account: ' || to_json(x.x)::text) FROM public.texts AS x ORDER BY x.n;
SELECT is(said(format('SELECT ringfence.open_account(%L, %1$L, ''EUR'', ''asset'') IS NOT NULL', x.x)), 'true', 'an account may be called ' || to_json(x.x)::text) FROM public.texts AS x WHERE x.x !~ '[\x01-\x1f]' ORDER BY x.n;
SELECT is(said(format('SELECT ringfence.account(%L) = a(%1$L)', x.x)), 'true', 'and is found by it: ' || to_json(x.x)::text) FROM public.texts AS x WHERE x.x !~ '[\x01-\x1f]' ORDER BY x.n;
SELECT is(said(format('SELECT ringfence.reverse(id(%L), %L) IS NOT NULL', 'text ' || x.n, x.x)), 'true', 'a reason: ' || to_json(x.x)::text) FROM public.texts AS x ORDER BY x.n;
SELECT throws_ok(statement, '22P02', NULL, 'no id: ' || statement) FROM unnest(ARRAY['SELECT ringfence.balance(''1 OR true'')', 'SELECT ringfence.transfer(''x'', ''y'', 1, ''z'')']) AS statement;
-- What a session puts before ringfence's own names
BEGIN;
CREATE TEMPORARY TABLE ledger_accounts (org_id uuid, id uuid, code text, kind text, credit_limit bigint) ON COMMIT DROP;
CREATE TEMPORARY TABLE ledger_balances (org_id uuid, account_id uuid, debits bigint, credits bigint, debits_pending bigint, credits_pending bigint) ON COMMIT DROP;
INSERT INTO pg_temp.ledger_balances SELECT :'org_a', a('cash'), 1000000, 0, 0, 0;
SET LOCAL search_path = pg_temp, public, pg_catalog, ringfence_data;
SELECT public.said('SELECT ringfence.balance(public.a(''cash'')) || '' '' || ringfence.transfer(public.a(''cash''), public.a(''sales''), 1, ''charge'', public.id(''temp''))') AS said \gset
ROLLBACK;
SELECT is(:'said', '531 ' || id('temp'), 'isn''t looked at');

SELECT is_empty('SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v', 'after all that, all adds up');
SELECT is_empty($$SELECT v.code, v.object FROM ringfence.verify() AS v WHERE v.object LIKE '%ringfence_data.ledger\_%'$$, 'and verify() has nothing to say');
SELECT format('ALTER DATABASE %I OWNER TO postgres', current_database()) \gexec
DROP TABLE public.forged;
REVOKE CREATE ON SCHEMA public FROM regress_ledger_maker;
REVOKE USAGE ON SCHEMA ringfence_data, ringfence FROM regress_ledger_maker;
DROP ROLE regress_ledger_job, regress_ledger_dba, regress_ledger_maker;
SELECT * FROM finish();
