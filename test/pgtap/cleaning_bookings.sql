-- Bookings of the cleaning app: every edge of the status machine, legal and
-- not; what a closed booking refuses; stale versions; who may take which step.
BEGIN;
SELECT plan(52);

\ir include/act_as.sql

-- A booking of team 1 in Alder Clean, put into a status as an import would.
CREATE FUNCTION pg_temp.make_booking(status text, with_team boolean DEFAULT true, with_price boolean DEFAULT true)
	RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
	made uuid;
BEGIN
	RESET ROLE;
	INSERT INTO cleaning.bookings AS b (org_id, client_id, team_id, status, starts_at, ends_at, address)
		VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', '0d9f6c1e-0002-7000-8000-0000a0000001',
			CASE WHEN with_team THEN '0d9f6c1e-0003-7000-8000-0000a0000001'::uuid END,
			make_booking.status, '2026-01-05 17:00+00', '2026-01-05 19:00+00', '1 Test Street')
		RETURNING b.id INTO made;
	IF with_price THEN
		INSERT INTO cleaning.booking_prices (org_id, booking_id, client_id, price_minor, currency, gst_rate)
			VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', made, '0d9f6c1e-0002-7000-8000-0000a0000001', 10000, 'CAD', 0.05);
	END IF;
	RETURN made;
END
$$;

-- What comes of an attempt, undone again: "done", or the error.
CREATE FUNCTION pg_temp.outcome(command text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	changed bigint;
BEGIN
	EXECUTE command;
	GET DIAGNOSTICS changed = ROW_COUNT;
	RAISE EXCEPTION USING ERRCODE = 'P9999', MESSAGE = CASE changed WHEN 1 THEN 'done' ELSE changed || ' rows' END;
EXCEPTION WHEN OTHERS THEN
	RETURN CASE WHEN SQLSTATE = 'P9999' THEN SQLERRM ELSE SQLSTATE || ': ' || SQLERRM END;
END
$$;

CREATE TEMPORARY TABLE fixtures AS
SELECT s.status, pg_temp.make_booking(s.status) AS id
	FROM unnest('{draft,confirmed,in_progress,done,canceled,disputed}'::text[]) AS s (status);
GRANT SELECT ON fixtures TO ringfence_member;

CREATE TEMPORARY VIEW edges AS
SELECT f.status AS present, t.status AS target, f.id
	FROM fixtures AS f CROSS JOIN fixtures AS t
	WHERE f.status <> t.status;
GRANT SELECT ON edges TO ringfence_member;

CREATE TEMPORARY TABLE expected_edges (present text, target text, outcome text);
INSERT INTO expected_edges
SELECT e.present, e.target, coalesce(l.outcome, format('PT409: a booking that is %s cannot become %s', e.present, e.target))
	FROM edges AS e
		LEFT JOIN (VALUES ('draft', 'confirmed', 'done'), ('draft', 'canceled', 'done'),
			('confirmed', 'in_progress', 'done'), ('confirmed', 'canceled', 'done'),
			('confirmed', 'done', 'PT409: booking has no invoice'),
			('in_progress', 'canceled', 'done'), ('in_progress', 'done', 'PT409: booking has no invoice'),
			('done', 'disputed', 'done'), ('disputed', 'done', 'done')) AS l (present, target, outcome)
			USING (present, target);
GRANT SELECT ON expected_edges TO ringfence_member;

SELECT is((SELECT count(*) FROM expected_edges), 30::bigint, 'there are 30 pairs of statuses');
SELECT pg_temp.act_as('dispatcher');
SELECT set_eq($$
	SELECT present, target, pg_temp.outcome(format('UPDATE cleaning.bookings SET status = %L WHERE id = %L', target, id))
		FROM edges
$$, 'SELECT present, target, outcome FROM expected_edges', 'the table knows the legal edges and no other');
SELECT set_eq($$
	SELECT present, target,
			pg_temp.outcome(format('UPDATE cleaning_v1.bookings SET status = %L WHERE id = %L', target, id))
		FROM edges
$$, 'SELECT present, target, outcome FROM expected_edges', 'so does the view');
SELECT throws_ok($$UPDATE cleaning.bookings SET status = 'paused' WHERE status = 'draft'$$, 'PT409',
	'a booking that is draft cannot become paused', 'a status that does not exist');
RESET ROLE;
SELECT set_eq($$
	SELECT present, target, pg_temp.outcome(format('UPDATE cleaning.bookings SET status = %L WHERE id = %L', target, id))
		FROM edges
$$, 'SELECT present, target, outcome FROM expected_edges', 'a superuser is held to them too');

-- The functions, on a booking in each status.
SELECT pg_temp.act_as('dispatcher');
CREATE FUNCTION pg_temp.steps() RETURNS TABLE (step text, present text, outcome text)
LANGUAGE sql AS $$
	SELECT s.step, f.status, pg_temp.outcome(format('SELECT cleaning_v1.%I(%L)', s.step, f.id))
		FROM fixtures AS f
			CROSS JOIN unnest('{confirm_booking,start_booking,complete_booking,cancel_booking,dispute_booking,resolve_dispute}'::text[])
				AS s (step)
$$;
SELECT set_eq('SELECT step, present, outcome FROM pg_temp.steps()', $$
	SELECT s.step, f.status, CASE
			WHEN f.status = ANY (s.legal) THEN 'done'
			WHEN f.status = s.target AND s.step <> 'complete_booking' THEN 'PT409: booking is already ' || s.target
			WHEN s.step = 'complete_booking' THEN format('PT409: a booking that is %s cannot be completed', f.status)
			WHEN s.step = 'resolve_dispute' AND f.status IN ('confirmed', 'in_progress') THEN 'PT409: booking has no invoice'
			ELSE format('PT409: a booking that is %s cannot become %s', f.status, s.target)
		END
		FROM fixtures AS f
			CROSS JOIN (VALUES ('confirm_booking', 'confirmed', '{draft}'::text[]),
				('start_booking', 'in_progress', '{confirmed}'), ('complete_booking', 'done', '{confirmed,in_progress}'),
				('cancel_booking', 'canceled', '{draft,confirmed,in_progress}'), ('dispute_booking', 'disputed', '{done}'),
				('resolve_dispute', 'done', '{disputed}')) AS s (step, target, legal)
$$, 'each step can be taken from the statuses that have it');

-- What a step needs.
SELECT pg_temp.make_booking('draft', with_team => false) AS teamless,
	pg_temp.make_booking('draft', with_price => false) AS priceless,
	pg_temp.make_booking('confirmed', with_price => false) AS imported \gset
SELECT pg_temp.act_as('dispatcher');
SELECT throws_ok(format('SELECT cleaning_v1.confirm_booking(%L)', :'teamless'), 'PT409', 'booking has no team',
	'a booking without a team is not confirmed');
SELECT throws_ok(format('SELECT cleaning_v1.confirm_booking(%L)', :'priceless'), 'PT409', 'booking has no price',
	'nor one without a price');
SELECT throws_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'imported'), 'PT409', 'booking has no price',
	'nor is one completed without a price');
SELECT lives_ok(format('SELECT cleaning_v1.cancel_booking(%L)', :'teamless'), 'but it is canceled');
RESET ROLE;
SELECT throws_ok($$INSERT INTO cleaning.bookings (org_id, client_id, status, starts_at, ends_at, address)
	VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', '0d9f6c1e-0002-7000-8000-0000a0000001', 'confirmed',
		'2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x')$$,
	'23514', 'new row for relation "bookings" violates check constraint "bookings_team_id_check"',
	'an import can''t leave the team out either');
SELECT throws_ok($$INSERT INTO cleaning.bookings (org_id, client_id, starts_at, ends_at, address)
	VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', '0d9f6c1e-0002-7000-8000-0000a0000001',
		'2026-01-05 17:00+00', '2026-01-05 17:00+00', 'x')$$,
	'23514', 'new row for relation "bookings" violates check constraint "bookings_ends_at_check"',
	'a visit ends after it begins');
SELECT throws_ok(format($$INSERT INTO cleaning.bookings (org_id, client_id, starts_at, ends_at, address)
	VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', '0d9f6c1e-0002-7000-8000-0000a0000001', %L, %L, 'x')$$, starts, ends),
	'23514', 'new row for relation "bookings" violates check constraint "bookings_ends_at_check"', 'and there are years that none is in: ' || ends)
FROM (VALUES ('2026-01-05 17:00+00', 'infinity'), ('-infinity', '2026-01-05 17:00+00'), ('2026-01-05 17:00+00', '10000-01-01 00:00+00')) AS v (starts, ends);

-- Closed bookings.
SELECT pg_temp.act_as('dispatcher');
SELECT set_eq($$
	SELECT f.status, c.change, pg_temp.outcome(format('UPDATE cleaning.bookings SET %s WHERE id = %L', c.change, f.id))
		FROM fixtures AS f
			CROSS JOIN unnest('{address = address || 1, starts_at = starts_at - interval ''1 h'', team_id = ''0d9f6c1e-0003-7000-8000-0000a0000002'', client_id = ''0d9f6c1e-0002-7000-8000-0000a0000002'', notes = notes || 1}'::text[])
				AS c (change)
$$, $$
	SELECT f.status, c.change,
			CASE WHEN f.status IN ('draft', 'confirmed', 'in_progress') OR c.change LIKE 'notes%' THEN 'done'
				ELSE format('PT409: a booking that is %s cannot be changed', f.status) END
		FROM fixtures AS f
			CROSS JOIN unnest('{address = address || 1, starts_at = starts_at - interval ''1 h'', team_id = ''0d9f6c1e-0003-7000-8000-0000a0000002'', client_id = ''0d9f6c1e-0002-7000-8000-0000a0000002'', notes = notes || 1}'::text[])
				AS c (change)
$$, 'who, where and when are fixed once a booking is closed; notes are not');
SELECT set_eq($$
	SELECT f.status, pg_temp.outcome(format('UPDATE cleaning_v1.bookings SET price_minor = 1 WHERE id = %L', f.id))
		FROM fixtures AS f
$$, $$
	SELECT f.status, CASE WHEN f.status IN ('draft', 'confirmed', 'in_progress') THEN 'done'
			ELSE 'PT409: the price of this booking can no longer be changed' END
		FROM fixtures AS f
$$, 'so is the price');

-- Versions.
SELECT pg_temp.make_booking('draft') AS versioned \gset
SELECT pg_temp.act_as('dispatcher');
SELECT lives_ok(format('UPDATE cleaning_v1.bookings SET notes = %L, version = 1 WHERE id = %L', 'a', :'versioned'),
	'a change with the version that was read');
SELECT is((SELECT version FROM cleaning_v1.bookings WHERE id = :'versioned'), 2, 'counts');
SELECT throws_ok(format('UPDATE cleaning_v1.bookings SET notes = %L, version = 1 WHERE id = %L', 'b', :'versioned'),
	'PT409', 'booking has version 2, not 1', 'a stale version is refused');
SELECT throws_ok(format('UPDATE cleaning.bookings SET notes = %L, version = 1 WHERE id = %L', 'b', :'versioned'),
	'PT409', 'booking has version 2, not 1', 'on the table too');
SELECT throws_ok(format('UPDATE cleaning.bookings SET version = 7 WHERE id = %L', :'versioned'),
	'PT409', 'booking has version 2, not 7', 'so is one that has not been');
SELECT lives_ok(format('UPDATE cleaning_v1.bookings SET notes = %L WHERE id = %L', 'c', :'versioned'),
	'a change that names no version goes through');
SELECT results_eq(format('SELECT notes, version FROM cleaning_v1.bookings WHERE id = %L', :'versioned'),
	$$VALUES ('c', 3)$$, 'and counts');
SELECT throws_ok(format('SELECT cleaning_v1.confirm_booking(%L, 2)', :'versioned'), 'PT409',
	'booking has version 3, not 2', 'confirm_booking() refuses a stale version');
SELECT is((cleaning_v1.confirm_booking(:'versioned', 3)).version, 4, 'and takes the present one');
SELECT throws_ok(format('SELECT cleaning_v1.cancel_booking(%L, 3)', :'versioned'), 'PT409',
	'booking has version 4, not 3', 'cancel_booking() refuses a stale version');
SELECT is((cleaning_v1.cancel_booking(:'versioned', 4)).status, 'canceled', 'and takes the present one');

-- Who.
SELECT pg_temp.make_booking('confirmed') AS mine, pg_temp.make_booking('confirmed') AS theirs,
	pg_temp.make_booking('draft') AS draft, pg_temp.make_booking('done') AS done \gset
RESET ROLE;
UPDATE cleaning.bookings SET team_id = '0d9f6c1e-0003-7000-8000-0000a0000002', client_id = '0d9f6c1e-0002-7000-8000-0000a0000002'
	WHERE id = :'theirs';
SELECT pg_temp.act_as('worker');
SELECT throws_ok(format('SELECT cleaning_v1.confirm_booking(%L)', :'mine'), '42501', 'not allowed to change this booking',
	'a worker confirms nothing');
SELECT throws_ok(format('SELECT cleaning_v1.cancel_booking(%L)', :'mine'), '42501', 'not allowed to change this booking',
	'cancels nothing');
SELECT throws_ok(format('SELECT cleaning_v1.dispute_booking(%L)', :'mine'), '42501', 'not allowed to dispute bookings',
	'disputes nothing');
SELECT throws_ok(format('SELECT cleaning_v1.start_booking(%L)', :'theirs'), 'PT404', 'booking not found',
	'and does not find another team''s booking to start');
SELECT throws_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'theirs'), 'PT404', 'booking not found',
	'or to complete');
SELECT throws_ok('SELECT cleaning_v1.start_booking(NULL)', 'PT404', 'booking not found', 'or none');
SELECT results_eq(format('SELECT status, price_minor, currency, gst_rate FROM cleaning_v1.start_booking(%L)', :'mine'),
	$$VALUES ('in_progress', NULL::bigint, NULL::text, NULL::numeric)$$, 'a worker starts the team''s booking and sees no price');
SELECT results_eq(format('SELECT status, price_minor, currency, gst_rate FROM cleaning_v1.complete_booking(%L)', :'mine'),
	$$VALUES ('done', NULL::bigint, NULL::text, NULL::numeric)$$, 'and completes it, and sees no price');
SELECT is((SELECT count(*) FROM cleaning.invoices), 0::bigint, 'nor the invoice');
SELECT throws_ok(format('SELECT cleaning.move_booking(%L, %L, NULL)', :'mine', 'disputed'), '42501',
	'not allowed to change this booking', 'what the functions are made of gives no more rights');
SELECT pg_temp.act_as('client');
SELECT throws_ok(format('SELECT cleaning_v1.start_booking(%L)', :'mine'), '42501', 'not allowed to work on bookings',
	'a client does not start a booking');
SELECT throws_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'mine'), '42501', 'not allowed to work on bookings',
	'nor complete it');
SELECT throws_ok(format('SELECT cleaning_v1.confirm_booking(%L)', :'draft'), '42501', 'not allowed to change this booking',
	'nor confirm it');
SELECT throws_ok(format('SELECT cleaning_v1.dispute_booking(%L)', :'theirs'), 'PT404', 'booking not found',
	'another client''s booking is not there to be disputed');
SELECT results_eq(format('SELECT status, price_minor FROM cleaning_v1.dispute_booking(%L)', :'mine'),
	$$VALUES ('disputed', 10000::bigint)$$, 'the own one is disputed');
SELECT throws_ok(format('SELECT cleaning_v1.resolve_dispute(%L)', :'mine'), '42501', 'not allowed to change this booking',
	'and not settled by the client');
SELECT pg_temp.act_as('finance');
SELECT throws_ok(format('SELECT cleaning_v1.confirm_booking(%L)', :'draft'), '42501', 'not allowed to change this booking',
	'finance confirms nothing');
SELECT throws_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'theirs'), '42501', 'not allowed to work on bookings',
	'and completes nothing');
SELECT pg_temp.act_as('owner', 'Birch Services');
SELECT set_eq(format($$
	SELECT s.step, pg_temp.outcome(format('SELECT cleaning_v1.%%I(%%L)', s.step, %L))
		FROM unnest('{confirm_booking,start_booking,complete_booking,cancel_booking,dispute_booking,resolve_dispute}'::text[])
			AS s (step)
$$, :'draft'), $$
	SELECT step, 'PT404: booking not found'
		FROM unnest('{confirm_booking,start_booking,complete_booking,cancel_booking,dispute_booking,resolve_dispute}'::text[])
			AS s (step)
$$, 'another organization finds no booking for any step');
SELECT pg_temp.act_as('admin');
SELECT is((cleaning_v1.resolve_dispute(:'mine')).status, 'done', 'an admin settles the dispute');
SELECT is((cleaning_v1.dispute_booking(:'done')).status, 'disputed', 'and records one for a client');
SELECT is((cleaning_v1.confirm_booking(:'draft')).status, 'confirmed', 'confirms');
SELECT is((cleaning_v1.start_booking(:'draft')).status, 'in_progress', 'starts');
SELECT is((cleaning_v1.complete_booking(:'draft')).price_minor, 10000::bigint, 'completes, and sees the price');

SELECT * FROM finish();
ROLLBACK;
