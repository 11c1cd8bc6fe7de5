-- The books: balances now and at a moment, statements, trial balances, closed
-- periods, all of which say the same as the transfers themselves; and what may be
-- said of assets and accounts.
\ir include/ledger.sql
SET client_min_messages = warning;
SELECT plan(174);

-- What the transfers themselves come to, up to and at a moment.
CREATE FUNCTION public.reckoned(account text, at timestamptz) RETURNS bigint LANGUAGE sql STABLE
AS $$
	SELECT coalesce(sum(CASE WHEN (t.debit_account_id = l.id) = (l.kind IN ('asset', 'expense')) THEN t.amount ELSE -t.amount END), 0)::bigint
	FROM ringfence_data.ledger_accounts AS l
	LEFT JOIN ringfence_data.ledger_transfers AS t ON t.org_id = l.org_id AND l.id IN (t.debit_account_id, t.credit_account_id)
		AND t.state = 'posted' AND t.posted_at <= at
	WHERE l.id = a(account)
$$;
-- Where balance(), trial_balance(), statement() or the views say anything else, at
-- any of the moments that matter.
CREATE FUNCTION public.wrong() RETURNS SETOF text LANGUAGE plpgsql
AS $$
DECLARE
	moment timestamptz;
	account text;
	right_one bigint;
	answer text;
BEGIN
	FOR moment IN
		SELECT t.posted_at + s.s
		FROM ringfence_data.ledger_transfers AS t, unnest('{-1 microsecond,0,1 microsecond}'::interval[]) AS s (s)
		UNION SELECT p.closed_before + s.s
		FROM ringfence_data.ledger_periods AS p, unnest('{-1 microsecond,0,1 microsecond}'::interval[]) AS s (s)
		UNION SELECT unnest(ARRAY['-infinity', 'infinity', clock_timestamp(), clock_timestamp() - interval '1 hour', '1900-01-01', '9999-01-01'])
		ORDER BY 1
	LOOP
		FOREACH account IN ARRAY '{cash,wallet,sales,rent,points,issued,till}'::text[] LOOP
			right_one := reckoned(account, moment);
			answer := said(format('SELECT ringfence.balance(%L, %L)', a(account), moment));
			IF answer IS DISTINCT FROM right_one::text THEN
				RETURN NEXT format('balance of %s at %s: %s, not %s', account, moment, answer, right_one);
			END IF;
			answer := said(format('SELECT b.balance FROM ringfence.trial_balance(at => %L) AS b WHERE b.account_id = %L', moment, a(account)));
			IF answer IS DISTINCT FROM right_one::text THEN
				RETURN NEXT format('trial balance of %s at %s: %s, not %s', account, moment, answer, right_one);
			END IF;
			answer := said(format('SELECT coalesce((SELECT s.balance FROM ringfence.statement(%L, ''-infinity'', %L) WITH ORDINALITY AS s ORDER BY s.ordinality DESC LIMIT 1), 0)', a(account), moment + interval '1 microsecond'));
			IF answer IS DISTINCT FROM right_one::text THEN
				RETURN NEXT format('statement of %s to %s: %s, not %s', account, moment, answer, right_one);
			END IF;
			-- whatever comes after it leads to the same
			answer := said(format('SELECT coalesce((SELECT s.balance FROM ringfence.statement(%L, %L) WITH ORDINALITY AS s ORDER BY s.ordinality DESC LIMIT 1), ringfence.balance(%1$L))', a(account), moment));
			IF answer IS DISTINCT FROM reckoned(account, 'infinity')::text THEN
				RETURN NEXT format('statement of %s from %s: %s, not %s', account, moment, answer, reckoned(account, 'infinity'));
			END IF;
		END LOOP;
		answer := said(format('SELECT bool_and(x.debits = x.credits) FROM (SELECT b.asset, sum(b.debits) AS debits, sum(b.credits) AS credits FROM ringfence.trial_balance(at => %L) AS b GROUP BY b.asset) AS x', moment));
		IF answer <> 'true' THEN
			RETURN NEXT format('trial balance at %s: debits and credits differ', moment);
		END IF;
	END LOOP;
END
$$;

-- A year

SELECT is(codes(
	'{"id": "00000000-0000-4000-8000-000000000001", "credit": "wallet", "amount": 1000, "kind": "deposit", "reference": "first", "posted_at": "2025-01-10T10:00:00Z"}',
	'{"id": "00000000-0000-4000-8000-000000000002", "debit": "wallet", "amount": 300, "posted_at": "2025-01-20T10:00:00Z", "metadata": {"order": 1}}',
	'{"id": "00000000-0000-4000-8000-000000000004", "debit": "wallet", "amount": 50, "posted_at": "2025-02-01T00:00:00Z"}',
	'{"id": "00000000-0000-4000-8000-000000000003", "debit": "rent", "credit": "cash", "amount": 200, "kind": "rent", "posted_at": "2025-02-01T00:00:00Z"}',
	'{"id": "00000000-0000-4000-8000-000000000005", "debit": "sales", "credit": "wallet", "amount": 20, "kind": "refund", "posted_at": "2025-03-15T12:00:00Z"}',
	'{"id": "00000000-0000-4000-8000-000000000006", "debit": "wallet", "amount": 5, "posted_at": "2025-02-01T00:00:00Z"}',
	'{"id": "00000000-0000-4000-8000-000000000007", "debit": "wallet", "amount": 100, "state": "pending", "posted_at": "2025-03-20T12:00:00Z"}',
	'{"id": "00000000-0000-4000-8000-000000000008", "debit": "wallet", "amount": 30, "state": "pending", "posted_at": "2025-03-20T12:00:00Z"}',
	'{"id": "00000000-0000-4000-8000-000000000009", "pending_id": "00000000-0000-4000-8000-000000000008", "amount": 25, "posted_at": "2025-03-21T12:00:00Z"}',
	'{"debit": "issued", "credit": "points", "amount": 77, "posted_at": "2025-02-14T12:00:00Z"}',
	'{"credit": "wallet", "amount": 7}'), btrim(repeat('ok ', 11)), 'a year''s transfers');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:wallet''), 9999, ''charge'', posted_at => ''2025-01-15Z'')', 'B') ~ '^[0-9a-f-]{36}$', true, 'another organization''s');

SELECT is(said(format('SELECT ringfence.balance(%L)', a(account))), balance::text, 'the balance of ' || account)
FROM (VALUES ('cash', 807), ('wallet', 647), ('sales', 360), ('rent', 200), ('points', 77), ('issued', 77), ('till', 0)) AS b (account, balance);
SELECT is(said(format('SELECT ringfence.available(%L)', a(account))), balance::text, 'what is available of ' || account)
FROM (VALUES ('cash', 807), ('wallet', 547), ('sales', 360), ('credit', 100)) AS b (account, balance);
SELECT is(said(format('SELECT ringfence.balance(a(''wallet''), %L)', at)), balance::text, 'the wallet at ' || at)
FROM (VALUES ('-infinity', 0), ('2025-01-10T09:59:59.999999Z', 0), ('2025-01-10T10:00:00Z', 1000), ('2025-01-31T23:59:59.999999Z', 700), ('2025-02-01T00:00:00Z', 645),
	('2025-03-15T12:00:00Z', 665), ('2025-03-21T12:00:00Z', 640), ('infinity', 647)) AS b (at, balance);
SELECT is_empty('SELECT wrong()', 'everything says the same at all times');
SELECT is(said(format('SELECT ringfence.%s(%L)', f, a(account))), format('PT404 account "%s" does not exist', a(account)), format('%s() of %s', f, account))
FROM unnest('{balance,available,statement}'::text[]) AS f, unnest('{nowhere,B:cash}'::text[]) AS account;
SELECT is(said(format('SELECT ringfence.%s(NULL)', f)), 'PT404 account "<NULL>" does not exist', f || '() of NULL') FROM unnest('{balance,available,statement}'::text[]) AS f;
SELECT throws_ok(format('SELECT ringfence.%s', f), '42501', 'no organization is set for this transaction', 'without a context: ' || f)
FROM unnest('{balance(a(''cash'')),available(a(''cash'')),statement(a(''cash'')),account(''cash''),trial_balance()}'::text[]) AS f;

-- Statements

CREATE FUNCTION public.lines(arguments text) RETURNS text LANGUAGE sql
AS $$
	SELECT said(format('SELECT string_agg(concat_ws('' '', to_char(s.posted_at AT TIME ZONE ''UTC'', ''MM-DD''), right(s.transfer_id::text, 1), s.kind, c.code, coalesce(s.debit::text, ''-''), coalesce(s.credit::text, ''-''), s.balance, s.reference, s.metadata), ''; '' ORDER BY s.ordinality)
		FROM ringfence.statement(%s) WITH ORDINALITY AS s LEFT JOIN ringfence_data.ledger_accounts AS c ON c.id = s.counterparty_id', arguments))
$$;
SELECT is(lines('a(''wallet''), NULL, ''2026-01-01Z'''),
	'01-10 1 deposit cash - 1000 1000 first; 01-20 2 charge sales 300 - 700 {"order": 1}; 02-01 4 charge sales 50 - 650; 02-01 6 charge sales 5 - 645; 03-15 5 refund sales - 20 665; 03-21 9 charge sales 25 - 640',
	'a statement, by time and then by id');
SELECT is(lines('a(''cash''), NULL, ''2026-01-01Z'''), '01-10 1 deposit wallet 1000 - 1000 first; 02-01 3 rent rent - 200 800', 'of an asset');
SELECT is(lines('a(''wallet''), ''2025-02-01Z'', ''2025-03-15T12:00:00Z'''), '02-01 4 charge sales 50 - 650; 02-01 6 charge sales 5 - 645', 'from a moment on, until before another');
SELECT is(lines('a(''wallet''), ''2025-02-01T00:00:00.000001Z'', ''2025-03-15T12:00:00.000001Z'''), '03-15 5 refund sales - 20 665', 'to the microsecond');
SELECT is(lines('a(''wallet''), ''2025-02-01Z'', ''2025-02-01Z'''), NULL, 'of no time');
SELECT is(lines('a(''wallet''), ''2025-03-01Z'', ''2025-02-01Z'''), NULL, 'of less');
SELECT is(lines('a(''till'')'), NULL, 'of an account without transfers');
SELECT is(said('SELECT count(*) || '' '' || max(s.balance) FROM ringfence.statement(a(''wallet''), ''-infinity'', ''infinity'') AS s'), '7 1000', 'of all time');

-- Trial balance

SELECT is(said('SELECT string_agg(concat_ws('' '', b.asset, b.code, b.name, b.kind, b.debits, b.credits, b.balance), ''; '' ORDER BY b.ordinality) FROM ringfence.trial_balance() WITH ORDINALITY AS b'),
	'EUR capital Capital equity 0 0 0; EUR cash Cash asset 1007 200 807; EUR credit Credit liability 0 0 0; EUR refunds Refunds expense 0 0 0; EUR rent Rent expense 200 0 200; '
	'EUR sales Sales revenue 20 380 360; EUR till Till asset 0 0 0; EUR wallet Wallet liability 380 1027 647; PTS issued Issued expense 77 0 77; PTS points Points liability 0 77 77',
	'all accounts, by asset and code');
SELECT is(said('SELECT string_agg(concat_ws('' '', b.code, b.debits, b.credits), ''; '' ORDER BY b.code) FROM ringfence.trial_balance(at => ''2025-01-31Z'') AS b WHERE b.debits + b.credits <> 0'),
	'cash 1000 0; sales 0 300; wallet 300 1000', 'as they were');
SELECT is(said(format('SELECT count(*) FROM ringfence.trial_balance(%L)', :'org_a')), '10', 'of the context''s organization by name');
SELECT is(said(format('SELECT count(*) FROM ringfence.trial_balance(%L)', :'org_b')) ~ '^42501 ', true, 'of another');
SELECT is((SELECT string_agg(b.code || ' ' || b.balance, ', ' ORDER BY b.code) FROM ringfence.trial_balance(:'org_b') AS b WHERE b.balance <> 0), 'cash 9999, wallet 9999', 'by who sees all of them');

-- Periods

CREATE FUNCTION public.closed(before text) RETURNS text LANGUAGE sql
AS $$ SELECT said(format('SELECT to_char(ringfence.close_period(%L) AT TIME ZONE ''UTC'', ''YYYY-MM-DD HH24:MI'')', before)) $$;
SELECT is(closed(before), answer, 'to close ' || before)
FROM (VALUES
	('infinity', '22023 books cannot be closed before infinity'), ('-infinity', '22023 books cannot be closed before -infinity'),
	('2999-01-01', '22023 books cannot be closed before 2999-01-01 | 2999-01-01 00:00:00+00 is in the future.')
) AS r (before, answer);
SELECT is(said('SELECT ringfence.close_period(NULL)'), '22004 a date must be given', 'to close no date');
SELECT is(closed(((now() AT TIME ZONE 'UTC')::date + 1)::text) LIKE '22023 books cannot be closed before %', true, 'or tomorrow');
SELECT throws_ok('SELECT ringfence.close_period(''2025-02-01'')', '42501', 'no organization is set for this transaction', 'without a context');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(closed('2025-02-01'), '25000 rules of the ledger cannot be changed at this isolation level', 'repeatable read');
COMMIT;
SELECT is((SELECT count(*) FROM ringfence_data.ledger_periods), 0::bigint, 'none is closed');
SELECT is(closed('2025-02-01'), '2025-02-01 00:00', 'January is closed');
SELECT results_eq('SELECT p.org_id, p.closed_before, p.closed_at > now() - interval ''1 minute'', p.closed_by FROM ringfence_data.ledger_periods AS p',
	format('VALUES (%L::uuid, ''2025-02-01Z''::timestamptz, true, %L::uuid)', :'org_a', :'user_a'), 'by whom, and when');
SELECT results_eq('SELECT l.code COLLATE "default", c.debits, c.credits FROM ringfence_data.ledger_closing_balances AS c INNER JOIN ringfence_data.ledger_accounts AS l ON l.id = c.account_id ORDER BY 1',
	'VALUES (''cash'', 1000::bigint, 0::bigint), (''sales'', 0, 300), (''wallet'', 300, 1000)', 'closing balances of those that moved');
SELECT is_empty('SELECT wrong()', 'everything says the same at all times');
SELECT is(closed('2025-02-01'), '2025-02-01 00:00', 'to close it again');
SELECT is(closed('2025-01-31'), 'PT409 books are closed already up to a later date than 2025-01-31 | They are closed before 2025-02-01 00:00:00+00.', 'or what is closed');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_periods), 1::bigint, 'changes nothing');
SELECT is(codes('{"posted_at": "2025-01-31T23:59:59.999999Z"}', '{"posted_at": "2025-02-01T00:00:00Z", "amount": 1}'), 'period_closed ok', 'nothing is posted there any more');
SELECT is(codes('{"pending_id": "00000000-0000-4000-8000-000000000007", "amount": 1, "posted_at": "2025-01-31T23:59:59Z"}'), 'period_closed', 'holds neither');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:wallet''), 1, ''charge'', posted_at => ''2025-01-15Z'')', 'B') ~ '^[0-9a-f-]{36}$', true, 'but another organization''s');
SELECT is(closed('2025-04-01'), '2025-04-01 00:00', 'the quarter is closed');
SELECT results_eq('SELECT l.code COLLATE "default", c.debits, c.credits FROM ringfence_data.ledger_closing_balances AS c INNER JOIN ringfence_data.ledger_accounts AS l ON l.id = c.account_id WHERE c.closed_before = ''2025-04-01Z'' ORDER BY 1',
	'VALUES (''cash'', 1001::bigint, 200::bigint), (''issued'', 77, 0), (''points'', 0, 77), (''rent'', 200, 0), (''sales'', 20, 381), (''wallet'', 380, 1020)', 'with all that ever was');
SELECT is(closed('2025-05-01'), '2025-05-01 00:00', 'and a month without transfers');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_closing_balances AS c WHERE c.closed_before = '2025-05-01Z'), 0::bigint, 'which adds no balances');
SELECT is(codes('{"credit": "wallet", "amount": 11, "posted_at": "2025-05-02Z"}', '{"debit": "wallet", "amount": 3, "posted_at": "2025-06-02Z"}'), 'ok ok', 'after it');
SELECT is_empty('SELECT wrong()', 'everything says the same at all times');
SELECT is(said('SELECT ringfence.reverse(''00000000-0000-4000-8000-000000000002'', ''mistake'') IS NOT NULL'), 'true', 'what was posted in a closed period is reversed now');
SELECT is_empty('SELECT wrong()', 'and everything says the same at all times');
SELECT is_empty('SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v', 'all that adds up');
-- Closing balances are what is reckoned from: with another one there is another answer.
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE ringfence_data.ledger_closing_balances AS c SET credits = c.credits + 1000000 WHERE c.account_id = a('wallet') AND c.closed_before = '2025-04-01Z';
RESET session_replication_role;
SELECT said('SELECT ringfence.balance(a(''wallet''), ''2025-04-02Z'') || '' '' || ringfence.balance(a(''wallet''), ''2025-03-16Z'')') AS balances,
	said('SELECT max(b.balance) FROM ringfence.trial_balance(at => ''2025-05-02Z'') AS b WHERE b.code = ''wallet''') AS trial \gset
ROLLBACK;
SELECT is(:'balances' || ' ' || :'trial', '1000640 665 1000651', 'from the closing balance before');
-- Midnight is where the organization is.
UPDATE ringfence_data.orgs AS o SET settings = o.settings || '{"time_zone": "Australia/Sydney"}' WHERE o.id = :'org_b';
SELECT is(said('SELECT ringfence.close_period(''2025-07-01'')', 'B'), '2025-06-30 14:00:00+00', 'in Sydney');
UPDATE ringfence_data.orgs AS o SET settings = o.settings || '{"time_zone": "America/Edmonton"}' WHERE o.id = :'org_b';
SELECT is(said('SELECT ringfence.close_period(''2025-07-01'')', 'B'), '2025-07-01 06:00:00+00', 'in Edmonton');
SELECT results_eq($$SELECT r.name COLLATE "default", l.operation COLLATE "default", ringfence.audit_values(l.new, l.personal, 'new') ->> 'closed_before' FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id WHERE r.name = 'ringfence_data.ledger_periods' ORDER BY l.id LIMIT 1$$,
	$$VALUES ('ringfence_data.ledger_periods', 'INSERT', '2025-02-01T00:00:00+00:00')$$, 'the audit log has it');

-- Assets

SELECT is(said('SELECT ringfence.open_asset(''GBP'', 2, ''Pound sterling'')'), 'GBP', 'an asset');
SELECT is(said('SELECT ringfence.open_asset(''X0123456789ABCDE'', 18)'), 'X0123456789ABCDE', 'with the longest code and the greatest scale');
SELECT results_eq('SELECT s.code COLLATE "default", s.name, s.scale FROM ringfence_data.ledger_assets AS s WHERE s.code IN (''GBP'', ''X0123456789ABCDE'') ORDER BY 1',
	'VALUES (''GBP'', ''Pound sterling'', 2::smallint), (''X0123456789ABCDE'', ''X0123456789ABCDE'', 18::smallint)', 'called by its code where it has no name');
SELECT is(said('SELECT ringfence.open_asset(''GBP'', 2)') LIKE '23505 duplicate key value violates unique constraint "ledger_assets_pkey"%', true, 'the same again');
SELECT is(said('SELECT ringfence.open_asset(''GBP'', 3)', 'B'), 'GBP', 'another organization''s own');
SELECT is(said(format('SELECT ringfence.open_asset(%L, 0)', code)) LIKE '23514 new row for relation "ledger_assets" violates check constraint "ledger_assets_code_check"%', true, format('of code "%s"', code))
FROM unnest('{eur,"","E R",1EUR,EUR-X,ÄUR,X0123456789ABCDEF}'::text[]) AS code;
SELECT is(said(format('SELECT ringfence.open_asset(''ABC'', %s)', scale)) LIKE '23514 new row for relation "ledger_assets" violates check constraint "ledger_assets_scale_check"%', true, 'of scale ' || scale)
FROM unnest('{-1,19}'::integer[]) AS scale;
SELECT is(said('SELECT ringfence.open_asset(NULL, 0)') LIKE '23502 null value in column "code"%', true, 'without a code');
SELECT is(said('SELECT ringfence.open_asset(''ABC'', NULL)') LIKE '23502 null value in column "scale"%', true, 'without a scale');
SELECT throws_ok('SELECT ringfence.open_asset(''ABC'', 0)', '42501', 'no organization is set for this transaction', 'without a context');

-- Accounts

CREATE FUNCTION public.opened(arguments text) RETURNS text LANGUAGE sql
AS $$ SELECT regexp_replace(regexp_replace(said('SELECT ringfence.open_account(' || arguments || ')'), '^[0-9a-f-]{36}$', 'opened'), ' \| .*', '') $$;
SELECT is(opened(arguments), answer, 'to open (' || left(arguments, 100) || ')')
FROM (VALUES
	(1, '''n1'', ''N'', ''EUR'', ''asset''', 'opened'),
	(2, '''n1'', ''N'', ''EUR'', ''asset''', '23505 duplicate key value violates unique constraint "ledger_accounts_code_key"'),
	(3, 'repeat(''c'', 100), ''N'', ''EUR'', ''liability''', 'opened'),
	(4, 'repeat(''c'', 101), ''N'', ''EUR'', ''liability''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_code_check"'),
	(5, ''''', ''N'', ''EUR'', ''liability''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_code_check"'),
	(6, ''' n'', ''N'', ''EUR'', ''liability''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_code_check"'),
	(7, 'E''n\nn'', ''N'', ''EUR'', ''liability''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_code_check"'),
	(8, '''n n/ü:1'', ''N'', ''EUR'', ''liability''', 'opened'),
	(9, '''n2'', '''', ''EUR'', ''liability''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_name_check"'),
	(10, '''n2'', ''N'', ''USD'', ''liability''', '23503 insert or update on table "ledger_accounts" violates foreign key constraint "ledger_accounts_asset_fkey"'),
	(11, '''n2'', ''N'', ''EUR'', ''income''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_kind_check"'),
	(12, '''n2'', ''N'', ''EUR'', ''Asset''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_kind_check"'),
	(13, '''n2'', ''N'', ''EUR'', ''asset'', true, -1', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_credit_limit_check"'),
	(14, '''n2'', ''N'', ''EUR'', ''asset'', true, 4611686018427387904', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_credit_limit_check"'),
	(15, '''n2'', ''N'', ''EUR'', ''asset'', true, 4611686018427387903', 'opened'),
	(16, '''n3'', ''N'', ''EUR'', ''equity'', NULL', '23502 null value in column "no_overdraft" of relation "ledger_accounts" violates not-null constraint'),
	(17, '''n3'', ''N'', ''EUR'', ''equity'', true, NULL', '23502 null value in column "credit_limit" of relation "ledger_accounts" violates not-null constraint'),
	(18, '''n3'', ''N'', NULL, ''equity''', '23502 null value in column "asset" of relation "ledger_accounts" violates not-null constraint'),
	(19, 'NULL, ''N'', ''EUR'', ''equity''', '23502 null value in column "code" of relation "ledger_accounts" violates not-null constraint'),
	(20, '''n3'', ''N'', ''EUR'', ''revenue'', party_kind => ''client''', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_party_id_check"'),
	(21, '''n3'', ''N'', ''EUR'', ''revenue'', party_id => id(''x'')', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_party_id_check"'),
	(22, '''n3'', ''N'', ''EUR'', ''revenue'', party_kind => ''Client'', party_id => id(''x'')', '23514 new row for relation "ledger_accounts" violates check constraint "ledger_accounts_party_kind_check"'),
	(23, '''n3'', ''N'', ''EUR'', ''revenue'', false, 0, ''client'', id(''x'')', 'opened'),
	(24, '''n4'', ''N'', ''EUR'', ''expense''', 'opened')
) AS r (n, arguments, answer)
ORDER BY r.n;
UPDATE ringfence_data.orgs AS o SET settings = '{}' WHERE o.id = :'org_b';
SELECT is(said('SELECT ringfence.open_asset(''NZD'', 2)', 'B'), 'NZD', 'an asset of B');
SELECT is(opened('''n5'', ''N'', ''NZD'', ''asset'''), '23503 insert or update on table "ledger_accounts" violates foreign key constraint "ledger_accounts_asset_fkey"', 'is none of A''s');
SELECT is(sums('n4'), '0 0 0 0', 'an account begins with nothing');
SELECT is(codes('{"debit": "n4", "credit": "n3"}'), 'ok', 'and can be posted to at once');
SELECT is(said('SELECT ringfence.account(''n4'')'), a('n4')::text, 'its id by its code');
SELECT is(said(format('SELECT ringfence.account(%L)', code)), format('PT404 account "%s" does not exist', code), 'of none: ' || code) FROM unnest('{nowhere,CASH,"cash "}'::text[]) AS code;
SELECT throws_ok('SELECT ringfence.open_account(''n6'', ''N'', ''EUR'', ''asset'')', '42501', 'no organization is set for this transaction', 'without a context');

-- Limits of accounts

CREATE FUNCTION public.limited(arguments text) RETURNS text LANGUAGE sql
AS $$ SELECT said('SELECT ringfence.set_account_limit(' || arguments || ')') $$;
SELECT opened('''l'', ''L'', ''EUR'', ''liability''') AS opened, opened('''d'', ''D'', ''EUR'', ''asset''') AS opened_too \gset
SELECT is(codes('{"debit": "l", "credit": "d", "amount": 70}', '{"debit": "l", "credit": "d", "amount": 20, "state": "pending", "id": "limit hold"}', '{"debit": "d", "credit": "l", "amount": 500, "state": "pending", "id": "to come"}'),
	'ok ok ok', 'accounts below 0');
SELECT is(limited(format('a(%L), true, 89', account)), format('23514 account "%s" is beyond that limit | With what pending transfers hold it is overdrawn by 90, and 89 would be allowed.', account), 'a limit that is broken: ' || account)
FROM unnest('{l,d}'::text[]) AS account;
SELECT is(limited(format('a(%L), true', account)) LIKE '23514 account "%" is beyond that limit%', true, 'none at all: ' || account) FROM unnest('{l,d}'::text[]) AS account;
SELECT is(limited(format('a(%L), true, 90', account)), '', 'one that holds: ' || account) FROM unnest('{l,d}'::text[]) AS account;
SELECT is(codes('{"debit": "l", "amount": 1}', '{"debit": "cash", "credit": "d", "amount": 1}'), 'overdraft overdraft', 'is kept from now on');
SELECT is(limited('a(''l''), true, 100'), '', 'more');
SELECT is(codes('{"debit": "l", "amount": 11}', '{"debit": "l", "amount": 10}'), 'overdraft ok', 'is more');
SELECT is(limited('a(''l''), false'), '', 'none any more');
SELECT is(codes('{"debit": "l", "amount": 1000}'), 'ok', 'is none');
SELECT is(limited('a(''l''), true, 4611686018427387903'), '', 'the greatest');
SELECT is(limited('a(''cash''), true, -1') LIKE '23514 %ledger_accounts_credit_limit_check%', true, 'less than none');
SELECT is(limited('a(''l''), NULL') LIKE '23502 null value in column "no_overdraft"%', true, 'NULL');
SELECT is(limited(format('a(%L), true', account)), format('PT404 account "%s" does not exist', a(account)), 'of ' || account) FROM unnest('{nowhere,B:cash}'::text[]) AS account;
SELECT throws_ok('SELECT ringfence.set_account_limit(a(''cash''), true)', '42501', 'no organization is set for this transaction', 'without a context');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(limited('a(''l''), true, 5000'), '25000 rules of the ledger cannot be changed at this isolation level', 'repeatable read');
SELECT is(said('SELECT ringfence.close_account(a(''l''))'), '25000 rules of the ledger cannot be changed at this isolation level', 'to close one');
COMMIT;

-- Closing and opening again

CREATE FUNCTION public.switched(f text, account text) RETURNS text LANGUAGE sql
AS $$ SELECT said(format('SELECT ringfence.%s_account(%L)', f, a(account))) $$;
SELECT is(switched('close', 'd'), '23514 account "d" cannot be closed | Its balance is -70; pending transfers hold 500 of debits and 20 of credits.', 'with a balance and holds');
SELECT is(codes('{"debit": "d", "credit": "capital", "amount": 70}', '{"pending_id": "limit hold", "state": "voided"}'), 'ok ok', 'the balance is gone');
SELECT is(switched('close', 'd'), '23514 account "d" cannot be closed | Its balance is 0; pending transfers hold 500 of debits and 0 of credits.', 'with a hold');
SELECT is(codes('{"pending_id": "to come", "state": "voided"}'), 'ok', 'the hold is gone');
SELECT is(switched('close', 'd'), '', 'it is closed');
SELECT is((SELECT l.closed_at BETWEEN now() - interval '1 minute' AND clock_timestamp() FROM ringfence_data.ledger_accounts AS l WHERE l.id = a('d')), true, 'since now');
SELECT l.closed_at AS closed_at FROM ringfence_data.ledger_accounts AS l WHERE l.id = a('d') \gset
SELECT is(switched('close', 'd'), '', 'again');
SELECT is((SELECT l.closed_at FROM ringfence_data.ledger_accounts AS l WHERE l.id = a('d')), :'closed_at'::timestamptz, 'changes nothing');
SELECT is(codes('{"debit": "d"}', '{"credit": "d"}', '{"debit": "d", "state": "pending"}'), 'debit_account_closed credit_account_closed debit_account_closed', 'nothing is posted to it');
SELECT is(said('SELECT ringfence.balance(a(''d'')) || '' '' || (SELECT count(*) FROM ringfence.statement(a(''d'')))'), '0 2', 'its books can be read');
SELECT is(said(format('SELECT ringfence.reverse(%L, ''mistake'')', t.id)), 'PT409 the debit account is closed | The ledger refused it: debit_account_closed.', 'nor taken back')
FROM ringfence_data.ledger_transfers AS t WHERE t.credit_account_id = a('d') AND t.amount = 70 AND t.state = 'posted';
SELECT is(switched('reopen', 'd'), '', 'it is opened again');
SELECT is(codes('{"debit": "d"}'), 'ok', 'and posted to');
SELECT is(switched('reopen', 'd'), '', 'one that is open stays open');
SELECT is(switched(f, account), format('PT404 account "%s" does not exist', a(account)), f || ' ' || account) FROM unnest('{close,reopen}'::text[]) AS f, unnest('{nowhere,B:till}'::text[]) AS account;
SELECT throws_ok(format('SELECT ringfence.%s_account(a(''till''))', f), '42501', 'no organization is set for this transaction', f || ' without a context') FROM unnest('{close,reopen}'::text[]) AS f;
SELECT is((SELECT l.closed_at FROM ringfence_data.ledger_accounts AS l WHERE l.id = a('B:till')), NULL, 'B''s is open');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	WHERE r.name = 'ringfence_data.ledger_accounts' AND l.operation = 'UPDATE' AND l.key LIKE '%' || a('d') || '%'), 3::bigint, 'the audit log has each change');
SELECT is_empty('SELECT wrong()', 'everything says the same at all times');
SELECT is_empty('SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v', 'all that adds up');
SELECT * FROM finish();
