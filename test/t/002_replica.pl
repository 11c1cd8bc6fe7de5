# On a streaming replica a tenant reads its own rows, and whatever writes fails
# as a write, not as something else. Once it is promoted, it knows the keys of what
# was done.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE app');
install_demo($primary, 'app');
$primary->safe_psql('app', q{
	SELECT ringfence.add_jwt_key('replica');
	CREATE ROLE regress_operator LOGIN IN ROLE ringfence_operator;
});
my $token = $primary->safe_psql('app', "SELECT ringfence.jwt_sign('" . claims(ALDER) . "')");

$primary->backup('base');
my $replica = PostgreSQL::Test::Cluster->new('replica');
$replica->init_from_backup($primary, 'base', has_streaming => 1);
$replica->start;
$primary->wait_for_catchup($replica, 'replay', $primary->lsn('flush'));

isolated_reads($replica, 'replica');
is(fingerprint($replica, 'app'), fingerprint($primary, 'app'), 'the replica has the same rows');
verify_clean($replica, 'app', 'replica');

is( request_ok($replica, 'app', undef, "SELECT ringfence.sign_in('$token') \\g /dev/null\n"
		  . 'SELECT ringfence.org_id()', 'ONLY'),
	ALDER, 'sign_in() works on the replica');

# PostgREST would begin READ WRITE, which a replica refuses.
request_fails($replica, 'app', claims(ALDER), "INSERT INTO cleaning_v1.clients (name) VALUES ('late')",
	qr/cannot set transaction read-write mode during recovery/, 'a writing request');
request_fails($replica, 'app', claims(ALDER), "INSERT INTO cleaning_v1.clients (name) VALUES ('late')",
	qr/25006: cannot execute INSERT in a read-only transaction/, 'a write in a reading request', 'ONLY');

my ($rc, $out, $err) = $replica->psql('app',
	"\\set VERBOSITY verbose\nSELECT ringfence.enter_org('" . ALDER . "', 'look');",
	extra_params => [ '-U', 'regress_operator' ], on_error_stop => 1);
isnt($rc, 0, 'an operator cannot enter an organization where the entry cannot be recorded');
like($err, qr/25006/, 'and learns that this is a replica');

# What happens on the primary arrives: a member who is removed is out.
$primary->safe_psql('app', "DELETE FROM ringfence_data.memberships WHERE user_id = '" . OWNER_OF->{ +ALDER } . "'");
$primary->wait_for_catchup($replica, 'replay', $primary->lsn('flush'));
is( request_ok($replica, 'app', claims(ALDER), 'SELECT count(*) FROM cleaning_v1.bookings', 'ONLY'),
	'0', 'a member removed on the primary sees nothing on the replica');

# What was done under a key, and its answer, arrive as well: where the replica takes
# over from a primary that is lost, nothing is done again.
my $once = "SET LOCAL ringfence.idempotency_key = 'sent';\nINSERT INTO cleaning_v1.clients (name) VALUES ('sent once') RETURNING id";
my $id = request_ok($primary, 'app', claims(BIRCH), $once);
$primary->wait_for_catchup($replica, 'replay', $primary->lsn('flush'));
request_fails($replica, 'app', claims(BIRCH), $once,
	qr/25006: cannot execute INSERT in a read-only transaction/, 'sent again to the replica', 'ONLY');
request_fails($replica, 'app', claims(BIRCH), "SELECT ringfence.idempotent('call', 'pg_catalog.now()')",
	qr/25006: cannot execute ringfence.idempotent\(\) in a read-only transaction/, 'idempotent() on the replica', 'ONLY');
$primary->stop('immediate');
$replica->promote;
is(request_ok($replica, 'app', claims(BIRCH), $once), $id, 'sent again after its promotion, it is answered as before');
is($replica->safe_psql('app', "SELECT count(*) FROM cleaning.clients WHERE name = 'sent once'"), '1', 'and has no other effect');

sub isolated_reads
{
	my ($node, $name) = @_;
	for my $org (ALDER, BIRCH)
	{
		is( request_ok($node, 'app', claims($org),
				"SELECT count(*) > 0, bool_and(org_id = '$org') FROM cleaning_v1.bookings", 'ONLY'),
			't|t', "$name: $org sees its own bookings");
	}
	request_fails($node, 'app', undef, 'SELECT count(*) FROM cleaning_v1.bookings',
		qr/42501: permission denied/, "$name: nobody", 'ONLY');
	return;
}

done_testing();
