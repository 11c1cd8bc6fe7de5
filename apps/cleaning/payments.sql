CREATE TABLE cleaning.payments (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	invoice_id uuid NOT NULL,
	client_id uuid NOT NULL,
	kind text NOT NULL,
	amount_minor bigint NOT NULL,
	currency text NOT NULL,
	provider text NOT NULL,
	provider_ref text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT payments_provider_ref_key UNIQUE (org_id, provider, provider_ref),
	CONSTRAINT payments_invoice_id_fkey FOREIGN KEY (org_id, invoice_id, client_id)
		REFERENCES cleaning.invoices (org_id, id, client_id),
	CONSTRAINT payments_kind_check CHECK (kind IN ('payment', 'deposit', 'refund')),
	CONSTRAINT payments_amount_minor_check CHECK (amount_minor > 0),
	CONSTRAINT payments_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
	CONSTRAINT payments_provider_check CHECK (length(provider) BETWEEN 1 AND 100),
	CONSTRAINT payments_provider_ref_check CHECK (length(provider_ref) BETWEEN 1 AND 200)
);
CREATE INDEX payments_invoice_id_idx ON cleaning.payments (org_id, invoice_id);
CREATE INDEX payments_client_id_idx ON cleaning.payments (org_id, client_id);

COMMENT ON TABLE cleaning.payments IS 'Payments, deposits and refunds on invoices, recorded by record_payment() and never changed.';
COMMENT ON COLUMN cleaning.payments.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.payments.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.payments.invoice_id IS 'the invoice';
COMMENT ON COLUMN cleaning.payments.client_id IS 'the client, as on the invoice';
COMMENT ON COLUMN cleaning.payments.kind IS 'payment or deposit (money in), refund (money out)';
COMMENT ON COLUMN cleaning.payments.amount_minor IS 'amount in minor units of the currency, above 0 whatever the kind';
COMMENT ON COLUMN cleaning.payments.currency IS 'ISO 4217 code, that of the invoice';
COMMENT ON COLUMN cleaning.payments.provider IS 'who moved the money: stripe, bank, cash, ...';
COMMENT ON COLUMN cleaning.payments.provider_ref IS 'the provider''s reference; unique within organization and provider';
COMMENT ON COLUMN cleaning.payments.created_at IS 'when the row was made';
