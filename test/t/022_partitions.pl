# Partitions are dropped by a worker and in steps. Whenever the server, the worker or
# the caller is killed, the next run ends what was begun, nothing is left, and nothing
# is lost that was not to be dropped. Meanwhile nobody else stands in a queue for long.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;
use Time::HiRes qw(usleep);

my $org = '0aaaaaaa-0000-7000-8000-00000000000a';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
restart_after_crash = on
max_worker_processes = 12
autovacuum_naptime = 1s
log_lock_waits = on
deadlock_timeout = 200ms
});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', qq{
	REVOKE TEMPORARY ON DATABASE app FROM PUBLIC;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org', 'A');
	CREATE SCHEMA app;
	GRANT ALL ON SCHEMA app TO ringfence_owner;
	SELECT ringfence.protect_schema('app');
	BEGIN;
	CREATE TABLE app.devices (id uuid NOT NULL, seen integer NOT NULL DEFAULT 0);
	SELECT ringfence.protect('app.devices', '{"owner": "all"}');
	CREATE TABLE app.pings (org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
		id uuid NOT NULL DEFAULT ringfence.uuid7(), at timestamptz NOT NULL, device_id uuid NOT NULL,
		PRIMARY KEY (org_id, at, id), FOREIGN KEY (org_id, device_id) REFERENCES app.devices (org_id, id))
		PARTITION BY RANGE (at);
	CREATE INDEX ON app.pings (org_id, device_id);
	SELECT ringfence.protect('app.pings', '{"owner": "all"}');
	COMMIT;
	INSERT INTO app.devices (org_id, id) SELECT '$org', ('0aaaaaaa-0000-7000-8000-0000000000' || lpad(n::text, 2, '0'))::uuid FROM generate_series(1, 20) AS n;
});

# Twelve months of 2024 with 1000 rows each, and the present ones.
sub fill
{
	$node->safe_psql('app', qq{
		SELECT ringfence.partition_by('app.pings', 'month', 1);
		BEGIN;
		SELECT ringfence.library_version();
		SET LOCAL ringfence.retention_clock = '2024-01-15';
		SELECT ringfence.partition_by('app.pings', 'month', 11);
		COMMIT;
		SELECT ringfence.partition_by('app.pings', 'month', 1);
		SELECT ringfence.retain('app.pings', 'at', '90 days', 'drop_partition');
		INSERT INTO app.pings (org_id, at, device_id)
		SELECT '$org', '2024-01-01'::timestamptz + n * interval '44 minutes', '0aaaaaaa-0000-7000-8000-000000000001' FROM generate_series(0, 11900) AS n;
		INSERT INTO app.pings (org_id, at, device_id) VALUES ('$org', now(), '0aaaaaaa-0000-7000-8000-000000000001');
	});
	return;
}

# How many of the rows are from one day of the year until before another.
sub rows
{
	my ($from, $to) = map { int(($_ * 1440 + 43) / 44) } @_;
	return $to - $from;
}

# Partitions before then are gone, and those from then on complete.
sub clean
{
	my ($before, $name) = @_;
	my $first = $before =~ s/^2024-13/2025-01/r;
	is( $node->safe_psql('app', "SELECT count(*) FILTER (WHERE at < '$first'), count(DISTINCT date_trunc('month', at)) FILTER (WHERE at < '2025-01-01') FROM app.pings"),
		'0|' . (12 - substr($before, 5, 2) + 1), "$name: the rows are gone, and no others");
	is( $node->safe_psql('app', q{
			SELECT c.relname FROM pg_class AS c WHERE c.relname ~ '^pings_[0-9]+$' AND c.relkind = 'r'
			AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid AND NOT i.inhdetachpending)}),
		'', "$name: no partition is left detached");
	is($node->safe_psql('app', 'SELECT d.name FROM ringfence_data.partition_drops AS d WHERE d.partition IS NOT NULL'), '', "$name: none is on its way");
	is($node->safe_psql('app', q{SELECT v.code, v.object FROM ringfence.verify() AS v WHERE v.object ~ 'pings'}), '', "$name: verify() finds nothing");
	is( $node->safe_psql('app', q{SELECT l.mode FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE l.locktype IN ('relation', 'object') AND a.pid IS NULL}),
		'', "$name: nobody who is gone holds a lock");
	return;
}

sub drop_before
{
	my ($before, @more) = @_;
	return $node->safe_psql('app', "CALL ringfence.drop_partitions('app.pings', '$before'" . join('', map { ", $_" } @more) . ')');
}

# Begins with the next partition; the statements that go on with it.
my $id = '(SELECT d.id FROM ringfence_data.partition_drops AS d WHERE d.partition IS NOT NULL)';
my $detach = "SELECT ringfence.detach_partition($id, 60000)";
my $advance = "SELECT ringfence.advance_partition_drop($id)";
sub begin_drop
{
	my ($before) = @_;
	return $node->safe_psql('app', "SELECT ringfence.begin_partition_drop('app.pings', '$before') IS NOT NULL");
}

# Statements in a session, whose end is not waited for.
sub send_off
{
	my ($session, $sql) = @_;
	$session->{in} .= "$sql;\n";
	IPC::Run::pump_nb($session->{psql});
	return;
}

sub crash
{
	my (@sessions) = @_;
	kill_server($node);
	finish($_) for @sessions;
	start_again($node);
	return;
}

my $pending = 'SELECT count(*) = 1 FROM pg_inherits AS i WHERE i.inhdetachpending';
fill();

# The server is killed

is(begin_drop('2024-02-01'), 't', 'a drop is begun');
crash();
is(drop_before('2024-02-01'), '1', 'killed at the beginning: it goes on');
clean('2024-02-01', 'killed at the beginning');

begin_drop('2024-03-01');
my $user = session($node->connstr('app'));
ask($user, 'BEGIN; SELECT count(*) FROM app.pings');
my $dropper = session($node->connstr('app'));
send_off($dropper, $detach);
ok($node->poll_query_until('app', $pending), 'the worker waits for who uses the table');
crash($dropper, $user);
is($node->safe_psql('app', $pending), 't', 'killed while it waits: the detaching is pending');
is(drop_before('2024-03-01'), '1', 'and goes on');
clean('2024-03-01', 'killed while it waits');

begin_drop('2024-04-01');
is($node->safe_psql('app', $detach), 't', 'the worker detaches');
crash();
is($node->safe_psql('app', "$advance; $advance; $advance"), "detached\ndetached\ndropped", 'killed when it is detached: it goes on');
clean('2024-04-01', 'killed when it is detached');

begin_drop('2024-05-01');
$node->safe_psql('app', "$detach; $advance; $advance");
$dropper = session($node->connstr('app'));
is(ask($dropper, "BEGIN; $advance"), 'dropped', 'it is dropped');
crash($dropper);
is($node->safe_psql('app', "SELECT count(*) FROM app.pings_202404"), rows(91, 121), 'killed before the commit: it is there');
is(drop_before('2024-05-01'), '1', 'and goes on');
clean('2024-05-01', 'killed before the commit');

begin_drop('2024-06-01');
$node->safe_psql('app', $detach);
$node->safe_psql('app', q{SELECT ringfence.place_hold('court order', 'app.pings', rows => '{"device_id": "0aaaaaaa-0000-7000-8000-000000000001"}')});
is($node->safe_psql('app', $advance), 'busy', 'a hold: it is put back');
crash();
is(drop_before('2024-06-01'), '0', 'killed when it is put back: nothing is dropped');
is($node->safe_psql('app', "SELECT count(*) FROM app.pings WHERE at < '2024-06-01'"), rows(121, 152), 'all its rows are there');
$node->safe_psql('app', q{SELECT ringfence.release_hold(h.id, 'over') FROM ringfence_data.legal_holds AS h});
is(drop_before('2024-06-01'), '1', 'without the hold it goes');
clean('2024-06-01', 'killed when it is put back');

# Partitions that are being made
$node->safe_psql('app', q{UPDATE ringfence_data.partitioned_tables SET ahead = 3 WHERE relation = 'app.pings'::regclass});
my $maker = session($node->connstr('app'));
is(ask($maker, 'BEGIN; SELECT ringfence.make_partitions()'), '1', 'a partition is made');
crash($maker);
is($node->safe_psql('app', 'SELECT ringfence.make_partitions() FROM generate_series(1, 3)'), "1\n1\n0", 'killed before the commit: it is made again');
$node->safe_psql('app', q{UPDATE ringfence_data.partitioned_tables SET ahead = 4 WHERE relation = 'app.pings'::regclass});
$user = session($node->connstr('app'));
ask($user, "BEGIN; UPDATE app.devices SET seen = 1 WHERE id = '0aaaaaaa-0000-7000-8000-000000000001'");
my ($rc, $out, $err) = $node->psql('app', 'SELECT ringfence.make_partitions()');
like($err, qr/could not make a partition of table app.pings: tables that it references are in use/, 'who writes a referenced table keeps it from being made');
$maker = session($node->connstr('app'));
my $pid = ask($maker, 'SELECT pg_backend_pid()');
send_off($maker, 'SELECT ringfence.make_partitions()');
$node->poll_query_until('app', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid");
kill 'KILL', $pid;
finish($_) for $maker, $user;
$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
is($node->safe_psql('app', 'SELECT ringfence.make_partitions() FROM generate_series(1, 2)'), "1\n0", 'killed while it tries: it is made then');

# The worker or the caller is killed

my %ends = (
	'the worker is killed' => sub { kill 'KILL', $_[0]; $node->poll_query_until('app', 'SELECT true'); },
	'the worker is terminated' => sub { $node->safe_psql('app', "SELECT pg_terminate_backend($_[0])") },
	'the worker is canceled' => sub { $node->safe_psql('app', "SELECT pg_cancel_backend($_[0])") },
	'the caller is killed' => sub { kill 'KILL', $_[1]; $node->poll_query_until('app', 'SELECT true'); },
	'the caller is terminated' => sub { $node->safe_psql('app', "SELECT pg_terminate_backend($_[1])") },
	'the caller is canceled' => sub { $node->safe_psql('app', "SELECT pg_cancel_backend($_[1])") });
my $month = 6;
for my $name (sort keys %ends)
{
	my $before = sprintf '2024-%02d-01', ++$month;
	begin_drop($before);
	$user = session($node->connstr('app'));
	ask($user, 'BEGIN; SELECT count(*) FROM app.pings');
	$dropper = session($node->connstr('app'));
	$pid = ask($dropper, 'SELECT pg_backend_pid()');
	send_off($dropper, $detach);
	$node->poll_query_until('app', $pending) or BAIL_OUT('the worker does nothing');
	my $worker = $node->safe_psql('app', q{SELECT a.pid FROM pg_stat_activity AS a WHERE a.backend_type = 'ringfence partition'});
	like($worker, qr/^\d+$/, "$name: it shows in pg_stat_activity");
	$ends{$name}->($worker, $pid);
	finish($_) for $user, $dropper;
	drop_before($before);
	clean($before, $name);
}

# Without a slot for the worker
$node->append_conf('postgresql.conf', "max_worker_processes = 1\n");
$node->restart;
($rc, $out, $err) = $node->psql('app', q{CALL ringfence.drop_partitions('app.pings', '2025-01-01', max_seconds => 1)});
like($err, qr/WARNING:  could not drop a partition of table app.pings: 53000: /, 'without a free worker slot it says so');
is($out, '0', 'and drops nothing');
like($node->safe_psql('app', 'SELECT d.last_error FROM ringfence_data.partition_drops AS d WHERE d.partition IS NOT NULL'), qr/^53000: /, 'which is on record');
$node->append_conf('postgresql.conf', "max_worker_processes = 12\n");
$node->restart;
is(drop_before('2025-01-01'), '1', 'with one, it does');

# Traffic: nobody waits for a lock for long, whoever works on the referenced table

fill();
$node->safe_psql('app', q{
	CREATE TABLE public.done (n bigint);
	CREATE FUNCTION public.work(device uuid) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO app.pings (org_id, at, device_id) VALUES ('0aaaaaaa-0000-7000-8000-00000000000a', clock_timestamp(), device);
		PERFORM count(*) FROM app.pings AS p WHERE p.org_id = '0aaaaaaa-0000-7000-8000-00000000000a' AND p.device_id = device AND p.at > now() - interval '1 s';
		UPDATE app.devices AS d SET seen = seen + 1 WHERE d.org_id = '0aaaaaaa-0000-7000-8000-00000000000a' AND d.id = device;
	END $$;
});
my $script = $node->basedir . '/traffic.sql';
append_to_file($script, q{
\set n random(10, 19)
SELECT public.work(('0aaaaaaa-0000-7000-8000-0000000000' || :n)::uuid);
});
my $before = $node->safe_psql('app', 'SELECT count(*) FROM app.pings');
local $ENV{PGOPTIONS} = '-c lock_timeout=250ms';
my ($printed, $complaints) = ('', '');
my $pgbench = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '4', '-T', '12', '-f', $script, $node->connstr('app') ],
	'>', \$printed, '2>', \$complaints);
# One who is slow: half a second in each transaction, every second.
my $slow = session($node->connstr('app'));
send_off($slow, "BEGIN; UPDATE app.devices SET seen = seen + 1 WHERE id = '0aaaaaaa-0000-7000-8000-000000000002'; SELECT pg_sleep(0.5); COMMIT; SELECT pg_sleep(0.5)")
  for 1 .. 10;
delete $ENV{PGOPTIONS};
is(drop_before('2025-01-01'), '12', 'under load twelve partitions are dropped');
$node->safe_psql('app', q{UPDATE ringfence_data.partitioned_tables SET ahead = 6 WHERE relation = 'app.pings'::regclass});
my $made = 0;
for (1 .. 20)
{
	($rc, $out, $err) = $node->psql('app', 'SELECT ringfence.make_partitions()');
	last if $rc == 0 && $out eq '0';
	$made++ if $rc == 0;
}
is($made, 2, 'and made ahead');
$pgbench->finish;
finish($slow);
is($complaints =~ /error|aborted/i ? $complaints : '', '', 'and nobody waits for a lock for a quarter of a second');
my ($transactions) = $printed =~ /number of transactions actually processed: (\d+)/;
cmp_ok($transactions, '>', 100, 'who work meanwhile');
is($node->safe_psql('app', "SELECT count(*) - $before + 11901 FROM app.pings"), $transactions, 'and lose no row');
clean('2024-13-01', 'under load');

$node->stop;
done_testing();
