# A crash in the middle of anything leaves nothing half done, and an operator's
# entry into an organization stays on record though its transaction is lost.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
install_demo($node, 'app');
$node->safe_psql('app', 'CREATE ROLE regress_operator LOGIN IN ROLE ringfence_operator');
my $rows = fingerprint($node, 'app');

# A tenant's request, killed before its commit.
my $tenant = session($node->connstr('app') . ' user=regress_web');
my $pid = ask($tenant, 'SELECT pg_backend_pid()');
(my $open = request(claims(ALDER), "INSERT INTO cleaning_v1.clients (name) SELECT 'half ' || g FROM generate_series(1, 5000) AS g")) =~ s/COMMIT;//;
ask($tenant, $open);
is(ask($tenant, "SELECT count(*) FROM cleaning_v1.clients WHERE name LIKE 'half %'"), '5000', 'a request has written');
kill 'KILL', $pid;
finish($tenant);
# The postmaster has to notice first.
for (1 .. 300)
{
	last if slurp_file($node->logfile) =~ /reinitializing/;
	select(undef, undef, undef, 0.1);
}
$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
is(fingerprint($node, 'app'), $rows, 'its backend is killed: nothing of it is there');
verify_clean($node, 'app', 'after a killed backend');
isolated($node, 'app', 'after a killed backend');

# An operator's, stopped with the server.
my $operator = session($node->connstr('app') . ' user=regress_operator');
my $entry = ask($operator, "BEGIN;\nSELECT ringfence.enter_org('" . ALDER . "', 'ticket 17')");
like($entry, qr/^[0-9a-f-]{36}$/, 'an operator enters an organization');
is(ask($operator, 'SELECT count(*) > 0, min(org_id::text) = max(org_id::text) FROM cleaning.bookings'), 't|t', 'and sees its rows');
$node->stop('immediate');
finish($operator);
$node->start;
is( $node->safe_psql('app', "SELECT org_id, reason, started_at IS NOT NULL, ended_at IS NULL FROM ringfence_data.org_entries WHERE id = '$entry'"),
	ALDER . '|ticket 17|t|t',
	'the server is stopped at once: the entry is on record, without an end');

# One whose transaction rolls back.
$entry = $node->safe_psql('app', "BEGIN;\nSELECT ringfence.enter_org('" . BIRCH . "', 'ticket 18');\nROLLBACK",
	extra_params => [ '-U', 'regress_operator' ]);
is( $node->safe_psql('app', "SELECT org_id, ended_at >= started_at FROM ringfence_data.org_entries WHERE id = '$entry'"),
	BIRCH . '|t', 'an entry that was rolled back is on record with its end');

# Installing and protecting, stopped before the commit.
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('postgres', 'REVOKE TEMPORARY ON DATABASE fresh FROM PUBLIC');
$node->safe_psql('fresh', 'CREATE EXTENSION ringfence');
my $dba = session($node->connstr('fresh'));
ask($dba, "BEGIN;\nSELECT ringfence.install('cleaning') \\g /dev/null\n");
is(ask($dba, "SELECT to_regclass('cleaning.bookings') IS NOT NULL"), 't', 'an app is being installed');
$node->stop('immediate');
finish($dba);
$node->start;
is( $node->safe_psql('fresh', q{SELECT count(*) FROM pg_namespace WHERE nspname ~ '^(cleaning|ringfence_)'}),
	'0', 'the server is stopped at once: nothing of the app is there');
is( $node->safe_psql('fresh', q{SELECT ringfence.install('cleaning') IS NULL; SELECT count(*) FROM ringfence.apps() WHERE app IN ('core', 'cleaning')}) =~ /2$/ ? 'installed' : 'not',
	'installed', 'and it installs afresh');
verify_clean($node, 'fresh', 'installed after a crash');

$node->stop;
done_testing();
