# On a streaming replica the books can be read, and whatever posts fails as a write.
# Once it is promoted it posts itself, and knows what was posted. A logical replica
# gets every transfer as it is, however it was written.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $org = '0aaaaaaa-0000-7000-8000-000000000001';
my $user = '0aaaaaaa-0001-7000-8000-000000000001';

sub entered
{
	my ($sql) = @_;
	return "DO \$\$BEGIN PERFORM ringfence.set_context('$org', NULL, ARRAY['accountant']); END\$\$;\n$sql;\n";
}

sub post
{
	my ($node, $sql) = @_;
	return $node->safe_psql('app', "BEGIN;\n" . entered($sql) . 'COMMIT');
}

# transfer() of a number, between accounts by their codes.
sub transfer
{
	my ($n, $debit, $credit, $amount, $more) = @_;
	return "SELECT ringfence.transfer(ringfence.account('$debit'), ringfence.account('$credit'), $amount, 'test', public.id($n)" . ($more // '') . ')';
}

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 'logical');
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE app; REVOKE TEMPORARY ON DATABASE app FROM PUBLIC; CREATE DATABASE copy');
$primary->safe_psql('app', qq{
	SET client_min_messages = error;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	CREATE ROLE regress_web LOGIN NOINHERIT;
	GRANT ringfence_authenticator TO regress_web;
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org', 'replicated');
	INSERT INTO ringfence_data.users (id, email) VALUES ('$user', 'accountant\@books.test');
	INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES ('$org', '$user', '{accountant}');
	CREATE FUNCTION public.id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
		\$\$SELECT ('0bbb0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid\$\$;
	CREATE FUNCTION public.t(id uuid, metadata jsonb DEFAULT NULL) RETURNS ringfence.transfer LANGUAGE sql STABLE AS \$\$
		SELECT (id, ringfence.account('bank'), ringfence.account('shop'), 1, 'EUR', 'test',
			NULL, NULL, NULL, NULL, NULL, metadata, false)::ringfence.transfer
	\$\$;
	CREATE PUBLICATION transfers FOR TABLE ringfence_data.ledger_transfers;
	SELECT pg_create_logical_replication_slot('transfers', 'pgoutput');
});
# The copy has the columns, and nothing else.
my $columns = $primary->safe_psql('app', q{
	SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
	FROM pg_attribute AS a
	WHERE a.attrelid = 'ringfence_data.ledger_transfers'::regclass AND a.attnum > 0 AND NOT a.attisdropped});
$primary->safe_psql('copy', "CREATE SCHEMA ringfence_data; CREATE TABLE ringfence_data.ledger_transfers ($columns)");

post($primary, q{
	SELECT ringfence.open_asset('EUR', 2);
	SELECT ringfence.open_account('bank', 'bank', 'EUR', 'asset');
	SELECT ringfence.open_account('alice', 'alice', 'EUR', 'liability', true);
	SELECT ringfence.open_account('shop', 'shop', 'EUR', 'revenue')});
post($primary, transfer(1, 'bank', 'alice', 1000));
post($primary, transfer(2, 'alice', 'shop', 100));
post($primary, transfer(3, 'alice', 'shop', 200, ', pending => true'));
post($primary, transfer(4, 'alice', 'shop', 50, q{, pending => true, timeout => '1 microsecond'}));
post($primary, q{SELECT ringfence.close_period('2020-02-01')});

$primary->backup('base');
my $replica = PostgreSQL::Test::Cluster->new('replica');
$replica->init_from_backup($primary, 'base', has_streaming => 1);
$replica->start;
# What comes after the backup arrives as well; two at a time, so that there are two balances.
my $other = session($primary->connstr('app'));
ask($other, "BEGIN;\n" . entered(transfer(5, 'bank', 'shop', 7)));
post($primary, transfer(6, 'bank', 'shop', 8));
ask($other, 'COMMIT');
finish($other);
$primary->wait_for_catchup($replica, 'replay', $primary->lsn('flush'));

my %books = (
	q{SELECT ringfence.balance(ringfence.account('alice'))} => '900',
	q{SELECT ringfence.balance(ringfence.account('alice'), '2020-01-01')} => '0',
	q{SELECT ringfence.available(ringfence.account('alice'))} => '650',
	q{SELECT t.debit, t.credit, t.balance FROM ringfence.statement(ringfence.account('alice')) AS t} => "|1000|1000\n100||900",
	q{SELECT t.code, t.balance FROM ringfence.trial_balance() AS t} => "alice|900\nbank|1015\nshop|115");
for my $sql (sort keys %books)
{
	is($replica->safe_psql('app', "BEGIN;\n" . entered($sql) . 'COMMIT'), $books{$sql}, "on the replica: $sql");
}
is($replica->safe_psql('app', 'SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v'), '', 'ledger_verify() finds nothing on the replica');
is( request_ok($replica, 'app', claims($org, $user), 'SELECT code, balance, available FROM ringfence_v1.ledger_accounts ORDER BY code', 'ONLY'),
	"alice|900|650\nbank|1015|1015\nshop|115|115", 'an accountant reads accounts there');

my $batch = 'SELECT code FROM ringfence.transfers(ARRAY[public.t(public.id(90))])';
for my $sql (
	transfer(90, 'bank', 'shop', 1), transfer(1, 'bank', 'alice', 1000), $batch,
	'SELECT ringfence.post_pending(public.id(3))', 'SELECT ringfence.void_pending(public.id(3))',
	q{SELECT ringfence.reverse(public.id(2), 'wrong')}, 'SELECT ringfence.expire_pending()',
	q{SELECT ringfence.close_period('2020-03-01')}, 'SELECT ringfence.ledger_seal()',
	q{SELECT ringfence.set_account_limit(ringfence.account('alice'), false)},
	q{SELECT ringfence.open_account('new', 'new', 'EUR', 'asset')})
{
	my ($rc, $out, $err) = $replica->psql('app', "\\set VERBOSITY verbose\nBEGIN;\n" . entered($sql), on_error_stop => 1);
	like($err, qr/^psql:<stdin>:\d+: ERROR:  25006: cannot execute [\w.]+(\(\))? (in a read-only transaction|during recovery)/m, "is refused as a write: $sql");
}
# So it is in a transaction that only reads, on the primary.
for my $sql (transfer(90, 'bank', 'shop', 1), $batch, 'SELECT ringfence.expire_pending()')
{
	my ($rc, $out, $err) = $primary->psql('app', "\\set VERBOSITY verbose\nBEGIN READ ONLY;\n" . entered($sql), on_error_stop => 1);
	like($err, qr/ERROR:  25006: cannot execute ringfence\.\w+\(\) in a read-only transaction/, "is refused where one only reads: $sql");
}

# Written one by one and together, with ids and without, some of which are taken, with
# rows in a table of their own, taken back to a savepoint, and with nothing left.
my $big = q{(SELECT jsonb_build_object('text', string_agg(md5(n::text), '')) FROM generate_series(1, 200) AS n)};
is(post($primary, q{SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[public.t(public.id(11)), public.t(public.id(12)), public.t(public.id(13))]) AS r}),
	'ok ok ok', 'a batch of ids');
is(post($primary, q{SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[public.t(public.id(14)), public.t(public.id(12)), public.t(NULL)]) AS r}),
	'ok exists ok', 'a batch with one that is taken');
is(post($primary, q{SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[public.t(public.id(12))]) AS r}), 'exists', 'one that is taken');
is(post($primary, qq{SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[public.t(public.id(15), $big), public.t(public.id(16), $big), public.t(NULL, $big)]) AS r}),
	'ok ok ok', 'a batch with much metadata');
is(post($primary, qq{SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[public.t(public.id(17), $big)]) AS r}), 'ok', 'one with much metadata');
is(post($primary, qq{SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[public.t(public.id(17), $big), public.t(public.id(18), $big)]) AS r}), 'exists ok', 'and again');
is(post($primary, q{SELECT count(*) FROM ringfence.transfers(ARRAY(SELECT public.t(NULL) FROM generate_series(1, 1200))) AS r WHERE r.code = 'ok'}), '1200', 'many');
is(post($primary, q{SELECT count(*) FROM ringfence.transfers(ARRAY(SELECT public.t(public.id(1000 + n)) FROM generate_series(1, 1200) AS n)) AS r WHERE r.code = 'ok'}), '1200', 'many with ids');
is(post($primary, qq{SAVEPOINT s;
	SELECT r.code FROM ringfence.transfers(ARRAY[public.t(public.id(21))]) AS r;
	ROLLBACK TO s;
	SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[public.t(public.id(22)), public.t(public.id(21), $big)]) AS r}),
	"ok\nok ok", 'one that was taken back, and another of its id');
# One waits for another, who takes it back, and for one who doesn't.
for my $end ('ROLLBACK', 'COMMIT')
{
	my @sessions = map { session($primary->connstr('app')) } 1 .. 2;
	my $n = $end eq 'COMMIT' ? 31 : 41;
	my @send = map { "BEGIN;\n" . entered("SELECT string_agg(r.code, ' ') FROM ringfence.transfers(ARRAY[$_]) AS r") }
	  ("public.t(public.id($n))", "public.t(public.id($n)), public.t(public.id($n + 1)), public.t(public.id($n - 1))");
	is(ask($sessions[0], $send[0]), 'ok', "one posts, to $end");
	$sessions[1]->{in} .= $send[1];
	IPC::Run::pump_nb($sessions[1]->{psql}) while length $sessions[1]->{in};
	$primary->poll_query_until('app', 'SELECT count(*) > 0 FROM pg_locks AS l WHERE NOT l.granted') or BAIL_OUT('nobody waits');
	ask($sessions[0], $end);
	is(ask($sessions[1], ''), $end eq 'COMMIT' ? 'exists ok ok' : 'ok ok ok', 'another who sent it as well');
	ask($sessions[1], 'COMMIT');
	finish($_) for @sessions;
}
is($primary->safe_psql('app', 'SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v'), '', 'ledger_verify() finds nothing');

$primary->safe_psql('copy', q{CREATE SUBSCRIPTION transfers CONNECTION '} . $primary->connstr . q{ dbname=app' PUBLICATION transfers WITH (create_slot = false, copy_data = false)});
$primary->wait_for_catchup('transfers');
my $rows = q{SELECT count(*), md5(string_agg(t::text, E'\n' ORDER BY t.id)) FROM ringfence_data.ledger_transfers AS t};
is($primary->safe_psql('copy', $rows), $primary->safe_psql('app', $rows), 'the logical replica has all transfers as they are');
$primary->safe_psql('copy', 'DROP SUBSCRIPTION transfers');

$primary->wait_for_catchup($replica, 'replay', $primary->lsn('flush'));
my $before = fingerprint($primary, 'app');
$primary->stop('immediate');
is(fingerprint($replica, 'app'), $before, 'the replica has the same rows');
$replica->promote;
is(post($replica, transfer(2, 'alice', 'shop', 100)), '0bbb0000-0000-7000-8000-000000000002', 'once it is promoted, what is sent again exists');
is(post($replica, 'SELECT ringfence.post_pending(public.id(3), 150, public.id(91))'), '0bbb0000-0000-7000-8000-000000000091', 'a hold is posted');
is($replica->safe_psql('app', 'SELECT ringfence.expire_pending()'), '1', 'another expires');
is(post($replica, transfer(92, 'alice', 'shop', 750)), '0bbb0000-0000-7000-8000-000000000092', 'all that is left is spent');
my ($rc, $out, $err) = $replica->psql('app', "\\set VERBOSITY verbose\nBEGIN;\n" . entered(transfer(93, 'alice', 'shop', 1)));
like($err, qr/PT409: an account would be overdrawn/, 'and nothing beyond it');
is(fingerprint($replica, 'app') eq $before ? 'same' : 'other', 'other', 'rows have changed');
is($replica->safe_psql('app', 'SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v'), '', 'ledger_verify() finds nothing');

$replica->stop;
done_testing();
