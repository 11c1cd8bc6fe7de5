# COPY, out of and into every table and view of the apps, as every role of an
# organization, as nobody and as the platform's roles: not one row of another
# organization comes out or goes in. The relations come from the catalog, the
# keys of the demo data tell whose row it is.

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
$node->safe_psql('app', q{
	SELECT ringfence.add_jwt_key('copy');
	CREATE ROLE regress_operator LOGIN IN ROLE ringfence_operator;
	CREATE ROLE regress_jobless LOGIN;
});

my @relations = map { { name => (split /\|/)[0], system => (split /\|/)[1] eq 't' } } split /\n/, $node->safe_psql('app', q{
	SELECT c.oid::regclass, coalesce(t.row_class = 'system', false)
		FROM pg_class AS c
			JOIN pg_namespace AS n ON n.oid = c.relnamespace
			LEFT JOIN ringfence_data.tables AS t ON t.relation = c.oid
		WHERE n.nspname IN (SELECT unnest(schemas) FROM ringfence_data.apps)
			AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
		ORDER BY 1});
cmp_ok(scalar(@relations), '>=', 25, 'there are tables and views to try');

# A row of another organization for each relation, under a new key.
my $dir = $node->basedir;
my $rows = 0;
for my $relation (@relations)
{
	$relation->{file} = "$dir/" . $relation->{name} =~ s/\W/_/gr . '.tsv';
	my $select = $node->safe_psql('app', qq{
		SELECT string_agg(CASE WHEN a.attname = 'id' THEN 'ringfence.uuid7()' ELSE quote_ident(a.attname) END, ', ' ORDER BY a.attnum)
			FROM pg_attribute AS a WHERE a.attrelid = '$relation->{name}'::regclass AND a.attnum > 0 AND NOT a.attisdropped});
	my $where = $node->safe_psql('app', qq{
		SELECT count(*) FROM pg_attribute WHERE attrelid = '$relation->{name}'::regclass AND attname = 'org_id'})
	  ? "WHERE org_id = '" . BIRCH . "'" : '';
	my $row = $node->safe_psql('app', "COPY (SELECT $select FROM $relation->{name} $where LIMIT 1) TO STDOUT");
	$rows++ if $row ne '';
	append_to_file($relation->{file}, $row eq '' ? '' : "$row\n");
}
cmp_ok($rows, '>=', 20, 'and rows to plant');

my $foreign = qr/0d9f6c1e-[0-9a-f]{4}-7000-8000-(?:0000[bc]|00000000000[bc])|birch-services|cedar-home-care/;
my $anyones = qr/0d9f6c1e-|\.example/;
my $tenants = qr/0d9f6c1e-(?!000[01]-)/;

# name => [login, statements that make the caller, what no row may hold]
my %callers = (
	'nobody' => [ 'regress_web', "SET LOCAL ROLE ringfence_anon;", $anyones ],
	'a member without claims' => [ 'regress_web', "SET LOCAL ROLE ringfence_member;", $anyones ],
	'the login role' => [ 'regress_web', '', $anyones ],
	'a role of no kind, with claims' => [ 'regress_jobless', "SELECT set_config('request.jwt.claims', '" . claims(ALDER) . "', true) \\g /dev/null", $anyones ],
	'the owner of the tables, without a context' => [ undef, "SET LOCAL ROLE ringfence_owner;", $tenants ],
	'an operator in one organization' => [ 'regress_operator', "SELECT ringfence.enter_org('" . ALDER . "', 'copy') \\g /dev/null", $foreign ],
	'an operator in none' => [ 'regress_operator', '', $anyones ]);
my $n = 0;
for my $role (qw(owner admin dispatcher finance worker client))
{
	my $user = sprintf '0d9f6c1e-0001-7000-8000-0000a%07x', ++$n;
	$callers{"the $role of another organization"} = [
		'regress_web', "SELECT set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', '"
		  . claims(ALDER, $user) . "', true) \\g /dev/null", $foreign ];
}
# A member of one organization whose token names another: it is still the user,
# who sees the own name and memberships.
$callers{'an owner with the claims of another organization'} = [
	'regress_web', "SELECT set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', '"
	  . claims(BIRCH, OWNER_OF->{ +ALDER }) . "', true) \\g /dev/null", qr/$foreign|$tenants/ ];

# What happens to a table beside its rows, entries of operators included, is in the
# audit log, which is let be.
sub rows
{
	return join "\n", grep { !/^ringfence_data\.audit_/ } split /\n/, fingerprint($node, 'app');
}
my $before = rows();
my ($attempts, $served, @leaks) = (0, 0);
for my $name (sort keys %callers)
{
	my ($login, $become, $leak) = @{ $callers{$name} };
	my @tries;
	for my $relation (@relations)
	{
		my $rel = $relation->{name};
		push @tries, map { { relation => $relation, sql => $_ } }
		  "COPY $rel TO STDOUT;", "COPY (SELECT * FROM $rel) TO STDOUT;", "COPY (TABLE $rel) TO STDOUT (FORMAT csv);";
		push @tries, { relation => $relation, sql => "\\copy $rel from '$relation->{file}'", writes => 1 } if -s $relation->{file};
	}
	my $script = '';
	$script .= "\\echo ## $_\nBEGIN;\n$become\n$tries[$_]{sql}\nCOMMIT;\n" for 0 .. $#tries;
	my $out = '';
	my $connstr = $node->connstr('app') . (defined $login ? " user=$login" : '');
	IPC::Run::run([ 'psql', '-X', '-A', '-t', '-d', $connstr, '-f', '-' ], '<', \$script, '>', \$out, '2>&1');
	my @answers = $out =~ /^## \d+\n(.*?)(?=^## |\z)/gms;
	is(scalar(@answers), scalar(@tries), "$name: every attempt was answered");
	for my $i (0 .. $#tries)
	{
		my ($try, $answer) = ($tries[$i], $answers[$i] // '');
		my @lines = grep { !/^(BEGIN|COMMIT|ROLLBACK|SET|DETAIL: |HINT: )/ } split /\n/, $answer;
		my $refused = grep { /^psql:|ERROR:/ } @lines;
		my @data = grep { !/^psql:|ERROR:|^LINE \d+: |^ +\^$|^CONTEXT: |^COPY \d+$/ } @lines;
		$attempts++;
		$served++ if @data;
		if ($try->{writes})
		{
			push @leaks, "$name: $try->{sql}" if !$refused && $answer =~ /^COPY [1-9]/m;
		}
		elsif (grep { $_ =~ $leak } @data or $try->{relation}{system} && @data && $name !~ /owner of the tables/)
		{
			push @leaks, "$name: $try->{sql} gave " . (grep { $_ =~ $leak } @data, @data)[0];
		}
	}
}
$node->safe_psql('app', 'DELETE FROM ringfence_data.org_entries');
is(rows(), $before, 'no row came or went');
cmp_ok($served, '>', 50, 'callers do get their own rows');
note($_) for @leaks;
diag("COPY: $attempts attempts, " . @leaks . " leaks");
is(scalar(@leaks), 0, 'no leak');

$node->stop;
done_testing();
