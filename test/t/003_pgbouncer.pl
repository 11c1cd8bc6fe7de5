# Behind PgBouncer in transaction mode, with one server connection for all:
# nothing of one tenant's transaction is there in the next one's, not its
# context, not its idempotency key, not through a statement that both prepared,
# not after an error.

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
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
install_demo($node, 'app');
$node->safe_psql('app', "
	SELECT ringfence.add_jwt_key('pool');
	CREATE ROLE regress_bi LOGIN IN ROLE ringfence_member;");
my %token = map { $_ => $node->safe_psql('app', "SELECT ringfence.jwt_sign('" . claims($_) . "')") } ALDER, BIRCH;

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/users.txt", qq("regress_web" ""\n"regress_bi" ""\n));
append_to_file(
	"$dir/pgbouncer.ini", "
[databases]
app = host=" . $node->host . " port=" . $node->port . " dbname=app
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = trust
auth_file = $dir/users.txt
pool_mode = transaction
default_pool_size = 1
logfile = $dir/pgbouncer.log
ignore_startup_parameters = extra_float_digits
");
my $noise = '';
my $bouncer = IPC::Run::start([ 'pgbouncer', '-q', "$dir/pgbouncer.ini" ], '<', \undef, '>&', \$noise);
my $pooled = "host=$dir port=$port dbname=app";
for (1 .. 300)
{
	last if -S "$dir/.s.PGSQL.$port";
	select(undef, undef, undef, 0.1);
}

my $alder = session("$pooled user=regress_web");
my $birch = session("$pooled user=regress_web");

sub as_tenant
{
	my ($session, $org, $sql) = @_;
	return ask($session, request(claims($org), $sql, 'ONLY'));
}

# The next one on the connection: no context, no claims, no role but its own.
sub nothing_left
{
	my ($session, $name) = @_;
	is( ask($session, "BEGIN;
			SELECT current_user = session_user, coalesce(current_setting('request.jwt.claims', true), '') = '';
			SET LOCAL ROLE ringfence_anon;
			SELECT ringfence.org_id() IS NULL, ringfence.user_id() IS NULL, ringfence.actor();
			COMMIT"),
		"t|t\nt|t|anonymous", $name);
	return;
}

my $backend = ask($alder, 'SELECT pg_backend_pid()');
is(ask($birch, 'SELECT pg_backend_pid()'), $backend, 'two clients share one server connection');

my $query = 'SELECT count(*) FILTER (WHERE org_id = ringfence.org_id()) > 0, count(DISTINCT org_id), min(org_id::text) FROM cleaning_v1.bookings';
for my $round (1 .. 3)
{
	is(as_tenant($alder, ALDER, $query), 't|1|' . ALDER, "round $round: the first tenant sees its own");
	is(as_tenant($birch, BIRCH, $query), 't|1|' . BIRCH, "round $round: the second tenant sees its own");
	nothing_left($alder, "round $round: between requests there is no context");
}

# A plan that one tenant made and cached serves the other, as a generic plan too.
ask($alder, 'SET plan_cache_mode = force_generic_plan');
ask($alder, "BEGIN; SET LOCAL ROLE ringfence_member; PREPARE mine AS $query; COMMIT");
is(as_tenant($alder, ALDER, "EXECUTE mine"), 't|1|' . ALDER, 'a prepared statement shows its maker its own');
is(as_tenant($birch, BIRCH, 'EXECUTE mine'), 't|1|' . BIRCH, 'and another tenant its own');
is(as_tenant($alder, ALDER, 'EXECUTE mine'), 't|1|' . ALDER, 'and its maker again');
like(ask($birch, request(undef, 'EXECUTE mine', 'ONLY')), qr/ERROR:  permission denied/, 'and nobody nothing');
ask($alder, 'DEALLOCATE mine');

# Requests that overlap: the second waits for the connection, then has its own context.
ask($alder, 'BEGIN');
ask($alder, "SELECT set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', '" . claims(ALDER) . "', true)");
is(ask($alder, 'SELECT ringfence.org_id()'), ALDER, 'a transaction is open');
$birch->{in} .= request(claims(BIRCH), 'SELECT ringfence.org_id()', 'ONLY') . "\n";
is(ask($alder, "SELECT ringfence.org_id();\nCOMMIT"), ALDER, 'which keeps its context to its end');
is(ask($birch, ''), BIRCH, 'while another waited for its turn');

# An error, a rollback and a savepoint leave nothing behind.
like(as_tenant($alder, ALDER, 'SELECT 1 / 0'), qr/division by zero/, 'a request fails');
nothing_left($birch, 'and takes its context and role along');
ask($alder, 'ROLLBACK');
like(as_tenant($alder, ALDER, "SAVEPOINT a;\nSELECT ringfence.org_id() \\g /dev/null\nROLLBACK TO a;\n"
		  . "SELECT set_config('request.jwt.claims', '" . claims(BIRCH) . "', true) \\g /dev/null\nSELECT ringfence.org_id()"),
	qr/claims|context/, 'other claims after a rollback to a savepoint are refused');
ask($alder, 'ROLLBACK');
nothing_left($birch, 'and leave no context');

# A token for one transaction ends with it.
is(ask($alder, "BEGIN;\nSET LOCAL ROLE ringfence_member;\nSELECT ringfence.sign_in('$token{+ALDER}') ->> 'org_id';\nCOMMIT"),
	ALDER, 'a client signs in for a transaction');
nothing_left($birch, 'and is signed out after it');

# A connection that tenants share takes no sign-in for the session.
like(ask($alder, "BEGIN;\nSET LOCAL ROLE ringfence_member;\nSELECT ringfence.sign_in('$token{+ALDER}', true);\nROLLBACK"),
	qr/ERROR:  cannot sign in the session of an authenticator/, 'nobody signs in for the session');
nothing_left($birch, 'and nobody is signed in');

# A key is one request's: the next one has none, however the first one ended, and
# shares nothing with it but under the same key and for the same tenant.
sub keyed
{
	my ($session, $org, $key, $sql) = @_;
	my $headers = $key eq '' ? '{}' : qq({"idempotency-key": "$key"});
	(my $request = request(claims($org), $sql)) =~ s/('request.headers', ')\{\}/$1$headers/;
	return ask($session, $request);
}

sub keys_and_clients
{
	return $node->safe_psql('app', q{
		SELECT (SELECT count(*) FROM ringfence_data.idempotency_keys), count(*) FROM cleaning.clients WHERE name = 'sent twice'});
}
my $write = "INSERT INTO cleaning_v1.clients (name) VALUES ('sent twice') RETURNING name, org_id";
my $no_key = "SELECT current_setting('ringfence.idempotency_key') = '' AND coalesce(current_setting('response.headers', true), '') = ''";
is(keyed($alder, ALDER, 'one', $write), 'sent twice|' . ALDER, 'a request with a key');
is(ask($birch, $no_key), 't', 'leaves none to the next');
is(keyed($birch, ALDER, 'one', $write), 'sent twice|' . ALDER, 'it is sent again by another client');
is(keys_and_clients(), '1|1', 'and has no other effect');
is(ask($alder, $no_key), 't', 'a replay leaves no key and no header');
is(keyed($birch, BIRCH, 'one', $write), 'sent twice|' . BIRCH, 'another tenant has the same key to itself');
is(keys_and_clients(), '2|2', 'and an effect of its own');
is(keyed($birch, ALDER, '', $write), 'sent twice|' . ALDER, 'a request without a key');
is(keys_and_clients(), '2|3', 'has its effect each time');
like(keyed($alder, ALDER, 'two', 'SELECT 1 / 0'), qr/division by zero/, 'a request with a key fails');
ask($alder, 'ROLLBACK');
is(ask($birch, $no_key), 't', 'and leaves no key');
is(keyed($birch, ALDER, '', $write), 'sent twice|' . ALDER, 'a request without a key comes next');
is(keyed($alder, ALDER, 'two', "SAVEPOINT s;\n$write"), 'sent twice|' . ALDER, 'a savepoint is as good');
is(keyed($birch, ALDER, '', $write), 'sent twice|' . ALDER, 'and none again');
is(keys_and_clients(), '3|6', 'which only who sent a key recorded');
like(ask($alder, $_), qr/ERROR:  parameter "ringfence.idempotency_key" cannot be set for a session/, "refused: $_")
  for "SET ringfence.idempotency_key = 'mine'", "SELECT set_config('ringfence.idempotency_key', 'mine', false)",
  "BEGIN; SET ringfence.idempotency_key = 'mine'; COMMIT";
is(ask($birch, $no_key), 't', 'so the next client has none');
like(ask($alder, "SET LOCAL ringfence.idempotency_key = 'mine'"), qr/ERROR:  SET LOCAL ringfence.idempotency_key can only be used in transaction blocks/,
	'a key is for a transaction');
is(keyed($birch, ALDER, '', $write), 'sent twice|' . ALDER, 'and no client is surprised by one');
is(keys_and_clients(), '3|7', 'or refused');

is(ask($birch, 'SELECT pg_backend_pid()'), $backend, 'all of it on one server connection');

finish($alder);
finish($birch);

# A login of one's own may: it lasts until DISCARD ALL, which a pool sends where
# it is told to with server_reset_query_always.
my $bi = session("$pooled user=regress_bi");
is(ask($bi, "SELECT ringfence.sign_in('$token{+BIRCH}', true) ->> 'org_id'"), BIRCH, 'a reporting tool signs in for its session');
is(ask($bi, $query), 't|1|' . BIRCH, 'and sees the rows of its organization in the next transaction');
is(ask($bi, "DISCARD ALL;\nSELECT ringfence.org_id() IS NULL;\nSELECT count(*) FROM cleaning_v1.bookings"), "t\n0", 'until DISCARD ALL');
finish($bi);

$bouncer->signal('TERM');
IPC::Run::finish($bouncer);
$node->stop;

done_testing();
