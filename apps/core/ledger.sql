-- The ledger's tables. The library (src/ledger*.c) writes transfers, holds,
-- balances and blocks itself, past triggers and foreign keys, and sees to what
-- these would: what is said of their columns here is said there once more.

CREATE TABLE ringfence_data.ledger_assets (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	code text COLLATE "C" NOT NULL,
	name text NOT NULL,
	scale smallint NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org_id, code),
	CONSTRAINT ledger_assets_code_check CHECK (code ~ '^[A-Z][A-Z0-9]{0,15}$'),
	CONSTRAINT ledger_assets_name_check CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 200),
	CONSTRAINT ledger_assets_scale_check CHECK (scale BETWEEN 0 AND 18)
);
COMMENT ON TABLE ringfence_data.ledger_assets IS
	'what is counted: currencies, points; written by open_asset(), of which only the name ever changes';
COMMENT ON COLUMN ringfence_data.ledger_assets.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_assets.code IS 'identifies it: up to 16 capital letters and digits, "EUR"';
COMMENT ON COLUMN ringfence_data.ledger_assets.name IS 'the name to show';
COMMENT ON COLUMN ringfence_data.ledger_assets.scale IS
	'how many digits of an amount are decimals: 2 for EUR, whose amounts are cents';
COMMENT ON COLUMN ringfence_data.ledger_assets.created_at IS 'when it was made';

CREATE TABLE ringfence_data.ledger_accounts (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	code text COLLATE "C" NOT NULL,
	name text NOT NULL,
	asset text COLLATE "C" NOT NULL,
	kind text COLLATE "C" NOT NULL,
	no_overdraft boolean NOT NULL DEFAULT false,
	credit_limit bigint NOT NULL DEFAULT 0,
	party_kind text COLLATE "C",
	party_id uuid,
	closed_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT ledger_accounts_code_key UNIQUE (org_id, code),
	CONSTRAINT ledger_accounts_asset_key UNIQUE (org_id, id, asset),
	CONSTRAINT ledger_accounts_asset_fkey FOREIGN KEY (org_id, asset) REFERENCES ringfence_data.ledger_assets (org_id, code),
	CONSTRAINT ledger_accounts_code_check CHECK (
		code = btrim(code) AND length(code) BETWEEN 1 AND 100 AND code !~ '[\x01-\x1f\x7f]'
	),
	CONSTRAINT ledger_accounts_name_check CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 200),
	CONSTRAINT ledger_accounts_kind_check CHECK (kind IN ('asset', 'liability', 'equity', 'revenue', 'expense')),
	-- Together with a turnover of at most 2^62 no limit overflows.
	CONSTRAINT ledger_accounts_credit_limit_check CHECK (credit_limit BETWEEN 0 AND 4611686018427387903),
	CONSTRAINT ledger_accounts_party_kind_check CHECK (party_kind ~ '^[a-z][a-z0-9_]{0,30}$'),
	CONSTRAINT ledger_accounts_party_id_check CHECK ((party_kind IS NULL) = (party_id IS NULL))
);
CREATE INDEX ledger_accounts_asset_idx ON ringfence_data.ledger_accounts (org_id, asset);
CREATE INDEX ledger_accounts_party_id_idx ON ringfence_data.ledger_accounts (org_id, party_id) WHERE party_id IS NOT NULL;
COMMENT ON TABLE ringfence_data.ledger_accounts IS
	'accounts, each of one asset; written by open_account(), set_account_limit(), close_account() and reopen_account(), never deleted';
COMMENT ON COLUMN ringfence_data.ledger_accounts.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_accounts.id IS 'identifies the account; never changes';
COMMENT ON COLUMN ringfence_data.ledger_accounts.code IS
	'the name that code knows it by, unique: 1 to 100 characters, no control characters, no blanks around it';
COMMENT ON COLUMN ringfence_data.ledger_accounts.name IS 'the name to show, 1 to 200 characters';
COMMENT ON COLUMN ringfence_data.ledger_accounts.asset IS 'what is counted in it; never changes';
COMMENT ON COLUMN ringfence_data.ledger_accounts.kind IS
	'asset or expense, whose balance is debits less credits, or liability, equity or revenue, whose balance is credits less debits; never changes';
COMMENT ON COLUMN ringfence_data.ledger_accounts.no_overdraft IS
	'whether transfers that would take the balance, less what is held, below minus credit_limit are refused';
COMMENT ON COLUMN ringfence_data.ledger_accounts.credit_limit IS
	'how far below 0 the balance may go where no_overdraft is set, in minor units';
COMMENT ON COLUMN ringfence_data.ledger_accounts.party_kind IS
	'the kind of party whose account it is, as in memberships: "driver"; NULL for the organization''s own';
COMMENT ON COLUMN ringfence_data.ledger_accounts.party_id IS 'that party, who may read the account; NULL for the organization''s own';
COMMENT ON COLUMN ringfence_data.ledger_accounts.closed_at IS 'since when nothing is posted to it; NULL while it is open';
COMMENT ON COLUMN ringfence_data.ledger_accounts.created_at IS 'when it was opened';

-- The columns of one width stand together: a transfer is never updated, and there
-- are many.
CREATE TABLE ringfence_data.ledger_transfers (
	org_id uuid NOT NULL REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL,
	debit_account_id uuid NOT NULL,
	credit_account_id uuid NOT NULL,
	amount bigint NOT NULL,
	posted_at timestamptz NOT NULL,
	recorded_at timestamptz NOT NULL,
	posted_on date NOT NULL,
	asset text COLLATE "C" NOT NULL,
	state text COLLATE "C" NOT NULL,
	kind text COLLATE "C" NOT NULL,
	actor uuid,
	pending_id uuid,
	reverses_id uuid,
	expires_at timestamptz,
	reference text,
	metadata jsonb,
	PRIMARY KEY (org_id, id),
	CONSTRAINT ledger_transfers_debit_account_id_fkey FOREIGN KEY (org_id, debit_account_id, asset)
		REFERENCES ringfence_data.ledger_accounts (org_id, id, asset),
	CONSTRAINT ledger_transfers_credit_account_id_fkey FOREIGN KEY (org_id, credit_account_id, asset)
		REFERENCES ringfence_data.ledger_accounts (org_id, id, asset),
	CONSTRAINT ledger_transfers_pending_id_fkey FOREIGN KEY (org_id, pending_id)
		REFERENCES ringfence_data.ledger_transfers (org_id, id),
	CONSTRAINT ledger_transfers_reverses_id_fkey FOREIGN KEY (org_id, reverses_id)
		REFERENCES ringfence_data.ledger_transfers (org_id, id),
	CONSTRAINT ledger_transfers_credit_account_id_check CHECK (debit_account_id <> credit_account_id),
	CONSTRAINT ledger_transfers_amount_check CHECK (amount > 0),
	CONSTRAINT ledger_transfers_posted_at_check CHECK (isfinite(posted_at) AND posted_at <= recorded_at),
	CONSTRAINT ledger_transfers_posted_on_check CHECK (posted_on = (posted_at AT TIME ZONE 'UTC')::date),
	CONSTRAINT ledger_transfers_state_check CHECK (state IN ('posted', 'pending', 'voided', 'expired')),
	CONSTRAINT ledger_transfers_kind_check CHECK (kind ~ '^[a-z][a-z0-9_.]{0,62}$'),
	CONSTRAINT ledger_transfers_pending_id_check CHECK (
		CASE WHEN pending_id IS NULL THEN state IN ('posted', 'pending') ELSE state <> 'pending' END
	),
	CONSTRAINT ledger_transfers_reverses_id_check CHECK (
		reverses_id IS NULL OR (state = 'posted' AND pending_id IS NULL)
	),
	CONSTRAINT ledger_transfers_expires_at_check CHECK (expires_at IS NULL OR state = 'pending'),
	CONSTRAINT ledger_transfers_reference_check CHECK (octet_length(reference) BETWEEN 1 AND 255),
	CONSTRAINT ledger_transfers_metadata_check CHECK (
		jsonb_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 8192
	)
);
-- By days, not moments: an account's entries of a day share a key, which is kept
-- once, and take a fifth of the room.
CREATE INDEX ledger_transfers_debit_account_id_idx
	ON ringfence_data.ledger_transfers (org_id, debit_account_id, posted_on);
CREATE INDEX ledger_transfers_credit_account_id_idx
	ON ringfence_data.ledger_transfers (org_id, credit_account_id, posted_on);
CREATE UNIQUE INDEX ledger_transfers_pending_id_key
	ON ringfence_data.ledger_transfers (org_id, pending_id) WHERE pending_id IS NOT NULL;
CREATE UNIQUE INDEX ledger_transfers_reverses_id_key
	ON ringfence_data.ledger_transfers (org_id, reverses_id) WHERE reverses_id IS NOT NULL;
-- Rows come in nearly in that order, so that it costs next to nothing.
CREATE INDEX ledger_transfers_recorded_at_idx
	ON ringfence_data.ledger_transfers USING brin (recorded_at) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE ringfence_data.ledger_transfers IS
	'what was posted, for good: each moves or reserves an amount from one account to another, or says what became of one that did; written by the library alone';
COMMENT ON COLUMN ringfence_data.ledger_transfers.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_transfers.id IS 'identifies the transfer, as its maker chose, or a UUID version 7';
COMMENT ON COLUMN ringfence_data.ledger_transfers.debit_account_id IS 'the account that is debited';
COMMENT ON COLUMN ringfence_data.ledger_transfers.credit_account_id IS 'the account that is credited';
COMMENT ON COLUMN ringfence_data.ledger_transfers.amount IS 'how much, in minor units';
COMMENT ON COLUMN ringfence_data.ledger_transfers.posted_at IS 'when it counts: what balances and periods go by';
COMMENT ON COLUMN ringfence_data.ledger_transfers.recorded_at IS 'when it was made, by the server''s clock; not before posted_at';
COMMENT ON COLUMN ringfence_data.ledger_transfers.posted_on IS
	'the day of posted_at, in UTC, by which the accounts'' indexes are kept: a query by account and time says both';
COMMENT ON COLUMN ringfence_data.ledger_transfers.asset IS 'what is moved: the asset of both accounts';
COMMENT ON COLUMN ringfence_data.ledger_transfers.state IS
	'posted: moves the amount; pending: reserves it; voided or expired: releases what pending_id reserved, and moves nothing';
COMMENT ON COLUMN ringfence_data.ledger_transfers.kind IS 'what it was for, in the application''s own terms';
COMMENT ON COLUMN ringfence_data.ledger_transfers.actor IS 'the user who made it, or NULL';
COMMENT ON COLUMN ringfence_data.ledger_transfers.pending_id IS 'the pending transfer that this one resolves; once at most';
COMMENT ON COLUMN ringfence_data.ledger_transfers.reverses_id IS 'the transfer that this one undoes; once at most';
COMMENT ON COLUMN ringfence_data.ledger_transfers.expires_at IS 'until when a pending transfer can be posted; NULL for ever';
COMMENT ON COLUMN ringfence_data.ledger_transfers.reference IS 'free text, 1 to 255 bytes; the reason of a reversal';
COMMENT ON COLUMN ringfence_data.ledger_transfers.metadata IS 'a JSON object of at most 8,192 bytes as text';

CREATE TABLE ringfence_data.ledger_holds (
	org_id uuid NOT NULL REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL,
	debit_account_id uuid NOT NULL,
	credit_account_id uuid NOT NULL,
	amount bigint NOT NULL,
	expires_at timestamptz,
	PRIMARY KEY (org_id, id),
	CONSTRAINT ledger_holds_id_fkey FOREIGN KEY (org_id, id) REFERENCES ringfence_data.ledger_transfers (org_id, id),
	CONSTRAINT ledger_holds_amount_check CHECK (amount > 0)
);
CREATE INDEX ledger_holds_expires_at_idx ON ringfence_data.ledger_holds (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE ringfence_data.ledger_holds IS
	'pending transfers that nothing has resolved yet; derived from ledger_transfers, written by the library alone';
COMMENT ON COLUMN ringfence_data.ledger_holds.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_holds.id IS 'the pending transfer';
COMMENT ON COLUMN ringfence_data.ledger_holds.debit_account_id IS 'its debit account';
COMMENT ON COLUMN ringfence_data.ledger_holds.credit_account_id IS 'its credit account';
COMMENT ON COLUMN ringfence_data.ledger_holds.amount IS 'what it reserves, in minor units';
COMMENT ON COLUMN ringfence_data.ledger_holds.expires_at IS 'until when it can be posted; NULL for ever';

-- Room on each page for the next version of its rows, which no index then hears of.
CREATE TABLE ringfence_data.ledger_balances (
	org_id uuid NOT NULL REFERENCES ringfence_data.orgs (id),
	account_id uuid NOT NULL,
	debits bigint NOT NULL DEFAULT 0,
	credits bigint NOT NULL DEFAULT 0,
	debits_pending bigint NOT NULL DEFAULT 0,
	credits_pending bigint NOT NULL DEFAULT 0,
	slot integer NOT NULL DEFAULT 0,
	PRIMARY KEY (org_id, account_id, slot),
	CONSTRAINT ledger_balances_account_id_fkey FOREIGN KEY (org_id, account_id)
		REFERENCES ringfence_data.ledger_accounts (org_id, id),
	CONSTRAINT ledger_balances_slot_check CHECK (slot >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE ringfence_data.ledger_balances IS
	'what accounts have turned over so far: the sum of an account''s rows, of which writers that meet take one each; derived from ledger_transfers, written by the library alone';
COMMENT ON COLUMN ringfence_data.ledger_balances.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_balances.account_id IS 'the account';
COMMENT ON COLUMN ringfence_data.ledger_balances.debits IS 'posted to its debit, in minor units';
COMMENT ON COLUMN ringfence_data.ledger_balances.credits IS 'posted to its credit, in minor units';
COMMENT ON COLUMN ringfence_data.ledger_balances.debits_pending IS
	'held to be debited, in minor units; what one row alone says may be negative';
COMMENT ON COLUMN ringfence_data.ledger_balances.credits_pending IS
	'held to be credited, in minor units; what one row alone says may be negative';
COMMENT ON COLUMN ringfence_data.ledger_balances.slot IS 'counts the rows of an account from 0';

CREATE TABLE ringfence_data.ledger_periods (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	closed_before timestamptz NOT NULL,
	closed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	closed_by uuid,
	PRIMARY KEY (org_id, closed_before),
	CONSTRAINT ledger_periods_closed_before_check CHECK (isfinite(closed_before) AND closed_before <= closed_at)
);
COMMENT ON TABLE ringfence_data.ledger_periods IS
	'up to when the books are closed: nothing is posted before the last of these; written by close_period()';
COMMENT ON COLUMN ringfence_data.ledger_periods.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_periods.closed_before IS 'the first instant that is not closed with it';
COMMENT ON COLUMN ringfence_data.ledger_periods.closed_at IS 'when it was closed';
COMMENT ON COLUMN ringfence_data.ledger_periods.closed_by IS 'the user who closed it, or NULL';

CREATE TABLE ringfence_data.ledger_closing_balances (
	org_id uuid NOT NULL REFERENCES ringfence_data.orgs (id),
	closed_before timestamptz NOT NULL,
	account_id uuid NOT NULL,
	debits bigint NOT NULL,
	credits bigint NOT NULL,
	PRIMARY KEY (org_id, account_id, closed_before),
	CONSTRAINT ledger_closing_balances_account_id_fkey FOREIGN KEY (org_id, account_id)
		REFERENCES ringfence_data.ledger_accounts (org_id, id)
);
COMMENT ON TABLE ringfence_data.ledger_closing_balances IS
	'what accounts had turned over when a period was closed: a row for each account that moved since the period before; written by close_period()';
COMMENT ON COLUMN ringfence_data.ledger_closing_balances.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_closing_balances.closed_before IS 'the period, in ledger_periods';
COMMENT ON COLUMN ringfence_data.ledger_closing_balances.account_id IS 'the account';
COMMENT ON COLUMN ringfence_data.ledger_closing_balances.debits IS 'all that was posted to its debit before that, in minor units';
COMMENT ON COLUMN ringfence_data.ledger_closing_balances.credits IS 'all that was posted to its credit before that, in minor units';

CREATE TABLE ringfence_data.ledger_blocks (
	org_id uuid NOT NULL REFERENCES ringfence_data.orgs (id),
	sealed_to timestamptz NOT NULL,
	sealed_from timestamptz NOT NULL,
	transfers bigint NOT NULL,
	root bytea NOT NULL,
	record uuid NOT NULL,
	PRIMARY KEY (org_id, sealed_to),
	CONSTRAINT ledger_blocks_sealed_to_check CHECK (sealed_from < sealed_to),
	CONSTRAINT ledger_blocks_transfers_check CHECK (transfers > 0)
);
-- For the end of the last stretch, of whatever organization.
CREATE INDEX ledger_blocks_sealed_to_idx ON ringfence_data.ledger_blocks (sealed_to);
COMMENT ON TABLE ringfence_data.ledger_blocks IS
	'which transfers are sealed: a hash over those of a stretch of time, which the audit log has as well; written by ledger_seal()';
COMMENT ON COLUMN ringfence_data.ledger_blocks.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.ledger_blocks.sealed_to IS 'it covers transfers that were recorded before this';
COMMENT ON COLUMN ringfence_data.ledger_blocks.sealed_from IS 'and not before this';
COMMENT ON COLUMN ringfence_data.ledger_blocks.transfers IS 'how many these are';
COMMENT ON COLUMN ringfence_data.ledger_blocks.root IS 'the hash: ledger_root()';
COMMENT ON COLUMN ringfence_data.ledger_blocks.record IS 'the record in the audit log that has the hash as well';
