# Kill -9 while an export is written in parts, of the job's process and of the whole
# server, at random rows and moments: what is there is a beginning of the file, whole
# parts without a gap or a repeat, and it goes on behind them; one that is consistent
# is there whole or not at all. In the end both are, to the byte, what an undisturbed
# run writes. So it is after a restore from a dump of the middle, on a standby that
# was promoted, and when an export was given up and is tried again. A standby serves
# reports, parts and files, and says that it can't start an export.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Digest::SHA 'sha256_hex';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;
use Time::HiRes 'usleep';

my $seed = $ENV{RINGFENCE_SEED} || time % 1_000_000;
note("RINGFENCE_SEED=$seed");
srand($seed);

my $rows = 6000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
ringfence.audit_key_file = 'audit_key.pem'
ringfence.export_part_bytes = 3000
ringfence.retention_rest = 0
});
append_to_file($node->data_dir . '/audit_key.pem',
	"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n");
chmod 0600, $node->data_dir . '/audit_key.pem';
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
install_demo($node, 'app');

# Rows with whatever makes lines differ. Whoever reads the one that the gate is at
# takes an advisory lock, which shows, and stays there.
my $alder = ALDER;
$node->safe_psql('app', qq{
	SET client_min_messages = error;
	CREATE ROLE regress_cron LOGIN IN ROLE ringfence_jobs;
	CREATE SCHEMA shop;
	GRANT USAGE ON SCHEMA shop TO ringfence_member;
	CREATE TABLE shop.facts (org_id uuid NOT NULL, id integer NOT NULL, at timestamptz NOT NULL, what text, amount numeric NOT NULL, PRIMARY KEY (org_id, id));
	SELECT ringfence.protect('shop.facts', '{"owner": "all"}');
	CREATE TABLE shop.gate (at integer NOT NULL);
	GRANT SELECT ON shop.gate TO ringfence_member;
	CREATE FUNCTION shop.pass(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS \$\$
	BEGIN
		IF n = (SELECT g.at FROM shop.gate AS g) THEN
			PERFORM pg_advisory_xact_lock(7), pg_sleep(120);
		END IF;
		RETURN n;
	END \$\$;
	CREATE VIEW shop.all_facts WITH (security_invoker = true) AS
	SELECT f.org_id, f.id, f.at, f.what, f.amount, shop.pass(f.id) AS passed FROM shop.facts AS f;
	GRANT SELECT ON shop.all_facts TO ringfence_member;
	SELECT ringfence.declare_export('facts', 'shop.all_facts', '{org_id,id}', '{owner}');
	INSERT INTO shop.facts (org_id, id, at, what, amount)
	SELECT o.id, n, timestamptz '2026-03-01 00:00:00+00' + n * interval '90 minutes',
		CASE n % 7 WHEN 1 THEN '=1+' || n WHEN 2 THEN 'a "quoted", thing' WHEN 3 THEN E'two\nlines' WHEN 4 THEN NULL ELSE repeat('zoë ', n % 40) END,
		n / 4.0
	FROM ringfence_data.orgs AS o, generate_series(1, $rows) AS n;
	CREATE TABLE shop.whole AS SELECT ''::bytea AS data;
});
# Times are written with the offset of the organization's zone.
$node->safe_psql('app', qq{
	DO \$\$
	BEGIN
		PERFORM set_config('TimeZone', (SELECT coalesce(o.settings ->> 'time_zone', 'UTC') FROM ringfence_data.orgs AS o WHERE o.id = '$alder'), true);
		UPDATE shop.whole SET data = (
			SELECT convert_to(ringfence.csv(f ORDER BY f.id), 'UTF8')
			FROM (SELECT v.org_id, v.id, v.at, v.what, v.amount, v.passed FROM shop.all_facts AS v WHERE v.org_id = '$alder') AS f
		);
	END
	\$\$});

sub start_export
{
	my ($on, $arguments) = @_;
	return request_ok($on, 'app', claims(ALDER), "SELECT e.id FROM ringfence_v1.start_export('facts'$arguments) AS e");
}

sub gate_at
{
	my ($row) = @_;
	$node->safe_psql('app', 'DELETE FROM shop.gate' . (defined $row ? "; INSERT INTO shop.gate VALUES ($row)" : ''));
	return;
}

# As whoever runs jobs; how it ended, and what it said.
sub run
{
	my ($on, $db, $call) = @_;
	my ($rc, $out, $err) = $on->psql($db, $call // q{CALL ringfence.run_job('exports', 120)}, extra_params => [ '-U', 'regress_cron' ]);
	return "$rc $err";
}

sub begin_run
{
	my $noise = '';
	return IPC::Run::start(
		[ 'psql', '-X', '-q', '-d', $node->connstr('app') . ' user=regress_cron', '-c', shift // q{CALL ringfence.run_job('exports', 120)} ],
		'<', \undef, '>&', \$noise);
}

# Asks until the answer is no empty one.
sub await
{
	my ($sql, $what) = @_;
	my $session = session($node->connstr('app'));
	my $answer = '';
	for (1 .. 20_000)
	{
		last if ($answer = ask($session, $sql)) ne '';
		usleep(2_000);
	}
	finish($session);
	BAIL_OUT("$what: never came") if $answer eq '';
	return $answer;
}

sub await_gate
{
	return await(q{SELECT l.pid FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.objid = 7 AND l.granted}, 'the gate');
}

# The process that writes, or the server.
my %crashes = (
	'the process is killed' => sub {
		my ($pid, $run) = @_;
		my $known = -s $node->logfile;
		kill 'KILL', $pid;
		eval { IPC::Run::finish($run) };
		for (1 .. 3000)
		{
			last if slurp_file($node->logfile, $known) =~ /reinitializing/;
			usleep(10_000);
		}
		for (1 .. 3000)
		{
			last if slurp_file($node->logfile, $known) =~ /ready to accept connections/;
			usleep(10_000);
		}
	},
	'the server is killed' => sub {
		my ($pid, $run) = @_;
		kill_server($node);
		eval { IPC::Run::finish($run) };
		start_again($node);
	},
	'the server is stopped at once' => sub {
		my ($pid, $run) = @_;
		$node->stop('immediate');
		eval { IPC::Run::finish($run) };
		$node->start;
	});

# What there is of an export: whether its parts are the beginning of the file and
# its record counts them; and how many they are.
sub beginning
{
	my ($id) = @_;
	return split /\|/, $node->safe_psql('app', qq{
		SELECT coalesce(substring(w.data FROM 1 FOR octet_length(s.data)) = s.data, true)
			AND (e.parts, e.rows, e.bytes) = (s.parts, s.rows, s.bytes) AND s.last IS NOT DISTINCT FROM nullif(s.parts, 0)
			AND e.state = 'running', e.parts, s.made
		FROM ringfence_data.exports AS e
		CROSS JOIN shop.whole AS w
		CROSS JOIN LATERAL (
			SELECT count(*) AS parts, max(p.part) AS last, coalesce(sum(p.rows), 0) AS rows, coalesce(sum(p.bytes), 0) AS bytes,
				string_agg(p.data, ''::bytea ORDER BY p.part) AS data, coalesce(md5(string_agg(p.made_at::text, ' ' ORDER BY p.part)), '') AS made
			FROM ringfence_data.export_parts AS p
			WHERE p.org_id = e.org_id AND p.export_id = e.id
		) AS s
		WHERE e.id = '$id'});
}

sub made
{
	my ($on, $db, $id, $parts) = @_;
	return $on->safe_psql($db, qq{
		SELECT coalesce(md5(string_agg(p.made_at::text, ' ' ORDER BY p.part)), '') FROM ringfence_data.export_parts AS p WHERE p.export_id = '$id' AND p.part <= $parts});
}

# Number, rows, key and SHA-256 of all parts.
sub parts_of
{
	my ($on, $db, $id) = @_;
	return $on->safe_psql($db, qq{
		SELECT p.part, p.rows, p.bytes, p.last_key, encode(p.sha256, 'hex') FROM ringfence_data.export_parts AS p WHERE p.export_id = '$id' ORDER BY p.part});
}

# As the member who asked for it gets it.
sub complete
{
	my ($on, $db, $id, $name) = @_;
	my ($state, $sha256, $file) = split /\|/, request_ok($on, $db, claims(ALDER), qq{
		SELECT m.manifest ->> 'state', m.manifest ->> 'sha256', (
				SELECT encode(string_agg(ringfence_v1.export_part('$id', (p.part ->> 'part')::integer)::bytea, ''::bytea ORDER BY p.place), 'hex')
				FROM jsonb_array_elements(m.manifest -> 'parts') WITH ORDINALITY AS p (part, place))
		FROM ringfence_v1.export_manifest('$id') AS m (manifest)}, 'ONLY');
	is($state, 'done', "$name: it comes to its end");
	$file = pack('H*', $file);
	ok($file eq $on->{whole}, "$name: every row once, in order");
	is($sha256, sha256_hex($file), "$name: and the manifest has its SHA-256");
	return;
}

$node->{whole} = pack('H*', $node->safe_psql('app', q{SELECT encode(w.data, 'hex') FROM shop.whole AS w}));
my @lines = $node->{whole} =~ /\r\n/g;
is(scalar(@lines), $rows + 1, 'a file has so many records');

# Undisturbed, by what is to be called every minute.
my $undisturbed = start_export($node, '');
is(run($node, 'app', 'CALL ringfence.run_jobs(120)'), '0 ', 'the job writes an export');
complete($node, 'app', $undisturbed, 'undisturbed');
my $expected = parts_of($node, 'app', $undisturbed);
my $parts = () = $expected =~ /^/mg;
cmp_ok($parts, '>', 100, 'there are parts');
my $whole_at_once = start_export($node, ', consistent => true');
is(run($node, 'app'), '0 ', 'so it does one that is consistent');
is(parts_of($node, 'app', $whole_at_once), $expected, 'in the same parts');

# Killed by turns at a random row of a sixth of the rows, and some moment after a
# random part, or at the end of the sixth.
my $export = start_export($node, '');
my @names = sort keys %crashes;
my ($kept, $made_before) = (0, '');
for my $i (0 .. 5)
{
	my $name = "$i: $names[$i % 3]";
	gate_at(int($rows / 6 * ($i % 2 ? $i + 1 : $i + rand)) || 1);
	my $run = begin_run();
	my $pid;
	if ($i % 2)
	{
		my $part = $kept + 1 + int(rand(20));
		$pid = await("SELECT e.pid FROM ringfence_data.exports AS e WHERE e.id = '$export' AND e.parts >= $part", "part $part");
		usleep(int rand(10_000));
	}
	else
	{
		$pid = await_gate();
	}
	$crashes{ $names[ $i % 3 ] }->($pid, $run);
	my ($right, $present, $made) = beginning($export);
	is($right, 't', "$name: what is there is a beginning of the file");
	is(made($node, 'app', $export, $kept), $made_before, "$name: nothing was written again");
	cmp_ok($present, '>=', $kept, "$name: nothing is lost");
	($kept, $made_before) = ($present, $made);
}
cmp_ok($kept, '>', 0, 'it went on each time');
gate_at(undef);
is(run($node, 'app'), '0 ', 'the job goes on');
complete($node, 'app', $export, 'killed');
is(parts_of($node, 'app', $export), $expected, 'in the same parts as one that was not disturbed');
is( $node->safe_psql('app', qq{
		SELECT string_agg(l.action, ', ' ORDER BY l.recorded_at, l.id) FROM ringfence_data.audit_log AS l WHERE l.key = '$export'}),
	'export.requested, export.started, export.done', 'each event is on record once');

# Killed five times at the same place it is given up, with what it has; tried again
# it goes on from there. One that is consistent has nothing.
for my $consistent ('', ', consistent => true')
{
	my $name = $consistent ? 'consistent, given up' : 'given up';
	my $id = start_export($node, $consistent);
	gate_at(int($rows / 4 + rand($rows / 2)));
	my $tries = 0;
	while ($tries < 6)
	{
		my $run = begin_run();
		my $pid = await_gate();
		$crashes{'the process is killed'}->($pid, $run);
		# The first one may have written parts, so that it isn't counted.
		my $attempts = $node->safe_psql('app', "SELECT e.attempts FROM ringfence_data.exports AS e WHERE e.id = '$id'");
		last if $attempts == 5;
		$tries++;
	}
	my ($right, $present, $made) = beginning($id);
	is($right, 't', "$name: what is there is a beginning of the file");
	cmp_ok($present, $consistent ? '==' : '>', 0, "$name: " . ($consistent ? 'nothing' : 'of several parts'));
	gate_at(undef);
	like(run($node, 'app'), qr/^3 .*job "exports" failed\nDETAIL:  P0001: could not write export "$id" of organization "$alder": SQLSTATE 57P02/s,
		"$name: not tried a sixth time, and said");
	is(request_ok($node, 'app', claims(ALDER), "SELECT d.last_error, d.parts FROM ringfence_v1.export_dead_letter AS d WHERE d.id = '$id'", 'ONLY'),
		"57P02: each time that it was taken up, the process that wrote it came to no end|$present", "$name: it is a dead letter");
	request_fails($node, 'app', claims(BIRCH), "SELECT ringfence_v1.retry_export('$id')", qr/PT404: export not found/, "$name: retried by others");
	is(request_ok($node, 'app', claims(ALDER), "SELECT e.state, e.parts FROM ringfence_v1.retry_export('$id') AS e"), "queued|$present", "$name: retried");
	is(run($node, 'app'), '0 ', "$name: the job goes on");
	complete($node, 'app', $id, $name);
	is(parts_of($node, 'app', $id), $expected, "$name: in the same parts");
	is(made($node, 'app', $id, $present), $made // '', "$name: nothing was written again");
}

# In the middle once more: a dump, and a standby.
my $middle = start_export($node, '');
gate_at(int($rows / 4 + rand($rows / 2)));
my $run = begin_run();
my $pid = await_gate();
my $dump = $node->basedir . '/middle.dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('app') ], 'dumped while an export is written');
$crashes{'the process is killed'}->($pid, $run);
my ($right, $present, $made) = beginning($middle);
is($right, 't', 'of which there is a beginning');
gate_at(undef);
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->safe_psql('restored', 'REVOKE TEMPORARY ON DATABASE restored FROM PUBLIC; GRANT CREATE ON DATABASE restored TO ringfence_owner');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'restored');
$node->safe_psql('restored', 'DELETE FROM shop.gate');
is(run($node, 'restored'), '0 ', 'the job goes on in what was restored');
complete($node, 'restored', $middle, 'restored');
is(parts_of($node, 'restored', $middle), $expected, 'restored: in the same parts');
is(made($node, 'restored', $middle, $present), $made, 'restored: nothing was written again');
is(join(' ', (beginning($middle))[0, 1]), "t $present", 'where it was dumped nothing has changed');

$node->backup('base', backup_options => [ '-c', 'fast' ]);
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
$standby->{whole} = $node->{whole};
complete($standby, 'app', $export, 'on a standby');
for my $question (
	q{SELECT * FROM cleaning_v1.gst_report('2020-01-01', '2029-12-31')},
	q{SELECT * FROM cleaning_v1.gst_report('2020-01-01', '2029-12-31', basis => 'cash', period => 'month')},
	q{SELECT * FROM cleaning_v1.pnl_report('2020-01-01', '2029-12-31')},
	q{SELECT * FROM cleaning_v1.aged_receivables('2025-06-30')},
	q{SELECT * FROM cleaning_v1.worker_utilisation('2020-01-01', '2029-12-31')},
	q{SELECT e.* FROM ringfence_v1.exports AS e ORDER BY e.id},
	q{SELECT cleaning_v1.csv(c) FROM (SELECT b.* FROM cleaning_v1.bookings AS b ORDER BY b.id) AS c},
	q{SELECT cleaning_v1.ndjson(c) FROM (SELECT b.* FROM cleaning_v1.clients AS b ORDER BY b.id) AS c},
	qq{SELECT jsonb_array_length(ringfence_v1.export_manifest('$export') -> 'parts')},
	qq{SELECT encode(ringfence_v1.export_part('$export', 1), 'hex')})
{
	my $answer = request_ok($node, 'app', claims(ALDER), $question, 'ONLY');
	isnt($answer, '', "$question: is answered");
	is(request_ok($standby, 'app', claims(ALDER), $question, 'ONLY'), $answer, 'by a standby as well');
}
request_fails($standby, 'app', claims(BIRCH), "SELECT ringfence_v1.export_manifest('$export')", qr/PT404: export not found/, 'to others it is none on a standby either', 'ONLY');
request_fails($standby, 'app', claims(ALDER), q{SELECT ringfence_v1.start_export('facts')},
	qr/25006: cannot start exports on a standby/, 'an export that is started on a standby', 'ONLY');
request_fails($standby, 'app', claims(ALDER), q{SELECT cleaning_v1.export_sales_ledger(NULL, NULL)},
	qr/25006: cannot put an export on record in a read-only transaction/, 'one that is to be on record', 'ONLY');
like(run($standby, 'app'), qr/cannot run jobs on a standby/, 'a standby runs no job');

# It takes over.
$node->stop('immediate');
$standby->promote;
is(run($standby, 'app'), '0 ', 'once it is promoted it goes on');
complete($standby, 'app', $middle, 'promoted');
is(parts_of($standby, 'app', $middle), $expected, 'promoted: in the same parts');
is(made($standby, 'app', $middle, $present), $made, 'promoted: nothing was written again');
is($standby->safe_psql('app', 'SELECT count(*) FROM ringfence.audit_verify()'), '0', 'and the audit log verifies');

$standby->stop;
done_testing();
