-- What postings do to accounts: debits and credits of each kind of account by plain
-- transfers, holds, what becomes of holds, reversals; limits, which count what is
-- held; batches of all sizes; whatever transaction they are made in. Debits and
-- credits of all accounts stay equal throughout.
\ir include/ledger.sql
SET client_min_messages = warning;
SELECT plan(247);

-- Each of these accounts: its sums, its balance, and what can leave it.
CREATE FUNCTION public.books(VARIADIC accounts text[]) RETURNS text LANGUAGE sql
AS $$
	SELECT string_agg(format('%s: %s, %s, %s', n.code, sums(n.code),
		said(format('SELECT ringfence.balance(%L)', a(n.code))), said(format('SELECT ringfence.available(%L)', a(n.code)))), '; ' ORDER BY n.place)
	FROM unnest(accounts) WITH ORDINALITY AS n (code, place)
$$;
-- What debits and credits, and those held, differ by in all.
CREATE FUNCTION public.imbalance() RETURNS text LANGUAGE sql STABLE
AS $$ SELECT sum(b.debits - b.credits) || ' ' || sum(b.debits_pending - b.credits_pending) FROM ringfence_data.ledger_balances AS b $$;
CREATE FUNCTION public.opened(code text, kind text, no_overdraft boolean DEFAULT false, credit_limit bigint DEFAULT 0) RETURNS boolean LANGUAGE sql
AS $$ SELECT said(format('SELECT ringfence.open_account(%L, %1$L, ''EUR'', %L, %L, %L)', code, kind, no_overdraft, credit_limit)) ~ '^[0-9a-f-]{36}$' $$;

-- Step by step

CREATE TABLE public.steps (n integer GENERATED ALWAYS AS IDENTITY, what text, step text, books text);
INSERT INTO public.steps (what, step, books) VALUES
	('nothing yet', '', 'cash: 0 0 0 0, 0, 0; wallet: 0 0 0 0, 0, 0; sales: 0 0 0 0, 0, 0'),
	('a deposit', '{"credit": "wallet", "amount": 1000, "id": "deposit"}',
		'cash: 1000 0 0 0, 1000, 1000; wallet: 0 1000 0 0, 1000, 1000; sales: 0 0 0 0, 0, 0'),
	('a charge', '{"debit": "wallet", "amount": 300, "id": "charge"}',
		'cash: 1000 0 0 0, 1000, 1000; wallet: 300 1000 0 0, 700, 700; sales: 0 300 0 0, 300, 300'),
	('a hold, which takes what is available', '{"debit": "wallet", "amount": 400, "state": "pending", "id": "hold"}',
		'cash: 1000 0 0 0, 1000, 1000; wallet: 300 1000 400 0, 700, 300; sales: 0 300 0 400, 300, 300'),
	('a part of it posted, the rest released', '{"pending_id": "hold", "amount": 150, "id": "capture"}',
		'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1000 0 0, 550, 550; sales: 0 450 0 0, 450, 450'),
	('a hold of all', '{"debit": "wallet", "amount": 550, "state": "pending", "id": "hold 2"}',
		'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1000 550 0, 550, 0; sales: 0 450 0 550, 450, 450'),
	('voided', '{"pending_id": "hold 2", "state": "voided", "id": "void"}',
		'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1000 0 0, 550, 550; sales: 0 450 0 0, 450, 450'),
	('a hold for no time', '{"debit": "wallet", "amount": 50, "state": "pending", "timeout": "1 microsecond", "id": "hold 3"}',
		'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1000 50 0, 550, 500; sales: 0 450 0 50, 450, 450'),
	('swept', 'expire', 'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1000 0 0, 550, 550; sales: 0 450 0 0, 450, 450'),
	('nothing left to be swept', 'expire', 'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1000 0 0, 550, 550; sales: 0 450 0 0, 450, 450'),
	('the charge reversed', 'reverse charge', 'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1300 0 0, 850, 850; sales: 300 450 0 0, 150, 150'),
	('the capture too', 'reverse capture', 'cash: 1000 0 0 0, 1000, 1000; wallet: 450 1450 0 0, 1000, 1000; sales: 450 450 0 0, 0, 0'),
	('a hold of what is to come, which isn''t available', '{"credit": "wallet", "amount": 200, "state": "pending", "id": "hold 4"}',
		'cash: 1000 0 200 0, 1000, 1000; wallet: 450 1450 0 200, 1000, 1000; sales: 450 450 0 0, 0, 0'),
	('all of it posted', '{"pending_id": "hold 4"}', 'cash: 1200 0 0 0, 1200, 1200; wallet: 450 1650 0 0, 1200, 1200; sales: 450 450 0 0, 0, 0'),
	('a refund in cash', '{"debit": "sales", "credit": "cash", "amount": 20, "id": "refund"}',
		'cash: 1200 20 0 0, 1180, 1180; wallet: 450 1650 0 0, 1200, 1200; sales: 470 450 0 0, -20, -20'),
	('a hold of cash', '{"debit": "sales", "credit": "cash", "amount": 80, "state": "pending", "id": "hold 5"}',
		'cash: 1200 20 0 80, 1180, 1100; wallet: 450 1650 0 0, 1200, 1200; sales: 470 450 80 0, -20, -100');
CREATE FUNCTION public.step(step text) RETURNS text LANGUAGE sql
AS $$
	SELECT CASE WHEN step LIKE '{%' THEN codes(step::jsonb)
		WHEN step = 'expire' THEN ringfence.expire_pending()::text
		WHEN step LIKE 'reverse %' THEN said(format('SELECT ''reversed'' FROM ringfence.reverse(id(%L), ''mistake'')', substr(step, 9)))
		ELSE '' END
$$;
CREATE FUNCTION public.walk() RETURNS SETOF text LANGUAGE plpgsql
AS $$
DECLARE
	s record;
BEGIN
	FOR s IN SELECT x.what, x.step, x.books FROM public.steps AS x ORDER BY x.n LOOP
		RETURN NEXT public.matches(step(s.step), '^(ok|reversed|[01]|)$', s.what);
		RETURN NEXT public.is(books('cash', 'wallet', 'sales'), s.books, s.what || ': the books');
	END LOOP;
END
$$;
SELECT walk();
SELECT is(imbalance(), '0 0', 'debits are credits');
SELECT results_eq(
	$$SELECT t.kind COLLATE "default", t.state COLLATE "default", t.amount, t.reference, t.actor, p.kind COLLATE "default", r.kind COLLATE "default",
		t.posted_at = t.recorded_at, t.asset COLLATE "default", t.expires_at - t.recorded_at
		FROM ringfence_data.ledger_transfers AS t
		LEFT JOIN ringfence_data.ledger_transfers AS p ON p.id = t.pending_id
		LEFT JOIN ringfence_data.ledger_transfers AS r ON r.id = t.reverses_id
		ORDER BY t.recorded_at$$,
	format($$VALUES
		('charge', 'posted', 1000::bigint, NULL, %1$L::uuid, NULL, NULL, true, 'EUR', NULL::interval),
		('charge', 'posted', 300, NULL, %1$L, NULL, NULL, true, 'EUR', NULL),
		('charge', 'pending', 400, NULL, %1$L, NULL, NULL, true, 'EUR', NULL),
		('charge', 'posted', 150, NULL, %1$L, 'charge', NULL, true, 'EUR', NULL),
		('charge', 'pending', 550, NULL, %1$L, NULL, NULL, true, 'EUR', NULL),
		('charge', 'voided', 550, NULL, %1$L, 'charge', NULL, true, 'EUR', NULL),
		('charge', 'pending', 50, NULL, %1$L, NULL, NULL, true, 'EUR', '1 microsecond'),
		('charge', 'expired', 50, NULL, NULL, 'charge', NULL, true, 'EUR', NULL),
		('reversal', 'posted', 300, 'mistake', %1$L, NULL, 'charge', true, 'EUR', NULL),
		('reversal', 'posted', 150, 'mistake', %1$L, NULL, 'charge', true, 'EUR', NULL),
		('charge', 'pending', 200, NULL, %1$L, NULL, NULL, true, 'EUR', NULL),
		('charge', 'posted', 200, NULL, %1$L, 'charge', NULL, true, 'EUR', NULL),
		('charge', 'posted', 20, NULL, %1$L, NULL, NULL, true, 'EUR', NULL),
		('charge', 'pending', 80, NULL, %1$L, NULL, NULL, true, 'EUR', NULL)$$, :'user_a'),
	'each of these is on record, with who made it');
SELECT results_eq($$SELECT h.id, h.amount, h.debit_account_id, h.credit_account_id FROM ringfence_data.ledger_holds AS h$$,
	$$VALUES (id('hold 5'), 80::bigint, a('sales'), a('cash'))$$, 'one hold is left');
SELECT is((SELECT (t.debit_account_id, t.credit_account_id) = (a('sales'), a('wallet')) FROM ringfence_data.ledger_transfers AS t WHERE t.reverses_id = id('charge')),
	true, 'a reversal goes the other way round');

-- Balances of each kind, and limits: what comes in is debited to debit-normal
-- accounts, and credited to others.

CREATE TABLE public.kinds (kind text, debit_normal boolean);
INSERT INTO public.kinds (kind, debit_normal) VALUES ('asset', true), ('expense', true), ('liability', false), ('equity', false), ('revenue', false);
CREATE FUNCTION public.moves(account text, VARIADIC amounts text[]) RETURNS text LANGUAGE sql
AS $$
	-- "+100" comes in, "-50" goes out, "h-30" holds it
	SELECT codes(VARIADIC array_agg(
		CASE WHEN (m.m ~ '\+') = k.debit_normal THEN jsonb_build_object('debit', account, 'credit', 'capital') ELSE jsonb_build_object('debit', 'capital', 'credit', account) END
		|| jsonb_build_object('amount', substring(m.m FROM '[0-9]+'), 'state', CASE WHEN m.m LIKE 'h%' THEN 'pending' END, 'id', account || m.m) ORDER BY m.n))
	FROM unnest(amounts) WITH ORDINALITY AS m (m, n)
	INNER JOIN public.kinds AS k ON k.kind = split_part(account, ' ', 1)
$$;
SELECT ok(opened(k.kind || n.name, k.kind, n.name <> ' free', CASE WHEN n.name = ' lent' THEN 50 ELSE 0 END), 'an account: ' || k.kind || n.name)
FROM public.kinds AS k, (VALUES (' free'), (' kept'), (' lent')) AS n (name);
SELECT is(moves(k.kind || ' free', '+100', '-30'), 'ok ok', 'to and from: ' || k.kind) FROM public.kinds AS k;
SELECT is(books(k.kind || ' free'), k.kind || ' free: ' || CASE WHEN k.debit_normal THEN '100 30' ELSE '30 100' END || ' 0 0, 70, 70', 'its normal side: ' || k.kind) FROM public.kinds AS k;
SELECT is(moves(k.kind || ' free', '-500'), 'ok', 'without a limit: ' || k.kind) FROM public.kinds AS k;
SELECT is(books(k.kind || ' free'), k.kind || ' free: ' || CASE WHEN k.debit_normal THEN '100 530' ELSE '530 100' END || ' 0 0, -430, -430', 'it goes below 0: ' || k.kind) FROM public.kinds AS k;
SELECT is(moves(k.kind || ' kept', '-1', '+100', '-101', 'h-60', 'h-41', '-41', '-40', '-2', 'h-3', '+5', 'h+500', '-6', '-5'),
	'overdraft ok overdraft ok overdraft overdraft ok overdraft overdraft ok ok overdraft ok', 'no more than there is, what is held counted: ' || k.kind) FROM public.kinds AS k;
SELECT is(codes(jsonb_build_object('pending_id', k.kind || ' kepth-60')), 'ok', 'what was held can be posted: ' || k.kind) FROM public.kinds AS k;
SELECT is(books(k.kind || ' kept'), k.kind || ' kept: ' || CASE WHEN k.debit_normal THEN '105 105 500 0' ELSE '105 105 0 500' END || ', 0, 0', 'nothing is left: ' || k.kind) FROM public.kinds AS k;
SELECT is(codes(jsonb_build_object('pending_id', k.kind || ' kepth+500', 'amount', 7)), 'ok', 'a part of what was to come: ' || k.kind) FROM public.kinds AS k;
SELECT is(moves(k.kind || ' kept', '-8', '-7', '-1'), 'overdraft ok overdraft', 'and went: ' || k.kind) FROM public.kinds AS k;
SELECT is(moves(k.kind || ' lent', '-51', '-50', '-1', '+30', 'h-31', 'h-30', '-1'), 'overdraft ok overdraft ok overdraft ok overdraft', 'as far as the credit limit: ' || k.kind) FROM public.kinds AS k;
SELECT is(books(k.kind || ' lent'), k.kind || ' lent: ' || CASE WHEN k.debit_normal THEN '30 50 0 30' ELSE '50 30 30 0' END || ', -20, 0', 'below 0 by no more: ' || k.kind) FROM public.kinds AS k;
SELECT is(codes(jsonb_build_object('pending_id', k.kind || ' lenth-30', 'amount', 10)), 'ok', 'a part of it released: ' || k.kind) FROM public.kinds AS k;
SELECT is(moves(k.kind || ' lent', '-21', '-20'), 'overdraft ok', 'is available: ' || k.kind) FROM public.kinds AS k;
-- Both sides of one transfer may have a limit.
SELECT is(codes('{"debit": "till", "credit": "wallet", "amount": 60}', '{"debit": "wallet", "credit": "till", "amount": 61}', '{"debit": "wallet", "credit": "till", "amount": 60}', '{"debit": "till", "credit": "wallet", "amount": 60}'),
	'ok overdraft ok ok', 'between two that are limited, the till being short');
SELECT is(codes('{"debit": "till", "amount": 2000}', '{"debit": "wallet", "credit": "till", "amount": 1261}', '{"debit": "wallet", "credit": "till", "amount": 1260}'),
	'ok overdraft ok', 'the wallet being short');
SELECT is(imbalance(), '0 0', 'debits are credits');

-- The most that an account can turn over

SELECT ok(opened(n.code, n.kind), 'an account: ' || n.code) FROM (VALUES ('much', 'asset'), ('more', 'liability'), ('most', 'equity')) AS n (code, kind);
SELECT is(codes('{"debit": "much", "credit": "more", "amount": 4611686018427387803}', '{"debit": "much", "credit": "most", "amount": 101}', '{"debit": "much", "credit": "most", "amount": 100}',
	'{"debit": "much", "credit": "most", "amount": 1}'), 'ok overflow ok overflow', 'up to 2^62 - 1 of debits');
SELECT is(sums('much'), '4611686018427387903 0 0 0', 'it is full');
SELECT is(codes('{"debit": "much", "credit": "most", "amount": 1}'), 'overflow', 'for good');
SELECT is(codes('{"debit": "much", "credit": "most", "amount": 1, "state": "pending"}'), 'overflow', 'for holds as well');
SELECT is(codes('{"debit": "most", "credit": "much", "amount": 4611686018427387903}', '{"debit": "most", "credit": "much", "amount": 1}'), 'ok overflow', 'the other side counts for itself');
SELECT is(books('much'), 'much: 4611686018427387903 4611686018427387903 0 0, 0, 0', 'the balance');
SELECT is(codes('{"debit": "cash", "credit": "more", "amount": 101, "state": "pending"}', '{"debit": "cash", "credit": "more", "amount": 100, "state": "pending", "id": "last hold"}',
	'{"debit": "cash", "credit": "more", "amount": 1}'), 'overflow ok overflow', 'what is held counts');
SELECT is(codes('{"pending_id": "last hold", "amount": 60}', '{"credit": "more", "amount": 41}', '{"credit": "more", "amount": 40}'), 'ok overflow ok', 'until it is released');
SELECT ok(opened('huge ' || n, 'asset'), 'an account: huge ' || n) FROM generate_series(1, 6) AS n;
SELECT is(codes('{"debit": "huge 1", "credit": "huge 2", "amount": 2305843009213693952}', '{"debit": "huge 1", "credit": "huge 2", "amount": 2305843009213693952}',
	'{"debit": "huge 1", "credit": "huge 2", "amount": 2305843009213693951}'), 'ok overflow ok', 'twice 2^61 is too much');
SELECT is(codes('{"debit": "huge 3", "credit": "huge 4", "amount": 4611686018427387903}', '{"debit": "huge 3", "credit": "huge 4", "amount": 4611686018427387903}', '{"debit": "huge 4", "credit": "huge 3", "amount": 4611686018427387903}'),
	'ok overflow ok', 'three times 2^62 - 1 in a batch');
-- By and by, past 2^56, of which 64 make 2^62
SELECT is((SELECT count(*) FROM generate_series(1, 63) AS n WHERE codes('{"debit": "huge 5", "credit": "huge 6", "amount": 72057594037927936}') = 'ok'), 63::bigint, '63 times 2^56');
SELECT is(codes('{"debit": "huge 5", "credit": "huge 6", "amount": 72057594037927936}', '{"debit": "huge 5", "credit": "huge 6", "amount": 72057594037927935}', '{"debit": "huge 5", "credit": "huge 6", "amount": 1}'),
	'overflow ok overflow', 'and what is left');
SELECT is(imbalance(), '0 0', 'debits are credits');

-- Batches

CREATE FUNCTION public.batch(n integer, bad integer DEFAULT 2147483647) RETURNS text LANGUAGE sql
AS $$
	SELECT said(format($s$
		SELECT string_agg(c.code || ' ' || c.count, ', ' ORDER BY c.code)
		FROM (
			SELECT r.code, count(*)
			FROM ringfence.transfers(ARRAY(
				SELECT ROW(NULL, a.cash, a.rent, CASE WHEN i %% %s = 0 THEN 0 ELSE 1 END, NULL, 'batch', NULL, NULL, NULL, NULL, NULL, NULL, false)::ringfence.transfer
				FROM generate_series(1, %s) AS i, (SELECT a('cash') AS cash, a('rent') AS rent OFFSET 0) AS a
			)) AS r
			GROUP BY r.code
		) AS c
		$s$, bad, n))
$$;
SELECT sums('rent') AS before \gset
SELECT is(batch(n), answer, 'a batch of ' || n) FROM (VALUES (0, NULL), (1, 'ok 1'), (2, 'ok 2'), (8000, 'ok 8000'), (100000, 'ok 100000')) AS b (n, answer);
SELECT is(batch(100001), '54000 a batch has at most 100000 transfers | This one has 100001.', 'a batch of 100001');
SELECT is(batch(8000, 10), 'amount_invalid 800, ok 7200', 'one in ten of a batch refused');
SELECT is(sums('rent'), '0 115203 0 0', 'all of these, each once');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_transfers AS t WHERE t.kind = 'batch'), 115203::bigint, 'on record');
SELECT is(said('SELECT count(*) FROM ringfence.transfers(''{}'')'), '0', 'none');
SELECT is(said('SELECT count(*) FROM ringfence.transfers(NULL)'), '22004 transfers must be given', 'NULL');
SELECT is(said('SELECT string_agg(r.code, '' '' ORDER BY r.position) FROM ringfence.transfers(ARRAY[t(''{}''), NULL, t(''{}'')]) AS r'), 'ok account_required ok', 'NULL among them');
SELECT is(said('SELECT string_agg(concat_ws('' '', r.position, r.code), '' '' ORDER BY r.position) FROM ringfence.transfers(ARRAY[[t(''{}''), t(''{"amount": 0}'')], [t(''{}''), t(''{}'')]]) AS r'),
	'1 ok 2 amount_invalid 3 ok 4 ok', 'of two dimensions');
SELECT is(said(format('SELECT string_agg(r.code, '' '' ORDER BY r.position) FROM ringfence.transfers(ARRAY[t(''{}''), t(%L)]) AS r', jsonb_build_object('metadata', jsonb_build_object('k', repeat('long ', 1600))))),
	'ok ok', 'with much to say');
SELECT is((SELECT length(t.metadata ->> 'k') FROM ringfence_data.ledger_transfers AS t WHERE t.metadata ? 'k'), 8000, 'which is kept');

-- Times

SELECT is(codes('{"id": "dated", "posted_at": "2021-05-05T12:00:00Z"}', '{"id": "held then", "state": "pending", "posted_at": "2021-05-05T12:00:00Z", "timeout": "1 hour"}'), 'ok ok', 'back-dated');
SELECT results_eq($$SELECT t.posted_at, t.recorded_at > now() - interval '1 hour', t.expires_at - t.recorded_at FROM ringfence_data.ledger_transfers AS t WHERE t.id IN (id('dated'), id('held then')) ORDER BY t.state$$,
	$$VALUES ('2021-05-05T12:00:00Z'::timestamptz, true, '1 hour'::interval), ('2021-05-05T12:00:00Z', true, NULL)$$, 'it counts from then, was recorded now, and is held from now on');
SELECT is(said('SELECT ringfence.balance(a(''sales''), ''2021-05-05T12:00:00Z'') || '' '' || ringfence.balance(a(''sales''), ''2021-05-05T11:59:59Z'')'), '100 0', 'in the balance of then');
SELECT is(codes('{"pending_id": "held then", "posted_at": "2021-05-05T13:00:00Z"}'), 'ok', 'posted to when it was due');
SELECT is(said('SELECT ringfence.balance(a(''sales''), ''2021-05-05T12:59:59Z'') || '' '' || ringfence.balance(a(''sales''), ''2021-05-05T13:00:00Z'')'), '100 200', 'in the balance from then on');

-- Expiry

SELECT is((SELECT string_agg(codes(jsonb_build_object('id', 'short ' || n, 'state', 'pending', 'timeout', '1 microsecond', 'amount', n)), ' ') FROM generate_series(1, 3) AS n), 'ok ok ok', 'three holds for no time');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:wallet''), 4, ''charge'', id(''short 4''), pending => true, timeout => ''1 microsecond'')', 'B'), id('short 4')::text, 'another organization''s');
SELECT is(codes('{"id": "long", "state": "pending", "timeout": "1 hour"}', '{"id": "ever", "state": "pending"}'), 'ok ok', 'one for an hour, one for ever');
SELECT is(ringfence.expire_pending(2), 2::bigint, 'two at a time');
SELECT results_eq('SELECT p.amount FROM ringfence_data.ledger_transfers AS t INNER JOIN ringfence_data.ledger_transfers AS p ON p.id = t.pending_id WHERE t.state = ''expired'' AND p.id <> id(''hold 3'') ORDER BY 1',
	'VALUES (1::bigint), (2)', 'the oldest first');
SELECT is(ringfence.expire_pending(2), 2::bigint, 'of whatever organization');
SELECT is(ringfence.expire_pending(), 0::bigint, 'no more');
SELECT is(sums('B:cash') || ', ' || sums('B:wallet'), '0 0 0 0, 0 0 0 0', 'nothing is held there any more');
SELECT is((SELECT t.org_id FROM ringfence_data.ledger_transfers AS t WHERE t.pending_id = id('short 4')), :'org_b', 'which is on record there');
SELECT bag_eq('SELECT h.id FROM ringfence_data.ledger_holds AS h WHERE h.id IN (id(''long''), id(''ever''), id(''short 1''))', 'VALUES (id(''long'')), (id(''ever''))', 'others are held still');
SELECT throws_ok(format('SELECT ringfence.expire_pending(%L)', n), '22023', 'invalid batch of ' || n || ' pending transfers', 'a batch of ' || n) FROM unnest('{0,-1,100001}'::integer[]) AS n;
SELECT throws_ok('SELECT ringfence.expire_pending(NULL)', '22023', 'invalid batch of 0 pending transfers', 'of NULL');
SELECT is(imbalance(), '0 0', 'debits are credits');

-- What is undone is as if it had never been.

SELECT state() AS before \gset
CREATE FUNCTION public.undone() RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = codes('{"id": "u1", "credit": "wallet"}', '{"id": "u2", "debit": "wallet", "amount": 30, "state": "pending"}',
		'{"pending_id": "u2", "amount": 10}', '{"pending_id": "long", "state": "voided"}', '{"id": "u3", "debit": "cash", "credit": "wallet"}');
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN SQLERRM;
END
$$;
SELECT is(undone(), 'ok ok ok ok ok', 'in a block that is left by an error');
SELECT is(state(), :'before', 'nothing of it is left');
SELECT is(undone(), 'ok ok ok ok ok', 'ids are free again');
BEGIN;
SAVEPOINT a;
SELECT codes('{"id": "u1", "credit": "wallet"}', '{"id": "u2", "debit": "wallet", "amount": 30, "state": "pending"}') AS first \gset
SAVEPOINT b;
SELECT codes('{"pending_id": "u2", "id": "u3"}', '{"id": "u1", "credit": "wallet"}') AS second \gset
ROLLBACK TO b;
SELECT codes('{"pending_id": "u2", "id": "u3", "state": "voided"}', '{"id": "u1", "credit": "wallet"}') AS third \gset
ROLLBACK TO a;
SELECT codes('{"pending_id": "u2", "id": "u3"}', '{"id": "u1", "credit": "wallet", "amount": 1}') AS fourth, sums('wallet') AS sums \gset
ROLLBACK;
SELECT is(:'first' || ', ' || :'second' || ', ' || :'third' || ', ' || :'fourth', 'ok ok, ok exists, ok exists, pending_not_found ok', 'each savepoint for itself');
SELECT is(state(), :'before', 'a transaction that is rolled back leaves nothing');
SELECT is(codes('{"id": "u1", "credit": "wallet", "amount": 2}'), 'ok', 'ids are free again');
CREATE FUNCTION public.many() RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	made integer := 0;
BEGIN
	FOR n IN 1 .. 50 LOOP
		BEGIN
			PERFORM ringfence.transfer(a('wallet'), a('sales'), 100, 'charge');
			made := made + 1;
		EXCEPTION WHEN SQLSTATE 'PT409' THEN
			PERFORM ringfence.transfer(a('cash'), a('wallet'), 40, 'charge');
		END;
	END LOOP;
	RETURN made;
END
$$;
SELECT sums('wallet') AS wallet \gset
SELECT is(codes('{"credit": "wallet", "amount": 1000}'), 'ok', 'money');
SELECT is(said('SELECT many()'), '21', 'refusals that are caught, again and again');
SELECT is(said('SELECT ringfence.balance(a(''wallet''))'), '62', 'what is left: 1002 + 29 * 40 - 21 * 100');

-- In a query, row by row, each of them sees what those before did.
SELECT is(said('SELECT count(ringfence.transfer(a(''cash''), a(''wallet''), n, ''row'')) FROM generate_series(1, 100) AS n'), '100', 'once for each row');
SELECT is(said('SELECT ringfence.balance(a(''wallet''))'), '5112', 'which is 5050');
SELECT is(said($$SELECT string_agg(r.code, ' ') FROM generate_series(1, 5) AS n, LATERAL ringfence.transfers(ARRAY[t(jsonb_build_object('debit', 'wallet', 'amount', 2000 + 0 * n))]) AS r$$),
	'ok ok overdraft overdraft overdraft', 'limits hold from row to row');
SELECT is(said($$SELECT string_agg(r.code, ' ') FROM generate_series(1, 3) AS n, LATERAL ringfence.transfers(ARRAY[t(jsonb_build_object('id', 'row', 'amount', 5 + 0 * n))]) AS r$$),
	'ok exists exists', 'and ids');
SELECT is(said($$SELECT string_agg(r.code, ' ') FROM generate_series(1, 3) AS n, LATERAL ringfence.transfers(ARRAY[t(jsonb_build_object('id', 'row hold', 'state', 'pending', 'amount', 5 + 0 * n)), t('{"pending_id": "row hold"}')]) AS r$$),
	'ok ok exists pending_posted exists pending_posted', 'and holds');
CREATE TABLE public.orders (id integer, total bigint);
CREATE FUNCTION public.pay() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM ringfence.transfer(a('wallet'), a('sales'), NEW.total, 'order', id('order ' || NEW.id)); RETURN NEW; END $$;
CREATE TRIGGER pay BEFORE INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.pay();
GRANT INSERT, SELECT ON public.orders TO ringfence_owner;
SELECT is(said('WITH o AS (INSERT INTO public.orders VALUES (1, 1000), (2, 112) RETURNING total) SELECT sum(o.total) FROM o'), '1112', 'by a trigger');
SELECT is(said('WITH o AS (INSERT INTO public.orders VALUES (3, 0), (4, 1) RETURNING total) SELECT sum(o.total) FROM o'),
	'22023 an amount must be a positive number of minor units | The ledger refused it: amount_invalid.', 'which takes its row along');
SELECT is(said('WITH o AS (INSERT INTO public.orders VALUES (3, 1) RETURNING total) SELECT sum(o.total) FROM o'), 'PT409 an account would be overdrawn | The ledger refused it: overdraft.', 'where there is nothing');
SELECT is((SELECT sum(o.total) FROM public.orders AS o), 1112::numeric, 'what was paid is there');

-- Levels of isolation

CREATE TABLE public.calls (n integer GENERATED ALWAYS AS IDENTITY, name text, call text);
INSERT INTO public.calls (name, call) VALUES
	('transfer', 'SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'')'),
	('transfers', 'SELECT r.code FROM ringfence.transfers(ARRAY[t(''{}'')]) AS r'),
	('transfers', 'SELECT r.code FROM ringfence.transfers(''{}'') AS r'),
	('post_pending', 'SELECT ringfence.post_pending(id(''ever''))'),
	('void_pending', 'SELECT ringfence.void_pending(id(''ever''))'),
	('reverse', 'SELECT ringfence.reverse(id(''row''), ''mistake'')');
GRANT SELECT ON public.calls TO PUBLIC;
-- A snapshot that is older than what is posted to would show balances that never were.
SELECT is(codes('{"state": "pending", "timeout": "1 microsecond"}'), 'ok', 'a hold to be swept');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(said(c.call), '25000 transfers cannot be posted at this isolation level', 'repeatable read: ' || c.name) FROM public.calls AS c WHERE c.call NOT LIKE '%transfers(''{}'')%' ORDER BY c.n;
SELECT throws_ok('SELECT ringfence.expire_pending()', '25000', 'transfers cannot be posted at this isolation level', 'repeatable read: expire_pending()');
SELECT is(said('SELECT ringfence.balance(a(''wallet''))'), '0', 'books can be read');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is(said(c.call), '25000 transfers cannot be posted at this isolation level', 'serializable: ' || c.name) FROM public.calls AS c WHERE c.call NOT LIKE '%transfers(''{}'')%' ORDER BY c.n;
COMMIT;
BEGIN ISOLATION LEVEL READ UNCOMMITTED;
SELECT codes('{"credit": "wallet", "amount": 100}') AS made \gset
COMMIT;
SELECT is(:'made'::text, 'ok', 'read uncommitted is read committed');

-- Other sessions

SELECT dblink_connect('other', format('dbname=%L host=%L port=%L user=postgres options=''-c statement_timeout=60s''', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))) \g /dev/null
CREATE FUNCTION public.other(statement text) RETURNS text LANGUAGE sql
AS $$ SELECT string_agg(r.answer, ' ') FROM dblink('other', statement) AS r (answer text) $$;
-- What is busy elsewhere isn't waited for, if nothing depends on it.
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
SELECT is(other($$SELECT codes('{"debit": "cash", "credit": "wallet", "amount": 11}')$$), 'ok', 'another session has posted, and not committed');
SET lock_timeout = '5s';
SELECT is(codes('{"debit": "cash", "credit": "sales", "amount": 1}', '{"debit": "cash", "credit": "wallet", "amount": 2}'), 'ok ok', 'to the same accounts one can post at once');
RESET lock_timeout;
SELECT dblink_exec('other', 'COMMIT') \g /dev/null
SELECT is((SELECT count(*) > 1 FROM ringfence_data.ledger_balances AS b WHERE b.account_id = a('cash')), true, 'by a balance of its own');
SELECT is(said('SELECT ringfence.balance(a(''wallet''))'), '113', 'which is added up');
SELECT is(codes('{"debit": "wallet", "amount": 114}', '{"debit": "wallet", "amount": 113}'), 'overdraft ok', 'also by limits');
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
SELECT is(other($$SELECT codes('{"debit": "cash", "credit": "wallet", "amount": 50}', '{"debit": "cash", "credit": "sales", "amount": 50, "state": "pending"}')$$), 'ok ok', 'another session has posted');
SELECT is(codes('{"debit": "cash", "credit": "wallet", "amount": 3}'), 'ok', 'one posts to the same');
SELECT dblink_exec('other', 'ROLLBACK') \g /dev/null
SELECT is(said('SELECT ringfence.balance(a(''wallet''))'), '3', 'what the other rolled back isn''t there');
SELECT is(imbalance(), '0 0', 'debits are credits');

-- Prepared transactions

BEGIN;
SELECT codes('{"credit": "wallet", "amount": 97}', '{"id": "prepared"}') AS prepared \gset
PREPARE TRANSACTION 'regress_ledger';
SELECT is(codes('{"credit": "wallet", "amount": 10}', '{}'), 'ok ok', 'beside a prepared one');
COMMIT PREPARED 'regress_ledger';
SELECT is(said('SELECT ringfence.balance(a(''wallet''))'), '110', 'which is committed later');
SELECT is(codes('{"id": "prepared"}', '{"debit": "wallet", "amount": 110}'), 'exists ok', 'for good');

-- Where nothing can be posted

SELECT state() AS before \gset
SELECT throws_ok(c.call, '42501', 'no organization is set for this transaction', format('without a context: %s()', c.name)) FROM public.calls AS c ORDER BY c.n;
BEGIN READ ONLY;
SELECT is(said(c.call), format('25006 cannot execute ringfence.%s() in a read-only transaction', c.name), format('read only: %s()', c.name)) FROM public.calls AS c ORDER BY c.n;
SELECT throws_ok('SELECT ringfence.expire_pending()', '25006', 'cannot execute ringfence.expire_pending() in a read-only transaction', 'read only: expire_pending()');
COMMIT;
SELECT is(state(), :'before', 'nothing was done');
SELECT matches(said(c.call), '^(ok|[0-9a-f-]{36})$', 'else it is: ' || c.name) FROM public.calls AS c WHERE c.call NOT LIKE '%transfers(''{}'')%' AND c.name <> 'void_pending' ORDER BY c.n;

-- Indexes and columns of a DBA's own

CREATE INDEX ledger_transfers_regress_idx ON ringfence_data.ledger_transfers (kind);
ALTER TABLE ringfence_data.ledger_transfers ADD COLUMN regress_note text;
ALTER TABLE ringfence_data.ledger_holds ADD COLUMN regress_note text;
ALTER TABLE ringfence_data.ledger_accounts ADD COLUMN regress_note text;
SELECT is(codes('{"kind": "indexed", "id": "i1"}', '{"kind": "indexed", "state": "pending", "id": "i2"}', '{"pending_id": "i2"}', '{"id": "i1", "kind": "indexed"}'), 'ok ok ok exists', 'with an index and columns that the ledger doesn''t know');
SET enable_seqscan = off;
SELECT is((SELECT count(*) FROM ringfence_data.ledger_transfers AS t WHERE t.kind = 'indexed'), 3::bigint, 'which has its entries');
RESET enable_seqscan;
ALTER TABLE ringfence_data.ledger_transfers DROP COLUMN regress_note;
ALTER TABLE ringfence_data.ledger_holds DROP COLUMN regress_note;
DROP INDEX ringfence_data.ledger_transfers_regress_idx;
SELECT is(codes('{"id": "i3"}', '{"state": "pending", "id": "i4"}', '{"pending_id": "i4"}', '{"id": "i3"}'), 'ok ok ok exists', 'and after these were dropped');
BEGIN;
ALTER TABLE ringfence_data.ledger_balances ADD COLUMN regress_note text;
SELECT said('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'')') AS said \gset
ROLLBACK;
SELECT is(:'said'::text, '55000 table "ledger_balances" is not as core makes it | Its columns or their order have been changed, or it isn''t a logged table of PostgreSQL''s own kind.', 'but for balances');
BEGIN;
ALTER TABLE ringfence_data.ledger_transfers ADD COLUMN regress_note text NOT NULL DEFAULT 'x';
SELECT said('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'')') AS said \gset
ROLLBACK;
SELECT is(:'said'::text, '55000 table "ledger_transfers" is not as core makes it | Its columns or their order have been changed, or it isn''t a logged table of PostgreSQL''s own kind.', 'and for columns that want a value');
BEGIN;
DROP INDEX ringfence_data.ledger_transfers_reverses_id_key;
SELECT said('SELECT ringfence.transfer(a(''cash''), a(''sales''), 1, ''charge'')') AS said \gset
ROLLBACK;
SELECT is(:'said'::text, '55000 table "ledger_transfers" is not as core makes it | One of its indexes is missing, or is another one.', 'and without its indexes');
SELECT is(codes('{}'), 'ok', 'as it was');
SELECT is(imbalance(), '0 0', 'debits are credits');
SELECT is_empty($$SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v$$, 'and all that adds up');
SELECT dblink_disconnect('other') \g /dev/null
SELECT * FROM finish();
