# What a superuser can do to the audit log with triggers out of the way, and what
# audit_verify() says of it: each alteration is found and named. What takes a
# checkpoint kept elsewhere to be found is shown as well. A dump that is restored
# in another cluster verifies, and the chain goes on there.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $A = '0aaaaaaa-0000-7000-8000-00000000000a';
my $B = '0bbbbbbb-0000-7000-8000-00000000000b';
my $top = "$FindBin::Bin/../..";

# Ed25519 private keys in PEM: 32 bytes after a fixed head.
sub write_key
{
	my ($file, $byte) = @_;
	require MIME::Base64;
	my $pem = MIME::Base64::encode(pack('H*', '302e020100300506032b657004220420') . $byte x 32, '');
	my $umask = umask 077;
	unlink $file;
	append_to_file($file, "-----BEGIN PRIVATE KEY-----\n$pem\n-----END PRIVATE KEY-----\n");
	umask $umask;
	return;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
my $dir = $node->basedir;
write_key("$dir/key.pem", 'a');
write_key("$dir/next.pem", 'b');
write_key("$dir/forged.pem", 'c');
$node->append_conf('postgresql.conf', "ringfence.audit_key_file = '$dir/key.pem'\nmax_prepared_transactions = 5");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', "
	REVOKE TEMPORARY ON DATABASE app FROM PUBLIC;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$A', 'A'), ('$B', 'B');
	CREATE TABLE public.notes (id integer NOT NULL, body text NOT NULL);
	SELECT ringfence.protect('public.notes', '{\"owner\": \"all\"}');
	SELECT ringfence.audit_seal();");
my %checkpoints;
for my $block (2 .. 5)
{
	$node->safe_psql('app', "
		INSERT INTO public.notes (org_id, id, body) SELECT '$A', $block * 10 + n, 'note ' || n FROM generate_series(1, 4) AS n;
		INSERT INTO public.notes (org_id, id, body) VALUES ('$B', $block * 10, 'note of B')");
	is($node->safe_psql('app', 'SELECT ringfence.audit_seal()'), $block, "block $block is sealed");
	$checkpoints{$block} = $node->safe_psql('app', 'SELECT ringfence.audit_checkpoint()');
	$node->safe_psql('postgres', 'CREATE DATABASE old TEMPLATE app') if $block == 3;
}

# The id of the record of a note.
sub record
{
	my ($key) = @_;
	return $node->safe_psql('app', "SELECT id FROM ringfence_data.audit_log WHERE key = '$key' AND operation = 'INSERT' AND new ? 'body'");
}

# What is found once the statements were run, without a trace of them after.
sub found
{
	my ($sql, $arguments) = @_;
	$arguments //= '';
	my ($rc, $out, $err) = $node->psql('app', "
		BEGIN;
		SET LOCAL session_replication_role = replica;
		$sql;
		\\pset tuples_only on
		SELECT concat_ws(' ', block, CASE org_id WHEN '$A' THEN 'A' WHEN '$B' THEN 'B' ELSE org_id::text END, record, problem)
		FROM ringfence.audit_verify($arguments);
		ROLLBACK", on_error_stop => 1);
	return $rc == 0 ? $out : "error: $err";
}

sub finds
{
	my ($sql, $expected, $name, $arguments) = @_;
	is(found($sql, $arguments), $expected, $name);
	return;
}

sub find_some
{
	my ($sql, $pattern, $name, $arguments) = @_;
	like(found($sql, $arguments), $pattern, $name);
	return;
}

finds("SET LOCAL application_name = 'x'", '', 'nothing is found where nothing was done');

# Records
my ($r31, $r32) = (record(31), record(32));
finds("UPDATE ringfence_data.audit_log SET new = jsonb_set(new, '{body}', '\"forged\"') WHERE id = '$r31'",
	"3 A $r31 record_altered", 'a value was edited');
finds("DELETE FROM ringfence_data.audit_log WHERE id = '$r31'", "3 A $r31 record_missing", 'a record was deleted');
finds("UPDATE ringfence_data.audit_log SET id = CASE id WHEN '$r31' THEN '$r32'::uuid ELSE '$r31' END WHERE id IN ('$r31', '$r32')",
	"3 A $r31 record_altered\n3 A $r32 record_altered", 'two records were swapped');
finds("UPDATE ringfence_data.audit_log SET org_id = '$B' WHERE id = '$r31'",
	"3 A $r31 record_missing\n3 B $r31 record_inserted", 'a record was given to another organization');
finds("UPDATE ringfence_data.audit_log SET transaction_id = (SELECT max(transaction_id) FROM ringfence_data.audit_log) WHERE id = '$r31'",
	"3 A $r31 record_missing\n5 A $r31 record_inserted", 'a record was moved to a later transaction');
find_some("INSERT INTO ringfence_data.audit_log (org_id, id, recorded_at, transaction_id, incarnation, operation, actor, login, role, action)
	SELECT '$A', '01999999-0000-7000-8000-000000000001', recorded_at, transaction_id, 1, 'EVENT', 'system', 'x', 'x', 'a.b'
	FROM ringfence_data.audit_log WHERE id = '$r31'",
	qr/^3 A 01999999-0000-7000-8000-000000000001 record_inserted$/, 'a record was inserted');
finds("UPDATE ringfence_data.audit_log SET id = '01999999-0000-7000-8000-000000000001' WHERE id = '$r31'",
	"3 A 01999999-0000-7000-8000-000000000001 record_inserted\n3 A $r31 record_missing", 'a record got another id');
for my $change (
	'incarnation = 0', "recorded_at = recorded_at + interval '1 microsecond'", 'relation_id = NULL', 'relation_id = 1', "user_id = '$A'",
	"operation = 'DELETE'", "actor = 'user'", "login = login || 'x'", "role = 'x'", "action = 'a.b'", "key = NULL", "request_id = ''",
	"correlation_id = 'x'", "client_ip = '::1'", "user_agent = ''", "reason = 'x'", "old = '{}'", "old = 'null'", 'new = NULL',
	"personal = '{}'", "personal = 'null'", "personal = '{\"new\": {\"a\": {\"salt\": 1}}}'", "personal = '{\"new\": {\"body\": {\"commitment\": \"?\"}}}'")
{
	my $sql = "UPDATE ringfence_data.audit_log SET $change WHERE id = '$r31'";
	$sql = "ALTER TABLE ringfence_data.audit_log DROP CONSTRAINT audit_log_relation_id_check, DROP CONSTRAINT audit_log_action_check; $sql"
	  if $change =~ /^(relation_id = NULL|action)/;
	find_some($sql, $change =~ /incarnation/ ? qr/^1 A $r31 record_inserted\n3 A $r31 record_missing$/ : qr/^3 A $r31 record_altered$/, "changed: $change");
}
find_some("UPDATE ringfence_data.audit_relations SET name = 'public.others' WHERE name = 'public.notes'",
	qr/^2 A \S+ record_altered\n(.*\n)+5 B \S+ record_altered$/, 'a table was renamed in the records');

find_some("UPDATE ringfence_data.audit_relations SET columns = '{}' WHERE name = 'public.notes'",
	qr/^2 A \S+ record_altered\n(.*\n)+5 B \S+ record_altered$/, "a table's columns were changed in the records");
finds("INSERT INTO ringfence_data.audit_relations (id, relation, name, columns) SELECT 777, relation, name, columns || '{\"9\": \"x\"}'
	FROM ringfence_data.audit_relations WHERE id = (SELECT relation_id FROM ringfence_data.audit_log WHERE id = '$r31');
	UPDATE ringfence_data.audit_log SET relation_id = 777 WHERE id = '$r31'", "3 A $r31 record_altered", 'a record was given another shape of its table');
finds("ALTER TABLE ringfence_data.audit_log DROP CONSTRAINT audit_log_relation_id_check; UPDATE ringfence_data.audit_log SET relation_id = CASE id WHEN '$r31' THEN 424242 END WHERE id IN ('$r31', '$r32')",
	"3 A $r31 record_altered\n3 A $r32 record_altered", 'or of none');

# Blocks
finds('DELETE FROM ringfence_data.audit_blocks WHERE number = 5', '5 block_missing', 'the newest block was deleted');
finds("DELETE FROM ringfence_data.audit_blocks WHERE number > 3; DELETE FROM ringfence_data.audit_block_orgs WHERE block > 3;
	DELETE FROM ringfence_data.audit_leaves WHERE block > 3; DELETE FROM ringfence_data.audit_log WHERE key::integer > 40 AND relation_id = (SELECT relation_id FROM ringfence_data.audit_log WHERE id = '$r31')",
	"4 block_missing\n5 block_missing", 'the newest blocks were deleted with all they had');
find_some('DELETE FROM ringfence_data.audit_blocks WHERE number = 3', qr/^3 block_missing\n(4 [AB] \S+ record_inserted\n?){5}$/, 'a block was deleted');
find_some('DELETE FROM ringfence_data.audit_blocks', qr/^1 block_missing\n.*5 block_missing$/s, 'all blocks were deleted');
finds("UPDATE ringfence_data.audit_blocks SET number = 1000 WHERE number = 3; UPDATE ringfence_data.audit_blocks SET number = 3 WHERE number = 4;
	UPDATE ringfence_data.audit_blocks SET number = 4 WHERE number = 1000", "3 block_reordered\n4 block_reordered", 'two blocks were swapped');
find_some("INSERT INTO ringfence_data.audit_blocks SELECT 6, incarnation, snapshot, sealed_at, records, nonce, root, entries, hash, details, hash, key_id, signature
	FROM ringfence_data.audit_blocks WHERE number = 5", qr/^6 block_altered\n(.*\n)*6 block_inserted$/, 'a block was added');

# Re-hashed from a block on, as far as that goes without the key.
my $rehash = q{
	DO $do$
	DECLARE
		b record;
		header bytea;
		before bytea;
	BEGIN
		FOR b IN SELECT * FROM ringfence_data.audit_blocks WHERE number >= 3 ORDER BY number LOOP
			header := 'rfb1'::bytea || int8send(b.number) || int8send((extract(epoch FROM b.sealed_at) * 1000000)::bigint)
				|| b.root || coalesce(before, b.previous) || b.details || b.key_id;
			UPDATE ringfence_data.audit_blocks SET previous = coalesce(before, b.previous), hash = sha256(header) WHERE number = b.number;
			before := sha256(header);
		END LOOP;
		UPDATE ringfence_data.audit_head SET hash = before;
	END
	$do$};
finds($rehash, '', 'hashed again as it was: the same');
finds("UPDATE ringfence_data.audit_blocks SET sealed_at = sealed_at - interval '1 day' WHERE number = 3; $rehash",
	"3 signature_invalid\n4 signature_invalid\n5 signature_invalid\nsignature_invalid", 'a block was rewritten, and all after it hashed again');
finds("UPDATE ringfence_data.audit_blocks SET sealed_at = sealed_at - interval '1 day' WHERE number = 3",
	"3 block_altered\n3 signature_invalid", 'a block was rewritten');
# An organization's check looks at those signatures that no later one covers.
find_some("UPDATE ringfence_data.audit_blocks SET sealed_at = sealed_at - interval '1 day' WHERE number = 3; $rehash",
	qr/^5 signature_invalid\n(3 A \S+ record_postdated\n){4}signature_invalid$/, 'as an organization finds it', "org => '$A'");
finds("UPDATE ringfence_data.audit_blocks SET sealed_at = sealed_at - interval '1 day' WHERE number = 3",
	"3 block_altered\n3 signature_invalid", 'a block was rewritten, as an organization finds it', "org => '$A'");
finds('UPDATE ringfence_data.audit_blocks SET signature = hash || hash WHERE number = 5', '5 signature_invalid', 'the newest signature was changed', "org => '$A'");
finds('UPDATE ringfence_data.audit_blocks SET signature = hash || hash WHERE number = 3', '3 signature_invalid', 'an old signature was changed');
find_some("UPDATE ringfence_data.audit_blocks SET previous = root, hash = sha256('rfb1'::bytea || int8send(number) || int8send((extract(epoch FROM sealed_at) * 1000000)::bigint)
	|| root || root || details || key_id) WHERE number = 4", qr/4 signature_invalid/, 'a link was changed', "org => '$A'");

# Leaf lists and organizations
my $leaf = 'set_byte(leaves, 20, 255 - get_byte(leaves, 20))';
finds("UPDATE ringfence_data.audit_leaves SET leaves = $leaf WHERE block = 3 AND org_id = '$A'", '3 A leaves_altered', 'a leaf list was changed');
finds("DELETE FROM ringfence_data.audit_leaves WHERE block = 3 AND org_id = '$A'", '3 A leaves_altered', 'a leaf list was deleted');
finds("UPDATE ringfence_data.audit_leaves SET leaves = $leaf WHERE block = 3 AND org_id = '$A'; UPDATE ringfence_data.audit_log SET reason = 'x' WHERE id = '$r31'",
	"3 A leaves_altered\n3 A org_altered", 'a leaf list and a record were changed');
finds("UPDATE ringfence_data.audit_block_orgs SET records = 3 WHERE block = 3 AND org_id = '$A'", '3 A org_altered', 'a count was changed');
finds("DELETE FROM ringfence_data.audit_block_orgs WHERE block = 3 AND org_id = '$A'", '3 A org_altered', "an organization's row was deleted");
my $remove = "DELETE FROM ringfence_data.audit_block_orgs WHERE block = 3 AND org_id = '$B'; DELETE FROM ringfence_data.audit_leaves WHERE block = 3 AND org_id = '$B'";
finds($remove, '3 B leaves_altered' . "\n" . '3 B org_altered', 'a list and a row were deleted');
finds("$remove; DELETE FROM ringfence_data.audit_log WHERE id = '" . record(30) . q{'}, "3 org_missing\n3 B org_missing", 'all of an organization was removed from a block');
finds("$remove; DELETE FROM ringfence_data.audit_log WHERE id = '" . record(30) . q{'}, '3 B org_missing', 'which the organization itself finds', "org => '$B'");
finds("UPDATE ringfence_data.audit_block_orgs SET previous = 2 WHERE block = 4 AND org_id = '$B'", '4 B org_altered', 'the chain of an organization was changed');
finds("UPDATE ringfence_data.audit_blocks SET entries = set_byte(entries, 0, 255 - get_byte(entries, 0)) WHERE number = 3", '3 block_altered', 'the list of entries was changed');

# Keys and the head
find_some("UPDATE ringfence_data.audit_keys SET public_key = sha256('x')", qr/key_unknown/, 'the public key was changed');
find_some("UPDATE ringfence_data.audit_keys SET public_key = sha256('x'), key_id = sha256(sha256('x'))", qr/key_unknown/, 'the key was replaced');
find_some('DELETE FROM ringfence_data.audit_keys', qr/key_unknown/, 'the key was deleted');
finds("INSERT INTO ringfence_data.audit_keys (key_id, public_key, added_at) VALUES (sha256(sha256('x')), sha256('x'), now())", 'key_unknown', 'a key was added');
finds("INSERT INTO ringfence_data.audit_keys SELECT sha256(sha256('x')), sha256('x'), now(), key_id, hash || hash FROM ringfence_data.audit_head", 'key_unknown',
	'a key was added with an endorsement that does not hold');
finds('DELETE FROM ringfence_data.audit_head', 'head_altered', 'the head was deleted');
finds('UPDATE ringfence_data.audit_head SET number = 4, hash = (SELECT hash FROM ringfence_data.audit_blocks WHERE number = 4)',
	"signature_invalid\n5 head_altered", 'the head was set back');
finds("DELETE FROM ringfence_data.audit_blocks WHERE number = 5; UPDATE ringfence_data.audit_head SET number = 4, hash = (SELECT hash FROM ringfence_data.audit_blocks WHERE number = 4)",
	'signature_invalid', 'the newest block was deleted and the head set back');

# A checkpoint has the form of a head, so that an old one can take its place.
my $old_head = "DELETE FROM ringfence_data.audit_head; INSERT INTO ringfence_data.audit_head
	SELECT true, (c ->> 'number')::bigint, decode(c ->> 'hash', 'hex'), timestamptz '1970-01-01 00:00+00' + (c ->> 'stated_at')::bigint * interval '1 microsecond',
		k.key_id, decode(c ->> 'signature', 'hex') FROM ringfence_data.audit_keys AS k, CAST('$checkpoints{3}' AS jsonb) AS c";
finds($old_head, '5 head_altered', 'an older head was put back');
$old_head .= "; DELETE FROM ringfence_data.audit_blocks WHERE number > 3; DELETE FROM ringfence_data.audit_block_orgs WHERE block > 3; DELETE FROM ringfence_data.audit_leaves WHERE block > 3";
finds($old_head, '', 'all tables of the seal were put back: nothing is found in them');
finds($old_head, '5 checkpoint_mismatch', 'but by a later checkpoint', "checkpoint => '$checkpoints{5}'");

# Anything may be in a column.
for my $column (split ' ', $node->safe_psql('app', q{
	SELECT string_agg(format('%s.%s.%s', c.relname, a.attname, a.atttypid::regtype), ' ' ORDER BY c.relname, a.attnum)
	FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
	WHERE c.relname IN ('audit_blocks', 'audit_block_orgs', 'audit_leaves', 'audit_head', 'audit_keys') AND c.relkind = 'r' AND a.attnum > 0
		AND a.atttypid <> 'timestamptz'::regtype AND a.attname <> 'singleton'}))
{
	my ($table, $name, $type) = split /\./, $column;
	next if $column =~ /^audit_keys\.endors/;
	my %values = (
		bytea => [ q{''}, q{'\x00'}, q{repeat('x', 100000)::bytea}, q{sha256('x')} ],
		bigint => [ -1, 0, 9223372036854775807 ],
		integer => [ -1, 2147483647 ],
		uuid => [q{'ffffffff-ffff-ffff-ffff-ffffffffffff'}],
		pg_snapshot => [ q{'1:1:'}, q{'1:9223372036854775807:'}, q{'5:10:6,7,8'} ]);
	my $where = $table eq 'audit_blocks' ? 'number = 3' : $table =~ /orgs|leaves/ ? "block = 3 AND org_id = '$A'" : 'true';
	for my $value ('NULL', @{ $values{$type} })
	{
		my $open = $value ne 'NULL' ? '' : $name eq 'number' && $table eq 'audit_blocks' || $name =~ /^(block|org_id|part|key_id)$/ && $table ne 'audit_blocks' && $table ne 'audit_head'
		  ? "ALTER TABLE ringfence_data.$table DROP CONSTRAINT ${table}_pkey; ALTER TABLE ringfence_data.$table ALTER $name DROP NOT NULL;"
		  : "ALTER TABLE ringfence_data.$table ALTER $name DROP NOT NULL;";
		$open .= "CREATE INDEX ON ringfence_data.$table (org_id, block);" if $open =~ /pkey/ && $table eq 'audit_block_orgs';
		$open .= "CREATE INDEX ON ringfence_data.$table (number);" if $open =~ /pkey/ && $table eq 'audit_blocks';
		$open .= 'ALTER TABLE ringfence_data.audit_blocks DROP CONSTRAINT audit_blocks_number_check;' if $table eq 'audit_blocks' && $name eq 'number';
		find_some("$open UPDATE ringfence_data.$table SET $name = $value WHERE $where", qr/^(?!error)\S+/, "$table.$name is $value");
	}
}
find_some('DROP TABLE ringfence_data.audit_leaves', qr/^error:.*table "ringfence_data.audit_leaves" is missing/s, 'a table that is missing is an error');
find_some('ALTER TABLE ringfence_data.audit_log DROP COLUMN reason CASCADE', qr/^error:.*has no column "reason"/s, 'a column that is missing too');
find_some('ALTER TABLE ringfence_data.audit_leaves OWNER TO postgres', qr/^error:.*is missing, or is not ringfence's own/s, 'and a table of somebody else');

# What only a checkpoint shows: the whole database as it was, or all sealed anew.
sub use_key
{
	my ($file) = @_;
	$node->adjust_conf('postgresql.conf', 'ringfence.audit_key_file', "'$dir/$file'");
	$node->reload;
	return;
}
sub verified
{
	my ($db, $arguments) = @_;
	return $node->safe_psql($db, 'SELECT DISTINCT problem FROM ringfence.audit_verify(' . ($arguments // '') . ') ORDER BY 1');
}
is(verified('app', "checkpoint => '$checkpoints{$_}'"), '', "checkpoint $_ holds") for 2 .. 5;
is(verified('old'), '', 'an older copy of the database: nothing is found in it');
is(verified('old', "checkpoint => '$checkpoints{3}'"), '', 'nor by the checkpoint of its time');
is(verified('old', "checkpoint => '$checkpoints{4}'"), 'checkpoint_mismatch', 'a later checkpoint finds it');

$node->safe_psql('postgres', 'CREATE DATABASE forged TEMPLATE app');
use_key('forged.pem');
$node->safe_psql('forged', "
	SET session_replication_role = replica;
	UPDATE ringfence_data.audit_log SET reason = 'forged' WHERE id = '$r31';
	TRUNCATE ringfence_data.audit_blocks, ringfence_data.audit_block_orgs, ringfence_data.audit_leaves, ringfence_data.audit_head, ringfence_data.audit_keys");
is($node->safe_psql('forged', 'SELECT ringfence.audit_seal()'), 1, 'a forger seals all anew, with another key');
is(verified('forged'), '', 'with that key configured nothing is found');
is(verified('forged', "checkpoint => '$checkpoints{2}'"), 'checkpoint_mismatch', 'any checkpoint finds it');
my ($rc, $out, $err) = $node->psql('app', 'SELECT ringfence.audit_seal()');
like($err, qr/the audit key is not one of the chain's/, 'the chain is not continued with another key');
is(verified('app'), 'key_unknown', 'and the other key is a finding');
use_key('key.pem');
is(verified('forged'), 'key_unknown', 'as it is with the right key where the chain was replaced');

# The end of the chain is looked at before it is continued.
$node->safe_psql('postgres', 'CREATE DATABASE cut TEMPLATE app');
$node->safe_psql('cut', "SET session_replication_role = replica; DELETE FROM ringfence_data.audit_blocks WHERE number = 5");
for my $call ('audit_seal', 'audit_checkpoint')
{
	($rc, $out, $err) = $node->psql('cut', "\\set VERBOSITY verbose\nSELECT ringfence.$call()");
	like($err, qr/XX001: the audit chain does not end where its head says/, "$call() does not bury a missing block");
}

# A key is exchanged.
($rc, $out, $err) = $node->psql('app', "SELECT ringfence.audit_endorse_key('\\xaa')");
like($err, qr/a public key must have 32 bytes/, 'half a key is refused');
use_key('next.pem');
my ($next) = $node->psql('app', 'SELECT ringfence.audit_checkpoint()') && $node->safe_psql('forged', '
	SET session_replication_role = replica;
	TRUNCATE ringfence_data.audit_blocks, ringfence_data.audit_block_orgs, ringfence_data.audit_leaves, ringfence_data.audit_head, ringfence_data.audit_keys;
	SELECT ringfence.audit_seal() \g /dev/null
	SELECT public_key FROM ringfence_data.audit_keys');
use_key('key.pem');
$node->safe_psql('app', "SELECT ringfence.audit_endorse_key('$next')");
($rc, $out, $err) = $node->psql('app', "SELECT ringfence.audit_endorse_key('$next')");
like($err, qr/that audit key is one of the chain's already/, 'a key is endorsed once');
use_key('next.pem');
$node->safe_psql('app', "UPDATE public.notes SET body = 'with the next key' WHERE id = 31");
is($node->safe_psql('app', 'SELECT ringfence.audit_seal()'), 6, 'the endorsed key goes on with the chain');
is(verified('app', "checkpoint => '$checkpoints{5}'"), '', 'and all of it verifies, with a checkpoint of the earlier key');
$checkpoints{6} = $node->safe_psql('app', 'SELECT ringfence.audit_checkpoint()');
is(verified('app', "checkpoint => '$checkpoints{6}'"), '', 'and one of the next');

# Key files that won't do. What is wrong with them is in the log alone.
for my $case (
	[ 'nowhere.pem', sub { }, qr/could not be opened/ ],
	[ 'open.pem', sub { write_key($_[0], 'd'); chmod 0640, $_[0] }, qr/group and others have no access/ ],
	[ 'text.pem', sub { append_to_file($_[0], "secret words\n"); chmod 0600, $_[0] }, qr/holds no Ed25519 private key/ ],
	[ 'long.pem', sub { append_to_file($_[0], 'x' x 20000); chmod 0600, $_[0] }, qr/too long/ ])
{
	my ($file, $make, $why) = @$case;
	$make->("$dir/$file");
	use_key($file);
	my $offset = -s $node->logfile;
	($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\nSELECT ringfence.audit_seal()");
	like($err, qr/55000: could not use the audit key/, "$file is refused");
	unlike($err, qr/\Q$dir\E|secret words/, "$file: the client learns neither its path nor what is in it");
	like(slurp_file($node->logfile, $offset), $why, "$file: the log says why");
	is($node->safe_psql('app', 'SELECT ringfence.audit_key_usable()'), 'f', "$file is not usable");
	is(verified('app'), '', "$file: verifying needs no key");
}
$node->adjust_conf('postgresql.conf', 'ringfence.audit_key_file', "''");
$node->reload;
($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\nSELECT ringfence.audit_seal()");
like($err, qr/55000: no audit key is configured.*HINT: .*openssl genpkey -algorithm ed25519/s, 'without a key there is a hint how to make one');
use_key('next.pem');

# Proofs hold outside the database: the record is in them.
SKIP:
{
	skip 'no python3', 12 if system('python3 --version >/dev/null 2>&1') != 0;
	my $id = record(42);
	my $export = "SELECT to_jsonb(l) || jsonb_build_object('relation', r.name, 'columns', r.columns) FROM ringfence_data.audit_log AS l
		LEFT JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id WHERE l.id = '$id'";
	my $proof = "ringfence.audit_proof('$id')";
	my %files = (
		record => $export,
		proof => "SELECT $proof",
		checkpoint => "SELECT '$checkpoints{6}'::jsonb",
		forged => "SELECT replace(($export)::text, 'note 2', 'note 3')",
		forged_in_proof => "SELECT replace($proof\::text, 'note 2', 'note 3')",
		forged_proof => "SELECT jsonb_set($proof, '{block,sealed_at}', '1')",
		gone => "SELECT jsonb_set($proof, '{record}', 'null')");
	append_to_file("$dir/$_.json", $node->safe_psql('app', $files{$_})) foreach keys %files;
	my @verify = ('python3', "$top/test/verify_audit.py");
	command_ok([ @verify, "$dir/proof.json" ], 'a proof verifies by itself');
	command_ok([ @verify, "$dir/record.json", "$dir/proof.json", "$dir/checkpoint.json" ], 'a record, its proof and a checkpoint verify');
	command_fails([ @verify, "$dir/forged.json", "$dir/proof.json" ], 'another record does not');
	command_fails([ @verify, "$dir/forged_in_proof.json" ], 'nor one that was changed in the proof');
	command_fails([ @verify, "$dir/gone.json" ], 'nor none');
	command_fails([ @verify, "$dir/record.json", "$dir/forged_proof.json" ], 'nor another proof');
	command_like([ @verify, '--vector' ], qr/^leaf +f1a192e0192be7c7c9c372668d4a532726defd9ad5e54821db9be3b8af9744d5$/m, 'the test vector');

	# All that a record may hold: numbers as they are written, long ones, and what
	# is said of what only the server can compute.
	$node->safe_psql('app', "
		SELECT ringfence.label('public.notes', 'body', 'personal');
		CREATE TABLE public.odd (id integer PRIMARY KEY, v jsonb, n numeric, ip inet);
		SELECT ringfence.audit('public.odd');
		UPDATE public.notes SET body = 'Zürich \"x\"' WHERE id = 42;
		BEGIN;
		SET LOCAL request.headers = '{\"user-agent\": \"a\", \"x-request-id\": \"r\"}';
		INSERT INTO public.odd VALUES (1, '{\"a\": [1.50, -0.0, 1e20, 1E-7, 123456789012345678901234567890.10], \"é\": {}, \"zz\": null}', 1.500, '::1/64'),
			(2, '[1e999, -1e999, 1e131071, -1.5e-1200, 1e-16000, 0.0]', 'NaN', '10.0.0.1'),
			(3, (repeat('[', 63) || repeat(']', 63))::jsonb, 'Infinity', NULL), (4, (repeat('[', 64) || repeat(']', 64))::jsonb, 0, NULL);
		COMMIT;
		SELECT ringfence.label('public.notes', 'body', NULL);
		SELECT ringfence.audit_seal()");
	my $odd = sub {
		my ($where, $file) = @_;
		append_to_file("$dir/$file.json", $node->safe_psql('app', "SELECT ringfence.audit_proof(l.id) FROM ringfence_data.audit_log AS l
			INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id WHERE $where ORDER BY l.recorded_at DESC LIMIT 1"));
		return [ @verify, "$dir/$file.json" ];
	};
	command_ok($odd->("r.name = 'public.notes' AND l.key = '42' AND l.personal IS NOT NULL", 'personal'), 'personal values verify by their salts');
	command_ok($odd->("r.name = 'public.odd' AND l.key = '1'", 'odd1'), 'numbers verify as they are written');
	command_ok($odd->("r.name = 'public.odd' AND l.key = '2'", 'odd2'), 'long ones too');
	command_ok($odd->("r.name = 'public.odd' AND l.key = '3'", 'odd3'), 'and 64 levels');
	my ($said) = run_command($odd->("r.name = 'public.odd' AND l.key = '4'", 'odd4'));
	like($said, qr/NOT OK .*which only the server can check/s, 'what is deeper is said to be');
}

# In another encoding, text without an equivalent in UTF-8 is sealed all the same.
$node->safe_psql('postgres', "CREATE DATABASE other ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
$node->safe_psql('other', "
	SET client_encoding = 'UTF8';
	REVOKE TEMPORARY ON DATABASE other FROM PUBLIC;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	CREATE TABLE public.texts (id text PRIMARY KEY, v jsonb);
	SELECT ringfence.audit('public.texts');
	INSERT INTO public.texts VALUES ('plain', '{\"a\": 1}'), ('Zürich', '{\"bb\": \"é\", \"ü\": 1}'), (repeat('é', 20000), '{}');
	INSERT INTO public.texts VALUES (chr(129), jsonb_build_object(chr(129), 1, 'é', 2, 'x', chr(141) || 'x', repeat('é', 5000) || chr(144), 3));
	SET session_replication_role = replica;
	UPDATE ringfence_data.audit_log SET personal = jsonb_build_object('new', jsonb_build_object(chr(129), jsonb_build_object('salt', 'AAECAwQFBgcICQoLDA0ODw==', 'value', chr(129))))
	WHERE key = 'plain'");
is($node->safe_psql('other', 'SELECT ringfence.audit_seal()'), 1, 'text without an equivalent in UTF-8 is sealed');
is($node->safe_psql('other', 'SELECT problem FROM ringfence.audit_verify()'), '', 'and verifies');
is($node->safe_psql('other', q~
	SET client_encoding = 'UTF8';
	SELECT count(*) FROM ringfence_data.audit_log AS l, ringfence_data.audit_leaves AS a
	WHERE l.key IN ('Zürich', chr(129)) AND position(uuid_send(l.id) || sha256('\x00'::bytea || 'rfa1' || uuid_send(l.org_id) || uuid_send(l.id)
		|| int8send((extract(epoch FROM l.recorded_at) * 1000000)::bigint) || int8send(l.transaction_id) || int4send(l.incarnation)
		|| int4send(12) || 'public.texts' || sha256('{'::bytea || int4send(2) || int4send(1) || '1' || '"' || int4send(2) || 'id' || int4send(1) || '2' || '"' || int4send(1) || 'v')
		|| int4send(6) || 'INSERT' || int4send(6) || 'system' || '\xffffffff'
		|| int4send(octet_length(l.login)) || l.login::bytea || int4send(octet_length(l.role)) || l.role::bytea || '\xffffffff'
		|| CASE WHEN l.key = chr(129) THEN '\x80000001'::bytea || '\x81' ELSE int4send(7) || convert_to(l.key, 'UTF8') END
		|| decode(repeat('ffffffff', 6), 'hex')
		|| (SELECT int4send(octet_length(f.form)) || f.form FROM (
			SELECT '{'::bytea || int4send(2) || int4send(1) || 'v' || '{' || CASE WHEN l.key = chr(129)
				THEN int4send(4) || int4send(1) || 'x' || '"' || '\x80000002' || '\x8d78' || '\x80000001' || '\x81' || '#' || int4send(1) || '1'
					|| int4send(2) || convert_to('é', 'UTF8') || '#' || int4send(1) || '2'
					|| '\x80001389' || decode(repeat('e9', 5000) || '90', 'hex') || '#' || int4send(1) || '3' || int4send(2) || 'id' || '"' || '\x80000001' || '\x81'
				ELSE int4send(2) || int4send(2) || 'bb' || '"' || int4send(2) || convert_to('é', 'UTF8')
					|| int4send(2) || convert_to('ü', 'UTF8') || '#' || int4send(1) || '1' || int4send(2) || 'id' || '"' || int4send(7) || convert_to(l.key, 'UTF8') END) AS f (form))
		|| '\xffffffff') IN a.leaves) > 0~), 2, 'in the form that is documented');

# Months that were dropped with a statement, which is of one chain and on record.
sub make_months
{
	my ($db) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, "
		REVOKE TEMPORARY ON DATABASE $db FROM PUBLIC;
		CREATE EXTENSION ringfence;
		SELECT ringfence.install('core');
		CREATE TABLE public.odd (id integer PRIMARY KEY);
		SELECT ringfence.audit('public.odd');
		INSERT INTO public.odd SELECT generate_series(1, 20);
		SELECT ringfence.make_audit_partition('2025-01-15Z'), ringfence.make_audit_partition('2025-02-15Z');
		SET session_replication_role = replica;
		UPDATE ringfence_data.audit_log AS l SET recorded_at = m.moment,
			id = overlay(l.id::text PLACING regexp_replace(lpad(to_hex((extract(epoch FROM m.moment) * 1000)::bigint), 12, '0'), '(.{8})(.{4})', '\\1-\\2') || '-7000' FROM 1 FOR 18)::uuid
		FROM (SELECT n, timestamptz '2025-01-01Z' + n * interval '3 days' AS moment FROM generate_series(1, 19) AS n) AS m
		WHERE l.key = m.n::text AND l.new ? 'id' AND l.operation = 'INSERT' AND l.relation_id = (SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.name = 'public.odd');
		SET session_replication_role = origin;
		SELECT ringfence.audit_seal()");
	return;
}
my $state = sub { return "SELECT ringfence.audit_state_drop('2025-0$_[0]-01Z', '2025-0" . ($_[0] + 1) . "-01Z', 'Zürich: old')" };
my $summary = "SELECT problem, count(*) FROM ringfence.audit_verify() GROUP BY 1 ORDER BY 1";
# The statements of a database as a command that puts them into another.
sub statements
{
	my ($db) = @_;
	return 'SET session_replication_role = replica; ' . $node->safe_psql($db, "SELECT format('INSERT INTO ringfence_data.audit_drops SELECT * FROM jsonb_populate_record(NULL::ringfence_data.audit_drops, %L);', to_jsonb(d)) FROM ringfence_data.audit_drops AS d");
}
make_months('months');
is($node->safe_psql('months', $summary), '', 'two months are there as they were sealed');
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE months');
make_months('strange');
$node->safe_psql($_, $state->(1)) for qw(copied strange);
my $detach = 'ALTER TABLE ringfence_data.audit_log DETACH PARTITION ringfence_data.audit_log_202501';
is($node->safe_psql('months', 'BEGIN; ' . statements('copied') . " $detach; $summary; ROLLBACK"), "drop_unrecorded|1\nrecord_missing|10",
	'a statement that was made in a copy of the database is not on record here');
is($node->safe_psql('months', 'BEGIN; ' . statements('strange') . " $detach; $summary; ROLLBACK"), "drop_altered|1\nrecord_missing|10",
	'one of another chain with the same key is none of this');
use_key('forged.pem');
($rc, $out, $err) = $node->psql('months', "\\set VERBOSITY verbose\n" . $state->(1));
like($err, qr/55000: the audit key is not one of the chain's/, 'nor can one be made with another key');
use_key('next.pem');
my $months_checkpoint = $node->safe_psql('months', 'SELECT ringfence.audit_checkpoint()');
$node->safe_psql('months', $state->(1) . "; $detach; DROP TABLE ringfence_data.audit_log_202501");
is($node->safe_psql('months', $summary), '', 'a month is dropped');
is($node->safe_psql('months', 'SELECT ringfence.audit_seal()'), 2, 'and the chain goes on');
is(verified('months', "checkpoint => '$months_checkpoint'"), '', 'and verifies, with an earlier checkpoint');
is($node->safe_psql('months', "SET session_replication_role = replica; BEGIN; DELETE FROM ringfence_data.audit_log WHERE key = '15'; $summary; ROLLBACK"), 'record_missing|1',
	'a record of the other month is missed as ever');
SKIP:
{
	skip 'no python3', 2 if system('python3 --version >/dev/null 2>&1') != 0;
	my $statement = "SELECT to_jsonb(d) || jsonb_build_object('public_key', k.public_key) FROM ringfence_data.audit_drops AS d JOIN ringfence_data.audit_keys AS k USING (key_id)";
	append_to_file("$dir/drop.json", $node->safe_psql('months', $statement));
	append_to_file("$dir/forged_drop.json", $node->safe_psql('months', $statement) =~ s/2025-02/2025-03/r);
	command_ok([ 'python3', "$top/test/verify_audit.py", "$dir/drop.json" ], 'the statement is in the form that is documented');
	command_fails([ 'python3', "$top/test/verify_audit.py", "$dir/forged_drop.json" ], 'an altered one is not');
}

# Dumped and restored in another cluster, the chain goes on.
my $target = PostgreSQL::Test::Cluster->new('target');
$target->init;
$target->append_conf('postgresql.conf', "ringfence.audit_key_file = '$dir/next.pem'");
$target->start;
$node->safe_psql('app', "INSERT INTO public.notes (org_id, id, body) VALUES ('$A', 99, 'not sealed yet')");
command_ok([ 'pg_dumpall', '--roles-only', '--no-role-passwords', '-f', "$dir/roles", '-d', $node->connstr('postgres') ], 'the roles are dumped');
command_ok([ 'pg_dump', '--create', '-Fc', '-f', "$dir/dump", '-d', $node->connstr('app') ], 'the database is dumped');
run_log([ 'psql', '-X', '-q', '-d', $target->connstr('postgres'), '-f', "$dir/roles" ]);
command_ok([ 'pg_restore', '--create', '--exit-on-error', '-d', $target->connstr('postgres'), "$dir/dump" ], 'and restored');
my $findings = 'SELECT block, problem, detail FROM ringfence.audit_verify';
is($target->safe_psql('app', "$findings(checkpoint => '$checkpoints{6}')"), '', 'the restored chain verifies');
is($target->safe_psql('app', 'SELECT ringfence.audit_seal()'), 8, 'what was not sealed before the dump is sealed');
is($target->safe_psql('app', 'SELECT incarnation, records FROM ringfence_data.audit_blocks WHERE number = 8'), '2|1', 'in the next incarnation, and nothing twice');
$target->safe_psql('app', "UPDATE public.notes SET body = 'here'");
is($target->safe_psql('app', 'SELECT ringfence.audit_seal()'), 9, 'and the chain goes on');
is($target->safe_psql('app', "$findings(checkpoint => '$checkpoints{5}')"), '', 'and verifies, with a checkpoint of the other cluster');
is($target->safe_psql('app', "$findings(8, 8)"), '', 'the first block here verifies by itself');
command_ok([ 'pg_dump', '--create', '-Fc', '-f', "$dir/months", '-d', $node->connstr('months') ], 'the database that lost a month is dumped');
command_ok([ 'pg_restore', '--create', '--exit-on-error', '-d', $target->connstr('postgres'), "$dir/months" ], 'and restored');
is($target->safe_psql('months', $summary), '', 'its statement holds there');
$target->safe_psql('months', $state->(2));
$target->safe_psql('months', 'DROP TABLE ringfence_data.audit_log_202502; SELECT ringfence.audit_seal()');
is($target->safe_psql('months', $summary), '', 'and another is made');
is($target->safe_psql('app', "SET session_replication_role = replica;
	UPDATE ringfence_data.audit_log SET reason = 'x' WHERE id = '$r31';
	SELECT block, record, problem FROM ringfence.audit_verify()"), "3|$r31|record_altered", 'an old record altered here is found');
$target->stop;

# After an incident: damage at the end of the chain is accepted, and stays visible.
($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\nSELECT ringfence.audit_accept_damage('nothing')");
like($err, qr/55000: the audit chain ends where its head says/, 'without damage there is nothing to accept');
my $newest = $node->safe_psql('app', 'SELECT max(number) FROM ringfence_data.audit_blocks');
my $lost = sub { return join "\n", map { "$_ block_missing" } @_ };
for my $case (
	[ 'the newest block was deleted', "DELETE FROM ringfence_data.audit_blocks WHERE number = $newest", $newest + 2, [ $newest, $newest + 1 ] ],
	[ 'the head was deleted', 'DELETE FROM ringfence_data.audit_head', $newest + 2, [ $newest + 1 ] ],
	[ 'the head was altered', 'UPDATE ringfence_data.audit_head SET number = 1000000', $newest + 2, [ $newest + 1 ] ],
	[ 'an older head was put back', $old_head =~ s/; DELETE FROM ringfence_data.audit_blocks.*/ WHERE k.public_key = decode(c ->> 'public_key', 'hex')/r, $newest + 2, [ $newest + 1 ] ],
	[ 'the newest block is damaged', "UPDATE ringfence_data.audit_blocks SET nonce = '' WHERE number = $newest", $newest + 2, [ $newest + 1 ] ],
	[ 'all blocks were deleted', 'DELETE FROM ringfence_data.audit_blocks', $newest + 2, [ 1 .. $newest + 1 ] ])
{
	my ($name, $sql, $next, $missing) = @$case;
	my ($damaged, $accepted, $findings) = map { "$dir/$_" } qw(a b c);
	($rc, $out, $err) = $node->psql('app', "
		\\set VERBOSITY sqlstate
		\\pset tuples_only on
		BEGIN;
		SET LOCAL session_replication_role = replica;
		$sql;
		SET LOCAL session_replication_role = origin;
		SAVEPOINT a;
		SELECT ringfence.audit_seal();
		ROLLBACK TO a;
		SELECT ringfence.audit_accept_damage(' ');
		ROLLBACK TO a;
		SELECT 'sealed ' || ringfence.audit_accept_damage('incident 17');
		SELECT concat_ws(' ', block, problem) FROM ringfence.audit_verify() WHERE problem = 'block_missing';
		SELECT 'later: ' || count(*) FROM ringfence.audit_verify($next);
		SELECT 'nothing new: ' || coalesce(ringfence.audit_seal()::text, '');
		SELECT concat_ws(' ', action, key, reason) FROM ringfence_data.audit_log WHERE action = 'audit.damage_accepted';
		ROLLBACK", on_error_stop => 0);
	like($err, qr/XX001.*23502/s, "$name: audit_seal() refuses, and a reason is required");
	is($out, "sealed $next\n" . $lost->(@$missing) . "\nlater: 0\nnothing new: \naudit.damage_accepted $next incident 17", "$name: accepted");
}
$node->stop;
done_testing();
