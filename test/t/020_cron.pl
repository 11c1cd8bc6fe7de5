# Jobs by pg_cron itself, over a connection and in background workers: scheduled
# once however often that is asked for, as a login that may, run every minute as
# ringfence_jobs, and seen to fail where they do. A database that pg_cron isn't in
# is told what to run where it is. A standby runs none.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $sharedir = `pg_config --sharedir`;
chomp $sharedir;
plan skip_all => 'pg_cron is not installed' unless -f "$sharedir/extension/pg_cron.control";

my $node = PostgreSQL::Test::Cluster->new('cron');
$node->init(allows_streaming => 1);
my $socket = $node->host;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'pg_cron'
cron.database_name = 'app'
cron.host = '$socket'
max_worker_processes = 20
max_connections = 60
ringfence.audit_key_file = 'audit_key.pem'
});
append_to_file($node->data_dir . '/audit_key.pem',
	"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n");
chmod 0600, $node->data_dir . '/audit_key.pem';
$node->start;
for my $db ('app', 'other "db"')
{
	(my $name = $db) =~ s/"/""/g;
	$node->safe_psql('postgres', qq{CREATE DATABASE "$name"; REVOKE TEMPORARY ON DATABASE "$name" FROM PUBLIC});
	$node->safe_psql($db, q{
		CREATE EXTENSION ringfence;
		SELECT ringfence.install('core');
		CREATE TABLE public.ran (at timestamptz DEFAULT clock_timestamp(), role name DEFAULT current_user, login name DEFAULT session_user, xid xid8 DEFAULT pg_current_xact_id());
		GRANT SELECT, INSERT ON public.ran TO ringfence_jobs;
		CREATE FUNCTION public.minutely() RETURNS bigint LANGUAGE sql AS
			$$INSERT INTO public.ran DEFAULT VALUES; SELECT greatest(0, 3 - count(*)) FROM public.ran$$;
		SELECT ringfence.register_job('minutely', 'public.minutely()', '1 minute', repeats => true);
		CREATE FUNCTION public.broken() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'broken' USING ERRCODE = 'PT418'; END$$;
		SELECT ringfence.register_job('broken', 'public.broken()', '1 minute');
	});
}
$node->safe_psql('postgres', q{
	CREATE ROLE regress_cron LOGIN IN ROLE ringfence_jobs;
	CREATE ROLE regress_cron_2 LOGIN IN ROLE ringfence_jobs;
	CREATE ROLE regress_dba LOGIN;
});

# What schedule() did: how many of each.
sub schedule
{
	my ($arguments) = @_;
	return $node->safe_psql('app', qq{
		SELECT string_agg(concat_ws(' ', s.n, s.scheduler, s.state), ', ' ORDER BY s.scheduler, s.state)
		FROM (SELECT count(*) AS n, s.scheduler, s.state FROM ringfence.schedule($arguments) AS s GROUP BY s.scheduler, s.state) AS s});
}

sub schedule_fails
{
	my ($arguments, $pattern, $name) = @_;
	my ($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\nSELECT * FROM ringfence.schedule($arguments)");
	like($err, $pattern, $name);
	return;
}

# Before the extension is there.
my $n = $node->safe_psql('app', 'SELECT count(*) FROM ringfence.job_status()');
cmp_ok($n, '>=', 9, 'there are jobs');
is(schedule(q{'regress_cron'}), '1 crontab not scheduled, 1 systemd not scheduled', 'without the extension pg_cron nothing is scheduled');
is($node->safe_psql('app', 'SELECT ringfence.unschedule()'), '0', 'nor unscheduled');

# The lines are what a shell takes.
my $line = $node->safe_psql('other "db"', q{SELECT s.command FROM ringfence.schedule('regress_cron') AS s WHERE s.scheduler = 'crontab'});
$node->safe_psql('other "db"', q{SELECT ringfence.enable_job('broken', false)});
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	command_ok([ 'sh', '-c', $line ], 'the line for a crontab runs jobs, whatever the database is called');
}
is($node->safe_psql('other "db"', q{SELECT count(*), bool_and(role = 'ringfence_jobs' AND login = 'regress_cron') FROM ran}), '3|t', 'as that login, and as ringfence_jobs');
is($node->safe_psql('other "db"', q{SELECT string_agg(s.job || ' ' || s.state, ', ' ORDER BY s.job) FROM ringfence.job_status() AS s WHERE s.state <> 'succeeded'}),
	'broken disabled', 'all of them');
$node->safe_psql('other "db"', q{SELECT ringfence.enable_job('broken')});

# With it.
$node->safe_psql('app', 'CREATE EXTENSION pg_cron');
schedule_fails(q{'ringfence_jobs'}, qr/55000: role "ringfence_jobs" cannot log in/, 'a role that cannot log in is refused');
schedule_fails(q{'regress_dba'}, qr/55000: role "regress_dba" is not a member of role "ringfence_jobs"/, 'so is one that may not');
schedule_fails(q{'nobody'}, qr/42704: role "nobody" does not exist/, 'and one that does not exist');
schedule_fails(q{'regress_cron', '{nothing}'}, qr/42704: job "nothing" does not exist/, 'and a job that does not');
is($node->safe_psql('app', 'SELECT count(*) FROM cron.job'), '0', 'before anything is scheduled');
$node->safe_psql('app', q{SELECT cron.schedule('ringfence.mine', '0 0 1 1 *', 'SELECT 1'), cron.schedule('mine', '0 0 1 1 *', 'CALL ringfence.run_jobs()')});
is(schedule(q{'regress_cron'}), "$n pg_cron scheduled", 'all jobs are scheduled');
is(schedule(q{'regress_cron'}), "$n pg_cron unchanged", 'once');
is($node->safe_psql('app', q{SELECT count(*), string_agg(DISTINCT concat_ws(' ', j.username, j.database, j.active), ', ') FROM cron.job AS j WHERE j.command ~ 'run_job\('}),
	"$n|regress_cron app t", 'as that login, in this database');
is($node->safe_psql('app', q{SELECT j.schedule, j.command FROM cron.job AS j WHERE j.jobname = 'ringfence.retention'}), q{7 * * * *|CALL ringfence.run_job('retention', 2880)}, 'as they say');
is(schedule(q{'regress_cron', '{retention,partitions}'}), ($n - 2) . ' pg_cron unchanged, 2 pg_cron unscheduled', 'without some that are named');
is(schedule(q{'regress_cron_2'}), "$n pg_cron scheduled, " . ($n - 2) . ' pg_cron unscheduled', 'as another login, and no longer as the first');
$node->safe_psql('app', q{
	SELECT ringfence.enable_job('retention', false);
	SELECT ringfence.register_job('minutely', 'public.minutely()', '1 minute', '*/1 * * * *', repeats => true);
	SELECT cron.alter_job(j.jobid, active => false) FROM cron.job AS j WHERE j.jobname = 'ringfence.audit_seal';
	SELECT ringfence.unregister_job('org_deletion')});
is(schedule(q{'regress_cron_2'}), '2 pg_cron rescheduled, ' . ($n - 4) . ' pg_cron unchanged, 2 pg_cron unscheduled',
	'what was changed is scheduled anew, what is disabled or gone is not');
is($node->safe_psql('app', 'SELECT ringfence.unschedule()'), $n - 2, 'all can be unscheduled');
is($node->safe_psql('app', 'SELECT string_agg(j.jobname, \', \' ORDER BY j.jobname) FROM cron.job AS j'), 'mine, ringfence.mine', 'but what others have scheduled');

# From a database that pg_cron is not in.
my $elsewhere = $node->safe_psql('other "db"', q{
	SELECT string_agg(s.command, E'\n') FROM ringfence.schedule('regress_cron', '{retention}') AS s WHERE s.scheduler = 'pg_cron in database "app"'});
is(() = $elsewhere =~ /schedule_in_database/g, $n - 1, 'another database is told what to run where pg_cron is');
$node->safe_psql('app', $elsewhere);
is($node->safe_psql('app', q{SELECT count(*), string_agg(DISTINCT j.database, ', ') FROM cron.job AS j WHERE j.username = 'regress_cron'}), ($n - 1) . '|other "db"', 'which schedules its jobs');
is(schedule(q{'regress_cron'}), ($n - 2) . ' pg_cron scheduled', 'which this one does not take for its own');

# It runs: over a connection first, then in background workers.
for my $mode ('off', 'on')
{
	my $name = $mode eq 'off' ? 'over a connection' : 'in background workers';
	if ($mode eq 'on')
	{
		$node->append_conf('postgresql.conf', 'cron.use_background_workers = on');
		$node->restart;
	}
	for my $db ('app', 'other "db"')
	{
		$node->safe_psql($db, q{TRUNCATE public.ran; UPDATE ringfence_data.job_heartbeats SET last_started_at = NULL, last_finished_at = NULL, last_succeeded_at = NULL,
			last_failed_at = NULL, last_error = NULL, failures = 0});
	}
	$node->safe_psql('app', 'TRUNCATE cron.job_run_details');
	for my $db ('app', 'other "db"')
	{
		ok($node->poll_query_until($db, q{
			SELECT count(*) = 5 FROM ringfence.job_status() AS s
			WHERE s.job IN ('audit_seal', 'expire_pending', 'exports', 'minutely', 'broken') AND s.last_finished_at IS NOT NULL}), "$name: jobs run in $db");
		is($node->safe_psql($db, q{SELECT string_agg(s.job, ', ' ORDER BY s.job) FROM ringfence.job_status() AS s WHERE s.every < '1 hour' AND s.last_succeeded_at IS NOT NULL AND s.failures = 0}),
			'audit_seal, expire_pending, exports, minutely', "$name: those of every minute, in $db");
		is($node->safe_psql($db, q{SELECT s.state, s.last_error FROM ringfence.job_status() AS s WHERE s.job = 'broken'}), 'failed|PT418: broken', "$name: the one that fails says so, in $db");
		is($node->safe_psql($db, q{SELECT count(*) >= 3, count(DISTINCT xid) = count(*), string_agg(DISTINCT concat_ws(' ', role, login), ', ') FROM ran}),
			't|t|ringfence_jobs regress_cron', "$name: as ringfence_jobs, each step by itself, in $db");
	}
	ok($node->poll_query_until('app', q{SELECT count(*) >= 3 FROM cron.job_run_details AS d WHERE d.database = 'app' AND d.status = 'succeeded'}), "$name: pg_cron knows");
	like($node->safe_psql('app', q{SELECT d.return_message FROM cron.job_run_details AS d WHERE d.database = 'app' AND d.command ~ 'broken' LIMIT 1}), qr/job "broken" failed/,
		"$name: of what failed as well");
}

# A standby.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$standby->start;
for my $call ('run_jobs()', q{run_job('minutely')})
{
	my ($rc, $out, $err) = $standby->psql('app', "\\set VERBOSITY verbose\nCALL ringfence.$call", extra_params => [ '-U', 'regress_cron' ]);
	like($err, qr/25006: cannot run jobs on a standby/, "$call on a standby says that it can't");
}
like($standby->safe_psql('app', q{SELECT s.state FROM ringfence.job_status() AS s WHERE s.job = 'minutely'}), qr/succeeded|running|interrupted/, 'where their state can be read');
$standby->stop;

# A dump brings jobs and heartbeats along, without the schedule.
$node->safe_psql('app', 'SELECT ringfence.unschedule()');
my $file = $node->basedir . '/app.dump';
my $state = q{SELECT string_agg(concat_ws(' ', s.job, s.state, s.command_exists, s.cron, s.last_succeeded_at, s.failures), ', ' ORDER BY s.job) FROM ringfence.job_status() AS s};
$node->safe_psql('app', 'SELECT count(*) FROM cron.job') for 1 .. 2;
ok($node->poll_query_until('app', q{SELECT count(*) = 0 FROM ringfence.job_status() AS s WHERE s.state = 'running'}), 'the last runs end');
my $before = $node->safe_psql('app', $state);
command_ok([ 'pg_dump', '-Fc', '--exclude-extension=pg_cron', '-N', 'cron', '-f', $file, '-d', $node->connstr('app') ], 'the database is dumped')
	if `pg_dump --help` =~ /exclude-extension/;
command_ok([ 'pg_dump', '-Fc', '-N', 'cron', '-f', $file, '-d', $node->connstr('app') ], 'the database is dumped') unless -f $file;
$node->safe_psql('postgres', 'CREATE DATABASE restored; REVOKE TEMPORARY ON DATABASE restored FROM PUBLIC');
run_log([ 'pg_restore', '-d', $node->connstr('restored'), $file ]);
is($node->safe_psql('restored', $state), $before, 'jobs come back with their functions and heartbeats');
is($node->safe_psql('restored', q{CALL ringfence.run_job('minutely'); SELECT s.state FROM ringfence.job_status() AS s WHERE s.job = 'minutely'}), 'succeeded', 'and run');

$node->stop;
done_testing();
