-- Ledger: posting, in C (src/ledger*.c), which writes transfers, holds and
-- balances past privileges and triggers; what keeps everybody else from writing
-- them; assets and accounts. Books are in ledger_books.sql.

CREATE TYPE ringfence.transfer AS (
	id uuid,
	debit_account_id uuid,
	credit_account_id uuid,
	amount bigint,
	asset text,
	kind text,
	state text,
	pending_id uuid,
	timeout interval,
	posted_at timestamptz,
	reference text,
	metadata jsonb,
	linked boolean
);
COMMENT ON TYPE ringfence.transfer IS 'a transfer as transfers() takes it';
COMMENT ON COLUMN ringfence.transfer.id IS
	'identifies the transfer in its organization, and a repetition of it; NULL has one made';
COMMENT ON COLUMN ringfence.transfer.debit_account_id IS
	'the account that is debited; may be NULL where a hold is posted or voided, whose it then is';
COMMENT ON COLUMN ringfence.transfer.credit_account_id IS
	'the account that is credited; may be NULL where a hold is posted or voided, whose it then is';
COMMENT ON COLUMN ringfence.transfer.amount IS
	'minor units, more than 0; NULL is all of a hold, where one is posted or voided';
COMMENT ON COLUMN ringfence.transfer.asset IS 'code of the asset, which both accounts must be of; NULL for theirs';
COMMENT ON COLUMN ringfence.transfer.kind IS
	'what it is for, in the application''s own terms ("charge"): lower case letters, digits, "_" and ".", at most 63';
COMMENT ON COLUMN ringfence.transfer.state IS
	'posted (or NULL) moves the amount; pending reserves it; posted or voided with pending_id resolves a hold';
COMMENT ON COLUMN ringfence.transfer.pending_id IS 'the pending transfer that is posted or voided';
COMMENT ON COLUMN ringfence.transfer.timeout IS
	'how long a pending transfer can be posted, more than nothing; NULL for ever';
COMMENT ON COLUMN ringfence.transfer.posted_at IS
	'when it counts, not in the future and not in a closed period; NULL for now';
COMMENT ON COLUMN ringfence.transfer.reference IS 'free text, 1 to 255 bytes, or NULL';
COMMENT ON COLUMN ringfence.transfer.metadata IS 'a JSON object of at most 8,192 bytes, or NULL';
COMMENT ON COLUMN ringfence.transfer.linked IS 'whether it succeeds or fails together with the next one';

CREATE TYPE ringfence.transfer_result AS (position integer, id uuid, code text);
COMMENT ON TYPE ringfence.transfer_result IS 'what became of one of the transfers that transfers() was given';
COMMENT ON COLUMN ringfence.transfer_result.position IS 'its place among them, from 1';
COMMENT ON COLUMN ringfence.transfer_result.id IS 'its id';
COMMENT ON COLUMN ringfence.transfer_result.code IS '"ok", or why it was not made; doc/ledger.md has the list';

CREATE FUNCTION ringfence.transfers(transfers ringfence.transfer[]) RETURNS SETOF ringfence.transfer_result
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_transfers';
REVOKE EXECUTE ON FUNCTION ringfence.transfers(ringfence.transfer[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.transfers(ringfence.transfer[])
	TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.transfers(ringfence.transfer[]) IS
	'makes transfers of the organization of the context, in their order, and says of each what became of it: "ok" or a code; one that is refused is not made, and takes along those it is linked with, but no others and not the transaction; one that was made before with the same content is "exists"; 42501 without an organization';

CREATE FUNCTION ringfence.transfer(
	debit_account_id uuid,
	credit_account_id uuid,
	amount bigint,
	kind text,
	id uuid DEFAULT NULL,
	asset text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pending boolean DEFAULT false,
	timeout interval DEFAULT NULL,
	posted_at timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_transfer';
REVOKE EXECUTE ON FUNCTION ringfence.transfer(uuid, uuid, bigint, text, uuid, text, text, jsonb, boolean, interval, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.transfer(uuid, uuid, bigint, text, uuid, text, text, jsonb, boolean, interval, timestamptz)
	TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.transfer(uuid, uuid, bigint, text, uuid, text, text, jsonb, boolean, interval, timestamptz) IS
	'moves an amount in minor units from the debit to the credit account, or reserves it (pending), and returns the transfer''s id; an id that is given makes a repetition with the same content do nothing; 22023 for what is invalid, 22003, PT404 for an account that is not there, PT409 for whatever else the ledger refuses, with the code in the detail; 42501 without an organization';

CREATE FUNCTION ringfence.post_pending(
	pending_id uuid,
	amount bigint DEFAULT NULL,
	id uuid DEFAULT NULL,
	kind text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_post_pending';
REVOKE EXECUTE ON FUNCTION ringfence.post_pending(uuid, bigint, uuid, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.post_pending(uuid, bigint, uuid, text, text, jsonb)
	TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.post_pending(uuid, bigint, uuid, text, text, jsonb) IS
	'moves what a pending transfer reserved, or a part of it, which releases the rest, and returns the id of the transfer that does so; kind is the pending one''s unless given; errors as those of transfer(): PT409 where it was posted or voided, or has expired';

CREATE FUNCTION ringfence.void_pending(
	pending_id uuid,
	id uuid DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_void_pending';
REVOKE EXECUTE ON FUNCTION ringfence.void_pending(uuid, uuid, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.void_pending(uuid, uuid, text, jsonb)
	TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.void_pending(uuid, uuid, text, jsonb) IS
	'releases what a pending transfer reserved, and returns the id of the transfer that says so; errors as those of transfer(): PT409 where it was posted or voided, or has expired';

CREATE FUNCTION ringfence.reverse(transfer_id uuid, reason text, id uuid DEFAULT NULL) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_reverse';
REVOKE EXECUTE ON FUNCTION ringfence.reverse(uuid, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reverse(uuid, text, uuid)
	TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.reverse(uuid, text, uuid) IS
	'undoes a posted transfer by one the other way round, of kind "reversal" with the reason for its reference, and returns that one''s id; once for each transfer; errors as those of transfer()';

CREATE FUNCTION ringfence.expire_pending(batch integer DEFAULT 10000) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_expire_pending';
REVOKE EXECUTE ON FUNCTION ringfence.expire_pending(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.expire_pending(integer) TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.expire_pending(integer) IS
	'releases what pending transfers reserved whose time has passed, of whatever organization, at most so many; returns how many: call it again while that is the batch; for a job; 22023, 55000';

CREATE FUNCTION ringfence.ledger_account_opened() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_ledger_account_opened';
REVOKE EXECUTE ON FUNCTION ringfence.ledger_account_opened() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_account_opened() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ledger_account_opened() IS
	'trigger of ledger_accounts: gives a new account its balance, of nothing; 39P01';

CREATE FUNCTION ringfence.ledger_lock(org uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_ledger_lock';
REVOKE EXECUTE ON FUNCTION ringfence.ledger_lock(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_lock(uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ledger_lock(uuid) IS
	'waits until nobody is posting in an organization, and keeps everybody from it until the transaction ends; for changes of rules and the closing of periods; 25000 under REPEATABLE READ and above, whose snapshot would be older than what was waited for';

-- Tables that no audit triggers are on: the library writes the first three past
-- triggers, and the ledger is a record already, which is sealed as the log is.
CREATE FUNCTION ringfence.is_ledger_table(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce((
		SELECT n.nspname = 'ringfence_data' AND c.relname IN (
			'ledger_transfers', 'ledger_holds', 'ledger_balances', 'ledger_closing_balances', 'ledger_blocks'
		)
		FROM pg_catalog.pg_class AS c
		INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = rel
	), false);
END;
REVOKE EXECUTE ON FUNCTION ringfence.is_ledger_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_ledger_table(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_ledger_table(regclass) IS
	'whether a table is one of the ledger''s whose changes are not audited: ledger_transfers, ledger_holds, ledger_balances, ledger_closing_balances, ledger_blocks';

CREATE FUNCTION ringfence.ledger_org() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
BEGIN
	IF org IS NULL THEN
		RAISE EXCEPTION 'no organization is set for this transaction' USING ERRCODE = 'insufficient_privilege';
	END IF;
	RETURN org;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_org() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_org()
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.ledger_org() IS 'the organization of the context; 42501 if there is none';

-- What nobody may do, by trigger, so that it holds for the tables' owner as well.

CREATE FUNCTION ringfence.ledger_refuse() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'the ledger is written by ringfence alone'
		USING ERRCODE = 'insufficient_privilege',
		DETAIL = format('%s of table %s was refused.', TG_OP, TG_RELID::regclass),
		HINT = 'Post with ringfence.transfer(), undo with ringfence.reverse().';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_refuse() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_refuse() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ledger_refuse() IS
	'trigger of the ledger''s tables: refuses a write (42501), to the owner as well';

CREATE FUNCTION ringfence.ledger_fixed() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before CONSTANT jsonb := to_jsonb(OLD);
	after CONSTANT jsonb := to_jsonb(NEW);
	changed CONSTANT text := (
		SELECT string_agg(c.name, ', ' ORDER BY c.place)
		FROM unnest(TG_ARGV) WITH ORDINALITY AS c (name, place)
		WHERE before -> c.name IS DISTINCT FROM after -> c.name
	);
BEGIN
	IF changed IS NOT NULL THEN
		RAISE EXCEPTION 'columns of table % never change: %', TG_RELID::regclass, changed
			USING ERRCODE = 'check_violation', DETAIL = 'What was posted rests on them.';
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_fixed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_fixed() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ledger_fixed() IS
	'trigger of ledger_assets and ledger_accounts: refuses (23514) changes of the columns that are its arguments';

-- Before any row is locked: two that change rules would otherwise wait for each
-- other, one with the ledger's lock and one with a row's. The organization of a
-- row is not known here, but only superusers reach another than the context's.
CREATE FUNCTION ringfence.ledger_rules_lock() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.org_id() IS NOT NULL THEN
		PERFORM ringfence.ledger_lock(ringfence.org_id());
	END IF;
	RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_rules_lock() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_rules_lock() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ledger_rules_lock() IS
	'trigger of ledger_accounts: locks the ledger of the context''s organization before rules of accounts change; 25000';

CREATE FUNCTION ringfence.ledger_rules_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present record;
	taken numeric;
BEGIN
	IF (OLD.no_overdraft, OLD.credit_limit, OLD.closed_at) IS NOT DISTINCT FROM (NEW.no_overdraft, NEW.credit_limit, NEW.closed_at) THEN
		RETURN NEW;
	END IF;
	PERFORM ringfence.ledger_lock(NEW.org_id);
	SELECT sum(b.debits) AS debits, sum(b.credits) AS credits,
		sum(b.debits_pending) AS debits_pending, sum(b.credits_pending) AS credits_pending
	INTO present
	FROM ringfence_data.ledger_balances AS b
	WHERE b.org_id = NEW.org_id AND b.account_id = NEW.id;
	IF present.debits IS NULL THEN
		RAISE EXCEPTION 'account "%" has no balance', NEW.code
			USING ERRCODE = 'data_corrupted', HINT = 'See ringfence.ledger_verify().';
	END IF;

	IF NEW.closed_at IS DISTINCT FROM OLD.closed_at AND NEW.closed_at IS NOT NULL THEN
		IF OLD.closed_at IS NOT NULL THEN
			RAISE EXCEPTION 'account "%" was closed at another time', NEW.code
				USING ERRCODE = 'check_violation', DETAIL = format('It was closed at %s.', OLD.closed_at);
		ELSIF present.debits <> present.credits OR present.debits_pending <> 0 OR present.credits_pending <> 0 THEN
			RAISE EXCEPTION 'account "%" cannot be closed', NEW.code
				USING ERRCODE = 'check_violation',
				DETAIL = format('Its balance is %s; pending transfers hold %s of debits and %s of credits.',
					ringfence.normal_balance(NEW.kind, present.debits::bigint, present.credits::bigint),
					present.debits_pending, present.credits_pending);
		END IF;
		NEW.closed_at := clock_timestamp();
	END IF;

	taken := CASE WHEN NEW.kind IN ('asset', 'expense')
		THEN present.credits + present.credits_pending - present.debits
		ELSE present.debits + present.debits_pending - present.credits
	END;
	IF NEW.no_overdraft AND taken > NEW.credit_limit THEN
		RAISE EXCEPTION 'account "%" is beyond that limit', NEW.code
			USING ERRCODE = 'check_violation',
			DETAIL = format('With what pending transfers hold it is overdrawn by %s, and %s would be allowed.',
				taken, NEW.credit_limit);
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_rules_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_rules_changed() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ledger_rules_changed() IS
	'trigger of ledger_accounts: refuses (23514) rules that the present balance breaks, and to close an account that holds anything; 25000, XX001';

-- What close_period() sees to holds for other code of the owner's as well: a
-- period that is there is there for good.
CREATE FUNCTION ringfence.ledger_closing() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.ledger_lock(NEW.org_id);
	NEW.closed_at := clock_timestamp();
	IF NEW.closed_before > NEW.closed_at OR EXISTS (
		SELECT FROM ringfence_data.ledger_periods AS p
		WHERE p.org_id = NEW.org_id AND p.closed_before >= NEW.closed_before
	) THEN
		RAISE EXCEPTION 'books cannot be closed before %', NEW.closed_before
			USING ERRCODE = 'check_violation', DETAIL = 'That is in the future, or not after the last period.';
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_closing() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_closing() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ledger_closing() IS
	'trigger of ledger_periods: locks the ledger, and refuses (23514) a period in the future or not after the last one; 25000';

-- Each trigger of the ledger's tables: what ledger_guard() makes and verify()
-- expects. The type is pg_trigger's, the definition as pg_get_triggerdef() has it.
CREATE FUNCTION ringfence.ledger_triggers(
	OUT rel regclass,
	OUT name text,
	OUT function regprocedure,
	OUT type int2,
	OUT definition text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 15
BEGIN ATOMIC
	SELECT to_regclass('ringfence_data.' || t.table_name), t.name, t.function, t.type, t.definition
	FROM (
		SELECT
			r.table_name,
			'ringfence_ledger_refuse' AS name,
			'ringfence.ledger_refuse()'::regprocedure AS function,
			2::int2 + sum(e.bit)::int2 AS type,
			format('BEFORE %s ON ringfence_data.%s FOR EACH STATEMENT EXECUTE FUNCTION ringfence.ledger_refuse()',
				string_agg(e.event, ' OR ' ORDER BY e.bit), r.table_name) AS definition
		FROM (VALUES
			('ledger_assets', 40), ('ledger_accounts', 40), ('ledger_periods', 56), ('ledger_closing_balances', 56),
			('ledger_transfers', 60), ('ledger_holds', 60), ('ledger_balances', 60), ('ledger_blocks', 60)
		) AS r (table_name, events)
		INNER JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS e (bit, event)
			ON r.events & e.bit <> 0
		GROUP BY r.table_name
		UNION ALL
		VALUES
			('ledger_assets', 'ringfence_ledger_fixed', 'ringfence.ledger_fixed()'::regprocedure, 19::int2,
				'BEFORE UPDATE ON ringfence_data.ledger_assets FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_fixed(''org_id'', ''code'', ''scale'', ''created_at'')'),
			('ledger_accounts', 'ringfence_ledger_100_fixed', 'ringfence.ledger_fixed()'::regprocedure, 19::int2,
				'BEFORE UPDATE ON ringfence_data.ledger_accounts FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_fixed(''org_id'', ''id'', ''asset'', ''kind'', ''created_at'')'),
			('ledger_accounts', 'ringfence_ledger_lock', 'ringfence.ledger_rules_lock()'::regprocedure, 18::int2,
				'BEFORE UPDATE OF no_overdraft, credit_limit, closed_at ON ringfence_data.ledger_accounts FOR EACH STATEMENT EXECUTE FUNCTION ringfence.ledger_rules_lock()'),
			('ledger_accounts', 'ringfence_ledger_200_rules', 'ringfence.ledger_rules_changed()'::regprocedure, 19::int2,
				'BEFORE UPDATE ON ringfence_data.ledger_accounts FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_rules_changed()'),
			('ledger_accounts', 'ringfence_ledger_opened', 'ringfence.ledger_account_opened()'::regprocedure, 5::int2,
				'AFTER INSERT ON ringfence_data.ledger_accounts FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_account_opened()'),
			('ledger_periods', 'ringfence_ledger_closing', 'ringfence.ledger_closing()'::regprocedure, 7::int2,
				'BEFORE INSERT ON ringfence_data.ledger_periods FOR EACH ROW EXECUTE FUNCTION ringfence.ledger_closing()')
	) AS t;
END;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_triggers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_triggers()
	TO ringfence_owner, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.ledger_triggers() IS
	'the triggers that guard the ledger''s tables, as CREATE TRIGGER wants them after their name';

-- Foreign keys lock the rows of either table as its owner, and a lock wants the
-- right to update some column.
CREATE FUNCTION ringfence.ledger_guard() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	privileges text;
	holder regrole;
BEGIN
	FOR t IN SELECT g.rel, g.name, g.definition, g.type FROM ringfence.ledger_triggers() AS g LOOP
		EXECUTE format('CREATE OR REPLACE TRIGGER %I %s', t.name, t.definition);
		CONTINUE WHEN t.name <> 'ringfence_ledger_refuse';
		EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t.rel);
		EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t.rel);
		privileges := substring(t.definition FROM '^BEFORE (.*) ON ');
		privileges := replace(privileges, ' OR ', ', ');
		FOR holder IN
			SELECT DISTINCT x.grantee
			FROM pg_class AS c
			CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x
			WHERE c.oid = t.rel AND x.grantee <> 0
		LOOP
			EXECUTE format('REVOKE %s ON %s FROM %s', privileges, t.rel, holder);
		END LOOP;
		EXECUTE format('REVOKE %s ON %s FROM PUBLIC', privileges, t.rel);
		EXECUTE format('GRANT UPDATE (org_id) ON %s TO %s', t.rel,
			(SELECT c.relowner::regrole FROM pg_class AS c WHERE c.oid = t.rel));
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_guard() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_guard() TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.ledger_guard() IS
	'closes the ledger''s tables to every writer but the library: row security forced, privileges revoked from all and the owner, triggers that refuse; repeatable';

-- Assets and accounts.

CREATE FUNCTION ringfence.open_asset(code text, scale integer, name text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO ringfence_data.ledger_assets (org_id, code, name, scale)
	VALUES (ringfence.ledger_org(), open_asset.code, coalesce(open_asset.name, open_asset.code), open_asset.scale);
	RETURN code;
END
$$;
ALTER FUNCTION ringfence.open_asset(text, integer, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.open_asset(text, integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.open_asset(text, integer, text)
	TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.open_asset(text, integer, text) IS
	'gives the organization of the context an asset to keep accounts in, and returns its code, up to 16 capital letters and digits ("EUR"); scale is how many digits of an amount are decimals, 0 to 18; 23502, 23505 for a code that it has, 23514, 42501';

CREATE FUNCTION ringfence.open_account(
	code text,
	name text,
	asset text,
	kind text,
	no_overdraft boolean DEFAULT false,
	credit_limit bigint DEFAULT 0,
	party_kind text DEFAULT NULL,
	party_id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new_id CONSTANT uuid := ringfence.uuid7();
BEGIN
	INSERT INTO ringfence_data.ledger_accounts (
		org_id, id, code, name, asset, kind, no_overdraft, credit_limit, party_kind, party_id
	)
	VALUES (
		ringfence.ledger_org(), new_id, open_account.code, open_account.name, open_account.asset, open_account.kind,
		open_account.no_overdraft, open_account.credit_limit, open_account.party_kind, open_account.party_id
	);
	RETURN new_id;
END
$$;
ALTER FUNCTION ringfence.open_account(text, text, text, text, boolean, bigint, text, uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.open_account(text, text, text, text, boolean, bigint, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.open_account(text, text, text, text, boolean, bigint, text, uuid)
	TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.open_account(text, text, text, text, boolean, bigint, text, uuid) IS
	'opens an account in the organization of the context and returns its id; kind is asset, liability, equity, revenue or expense; with no_overdraft it never goes below minus credit_limit, in minor units; a party, of a kind as in memberships, may read it; 23502, 23503 for an asset that is not there, 23505 for a code that is taken, 23514, 42501';

CREATE FUNCTION ringfence.account(code text) RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.ledger_org();
	found_id uuid;
BEGIN
	SELECT a.id INTO found_id
	FROM ringfence_data.ledger_accounts AS a
	WHERE a.org_id = org AND a.code = account.code;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account "%" does not exist', code USING ERRCODE = 'PT404';
	END IF;
	RETURN found_id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.account(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.account(text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.account(text) IS
	'the id of the account of that code in the organization of the context; PT404 if there is none that the caller may see, 42501';

-- For policies, which ask once a statement, and not once for each row.
CREATE FUNCTION ringfence.own_accounts() RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(
		SELECT a.id
		FROM jsonb_object_keys(ringfence.context() -> 'party') AS k (kind)
		INNER JOIN ringfence_data.ledger_accounts AS a
			ON a.org_id = ringfence.org_id() AND a.party_kind = k.kind AND a.party_id = ringfence.party_id(k.kind)
	);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.own_accounts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.own_accounts() TO ringfence_owner, ringfence_member;
COMMENT ON FUNCTION ringfence.own_accounts() IS
	'the accounts of the parties that the user is in the organization of the context';

CREATE FUNCTION ringfence.set_account_limit(account uuid, no_overdraft boolean, credit_limit bigint DEFAULT 0) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.ledger_org();
BEGIN
	UPDATE ringfence_data.ledger_accounts AS a
	SET no_overdraft = set_account_limit.no_overdraft, credit_limit = set_account_limit.credit_limit
	WHERE a.org_id = org AND a.id = account;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account "%" does not exist', account USING ERRCODE = 'PT404';
	END IF;
END
$$;
ALTER FUNCTION ringfence.set_account_limit(uuid, boolean, bigint) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.set_account_limit(uuid, boolean, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.set_account_limit(uuid, boolean, bigint)
	TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.set_account_limit(uuid, boolean, bigint) IS
	'says how far an account may be overdrawn from now on: not beyond credit_limit, in minor units, or with no_overdraft false as far as it likes; waits for transfers that are being posted; 23502, 23514 if its balance is beyond that already, 25000 under REPEATABLE READ and above, 42501, PT404';

CREATE FUNCTION ringfence.set_account_closed(account uuid, closed boolean) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.ledger_org();
BEGIN
	UPDATE ringfence_data.ledger_accounts AS a
	SET closed_at = CASE WHEN closed THEN coalesce(a.closed_at, clock_timestamp()) END
	WHERE a.org_id = org AND a.id = account;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account "%" does not exist', account USING ERRCODE = 'PT404';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.set_account_closed(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.set_account_closed(uuid, boolean) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.set_account_closed(uuid, boolean) IS
	'closes an account or opens it again; for close_account() and reopen_account()';

CREATE FUNCTION ringfence.close_account(account uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.set_account_closed(account, true);
END
$$;
ALTER FUNCTION ringfence.close_account(uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.close_account(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.close_account(uuid) TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.close_account(uuid) IS
	'closes an account, so that nothing is posted to it any more, until reopen_account(); its balance must be 0 and nothing of it held; waits for transfers that are being posted; nothing happens to one that is closed; 23514, 25000 under REPEATABLE READ and above, 42501, PT404';

CREATE FUNCTION ringfence.reopen_account(account uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.set_account_closed(account, false);
END
$$;
ALTER FUNCTION ringfence.reopen_account(uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.reopen_account(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reopen_account(uuid) TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.reopen_account(uuid) IS
	'opens a closed account again, under its code and with all that was posted to it; the audit log has both changes; 25000 under REPEATABLE READ and above, 42501, PT404';
