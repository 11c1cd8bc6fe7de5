# Retention waits for others: while a standby is behind, or sessions wait for locks,
# the run rests, and says for whom; once they have caught up it goes on to its end. A
# standby that is gone is not waited for, nor is anybody where a setting says so.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $org = '0aaaaaaa-0000-7000-8000-00000000000a';
my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', "autovacuum = off\nwal_receiver_status_interval = 1s\n");
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE app; CREATE DATABASE elsewhere');
$primary->safe_psql($_, 'REVOKE TEMPORARY ON DATABASE ' . $_ . ' FROM PUBLIC; CREATE EXTENSION ringfence') for 'app', 'elsewhere';
$primary->safe_psql('app', qq{
	SELECT ringfence.install('core');
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org', 'A');
	CREATE TABLE public.item (id integer PRIMARY KEY, at timestamptz NOT NULL, v text);
	SELECT ringfence.protect('public.item', '{}');
	CREATE INDEX ON public.item (org_id, at);
	SELECT ringfence.retain('public.item', 'at', '1 year');
	CREATE SEQUENCE public.numbers;
	CREATE FUNCTION public.fill() RETURNS void LANGUAGE sql AS
		\$\$INSERT INTO public.item (org_id, id, at, v) SELECT '$org', nextval('public.numbers'), now() - interval '2 years', repeat('x', 200) FROM generate_series(1, 20000)\$\$;
	CREATE VIEW public.last_run AS
	SELECT r.state, r.rows, r.errors, r.waiting_for FROM ringfence_data.retention_runs AS r ORDER BY r.started_at DESC LIMIT 1;
	SELECT public.fill();
	CREATE TABLE public.turn (n integer);
	INSERT INTO public.turn VALUES (0);
});
is($primary->safe_psql('app', 'SELECT ringfence.replication_lag(), ringfence.lock_waiters()'), '0|0', 'nobody is behind, nobody waits');

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));

# A run in a session of its own, of which lag and waiters are told by settings.
sub begin_run
{
	my ($seconds, %settings) = @_;
	$settings{batch_ms} //= 5;
	$settings{rest} //= 0;
	my $options = join ' ', map { "-c ringfence.retention_$_=$settings{$_}" } sort keys %settings;
	my $run = session($primary->connstr('app') . " application_name=run options='$options'");
	$run->{in} .= "CALL ringfence.run_retention($seconds, 'public.item');\n";
	IPC::Run::pump_nb($run->{psql}) while length $run->{in};
	return $run;
}

sub wait_until
{
	my ($sql, $name) = @_;
	ok($primary->poll_query_until('app', $sql), $name);
	return;
}

# It looks again and again: its session begins one transaction after the other.
sub still_waits
{
	my ($for, $name) = @_;
	my $rows = $primary->safe_psql('app', 'SELECT r.rows FROM public.last_run AS r');
	for (1 .. 3)
	{
		my $since = $primary->safe_psql('app', q{SELECT max(a.xact_start) FROM pg_stat_activity AS a WHERE a.application_name = 'run'}) || '-infinity';
		$primary->poll_query_until('app', qq{SELECT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.application_name = 'run' AND a.xact_start > '$since')})
		  or BAIL_OUT('the run is stuck');
	}
	is($primary->safe_psql('app', 'SELECT r.state, r.waiting_for, r.rows FROM public.last_run AS r'), "running|$for|$rows", $name);
	return;
}

# A standby that does not replay
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$primary->safe_psql('app', 'SELECT public.fill()');
wait_until('SELECT ringfence.replication_lag() > 1000000', 'a standby that does not replay is behind');
wait_until(q{
	SELECT ringfence.replication_lag() = pg_wal_lsn_diff(pg_current_wal_flush_lsn(), s.replay_lsn) AND s.flush_lsn = pg_current_wal_flush_lsn()
	FROM pg_stat_replication AS s}, 'by what it has not replayed, though it has it');
my $run = begin_run(120, max_lag => '512kB');
wait_until(q{SELECT r.waiting_for = 'replication' FROM public.last_run AS r}, 'a run waits for it');
is($primary->safe_psql('app', 'SELECT r.rows FROM public.last_run AS r'), '0', 'before it begins');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
is(ask($run, ''), '', 'and then does all');
finish($run);
$primary->safe_psql('app', 'SELECT public.fill(), public.fill()');
# Who reads rows first writes hints, and clears away what was deleted.
$primary->safe_psql('app', 'VACUUM public.item');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
# What the run writes itself is too much by and by.
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$run = begin_run(120, max_lag => '512kB');
wait_until(q{SELECT r.waiting_for = 'replication' AND r.rows > 0 FROM public.last_run AS r}, 'amid a run as well');
still_waits('replication', 'as long as it takes');
is( $primary->safe_psql('app', q{SELECT p.state, p.waiting_for, p.rows = r.rows, p.present, p.rows_per_second > 0, p.last_error IS NULL FROM ringfence_v1.retention_progress AS p, public.last_run AS r}),
	'running|replication|t|public.item|t|t', 'which can be seen');
is($primary->safe_psql('app', 'SELECT count(*) > 0 FROM public.item'), 't', 'there is something left to do');
is($primary->safe_psql('app', q{CALL ringfence.run_retention(1, 'public.item'); SELECT count(*) FROM ringfence_data.retention_runs}), '2', 'and another run leaves meanwhile');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
is(ask($run, ''), '', 'once it replays the run goes on');
is($primary->safe_psql('app', 'SELECT r.state, r.rows, r.errors, r.waiting_for IS NULL, (SELECT count(*) FROM public.item) FROM public.last_run AS r'),
	'finished|40000|0|t|0', 'to its end');
finish($run);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
is($standby->safe_psql('app', 'SELECT count(*) FROM public.item'), '0', 'and so does the standby');
is($standby->safe_psql('app', 'SELECT ringfence.replication_lag()'), '0', 'which has none of its own');
my ($rc, $out, $err) = $standby->psql('app', "\\set VERBOSITY verbose\nCALL ringfence.run_retention(10)", on_error_stop => 1);
like($err, qr/ERROR:  25006: /, 'and runs nothing');

# Out of time while it waits
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$primary->safe_psql('app', 'SELECT public.fill()');
wait_until('SELECT ringfence.replication_lag() > 1000000', 'behind again');
$run = begin_run(1, max_lag => '512kB');
is(ask($run, ''), '', 'a run whose time is up ends');
finish($run);
is($primary->safe_psql('app', 'SELECT r.state, r.waiting_for, r.errors, (SELECT count(*) FROM public.item) = 20000 - r.rows FROM public.last_run AS r'),
	'out of time|replication|0|t', 'while it waits');

# Who need not wait
$run = begin_run(120, max_lag => -1);
is(ask($run, ''), '', 'a run that is told so waits for no standby');
finish($run);
is($primary->safe_psql('app', 'SELECT r.state, (SELECT count(*) FROM public.item) FROM public.last_run AS r'), 'finished|0', 'and is done');

# One that is gone
$primary->safe_psql('app', 'SELECT public.fill()');
wait_until('SELECT ringfence.replication_lag() > 1000000', 'behind once more');
$run = begin_run(120, max_lag => '512kB');
wait_until(q{SELECT r.waiting_for = 'replication' FROM public.last_run AS r}, 'a run waits');
$standby->stop('immediate');
is(ask($run, ''), '', 'for a standby that is gone it waits no longer');
finish($run);
is($primary->safe_psql('app', 'SELECT r.state, r.rows FROM public.last_run AS r'), 'finished|20000', 'and is done');

# Sessions that wait for locks
$primary->safe_psql('app', 'SELECT public.fill()');
my $holder = session($primary->connstr('app'));
ask($holder, 'BEGIN; UPDATE public.turn SET n = n + 1');
my @waiters;
for my $n (1 .. 3)
{
	my $waiter = session($primary->connstr('app'));
	$waiter->{in} .= "UPDATE public.turn SET n = n + 1;\n";
	IPC::Run::pump_nb($waiter->{psql}) while length $waiter->{in};
	push @waiters, $waiter;
	wait_until("SELECT ringfence.lock_waiters() = $n", "$n wait for a lock");
}
is($primary->safe_psql('elsewhere', 'SELECT ringfence.lock_waiters()'), '0', 'in another database nobody does');
$run = begin_run(120, max_waiters => 2);
wait_until(q{SELECT r.waiting_for = 'locks' FROM public.last_run AS r}, 'a run waits with them');
still_waits('locks', 'as long as it takes');
ask($holder, 'COMMIT');
is(ask($run, ''), '', 'once they have theirs it goes on');
finish($run);
is($primary->safe_psql('app', 'SELECT r.state, r.rows, (SELECT count(*) FROM public.item) FROM public.last_run AS r'), 'finished|20000|0', 'to its end');
ask($_, '') for @waiters;
is($primary->safe_psql('app', 'SELECT ringfence.lock_waiters()'), '0', 'nobody waits any more');

# As many as are let pass, and without a limit
$primary->safe_psql('app', 'SELECT public.fill()');
ask($holder, 'BEGIN; UPDATE public.turn SET n = n + 1');
for my $waiter (@waiters)
{
	$waiter->{in} .= "UPDATE public.turn SET n = n + 1;\n";
	IPC::Run::pump_nb($waiter->{psql}) while length $waiter->{in};
}
wait_until('SELECT ringfence.lock_waiters() = 3', 'three wait again');
$run = begin_run(120, max_waiters => 3);
is(ask($run, ''), '', 'as many as a run puts up with keep it from nothing');
finish($run);
is($primary->safe_psql('app', 'SELECT r.state, r.rows FROM public.last_run AS r'), 'finished|20000', 'and it is done');
$primary->safe_psql('app', 'SELECT public.fill()');
$run = begin_run(120, max_waiters => -1);
is(ask($run, ''), '', 'nor do any where it is told so');
finish($run);
is($primary->safe_psql('app', 'SELECT r.state, r.rows FROM public.last_run AS r'), 'finished|20000', 'and it is done');
ask($holder, 'COMMIT');
finish($_) for @waiters, $holder;

$primary->stop;
done_testing();
