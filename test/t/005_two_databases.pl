# Two databases of a cluster have ringfence each and share its roles. DROP
# EXTENSION in one leaves the other and the roles, drops no row, and leaves
# tables that deny everybody.

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
for my $db (qw(one two))
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	install_demo($node, $db);
	verify_clean($node, $db, $db);
	isolated($node, $db, $db);
}

my $roles = q{SELECT string_agg(rolname || rolcanlogin || rolsuper || rolbypassrls, ',' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'ringfence%'};
my $before = $node->safe_psql('one', $roles);
my $counts = q{
	SELECT string_agg(format('SELECT %L, count(*) FROM %s', c.oid::regclass, c.oid::regclass), ' UNION ALL ' ORDER BY c.oid::regclass::text)
		FROM pg_class AS c
		WHERE c.relnamespace::regnamespace::text IN ('ringfence_data', 'cleaning') AND c.relkind IN ('r', 'p')};
my $count_rows = $node->safe_psql('one', $counts);
my $rows = $node->safe_psql('one', $count_rows);
like($rows, qr/cleaning\.bookings\|[1-9]/, 'there are rows to lose');

my ($rc, $out, $err) = $node->psql('one', 'DROP EXTENSION ringfence');
isnt($rc, 0, 'DROP EXTENSION is refused while tables depend on it');
like($err, qr/cannot drop extension ringfence because other objects depend on it/, 'and says so');

$node->safe_psql('one', 'SET client_min_messages = error; DROP EXTENSION ringfence CASCADE');
is($node->safe_psql('one', $count_rows), $rows, 'DROP EXTENSION CASCADE drops no row');
is($node->safe_psql('one', $roles), $before, 'and no role');
is( $node->safe_psql('one', q{
		SELECT string_agg(c.oid::regclass::text, ',')
			FROM pg_class AS c
			WHERE c.relnamespace::regnamespace::text = 'cleaning' AND c.relkind = 'r'
				AND NOT (c.relrowsecurity AND c.relforcerowsecurity)}),
	'', 'row security stays enabled and forced on every table');

# Each table, as each role that a request could become: no row, no write.
my @tables = split /\n/, $node->safe_psql('one', q{
	SELECT c.oid::regclass FROM pg_class AS c
		WHERE c.relnamespace::regnamespace::text IN ('cleaning', 'ringfence_data') AND c.relkind = 'r' ORDER BY 1});
for my $role (qw(ringfence_anon ringfence_member ringfence_operator ringfence_owner))
{
	my @seen;
	for my $table (@tables)
	{
		my ($code, $count) = $node->psql('one', "SET ROLE $role; SELECT count(*) FROM $table");
		push @seen, "$table: $count" if $code == 0 && $count ne '0';
	}
	is("@seen", '', "$role sees no row of any table");
}

verify_clean($node, 'two', 'the other database');
isolated($node, 'two', 'the other database');

# The extension comes back to what it left.
$node->safe_psql('one', 'CREATE EXTENSION ringfence');
is($node->safe_psql('one', $count_rows), $rows, 'a new CREATE EXTENSION finds the rows');

# A role of one of our names that could do more is not adopted.
$node->safe_psql('postgres', 'DROP DATABASE one');
$node->safe_psql('postgres', 'CREATE DATABASE three; ALTER ROLE ringfence_member BYPASSRLS');
($rc, $out, $err) = $node->psql('three', 'CREATE EXTENSION ringfence');
isnt($rc, 0, 'CREATE EXTENSION refuses a role with more rights than ours have');
like($err, qr/role "ringfence_member" exists with rights that it may not have/, 'and names it');

$node->stop;
done_testing();
