-- What can be taken out as a file, on record: three ledgers made for it, which
-- nothing serves row by row, and the views of cleaning_v1, each for the roles that
-- read all of its rows.

CREATE FUNCTION cleaning.major(amount_minor bigint, currency text) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN round(amount_minor / 10::numeric ^ cleaning.currency_digits(currency), cleaning.currency_digits(currency));
REVOKE EXECUTE ON FUNCTION cleaning.major(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.major(bigint, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.major(bigint, text) IS
	'an amount of minor units in the units of its currency, with as many decimals as that has: 10511 in CAD is 105.11';

CREATE VIEW cleaning.sales_ledger WITH (security_invoker = true) AS
SELECT i.org_id, i.issue_date, i.number, i.due_date, i.status, c.name AS client_name, i.currency,
	i.net_minor, i.gst_minor, i.total_minor, i.paid_minor, i.refunded_minor,
	i.total_minor - i.paid_minor + i.refunded_minor AS due_minor,
	cleaning.major(i.net_minor, i.currency) AS net,
	cleaning.major(i.gst_minor, i.currency) AS gst,
	cleaning.major(i.total_minor, i.currency) AS total,
	cleaning.major(i.total_minor - i.paid_minor + i.refunded_minor, i.currency) AS due,
	i.id AS invoice_id, i.booking_id, i.client_id
FROM cleaning.invoices AS i
INNER JOIN cleaning.clients AS c ON c.org_id = i.org_id AND c.id = i.client_id;
GRANT SELECT ON cleaning.sales_ledger TO ringfence_member;
COMMENT ON VIEW cleaning.sales_ledger IS 'Sales ledger: a row an invoice, in order of day and number; for export_sales_ledger().';
COMMENT ON COLUMN cleaning.sales_ledger.org_id IS 'the organization';
COMMENT ON COLUMN cleaning.sales_ledger.issue_date IS 'day of issue in the organization''s time zone';
COMMENT ON COLUMN cleaning.sales_ledger.number IS 'number of the invoice: 1, 2, 3 and so on, without a gap';
COMMENT ON COLUMN cleaning.sales_ledger.due_date IS 'last day of payment';
COMMENT ON COLUMN cleaning.sales_ledger.status IS 'issued, partly_paid, paid or refunded, now';
COMMENT ON COLUMN cleaning.sales_ledger.client_name IS 'the client''s name, now';
COMMENT ON COLUMN cleaning.sales_ledger.currency IS 'ISO 4217 code of all amounts of the row';
COMMENT ON COLUMN cleaning.sales_ledger.net_minor IS 'without GST, minor units';
COMMENT ON COLUMN cleaning.sales_ledger.gst_minor IS 'GST, minor units';
COMMENT ON COLUMN cleaning.sales_ledger.total_minor IS 'net_minor + gst_minor';
COMMENT ON COLUMN cleaning.sales_ledger.paid_minor IS 'payments and deposits so far, minor units';
COMMENT ON COLUMN cleaning.sales_ledger.refunded_minor IS 'refunds so far, minor units';
COMMENT ON COLUMN cleaning.sales_ledger.due_minor IS 'total_minor - paid_minor + refunded_minor';
COMMENT ON COLUMN cleaning.sales_ledger.net IS 'net_minor in units of the currency: 100.10';
COMMENT ON COLUMN cleaning.sales_ledger.gst IS 'gst_minor in units of the currency';
COMMENT ON COLUMN cleaning.sales_ledger.total IS 'total_minor in units of the currency';
COMMENT ON COLUMN cleaning.sales_ledger.due IS 'due_minor in units of the currency';
COMMENT ON COLUMN cleaning.sales_ledger.invoice_id IS 'the invoice';
COMMENT ON COLUMN cleaning.sales_ledger.booking_id IS 'the booking';
COMMENT ON COLUMN cleaning.sales_ledger.client_id IS 'the client';

CREATE VIEW cleaning.payments_ledger WITH (security_invoker = true) AS
SELECT p.org_id, p.created_at AS moved_at, p.id AS payment_id, p.kind, i.number AS invoice_number, c.name AS client_name,
	p.provider, p.provider_ref, p.currency, m.moved_minor, cleaning.major(m.moved_minor, p.currency) AS moved,
	(
		SELECT sum(CASE q.kind WHEN 'refund' THEN -q.amount_minor ELSE q.amount_minor END)::bigint
		FROM cleaning.payments AS q
		WHERE q.org_id = p.org_id AND q.invoice_id = p.invoice_id AND (q.created_at, q.id) <= (p.created_at, p.id)
	) AS held_minor,
	i.total_minor AS invoice_total_minor, p.invoice_id, p.client_id
FROM cleaning.payments AS p
CROSS JOIN LATERAL (SELECT CASE p.kind WHEN 'refund' THEN -p.amount_minor ELSE p.amount_minor END AS moved_minor) AS m
INNER JOIN cleaning.invoices AS i ON i.org_id = p.org_id AND i.id = p.invoice_id
INNER JOIN cleaning.clients AS c ON c.org_id = p.org_id AND c.id = p.client_id;
GRANT SELECT ON cleaning.payments_ledger TO ringfence_member;
COMMENT ON VIEW cleaning.payments_ledger IS 'Payments, deposits and refunds, in order of time; for export_payments().';
COMMENT ON COLUMN cleaning.payments_ledger.org_id IS 'the organization';
COMMENT ON COLUMN cleaning.payments_ledger.moved_at IS 'when it was recorded';
COMMENT ON COLUMN cleaning.payments_ledger.payment_id IS 'the payment';
COMMENT ON COLUMN cleaning.payments_ledger.kind IS 'payment or deposit (money in), refund (money out)';
COMMENT ON COLUMN cleaning.payments_ledger.invoice_number IS 'number of the invoice';
COMMENT ON COLUMN cleaning.payments_ledger.client_name IS 'the client''s name, now';
COMMENT ON COLUMN cleaning.payments_ledger.provider IS 'who moved the money: stripe, bank, cash, ...';
COMMENT ON COLUMN cleaning.payments_ledger.provider_ref IS 'the provider''s reference';
COMMENT ON COLUMN cleaning.payments_ledger.currency IS 'ISO 4217 code of all amounts of the row';
COMMENT ON COLUMN cleaning.payments_ledger.moved_minor IS 'minor units; of a refund below zero, so that the column sums to what was received';
COMMENT ON COLUMN cleaning.payments_ledger.moved IS 'moved_minor in units of the currency';
COMMENT ON COLUMN cleaning.payments_ledger.held_minor IS 'sum of moved_minor on the invoice up to this row';
COMMENT ON COLUMN cleaning.payments_ledger.invoice_total_minor IS 'total of the invoice, minor units';
COMMENT ON COLUMN cleaning.payments_ledger.invoice_id IS 'the invoice';
COMMENT ON COLUMN cleaning.payments_ledger.client_id IS 'the client';

CREATE VIEW cleaning.deposits_ledger WITH (security_invoker = true) AS
SELECT p.org_id, p.created_at AS moved_at, p.id AS payment_id, i.number AS invoice_number, i.status AS invoice_status, c.name AS client_name,
	p.provider, p.provider_ref, p.currency, p.amount_minor, cleaning.major(p.amount_minor, p.currency) AS amount,
	i.total_minor AS invoice_total_minor, i.paid_minor AS invoice_paid_minor, i.refunded_minor AS invoice_refunded_minor,
	p.invoice_id, p.client_id
FROM cleaning.payments AS p
INNER JOIN cleaning.invoices AS i ON i.org_id = p.org_id AND i.id = p.invoice_id
INNER JOIN cleaning.clients AS c ON c.org_id = p.org_id AND c.id = p.client_id
WHERE p.kind = 'deposit';
GRANT SELECT ON cleaning.deposits_ledger TO ringfence_member;
COMMENT ON VIEW cleaning.deposits_ledger IS 'Deposits, in order of time; for export_deposits().';
COMMENT ON COLUMN cleaning.deposits_ledger.org_id IS 'the organization';
COMMENT ON COLUMN cleaning.deposits_ledger.moved_at IS 'when it was recorded';
COMMENT ON COLUMN cleaning.deposits_ledger.payment_id IS 'the deposit: a payment of that kind';
COMMENT ON COLUMN cleaning.deposits_ledger.invoice_number IS 'number of the invoice';
COMMENT ON COLUMN cleaning.deposits_ledger.invoice_status IS 'issued, partly_paid, paid or refunded, now';
COMMENT ON COLUMN cleaning.deposits_ledger.client_name IS 'the client''s name, now';
COMMENT ON COLUMN cleaning.deposits_ledger.provider IS 'who moved the money: stripe, bank, cash, ...';
COMMENT ON COLUMN cleaning.deposits_ledger.provider_ref IS 'the provider''s reference';
COMMENT ON COLUMN cleaning.deposits_ledger.currency IS 'ISO 4217 code of all amounts of the row';
COMMENT ON COLUMN cleaning.deposits_ledger.amount_minor IS 'minor units, above zero';
COMMENT ON COLUMN cleaning.deposits_ledger.amount IS 'amount_minor in units of the currency';
COMMENT ON COLUMN cleaning.deposits_ledger.invoice_total_minor IS 'total of the invoice, minor units';
COMMENT ON COLUMN cleaning.deposits_ledger.invoice_paid_minor IS 'payments and deposits on the invoice so far, minor units';
COMMENT ON COLUMN cleaning.deposits_ledger.invoice_refunded_minor IS 'refunds on the invoice so far, minor units';
COMMENT ON COLUMN cleaning.deposits_ledger.invoice_id IS 'the invoice';
COMMENT ON COLUMN cleaning.deposits_ledger.client_id IS 'the client';

-- Keys are within an organization, whose rows an index on org_id and the key has in
-- order: with org_id in a key, it would be read from the first row on for each part.
SELECT ringfence.declare_export(e.name, e.relation::regclass, ('{' || e.key || '}')::name[], ('{' || e.roles || '}')::text[], e.range_column,
	description => e.description)
FROM (VALUES
	('sales_ledger', 'cleaning.sales_ledger', 'issue_date,number', 'owner,admin,finance', 'issue_date', 'invoices issued, with what was paid'),
	('payments', 'cleaning.payments_ledger', 'moved_at,payment_id', 'owner,admin,finance', 'moved_at', 'payments, deposits and refunds'),
	('deposits', 'cleaning.deposits_ledger', 'moved_at,payment_id', 'owner,admin,finance', 'moved_at', 'deposits'),
	('clients', 'cleaning_v1.clients', 'id', 'owner,admin,dispatcher,finance', NULL, 'clients'),
	('teams', 'cleaning_v1.teams', 'id', 'owner,admin,dispatcher,finance,worker', NULL, 'teams'),
	('workers', 'cleaning_v1.workers', 'id', 'owner,admin,dispatcher,finance', NULL, 'workers'),
	('worker_rates', 'cleaning_v1.worker_rates', 'id', 'owner,admin,finance', NULL, 'what an hour of a worker costs'),
	('bookings', 'cleaning_v1.bookings', 'starts_at,id', 'owner,admin,dispatcher,finance', 'starts_at', 'bookings, with their prices'),
	('invoices', 'cleaning_v1.invoices', 'issue_date,number', 'owner,admin,dispatcher,finance', 'issue_date', 'invoices'),
	('invoice_items', 'cleaning_v1.invoice_items', 'invoice_id,position', 'owner,admin,dispatcher,finance', NULL, 'lines of invoices'),
	('leads', 'cleaning_v1.leads', 'created_at,id', 'owner,admin,dispatcher', 'created_at', 'leads'),
	('referral_credits', 'cleaning_v1.referral_credits', 'created_at,id', 'owner,admin,finance', 'created_at', 'referral credits'),
	('photos', 'cleaning_v1.photos', 'created_at,id', 'owner,admin,dispatcher', 'created_at', 'photos of visits, without the images')
) AS e (name, relation, key, roles, range_column, description);

CREATE FUNCTION cleaning_v1.export_sales_ledger("from" date, "to" date) RETURNS ringfence."text/csv"
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET statement_timeout = '60s'
BEGIN ATOMIC
	SELECT ringfence.export_now('sales_ledger', export_sales_ledger."from", export_sales_ledger."to");
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.export_sales_ledger(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.export_sales_ledger(date, date) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.export_sales_ledger(date, date) IS 'Export the sales ledger as CSV
For owner, admin and finance: invoices issued from the first to the last day, null for no limit, in order of day and number. Amounts are integers in minor units (net_minor and so on), and once more in units of the currency. Complete, or an error; the export is on record. 403 another role; 400 no such range; a minute at most, beyond which start_export() of ringfence_v1 is the way.';

CREATE FUNCTION cleaning_v1.export_payments("from" date, "to" date) RETURNS ringfence."text/csv"
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET statement_timeout = '60s'
BEGIN ATOMIC
	SELECT ringfence.export_now('payments', export_payments."from", export_payments."to");
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.export_payments(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.export_payments(date, date) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.export_payments(date, date) IS 'Export payments, deposits and refunds as CSV
For owner, admin and finance: those recorded from the first to the last day in the organization''s time zone, null for no limit, in order of time. moved_minor is below zero for refunds, so that it sums to what was received. Complete, or an error; the export is on record. 403 another role; 400 no such range; a minute at most, beyond which start_export() of ringfence_v1 is the way.';

CREATE FUNCTION cleaning_v1.export_deposits("from" date, "to" date) RETURNS ringfence."text/csv"
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET statement_timeout = '60s'
BEGIN ATOMIC
	SELECT ringfence.export_now('deposits', export_deposits."from", export_deposits."to");
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.export_deposits(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.export_deposits(date, date) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.export_deposits(date, date) IS 'Export deposits as CSV
For owner, admin and finance: those recorded from the first to the last day in the organization''s time zone, null for no limit, in order of time, each with what is paid on its invoice. Complete, or an error; the export is on record. 403 another role; 400 no such range; a minute at most, beyond which start_export() of ringfence_v1 is the way.';

-- Which exports are this app's.
CREATE FUNCTION cleaning.has_export(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN name IN ('sales_ledger', 'payments', 'deposits', 'clients', 'teams', 'workers', 'worker_rates', 'bookings', 'invoices', 'invoice_items',
	'leads', 'referral_credits', 'photos');
REVOKE EXECUTE ON FUNCTION cleaning.has_export(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.has_export(text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.has_export(text) IS 'whether an export is one that this app declares';

CREATE VIEW cleaning_v1.export_dead_letter WITH (security_invoker = true) AS
SELECT d.id, d.name, d.format, d."from", d."to", d.requested_by, d.created_at, d.failed_at, d.last_error, d.rows, d.parts
FROM ringfence_v1.export_dead_letter AS d
WHERE cleaning.has_export(d.name);
GRANT SELECT ON cleaning_v1.export_dead_letter TO ringfence_member;
COMMENT ON VIEW cleaning_v1.export_dead_letter IS 'Exports that failed for good
All for owner and admin, for others those that they asked for; tried again by retry_export() of ringfence_v1.';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.id IS 'identifies the export';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.name IS 'what was to be exported';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.format IS 'csv or ndjson';
COMMENT ON COLUMN cleaning_v1.export_dead_letter."from" IS 'the first day of its range; null for no limit';
COMMENT ON COLUMN cleaning_v1.export_dead_letter."to" IS 'the last day of it';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.requested_by IS 'the user who asked for it';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.created_at IS 'when it was asked for';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.failed_at IS 'when it was given up';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.last_error IS 'SQLSTATE and message';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.rows IS 'rows in the parts that it has';
COMMENT ON COLUMN cleaning_v1.export_dead_letter.parts IS 'these parts, after which it would go on';
