# Who was erased comes back with a dump of before, and is erased again from the list
# that was kept outside; a dump of after has it done. What is declared about
# subjects, and who consented, is restored with the rest.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $ann = '0d9f6c1e-0002-7000-8000-0000a0000001';
my $bea = '0d9f6c1e-0002-7000-8000-0000a0000002';
my $nil = '00000000-0000-0000-0000-000000000000';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "ringfence.audit_key_file = 'audit_key.pem'\n");
append_to_file($node->data_dir . '/audit_key.pem',
	"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n");
chmod 0600, $node->data_dir . '/audit_key.pem';
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
install_demo($node, 'app');

# Names that the demo has, and what else is known of the two.
my ($ann_name, $bea_name) =
  split /\n/, $node->safe_psql('app', "SELECT name FROM cleaning.clients WHERE id IN ('$ann', '$bea') ORDER BY id");
$node->safe_psql('app', q{
	INSERT INTO ringfence_data.users (id, email, name) VALUES ('aaaaaaaa-0000-4000-8000-0000000000aa', 'leaver@private.test', 'Lea Ver');
	INSERT INTO ringfence_data.memberships (org_id, user_id, roles, invited_as)
	SELECT o.id, 'aaaaaaaa-0000-4000-8000-0000000000aa', '{dispatcher}', 'leaver@private.test' FROM ringfence_data.orgs AS o;
});
request_ok($node, 'app', claims(ALDER), "SELECT ringfence_v1.give_consent('client', '$ann', 'marketing', 'v1', '{\"form\": \"signup of $ann_name\"}')");
$node->safe_psql('app', 'SELECT ringfence.audit_seal()');

# How much of these words there is in a database, the audit log's records included.
sub known
{
	my ($db, @words) = @_;
	my $pattern = join '|', map { quotemeta } @words;
	return $node->safe_psql($db, qq{
		SELECT (SELECT count(*) FROM cleaning.clients AS c WHERE c.name ~ '$pattern')
			+ (SELECT count(*) FROM ringfence_data.users AS u WHERE concat(u.name, u.email) ~ '$pattern')
			+ (SELECT count(*) FROM ringfence_data.consents AS c WHERE c.evidence::text ~ '$pattern')
			+ (SELECT count(*) FROM ringfence_data.audit_log AS l WHERE concat(l.old, l.new, l.personal) ~ '$pattern')});
}

sub dump_to
{
	my ($file, $name) = @_;
	command_ok([ 'pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('app') ], "$name: dumps");
	return;
}

sub restore_as
{
	my ($db, $file, $name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, "REVOKE TEMPORARY ON DATABASE $db FROM PUBLIC; GRANT CREATE ON DATABASE $db TO ringfence_owner");
	command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr($db), $file ], "$name: restores");
	return;
}

# The lines of what reapply_erasures() says.
sub reapply
{
	my ($db, $list) = @_;
	$list = defined $list ? "'$list'" : 'NULL';
	return $node->safe_psql($db, "SELECT org_id, kind, subject_id, rows > 0 FROM ringfence.reapply_erasures($list) ORDER BY 1, 2, 3");
}

my $dir = $node->basedir;
dump_to("$dir/before", 'before');
cmp_ok(known('app', $ann_name), '>', 2, 'Ann is known');
cmp_ok(known('app', 'leaver@private', 'Lea Ver'), '>', 2, 'so is the user');

request_ok($node, 'app', claims(ALDER), "SELECT count(*) FROM ringfence_v1.erase_subject('client', '$ann', 'asked', false)");
request_ok($node, 'app', claims(ALDER, 'aaaaaaaa-0000-4000-8000-0000000000aa'), "SELECT count(*) FROM ringfence_v1.erase_me('user', 'I leave')");
is(known('app', $ann_name), '0', 'Ann is erased');
is(known('app', 'leaver@private', 'Lea Ver'), '0', 'so is the user');
my $list = $node->safe_psql('app', 'SELECT ringfence.erasure_list()');
is($node->safe_psql('app', "SELECT string_agg(concat_ws(' ', e ->> 'org', e ->> 'kind', e ->> 'id'), ', ' ORDER BY e ->> 'kind') FROM jsonb_array_elements('$list') AS e"),
	ALDER . " client $ann, $nil user aaaaaaaa-0000-4000-8000-0000000000aa", 'the list names them');
unlike($list, qr/\Q$ann_name\E|asked|leave/, 'and says nothing else');
dump_to("$dir/after", 'after');

# The older dump

restore_as('restored', "$dir/before", 'before');
cmp_ok(known('restored', $ann_name), '>', 2, 'with the dump of before Ann is back');
cmp_ok(known('restored', 'leaver@private', 'Lea Ver'), '>', 2, 'and the user');
is($node->safe_psql('restored', 'SELECT ringfence.erasure_list()'), '[]', 'of an erasure it knows nothing');
is(reapply('restored'), '', 'nor has it anything to do by itself');
my $bea_before = known('restored', $bea_name);
my ($rc, $out, $err) = $node->psql('restored', "SELECT ringfence.reapply_erasures('[{\"org\": \"x\"}]')");
like($err, qr/invalid list of erasures/, 'what is no list is refused');
($rc, $out, $err) = $node->psql('restored', 'BEGIN; DO $$BEGIN PERFORM ringfence.set_context(\'' . BIRCH . "'); END\$\$; SELECT count(*) FROM ringfence.reapply_erasures('$list')");
like($err, qr/the context of this transaction is already fixed/, 'it is for nobody who is in another organization');
# A hold of that time stands.
my $hold = $node->safe_psql('restored', 'BEGIN; DO $$BEGIN PERFORM ringfence.set_context(\'' . ALDER . "'); END\$\$; SELECT ringfence.place_hold('lawsuit', subject_kind => 'client', subject_id => '$ann'); COMMIT");
($rc, $out, $err) = $node->psql('restored', "SELECT kind, rows IS NULL FROM ringfence.reapply_erasures('$list') ORDER BY 1");
is($out, "client|t\nuser|f", 'who is held since is passed over');
like($err, qr/WARNING:  subject client:$ann is kept by a legal hold/, 'with a warning');
cmp_ok(known('restored', $ann_name), '>', 2, 'and stays');
is(known('restored', 'leaver@private', 'Lea Ver'), '0', 'the others are erased');
$node->safe_psql('restored', 'BEGIN; DO $$BEGIN PERFORM ringfence.set_context(\'' . ALDER . "'); END\$\$; SELECT ringfence.release_hold('$hold', 'over'); COMMIT");
is(reapply('restored', $list), ALDER . "|client|$ann|t", 'a second time does what is left to do');
is(known('restored', $ann_name), '0', 'Ann is erased');
is(known('restored', $bea_name), $bea_before, 'nobody else is');
is($node->safe_psql('restored', "SELECT action, evidence IS NULL FROM ringfence_data.consents ORDER BY recorded_at"), "given|t\nwithdrawn|t", 'her consent is withdrawn');
is($node->safe_psql('restored', "SELECT count(*) FROM ringfence_data.memberships AS m WHERE m.user_id = 'aaaaaaaa-0000-4000-8000-0000000000aa'"), '0', 'the user is a member of nothing');
is($node->safe_psql('restored', 'SELECT ringfence.erasure_list()'), $list, 'the list is what it was, with its times');
is($node->safe_psql('restored', "SELECT actor, count(*) FROM ringfence_data.audit_log WHERE action = 'subject.erased' GROUP BY actor ORDER BY 1"), "job|1\nsystem|1", 'and each is on record');
is(reapply('restored', $list), '', 'a third time there is nothing to do');
is($node->safe_psql('restored', 'SELECT sum(rows) FROM ringfence.reapply_erasures()'), '0', 'nor if all are gone through');
is($node->safe_psql('restored', 'SELECT count(*) FROM ringfence.audit_verify()'), '0', 'the audit log verifies');
verify_clean($node, 'restored', 'restored');
request_ok($node, 'restored', claims(ALDER), "SELECT count(*) FROM ringfence_v1.erase_subject('client', '$bea', 'asked', false)");
is($node->safe_psql('restored', "SELECT count(*) FROM cleaning.clients WHERE id = '$bea' AND name ~ '^anon-'"), '1', 'what was declared is in force');

# The newer one

restore_as('newer', "$dir/after", 'after');
is(known('newer', $ann_name, 'leaver@private'), '0', 'with the dump of after they are not back');
is(reapply('newer', $list), '', 'nothing has to be done again');
$node->safe_psql('newer', "UPDATE cleaning.clients SET name = 'Ann is back' WHERE id = '$ann'");
is(reapply('newer', $list), '', 'who came back since stays');
is(reapply('newer'), "$nil|user|aaaaaaaa-0000-4000-8000-0000000000aa|f\n" . ALDER . "|client|$ann|t", 'unless all are gone through');
is(known('newer', 'Ann is back'), '0', 'then she goes');

$node->stop;
done_testing();
