-- A booking's way through cleaning_v1, from draft to payment, as requests of the
-- people who take part: what each is answered, and with which HTTP status.
\ir include/postgrest.sql
SELECT plan(59);

SELECT test.claims('Alder Clean', 'dispatcher') AS dispatcher, test.claims('Alder Clean', 'worker') AS worker,
	test.claims('Alder Clean', 'client') AS client, test.claims('Alder Clean', 'finance') AS finance,
	test.claims('Alder Clean', 'admin') AS admin, test.claims('Birch Services', 'owner') AS stranger \gset

-- A draft.
SELECT status AS answer, body -> 0 ->> 'id' AS booking, body -> 0 AS row
	FROM test.post(:'dispatcher', 'cleaning_v1', 'bookings', '{"client_id": "0d9f6c1e-0002-7000-8000-0000a0000001",
		"team_id": "0d9f6c1e-0003-7000-8000-0000a0000001", "starts_at": "2026-01-05T17:00:00Z",
		"ends_at": "2026-01-05T19:00:00Z", "address": "1 Test Street", "price_minor": 10010}') \gset
SELECT is(:'answer'::text, '201', 'the dispatcher posts a booking');
SELECT is(:'row'::jsonb - '{id,created_at,updated_at}'::text[], '{"org_id": "0d9f6c1e-0000-7000-8000-00000000000a",
	"client_id": "0d9f6c1e-0002-7000-8000-0000a0000001", "team_id": "0d9f6c1e-0003-7000-8000-0000a0000001", "status": "draft",
	"starts_at": "2026-01-05T17:00:00+00:00", "ends_at": "2026-01-05T19:00:00+00:00", "address": "1 Test Street", "notes": "",
	"price_minor": 10010, "currency": "CAD", "gst_rate": 0.05000, "version": 1}'::jsonb, 'and reads what became of it');
SELECT results_eq($$SELECT status, code, message FROM test.post(test.claims('Alder Clean', 'client'), 'cleaning_v1', 'bookings',
	'{"client_id": "0d9f6c1e-0002-7000-8000-0000a0000001", "starts_at": "2026-01-05T17:00:00Z",
		"ends_at": "2026-01-05T19:00:00Z", "address": "1 Test Street"}')$$,
	$$VALUES (403, '42501', 'new row violates row-level security policy for table "bookings"')$$, 'a client posts none');
SELECT results_eq($$SELECT status, code FROM test.post(test.claims('Alder Clean', 'dispatcher'), 'cleaning_v1', 'bookings',
	'{"client_id": "0d9f6c1e-0002-7000-8000-0000b0000001", "starts_at": "2026-01-05T17:00:00Z",
		"ends_at": "2026-01-05T19:00:00Z", "address": "1 Test Street"}')$$,
	$$VALUES (409, '23503')$$, 'nobody posts one for another organization''s client');
SELECT is((test.post(:'dispatcher', 'cleaning_v1', 'bookings', '{"client_id": "0d9f6c1e-0002-7000-8000-0000b0000001",
		"starts_at": "2026-01-05T17:00:00Z", "ends_at": "2026-01-05T19:00:00Z", "address": "x"}')).details, 'Key is not present in table "clients".',
	'and is told no more than of one that does not exist');
SELECT results_eq($$SELECT status, code, message FROM test.post(test.claims('Alder Clean', 'dispatcher'), 'cleaning_v1', 'bookings',
	'{"client_id": "0d9f6c1e-0002-7000-8000-0000a0000001", "starts_at": "2026-01-05T17:00:00Z",
		"ends_at": "2026-01-05T19:00:00Z", "address": "1 Test Street", "status": "done"}')$$,
	$$VALUES (400, '22023', 'a new booking is a draft of version 1')$$, 'nor one that is done');

-- Confirmed.
SELECT status AS answer, body ->> 'status' AS became, body ->> 'version' AS version
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'confirm_booking', jsonb_build_object('booking', :'booking', 'version', 1)) \gset
SELECT is(:'answer'::text, '200', 'the dispatcher confirms it');
SELECT is(:'became' || ' ' || :'version', 'confirmed 2', 'and reads it confirmed');
SELECT is(r.status, 409, 'a second confirmation')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'confirm_booking', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.code || ' ' || r.message, 'PT409 booking is already confirmed', 'is a conflict')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'confirm_booking', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.status || ' ' || r.message, '404 booking not found', 'a booking that is not there')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'confirm_booking', '{"booking": "ffffffff-ffff-7fff-8fff-ffffffffffff"}') AS r;
SELECT is(r.status || ' ' || r.message, '404 booking not found', 'and one of another organization are the same')
	FROM test.rpc(:'stranger', 'cleaning_v1', 'confirm_booking', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.status || ' ' || r.code, '405 25006', 'GET confirms nothing')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'confirm_booking', jsonb_build_object('booking', :'booking'), 'GET') AS r;

-- Changed.
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 booking has version 2, not 1', 'a stale version')
	FROM test.patch(:'dispatcher', 'cleaning_v1', 'bookings', 'id = $1', '{"notes": "a", "version": 1}', ARRAY[:'booking']) AS r;
SELECT is(r.hint, 'Read it again, then repeat the change.', 'says what to do')
	FROM test.patch(:'dispatcher', 'cleaning_v1', 'bookings', 'id = $1', '{"notes": "a", "version": 1}', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || (r.body -> 0 ->> 'version') || (r.body -> 0 ->> 'notes'), '200 3a', 'the present one is taken')
	FROM test.patch(:'dispatcher', 'cleaning_v1', 'bookings', 'id = $1', '{"notes": "a", "version": 2}', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 a booking that is confirmed cannot become draft',
		'the status follows its machine')
	FROM test.patch(:'dispatcher', 'cleaning_v1', 'bookings', 'id = $1', '{"status": "draft"}', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 booking has no invoice', 'done is for complete_booking()')
	FROM test.patch(:'dispatcher', 'cleaning_v1', 'bookings', 'id = $1', '{"status": "done"}', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '403 42501 not allowed to change this booking',
		'a worker changes nothing')
	FROM test.patch(:'worker', 'cleaning_v1', 'bookings', 'id = $1', '{"notes": "b"}', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'a stranger finds nothing to change')
	FROM test.patch(:'stranger', 'cleaning_v1', 'bookings', 'id = $1', '{"notes": "b"}', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'nobody deletes it')
	FROM test.delete(:'admin', 'cleaning_v1', 'bookings', 'id = $1', ARRAY[:'booking']) AS r;

-- Read.
SELECT is(r.body -> 0 ->> 'price_minor', '10010', 'finance reads the price')
	FROM test.get(:'finance', 'cleaning_v1', 'bookings', 'id = $1', ARRAY[:'booking']) AS r;
SELECT is(r.body -> 0 ->> 'price_minor', '10010', 'so does the client')
	FROM test.get(:'client', 'cleaning_v1', 'bookings', 'id = $1', ARRAY[:'booking']) AS r;
SELECT is(r.body -> 0 ->> 'notes', 'a', 'the worker reads the booking')
	FROM test.get(:'worker', 'cleaning_v1', 'bookings', 'id = $1', ARRAY[:'booking']) AS r;
SELECT is(r.body -> 0 ->> 'price_minor', NULL, 'without the price')
	FROM test.get(:'worker', 'cleaning_v1', 'bookings', 'id = $1', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'and finds none by its price')
	FROM test.get(:'worker', 'cleaning_v1', 'bookings', 'price_minor > 0') AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'a stranger does not read it')
	FROM test.get(:'stranger', 'cleaning_v1', 'bookings', 'id = $1', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || r.code, '401 42501', 'nor does anybody without a token')
	FROM test.get(NULL, 'cleaning_v1', 'bookings') AS r;
SELECT is(r.status || ' ' || r.code, '401 42501', 'who completes nothing either')
	FROM test.rpc(NULL, 'cleaning_v1', 'complete_booking', jsonb_build_object('booking', :'booking')) AS r;

-- Done.
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '403 42501 not allowed to work on bookings', 'the client does not start it')
	FROM test.rpc(:'client', 'cleaning_v1', 'start_booking', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'status'), '200 in_progress', 'the worker starts it')
	FROM test.rpc(:'worker', 'cleaning_v1', 'start_booking', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.status || ' ' || r.code, '404 PT404', 'not another team''s')
	FROM test.rpc(:'worker', 'cleaning_v1', 'start_booking', '{"booking": "0d9f6c1e-0006-7000-8000-0000a0000001"}') AS r;
SELECT status AS answer, body AS row
	FROM test.rpc(:'worker', 'cleaning_v1', 'complete_booking', jsonb_build_object('booking', :'booking')) \gset
SELECT is(:'answer' || ' ' || (:'row'::jsonb ->> 'status'), '200 done', 'and completes it');
SELECT is(:'row'::jsonb -> 'price_minor', 'null', 'without the price');
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 a booking that is done cannot be completed', 'once')
	FROM test.rpc(:'worker', 'cleaning_v1', 'complete_booking', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 a booking that is done cannot be changed',
		'then it stays where it is')
	FROM test.patch(:'dispatcher', 'cleaning_v1', 'bookings', 'id = $1', '{"address": "2 Test Street"}', ARRAY[:'booking']) AS r;

-- Invoiced.
SELECT status AS answer, body -> 0 ->> 'id' AS invoice, body -> 0 AS row
	FROM test.get(:'client', 'cleaning_v1', 'invoices', 'booking_id = $1', ARRAY[:'booking']) \gset
SELECT is(:'row'::jsonb ->> 'status', 'issued', 'the client reads the invoice');
SELECT is((:'row'::jsonb ->> 'total_minor')::integer, 10511, 'with GST');
SELECT is(r.status || ' ' || r.body, '200 []', 'the worker does not')
	FROM test.get(:'worker', 'cleaning_v1', 'invoices') AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'nobody posts one')
	FROM test.post(:'admin', 'cleaning_v1', 'invoices', :'row'::jsonb - '{total_minor,status}'::text[]) AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'or sets its paid amount')
	FROM test.patch(:'finance', 'cleaning_v1', 'invoices', 'id = $1', '{"paid_minor": 10511}', ARRAY[:'invoice']) AS r;
SELECT is(r.status || ' ' || (r.body -> 0 ->> 'due_date'), '200 2099-01-01', 'finance moves its due date')
	FROM test.patch(:'finance', 'cleaning_v1', 'invoices', 'id = $1', '{"due_date": "2099-01-01"}', ARRAY[:'invoice']) AS r;

-- Paid.
SELECT jsonb_build_object('invoice', :'invoice', 'kind', 'payment', 'amount_minor', 10511, 'currency', 'CAD', 'provider', 'stripe',
	'provider_ref', 'pi_http') AS payment \gset
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '403 42501 not allowed to record payments', 'not by the dispatcher')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'record_payment', :'payment') AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 payment is more than is due', 'not too much')
	FROM test.rpc(:'finance', 'cleaning_v1', 'record_payment', :'payment'::jsonb || '{"amount_minor": 10512}') AS r;
SELECT is(r.details, '10511 is due.', 'but as much as is due')
	FROM test.rpc(:'finance', 'cleaning_v1', 'record_payment', :'payment'::jsonb || '{"amount_minor": 10512}') AS r;
SELECT is(r.status || ' ' || r.code, '400 22023', 'in no other currency')
	FROM test.rpc(:'finance', 'cleaning_v1', 'record_payment', :'payment'::jsonb || '{"currency": "AUD"}') AS r;
SELECT is(r.status || ' ' || r.code, '404 PT404', 'on no invoice of others')
	FROM test.rpc(:'finance', 'cleaning_v1', 'record_payment',
		:'payment'::jsonb || '{"invoice": "0d9f6c1e-0007-7000-8000-0000b0000001"}') AS r;
SELECT status AS answer, body ->> 'id' AS payment_id FROM test.rpc(:'finance', 'cleaning_v1', 'record_payment', :'payment') \gset
SELECT is(:'answer'::text, '200', 'finance records the payment');
SELECT is(r.status || ' ' || (r.body ->> 'id'), '200 ' || :'payment_id', 'twice is once')
	FROM test.rpc(:'finance', 'cleaning_v1', 'record_payment', :'payment') AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 provider reference stands for another payment',
		'unless it says otherwise')
	FROM test.rpc(:'finance', 'cleaning_v1', 'record_payment', :'payment'::jsonb || '{"kind": "deposit"}') AS r;
SELECT is(r.body -> 0 ->> 'status', 'paid', 'the invoice is paid')
	FROM test.get(:'client', 'cleaning_v1', 'invoices', 'booking_id = $1', ARRAY[:'booking']) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'status'), '200 disputed', 'the client disputes the booking')
	FROM test.rpc(:'client', 'cleaning_v1', 'dispute_booking', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'and does not settle it')
	FROM test.rpc(:'client', 'cleaning_v1', 'resolve_dispute', jsonb_build_object('booking', :'booking')) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'status'), '200 done', 'the admin does')
	FROM test.rpc(:'admin', 'cleaning_v1', 'resolve_dispute', jsonb_build_object('booking', :'booking')) AS r;

-- Leads and clients.
SELECT is(r.status || ' ' || (r.body ->> 'name'), '200 Prospect 1', 'a lead is converted')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'convert_lead', '{"lead": "0d9f6c1e-0009-7000-8000-0000a0000001"}') AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 lead is already converted', 'once')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'convert_lead', '{"lead": "0d9f6c1e-0009-7000-8000-0000a0000001"}') AS r;
SELECT is(r.status || ' ' || r.code, '409 23505', 'its address is taken')
	FROM test.post(:'dispatcher', 'cleaning_v1', 'clients', '{"name": "x", "email": "PROSPECT1@example.com"}') AS r;
SELECT is(r.status, 201, 'in this organization only')
	FROM test.post(:'stranger', 'cleaning_v1', 'clients', '{"name": "x", "email": "prospect1@example.com"}') AS r;
SELECT is(r.status || ' ' || r.code, '400 23514', 'a client without a name')
	FROM test.post(:'dispatcher', 'cleaning_v1', 'clients', '{"name": ""}') AS r;

SELECT * FROM finish();
