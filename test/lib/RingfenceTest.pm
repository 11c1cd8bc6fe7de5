package RingfenceTest;

# What the TAP tests share: nodes with ringfence, its apps and demo data in a
# database, requests as PostgREST makes them, and the state of all rows.

use strict;
use warnings;
use Exporter 'import';
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

our @EXPORT = qw(
  ALDER BIRCH OWNER_OF install_demo claims request request_ok request_fails
  fingerprint verify_clean isolated session ask finish kill_server start_again
);

# Organizations of the demo data and the users who own them.
use constant ALDER => '0d9f6c1e-0000-7000-8000-00000000000a';
use constant BIRCH => '0d9f6c1e-0000-7000-8000-00000000000b';
use constant OWNER_OF => {
	ALDER, '0d9f6c1e-0001-7000-8000-0000a0000001',
	BIRCH, '0d9f6c1e-0001-7000-8000-0000b0000001',
};

my $top = "$FindBin::Bin/../..";

# Extension, apps and demo data in a database, and a login role for requests.
sub install_demo
{
	my ($node, $db) = @_;
	$node->safe_psql($db, qq{
		REVOKE TEMPORARY ON DATABASE $db FROM PUBLIC;
		CREATE EXTENSION ringfence;
		SELECT ringfence.install('cleaning');
	});
	$node->command_ok(
		[ 'psql', '-X', '-q', '-d', $node->connstr($db), '-f', "$top/apps/cleaning/demo.sql" ],
		"demo data loads into $db");
	$node->safe_psql($db, q{
		DO $$
		BEGIN
			IF to_regrole('regress_web') IS NULL THEN
				CREATE ROLE regress_web LOGIN NOINHERIT;
			END IF;
			GRANT ringfence_authenticator TO regress_web;
		END
		$$;
	});
	return;
}

sub claims
{
	my ($org, $user) = @_;
	$user //= OWNER_OF->{$org};
	return qq({"org_id": "$org", "role": "ringfence_member", "sub": "$user"});
}

# The statements of one request; no claims are a request without a token.
sub request
{
	my ($claims, $sql, $mode) = @_;
	$mode //= 'WRITE';
	my $role = defined $claims ? 'ringfence_member' : 'ringfence_anon';
	$claims //= qq({"role": "ringfence_anon"});
	return qq{
		BEGIN ISOLATION LEVEL READ COMMITTED READ $mode;
		SELECT set_config('search_path', '"cleaning_v1", "public"', true), set_config('role', '$role', true),
			set_config('request.jwt.claims', '$claims', true), set_config('request.method', 'POST', true),
			set_config('request.path', '/', true), set_config('request.headers', '{}', true),
			set_config('request.cookies', '{}', true) \\g /dev/null
		SELECT ringfence.pre_request() \\g /dev/null
		$sql;
		COMMIT;
	};
}

# What a request prints; dies if it fails.
sub request_ok
{
	my ($node, $db, $claims, $sql, $mode) = @_;
	return $node->safe_psql($db, request($claims, $sql, $mode), extra_params => [ '-U', 'regress_web' ]);
}

# Passes if a request fails with an SQLSTATE and a message.
sub request_fails
{
	my ($node, $db, $claims, $sql, $pattern, $name, $mode) = @_;
	my ($rc, $out, $err) = $node->psql(
		$db, "\\set VERBOSITY verbose\n" . request($claims, $sql, $mode),
		extra_params => [ '-U', 'regress_web' ],
		on_error_stop => 1);
	isnt($rc, 0, "$name: fails");
	like($err, $pattern, "$name: says why");
	return;
}

# One line for each table of the apps: its name, its number of rows, and a hash
# of them all. Read by a superuser.
sub fingerprint
{
	my ($node, $db) = @_;
	my $sql = $node->safe_psql($db, q{
		SELECT string_agg(format(
				'SELECT %L, count(*), md5(coalesce(string_agg(t::text, E''\n'' ORDER BY t::text COLLATE "C"), '''')) FROM %s AS t',
				c.oid::regclass, c.oid::regclass), ' UNION ALL ' ORDER BY c.oid::regclass::text COLLATE "C")
			FROM pg_class AS c
				JOIN pg_namespace AS n ON n.oid = c.relnamespace
			WHERE n.nspname IN (SELECT unnest(schemas) FROM ringfence_data.apps)
				AND c.relkind IN ('r', 'p')});
	return $node->safe_psql($db, "$sql ORDER BY 1");
}

# But for the server's own version, which is the machine's affair.
sub verify_clean
{
	my ($node, $db, $name) = @_;
	is($node->safe_psql($db, q{SELECT severity, code, object, message FROM ringfence.verify() WHERE code <> 'server_too_old'}),
		'', "$name: verify() finds nothing");
	return;
}

# Each organization sees its own rows and nobody else's, and can't write theirs.
sub isolated
{
	my ($node, $db, $name) = @_;
	for my $org (ALDER, BIRCH)
	{
		is( request_ok($node, $db, claims($org),
				"SELECT count(*) > 0, bool_and(org_id = '$org') FROM cleaning_v1.bookings", 'ONLY'),
			't|t',
			"$name: $org sees its own bookings");
	}
	request_fails(
		$node, $db, claims(ALDER),
		"INSERT INTO cleaning_v1.clients (org_id, name) VALUES ('" . BIRCH . "', 'planted')",
		qr/42501: new row violates row-level security policy/,
		"$name: a row for another organization");
	request_fails(
		$node, $db, undef, 'SELECT count(*) FROM cleaning_v1.bookings',
		qr/42501: permission denied/, "$name: nobody", 'ONLY');
	my $outsider = $node->safe_psql($db, 'SELECT ringfence.uuid7()');
	is( request_ok($node, $db, claims(ALDER, $outsider), 'SELECT count(*) FROM cleaning_v1.bookings', 'ONLY'),
		'0', "$name: a user who is no member sees no booking");
	return;
}

# A psql that stays open; ask() sends statements and returns what they print,
# errors included.
sub session
{
	my ($connstr) = @_;
	my $session = { in => '', out => '', asked => 0 };
	$session->{timer} = IPC::Run::timeout(180);
	$session->{psql} = IPC::Run::start(
		[ 'psql', '-X', '-A', '-t', '-q', '-d', $connstr, '-f', '-' ],
		'<', \$session->{in}, '>', \$session->{out}, '2>&1', $session->{timer});
	return $session;
}

sub ask
{
	my ($session, $sql) = @_;
	my $mark = 'answered ' . ++$session->{asked};
	$session->{out} = '';
	$session->{in} .= "$sql\n;\n\\echo $mark\n";
	IPC::Run::pump($session->{psql}) until $session->{out} =~ /^$mark$/m;
	$session->{out} =~ s/^$mark\n//m;
	chomp $session->{out};
	return $session->{out};
}

sub finish
{
	my ($session) = @_;
	$session->{in} .= "\\q\n";
	eval { IPC::Run::finish($session->{psql}); };
	return;
}

# Kills the postmaster. Its children notice soon, and hold on to shared memory
# until then.
sub kill_server
{
	my ($node) = @_;
	my $pid = $node->{_pid};
	$node->kill9;
	for (1 .. 600)
	{
		last unless kill 0, $pid;
		usleep(100_000);
	}
	return;
}

sub start_again
{
	my ($node) = @_;
	for (1 .. 300)
	{
		return if $node->start(fail_ok => 1);
		usleep(100_000);
	}
	BAIL_OUT('the server did not come back');
}

1;
