-- Each reason for which the ledger refuses a transfer: the code that transfers()
-- gives it, the error that transfer() and its like raise, and beside it a transfer
-- that differs in nothing but that, and is made. What is refused leaves no trace.
-- A repetition does nothing and is told so, whatever else would be said of it now.
\ir include/ledger.sql
SET client_min_messages = warning;
SELECT plan(451);

SELECT codes('{"debit": "cash", "credit": "wallet", "amount": 1000}') AS funded \gset
SELECT said('SELECT ringfence.open_account(''gone'', ''Gone'', ''EUR'', ''liability'')') AS opened,
	said('SELECT ringfence.close_account(a(''gone''))') AS closed,
	said('SELECT ringfence.close_period(''2020-01-01'')') AS period \gset
SELECT is(:'funded'::text, 'ok', 'money to begin with');

-- What each code is as an error.
CREATE TABLE public.errors (code text PRIMARY KEY, sqlstate text, message text);
INSERT INTO public.errors (code, sqlstate, message) VALUES
	('exists_different', 'PT409', 'there is another transfer of this id'),
	('account_required', '22023', 'a transfer needs a debit and a credit account'),
	('accounts_same', '22023', 'debit and credit account are the same'),
	('debit_account_not_found', 'PT404', 'there is no such debit account'),
	('credit_account_not_found', 'PT404', 'there is no such credit account'),
	('debit_account_closed', 'PT409', 'the debit account is closed'),
	('credit_account_closed', 'PT409', 'the credit account is closed'),
	('asset_mismatch', 'PT409', 'the accounts do not both hold that asset'),
	('amount_invalid', '22023', 'an amount must be a positive number of minor units'),
	('kind_invalid', '22023', 'a kind begins with a lower case letter and has at most 63 of them, digits, underscores and dots'),
	('reference_invalid', '22023', 'a reference has 1 to 255 bytes'),
	('metadata_invalid', '22023', 'metadata is a JSON object of at most 8192 bytes'),
	('timeout_invalid', '22023', 'a timeout is positive, at most 100 years, and a pending transfer''s'),
	('posted_at_future', '22023', 'a transfer cannot be posted in the future'),
	('period_closed', 'PT409', 'the books are closed for that time'),
	('overdraft', 'PT409', 'an account would be overdrawn'),
	('overflow', '22003', 'an account cannot hold that much'),
	('pending_not_found', 'PT404', 'there is no such pending transfer'),
	('pending_posted', 'PT409', 'the pending transfer has been posted'),
	('pending_voided', 'PT409', 'the pending transfer has been voided'),
	('pending_expired', 'PT409', 'the pending transfer has expired'),
	('pending_exceeded', 'PT409', 'the amount is more than the pending transfer''s'),
	('transfer_not_found', 'PT404', 'there is no such transfer'),
	('already_reversed', 'PT409', 'the transfer has been reversed'),
	('not_reversible', 'PT409', 'only a posted transfer that is no reversal can be reversed');
CREATE FUNCTION public.error(code text) RETURNS text LANGUAGE sql STABLE
AS $$ SELECT format('%s %s | The ledger refused it: %s.', e.sqlstate, e.message, e.code) FROM public.errors AS e WHERE e.code = error.code $$;

-- One transfer

CREATE TABLE public.refusals (n integer GENERATED ALWAYS AS IDENTITY, code text, refused jsonb, made jsonb);
INSERT INTO public.refusals (code, refused, made) VALUES
	('account_required', '{"debit": null}', '{"debit": "cash"}'),
	('account_required', '{"credit": null}', '{"credit": "sales"}'),
	('account_required', '{"debit": null, "credit": null}', '{}'),
	('accounts_same', '{"credit": "cash"}', '{"credit": "capital"}'),
	('debit_account_not_found', '{"debit": "nowhere"}', '{"debit": "cash"}'),
	('debit_account_not_found', '{"debit": "B:cash"}', '{"debit": "till"}'),
	('credit_account_not_found', '{"credit": "nowhere"}', '{"credit": "sales"}'),
	('credit_account_not_found', '{"credit": "B:sales"}', '{"credit": "credit"}'),
	('debit_account_not_found', '{"debit": "B:cash", "credit": "B:sales"}', '{}'),
	('debit_account_closed', '{"debit": "gone"}', '{"debit": "rent"}'),
	('credit_account_closed', '{"credit": "gone"}', '{"credit": "capital"}'),
	('asset_mismatch', '{"credit": "points"}', '{"debit": "issued", "credit": "points"}'),
	('asset_mismatch', '{"debit": "issued"}', '{"debit": "issued", "credit": "points", "asset": "PTS"}'),
	('asset_mismatch', '{"asset": "PTS"}', '{"asset": "EUR"}'),
	('asset_mismatch', '{"debit": "issued", "credit": "points", "asset": "EUR"}', '{"asset": null}'),
	('asset_mismatch', '{"asset": "eur"}', '{"asset": "EUR"}'),
	('asset_mismatch', '{"asset": "EU"}', '{"asset": "EUR"}'),
	('asset_mismatch', '{"asset": "EURO"}', '{"asset": "EUR"}'),
	('asset_mismatch', '{"asset": ""}', '{"asset": "EUR"}'),
	('amount_invalid', '{"amount": null}', '{"amount": 1}'),
	('amount_invalid', '{"amount": 0}', '{"amount": 1}'),
	('amount_invalid', '{"amount": -1}', '{"amount": 1}'),
	('amount_invalid', '{"amount": -9223372036854775808}', '{"amount": 1}'),
	('kind_invalid', '{"kind": null}', '{"kind": "charge"}'),
	('kind_invalid', '{"kind": ""}', '{"kind": "c"}'),
	('kind_invalid', '{"kind": "Charge"}', '{"kind": "charge.card_2"}'),
	('kind_invalid', '{"kind": "2nd"}', '{"kind": "n2"}'),
	('kind_invalid', '{"kind": ".charge"}', '{"kind": "charge."}'),
	('kind_invalid', '{"kind": "_charge"}', '{"kind": "charge_"}'),
	('kind_invalid', '{"kind": "charge-card"}', '{"kind": "charge_card"}'),
	('kind_invalid', '{"kind": "charge "}', '{"kind": "charge"}'),
	('kind_invalid', '{"kind": "charge\n"}', '{"kind": "charge"}'),
	('kind_invalid', '{"kind": "rückzahlung"}', '{"kind": "rueckzahlung"}'),
	('kind_invalid', jsonb_build_object('kind', repeat('k', 64)), jsonb_build_object('kind', repeat('k', 63))),
	('reference_invalid', '{"reference": ""}', '{"reference": null}'),
	('reference_invalid', jsonb_build_object('reference', repeat('r', 256)), jsonb_build_object('reference', repeat('r', 255))),
	('reference_invalid', jsonb_build_object('reference', repeat('é', 128)), jsonb_build_object('reference', repeat('é', 127))),
	('metadata_invalid', '{"metadata": []}', '{"metadata": {}}'),
	('metadata_invalid', '{"metadata": [{}]}', '{"metadata": {"a": [{}]}}'),
	('metadata_invalid', '{"metadata": "x"}', '{"metadata": {"x": "x"}}'),
	('metadata_invalid', '{"metadata": 1}', '{"metadata": null}'),
	('metadata_invalid', '{"metadata": true}', '{"metadata": {"true": true}}'),
	-- {"k": ""} has 9 bytes
	('metadata_invalid', jsonb_build_object('metadata', jsonb_build_object('k', repeat('m', 8184))), jsonb_build_object('metadata', jsonb_build_object('k', repeat('m', 8183)))),
	('timeout_invalid', '{"timeout": "1 hour"}', '{"state": "pending", "timeout": "1 hour"}'),
	('timeout_invalid', '{"state": "pending", "timeout": "0"}', '{"state": "pending", "timeout": "1 microsecond"}'),
	('timeout_invalid', '{"state": "pending", "timeout": "-1 second"}', '{"state": "pending", "timeout": null}'),
	('timeout_invalid', '{"state": "pending", "timeout": "1 day -24 hours"}', '{"state": "pending", "timeout": "1 day -23 hours"}'),
	('timeout_invalid', '{"state": "pending", "timeout": "100 years 1 month"}', '{"state": "pending", "timeout": "100 years"}'),
	('timeout_invalid', '{"state": "pending", "timeout": "-178000000 years"}', '{"state": "pending", "timeout": "36600 days"}'),
	('timeout_invalid', '{"state": "pending", "timeout": "2147483647 days"}', '{"state": "pending", "timeout": "2000 hours"}'),
	('posted_at_future', jsonb_build_object('posted_at', now() + interval '1 hour'), jsonb_build_object('posted_at', now() - interval '1 hour')),
	('posted_at_future', '{"posted_at": "infinity"}', jsonb_build_object('posted_at', now())),
	('period_closed', '{"posted_at": "2019-12-31T23:59:59.999999Z"}', '{"posted_at": "2020-01-01T00:00:00Z"}'),
	('period_closed', '{"posted_at": "-infinity"}', '{"posted_at": null}'),
	('period_closed', '{"posted_at": "4713-01-01 BC"}', '{"posted_at": "2020-01-01T00:00:00.000001Z"}'),
	('period_closed', '{"state": "pending", "posted_at": "2019-01-01"}', '{"state": "pending", "posted_at": "2020-01-02"}'),
	('overdraft', '{"debit": "wallet", "amount": 1001}', '{"debit": "wallet", "amount": 1000}'),
	('overdraft', '{"debit": "wallet", "amount": 1001, "state": "pending"}', '{"debit": "wallet", "amount": 1000, "state": "pending"}'),
	('overdraft', '{"debit": "credit", "amount": 101}', '{"debit": "credit", "amount": 100}'),
	('overdraft', '{"debit": "rent", "credit": "till", "amount": 1}', '{"debit": "till", "credit": "rent", "amount": 1}'),
	('overdraft', '{"debit": "cash", "credit": "refunds", "amount": 1}', '{"debit": "refunds", "credit": "cash", "amount": 1}'),
	('overflow', '{"amount": 4611686018427387904}', '{"debit": "till", "credit": "capital", "amount": 4611686018427387903}'),
	('overflow', '{"amount": 9223372036854775807}', '{"amount": 1}');

-- Makes a transfer and takes it back, so that each begins with the same.
CREATE FUNCTION public.made(call text) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE 'SELECT ' || call INTO answer;
	RAISE EXCEPTION USING MESSAGE = answer, ERRCODE = 'UNDO1';
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN answer;
END
$$;
SELECT state() AS before \gset
SELECT is(codes(r.refused), r.code, format('%s: %s', r.code, left(r.refused::text, 100))) FROM public.refusals AS r ORDER BY r.n;
SELECT is(once(r.refused), error(r.code), format('%s is the error of transfer(): %s', r.code, left(r.refused::text, 100)))
FROM public.refusals AS r
ORDER BY r.n;
SELECT is(state(), :'before', 'nothing is left of any');
SELECT is(codes(r.refused, r.refused - 'state' || '{"id": "other"}'), r.code || ' ' || r.code, format('to refuse it twice: %s', left(r.refused::text, 100)))
FROM public.refusals AS r
WHERE NOT r.refused ? 'state'
ORDER BY r.n LIMIT 3;
SELECT is(made(format('codes(%L)', r.made)), 'ok', format('not %s: %s', r.code, left(r.made::text, 100)))
FROM public.refusals AS r
ORDER BY r.n;
SELECT is(made(format('once(%L)', r.made)), 'ok', format('not by transfer(): %s', left(r.made::text, 100)))
FROM public.refusals AS r
ORDER BY r.n;
SELECT is(state(), :'before', 'and that is undone');

-- JSON's null is no object, and no missing one.
SELECT is(said($$SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[
	ROW(NULL, a('cash'), a('sales'), 1, NULL, 'charge', NULL, NULL, NULL, NULL, NULL, 'null', NULL),
	ROW(NULL, a('cash'), a('sales'), 1, NULL, 'charge', NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::ringfence.transfer[]) AS r$$),
	'metadata_invalid ok', 'metadata of null');

-- States: those of the ledger's own, unknown ones, and such as need a hold.
SELECT is(codes('{"id": "state hold", "state": "pending"}'), 'ok', 'pending');
SELECT is(codes(r.refused), 'state_invalid', 'state_invalid: ' || r.refused::text)
FROM (VALUES
	('{"state": "voided"}'::jsonb), ('{"state": "expired"}'), ('{"state": "Posted"}'), ('{"state": "posted "}'), ('{"state": ""}'), ('{"state": "void"}'),
	('{"state": "pending", "pending_id": "state hold"}'), ('{"state": "expired", "pending_id": "state hold"}'), ('{"state": "", "pending_id": "state hold"}')
) AS r (refused);
SELECT is(codes('{"pending_id": "state hold"}'), 'ok', 'without a state a hold is posted');
SELECT is(codes('{"state": "posted"}', '{"state": null}'), 'ok ok', 'so is what has none');

-- All that is wrong with one: the first of a list is told.
SELECT is(codes('{"debit": "nowhere", "amount": 0, "kind": "X", "posted_at": "infinity"}'), 'amount_invalid', 'what can be said of it by itself comes first');
SELECT is(codes('{"debit": "nowhere", "credit": "nowhere either"}'), 'debit_account_not_found', 'the debit account before the credit account');

-- Pending transfers

SELECT is(codes(
	'{"id": "posted hold", "state": "pending"}', '{"id": "voided hold", "state": "pending"}', '{"id": "open hold", "state": "pending"}',
	'{"id": "old hold", "state": "pending", "timeout": "1 microsecond"}', '{"id": "plain"}'), 'ok ok ok ok ok', 'holds');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:sales''), 100, ''charge'', id(''hold of B''), pending => true)', 'B'), id('hold of B')::text, 'a hold of B''s');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:sales''), 100, ''charge'', id(''plain of B''))', 'B'), id('plain of B')::text, 'a transfer of B''s');
SELECT is(codes('{"pending_id": "posted hold", "id": "posting"}', '{"pending_id": "voided hold", "state": "voided", "id": "voiding"}'), 'ok ok', 'posted, and voided');
SELECT is(codes('{"id": "swept hold", "state": "pending", "timeout": "1 microsecond"}'), 'ok', 'one that will be swept');
CREATE TABLE public.resolutions (n integer GENERATED ALWAYS AS IDENTITY, code text, hold text);
INSERT INTO public.resolutions (code, hold) VALUES
	('pending_not_found', 'nowhere'), ('pending_not_found', 'hold of B'), ('pending_not_found', 'plain'), ('pending_not_found', 'posting'),
	('pending_not_found', 'voiding'), ('pending_posted', 'posted hold'), ('pending_voided', 'voided hold'), ('pending_expired', 'old hold');
SELECT state() AS before \gset
SELECT is(codes(jsonb_build_object('pending_id', r.hold), jsonb_build_object('pending_id', r.hold, 'state', 'voided')), r.code || ' ' || r.code,
	format('%s: %s', r.code, r.hold)) FROM public.resolutions AS r ORDER BY r.n;
SELECT is(said(format('SELECT ringfence.post_pending(id(%L))', r.hold)), error(r.code), format('%s is the error of post_pending(): %s', r.code, r.hold))
FROM public.resolutions AS r ORDER BY r.n;
SELECT is(said(format('SELECT ringfence.void_pending(id(%L))', r.hold)), error(r.code), format('%s is the error of void_pending(): %s', r.code, r.hold))
FROM public.resolutions AS r ORDER BY r.n;
SELECT is(said('SELECT ringfence.post_pending(NULL)'), error('pending_not_found'), 'to post none');
SELECT is(said('SELECT ringfence.void_pending(NULL)'), error('pending_not_found'), 'to void none');

SELECT is(codes(r.refused), r.code, format('%s: %s', r.code, left(r.refused::text, 100)))
FROM (VALUES
	(1, 'pending_different', '{"pending_id": "open hold", "debit": "till"}'::jsonb),
	(2, 'pending_different', '{"pending_id": "open hold", "credit": "capital"}'),
	(3, 'pending_different', '{"pending_id": "open hold", "debit": "sales", "credit": "cash"}'),
	(4, 'pending_different', '{"pending_id": "open hold", "debit": "nowhere"}'),
	(5, 'pending_different', '{"pending_id": "open hold", "debit": "B:cash"}'),
	(6, 'pending_different', '{"pending_id": "open hold", "state": "voided", "amount": 99}'),
	(7, 'pending_exceeded', '{"pending_id": "open hold", "amount": 101}'),
	(8, 'pending_exceeded', '{"pending_id": "open hold", "state": "voided", "amount": 101}'),
	(9, 'overflow', '{"pending_id": "open hold", "amount": 4611686018427387904}'),
	(10, 'amount_invalid', '{"pending_id": "open hold", "amount": 0}'),
	(11, 'amount_invalid', '{"pending_id": "open hold", "amount": -100}'),
	(12, 'kind_invalid', '{"pending_id": "open hold", "kind": "X"}'),
	(13, 'reference_invalid', '{"pending_id": "open hold", "reference": ""}'),
	(14, 'metadata_invalid', '{"pending_id": "open hold", "metadata": []}'),
	(15, 'timeout_invalid', '{"pending_id": "open hold", "timeout": "1 hour"}'),
	(16, 'accounts_same', '{"pending_id": "open hold", "debit": "cash", "credit": "cash"}'),
	(17, 'posted_at_future', jsonb_build_object('pending_id', 'open hold', 'posted_at', now() + interval '1 hour')),
	(18, 'period_closed', '{"pending_id": "open hold", "posted_at": "2019-12-31"}'),
	(19, 'asset_mismatch', '{"pending_id": "open hold", "asset": "PTS"}')
) AS r (n, code, refused)
ORDER BY r.n;
SELECT is(said('SELECT ringfence.post_pending(id(''open hold''), 101)'), error('pending_exceeded'), 'more than is held, by post_pending()');
SELECT is(said('SELECT ringfence.post_pending(id(''open hold''), 0)'), error('amount_invalid'), 'nothing');
SELECT is(said('SELECT ringfence.post_pending(id(''open hold''), kind => '''')'), error('kind_invalid'), 'an invalid kind');
SELECT is(said('SELECT ringfence.post_pending(id(''open hold''), reference => '''')'), error('reference_invalid'), 'an empty reference');
SELECT is(said('SELECT ringfence.void_pending(id(''open hold''), metadata => ''[]'')'), error('metadata_invalid'), 'metadata that is a list');
SELECT is(state(), :'before', 'nothing is left of any');
SELECT is(codes('{"pending_id": "open hold", "debit": "cash", "credit": "sales", "amount": 100, "asset": "EUR", "state": "posted", "kind": "capture", "reference": "r", "metadata": {}, "posted_at": "2020-01-01Z", "id": "capture"}'),
	'ok', 'all that may be said of one');

SELECT is(said('SELECT ringfence.expire_pending()')::text, '42501 permission denied for function expire_pending', 'an app doesn''t sweep');
SELECT is(ringfence.expire_pending(), 2::bigint, 'a job does: two holds were too old');
SELECT is(codes('{"pending_id": "old hold"}', '{"pending_id": "swept hold", "state": "voided"}'), 'pending_expired pending_expired', 'these have expired for good');
SELECT is(said('SELECT ringfence.post_pending(id(''swept hold''))'), error('pending_expired'), 'by post_pending()');
SELECT is(said('SELECT ringfence.void_pending(id(''swept hold''))'), error('pending_expired'), 'by void_pending()');

-- Within a batch a hold is there for those after it.
SELECT is(codes('{"pending_id": "batch hold"}', '{"id": "batch hold", "state": "pending", "timeout": "1 microsecond"}', '{"pending_id": "batch hold", "amount": 101}',
	'{"pending_id": "batch hold", "amount": 60}', '{"pending_id": "batch hold"}', '{"pending_id": "batch hold", "state": "voided"}'),
	'pending_not_found ok pending_exceeded ok pending_posted pending_posted', 'a hold of the same batch');
SELECT is(codes('{"id": "batch hold 2", "state": "pending"}', '{"pending_id": "batch hold 2", "state": "voided"}', '{"pending_id": "batch hold 2"}'),
	'ok ok pending_voided', 'one that is voided in it');
SELECT is(codes('{"id": "refused hold", "state": "pending", "debit": "wallet", "amount": 5000}', '{"pending_id": "refused hold"}'), 'overdraft pending_not_found', 'one that was refused is none');

-- Reversals

SELECT is(said('SELECT ringfence.reverse(id(''plain''), ''a mistake'', id(''reversal''))'), id('reversal')::text, 'a reversal');
SELECT is(said(format('SELECT ringfence.reverse(id(%L), ''a mistake'')', r.id)), error(r.code), format('%s: %s', r.code, r.id))
FROM (VALUES
	('transfer_not_found', 'nowhere'), ('transfer_not_found', 'plain of B'), ('already_reversed', 'plain'), ('not_reversible', 'reversal'),
	('not_reversible', 'open hold'), ('not_reversible', 'posted hold'), ('not_reversible', 'voiding'), ('not_reversible', 'swept hold')
) AS r (code, id);
SELECT is(said(format('SELECT ringfence.reverse(%L, ''a mistake'')', t.id)), error('not_reversible'), 'not_reversible: an expiry')
FROM ringfence_data.ledger_transfers AS t WHERE t.pending_id = id('swept hold');
SELECT is(said('SELECT ringfence.reverse(NULL, ''a mistake'')'), error('transfer_not_found'), 'to reverse none');
SELECT is(said('SELECT ringfence.reverse(id(''posting''), NULL)'), '23502 a reversal needs a reason', 'without a reason');
SELECT is(said('SELECT ringfence.reverse(id(''posting''), '''')'), '23502 a reversal needs a reason', 'with an empty one');
SELECT is(said('SELECT ringfence.reverse(id(''posting''), repeat(''r'', 256))'), error('reference_invalid'), 'with one that is too long');
SELECT is(said('SELECT ringfence.reverse(id(''posting''), repeat(''r'', 255), id(''reversal of posting''))'), id('reversal of posting')::text, 'a posted hold can be reversed');
SELECT is(said('SELECT ringfence.reverse(id(''capture''), ''a mistake'', id(''plain''))'), error('exists_different'), 'by an id that is taken');
SELECT is(codes('{"id": "to wallet", "credit": "wallet", "amount": 50}', '{"debit": "wallet", "amount": 1050}'), 'ok ok', 'money that is gone');
SELECT is(said('SELECT ringfence.reverse(id(''to wallet''), ''a mistake'')'), error('overdraft'), 'can''t be taken back');
SELECT is(codes('{"credit": "wallet", "amount": 50}'), 'ok', 'until there is as much');
SELECT is(said('SELECT ringfence.reverse(id(''to wallet''), ''a mistake'') IS NOT NULL'), 'true', 'as it was');

-- Repetitions

SELECT is(codes('{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "posted_at": "2020-02-02Z"}', '{"id": "eh", "state": "pending", "timeout": "1 hour"}',
	'{"id": "ev", "state": "pending"}', '{"id": "ep", "pending_id": "eh", "amount": 40}', '{"id": "evv", "pending_id": "ev", "state": "voided"}'), 'ok ok ok ok ok', 'to be repeated');
SELECT state() AS before \gset
SELECT is(codes(r.again), r.code, format('%s: %s', r.code, r.again))
FROM (VALUES
	(1, 'exists', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "posted_at": "2020-02-02Z"}'::jsonb),
	(2, 'exists', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"b": 2, "a": 1}, "posted_at": null}'),
	(3, 'exists', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"b": 2.0, "a": 1}, "asset": "EUR", "state": "posted", "posted_at": "2020-02-02T03:00:00+03"}'),
	(4, 'exists_different', '{"id": "e", "amount": 8, "reference": "r", "metadata": {"a": 1, "b": 2}}'),
	(5, 'exists_different', '{"id": "e", "amount": 7, "reference": "s", "metadata": {"a": 1, "b": 2}}'),
	(6, 'exists_different', '{"id": "e", "amount": 7, "metadata": {"a": 1, "b": 2}}'),
	(7, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1}}'),
	(8, 'exists_different', '{"id": "e", "amount": 7, "reference": "r"}'),
	(9, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "posted_at": "2020-02-02T00:00:00.000001Z"}'),
	(10, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "debit": "till"}'),
	(11, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "credit": "capital"}'),
	(12, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "debit": "sales", "credit": "cash"}'),
	(13, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "kind": "refund"}'),
	(14, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "asset": "PTS"}'),
	(15, 'exists_different', '{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}, "state": "pending"}'),
	(16, 'exists_different', '{"id": "e", "pending_id": "ev", "reference": "r", "metadata": {"a": 1, "b": 2}}'),
	(17, 'exists', '{"id": "eh", "state": "pending", "timeout": "1 hour"}'),
	(18, 'exists', '{"id": "eh", "state": "pending", "timeout": "60 minutes"}'),
	(19, 'exists_different', '{"id": "eh", "state": "pending", "timeout": "61 minutes"}'),
	(20, 'exists_different', '{"id": "eh", "state": "pending"}'),
	(21, 'exists_different', '{"id": "eh"}'),
	(22, 'exists', '{"id": "ev", "state": "pending"}'),
	(23, 'exists', '{"id": "ep", "pending_id": "eh", "amount": 40}'),
	(24, 'exists', '{"id": "ep", "pending_id": "eh", "amount": 40, "debit": "cash", "credit": "sales", "kind": "charge"}'),
	(25, 'exists_different', '{"id": "ep", "pending_id": "eh", "amount": 41}'),
	(26, 'exists_different', '{"id": "ep", "pending_id": "eh"}'),
	(27, 'exists_different', '{"id": "ep", "pending_id": "eh", "state": "voided"}'),
	(28, 'exists_different', '{"id": "ep", "pending_id": "ev", "amount": 40}'),
	(29, 'exists_different', '{"id": "ep", "pending_id": "nowhere", "amount": 40}'),
	(30, 'exists_different', '{"id": "ep", "amount": 40}'),
	(31, 'exists', '{"id": "evv", "pending_id": "ev", "state": "voided"}'),
	(32, 'exists', '{"id": "evv", "pending_id": "ev", "state": "voided", "amount": 100}'),
	(33, 'exists_different', '{"id": "evv", "pending_id": "ev"}')
) AS r (n, code, again)
ORDER BY r.n;
SELECT is(once('{"id": "e", "amount": 7, "reference": "r", "metadata": {"a": 1, "b": 2}}'), 'ok', 'transfer() says nothing of it');
SELECT is(said('SELECT ringfence.transfer(a(''cash''), a(''sales''), 7, ''charge'', id(''e''), reference => ''r'', metadata => ''{"a": 1, "b": 2}'')'), id('e')::text, 'and returns the id');
SELECT is(once('{"id": "e"}'), error('exists_different'), 'it does of another of the id');
SELECT is(said('SELECT ringfence.post_pending(id(''eh''), 40, id(''ep''))'), id('ep')::text, 'post_pending() repeated');
SELECT is(said('SELECT ringfence.post_pending(id(''eh''), 39, id(''ep''))'), error('exists_different'), 'with another amount');
SELECT is(said('SELECT ringfence.post_pending(id(''eh''), 40)'), error('pending_posted'), 'with another id');
SELECT is(said('SELECT ringfence.void_pending(id(''ev''), id(''evv''))'), id('evv')::text, 'void_pending() repeated');
SELECT is(said('SELECT ringfence.void_pending(id(''ev''), id(''evv''), ''why'')'), error('exists_different'), 'with a reference');
SELECT is(said('SELECT ringfence.void_pending(id(''ev''))'), error('pending_voided'), 'with another id');
SELECT is(said('SELECT ringfence.reverse(id(''plain''), ''a mistake'', id(''reversal''))'), id('reversal')::text, 'reverse() repeated');
SELECT is(said('SELECT ringfence.reverse(id(''plain''), ''another mistake'', id(''reversal''))'), error('exists_different'), 'with another reason');
SELECT is(said('SELECT ringfence.reverse(id(''capture''), ''a mistake'', id(''reversal''))'), error('exists_different'), 'of another transfer');
SELECT is(codes('{"id": "reversal", "debit": "sales", "credit": "cash", "kind": "reversal", "reference": "a mistake"}'), 'exists_different', 'a reversal is no plain transfer');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:sales''), 5, ''charge'', id(''e''))', 'B'), id('e')::text, 'ids are an organization''s own');
SELECT is(said('SELECT sum(t.amount) FROM ringfence_data.ledger_transfers AS t WHERE t.id = id(''e'')'), '7', 'which A''s is not changed by');

-- That it is there already comes before what else speaks against it now.
SELECT is(codes('{"id": "into x", "credit": "x", "amount": 10}'), 'credit_account_not_found', 'no account yet');
SELECT said('SELECT ringfence.open_account(''x'', ''X'', ''EUR'', ''liability'', true)') AS opened \gset
SELECT is(codes('{"id": "into x", "credit": "x", "amount": 10}', '{"id": "early", "posted_at": "2020-03-01Z"}',
	'{"id": "early hold", "state": "pending", "posted_at": "2020-03-01Z", "timeout": "1 microsecond"}', '{"id": "quick", "state": "pending", "timeout": "1 microsecond"}',
	'{"id": "quick post", "pending_id": "quick"}', '{"id": "quick 2", "state": "pending", "timeout": "1 microsecond"}', '{"id": "quick void", "pending_id": "quick 2", "state": "voided"}'),
	'ok ok ok ok ok ok ok', 'while nothing speaks against it');
SELECT is(codes('{"id": "out of x", "debit": "x", "amount": 10}'), 'ok', 'the money is gone');
SELECT is(codes('{"id": "out of x", "debit": "x", "amount": 10}', '{"id": "more out of x", "debit": "x", "amount": 10}'), 'exists overdraft', 'exists, not overdraft');
SELECT said('SELECT ringfence.close_account(a(''x''))') AS closed, said('SELECT ringfence.close_period(''2021-01-01'')') AS period \gset
SELECT is(codes('{"id": "into x", "credit": "x", "amount": 10}', '{"credit": "x", "amount": 10}'), 'exists credit_account_closed', 'exists, not credit_account_closed');
SELECT is(codes('{"id": "out of x", "debit": "x", "amount": 10}', '{"debit": "x", "amount": 10}'), 'exists debit_account_closed', 'exists, not debit_account_closed');
SELECT is(codes('{"id": "early", "posted_at": "2020-03-01Z"}', '{"posted_at": "2020-03-01Z"}'), 'exists period_closed', 'exists, not period_closed');
SELECT is(codes('{"id": "early hold", "state": "pending", "posted_at": "2020-03-01Z", "timeout": "1 microsecond"}'), 'exists', 'a hold of it');
SELECT is(codes('{"id": "quick post", "pending_id": "quick"}', '{"pending_id": "quick"}'), 'exists pending_posted', 'exists, not pending_posted, nor pending_expired');
SELECT is(codes('{"id": "quick void", "pending_id": "quick 2", "state": "voided"}', '{"pending_id": "quick 2"}'), 'exists pending_voided', 'exists, not pending_voided');
SELECT is(codes('{"id": "into x", "credit": "x", "amount": 11}', '{"id": "out of x", "debit": "x", "amount": 11}', '{"id": "early", "posted_at": "2020-03-02Z"}'),
	'exists_different exists_different exists_different', 'so does that the id is another''s');
SELECT is(codes('{"id": "into x", "credit": "nowhere", "amount": 10}', '{"id": "into x", "credit": "points", "amount": 10}'),
	'exists_different exists_different', 'of whatever accounts');
SELECT is(once('{"id": "into x", "credit": "x", "amount": 10}'), 'ok', 'for transfer() it is a success');
SELECT is(said('SELECT ringfence.post_pending(id(''quick''), NULL, id(''quick post''))'), id('quick post')::text, 'for post_pending()');

-- In one batch

SELECT is(codes('{"id": "b1"}', '{"id": "b1"}', '{"id": "b1", "amount": 99}', '{"id": "b1"}'), 'ok exists exists_different exists', 'the same id again');
SELECT is(codes('{"id": "b2", "debit": "wallet", "amount": 9999}', '{"id": "b2"}', '{"id": "b2"}'), 'overdraft ok exists', 'not if the first was refused');
SELECT is(codes('{"id": "b3", "state": "pending"}', '{"id": "b3", "state": "pending"}', '{"id": "b3p", "pending_id": "b3", "amount": 10}', '{"id": "b3p", "pending_id": "b3", "amount": 10}', '{"id": "b3p", "pending_id": "b3"}'),
	'ok exists ok exists exists_different', 'holds and what resolves them');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_transfers AS t WHERE t.id IN (id('b1'), id('b2'), id('b3'), id('b3p'))), 4::bigint, 'one each was made');
SELECT is(codes('{"id": "b1"}', '{"id": "b4"}', '{"id": "b3p", "pending_id": "b3", "amount": 10}', '{"id": "b4"}', '{"id": "b5", "amount": 0}'), 'exists ok exists exists amount_invalid', 'some there already, some not');
SELECT is(codes('{}', '{}'), 'ok ok', 'without an id nothing is a repetition');

-- Chains

SELECT state() AS before \gset
SELECT is(codes(VARIADIC r.chain), r.codes, 'a chain: ' || r.what)
FROM (VALUES
	(1, ARRAY['{"linked": true}', '{"debit": "wallet", "amount": 9999, "linked": true}', '{}']::jsonb[], 'linked_failed overdraft linked_failed', 'broken in the middle'),
	(2, ARRAY['{"amount": 0, "linked": true}', '{}']::jsonb[], 'amount_invalid linked_failed', 'at its head'),
	(3, ARRAY['{"linked": true}', '{"kind": "X"}']::jsonb[], 'linked_failed kind_invalid', 'at its end'),
	(4, ARRAY['{"linked": true}']::jsonb[], 'linked_open', 'of one, with no end'),
	(5, ARRAY['{"linked": true}', '{"linked": true}']::jsonb[], 'linked_failed linked_open', 'of two, with no end'),
	(6, ARRAY['{"amount": 0, "linked": true}', '{"linked": true}']::jsonb[], 'amount_invalid linked_open', 'broken, with no end'),
	(7, ARRAY['{"id": "c1", "state": "pending", "linked": true}', '{"pending_id": "c1", "linked": true}', '{"credit": "nowhere"}']::jsonb[],
		'linked_failed linked_failed credit_account_not_found', 'of a hold and its posting'),
	(8, ARRAY['{"id": "c2", "linked": true}', '{"id": "b1"}']::jsonb[], 'linked_failed exists', 'of which a part is there'),
	(9, ARRAY['{"id": "b1", "linked": true}', '{"id": "c2"}']::jsonb[], 'exists linked_failed', 'of which the other part is there'),
	(10, ARRAY['{"id": "b1", "linked": true, "amount": 1}', '{"id": "c2"}']::jsonb[], 'exists_different linked_failed', 'with an id that is another''s'),
	(11, ARRAY['{"id": "c3", "linked": true}', '{"id": "c3", "amount": 1}']::jsonb[], 'linked_failed exists_different', 'with an id twice')
) AS r (n, chain, codes, what)
ORDER BY r.n;
SELECT is(state(), :'before', 'of which nothing is left');
SELECT is(codes('{"credit": "credit", "amount": 5}', '{"linked": true, "id": "c4"}', '{"debit": "wallet", "amount": 9999}', '{"id": "c4"}', '{"linked": true, "id": "c5"}', '{"id": "c6"}', '{}'),
	'ok linked_failed overdraft ok ok ok ok', 'what isn''t linked with it is made, and so are other chains');
SELECT is(codes('{"linked": true, "id": "c5"}', '{"id": "c6"}'), 'exists exists', 'a chain repeated');
SELECT is(codes('{"linked": true, "id": "c5"}', '{"id": "c6"}', '{"linked": true, "id": "c7"}', '{"id": "c6"}', '{"id": "c7"}'), 'exists exists linked_failed exists ok', 'and one with a part of it');
SELECT is(codes('{"linked": true, "debit": "wallet", "amount": 500}', '{"credit": "wallet", "amount": 500}'), 'overdraft linked_failed', 'no credit for what comes later in a chain');
SELECT is(codes('{"linked": true, "credit": "wallet", "amount": 500}', '{"debit": "wallet", "amount": 500}'), 'ok ok', 'what came before counts');
SELECT is(codes('{"linked": true, "credit": "wallet", "amount": 500}', '{"debit": "wallet", "amount": 500, "kind": "X"}', '{"debit": "wallet", "amount": 500}'),
	'linked_failed kind_invalid overdraft', 'and what was taken back doesn''t');

-- What a hold leaves out is the hold's own, and not its refused twin's.
SELECT is(codes('{"id": "tw", "state": "pending", "debit": null}', '{"id": "tw", "state": "pending", "amount": 5}', '{"pending_id": "tw"}'),
	'account_required ok pending_not_found', 'the first of that id is meant, and it was refused');
SELECT is(codes('{"pending_id": "tw"}'), 'ok', 'then it is the one that is there');
SELECT is((SELECT concat_ws(' ', t.amount, t.kind) FROM ringfence_data.ledger_transfers AS t WHERE t.pending_id = id('tw')), '5 charge',
	'all of it, and of its kind');

-- What transfers() answers beside codes

SELECT is(said($$SELECT string_agg(concat_ws(' ', r.position, r.code, r.id = (ARRAY[id('p1'), id('p2'), id('p3')])[r.position]), ', ' ORDER BY r.position)
	FROM ringfence.transfers(ARRAY[t('{"id": "p1"}'), t('{"id": "p2", "amount": 0}'), t('{"id": "p3"}')]) AS r$$),
	'1 ok t, 2 amount_invalid t, 3 ok t', 'places from 1, and the ids that were given');
SELECT is(said($$SELECT string_agg(r.code || ' ' || (r.id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]'), ', ' ORDER BY r.position)
	FROM ringfence.transfers(ARRAY[t('{"kind": "fresh"}'), t('{"kind": "fresh", "amount": 0}'), t('{"kind": "fresh"}')]) AS r$$),
	'ok true, amount_invalid true, ok true', 'or that were made');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_transfers AS t WHERE t.kind = 'fresh'), 2::bigint, 'one for each');
SELECT * FROM finish();
