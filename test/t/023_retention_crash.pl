# Kill -9 amid a run of retention and the traffic beside it, many times over:
# whatever row is gone was due, and is gone together with its tombstone, its batch
# on record and its event; no row is half done; what a crash took back the next run
# does, and none is left that was due, nor a run that seems to go on.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $org = '0aaaaaaa-0000-7000-8000-00000000000a';
my $other = '0bbbbbbb-0000-7000-8000-00000000000b';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
my $dir = $node->basedir;
my $pem = encode_base64(pack('H*', '302e020100300506032b657004220420') . 'k' x 32, '');
my $umask = umask 077;
append_to_file("$dir/key.pem", "-----BEGIN PRIVATE KEY-----\n$pem\n-----END PRIVATE KEY-----\n");
umask $umask;
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
ringfence.audit_key_file = '$dir/key.pem'
checkpoint_timeout = 30s
});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', qq{
	REVOKE TEMPORARY ON DATABASE app FROM PUBLIC;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org', 'A'), ('$other', 'B');

	-- Stored objects, and what hangs on them.
	CREATE TABLE public.photo (
		org_id uuid NOT NULL,
		id integer NOT NULL,
		at timestamptz NOT NULL,
		v text,
		object_key text GENERATED ALWAYS AS (org_id::text || '/' || id::text) STORED,
		PRIMARY KEY (org_id, id),
		UNIQUE (org_id, object_key)
	);
	CREATE TABLE public.mark (org_id uuid NOT NULL, id integer NOT NULL, photo_id integer NOT NULL, PRIMARY KEY (org_id, id),
		FOREIGN KEY (org_id, photo_id) REFERENCES public.photo (org_id, id) ON DELETE CASCADE);
	CREATE TABLE public.person (org_id uuid NOT NULL, id integer NOT NULL, at timestamptz NOT NULL, name text, phone text, n integer NOT NULL DEFAULT 0, PRIMARY KEY (org_id, id));
	SELECT ringfence.protect('public.photo', '{}'), ringfence.protect('public.mark', '{}'), ringfence.protect('public.person', '{}');
	CREATE INDEX ON public.photo (org_id, at);
	CREATE INDEX ON public.mark (org_id, photo_id);
	CREATE INDEX ON public.person (org_id, at);
	SELECT ringfence.tombstone('public.photo', 'object_key', 'photos');
	SELECT ringfence.retain('public.photo', 'at', '1 year');
	SELECT ringfence.retain('public.person', 'at', '1 year', 'anonymize', '{"name": "pseudonym", "phone": "null"}');

	-- Every photo that there ever was, told in the transaction that made it.
	CREATE SEQUENCE public.numbers;
	CREATE TABLE public.made (org_id uuid NOT NULL, id integer NOT NULL, at timestamptz NOT NULL);
	GRANT INSERT ON public.made TO ringfence_owner;
	CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		INSERT INTO public.made (org_id, id, at) VALUES (NEW.org_id, NEW.id, NEW.at);
		RETURN NULL;
	END \$\$;
	CREATE TRIGGER tell AFTER INSERT ON public.photo FOR EACH ROW EXECUTE FUNCTION public.tell();

	-- Photos and marks of an organization: old ones, from a year ago on back, and new ones.
	CREATE FUNCTION public.fill(org uuid, old integer, new integer) RETURNS void LANGUAGE sql AS \$\$
		WITH p AS (
			INSERT INTO public.photo (org_id, id, at, v)
			SELECT org, nextval('public.numbers'), now() - CASE WHEN g <= old THEN interval '2 years' ELSE interval '1 day' END - g * interval '1 second', repeat('v', 50)
			FROM generate_series(1, old + new) AS g
			RETURNING org_id, id
		)
		INSERT INTO public.mark (org_id, id, photo_id) SELECT p.org_id, p.id, p.id FROM p WHERE p.id % 3 = 0;
		INSERT INTO public.person (org_id, id, at, name, phone)
		SELECT org, nextval('public.numbers'), now() - CASE WHEN g <= old / 4 THEN interval '2 years' ELSE interval '1 day' END - g * interval '1 second', 'P', '1'
		FROM generate_series(1, (old + new) / 4) AS g;
	\$\$;
	SELECT public.fill('$org', 4000, 1000), public.fill('$other', 2000, 500);
	SELECT ringfence.audit_seal();
});

# What people do meanwhile, also to rows that are due.
my %scripts = (
	touch => qq{
\\set a random(1, 10000)
UPDATE public.photo SET v = md5(v) WHERE org_id = '$org' AND id BETWEEN :a AND :a + 20;
},
	add => qq{
BEGIN;
SELECT public.fill('$other', 30, 5);
SELECT p.id FROM public.photo AS p WHERE p.org_id = '$org' ORDER BY p.at LIMIT 3 FOR UPDATE SKIP LOCKED;
COMMIT;
},
	lost => qq{
BEGIN;
SELECT public.fill('$org', 50, 5);
ROLLBACK;
},
	person => qq{
\\set a random(1, 10000)
UPDATE public.person SET n = n + 1 WHERE org_id = '$org' AND id BETWEEN :a AND :a + 20;
},
	lock => qq{
\\set a random(1, 10000)
BEGIN;
SELECT p.id FROM public.photo AS p WHERE p.org_id = '$org' AND p.id BETWEEN :a AND :a + 50 ORDER BY p.id FOR SHARE SKIP LOCKED;
\\sleep 5 ms
COMMIT;
});
append_to_file("$dir/$_.sql", $scripts{$_}) for keys %scripts;

sub begin_load
{
	my $noise = '';
	return IPC::Run::start(
		[ 'pgbench', '-n', '-T', '120', '-c', '3', (map { ('-f', "$dir/$_.sql") } sort keys %scripts), '-h', $node->host, '-p', $node->port, 'dbname=app application_name=load' ],
		'<', \undef, '>&', \$noise);
}

# A run in a session of its own, in small batches.
sub begin_run
{
	my $noise = '';
	return IPC::Run::start(
		[ 'psql', '-X', '-q', '-d', $node->connstr('app') . q{ application_name=run options='-c ringfence.retention_batch_ms=2 -c ringfence.retention_rest=3'}, '-c', 'CALL ringfence.run_retention(100)' ],
		'<', \undef, '>&', \$noise);
}

sub end_all
{
	for my $client (@_)
	{
		eval { IPC::Run::finish($client) };
	}
	return;
}

sub compare
{
	my ($name) = @_;
	is( $node->safe_psql('app', q{
			SELECT m.org_id::text || '/' || m.id FROM public.made AS m WHERE NOT EXISTS (SELECT FROM public.photo AS p WHERE p.org_id = m.org_id AND p.id = m.id)
			EXCEPT ALL SELECT t.object_key FROM ringfence_data.tombstones AS t LIMIT 5}),
		'', "$name: no row is gone without its tombstone");
	is( $node->safe_psql('app', q{
			SELECT t.object_key FROM ringfence_data.tombstones AS t
			EXCEPT ALL SELECT m.org_id::text || '/' || m.id FROM public.made AS m WHERE NOT EXISTS (SELECT FROM public.photo AS p WHERE p.org_id = m.org_id AND p.id = m.id) LIMIT 5}),
		'', "$name: and no tombstone left by a row that is there");
	is( $node->safe_psql('app', q{
			SELECT count(*) FROM public.made AS m
			WHERE m.at > now() - interval '1 year' AND NOT EXISTS (SELECT FROM public.photo AS p WHERE p.org_id = m.org_id AND p.id = m.id)}),
		'0', "$name: no row is gone that was not due");
	my $gone = $node->safe_psql('app', 'SELECT (SELECT count(*) FROM public.made) - (SELECT count(*) FROM public.photo)');
	my $done = $node->safe_psql('app', q{SELECT count(*) FROM public.person AS p WHERE p.name ~ '^anon-[0-9a-f]{32}$'});
	is( $node->safe_psql('app', q{
			SELECT coalesce(sum(b.rows) FILTER (WHERE b.action = 'delete'), 0), coalesce(sum(b.rows) FILTER (WHERE b.action = 'anonymize'), 0)
			FROM ringfence_data.retention_batches AS b WHERE b.relation LIKE 'public.%'}),
		"$gone|$done", "$name: batches on record have as many rows as were done");
	is( $node->safe_psql('app', q{
			SELECT coalesce(sum((l.new ->> 'rows')::bigint) FILTER (WHERE l.key = 'public.photo'), 0), coalesce(sum((l.new ->> 'rows')::bigint) FILTER (WHERE l.key = 'public.person'), 0)
			FROM ringfence_data.audit_log AS l WHERE l.action = 'retention.purged'}),
		"$gone|$done", "$name: and so have the events");
	is( $node->safe_psql('app', q{
			SELECT r.id FROM ringfence_data.retention_runs AS r
			WHERE (r.rows, r.batches) <> (SELECT coalesce(sum(b.rows), 0), count(*) FROM ringfence_data.retention_batches AS b WHERE b.run_id = r.id)}),
		'', "$name: each run counts its batches");
	is( $node->safe_psql('app', q{SELECT count(*) FROM public.person AS p WHERE (p.name ~ '^anon-') <> (p.phone IS NULL)}),
		'0', "$name: no row is half done");
	is( $node->safe_psql('app', q{SELECT count(*) FROM public.person AS p WHERE p.at > now() - interval '1 year' AND p.phone IS NULL}),
		'0', "$name: none that was not due");
	is($node->safe_psql('app', 'SELECT * FROM ringfence.audit_verify()'), '', "$name: the audit log verifies");
	return;
}

my %crashes = (
	'the run is killed' => sub {
		my $pid = $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE application_name = 'run'");
		kill 'KILL', $pid if $pid;
		end_all(@_);
		$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
	},
	'somebody else is killed' => sub {
		my $pid = $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE application_name = 'load' ORDER BY pid LIMIT 1");
		kill 'KILL', $pid if $pid;
		end_all(@_);
		$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
	},
	'the server is killed' => sub {
		kill_server($node);
		end_all(@_);
		start_again($node);
	},
	'the server is stopped at once' => sub {
		$node->stop('immediate');
		end_all(@_);
		$node->start;
	});
my $crashes = 0;
for my $name ((sort keys %crashes) x 2)
{
	$crashes++;
	my $batches = $node->safe_psql('app', 'SELECT count(*) FROM ringfence_data.retention_batches');
	my @clients = (begin_load(), begin_run());
	$node->poll_query_until('app', 'SELECT (SELECT count(*) FROM ringfence_data.retention_batches) > ' . ($batches + 4) . q{ AND EXISTS (SELECT FROM ringfence_data.retention_runs AS r WHERE r.state = 'running')})
	  or BAIL_OUT('the run does nothing');
	$crashes{$name}->(@clients);
	is( $node->safe_psql('app', q{SELECT count(*) FROM ringfence_data.retention_runs AS r WHERE r.state = 'running'}) <= 1 ? 'yes' : 'no',
		'yes', "$name: at most that run seems to go on");
	compare("$crashes: $name");
	# There is something to do for the next one.
	$node->safe_psql('app', "SELECT public.fill('$org', 3000, 100), public.fill('$other', 1000, 100)");
}

# Nothing is in the way of the last run.
$node->safe_psql('app', 'CALL ringfence.run_retention(300)');
compare('after all');
is( $node->safe_psql('app', q{
		SELECT (SELECT count(*) FROM public.photo AS p WHERE p.at < now() - interval '1 year'),
			(SELECT count(*) FROM public.person AS p WHERE p.at < now() - interval '1 year' AND p.name !~ '^anon-'),
			(SELECT count(*) FROM public.mark AS m WHERE NOT EXISTS (SELECT FROM public.photo AS p WHERE p.org_id = m.org_id AND p.id = m.photo_id))}),
	'0|0|0', 'nothing is left that was due');
my $killed = $node->safe_psql('app', q{SELECT count(*) FROM ringfence_data.retention_runs AS r WHERE r.state = 'interrupted'});
cmp_ok($killed, '>=', $crashes - 2, 'runs were killed, and are marked');
is($node->safe_psql('app', q{SELECT count(*) FROM ringfence_data.retention_runs AS r WHERE r.state IN ('running', 'failed', 'out of time')}), '0', 'none seems to go on');
is( $node->safe_psql('app', q{SELECT r.state, r.errors FROM ringfence_data.retention_runs AS r ORDER BY r.id DESC LIMIT 1}),
	'finished|0', 'and the last is finished');
is($node->safe_psql('app', 'SELECT count(*) FROM ringfence_data.retention_runs'), $crashes + 1, 'each is on record');
$node->safe_psql('app', 'SELECT ringfence.audit_seal()');
is($node->safe_psql('app', 'SELECT * FROM ringfence.audit_verify()'), '', 'the audit log is sealed on, and verifies');

$node->stop;
done_testing();
