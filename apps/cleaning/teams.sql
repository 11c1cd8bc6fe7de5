-- Teams, workers, and what a worker costs.

CREATE TABLE cleaning.teams (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	name text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT teams_name_key UNIQUE (org_id, name),
	CONSTRAINT teams_name_check CHECK (length(name) BETWEEN 1 AND 200)
);

COMMENT ON TABLE cleaning.teams IS 'Teams of workers; a booking is done by one team.';
COMMENT ON COLUMN cleaning.teams.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.teams.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.teams.name IS 'name, 1 to 200 characters; unique within the organization';
COMMENT ON COLUMN cleaning.teams.created_at IS 'when the row was made';

CREATE TABLE cleaning.workers (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	team_id uuid,
	name text NOT NULL,
	email text,
	phone text,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT workers_team_id_fkey FOREIGN KEY (org_id, team_id) REFERENCES cleaning.teams (org_id, id),
	CONSTRAINT workers_name_check CHECK (length(name) BETWEEN 1 AND 200)
);
CREATE INDEX workers_team_id_idx ON cleaning.workers (org_id, team_id);

COMMENT ON TABLE cleaning.workers IS 'Workers. A worker who signs in sees the bookings of the team named here, and nothing without a team.';
COMMENT ON COLUMN cleaning.workers.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.workers.id IS 'key within the organization; the party "worker" of a membership';
COMMENT ON COLUMN cleaning.workers.team_id IS 'the team worked in; NULL for none';
COMMENT ON COLUMN cleaning.workers.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN cleaning.workers.email IS 'e-mail address';
COMMENT ON COLUMN cleaning.workers.phone IS 'phone number, as given';
COMMENT ON COLUMN cleaning.workers.created_at IS 'when the row was made';

CREATE TABLE cleaning.worker_rates (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	worker_id uuid NOT NULL,
	valid_from date NOT NULL,
	rate_minor bigint NOT NULL,
	currency text NOT NULL DEFAULT cleaning.setting('currency'),
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT worker_rates_worker_id_fkey FOREIGN KEY (org_id, worker_id)
		REFERENCES cleaning.workers (org_id, id) ON DELETE CASCADE,
	CONSTRAINT worker_rates_valid_from_key UNIQUE (org_id, worker_id, valid_from),
	CONSTRAINT worker_rates_rate_minor_check CHECK (rate_minor >= 0),
	CONSTRAINT worker_rates_currency_check CHECK (currency ~ '^[A-Z]{3}$')
);

COMMENT ON TABLE cleaning.worker_rates IS 'What an hour of a worker costs the organization, by the day from which it holds. Not for dispatchers, workers or clients.';
COMMENT ON COLUMN cleaning.worker_rates.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.worker_rates.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.worker_rates.worker_id IS 'the worker';
COMMENT ON COLUMN cleaning.worker_rates.valid_from IS 'first day of this rate; it holds until the next one';
COMMENT ON COLUMN cleaning.worker_rates.rate_minor IS 'price of an hour in minor units of the currency, 0 or more';
COMMENT ON COLUMN cleaning.worker_rates.currency IS 'ISO 4217 code; the organization''s by default';
COMMENT ON COLUMN cleaning.worker_rates.created_at IS 'when the row was made';
