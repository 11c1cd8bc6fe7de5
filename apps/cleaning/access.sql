-- The access matrix: what each role of an organization may do to each table, and
-- which columns tenants may write where functions and triggers write the rest.
-- An empty cell is no access; invoice_counters is for the functions alone.

SELECT ringfence.protect(
	format('cleaning.%I', m.rel)::regclass,
	jsonb_strip_nulls(jsonb_build_object(
		'owner,admin', m.office, 'dispatcher', m.dispatcher, 'finance', m.finance,
		'worker', m.worker, 'client', m.client)),
	columns => m.columns)
FROM (VALUES
	('clients', 'all', 'select insert update', 'select',
		NULL, 'select where id is client', '{}'::jsonb),
	('teams', 'all', 'select insert update', 'select',
		'select', NULL, '{}'),
	('workers', 'all', 'select insert update', 'select',
		'select where id is worker', NULL, '{}'),
	('worker_rates', 'all', NULL, 'select insert update',
		NULL, NULL, '{}'),
	('bookings', 'select insert update', 'select insert update', 'select',
		'select where team_id matches cleaning.workers as worker', 'select where client_id is client', '{
			"insert": ["org_id", "id", "client_id", "team_id", "starts_at", "ends_at", "address", "notes"],
			"update": ["client_id", "team_id", "status", "starts_at", "ends_at", "address", "notes", "version"]
		}'),
	('booking_prices', 'select insert update', 'select insert update', 'select',
		NULL, 'select where client_id is client', '{"update": ["price_minor", "currency", "gst_rate"]}'),
	('invoice_counters', NULL, NULL, NULL,
		NULL, NULL, '{}'),
	('invoices', 'select update', 'select', 'select update',
		NULL, 'select where client_id is client', '{"update": ["due_date", "notes"]}'),
	('invoice_items', 'select', 'select', 'select',
		NULL, 'select where client_id is client', '{}'),
	('payments', 'select', NULL, 'select',
		NULL, 'select where client_id is client', '{}'),
	('leads', 'all', 'select insert update', NULL,
		NULL, NULL, '{
			"insert": ["org_id", "id", "name", "email", "phone", "address", "source", "status", "referrer_id"],
			"update": ["name", "email", "phone", "address", "source", "status", "referrer_id"]
		}'),
	('referral_credits', 'select', NULL, 'select',
		NULL, 'select where client_id is client', '{}'),
	('photos', 'select delete', 'select delete', NULL,
		'select delete where team_id matches cleaning.workers as worker', 'select where client_id is client', '{}')
) AS m (rel, office, dispatcher, finance, worker, client, columns);

SELECT ringfence.protect_schema('cleaning');
