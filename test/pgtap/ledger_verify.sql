-- ledger_verify() names what a superuser did to the ledger past its defences: to
-- transfers, to what is derived from them, and to the defences themselves; it is
-- silent about a ledger that nobody touched. verify() names the defences, too.
\ir include/ledger.sql
SET client_min_messages = warning;
SELECT plan(179);

-- What ledger_verify() says, "code object", in order; with org A or B for whose. Of
-- ids it tells the names that these tests give them.
CREATE TABLE public.names (name text PRIMARY KEY);
CREATE FUNCTION public.found(org uuid DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$
	SELECT coalesce(string_agg(f.whose || f.code || ' ' || f.object, '; ' ORDER BY f.whose, f.code, f.object COLLATE "C"), 'nothing')
	FROM (
		SELECT CASE v.org_id WHEN '0bbbbbbb-0000-7000-8000-00000000000b' THEN 'B: ' ELSE '' END AS whose, v.code,
			coalesce((SELECT replace(v.object, id(x.name)::text, x.name) FROM public.names AS x WHERE position(id(x.name)::text IN v.object) > 0), replace(v.object, 'ringfence_data.', '')) AS object
		FROM ringfence.ledger_verify(org) AS v
	) AS f
$$;
-- The same once these statements were run by a superuser as replicas are loaded,
-- where neither triggers nor foreign keys say anything; then all is undone.
CREATE FUNCTION public.tampered(VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	statement text;
	n bigint;
BEGIN
	PERFORM ringfence.set_context();
	SET LOCAL session_replication_role = replica;
	FOREACH statement IN ARRAY statements LOOP
		EXECUTE statement;
		GET DIAGNOSTICS n = ROW_COUNT;
		IF n = 0 AND statement ~ '^(UPDATE|INSERT|DELETE)' THEN
			RAISE EXCEPTION 'did nothing: %', statement;
		END IF;
	END LOOP;
	SET LOCAL session_replication_role = origin;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = found();
EXCEPTION WHEN OTHERS THEN
	RETURN SQLERRM;
END
$$;
-- Statements that add to balances what a transfer would have
CREATE FUNCTION public.add(account text, debits bigint, credits bigint) RETURNS text LANGUAGE sql STABLE
RETURN format('UPDATE ringfence_data.ledger_balances SET debits = debits + %s, credits = credits + %s WHERE account_id = %L AND slot = 0', debits, credits, a(account));
-- A transfer that is written by hand: as another one, but for some columns
CREATE FUNCTION public.forge(name text, model text, differences jsonb DEFAULT '{}') RETURNS text LANGUAGE sql STABLE
RETURN format('INSERT INTO ringfence_data.ledger_transfers SELECT r.* FROM ringfence_data.ledger_transfers AS t, jsonb_populate_record(t, %L) AS r WHERE t.id = %L',
	jsonb_build_object('id', id(name)) || differences, id(model));

SELECT is(found(), 'nothing', 'an empty ledger');
INSERT INTO public.names VALUES ('deposit'), ('charge'), ('early'), ('hold'), ('open hold'), ('timed hold'), ('capture'), ('voided hold'), ('void'), ('reversal'), ('refund'), ('forged'), ('forged 2'), ('points'), ('of B'), ('hold of B');
SELECT is(codes('{"id": "early", "credit": "wallet", "amount": 50, "posted_at": "2025-01-10T10:00:00Z"}', '{"id": "deposit", "credit": "wallet", "amount": 1000}', '{"id": "charge", "debit": "wallet", "amount": 300}',
	'{"id": "hold", "debit": "wallet", "amount": 100, "state": "pending"}', '{"id": "capture", "pending_id": "hold", "amount": 60}', '{"id": "voided hold", "debit": "wallet", "amount": 10, "state": "pending"}',
	'{"id": "void", "pending_id": "voided hold", "state": "voided"}', '{"id": "open hold", "debit": "wallet", "amount": 20, "state": "pending"}', '{"id": "timed hold", "debit": "wallet", "amount": 30, "state": "pending", "timeout": "1 hour"}',
	'{"id": "refund", "debit": "sales", "credit": "wallet", "amount": 5}', '{"id": "points", "debit": "issued", "credit": "points", "amount": 9}', '{"state": "pending", "timeout": "1 microsecond"}', '{"debit": "till", "credit": "capital", "amount": 40}'),
	btrim(repeat('ok ', 13)), 'a ledger');
SELECT is(ringfence.expire_pending(), 1::bigint, 'with an expired hold');
SELECT is(said('SELECT ringfence.reverse(id(''refund''), ''mistake'', id(''reversal''))'), id('reversal')::text, 'a reversal');
SELECT is(said('SELECT ringfence.close_period(''2025-02-01'')'), '2025-02-01 00:00:00+00', 'a closed period');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:wallet''), 100, ''deposit'', id(''of B''))', 'B'), id('of B')::text, 'another organization''s');
SELECT is(said('SELECT ringfence.transfer(a(''B:wallet''), a(''B:sales''), 1, ''charge'', id(''hold of B''), pending => true)', 'B'), id('hold of B')::text, 'and a hold of its');
SELECT is(found(), 'nothing', 'nothing is wrong');
SELECT is(found(:'org_a') || ', ' || found(:'org_b') || ', ' || found('0e000000-0000-7000-8000-00000000000e'), 'nothing, nothing, nothing', 'with any, or with what isn''t one');
SELECT is(tampered('SELECT 1'), 'nothing', 'nor where nothing was done');

-- Transfers

CREATE TABLE public.cases (n integer GENERATED ALWAYS AS IDENTITY, what text, found text, statements text[]);
INSERT INTO public.cases (what, found, statements) VALUES
	('an amount that was changed', 'balance_drift account "cash"; balance_drift account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET amount = amount + 1 WHERE id = id(''deposit'')']),
	('also with the balances, where a limit shows it', 'limit_broken account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET amount = 100 WHERE id = id(''deposit'')', add('cash', -900, 0), add('wallet', 0, -900)]),
	('a transfer that was deleted', 'balance_drift account "sales"; balance_drift account "wallet"', ARRAY['DELETE FROM ringfence_data.ledger_transfers WHERE id = id(''charge'')']),
	('one that was added', 'balance_drift account "sales"; balance_drift account "wallet"', ARRAY[forge('forged', 'charge')]),
	('its debit account', 'balance_drift account "till"; balance_drift account "wallet"', ARRAY['UPDATE ringfence_data.ledger_transfers SET debit_account_id = a(''till'') WHERE id = id(''charge'')']),
	('its credit account', 'balance_drift account "capital"; balance_drift account "sales"', ARRAY['UPDATE ringfence_data.ledger_transfers SET credit_account_id = a(''capital'') WHERE id = id(''charge'')']),
	('both, turned round', 'balance_drift account "sales"; balance_drift account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET debit_account_id = credit_account_id, credit_account_id = debit_account_id WHERE id = id(''charge'')']),
	('an account that is not there', 'account_missing account ' || id('nowhere') || '; balance_drift account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET debit_account_id = id(''nowhere'') WHERE id = id(''charge'')']),
	('another organization''s', 'account_missing account ' || a('B:wallet') || '; balance_drift account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET debit_account_id = a(''B:wallet'') WHERE id = id(''charge'')']),
	('a transfer given to another organization', 'balance_drift account "sales"; balance_drift account "wallet"; B: account_missing account ' || least(a('wallet'), a('sales')) || '; B: account_missing account ' || greatest(a('wallet'), a('sales')),
		ARRAY[format('UPDATE ringfence_data.ledger_transfers SET org_id = %L WHERE id = id(''charge'')', :'org_b')]),
	('its asset', 'asset_mismatch account "sales"; asset_mismatch account "wallet"', ARRAY['UPDATE ringfence_data.ledger_transfers SET asset = ''PTS'' WHERE id = id(''charge'')']),
	('a state: nothing moved, and nothing is held', 'balance_drift account "sales"; balance_drift account "wallet"; holds_drift account "sales"; holds_drift account "wallet"; pending_drift account "sales"; pending_drift account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET state = ''pending'' WHERE id = id(''charge'')']),
	('a hold that is said to have moved', 'balance_drift account "sales"; balance_drift account "wallet"; hold_wrong hold open hold; holds_drift account "sales"; holds_drift account "wallet"; pending_drift account "sales"; pending_drift account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET state = ''posted'' WHERE id = id(''open hold'')']),
	('the amount of a hold', 'hold_wrong hold open hold; holds_drift account "sales"; holds_drift account "wallet"; pending_drift account "sales"; pending_drift account "wallet"',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET amount = 21 WHERE id = id(''open hold'')']),
	('a hold''s end', 'hold_wrong hold timed hold', ARRAY['UPDATE ringfence_data.ledger_transfers SET expires_at = expires_at + interval ''1 year'' WHERE id = id(''timed hold'')']),
	('what posted a hold, gone', 'balance_drift account "sales"; balance_drift account "wallet"; holds_drift account "sales"; holds_drift account "wallet"; pending_drift account "sales"; pending_drift account "wallet"',
		ARRAY['DELETE FROM ringfence_data.ledger_transfers WHERE id = id(''capture'')']),
	('what voided one, gone', 'holds_drift account "sales"; holds_drift account "wallet"; pending_drift account "sales"; pending_drift account "wallet"', ARRAY['DELETE FROM ringfence_data.ledger_transfers WHERE id = id(''void'')']),
	('a hold that was posted, gone', 'resolution_wrong transfer capture', ARRAY['DELETE FROM ringfence_data.ledger_transfers WHERE id = id(''hold'')']),
	('more posted than was held, balances in line', 'resolution_wrong transfer capture',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET amount = 101 WHERE id = id(''capture'')', add('wallet', 41, 0), add('sales', 0, 41)]),
	('less voided', 'resolution_wrong transfer void', ARRAY['UPDATE ringfence_data.ledger_transfers SET amount = 9 WHERE id = id(''void'')']),
	('a resolution of what isn''t pending', 'hold_wrong hold open hold; holds_drift account "sales"; holds_drift account "wallet"; pending_drift account "sales"; pending_drift account "wallet"; resolution_wrong transfer forged; resolution_wrong transfer forged 2',
		ARRAY[forge('forged', 'void', jsonb_build_object('pending_id', id('charge'))), forge('forged 2', 'void', jsonb_build_object('pending_id', id('open hold')))]),
	('of what is another organization''s', 'resolution_wrong transfer forged', ARRAY[forge('forged', 'void', jsonb_build_object('pending_id', id('hold of B')))]),
	('of other accounts', 'resolution_wrong transfer void', ARRAY['UPDATE ringfence_data.ledger_transfers SET debit_account_id = a(''rent'') WHERE id = id(''void'')']),
	('a second resolution', 'holds_drift account "sales"; holds_drift account "wallet"; ledger_index_missing ledger_transfers_pending_id_key; pending_drift account "sales"; pending_drift account "wallet"; resolution_repeated transfer voided hold', ARRAY['DROP INDEX ringfence_data.ledger_transfers_pending_id_key', forge('forged', 'void')]),
	('a reversal of another amount, balances in line', 'reversal_wrong transfer reversal',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET amount = 6 WHERE id = id(''reversal'')', add('wallet', 1, 0), add('sales', 0, 1)]),
	('of nothing', 'reversal_wrong transfer reversal', ARRAY['UPDATE ringfence_data.ledger_transfers SET reverses_id = id(''nowhere'') WHERE id = id(''reversal'')']),
	('of another', 'reversal_wrong transfer reversal', ARRAY['UPDATE ringfence_data.ledger_transfers SET reverses_id = id(''charge'') WHERE id = id(''reversal'')']),
	('what was reversed, gone, balances in line', 'reversal_wrong transfer reversal', ARRAY['DELETE FROM ringfence_data.ledger_transfers WHERE id = id(''refund'')', add('wallet', 0, -5), add('sales', -5, 0)]),
	('a second reversal', 'ledger_index_missing ledger_transfers_reverses_id_key; reversal_repeated transfer refund', ARRAY['DROP INDEX ringfence_data.ledger_transfers_reverses_id_key', forge('forged', 'reversal'), add('wallet', 5, 0), add('sales', 0, 5)]),
	('a transfer into a closed period, balances in line', 'closing_drift account "cash" before 2025-02-01 00:00:00+00; closing_drift account "wallet" before 2025-02-01 00:00:00+00; period_violated transfer forged',
		ARRAY[forge('forged', 'early', jsonb_build_object('recorded_at', clock_timestamp())), add('cash', 50, 0), add('wallet', 0, 50)]),
	('closing balances in line as well', 'period_violated transfer forged',
		ARRAY[forge('forged', 'early', jsonb_build_object('recorded_at', clock_timestamp())), add('cash', 50, 0), add('wallet', 0, 50),
			'UPDATE ringfence_data.ledger_closing_balances SET debits = debits + 50 WHERE account_id = a(''cash'')', 'UPDATE ringfence_data.ledger_closing_balances SET credits = credits + 50 WHERE account_id = a(''wallet'')']),
	('a transfer moved out of it', 'closing_drift account "cash" before 2025-02-01 00:00:00+00; closing_drift account "wallet" before 2025-02-01 00:00:00+00',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET posted_at = ''2025-03-01'', posted_on = ''2025-03-01'' WHERE id = id(''early'')']),
	('an amount in it, balances in line', 'closing_drift account "cash" before 2025-02-01 00:00:00+00; closing_drift account "wallet" before 2025-02-01 00:00:00+00',
		ARRAY['UPDATE ringfence_data.ledger_transfers SET amount = 51 WHERE id = id(''early'')', add('cash', 1, 0), add('wallet', 0, 1)]);
-- What constraints refuse, once they are gone
INSERT INTO public.cases (what, found, statements)
SELECT 'without its constraint: ' || c.changed, c.found, ARRAY['ALTER TABLE ringfence_data.ledger_transfers DROP CONSTRAINT ledger_transfers_' || c.name,
	format('UPDATE ringfence_data.ledger_transfers SET %s WHERE id = id(%L)', c.changed, c.id)]
FROM (VALUES
	('amount_check', 'amount = -300', 'charge', 'balance_drift account "sales"; balance_drift account "wallet"; ledger_constraint_missing ledger_transfers_amount_check ON ledger_transfers; transfer_invalid transfer charge'),
	('amount_check', 'amount = 0', 'void', 'ledger_constraint_missing ledger_transfers_amount_check ON ledger_transfers; resolution_wrong transfer void; transfer_invalid transfer void'),
	('credit_account_id_check', 'credit_account_id = debit_account_id', 'charge', 'balance_drift account "sales"; balance_drift account "wallet"; ledger_constraint_missing ledger_transfers_credit_account_id_check ON ledger_transfers; transfer_invalid transfer charge'),
	('posted_at_check', 'posted_at = recorded_at + interval ''1 second''', 'charge', 'ledger_constraint_missing ledger_transfers_posted_at_check ON ledger_transfers; transfer_invalid transfer charge'),
	('posted_on_check', 'posted_on = posted_on - 1', 'charge', 'ledger_constraint_missing ledger_transfers_posted_on_check ON ledger_transfers; transfer_invalid transfer charge'),
	('state_check, DROP CONSTRAINT ledger_transfers_pending_id_check', 'state = ''done''', 'points', 'balance_drift account "issued"; balance_drift account "points"; ledger_constraint_missing ledger_transfers_pending_id_check ON ledger_transfers; ledger_constraint_missing ledger_transfers_state_check ON ledger_transfers; transfer_invalid transfer points'),
	('pending_id_check', 'pending_id = NULL', 'void', 'holds_drift account "sales"; holds_drift account "wallet"; ledger_constraint_missing ledger_transfers_pending_id_check ON ledger_transfers; pending_drift account "sales"; pending_drift account "wallet"; transfer_invalid transfer void'),
	('reverses_id_check', 'reverses_id = id(''charge'')', 'capture', 'ledger_constraint_missing ledger_transfers_reverses_id_check ON ledger_transfers; reversal_wrong transfer capture; transfer_invalid transfer capture'),
	('expires_at_check', 'expires_at = now()', 'charge', 'ledger_constraint_missing ledger_transfers_expires_at_check ON ledger_transfers; transfer_invalid transfer charge')
) AS c (name, changed, id, found);

-- What is derived from transfers
INSERT INTO public.cases (what, found, statements) VALUES
	('a balance', 'asset_unbalanced asset EUR; balance_drift account "cash"', ARRAY[add('cash', 1, 0)]),
	('two balances that go together', 'balance_drift account "cash"; balance_drift account "sales"', ARRAY[add('cash', 100, 0), add('sales', 0, 100)]),
	('what is held by a balance', 'pending_drift account "wallet"', ARRAY['UPDATE ringfence_data.ledger_balances SET debits_pending = 0 WHERE account_id = a(''wallet'')']),
	('a balance that was deleted', 'asset_unbalanced asset EUR; balance_drift account "cash"; balance_missing account "cash"', ARRAY['DELETE FROM ringfence_data.ledger_balances WHERE account_id = a(''cash'')']),
	('one of nothing', 'balance_missing account "rent"', ARRAY['DELETE FROM ringfence_data.ledger_balances WHERE account_id = a(''rent'')']),
	('the first, where there are more', 'balance_missing account "cash"', ARRAY['UPDATE ringfence_data.ledger_balances SET slot = 7 WHERE account_id = a(''cash'')']),
	('one more', 'asset_unbalanced asset EUR; balance_drift account "cash"', ARRAY[format('INSERT INTO ringfence_data.ledger_balances (org_id, account_id, debits, slot) VALUES (%L, %L, 5, 33)', :'org_a', a('cash'))]),
	('B''s', 'B: asset_unbalanced asset EUR; B: balance_drift account "cash"', ARRAY[add('B:cash', 1, 0)]),
	('a hold that was deleted', 'holds_drift account "sales"; holds_drift account "wallet"', ARRAY['DELETE FROM ringfence_data.ledger_holds WHERE id = id(''open hold'')']),
	('one that was added', 'hold_wrong hold forged; holds_drift account "cash"; holds_drift account "sales"',
		ARRAY[format('INSERT INTO ringfence_data.ledger_holds (org_id, id, debit_account_id, credit_account_id, amount) VALUES (%L, id(''forged''), a(''cash''), a(''sales''), 1)', :'org_a')]),
	('one of a hold that was voided', 'hold_wrong hold voided hold; holds_drift account "sales"; holds_drift account "wallet"',
		ARRAY[format('INSERT INTO ringfence_data.ledger_holds (org_id, id, debit_account_id, credit_account_id, amount) VALUES (%L, id(''voided hold''), a(''wallet''), a(''sales''), 10)', :'org_a')]),
	('its amount', 'hold_wrong hold open hold; holds_drift account "sales"; holds_drift account "wallet"', ARRAY['UPDATE ringfence_data.ledger_holds SET amount = 1 WHERE id = id(''open hold'')']),
	('its account', 'hold_wrong hold open hold; holds_drift account "cash"; holds_drift account "wallet"', ARRAY['UPDATE ringfence_data.ledger_holds SET debit_account_id = a(''cash'') WHERE id = id(''open hold'')']),
	('its end', 'hold_wrong hold timed hold', ARRAY['UPDATE ringfence_data.ledger_holds SET expires_at = NULL WHERE id = id(''timed hold'')']),
	('an end that it hasn''t', 'hold_wrong hold open hold', ARRAY['UPDATE ringfence_data.ledger_holds SET expires_at = now() WHERE id = id(''open hold'')']),
	('an account that was deleted', 'account_missing account ' || a('cash') || '; asset_unbalanced asset EUR', ARRAY['DELETE FROM ringfence_data.ledger_accounts WHERE id = a(''cash'')']),
	('its asset', 'asset_mismatch account "till"; asset_unbalanced asset EUR; asset_unbalanced asset PTS', ARRAY['UPDATE ringfence_data.ledger_accounts SET asset = ''PTS'' WHERE id = a(''till'')']),
	('an asset that was deleted', 'asset_missing account "issued"; asset_missing account "points"', ARRAY['DELETE FROM ringfence_data.ledger_assets WHERE org_id = ''' || :'org_a' || ''' AND code = ''PTS''']),
	('a limit that the balance breaks', 'limit_broken account "points"', ARRAY['UPDATE ringfence_data.ledger_accounts SET no_overdraft = true WHERE id = a(''points'')',
		'UPDATE ringfence_data.ledger_transfers SET debit_account_id = credit_account_id, credit_account_id = debit_account_id WHERE id = id(''points'')', add('points', 9, -9), add('issued', -9, 9)]),
	('of an asset', 'limit_broken account "till"', ARRAY['UPDATE ringfence_data.ledger_transfers SET debit_account_id = credit_account_id, credit_account_id = debit_account_id WHERE amount = 40', add('till', -40, 40), add('capital', 40, -40)]),
	('an account that was closed with a balance', 'closed_account_used account "cash"', ARRAY['UPDATE ringfence_data.ledger_accounts SET closed_at = now() WHERE id = a(''cash'')']),
	('with holds', 'closed_account_used account "sales"', ARRAY['UPDATE ringfence_data.ledger_accounts SET closed_at = now() WHERE id = a(''sales'')']),
	('a closing balance', 'closing_drift account "wallet" before 2025-02-01 00:00:00+00', ARRAY['UPDATE ringfence_data.ledger_closing_balances SET credits = 49 WHERE account_id = a(''wallet'')']),
	('one that was deleted', 'closing_drift account "wallet" before 2025-02-01 00:00:00+00', ARRAY['DELETE FROM ringfence_data.ledger_closing_balances WHERE account_id = a(''wallet'')']),
	('one that was added', 'closing_drift account "sales" before 2025-02-01 00:00:00+00',
		ARRAY[format('INSERT INTO ringfence_data.ledger_closing_balances (org_id, closed_before, account_id, debits, credits) VALUES (%L, ''2025-02-01'', a(''sales''), 0, 0)', :'org_a')]),
	('a period that was deleted', 'closing_drift account "cash" before 2025-02-01 00:00:00+00; closing_drift account "wallet" before 2025-02-01 00:00:00+00', ARRAY['DELETE FROM ringfence_data.ledger_periods']),
	('one that was moved', 'closing_drift account "cash" before 2025-01-01 00:00:00+00', ARRAY['UPDATE ringfence_data.ledger_periods SET closed_before = ''2025-01-01''', 'UPDATE ringfence_data.ledger_closing_balances SET closed_before = ''2025-01-01'', credits = credits WHERE account_id = a(''cash'')', 'DELETE FROM ringfence_data.ledger_closing_balances WHERE account_id = a(''wallet'')']);
SELECT is(tampered(VARIADIC c.statements), c.found, c.what) FROM public.cases AS c ORDER BY c.n;

-- What one organization's ledger is found to be says nothing of another's.
CREATE FUNCTION public.whose(account text, org uuid) RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE add(account, 1, 0);
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = found(org);
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN SQLERRM;
END
$$;
SELECT is(whose('B:cash', :'org_a') || ', ' || whose('B:cash', :'org_b'), 'nothing, B: asset_unbalanced asset EUR; B: balance_drift account "cash"', 'each by itself');
-- What it says of them
SELECT is(tampered(format('UPDATE ringfence_data.ledger_transfers SET amount = amount + 1 WHERE id = %L', id('deposit')),
	$do$DO $$ BEGIN RAISE EXCEPTION '%', (SELECT string_agg(v.detail, '; ' ORDER BY v.object) FROM ringfence.ledger_verify() AS v); END $$ $do$),
	'its balance says 1050 of debits and 0 of credits, its transfers say 1051 and 0; its balance says 365 of debits and 1055 of credits, its transfers say 365 and 1056', 'in figures');

-- Defences

CREATE TABLE public.defences (n integer GENERATED ALWAYS AS IDENTITY, statement text, found text);
INSERT INTO public.defences (statement, found)
SELECT format('ALTER TABLE %s DISABLE TRIGGER %I', g.rel, g.name), format('ledger_guard_disabled %I ON %s', g.name, g.rel)
FROM ringfence.ledger_triggers() AS g ORDER BY g.rel::text, g.name;
INSERT INTO public.defences (statement, found)
SELECT format('DROP TRIGGER %I ON %s', g.name, g.rel), format('ledger_guard_missing %I ON %s', g.name, g.rel)
FROM ringfence.ledger_triggers() AS g ORDER BY g.rel::text, g.name;
SELECT set_eq('SELECT DISTINCT g.rel::text FROM ringfence.ledger_triggers() AS g WHERE g.name = ''ringfence_ledger_refuse''',
	'SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relnamespace = ''ringfence_data''::regnamespace AND c.relkind = ''r'' AND c.relname ~ ''^ledger_''', 'all tables of the ledger are guarded');
INSERT INTO public.defences (statement, found)
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', k.conrelid::regclass, k.conname), format('ledger_constraint_missing %I ON %s', k.conname, k.conrelid::regclass)
FROM pg_constraint AS k
WHERE k.connamespace = 'ringfence_data'::regnamespace AND k.conrelid::regclass::text ~ '^ringfence_data.ledger_(transfers|holds|balances|closing_balances|blocks|periods)$' AND k.contype IN ('f', 'c')
ORDER BY k.conrelid::regclass::text, k.conname;
INSERT INTO public.defences (statement, found) VALUES
	('ALTER TABLE ringfence_data.ledger_transfers ENABLE REPLICA TRIGGER ringfence_ledger_refuse', 'ledger_guard_disabled ringfence_ledger_refuse ON ringfence_data.ledger_transfers'),
	('CREATE OR REPLACE TRIGGER ringfence_ledger_refuse BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ringfence_data.ledger_transfers FOR EACH STATEMENT EXECUTE FUNCTION ringfence.ledger_rules_lock()', 'ledger_guard_missing ringfence_ledger_refuse ON ringfence_data.ledger_transfers'),
	('CREATE OR REPLACE TRIGGER ringfence_ledger_refuse BEFORE INSERT OR UPDATE OR TRUNCATE ON ringfence_data.ledger_transfers FOR EACH STATEMENT EXECUTE FUNCTION ringfence.ledger_refuse()', 'ledger_guard_missing ringfence_ledger_refuse ON ringfence_data.ledger_transfers'),
	('CREATE OR REPLACE TRIGGER ringfence_ledger_refuse BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ringfence_data.ledger_transfers FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION ringfence.ledger_refuse()', 'ledger_guard_missing ringfence_ledger_refuse ON ringfence_data.ledger_transfers'),
	('CREATE OR REPLACE TRIGGER ringfence_ledger_100_fixed BEFORE UPDATE ON ringfence_data.ledger_accounts FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_fixed(''created_at'')', 'ledger_guard_missing ringfence_ledger_100_fixed ON ringfence_data.ledger_accounts'),
	('CREATE OR REPLACE TRIGGER ringfence_ledger_200_rules BEFORE UPDATE ON ringfence_data.ledger_accounts FOR EACH ROW WHEN (false) EXECUTE FUNCTION ringfence.ledger_rules_changed()', 'ledger_guard_missing ringfence_ledger_200_rules ON ringfence_data.ledger_accounts'),
	('DROP INDEX ringfence_data.ledger_transfers_reverses_id_key; CREATE UNIQUE INDEX ledger_transfers_reverses_id_key ON ringfence_data.ledger_transfers (org_id, reverses_id) WHERE amount < 0', 'ledger_index_missing ringfence_data.ledger_transfers_reverses_id_key'),
	('DROP INDEX ringfence_data.ledger_transfers_pending_id_key; CREATE UNIQUE INDEX ledger_transfers_pending_id_key ON ringfence_data.ledger_transfers (org_id, pending_id, amount) WHERE pending_id IS NOT NULL', 'ledger_index_missing ringfence_data.ledger_transfers_pending_id_key'),
	('GRANT INSERT, DELETE ON ringfence_data.ledger_transfers TO ringfence_owner', 'ledger_writable ringfence_data.ledger_transfers'),
	('GRANT UPDATE (amount) ON ringfence_data.ledger_transfers TO ringfence_member', 'ledger_writable ringfence_data.ledger_transfers'),
	('GRANT UPDATE ON ringfence_data.ledger_balances TO PUBLIC', 'ledger_writable ringfence_data.ledger_balances'),
	('GRANT INSERT ON ringfence_data.ledger_blocks TO ringfence_jobs', 'ledger_writable ringfence_data.ledger_blocks'),
	('DROP INDEX ringfence_data.ledger_transfers_pending_id_key', 'ledger_index_missing ringfence_data.ledger_transfers_pending_id_key'),
	('DROP INDEX ringfence_data.ledger_transfers_reverses_id_key; CREATE INDEX ledger_transfers_reverses_id_key ON ringfence_data.ledger_transfers (org_id, reverses_id)', 'ledger_index_missing ringfence_data.ledger_transfers_reverses_id_key'),
	('ALTER TABLE ringfence_data.ledger_transfers DROP CONSTRAINT ledger_transfers_amount_check; ALTER TABLE ringfence_data.ledger_transfers ADD CONSTRAINT ledger_transfers_amount_check CHECK (amount > 0) NOT VALID', 'ledger_constraint_not_valid ledger_transfers_amount_check ON ringfence_data.ledger_transfers'),
	('CREATE TRIGGER mine AFTER INSERT ON ringfence_data.ledger_transfers FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_refuse()', 'ledger_trigger_ignored mine ON ringfence_data.ledger_transfers'),
	('ALTER TABLE ringfence_data.ledger_transfers ADD CONSTRAINT mine CHECK (amount < 1000000)', 'ledger_constraint_ignored mine ON ringfence_data.ledger_transfers'),
	('CREATE TABLE public.mine (org_id uuid, id uuid, FOREIGN KEY (org_id, id) REFERENCES ringfence_data.ledger_holds)', 'ledger_constraint_ignored mine_org_id_id_fkey ON public.mine');
-- What ledger_verify() says of it, or, with what was wrong before, verify()
CREATE FUNCTION public.undefended(statement text, before text[] DEFAULT NULL) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE statement;
	IF before IS NULL THEN
		SELECT string_agg(v.code || ' ' || v.object, '; ' ORDER BY v.code, v.object) INTO answer FROM ringfence.ledger_verify() AS v;
	ELSE
		SELECT string_agg(v.code || ' ' || v.object, '; ' ORDER BY v.code, v.object) INTO answer FROM ringfence.verify() AS v WHERE v.code || ' ' || v.object <> ALL (before);
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = coalesce(answer, 'nothing');
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN SQLERRM;
END
$$;
SELECT ok(d.found IN (SELECT regexp_split_to_table(undefended(d.statement), '; ')), d.found || ': ' || d.statement) FROM public.defences AS d ORDER BY d.n;
CREATE TABLE public.before AS SELECT array_agg(v.code || ' ' || v.object) AS findings FROM ringfence.verify() AS v;
SELECT is(undefended('SELECT 1', b.findings), 'nothing', 'verify(), as they are') FROM public.before AS b;
SELECT is(undefended(d.statement, b.findings), d.found, 'verify(): ' || d.statement)
FROM public.before AS b, (VALUES
	(1, 'ALTER TABLE ringfence_data.ledger_transfers DISABLE TRIGGER ringfence_ledger_refuse', 'trigger_disabled ringfence_ledger_refuse ON ringfence_data.ledger_transfers'),
	(2, 'DROP TRIGGER ringfence_ledger_refuse ON ringfence_data.ledger_balances', 'ledger_guard_missing ringfence_ledger_refuse ON ringfence_data.ledger_balances'),
	(3, 'ALTER TABLE ringfence_data.ledger_transfers DROP CONSTRAINT ledger_transfers_debit_account_id_fkey', 'foreign_key_missing ringfence_data.ledger_transfers.debit_account_id; ledger_constraint_missing ledger_transfers_debit_account_id_fkey ON ringfence_data.ledger_transfers'),
	(4, 'ALTER TABLE ringfence_data.ledger_transfers DROP CONSTRAINT ledger_transfers_amount_check', 'ledger_constraint_missing ledger_transfers_amount_check ON ringfence_data.ledger_transfers'),
	(5, 'GRANT INSERT ON ringfence_data.ledger_holds TO ringfence_owner', 'ledger_writable ringfence_data.ledger_holds'),
	(6, 'DROP INDEX ringfence_data.ledger_transfers_reverses_id_key', 'foreign_key_index_missing ledger_transfers_reverses_id_fkey ON ringfence_data.ledger_transfers; ledger_index_missing ringfence_data.ledger_transfers_reverses_id_key'),
	(7, 'CREATE TRIGGER mine AFTER INSERT ON ringfence_data.ledger_transfers FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_refuse()', 'ledger_trigger_ignored mine ON ringfence_data.ledger_transfers'),
	(8, 'ALTER TABLE ringfence_data.ledger_transfers ADD CONSTRAINT mine CHECK (amount < 1000000)', 'ledger_constraint_ignored mine ON ringfence_data.ledger_transfers'),
	(9, 'ALTER TABLE ringfence_data.ledger_transfers DISABLE ROW LEVEL SECURITY', 'rls_disabled ringfence_data.ledger_transfers'),
	(10, 'ALTER TABLE ringfence_data.ledger_accounts NO FORCE ROW LEVEL SECURITY', 'rls_not_forced ringfence_data.ledger_accounts'),
	(11, 'DROP POLICY org_isolation ON ringfence_data.ledger_balances', 'isolation_policy_missing org_isolation ON ringfence_data.ledger_balances'),
	(12, 'GRANT EXECUTE ON FUNCTION ringfence.transfers(ringfence.transfer[]) TO PUBLIC', 'function_public ringfence.transfers(ringfence.transfer[])')
) AS d (n, statement, found)
ORDER BY d.n;
SELECT is(found(), 'nothing', 'all is undone');

-- Who may ask: those who see all rows, so that silence means something.
CREATE ROLE regress_ledger_job LOGIN IN ROLE ringfence_jobs;
CREATE FUNCTION public.ask(call text) RETURNS text LANGUAGE plpgsql
AS $$ DECLARE answer text; BEGIN EXECUTE 'SELECT coalesce(string_agg(v.code, '' '' ORDER BY v.code), ''nothing'') FROM ' || call || ' AS v' INTO answer; RETURN answer; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM; END $$;
SET session_replication_role = replica;
SELECT add(account, 1, 0) FROM unnest('{cash,B:cash}'::text[]) AS account \gexec
RESET session_replication_role;
SET SESSION AUTHORIZATION regress_ledger_job;
SELECT is(ask('ringfence.ledger_verify()'), '42501 permission denied for the ledger', 'a job whose role sees no row');
SET ROLE ringfence_jobs;
SELECT is(ask('ringfence.ledger_verify()'), 'asset_unbalanced asset_unbalanced balance_drift balance_drift', 'one that takes the role');
SELECT is(ask(format('ringfence.ledger_verify(%L)', :'org_b')), 'asset_unbalanced balance_drift', 'of one organization');
RESET ROLE;
SET SESSION AUTHORIZATION regress_operator;
SELECT is(ask('ringfence.ledger_verify()'), '42501 permission denied for the ledger', 'an operator');
BEGIN; SELECT ringfence.enter_org(:'org_b', 'look') \g /dev/null
SELECT is(ask('ringfence.ledger_verify()') || ', ' || ask('ringfence_v1.ledger_verify()'), 'asset_unbalanced balance_drift, asset_unbalanced balance_drift', 'in an organization');
SELECT is(ask(format('ringfence.ledger_verify(%L)', :'org_a')), '42501 permission denied for the ledger', 'but not of another'); COMMIT;
SET SESSION AUTHORIZATION regress_web;
BEGIN; SELECT claim(:'claims_a');
SELECT is(ask('ringfence_v1.ledger_verify()'), 'asset_unbalanced balance_drift', 'an owner, of the own organization');
SELECT is(ask('ringfence.ledger_verify()'), '42501 permission denied for function ledger_verify', 'and of that alone'); COMMIT;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_ledger_job;
SELECT * FROM finish();
