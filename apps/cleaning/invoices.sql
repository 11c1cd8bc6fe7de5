-- Invoices, their lines, and the counter that numbers them without gaps.

CREATE TABLE cleaning.invoice_counters (
	org_id uuid PRIMARY KEY DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	last_number bigint NOT NULL,
	last_date date NOT NULL,
	CONSTRAINT invoice_counters_last_number_check CHECK (last_number >= 0)
);

COMMENT ON TABLE cleaning.invoice_counters IS 'Last invoice number of each organization. Its row is locked until the transaction that takes a number ends: numbers have no gaps, and invoices of one organization are issued one after the other.';
COMMENT ON COLUMN cleaning.invoice_counters.org_id IS 'the organization';
COMMENT ON COLUMN cleaning.invoice_counters.last_number IS 'number of the last invoice';
COMMENT ON COLUMN cleaning.invoice_counters.last_date IS 'issue date of the last invoice; a later number never has an earlier date';

CREATE TABLE cleaning.invoices (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	number bigint NOT NULL,
	booking_id uuid NOT NULL,
	client_id uuid NOT NULL,
	issue_date date NOT NULL,
	due_date date NOT NULL,
	notes text NOT NULL DEFAULT '',
	currency text NOT NULL,
	net_minor bigint NOT NULL,
	gst_minor bigint NOT NULL,
	total_minor bigint NOT NULL GENERATED ALWAYS AS (net_minor + gst_minor) STORED,
	paid_minor bigint NOT NULL DEFAULT 0,
	refunded_minor bigint NOT NULL DEFAULT 0,
	status text NOT NULL GENERATED ALWAYS AS (
		CASE
			WHEN paid_minor - refunded_minor = net_minor + gst_minor THEN 'paid'
			WHEN paid_minor = 0 THEN 'issued'
			WHEN paid_minor = refunded_minor THEN 'refunded'
			ELSE 'partly_paid'
		END) STORED,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT invoices_number_key UNIQUE (org_id, number),
	CONSTRAINT invoices_client_id_key UNIQUE (org_id, id, client_id),
	CONSTRAINT invoices_booking_id_key UNIQUE (org_id, booking_id),
	CONSTRAINT invoices_booking_id_fkey FOREIGN KEY (org_id, booking_id, client_id)
		REFERENCES cleaning.bookings (org_id, id, client_id),
	CONSTRAINT invoices_client_id_fkey FOREIGN KEY (org_id, client_id) REFERENCES cleaning.clients (org_id, id),
	CONSTRAINT invoices_number_check CHECK (number > 0),
	CONSTRAINT invoices_due_date_check CHECK (due_date >= issue_date AND due_date <= '9999-12-31'),
	CONSTRAINT invoices_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
	CONSTRAINT invoices_net_minor_check CHECK (net_minor >= 0),
	CONSTRAINT invoices_gst_minor_check CHECK (gst_minor >= 0),
	CONSTRAINT invoices_refunded_minor_check CHECK (refunded_minor BETWEEN 0 AND paid_minor),
	CONSTRAINT invoices_paid_minor_check CHECK (paid_minor - refunded_minor <= net_minor + gst_minor)
);
CREATE INDEX invoices_client_id_idx ON cleaning.invoices (org_id, client_id);

COMMENT ON TABLE cleaning.invoices IS 'Invoices, issued by complete_booking() and never deleted; amounts in minor units of one currency.';
COMMENT ON COLUMN cleaning.invoices.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.invoices.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.invoices.number IS 'number within the organization: 1, 2, 3 and so on, without a gap';
COMMENT ON COLUMN cleaning.invoices.booking_id IS 'the booking; it has one invoice';
COMMENT ON COLUMN cleaning.invoices.client_id IS 'the client, as on the booking';
COMMENT ON COLUMN cleaning.invoices.issue_date IS 'day of issue in the organization''s time zone; never before that of a lower number';
COMMENT ON COLUMN cleaning.invoices.due_date IS 'last day of payment: issue_date plus the setting payment_days, 14 by default';
COMMENT ON COLUMN cleaning.invoices.notes IS 'free text';
COMMENT ON COLUMN cleaning.invoices.currency IS 'ISO 4217 code of all amounts of the invoice';
COMMENT ON COLUMN cleaning.invoices.net_minor IS 'sum of the lines without GST, minor units';
COMMENT ON COLUMN cleaning.invoices.gst_minor IS 'sum of the lines'' GST, each line rounded by itself, minor units';
COMMENT ON COLUMN cleaning.invoices.total_minor IS 'net_minor + gst_minor';
COMMENT ON COLUMN cleaning.invoices.paid_minor IS 'sum of payments and deposits, minor units; kept by record_payment()';
COMMENT ON COLUMN cleaning.invoices.refunded_minor IS 'sum of refunds, minor units; kept by record_payment()';
COMMENT ON COLUMN cleaning.invoices.status IS 'issued, partly_paid, paid or refunded; follows the amounts';
COMMENT ON COLUMN cleaning.invoices.created_at IS 'when the row was made';

CREATE TABLE cleaning.invoice_items (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	invoice_id uuid NOT NULL,
	client_id uuid NOT NULL,
	position integer NOT NULL,
	description text NOT NULL,
	net_minor bigint NOT NULL,
	gst_rate numeric(6, 5) NOT NULL,
	gst_minor bigint NOT NULL,
	PRIMARY KEY (org_id, invoice_id, position),
	CONSTRAINT invoice_items_invoice_id_fkey FOREIGN KEY (org_id, invoice_id, client_id)
		REFERENCES cleaning.invoices (org_id, id, client_id) ON DELETE CASCADE,
	CONSTRAINT invoice_items_position_check CHECK (position > 0),
	CONSTRAINT invoice_items_net_minor_check CHECK (net_minor >= 0),
	CONSTRAINT invoice_items_gst_rate_check CHECK (gst_rate BETWEEN 0 AND 1),
	CONSTRAINT invoice_items_gst_minor_check CHECK (gst_minor = cleaning.gst(net_minor, gst_rate))
);

COMMENT ON TABLE cleaning.invoice_items IS 'Lines of invoices; amounts in minor units of the invoice''s currency.';
COMMENT ON COLUMN cleaning.invoice_items.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.invoice_items.invoice_id IS 'the invoice';
COMMENT ON COLUMN cleaning.invoice_items.client_id IS 'the client, as on the invoice';
COMMENT ON COLUMN cleaning.invoice_items.position IS 'place of the line on the invoice, from 1';
COMMENT ON COLUMN cleaning.invoice_items.description IS 'what was done';
COMMENT ON COLUMN cleaning.invoice_items.net_minor IS 'amount without GST, minor units';
COMMENT ON COLUMN cleaning.invoice_items.gst_rate IS 'GST as a fraction: 0.05 is 5 percent';
COMMENT ON COLUMN cleaning.invoice_items.gst_minor IS 'net_minor * gst_rate, rounded to a whole minor unit, halves away from zero';
