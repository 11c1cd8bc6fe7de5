# A dump, after one of the cluster's roles, restores into an empty cluster with
# every row, every policy and every guard, where nothing is done again that was
# done under a key; taken by a superuser or by a role that bypasses row security.
# Any other role is stopped instead of dumping a part.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $source = PostgreSQL::Test::Cluster->new('source');
$source->init;
$source->start;
$source->safe_psql('postgres', 'CREATE DATABASE app');
install_demo($source, 'app');
$source->safe_psql('app', q{
	CREATE ROLE regress_backup LOGIN BYPASSRLS IN ROLE pg_read_all_data;
	CREATE ROLE regress_reader LOGIN IN ROLE pg_read_all_data;
});
# What has been done under a key or an event's id.
my $once = "SET LOCAL ringfence.idempotency_key = 'sent';\nINSERT INTO cleaning_v1.clients (name) VALUES ('sent once') RETURNING id";
my $id = request_ok($source, 'app', claims(ALDER), $once);
my $event = "SELECT ringfence.webhook_once('stripe', 'evt_1', sha256('paid'))";
is($source->safe_psql('app', $event), 't', 'an event comes for the first time');
my $rows = fingerprint($source, 'app');
my $dir = $source->basedir;

# The schema as a dump states it, less what differs from run to run, and less
# parentheses, of which a restored expression has fewer.
sub dump_schema
{
	my ($node, $file) = @_;
	my ($out) = run_command([ 'pg_dump', '-s', '-d', $node->connstr('app') ]);
	$out =~ tr/()//d;
	append_to_file($file, join "\n", grep { !/^\\(un)?restrict |^-- Dumped / } split /\n/, $out);
	return;
}
dump_schema($source, "$dir/schema");

command_fails_like(
	[ 'pg_dump', '-Fc', '-f', "$dir/part.dump", '-d', $source->connstr('app') . ' user=regress_reader' ],
	qr/query would be affected by row-level security policy/,
	'a role under row security cannot dump');

my %dumps = (
	'custom, by a superuser' => [ '', '-Fc' ],
	'plain, by a superuser' => [ '', '-Fp' ],
	'custom, by a backup role' => [ ' user=regress_backup', '-Fc' ],
	'plain, by a backup role' => [ ' user=regress_backup', '-Fp' ]);
my $n = 0;
for my $name (sort keys %dumps)
{
	my ($user, $format) = @{ $dumps{$name} };
	my $file = "$dir/dump" . ++$n;
	command_ok([ 'pg_dumpall', '--roles-only', '--no-role-passwords', '-f', "$file.roles", '-d', $source->connstr('postgres') . $user ],
		"$name: dumps the roles");
	command_ok([ 'pg_dump', '--create', $format, '-f', $file, '-d', $source->connstr('app') . $user ], "$name: dumps");

	my $target = PostgreSQL::Test::Cluster->new("target$n");
	$target->init;
	$target->start;
	my $connstr = $target->connstr('postgres');
	# The superuser is there already.
	run_log([ 'psql', '-X', '-q', '-d', $connstr, '-f', "$file.roles" ]);
	if ($format eq '-Fc')
	{
		command_ok([ 'pg_restore', '--create', '--exit-on-error', '-j', '2', '-d', $connstr, $file ], "$name: restores");
	}
	else
	{
		command_ok([ 'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $connstr, '-f', $file ],
			"$name: restores");
	}
	is(fingerprint($target, 'app'), $rows, "$name: the same rows");
	dump_schema($target, "$file.schema");
	my ($differences) = run_command([ 'diff', "$dir/schema", "$file.schema" ]);
	is($differences, '', "$name: the same schema");
	verify_clean($target, 'app', $name);
	isolated($target, 'app', $name);
	is(request_ok($target, 'app', claims(ALDER), $once), $id, "$name: a key has the answer it had");
	isnt(request_ok($target, 'app', claims(BIRCH), $once), $id, "$name: for who sent it");
	is( $target->safe_psql('app', "SELECT count(*) FILTER (WHERE id = '$id'), count(*) FROM cleaning.clients WHERE name = 'sent once'"),
		'1|2', "$name: and no other effect");
	is($target->safe_psql('app', $event), 'f', "$name: an event is known");
	my ($rc, $out, $err) = $target->psql('app', 'CREATE TABLE cleaning.unprotected (id integer)');
	isnt($rc, 0, "$name: the guard stands");
	$target->stop;
}

done_testing();
