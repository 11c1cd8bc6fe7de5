# Seventy clients that add to the same account at the same time, and some of whom roll
# back, don't get into each other's way: nothing fails, and no posting waits for
# another's transaction as long as there are balances to go to. Every account keeps
# the balance that limits are looked at in.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $org = '0aaaaaaa-0000-7000-8000-000000000001';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
max_connections = 120
deadlock_timeout = '200ms'
});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app; REVOKE TEMPORARY ON DATABASE app FROM PUBLIC');
$node->safe_psql('app', qq{
	SET client_min_messages = error;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	ALTER DATABASE app SET session_preload_libraries = 'ringfence';
	ALTER DATABASE app SET log_statement = none;
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org', 'hot');
	INSERT INTO ringfence_data.ledger_assets (org_id, code, name, scale) VALUES ('$org', 'EUR', 'euro', 2);
	INSERT INTO ringfence_data.ledger_accounts (org_id, id, code, name, asset, kind, no_overdraft)
	SELECT '$org', ('0acc0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'account ' || n, 'hot', 'EUR',
		CASE WHEN n = 0 THEN 'asset' ELSE 'liability' END, n > 0
	FROM generate_series(0, 40) AS n;

	-- Everybody adds to the account of the moment, for a time of no length in
	-- particular; a few take from it, which has to wait for who else does.
	CREATE FUNCTION public.post(n integer, takes boolean) RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE
		hot CONSTANT uuid := ('0acc0000-0000-7000-8000-' || lpad((1 + n % 40)::text, 12, '0'))::uuid;
		bank CONSTANT uuid := '0acc0000-0000-7000-8000-000000000000';
	BEGIN
		PERFORM ringfence.set_context('$org', NULL, ARRAY['accountant']);
		RETURN (SELECT r.code FROM ringfence.transfers(ARRAY[
			ROW(NULL, CASE WHEN takes THEN hot ELSE bank END, CASE WHEN takes THEN bank ELSE hot END, 1, 'EUR', 'test',
				NULL, NULL, NULL, NULL, NULL, NULL, false)::ringfence.transfer]) AS r);
	END
	\$\$;
});

# A new account each 150 ms, since the first moments of one are the ones that count.
append_to_file($node->basedir . '/hot.sql', q{
\set fate random(1, 100)
\set pause random(0, 3000)
\set takes random(1, 20) = 1
SELECT (extract(epoch FROM clock_timestamp()) / 0.15)::bigint % 40 AS n \gset
BEGIN;
SELECT public.post(:n, :takes);
\sleep :pause us
\if :fate <= 30
ROLLBACK;
\else
COMMIT;
\endif
});
my ($out, $err) = run_command([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', '70', '-j', '2', '-T', '6',
		'-f', $node->basedir . '/hot.sql', 'dbname=app' ]);
like($out, qr/number of failed transactions: 0 /, 'seventy clients post for six seconds');
unlike($err, qr/error|aborted/i, 'and all of them to the end');
is(join("\n", grep { /(ERROR|PANIC): / } split /\n/, slurp_file($node->logfile)), '', 'no statement failed');

sub number
{
	my ($sql) = @_;
	return $node->safe_psql('app', $sql);
}
is(number(q{
	SELECT k.account_id, k.debits, k.credits, m.debits, m.credits
	FROM (SELECT b.account_id, sum(b.debits) AS debits, sum(b.credits) AS credits FROM ringfence_data.ledger_balances AS b GROUP BY b.account_id) AS k
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(t.amount) FILTER (WHERE t.debit_account_id = k.account_id), 0) AS debits,
			coalesce(sum(t.amount) FILTER (WHERE t.credit_account_id = k.account_id), 0) AS credits
		FROM ringfence_data.ledger_transfers AS t WHERE k.account_id IN (t.debit_account_id, t.credit_account_id)
	) AS m
	WHERE (k.debits, k.credits) <> (m.debits, m.credits)}),
	'', 'balances are what was posted');
is(number('SELECT count(*), count(*) FILTER (WHERE slot = 0) FROM (SELECT DISTINCT b.account_id, b.slot FROM ringfence_data.ledger_balances AS b) AS b')
	=~ /^\d+\|41$/ ? 'all' : 'some', 'all', 'every account has its first balance');
is(number('SELECT count(*) FROM ringfence_data.ledger_balances AS b WHERE b.slot < 0 OR b.slot > 63'), '0', 'and no more than there may be');
is(number('SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v'), '', 'ledger_verify() finds nothing');
my ($slots, $posted) = split /\|/, number('SELECT (SELECT count(*) FROM ringfence_data.ledger_balances), (SELECT count(*) FROM ringfence_data.ledger_transfers)');
cmp_ok($slots, '>', 200, 'accounts have many balances');
cmp_ok($posted, '>', 2000, 'thousands were posted');
note("$posted transfers, $slots balances");

$node->stop;
done_testing();
