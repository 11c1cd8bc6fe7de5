CREATE TABLE cleaning.clients (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	name text NOT NULL,
	email text,
	phone text,
	address text,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT clients_name_check CHECK (length(name) BETWEEN 1 AND 200),
	CONSTRAINT clients_email_check CHECK (position('@' IN email) > 1 AND length(email) <= 320)
);
CREATE UNIQUE INDEX clients_email_key ON cleaning.clients (org_id, lower(email));

COMMENT ON TABLE cleaning.clients IS 'Clients of the organization: people and companies whose rooms are cleaned.';
COMMENT ON COLUMN cleaning.clients.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.clients.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.clients.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN cleaning.clients.email IS 'e-mail address; unique within the organization, whatever its case';
COMMENT ON COLUMN cleaning.clients.phone IS 'phone number, as given';
COMMENT ON COLUMN cleaning.clients.address IS 'postal address, as given';
COMMENT ON COLUMN cleaning.clients.created_at IS 'when the row was made';
