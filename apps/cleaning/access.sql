-- The access matrix: what each role of an organization may do to each table.
-- An empty cell is no access; invoice_counters is for the functions alone.

SELECT ringfence.protect(
	format('cleaning.%I', m.rel)::regclass,
	jsonb_strip_nulls(jsonb_build_object(
		'owner,admin', m.office, 'dispatcher', m.dispatcher, 'finance', m.finance,
		'worker', m.worker, 'client', m.client)))
FROM (VALUES
	('clients', 'all', 'select insert update', 'select',
		NULL, 'select where id is client'),
	('teams', 'all', 'select insert update', 'select',
		'select', NULL),
	('workers', 'all', 'select insert update', 'select',
		'select where id is worker', NULL),
	('worker_rates', 'all', NULL, 'select insert update',
		NULL, NULL),
	('bookings', 'select insert update', 'select insert update', 'select',
		'select where team_id matches cleaning.workers as worker', 'select where client_id is client'),
	('booking_prices', 'select insert update', 'select insert update', 'select',
		NULL, 'select where client_id is client'),
	('invoice_counters', NULL, NULL, NULL,
		NULL, NULL),
	('invoices', 'select update', 'select', 'select update',
		NULL, 'select where client_id is client'),
	('invoice_items', 'select', 'select', 'select',
		NULL, 'select where client_id is client'),
	('payments', 'select', NULL, 'select',
		NULL, 'select where client_id is client'),
	('leads', 'all', 'select insert update', NULL,
		NULL, NULL),
	('referral_credits', 'select', NULL, 'select',
		NULL, 'select where client_id is client')
) AS m (rel, office, dispatcher, finance, worker, client);

-- Columns that only functions write. What follows narrows the grants that
-- protect() made; after another protect() of one of these tables, repeat it.

REVOKE INSERT, UPDATE ON cleaning.bookings FROM ringfence_member;
GRANT INSERT (org_id, id, client_id, team_id, starts_at, ends_at, address, notes),
	UPDATE (client_id, team_id, status, starts_at, ends_at, address, notes, version)
	ON cleaning.bookings TO ringfence_member;

REVOKE UPDATE ON cleaning.booking_prices FROM ringfence_member;
GRANT UPDATE (price_minor, currency, gst_rate) ON cleaning.booking_prices TO ringfence_member;

REVOKE UPDATE ON cleaning.invoices FROM ringfence_member;
GRANT UPDATE (due_date, notes) ON cleaning.invoices TO ringfence_member;

REVOKE INSERT, UPDATE ON cleaning.leads FROM ringfence_member;
GRANT INSERT (org_id, id, name, email, phone, address, source, status, referrer_id),
	UPDATE (name, email, phone, address, source, status, referrer_id)
	ON cleaning.leads TO ringfence_member;

SELECT ringfence.protect_schema('cleaning');
