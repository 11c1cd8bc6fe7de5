# Kill -9 amid load: afterwards there is a record for every committed change and
# none for any other, compared row by row with what a trigger told in the same
# transaction; the rows can be rebuilt from their records; the log still verifies
# and is sealed on. A prepared transaction brings its records across a crash.

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
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
my $dir = $node->basedir;
my $pem = encode_base64(pack('H*', '302e020100300506032b657004220420') . 'k' x 32, '');
my $umask = umask 077;
append_to_file("$dir/key.pem", "-----BEGIN PRIVATE KEY-----\n$pem\n-----END PRIVATE KEY-----\n");
umask $umask;
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
max_prepared_transactions = 5
ringfence.audit_key_file = '$dir/key.pem'
checkpoint_timeout = 30s
});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', qq{
	REVOKE TEMPORARY ON DATABASE app FROM PUBLIC;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('$org', 'A');
	CREATE TABLE public.load (id integer NOT NULL, n integer NOT NULL, v text);
	SELECT ringfence.protect('public.load', '{"owner": "all"}');
	INSERT INTO public.load (org_id, id, n) SELECT '$org', 9000000 + g, 0 FROM generate_series(1, 5) AS g;
	DELETE FROM public.load;

	-- What happened, told in the same transaction by other means.
	CREATE TABLE public.told (transaction_id bigint, operation text, id integer, old jsonb, new jsonb);
	CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS \$\$
	DECLARE
		xid CONSTANT bigint := pg_current_xact_id()::text::bigint;
		before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - 'org_id' END;
		after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - 'org_id' END;
	BEGIN
		IF TG_OP = 'UPDATE' AND OLD.id = NEW.id THEN
			INSERT INTO public.told
			SELECT xid, 'UPDATE', NEW.id, jsonb_object_agg(o.key, o.value), jsonb_object_agg(o.key, after -> o.key)
			FROM jsonb_each(before) AS o WHERE o.value <> after -> o.key HAVING count(*) > 0;
			RETURN NULL;
		END IF;
		IF TG_OP <> 'INSERT' THEN
			INSERT INTO public.told VALUES (xid, 'DELETE', OLD.id, jsonb_strip_nulls(before), NULL);
		END IF;
		IF TG_OP <> 'DELETE' THEN
			INSERT INTO public.told VALUES (xid, 'INSERT', NEW.id, NULL, jsonb_strip_nulls(after));
		END IF;
		RETURN NULL;
	END \$\$;
	CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON public.load FOR EACH ROW EXECUTE FUNCTION public.tell();
	INSERT INTO public.load (org_id, id, n) SELECT '$org', 9000000 + g, 0 FROM generate_series(1, 5) AS g;

	CREATE VIEW public.recorded AS
	SELECT l.transaction_id, l.operation COLLATE "default" AS operation, l.key::integer AS id, l.old, l.new, l.recorded_at, l.id AS record
	FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id AND r.relation = 'public.load'::regclass
	WHERE l.transaction_id >= (SELECT min(t.transaction_id) FROM public.told AS t);

	CREATE FUNCTION public.rebuilt() RETURNS SETOF jsonb LANGUAGE plpgsql AS \$\$
	DECLARE
		change record;
		state jsonb;
		key integer;
	BEGIN
		FOR change IN SELECT * FROM public.recorded AS r ORDER BY r.id, r.recorded_at, r.record LOOP
			IF key IS DISTINCT FROM change.id THEN
				IF state IS NOT NULL THEN
					RETURN NEXT state;
				END IF;
				key := change.id;
				state := NULL;
			END IF;
			IF (state IS NULL) <> (change.operation = 'INSERT') OR (change.old IS NOT NULL AND NOT state \@> change.old) THEN
				RAISE EXCEPTION 'record % does not follow on %', to_jsonb(change), state;
			END IF;
			state := CASE change.operation WHEN 'INSERT' THEN change.new WHEN 'UPDATE' THEN state || change.new END;
		END LOOP;
		IF state IS NOT NULL THEN
			RETURN NEXT state;
		END IF;
	END \$\$;
	SELECT ringfence.audit_seal();
});

my %scripts = (
	mixed => qq{
\\set base :client_id * 10000
\\set a :base + random(1, 300)
\\set b :base + random(1, 300)
BEGIN;
INSERT INTO public.load (org_id, id, n, v) VALUES ('$org', :a, 0, repeat('x', :a * 7)) ON CONFLICT (org_id, id) DO UPDATE SET n = load.n + 1;
SAVEPOINT s;
DELETE FROM public.load WHERE id BETWEEN :base + 1 AND :base + 100;
ROLLBACK TO s;
UPDATE public.load SET n = n + 1, v = v || 'y' WHERE id BETWEEN :base + 1 AND :base + 40;
DELETE FROM public.load WHERE id = :b;
COMMIT;
},
	shared => q{
\set a 9000000 + random(1, 5)
UPDATE public.load SET n = n + 1 WHERE id = :a;
},
	lost => qq{
\\set base :client_id * 10000 + 1000
BEGIN;
INSERT INTO public.load (org_id, id, n) SELECT '$org', g, 1 FROM generate_series(:base, :base + 1200) AS g ON CONFLICT DO NOTHING;
UPDATE public.load SET n = 2 WHERE id BETWEEN :base AND :base + 1200;
ROLLBACK;
},
	many => qq{
\\set base :client_id * 10000 + 3000
INSERT INTO public.load (org_id, id, n) SELECT '$org', g, 1 FROM generate_series(:base, :base + 700) AS g ON CONFLICT DO NOTHING;
DELETE FROM public.load WHERE id BETWEEN :base AND :base + 700;
},
	moved => q{
\set a :client_id * 10000 + random(1, 300)
UPDATE public.load SET id = -id WHERE id = :a AND NOT EXISTS (SELECT FROM public.load WHERE id = -:a);
},
	seal => "SELECT ringfence.audit_seal();\nSELECT pg_sleep(0.05);\n");
append_to_file("$dir/$_.sql", $scripts{$_}) for keys %scripts;

# Clients that go on until they lose their connection.
sub begin_load
{
	my @load;
	for my $arguments ([ '-c', '4', map { ('-f', "$dir/$_->[0].sql\@$_->[1]") } [ 'mixed', 10 ], [ 'shared', 10 ], [ 'lost', 1 ], [ 'many', 1 ], [ 'moved', 5 ] ],
		[ '-c', '1', '-f', "$dir/seal.sql" ])
	{
		my $noise = '';
		push @load, IPC::Run::start([ 'pgbench', '-n', '-T', '120', '-h', $node->host, '-p', $node->port, @$arguments, 'dbname=app application_name=load' ], '<', \undef, '>&', \$noise);
	}
	return @load;
}

sub end_load
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
	my $columns = 'transaction_id, operation, id, old, new';
	is( $node->safe_psql('app', "SELECT $columns FROM public.told EXCEPT ALL SELECT $columns FROM public.recorded ORDER BY 1, 3 LIMIT 5"),
		'', "$name: every committed change is on record");
	is( $node->safe_psql('app', "SELECT $columns FROM public.recorded EXCEPT ALL SELECT $columns FROM public.told ORDER BY 1, 3 LIMIT 5"),
		'', "$name: and nothing else");
	is( $node->safe_psql('app', q{
			(SELECT r FROM public.rebuilt() AS r EXCEPT ALL SELECT jsonb_strip_nulls(to_jsonb(l) - 'org_id') FROM public.load AS l) UNION ALL
			(SELECT jsonb_strip_nulls(to_jsonb(l) - 'org_id') FROM public.load AS l EXCEPT ALL SELECT r FROM public.rebuilt() AS r) LIMIT 5}),
		'', "$name: the rows are those that the records make");
	is($node->safe_psql('app', 'SELECT * FROM ringfence.audit_verify()'), '', "$name: what is sealed verifies");
	$node->safe_psql('app', "UPDATE public.load SET n = n + 1 WHERE id = 9000001");
	like($node->safe_psql('app', 'SELECT ringfence.audit_seal()'), qr/^\d+$/, "$name: it is sealed on");
	is($node->safe_psql('app', 'SELECT * FROM ringfence.audit_verify()'), '', "$name: and verifies");
	is( $node->safe_psql('app', q{
			SELECT count(*) FROM ringfence_data.audit_log AS l
			WHERE l.operation <> 'EVENT' AND NOT EXISTS (SELECT FROM ringfence_data.audit_relations AS r WHERE r.id = l.relation_id)}),
		'0', "$name: every record knows its table");
	return;
}

my %crashes = (
	'a backend is killed' => sub {
		my $pid = $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE application_name = 'load' AND query !~ 'seal|sleep' ORDER BY pid LIMIT 1");
		kill 'KILL', $pid;
		end_load(@_);
		$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
	},
	'the server is killed' => sub {
		kill_server($node);
		end_load(@_);
		start_again($node);
	},
	'the server is stopped at once' => sub {
		$node->stop('immediate');
		end_load(@_);
		$node->start;
	});
for my $name ((sort keys %crashes) x 2)
{
	my $before = $node->safe_psql('app', 'SELECT count(*) FROM public.told');
	my $blocks = $node->safe_psql('app', 'SELECT count(*) FROM ringfence_data.audit_blocks');
	my @load = begin_load();
	$node->poll_query_until('app', "SELECT (SELECT count(*) FROM public.told) > $before + 3000 AND (SELECT count(*) FROM ringfence_data.audit_blocks) > $blocks + 2")
	  or BAIL_OUT('the load does nothing');
	$crashes{$name}->(@load);
	compare($name);
}

# Prepared transactions
$node->safe_psql('app', qq{
	BEGIN;
	INSERT INTO public.load (org_id, id, n) SELECT '$org', 8000000 + g, 1 FROM generate_series(1, 600) AS g;
	SAVEPOINT s;
	UPDATE public.load SET n = 2 WHERE id > 8000000 AND id < 8000100;
	ROLLBACK TO s;
	UPDATE public.load SET n = 3 WHERE id = 8000001;
	PREPARE TRANSACTION 'kept';
	BEGIN;
	INSERT INTO public.load (org_id, id, n) VALUES ('$org', 7000000, 1);
	PREPARE TRANSACTION 'lost';
});
kill_server($node);
start_again($node);
is($node->safe_psql('app', 'SELECT count(*) FROM public.recorded WHERE id BETWEEN 7000000 AND 8999999'), '0', 'what is prepared is not on record after a crash');
compare('while transactions are prepared');
$node->safe_psql('app', "COMMIT PREPARED 'kept'; ROLLBACK PREPARED 'lost'");
is( $node->safe_psql('app', 'SELECT operation, count(*) FROM public.recorded WHERE id BETWEEN 7000000 AND 8999999 GROUP BY operation ORDER BY operation'),
	"INSERT|600\nUPDATE|1", 'it is once it is committed, and never if it is rolled back');
compare('after COMMIT PREPARED');
is( $node->safe_psql('app', 'SELECT (SELECT sum(b.records) FROM ringfence_data.audit_blocks AS b) - (SELECT count(*) FROM ringfence_data.audit_log)'),
	'0', 'and no record was left out of the blocks');

$node->stop;
done_testing();
