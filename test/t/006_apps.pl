# Apps are installed by the database's owner, who is no superuser, whole or not
# at all; upgraded by update scripts, rows kept; uninstalled only when empty or
# by force.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

# Scripts of a test's own apps go where the extension's lie.
chomp(my $sharedir = `pg_config --sharedir`);
my @placed;

sub place
{
	my ($name, $text) = @_;
	my $file = "$sharedir/extension/ringfence-$name.sql";
	open my $fh, '>', $file or die "could not write $file: $!";
	print $fh $text;
	close $fh;
	push @placed, $file;
	return;
}

END
{
	unlink @placed;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE regress_dba LOGIN; CREATE ROLE regress_other LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE app OWNER regress_dba');
$node->safe_psql('app', 'REVOKE TEMPORARY ON DATABASE app FROM PUBLIC; CREATE EXTENSION ringfence');
my @dba = (extra_params => [ '-U', 'regress_dba' ]);

sub refused
{
	my ($sql, $pattern, $name, %how) = @_;
	my ($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\n$sql", on_error_stop => 1, %how);
	isnt($rc, 0, "$name: refused");
	like($err, $pattern, "$name: says why");
	return;
}

refused("SELECT ringfence.install('cleaning')", qr/42501/, 'install() by another role',
	extra_params => [ '-U', 'regress_other' ]);
refused("SELECT ringfence.install('nonesuch')", qr/42704: app "nonesuch" does not exist/, 'an app that is not there', @dba);
refused("SELECT ringfence.install('../cleaning')", qr/42704: app .* does not exist/, 'a name with a path in it', @dba);

is( $node->safe_psql('app', "SELECT app, installed IS NULL, requires FROM ringfence.apps() WHERE app IN ('core', 'cleaning')", @dba),
	"cleaning|t|{core}\ncore|t|{}", 'apps() lists what can be installed');

$node->safe_psql('app', "SELECT ringfence.install('cleaning')", @dba);
is( $node->safe_psql('app', 'SELECT app, installed = available, schemas FROM ringfence.apps() WHERE installed IS NOT NULL', @dba),
	"cleaning|t|{cleaning,cleaning_v1}\ncore|t|{ringfence_data,ringfence_v1}",
	'the owner of the database installs an app, which brings the one it requires');
verify_clean($node, 'app', 'installed by the database owner');
is( $node->safe_psql('app', q{
		SELECT DISTINCT pg_get_userbyid(c.relowner) FROM pg_class AS c
			WHERE c.relnamespace::regnamespace::text IN ('ringfence_data', 'ringfence_v1', 'cleaning', 'cleaning_v1')}),
	'ringfence_owner', 'all of it belongs to ringfence_owner');
refused("SELECT ringfence.install('cleaning')", qr/42710: app "cleaning" is already installed/, 'an app that is installed', @dba);

# A script that fails in its last statement.
my $app = '-- app: regress_broken
-- requires: core
-- schemas: regress_broken

CREATE SCHEMA regress_broken;
CREATE TABLE regress_broken.notes (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	body text NOT NULL,
	PRIMARY KEY (org_id, id)
);
SELECT ringfence.protect(\'regress_broken.notes\', \'{"*": "all"}\');
';
place('regress_broken--1.0', $app . "SELECT 1 / 0;\n");
my $state = q{
	SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_policy),
		(SELECT count(*) FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'), (SELECT count(*) FROM ringfence_data.apps),
		(SELECT count(*) FROM ringfence_data.tables), (SELECT count(*) FROM pg_event_trigger)};
my $before = $node->safe_psql('app', $state);
refused("SELECT ringfence.install('regress_broken')", qr/22012: division by zero/, 'a script that fails', @dba);
is($node->safe_psql('app', $state), $before, 'and it leaves nothing');

# Nor can one do what ringfence_owner can't, or end the transaction.
for my $escape ('CREATE ROLE regress_escape SUPERUSER', 'RESET ROLE', 'SET SESSION AUTHORIZATION DEFAULT', 'COMMIT')
{
	place('regress_broken--1.0', $app . "$escape;\nCREATE TABLE regress_broken.more (id integer);\n");
	my ($rc) = $node->psql('app', "SELECT ringfence.install('regress_broken')", on_error_stop => 1, @dba);
	isnt($rc, 0, "$escape: refused in a script");
	is($node->safe_psql('app', $state), $before, "$escape: leaves nothing");
}

# Two versions, with rows in between.
$app =~ s/regress_broken/regress_notes/g;
place('regress_notes--1.0', $app);
$node->safe_psql('app', "SELECT ringfence.install('regress_notes')", @dba);
is($node->safe_psql('app', "SELECT ringfence.upgrade('regress_notes')", @dba), '1.0', 'upgrade() has nothing to do');
$node->safe_psql('app', "
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('" . ALDER . "', 'Alder');
	INSERT INTO regress_notes.notes (org_id, body) VALUES ('" . ALDER . "', 'kept');");

place('regress_notes--2.0', $app . "ALTER TABLE regress_notes.notes ADD COLUMN title text NOT NULL DEFAULT '';\n");
refused("SELECT ringfence.upgrade('regress_notes')", qr/55000: .*no update path/, 'an upgrade without an update script', @dba);
place('regress_notes--1.0--1.1', "ALTER TABLE regress_notes.notes ADD COLUMN title text;\n");
place('regress_notes--1.1--2.0', "UPDATE regress_notes.notes SET title = ''; SELECT 1 / 0;\n");
refused("SELECT ringfence.upgrade('regress_notes')", qr/22012: division by zero/, 'an upgrade whose second step fails', @dba);
is( $node->safe_psql('app', q{
		SELECT version FROM ringfence_data.apps WHERE app = 'regress_notes';
		SELECT count(*) FROM pg_attribute WHERE attrelid = 'regress_notes.notes'::regclass AND attname = 'title'}),
	"1.0\n0", 'and it leaves the version that was there');

place('regress_notes--1.1--2.0',
	"ALTER TABLE regress_notes.notes ALTER COLUMN title SET DEFAULT '';\n"
	  . "ALTER TABLE regress_notes.notes ALTER COLUMN title SET NOT NULL;\n");
place('regress_notes--1.0--1.1', "ALTER TABLE regress_notes.notes ADD COLUMN title text DEFAULT '';\n");
is($node->safe_psql('app', "SELECT ringfence.upgrade('regress_notes')", @dba), '2.0', 'upgrade() goes through every version in between');
is($node->safe_psql('app', 'SELECT body, title FROM regress_notes.notes'), 'kept|', 'rows stay');
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', "CREATE EXTENSION ringfence; SELECT ringfence.install('regress_notes')");
my $columns = q{
	SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(d.adbin, d.adrelid)
		FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = 'regress_notes.notes'::regclass AND a.attnum > 0 ORDER BY attname};
is($node->safe_psql('app', $columns), $node->safe_psql('fresh', $columns), 'upgraded and fresh are alike');
verify_clean($node, 'app', 'upgraded');

# Away with it.
refused("SELECT ringfence.uninstall('core')", qr/2BP01: app "core" is required by/, 'uninstall() of what others require', @dba);
refused("SELECT ringfence.uninstall('regress_notes')", qr/2BP01: app "regress_notes" has rows/, 'uninstall() of an app with rows', @dba);
is($node->safe_psql('app', 'SELECT count(*) FROM regress_notes.notes'), '1', 'its rows are there');
$node->safe_psql('app', "SELECT ringfence.uninstall('regress_notes', force => true)", @dba);
is($node->safe_psql('app', "SELECT to_regnamespace('regress_notes') IS NULL"), 't', 'uninstall() by force drops it all');
$node->safe_psql('app', "SELECT ringfence.uninstall('cleaning')", @dba);
is( $node->safe_psql('app', "SELECT count(*) FROM ringfence_data.tables WHERE relation::text LIKE 'cleaning%'"),
	'0', 'an empty app goes without force and leaves nothing in the register');
verify_clean($node, 'app', 'after uninstalling');
$node->safe_psql('app', "SELECT ringfence.install('cleaning')", @dba);
verify_clean($node, 'app', 'installed again');

# A schema that its owner could fill with other code is not taken.
$node->safe_psql('postgres', 'CREATE ROLE regress_planter LOGIN; CREATE DATABASE planted OWNER regress_planter');
$node->safe_psql('planted', 'CREATE SCHEMA ringfence AUTHORIZATION regress_planter');
my ($code, $out, $err) = $node->psql('planted', 'CREATE EXTENSION ringfence');
like($err, qr/schema "ringfence" exists and others than superusers may put objects into it/, 'a planted schema is refused');
$node->safe_psql('planted', 'DROP SCHEMA ringfence; CREATE SCHEMA ringfence; GRANT CREATE ON SCHEMA ringfence TO regress_planter');
($code, $out, $err) = $node->psql('planted', 'CREATE EXTENSION ringfence');
like($err, qr/schema "ringfence" exists and others/, 'and one that others may put objects into');
$node->safe_psql('planted', 'DROP SCHEMA ringfence; CREATE EXTENSION ringfence');

$node->stop;
done_testing();
