# A ledger that is dumped and restored goes on where it was: the same rows, nothing
# to be found wrong with them, what is sent again exists, holds can be resolved,
# closed periods and limits stand, and it is as closed to writing as before. So it is
# after a crash: what was in flight is gone as if it had never been, and what was
# prepared still holds what it held.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $org = '0aaaaaaa-0000-7000-8000-000000000001';

# What a transaction prints that posts in the organization.
sub post
{
	my ($node, $sql, $end) = @_;
	return $node->safe_psql('app', entered($sql, $end));
}

sub entered
{
	my ($sql, $end) = @_;
	$end //= 'COMMIT';
	return "BEGIN;\nDO \$\$BEGIN PERFORM ringfence.set_context('$org', NULL, ARRAY['accountant']); END\$\$;\n$sql;\n$end";
}

sub post_fails
{
	my ($node, $sql, $pattern, $name) = @_;
	my ($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\n" . entered($sql), on_error_stop => 1);
	isnt($rc, 0, "$name: fails");
	like($err, $pattern, "$name: says why");
	return;
}

# transfer() of a number, between accounts by their codes.
sub transfer
{
	my ($n, $debit, $credit, $amount, $more) = @_;
	return "SELECT ringfence.transfer(ringfence.account('$debit'), ringfence.account('$credit'), $amount, 'test', public.id($n)" . ($more // '') . ')';
}

my $source = PostgreSQL::Test::Cluster->new('source');
$source->init;
$source->append_conf('postgresql.conf', "max_prepared_transactions = 5\nringfence.audit_key_file = 'audit_key.pem'\n");
append_to_file($source->data_dir . '/audit_key.pem',
	"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n");
chmod 0600, $source->data_dir . '/audit_key.pem';
$source->start;
$source->safe_psql('postgres', 'CREATE DATABASE app; REVOKE TEMPORARY ON DATABASE app FROM PUBLIC');
$source->safe_psql('app', qq{
	SET client_min_messages = error;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	CREATE FUNCTION public.id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
		\$\$SELECT ('0bbb0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid\$\$;
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org', 'dumped');
});
post($source, q{
	SELECT ringfence.open_asset('EUR', 2);
	SELECT ringfence.open_account('bank', 'bank', 'EUR', 'asset');
	SELECT ringfence.open_account('alice', 'alice', 'EUR', 'liability', true);
	SELECT ringfence.open_account('bob', 'bob', 'EUR', 'liability', true, 50);
	SELECT ringfence.open_account('shop', 'shop', 'EUR', 'revenue');
	SELECT ringfence.open_account('old', 'closed', 'EUR', 'expense');
	SELECT ringfence.close_account(ringfence.account('old'))});
my @sent = (
	transfer(1, 'bank', 'alice', 1000, ", posted_at => '2020-01-10 12:00+00'"),
	transfer(2, 'alice', 'shop', 100, ", reference => 'shoes', metadata => '{\"size\": 44}'"),
	transfer(3, 'alice', 'shop', 200, ', pending => true'),
	transfer(4, 'alice', 'shop', 300, ', pending => true'),
	transfer(5, 'alice', 'bob', 50, q{, pending => true, timeout => '1 microsecond'}),
	transfer(6, 'bob', 'shop', 50, ', pending => true'),
	'SELECT ringfence.post_pending(public.id(3), 150, public.id(7))',
	q{SELECT ringfence.reverse(public.id(2), 'returned', public.id(8))});
post($source, $_) for @sent;
$source->safe_psql('app', 'SELECT ringfence.expire_pending()');
is(post($source, "SELECT ringfence.close_period('2020-02-01') AT TIME ZONE 'UTC'"), '2020-02-01 00:00:00', 'a period is closed');
# Two at a time, for which accounts have two balances.
my $other = session($source->connstr('app'));
ask($other, entered(transfer(9, 'bank', 'shop', 7), 'SELECT'));
post($source, transfer(10, 'bank', 'shop', 8));
ask($other, 'COMMIT');
finish($other);
push @sent, transfer(9, 'bank', 'shop', 7), transfer(10, 'bank', 'shop', 8);
is($source->safe_psql('app', 'SELECT count(*) > 1 FROM ringfence_data.ledger_balances AS b INNER JOIN ringfence_data.ledger_accounts AS a ON a.id = b.account_id GROUP BY a.code ORDER BY a.code'),
	"f\nt\nf\nf\nt", 'two accounts have several balances');
$source->safe_psql('app', q{SELECT pg_sleep(1.1); SELECT ringfence.ledger_seal('1 second')});
is($source->safe_psql('app', 'SELECT sum(transfers) FROM ringfence_data.ledger_blocks'), '11', 'everything is sealed');

my $holds = q{SELECT string_agg(format('%s %s', right(h.id::text, 2), h.amount), ', ' ORDER BY h.id) FROM ringfence_data.ledger_holds AS h};
my $books = q{SELECT string_agg(format('%s %s', t.code, t.balance), ', ' ORDER BY t.code) FROM ringfence.trial_balance() AS t};
my $available = q{SELECT string_agg(format('%s %s', a.code, ringfence.available(a.id)), ', ' ORDER BY a.code) FROM ringfence_data.ledger_accounts AS a WHERE a.no_overdraft};

# What holds of every copy of it.
sub check
{
	my ($node, $name) = @_;
	is(post($node, $books), 'alice 850, bank 1015, bob 0, old 0, shop 165', "$name: the balances");
	is(post($node, $holds), '04 300, 06 50', "$name: what is held");
	is(post($node, $available), 'alice 550, bob 0', "$name: what is available");
	is(post($node, q{SELECT t.balance FROM ringfence.statement(ringfence.account('alice')) AS t}), "1000\n900\n750\n850", "$name: a statement");
	is($node->safe_psql('app', 'SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v'), '', "$name: ledger_verify() finds nothing");
	my $count = $node->safe_psql('app', 'SELECT count(*) FROM ringfence_data.ledger_transfers');
	like(post($node, $_), qr/^0bbb0000-/, "$name: is sent again: $_") for @sent;
	is($node->safe_psql('app', 'SELECT count(*) FROM ringfence_data.ledger_transfers'), $count, "$name: and nothing has come of that");
	post_fails($node, transfer(2, 'alice', 'shop', 101), qr/PT409: there is another transfer of this id/, "$name: another one");
	post_fails($node, transfer(91, 'bank', 'shop', 1, ", posted_at => '2020-01-31 23:59+00'"), qr/PT409: the books are closed for that time/, "$name: in the closed period");
	post_fails($node, transfer(91, 'bank', 'old', 1), qr/PT409: the credit account is closed/, "$name: to the closed account");
	post_fails($node, transfer(91, 'alice', 'shop', 551), qr/PT409: an account would be overdrawn/, "$name: more than is available");
	post_fails($node, transfer(91, 'bob', 'shop', 1), qr/PT409: an account would be overdrawn/, "$name: beyond a credit limit");
	post_fails($node, 'SELECT ringfence.post_pending(public.id(5))', qr/PT409: the pending transfer has expired/, "$name: an expired hold");
	post_fails($node, q{SELECT ringfence.reverse(public.id(2), 'again')}, qr/PT409: the transfer has been reversed/, "$name: a second reversal");
	for my $table (qw(ledger_transfers ledger_holds ledger_balances ledger_blocks))
	{
		my ($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\nDELETE FROM ringfence_data.$table");
		like($err, qr/42501: the ledger is written by ringfence alone/, "$name: $table can't be deleted from");
	}
	return;
}

# And it goes on.
sub go_on
{
	my ($node, $name) = @_;
	post($node, transfer(20, 'alice', 'bob', 550));
	post($node, 'SELECT ringfence.post_pending(public.id(4), 299, public.id(21))');
	post($node, 'SELECT ringfence.void_pending(public.id(6), public.id(22))');
	post($node, transfer(23, 'bob', 'shop', 600));
	is(post($node, $books), 'alice 1, bank 1015, bob -50, old 0, shop 1064', "$name: posting goes on");
	is(post($node, $holds), '', "$name: holds are resolved");
	is(post($node, q{SELECT ringfence.close_period('2020-03-01') AT TIME ZONE 'UTC'}), '2020-03-01 00:00:00', "$name: the next period is closed");
	is($node->safe_psql('app', 'SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v'), '', "$name: ledger_verify() finds nothing then");
	return;
}

check($source, 'as it is');
my $rows = fingerprint($source, 'app');
for my $format ('-Fc', '-Fp')
{
	my $file = $source->basedir . "/dump$format";
	my $target = PostgreSQL::Test::Cluster->new('target' . substr $format, 2);
	command_ok([ 'pg_dumpall', '--roles-only', '--no-role-passwords', '-f', "$file.roles", '-d', $source->connstr('postgres') ], "$format: dumps the roles");
	command_ok([ 'pg_dump', '--create', $format, '-f', $file, '-d', $source->connstr('app') ], "$format: dumps");
	$target->init;
	$target->start;
	my $connstr = $target->connstr('postgres');
	run_log([ 'psql', '-X', '-q', '-d', $connstr, '-f', "$file.roles" ]);
	if ($format eq '-Fc')
	{
		command_ok([ 'pg_restore', '--create', '--exit-on-error', '-j', '2', '-d', $connstr, $file ], "$format: restores");
	}
	else
	{
		command_ok([ 'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $connstr, '-f', $file ], "$format: restores");
	}
	is(fingerprint($target, 'app'), $rows, "$format: the same rows");
	verify_clean($target, 'app', $format);
	check($target, $format);
	go_on($target, $format);
	$target->stop;
}

# A crash, with one transaction prepared that has taken 500 of what Alice has left,
# and another in flight that has given her more.
post($source, transfer(30, 'alice', 'shop', 500), q{PREPARE TRANSACTION 'paid'});
$other = session($source->connstr('app'));
ask($other, entered(transfer(31, 'bank', 'alice', 5000), 'SELECT'));
$source->stop('immediate');
finish($other);
$source->start;
my $soon = "SET LOCAL lock_timeout = '300ms';\n";
my $waits = qr/55P03: canceling statement due to lock timeout/;
post_fails($source, $soon . transfer(32, 'alice', 'shop', 100), $waits, 'after a crash, who takes of what was prepared to go waits');
post_fails($source, $soon . transfer(30, 'alice', 'shop', 500), $waits, 'and who sends it again');
post_fails($source, $soon . q{SELECT ringfence.close_period('2020-03-01')}, $waits, 'and who closes a period');
post($source, transfer(33, 'bank', 'alice', 3));
is(post($source, $books), 'alice 853, bank 1018, bob 0, old 0, shop 165', 'who adds to it does not, and what was in flight is gone');
$source->safe_psql('app', q{COMMIT PREPARED 'paid'});
post_fails($source, transfer(32, 'alice', 'shop', 100), qr/PT409: an account would be overdrawn/, 'it is committed, and too much is refused');
post($source, transfer(30, 'alice', 'shop', 500));
is(post($source, q{SELECT ringfence.reverse(public.id(30), 'crash', public.id(34))}), '0bbb0000-0000-7000-8000-000000000034', 'it is there, and can be reversed');
post($source, transfer(35, 'alice', 'shop', 500), q{PREPARE TRANSACTION 'taken back'});
kill_server($source);
start_again($source);
$source->safe_psql('app', q{ROLLBACK PREPARED 'taken back'});
is($source->safe_psql('app', 'SELECT v.code, v.object, v.detail FROM ringfence.ledger_verify() AS v'), '', 'after two crashes ledger_verify() finds nothing');
post($source, q{SELECT ringfence.reverse(public.id(33), 'to be as before', public.id(36))});
is(post($source, $books), 'alice 850, bank 1015, bob 0, old 0, shop 165', 'and the balances are as before');
go_on($source, 'after two crashes');

$source->stop;
done_testing();
