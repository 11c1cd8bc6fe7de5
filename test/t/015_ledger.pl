# The books add up whatever happens: eight clients post random batches at a time to
# the same few accounts (chains, holds and what resolves them, repeated ids with the
# same and with other content, reversals, back-dated and invalid ones), some of them
# rolled back, while limits change, periods are closed, holds expire and the ledger
# is sealed, backends are killed and the server is stopped at once. Meanwhile and
# afterwards everything is reckoned anew from the transfers, by plain SQL that uses
# nothing of the library, and compared with what the library keeps and with what
# clients were told. No statement fails but for a connection that is lost: there is
# no deadlock.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = $ENV{RINGFENCE_SEED} || time % 1_000_000;
diag("RINGFENCE_SEED=$seed") if $ENV{RINGFENCE_SEED};
my $seconds = 1.5;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
restart_after_crash = on
deadlock_timeout = '200ms'
ringfence.audit_key_file = 'audit_key.pem'
});
append_to_file($node->data_dir . '/audit_key.pem',
	"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n");
chmod 0600, $node->data_dir . '/audit_key.pem';
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app; REVOKE TEMPORARY ON DATABASE app FROM PUBLIC');

# Two organizations with the same ids of accounts, and of transfers.
$node->safe_psql('app', q{
	SET client_min_messages = error;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	ALTER DATABASE app SET session_preload_libraries = 'ringfence';
	ALTER DATABASE app SET log_statement = none;

	CREATE FUNCTION public.org(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
		$$SELECT ('0aaaaaaa-0000-7000-8000-00000000000' || n)::uuid$$;
	CREATE FUNCTION public.account(asset integer, n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
		$$SELECT ('0acc0000-0000-7000-8000-0000000000' || asset || n)::uuid$$;
	CREATE FUNCTION public.id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS
		$$SELECT ('0bbb0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid$$;

	INSERT INTO ringfence_data.orgs (id, name) SELECT public.org(n), n FROM generate_series(0, 1) AS n;
	INSERT INTO ringfence_data.ledger_assets (org_id, code, name, scale)
	SELECT public.org(n), a.code, a.code, a.scale
	FROM generate_series(0, 1) AS n CROSS JOIN (VALUES ('EUR', 2), ('POINTS', 0)) AS a (code, scale);
	INSERT INTO ringfence_data.ledger_accounts (org_id, id, code, name, asset, kind, no_overdraft, credit_limit)
	SELECT public.org(o.n), public.account(s.n, a.n), s.code || ' ' || a.code, a.code, s.code, a.kind, a.no_overdraft, a.credit_limit
	FROM generate_series(0, 1) AS o (n)
	CROSS JOIN (VALUES (0, 'EUR'), (1, 'POINTS')) AS s (n, code)
	CROSS JOIN (VALUES
		(0, 'bank', 'asset', false, 0), (1, 'alice', 'liability', true, 0), (2, 'bob', 'liability', true, 0),
		(3, 'carol', 'liability', true, 500), (4, 'shop', 'revenue', false, 0), (5, 'till', 'asset', true, 0),
		(6, 'fees', 'expense', true, 100)
	) AS a (n, code, kind, no_overdraft, credit_limit);

	-- What clients are about to send, what they were told, and how far numbers are.
	CREATE TABLE public.sent (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, org uuid NOT NULL, style text NOT NULL,
		transfers ringfence.transfer[] NOT NULL
	);
	CREATE TABLE public.told (
		sent bigint NOT NULL, committed boolean NOT NULL, codes text[] NOT NULL, ids uuid[] NOT NULL,
		at timestamptz NOT NULL DEFAULT clock_timestamp()
	);
	CREATE SEQUENCE public.numbers_0;
	CREATE SEQUENCE public.numbers_1;

	CREATE FUNCTION public.draw(n bigint, what integer, below integer) RETURNS integer LANGUAGE sql IMMUTABLE AS
		$$SELECT abs(hashint8extended(n, what) % below)::integer$$;

	-- The transfer of a number, always the same. Those of ten numbers have to do
	-- with each other: of 3 is a hold, which 4 and 5 resolve; 6 and 7 reverse 0.
	CREATE FUNCTION public.content(n bigint) RETURNS ringfence.transfer LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE
		t ringfence.transfer;
		first CONSTANT bigint := n - n % 10;
		asset CONSTANT integer := public.draw(n, 1, 2);
		a integer;
		b integer;
	BEGIN
		t.id := public.id(n);
		t.amount := 1 + public.draw(n, 2, 200);
		t.kind := (ARRAY['sale', 'gift', 'top.up'])[1 + public.draw(n, 3, 3)];
		IF n % 10 = 4 OR n % 10 = 5 THEN
			t.pending_id := public.id(first + 3);
			t.kind := NULL;
			t.amount := (ARRAY[NULL, NULL, 1, 100000])[1 + public.draw(n, 4, 4)];
			t.state := CASE WHEN n % 10 = 5 AND public.draw(n, 5, 2) = 0 THEN 'voided' ELSE 'posted' END;
			IF t.state = 'voided' THEN
				t.amount := NULL;
			END IF;
			RETURN t;
		ELSIF n % 10 IN (6, 7) THEN
			t.pending_id := public.id(first + CASE WHEN public.draw(n, 6, 10) = 0 THEN 3 ELSE 0 END);
			t.state := 'reversal';
			t.reference := 'wrong';
			RETURN t;
		END IF;

		CASE public.draw(n, 7, 16)
			WHEN 0, 1, 2, 3, 4 THEN a := 0; b := 1 + public.draw(n, 8, 3);
			WHEN 5, 6, 7, 8 THEN a := 1 + public.draw(n, 8, 3); b := 1 + (a + public.draw(n, 9, 2)) % 3;
			WHEN 9, 10, 11 THEN a := 1 + public.draw(n, 8, 3); b := 4;
			WHEN 12 THEN a := 5; b := 4;
			WHEN 13 THEN a := 6; b := 5;
			WHEN 14 THEN a := 4; b := 6;
			ELSE a := 4; b := 0;
		END CASE;
		t.debit_account_id := public.account(asset, a);
		t.credit_account_id := public.account(asset, b);
		t.reference := CASE WHEN public.draw(n, 10, 3) = 0 THEN 'n ' || n END;
		t.metadata := CASE WHEN public.draw(n, 11, 4) = 0 THEN jsonb_build_object('n', n) END;
		IF n % 10 = 3 THEN
			t.state := 'pending';
			t.timeout := (ARRAY[NULL, '5 milliseconds', '20 milliseconds', '500 milliseconds'])[1 + public.draw(n, 12, 4)]::interval;
		ELSIF n % 10 = 9 THEN
			t.posted_at := '2020-01-01 12:00+00'::timestamptz + public.draw(n, 13, 300) * interval '1 day';
		ELSIF n % 10 = 8 THEN
			CASE public.draw(n, 14, 9)
				WHEN 0 THEN t.amount := 0;
				WHEN 1 THEN t.credit_account_id := t.debit_account_id;
				WHEN 2 THEN t.debit_account_id := '0acc0000-0000-7000-8000-00000000ffff';
				WHEN 3 THEN t.kind := 'X';
				WHEN 4 THEN t.state := 'expired';
				WHEN 5 THEN t.reference := '';
				WHEN 6 THEN t.posted_at := '2200-01-01';
				WHEN 7 THEN t.metadata := '[]';
				ELSE t.credit_account_id := public.account(1 - asset, b);
			END CASE;
		END IF;
		RETURN t;
	END
	$$;

	-- Draws what to send next, and notes it down.
	CREATE FUNCTION public.plan(client integer, seed double precision) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		org CONSTANT integer := client % 2;
		t ringfence.transfer;
		transfers ringfence.transfer[] := '{}';
		size integer := 1;
		style text := 'batch';
		n bigint;
		last bigint;
		new_id bigint;
	BEGIN
		PERFORM setseed(seed);
		IF random() < 0.3 THEN
			style := 'single';
		ELSIF random() < 0.6 THEN
			size := 2 + (random() * 6)::integer;
		ELSIF random() < 0.2 THEN
			size := 20 + (random() * 40)::integer;
		END IF;
		WHILE cardinality(transfers) < size LOOP
			n := nextval('public.numbers_' || org);
			last := n;
			IF random() < 0.45 THEN
				n := greatest(1, n - (random() * 80)::integer);
			END IF;
			t := public.content(n);
			IF t.state = 'reversal' THEN
				CONTINUE WHEN size > 1;
				style := 'reverse';
			ELSIF n < last AND n % 10 <> 8 AND t.state IS NULL AND random() < 0.12 THEN
				t.reference := 'other';
			ELSIF t.pending_id IS NULL AND n % 10 <> 8 AND random() < 0.1 THEN
				t.id := NULL;
				t.reference := format('own %s', ringfence.uuid7());
			END IF;
			t.linked := size > 1 AND random() < 0.3 AND (cardinality(transfers) < size - 1 OR random() < 0.05);
			transfers := transfers || t;
		END LOOP;
		-- In no order in particular.
		IF random() < 0.5 THEN
			transfers := ARRAY(SELECT u FROM unnest(transfers) AS u ORDER BY random());
		END IF;
		INSERT INTO public.sent (org, style, transfers) VALUES (public.org(org), style, transfers) RETURNING sent.id INTO new_id;
		RETURN new_id;
	END
	$$;

	-- Sends it, in one call of the library.
	CREATE FUNCTION public.perform(n bigint, OUT codes text[], OUT ids uuid[]) LANGUAGE plpgsql AS $$
	DECLARE
		s record;
		t ringfence.transfer;
		made uuid;
		detail text;
	BEGIN
		SELECT x.org, x.style, x.transfers INTO s FROM public.sent AS x WHERE x.id = n;
		PERFORM ringfence.set_context(s.org, NULL, ARRAY['accountant']);
		IF s.style = 'batch' THEN
			SELECT array_agg(r.code ORDER BY r.position), array_agg(r.id ORDER BY r.position) INTO codes, ids
			FROM ringfence.transfers(s.transfers) AS r;
			RETURN;
		END IF;
		t := s.transfers[1];
		BEGIN
			CASE
				WHEN s.style = 'reverse' THEN made := ringfence.reverse(t.pending_id, t.reference, t.id);
				WHEN t.state = 'voided' THEN made := ringfence.void_pending(t.pending_id, t.id);
				WHEN t.pending_id IS NOT NULL THEN made := ringfence.post_pending(t.pending_id, t.amount, t.id);
				WHEN t.state = 'expired' THEN codes := ARRAY['state_invalid']; ids := ARRAY[t.id]; RETURN;
				ELSE made := ringfence.transfer(t.debit_account_id, t.credit_account_id, t.amount, t.kind, t.id, t.asset,
					t.reference, t.metadata, t.state IS NOT DISTINCT FROM 'pending', t.timeout, t.posted_at);
			END CASE;
			codes := ARRAY['done'];
			ids := ARRAY[made];
		EXCEPTION WHEN SQLSTATE 'PT409' OR SQLSTATE 'PT404' OR invalid_parameter_value OR numeric_value_out_of_range THEN
			GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
			codes := ARRAY[substring(detail FROM '^The ledger refused it: (\w+)\.$')];
			ids := ARRAY[t.id];
		END;
	END
	$$;

	-- What is done beside posting. Limits and dates that can't be are refused.
	CREATE FUNCTION public.look_after(what integer, org integer) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF what < 3 THEN
			PERFORM ringfence.set_context(public.org(org), NULL, ARRAY['accountant']);
		END IF;
		CASE what
			WHEN 1 THEN PERFORM ringfence.set_account_limit(public.account((random() * 1)::integer, 3), true, 300 + (random() * 400)::integer);
			WHEN 2 THEN PERFORM ringfence.close_period((SELECT coalesce(max(p.closed_before), '2020-01-01')::date + (random() * 5)::integer
				FROM ringfence_data.ledger_periods AS p WHERE p.org_id = public.org(org)));
			WHEN 3 THEN PERFORM ringfence.ledger_seal('1 second');
			ELSE PERFORM ringfence.expire_pending(1 + (random() * 50)::integer);
		END CASE;
	EXCEPTION WHEN check_violation OR SQLSTATE 'PT409' THEN
		NULL;
	END
	$$;

	-- What is wrong, in one snapshot and by the transfers alone.
	CREATE VIEW public.flaws AS
	WITH holds AS (
		SELECT t.org_id, t.id, t.debit_account_id, t.credit_account_id, t.amount, t.expires_at
		FROM ringfence_data.ledger_transfers AS t
		WHERE t.state = 'pending'
			AND NOT EXISTS (SELECT FROM ringfence_data.ledger_transfers AS r WHERE r.org_id = t.org_id AND r.pending_id = t.id)
	), moves AS (
		SELECT t.org_id, t.debit_account_id AS account_id, t.amount AS debits, 0 AS credits, 0 AS debits_pending, 0 AS credits_pending
		FROM ringfence_data.ledger_transfers AS t WHERE t.state = 'posted'
		UNION ALL
		SELECT t.org_id, t.credit_account_id, 0, t.amount, 0, 0 FROM ringfence_data.ledger_transfers AS t WHERE t.state = 'posted'
		UNION ALL
		SELECT h.org_id, h.debit_account_id, 0, 0, h.amount, 0 FROM holds AS h
		UNION ALL
		SELECT h.org_id, h.credit_account_id, 0, 0, 0, h.amount FROM holds AS h
	), reckoned AS (
		SELECT a.org_id, a.id, a.code, a.asset, a.kind, a.no_overdraft, a.credit_limit, coalesce(sum(m.debits), 0) AS debits, coalesce(sum(m.credits), 0) AS credits,
			coalesce(sum(m.debits_pending), 0) AS debits_pending, coalesce(sum(m.credits_pending), 0) AS credits_pending
		FROM ringfence_data.ledger_accounts AS a
		LEFT JOIN moves AS m ON m.org_id = a.org_id AND m.account_id = a.id
		GROUP BY a.org_id, a.id
	), kept AS (
		SELECT b.org_id, b.account_id AS id, sum(b.debits) AS debits, sum(b.credits) AS credits,
			sum(b.debits_pending) AS debits_pending, sum(b.credits_pending) AS credits_pending
		FROM ringfence_data.ledger_balances AS b
		GROUP BY b.org_id, b.account_id
	)
	SELECT 'balance' AS flaw, format('%s: %s, kept %s', r.code, r, k) AS detail
	FROM reckoned AS r FULL JOIN kept AS k USING (org_id, id)
	WHERE (r.debits, r.credits, r.debits_pending, r.credits_pending) IS DISTINCT FROM (k.debits, k.credits, k.debits_pending, k.credits_pending)
	UNION ALL
	SELECT 'sum', format('%s %s', k.org_id, a.asset)
	FROM kept AS k INNER JOIN ringfence_data.ledger_accounts AS a USING (org_id, id)
	GROUP BY k.org_id, a.asset
	HAVING sum(k.debits) <> sum(k.credits) OR sum(k.debits_pending) <> sum(k.credits_pending)
	UNION ALL
	SELECT 'limit', r::text FROM reckoned AS r
	WHERE r.no_overdraft AND CASE WHEN r.kind IN ('asset', 'expense') THEN r.credits + r.credits_pending - r.debits
		ELSE r.debits + r.debits_pending - r.credits END > r.credit_limit
	UNION ALL
	SELECT 'hold', coalesce(h, k)::text
	FROM holds AS h FULL JOIN (
		SELECT x.org_id, x.id, x.debit_account_id, x.credit_account_id, x.amount, x.expires_at FROM ringfence_data.ledger_holds AS x
	) AS k USING (org_id, id)
	WHERE h IS DISTINCT FROM k
	UNION ALL
	SELECT 'id', format('%s %s', t.org_id, t.id) FROM ringfence_data.ledger_transfers AS t GROUP BY t.org_id, t.id HAVING count(*) > 1
	UNION ALL
	SELECT 'resolved twice', t.pending_id::text FROM ringfence_data.ledger_transfers AS t
	WHERE t.pending_id IS NOT NULL GROUP BY t.org_id, t.pending_id HAVING count(*) > 1
	UNION ALL
	SELECT 'reversed twice', t.reverses_id::text FROM ringfence_data.ledger_transfers AS t
	WHERE t.reverses_id IS NOT NULL GROUP BY t.org_id, t.reverses_id HAVING count(*) > 1
	UNION ALL
	SELECT 'resolution', r::text
	FROM ringfence_data.ledger_transfers AS r
	LEFT JOIN ringfence_data.ledger_transfers AS t ON t.org_id = r.org_id AND t.id = r.pending_id
	WHERE r.pending_id IS NOT NULL AND (
		t.state IS DISTINCT FROM 'pending' OR (t.debit_account_id, t.credit_account_id, t.asset) <> (r.debit_account_id, r.credit_account_id, r.asset)
		OR r.amount > t.amount OR r.state <> 'posted' AND r.amount <> t.amount
		OR r.state IN ('posted', 'voided') AND r.recorded_at >= t.expires_at OR r.state = 'expired' AND r.recorded_at < coalesce(t.expires_at, 'infinity'))
	UNION ALL
	SELECT 'reversal', r::text
	FROM ringfence_data.ledger_transfers AS r
	LEFT JOIN ringfence_data.ledger_transfers AS t ON t.org_id = r.org_id AND t.id = r.reverses_id
	WHERE r.reverses_id IS NOT NULL AND ((t.state, t.debit_account_id, t.credit_account_id, t.amount)
		IS DISTINCT FROM ('posted', r.credit_account_id, r.debit_account_id, r.amount) OR t.reverses_id IS NOT NULL)
	UNION ALL
	SELECT 'closed', t::text
	FROM ringfence_data.ledger_transfers AS t
	INNER JOIN ringfence_data.ledger_periods AS p ON p.org_id = t.org_id AND t.posted_at < p.closed_before AND t.recorded_at >= p.closed_at
	UNION ALL
	SELECT 'account', t::text
	FROM ringfence_data.ledger_transfers AS t
	LEFT JOIN ringfence_data.ledger_accounts AS d ON d.org_id = t.org_id AND d.id = t.debit_account_id
	LEFT JOIN ringfence_data.ledger_accounts AS c ON c.org_id = t.org_id AND c.id = t.credit_account_id
	WHERE (d.asset, c.asset) IS DISTINCT FROM (t.asset, t.asset);

	-- Each transfer that was sent, what was said of it, and the row that has its id.
	CREATE MATERIALIZED VIEW public.fates AS
	SELECT s.id AS sent, s.org, s.style, u.place, d.sent IS NOT NULL AS answered, d.committed, d.at,
		CASE WHEN d.codes[u.place] IN ('ok', 'done') THEN 'ok' ELSE d.codes[u.place] END AS code, d.codes[u.place] = 'done' AS done,
		coalesce(u.id, d.ids[u.place]) AS id, u.pending_id, u.state, u.posted_at, u.linked, t.id IS NOT NULL AS there,
		coalesce(CASE WHEN u.state = 'reversal' THEN (t.reverses_id, t.state, t.kind, t.reference) = (u.pending_id, 'posted', 'reversal', u.reference)
			WHEN u.pending_id IS NOT NULL THEN (t.pending_id, t.state) = (u.pending_id, u.state) AND t.amount = coalesce(u.amount, h.amount)
				AND (t.kind, t.debit_account_id, t.credit_account_id, t.reference, t.metadata) IS NOT DISTINCT FROM (h.kind, h.debit_account_id, h.credit_account_id, NULL, NULL)
			ELSE (t.debit_account_id, t.credit_account_id, t.amount, t.kind, t.state) = (u.debit_account_id, u.credit_account_id, u.amount, u.kind, coalesce(u.state, 'posted'))
				AND (t.reference, t.metadata, t.expires_at - t.recorded_at) IS NOT DISTINCT FROM (u.reference, u.metadata, u.timeout)
				AND (u.posted_at IS NULL OR u.posted_at = t.posted_at) AND t.reverses_id IS NULL AND t.pending_id IS NULL
		END, false) AS same,
		r.state AS resolved, h.expires_at, v.id IS NOT NULL AS reversed,
		count(*) OVER (PARTITION BY s.id, u.id) = 1 AS alone, count(*) OVER (PARTITION BY s.id, u.pending_id) = 1 AS resolves_alone
	FROM public.sent AS s
	CROSS JOIN unnest(s.transfers) WITH ORDINALITY AS u (id, debit_account_id, credit_account_id, amount, asset, kind, state,
		pending_id, timeout, posted_at, reference, metadata, linked, place)
	LEFT JOIN public.told AS d ON d.sent = s.id
	LEFT JOIN ringfence_data.ledger_transfers AS t ON t.org_id = s.org AND t.id = coalesce(u.id, d.ids[u.place])
	LEFT JOIN ringfence_data.ledger_transfers AS h ON h.org_id = s.org AND h.id = u.pending_id
	LEFT JOIN ringfence_data.ledger_transfers AS r ON r.org_id = s.org AND r.pending_id = u.pending_id
	LEFT JOIN ringfence_data.ledger_transfers AS v ON v.org_id = s.org AND v.reverses_id = u.pending_id
	WITH NO DATA;
	CREATE INDEX fates_id_idx ON public.fates (id);
});

append_to_file($node->basedir . '/client.sql', q{
\set seed random(0, 1000000)
\set fate random(1, 100)
\set pause random(0, 2000)
SELECT public.plan(:client_id, :seed / 1000000.0) AS sent \gset
BEGIN;
SELECT quote_literal(p.codes::text) AS codes, quote_literal(p.ids::text) AS ids FROM public.perform(:sent) AS p \gset
\if :fate <= 30
\sleep :pause us
\endif
\if :fate <= 10
ROLLBACK;
INSERT INTO public.told (sent, committed, codes, ids) VALUES (:sent, false, :codes, :ids);
\else
COMMIT;
INSERT INTO public.told (sent, committed, codes, ids) VALUES (:sent, true, :codes, :ids);
\endif
});
append_to_file($node->basedir . '/office.sql', q{
\set what random(1, 7)
\set org random(0, 1)
\sleep 5 ms
SELECT public.look_after(:what, :org);
});

my $round = 0;
sub begin_load
{
	$round++;
	my @how = ('-n', '-h', $node->host, '-p', $node->port, '-T', '60', '--random-seed=' . ($seed + $round));
	return map {
		IPC::Run::start([ 'pgbench', @how, @$_, 'dbname=app application_name=load' ],
			'<', \undef, '>>', $node->basedir . '/load.log', '2>>', $node->basedir . '/load.log')
	  } [ '-c', '8', '-j', '2', '-f', $node->basedir . '/client.sql' ], [ '-c', '1', '-f', $node->basedir . '/office.sql' ];
}

sub end_load
{
	my @load = @_;
	# What the server hasn't ended yet.
	IPC::Run::kill_kill($_, grace => 0) for @load;
	return;
}

# All rows are compared with all, of tables whose statistics are out of date.
sub number
{
	my ($sql) = @_;
	return $node->safe_psql('app', "SET enable_nestloop = off;\n$sql");
}

# Looks at the books while others write them.
my $looks = 0;
my @seen;
sub look
{
	my ($until) = @_;
	my $reader = session($node->connstr('app'));
	while (time < $until)
	{
		for my $sql ('SELECT f.flaw, f.detail FROM public.flaws AS f', 'SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v')
		{
			my $flaws = ask($reader, $sql);
			push @seen, "round $round: $flaws" if $flaws ne '';
			$looks++;
		}
	}
	finish($reader);
	return;
}

sub check
{
	my ($name) = @_;
	number('ANALYZE public.sent, public.told, ringfence_data.ledger_transfers; REFRESH MATERIALIZED VIEW public.fates; ANALYZE public.fates');
	is(number('SELECT f.flaw, f.detail FROM public.flaws AS f ORDER BY 1, 2 LIMIT 20'), '', "$name: the books agree with the transfers");
	is(number('SELECT v.org_id, v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v LIMIT 20'), '', "$name: ledger_verify() finds nothing");
	is(number(q{SELECT f.sent, f.id, f.code FROM public.fates AS f WHERE f.committed AND f.code = 'ok' AND NOT f.same LIMIT 20}),
		'', "$name: what was accepted is there");
	is(number(q{SELECT f.org, f.id FROM public.fates AS f WHERE f.committed AND f.code = 'ok' AND NOT f.done GROUP BY f.org, f.id HAVING count(*) > 1 LIMIT 20}),
		'', "$name: it was accepted once");
	is(number(q{SELECT f.sent, f.id, f.code FROM public.fates AS f WHERE f.committed AND f.code = 'exists' AND NOT f.same LIMIT 20}),
		'', "$name: what was said to exist does");
	is(number(q{SELECT f.sent, f.id, f.code FROM public.fates AS f WHERE f.committed AND f.code = 'exists_different' AND f.alone AND (f.same OR NOT f.there) LIMIT 20}),
		'', "$name: what was said to be another is");
	is(number(q{
		SELECT t.org_id, t.id FROM ringfence_data.ledger_transfers AS t
		WHERE t.state <> 'expired'
			AND NOT EXISTS (SELECT FROM public.fates AS f WHERE f.org = t.org_id AND f.id = t.id AND f.same AND (f.committed AND f.code = 'ok' OR NOT f.answered))
			AND NOT EXISTS (SELECT FROM public.fates AS f INNER JOIN public.sent AS s ON s.id = f.sent
				WHERE f.org = t.org_id AND NOT f.answered AND s.transfers[f.place].id IS NULL AND s.transfers[f.place].reference = t.reference)
		LIMIT 20}),
		'', "$name: nothing is there that was refused or taken back");
	is(number(q{SELECT f.sent, f.id, f.code FROM public.fates AS f WHERE f.there AND f.id::text ~ '^0bbb.*8$' LIMIT 20}),
		'', "$name: nothing is there that is invalid");
	is(number(q{
		SELECT c.sent, array_agg(c.code ORDER BY c.place)
		FROM (
			SELECT f.sent, f.place, f.code, count(*) FILTER (WHERE NOT f.linked) OVER (PARTITION BY f.sent ORDER BY f.place)
				- CASE WHEN f.linked THEN 0 ELSE 1 END AS chain
			FROM public.fates AS f WHERE f.style = 'batch' AND f.answered
		) AS c
		GROUP BY c.sent, c.chain HAVING bool_or(c.code = 'ok') AND NOT bool_and(c.code = 'ok') LIMIT 20}),
		'', "$name: a chain is accepted as a whole or not at all");
	is(number(q{
		SELECT f.sent, f.id, f.code, f.resolved, f.reversed FROM public.fates AS f
		WHERE f.committed AND f.resolves_alone AND CASE f.code
			WHEN 'pending_posted' THEN f.resolved IS DISTINCT FROM 'posted'
			WHEN 'pending_voided' THEN f.resolved IS DISTINCT FROM 'voided'
			WHEN 'pending_expired' THEN coalesce(f.expires_at > f.at, true)
			WHEN 'already_reversed' THEN NOT f.reversed
			WHEN 'period_closed' THEN NOT EXISTS (SELECT FROM ringfence_data.ledger_periods AS p WHERE p.org_id = f.org AND p.closed_before > f.posted_at)
			ELSE f.code IS NULL OR f.code IN ('transfers_invalid', 'overflow')
		END LIMIT 20}),
		'', "$name: what refusals say is true");
	return;
}

my $lost = 0;
sub one_of_the_load
{
	for (1 .. 200)
	{
		my $pid = number(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'load' AND query LIKE '%perform%' AND state <> 'idle' ORDER BY random() LIMIT 1});
		return $pid if $pid ne '';
	}
	BAIL_OUT('nobody is posting: ' . slurp_file($node->basedir . '/load.log'));
}

sub wait_for_log
{
	my ($pattern, $times) = @_;
	for (1 .. 600)
	{
		my $log = slurp_file($node->logfile);
		return if (() = $log =~ /$pattern/g) >= $times;
		usleep(50_000);
	}
	BAIL_OUT("the server's log doesn't say: $pattern");
}

my @endings = (
	[ 'a backend is killed', sub {
		kill 'KILL', one_of_the_load();
		wait_for_log('reinitializing', ++$lost);
		$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
	} ],
	[ 'the server is stopped at once', sub {
		$node->stop('immediate');
		$node->start;
	} ],
	[ 'connections are closed', sub {
		number(q{SELECT count(pg_terminate_backend(a.pid, 10000)) FROM pg_stat_activity AS a WHERE a.application_name = 'load'});
	} ]);
for my $ending (@endings, $endings[0])
{
	my ($name, $code) = @$ending;
	my @load = begin_load();
	look(time + $seconds);
	if (!grep { $_->pumpable } @load)
	{
		fail("$name: the load goes on until then");
		last;
	}
	$code->();
	end_load(@load);
	check($name);
}
cmp_ok($looks, '>', 20, 'books were looked at meanwhile');
is(join("\n", @seen), '', 'and were right each time');
is(join("\n", grep { /(ERROR|PANIC): / } split /\n/, slurp_file($node->logfile)), '', 'no statement failed');

my %count = map { split /\|/ } split /\n/, number('SELECT f.code, count(*) FROM public.fates AS f WHERE f.answered GROUP BY f.code');
note(join ', ', map { "$_ $count{$_}" } sort { $count{$b} <=> $count{$a} } keys %count);
for my $code (qw(ok exists exists_different linked_failed overdraft period_closed pending_posted pending_voided pending_expired
	pending_exceeded pending_not_found already_reversed not_reversible transfer_not_found amount_invalid debit_account_not_found asset_mismatch))
{
	cmp_ok($count{$code} // 0, '>', 0, "there were some of $code");
}
cmp_ok(number('SELECT max(b.slot) FROM ringfence_data.ledger_balances AS b'), '>', 0, 'accounts have several balances');
cmp_ok(number(q{SELECT count(*) FROM ringfence_data.ledger_transfers AS t WHERE t.state = 'expired'}), '>', 0, 'holds have expired');
cmp_ok(number('SELECT count(*) FROM ringfence_data.ledger_closing_balances'), '>', 0, 'periods were closed');
cmp_ok(number('SELECT count(*) FROM ringfence_data.ledger_blocks'), '>', 0, 'transfers were sealed');

$node->stop;
diag("Repeat with RINGFENCE_SEED=$seed") unless Test::More->builder->is_passing;
done_testing();
