# A client that sends its request again under the same key has one effect and one
# answer, whatever happened to the server or the connection meanwhile: while the
# effect came about, before the commit, or after it and before anybody was told.
# Then all of it at random: thousands of requests, most of them sent several times
# and often at once, some rolled back, among backends that end and a server that
# crashes. What clients were told is noted apart, and compared.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;
use Time::HiRes qw(time usleep);

my ($org_a, $org_b) = map { "0aaaaaaa-0000-7000-8000-00000000000$_" } 'a', 'b';
my $user = 'aaaaaaaa-0000-4000-8000-000000000001';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# No standby of this name ever answers: who asks for synchronous_commit stays
# between commit and answer.
$node->append_conf('postgresql.conf', q{
restart_after_crash = on
max_prepared_transactions = 5
wal_level = replica
max_wal_senders = 1
synchronous_commit = local
synchronous_standby_names = 'nobody'
ringfence.idempotency_wait = '60s'
});
$node->start;
$node->safe_psql('postgres', q{
	SET ringfence.idempotency_wait = DEFAULT;
	CREATE DATABASE app;
	REVOKE TEMPORARY ON DATABASE app FROM PUBLIC;
	CREATE ROLE regress_web LOGIN NOINHERIT;
});
$node->safe_psql('app', qq{
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	GRANT ringfence_authenticator TO regress_web;
	ALTER DATABASE app SET session_preload_libraries = 'ringfence';
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org_a', 'A'), ('$org_b', 'B');
	INSERT INTO ringfence_data.users (id, email) VALUES ('$user', 'owner\@load.test');
	INSERT INTO ringfence_data.memberships (org_id, user_id, roles)
	VALUES ('$org_a', '$user', '{owner}'), ('$org_b', '$user', '{owner}');

	CREATE TABLE public.payments (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, part integer NOT NULL);
	CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NEW.part = 2 AND current_setting('test.stop', true) = TG_NAME THEN
			PERFORM pg_advisory_xact_lock_shared(4711);
		END IF;
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER effect BEFORE INSERT ON public.payments FOR EACH ROW EXECUTE FUNCTION public.stop();
	CREATE CONSTRAINT TRIGGER commit AFTER INSERT ON public.payments DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION public.stop();
});

sub pay
{
	my ($key, $end) = @_;
	return "BEGIN;\nSET LOCAL ringfence.idempotency_key = '$key';\n"
	  . "INSERT INTO public.payments (key, part) VALUES ('$key', 1), ('$key', 2) RETURNING id, part;\n" . ($end // 'COMMIT');
}

# Sends what ask() would, and doesn't wait for the answer.
sub send_sql
{
	my ($session, $sql) = @_;
	$session->{in} .= "$sql;\n";
	IPC::Run::pump_nb($session->{psql}) while length $session->{in};
	return;
}

sub wait_for_log
{
	my ($pattern, $times) = @_;
	for (1 .. 600)
	{
		my $log = slurp_file($node->logfile);
		return if (() = $log =~ /$pattern/g) >= $times;
		usleep(50_000);
	}
	BAIL_OUT("the server's log doesn't say: $pattern");
}

my $crashes = 0;
my %crash = (
	'the connection is closed' => sub {
		$node->safe_psql('app', "SELECT pg_terminate_backend($_[0], 60000)");
	},
	'the backend is killed' => sub {
		kill 'KILL', $_[0];
		wait_for_log('reinitializing', ++$crashes);
		$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
	},
	'the server is killed' => sub {
		kill_server($node);
		start_again($node);
	},
	'the server is stopped at once' => sub {
		$node->stop('immediate');
		$node->start;
	});

# Where a client's transaction is, and how to tell.
my @stages = (
	[ 'while the effect comes about', 'effect', 0, q{wait_event = 'advisory'} ],
	[ 'after the statement', 'none', 0, q{state = 'idle in transaction'} ],
	[ 'in its commit', 'commit', 0, q{wait_event = 'advisory'} ],
	[ 'after its commit', 'none', 1, q{wait_event = 'SyncRep'} ]);
for my $stage (@stages)
{
	my ($when, $stop, $committed, $there) = @$stage;
	for my $how (sort keys %crash)
	{
		my $key = "$when, $how";
		my $holder = session($node->connstr('app'));
		ask($holder, 'SELECT FROM pg_advisory_lock(4711)');
		my $client = session($node->connstr('app'));
		my $pid = ask($client, "SELECT pg_backend_pid();\nSET test.stop = '$stop';\nSET synchronous_commit = " . ($committed ? 'on' : 'local'));
		send_sql($client, pay($key, $there =~ /idle/ ? 'SELECT 1' : 'COMMIT'));
		$node->poll_query_until('app', "SELECT $there AND query !~ '^BEGIN|^SET' FROM pg_stat_activity WHERE pid = $pid")
		  or BAIL_OUT("$key: the client isn't there");

		# Meanwhile the client tries again on another connection.
		my $impatient = session($node->connstr('app'));
		my $waiting = ask($impatient, 'SELECT pg_backend_pid()');
		send_sql($impatient, pay($key));
		$node->poll_query_until('app', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $waiting")
		  or BAIL_OUT("$key: nobody waits");

		$crash{$how}->($pid);
		my $ids = "SELECT string_agg(format('%s|%s', p.id, p.part), E'\\n' ORDER BY p.part) FROM public.payments AS p WHERE p.key = '$key'";
		my $answer;
		if ($how =~ /connection/)
		{
			$answer = ask($impatient, '');
			is($answer, $node->safe_psql('app', $ids), "$key: who waited is answered");
		}
		else
		{
			is($node->safe_psql('app', "SELECT count(*) FROM public.payments WHERE key = '$key'"), $committed ? 2 : 0, "$key: the effect is " . ($committed ? 'there' : 'lost'));
			$answer = $committed ? $node->safe_psql('app', $ids) : undef;
		}
		my $again = $node->safe_psql('app', pay($key));
		$answer //= $again;
		like($answer, qr/^\d+\|1\n\d+\|2$/, "$key: there is an answer");
		is($again, $answer, "$key: it is given again");
		is($node->safe_psql('app', pay($key)), $answer, "$key: and again");
		is($node->safe_psql('app', $ids), $answer, "$key: the effect is what was answered");
		is($node->safe_psql('app', "SELECT count(*) FROM ringfence_data.idempotency_keys WHERE key = '$key'"), '1', "$key: recorded once");
		finish($_) for $holder, $client, $impatient;
	}
}

# Prepared transactions hold their keys, over a crash as well.
$node->safe_psql('app', pay($_, "PREPARE TRANSACTION '$_'")) for 'kept', 'lost';
kill_server($node);
start_again($node);
for my $key ('kept', 'lost')
{
	my ($rc, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\nSET ringfence.idempotency_wait = 0;\n" . pay($key), on_error_stop => 1);
	like($err, qr/ERROR:  PT409: a request with the same idempotency key is in progress/, "$key: prepared, it is in progress after a crash");
}
$node->safe_psql('app', "COMMIT PREPARED 'kept'; ROLLBACK PREPARED 'lost'");
for my $key ('kept', 'lost')
{
	is($node->safe_psql('app', "SELECT count(*) FROM public.payments WHERE key = '$key'"), $key eq 'kept' ? 2 : 0, "$key: it was");
	my $answer = $node->safe_psql('app', pay($key));
	is($node->safe_psql('app', pay($key)), $answer, "$key: one answer");
	is($node->safe_psql('app', "SELECT count(*) FROM public.payments WHERE key = '$key'"), '2', "$key: one effect");
}

# The load. Three requests in a row get one key, and one in five repeats an older
# one, so that keys are sent three times or more, mostly at a time. A key whose
# number ends in 0 is always rolled back, others sometimes, and sometimes to a
# savepoint and on. The requests of two organizations share the texts of their
# keys. What a client was answered it notes afterwards, in "told".
my @styles = ('set_local', 'called', 'requested');
$node->safe_psql('app', join ";\n", 'CREATE TABLE public.told (style text NOT NULL, n integer NOT NULL, id bigint)',
	'GRANT INSERT ON public.told TO regress_web',
	map { (
		"CREATE TABLE public.$_ (id bigserial PRIMARY KEY, n integer NOT NULL)",
		"CREATE SEQUENCE public.${_}_sent",
		"CREATE SEQUENCE public.${_}_again",
		"GRANT USAGE ON SEQUENCE public.${_}_sent, public.${_}_again TO regress_web",
	) } @styles);
$node->safe_psql('app', q{
	CREATE FUNCTION public.call(n integer) RETURNS bigint LANGUAGE sql AS
		'INSERT INTO public.called (n) VALUES (n) RETURNING id';
	SELECT ringfence.protect('public.requested', '{"owner": "all"}');
	GRANT USAGE ON SEQUENCE public.requested_id_seq TO ringfence_member;
	ALTER DATABASE app SET log_statement = none;
});
my %effects = (
	set_local => q{
SET LOCAL ringfence.idempotency_key = 'key-:n';
\if :fate <= 10
SAVEPOINT s;
INSERT INTO public.set_local (n) VALUES (:n) RETURNING id \gset
ROLLBACK TO s;
\endif
INSERT INTO public.set_local (n) VALUES (:n) RETURNING id \gset
},
	called => q{
SELECT ringfence.idempotent('key-' || :n, 'public.call(integer)', jsonb_build_object('n', :n)) AS id \gset
},
	requested => qq{
SELECT set_config('role', 'ringfence_member', true), set_config('request.method', 'POST', true), set_config('request.path', '/requested', true), set_config('request.jwt.claims', jsonb_build_object('role', 'ringfence_member', 'sub', '$user', 'org_id', CASE (:n)::integer % 2 WHEN 0 THEN '$org_a' ELSE '$org_b' END)::text, true), set_config('request.headers', jsonb_build_object('idempotency-key', 'key-' || (:n)::integer / 2)::text, true);
SELECT ringfence.pre_request();
WITH source AS (INSERT INTO public.requested (n) VALUES (:n) RETURNING id) SELECT id FROM source \\gset
});
for my $style (@styles)
{
	append_to_file($node->basedir . "/$style.sql", qq{
\\set fate random(1, 100)
\\if :again
SELECT nextval('public.${style}_again') AS n \\gset
\\set fate 50
\\else
SELECT nextval('public.${style}_sent') / 3 + 1 AS n \\gset
\\set older random(1, 5) = 1
\\if :older
\\set n random(1, :n)
\\endif
\\set pause random(1, 4000)
\\endif
BEGIN;
$effects{$style}
\\if :again = 0
\\sleep :pause us
\\endif
\\set lost :n % 10 = 0 or :fate > 90
\\if :lost
ROLLBACK;
INSERT INTO public.told (style, n) VALUES ('$style', :n);
\\else
COMMIT;
INSERT INTO public.told (style, n, id) VALUES ('$style', :n, :id);
\\endif
});
}

my $noise = '';
sub begin_load
{
	my (%how) = @_;
	return map {
		IPC::Run::start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, @$_, 'dbname=app application_name=load' ],
			'<', \undef, '>&', sub { $noise .= $_[0] })
	  }
	  [ '-D', "again=$how{again}", '-c', '4', '-t', $how{own}, '-f', $node->basedir . '/set_local.sql', '-f', $node->basedir . '/called.sql' ],
	  [ '-D', "again=$how{again}", '-c', '4', '-t', $how{web}, '-f', $node->basedir . '/requested.sql', '-M', 'prepared', '-U', 'regress_web' ];
}

sub end_load
{
	for my $client (@_)
	{
		eval { IPC::Run::finish($client) };
	}
	return;
}

sub number
{
	my ($sql) = @_;
	return $node->safe_psql('app', $sql);
}

# How many clients were left without an answer at most.
my $unanswered = 0;
sub one_of_the_load
{
	return number(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'load' AND state <> 'idle' ORDER BY random() LIMIT 1});
}
my $began = time;
for (my $round = 1; (my $before = number('SELECT count(*) FROM public.told')) < 10000; $round++)
{
	BAIL_OUT("the load does not get on: $noise") if $round > 20;
	my @load = begin_load(again => 0, own => 600, web => 600);
	for my $step (1 .. 3)
	{
		until (number('SELECT count(*) FROM public.told') > $before + $step * 900)
		{
			my @running = grep { $_->pumpable } @load;
			last unless @running;
			$_->pump_nb for @running;
			usleep(20_000);
		}
		my $pid = one_of_the_load();
		next if $pid eq '';
		if ($step == 3 && $round % 2 == 1)
		{
			$crash{ $round % 4 == 1 ? 'the backend is killed' : 'the server is killed' }->($pid);
			$unanswered += 8;
		}
		else
		{
			number("SELECT pg_terminate_backend($pid)");
			$unanswered++;
		}
	}
	end_load(@load);
}
note(sprintf '%d requests in %.1f s', number('SELECT count(*) FROM public.told'), time - $began);
is(join("\n", grep { /ERROR: / } split /\n/, $noise), '', 'no request was refused');
my $untold = join ' UNION ALL ', map { "(SELECT n FROM public.$_ EXCEPT SELECT n FROM public.told WHERE style = '$_' AND id IS NOT NULL)" } @styles;
cmp_ok(number("SELECT count(*) FROM ($untold) AS u"), '<=', $unanswered, 'effects that nobody was told of are of clients that were cut off');
cmp_ok(
	number(q{SELECT count(*) FILTER (WHERE t.id IS NOT NULL) - count(DISTINCT (t.style, t.id)) FILTER (WHERE t.id IS NOT NULL) FROM public.told AS t}),
	'>', 3000, 'thousands were answered as before');

# All are sent once more, and every client is answered.
$noise = '';
my %sent = map { $_ => number("SELECT last_value / 3 + 1 FROM public.${_}_sent") } @styles;
my $most = $sent{set_local} > $sent{called} ? $sent{set_local} : $sent{called};
end_load(begin_load(again => 1, own => int($most * 0.55) + 50, web => int($sent{requested} / 4) + 1));
unlike($noise, qr/ERROR|FATAL|aborted/, 'every key is sent once more');

for my $style (@styles)
{
	cmp_ok(number("SELECT last_value FROM public.${style}_again"), '>=', $sent{$style}, "$style: all of them");
	is(number("SELECT n, count(*) FROM public.$style GROUP BY n HAVING count(*) > 1"), '', "$style: no effect is doubled");
	is(number("SELECT t.n, t.id FROM public.told AS t WHERE t.style = '$style' AND t.id IS NOT NULL EXCEPT SELECT n, id FROM public.$style"),
		'', "$style: every answer is of the one effect");
	is(number("SELECT n FROM public.$style WHERE n % 10 = 0"), '', "$style: what was always rolled back has no effect");
	is(number("SELECT n FROM generate_series(1, $sent{$style}) AS n WHERE n % 10 <> 0 EXCEPT SELECT n FROM public.$style"),
		'', "$style: everything else has its effect");
}

# Each effect has its record, and each record its effect.
my $recorded = q{
	SELECT CASE k.method WHEN 'CALL' THEN 'called' WHEN 'POST' THEN 'requested' ELSE 'set_local' END,
		CASE right(k.org_id::text, 1) WHEN 'a' THEN substr(k.key, 5)::integer * 2
			WHEN 'b' THEN substr(k.key, 5)::integer * 2 + 1 ELSE substr(k.key, 5)::integer END
	FROM ringfence_data.idempotency_keys AS k
	WHERE k.key LIKE 'key-%'};
my $effects = join ' UNION ALL ', map { "SELECT '$_', n FROM public.$_" } @styles;
is(number("($effects) EXCEPT ALL ($recorded)"), '', 'every effect is recorded');
is(number("($recorded) EXCEPT ALL ($effects)"), '', 'and nothing else');
is( number(q{
		SELECT count(*) - (SELECT count(*) FROM public.requested)
		FROM ringfence_data.audit_log AS l
		INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id AND r.relation = 'public.requested'::regclass}),
	'0', 'no replay is in the audit log');

$node->stop;
done_testing();
