-- Leads, and what a client earns for one.

CREATE TABLE cleaning.leads (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	name text NOT NULL,
	email text,
	phone text,
	address text,
	source text,
	status text NOT NULL DEFAULT 'new',
	referrer_id uuid,
	client_id uuid,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT leads_referrer_id_fkey FOREIGN KEY (org_id, referrer_id) REFERENCES cleaning.clients (org_id, id),
	CONSTRAINT leads_client_id_fkey FOREIGN KEY (org_id, client_id) REFERENCES cleaning.clients (org_id, id),
	CONSTRAINT leads_name_check CHECK (length(name) BETWEEN 1 AND 200),
	CONSTRAINT leads_email_check CHECK (position('@' IN email) > 1 AND length(email) <= 320),
	CONSTRAINT leads_status_check CHECK (status IN ('new', 'contacted', 'lost', 'converted')),
	CONSTRAINT leads_client_id_check CHECK ((status = 'converted') = (client_id IS NOT NULL))
);
CREATE INDEX leads_referrer_id_idx ON cleaning.leads (org_id, referrer_id);
CREATE INDEX leads_client_id_idx ON cleaning.leads (org_id, client_id);

COMMENT ON TABLE cleaning.leads IS 'People who asked, and are not clients yet.';
COMMENT ON COLUMN cleaning.leads.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.leads.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.leads.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN cleaning.leads.email IS 'e-mail address';
COMMENT ON COLUMN cleaning.leads.phone IS 'phone number, as given';
COMMENT ON COLUMN cleaning.leads.address IS 'postal address, as given';
COMMENT ON COLUMN cleaning.leads.source IS 'where the lead came from: web, phone, referral, ...';
COMMENT ON COLUMN cleaning.leads.status IS 'new, contacted, lost, or converted, which convert_lead() sets';
COMMENT ON COLUMN cleaning.leads.referrer_id IS 'the client who sent the lead; earns the credit';
COMMENT ON COLUMN cleaning.leads.client_id IS 'the client that the lead became; set by convert_lead()';
COMMENT ON COLUMN cleaning.leads.created_at IS 'when the row was made';

CREATE TABLE cleaning.referral_credits (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	lead_id uuid NOT NULL,
	client_id uuid NOT NULL,
	amount_minor bigint NOT NULL,
	currency text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT referral_credits_lead_id_key UNIQUE (org_id, lead_id),
	CONSTRAINT referral_credits_lead_id_fkey FOREIGN KEY (org_id, lead_id) REFERENCES cleaning.leads (org_id, id),
	CONSTRAINT referral_credits_client_id_fkey FOREIGN KEY (org_id, client_id) REFERENCES cleaning.clients (org_id, id),
	CONSTRAINT referral_credits_amount_minor_check CHECK (amount_minor > 0),
	CONSTRAINT referral_credits_currency_check CHECK (currency ~ '^[A-Z]{3}$')
);
CREATE INDEX referral_credits_client_id_idx ON cleaning.referral_credits (org_id, client_id);

COMMENT ON TABLE cleaning.referral_credits IS 'What clients earned by sending leads: one credit for a lead that became a client, given by convert_lead().';
COMMENT ON COLUMN cleaning.referral_credits.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.referral_credits.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.referral_credits.lead_id IS 'the lead; it earns one credit';
COMMENT ON COLUMN cleaning.referral_credits.client_id IS 'the client who sent the lead';
COMMENT ON COLUMN cleaning.referral_credits.amount_minor IS 'amount in minor units of the currency: the setting referral_credit_minor on the day of conversion';
COMMENT ON COLUMN cleaning.referral_credits.currency IS 'ISO 4217 code';
COMMENT ON COLUMN cleaning.referral_credits.created_at IS 'when the row was made';
