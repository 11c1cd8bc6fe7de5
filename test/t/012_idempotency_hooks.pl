# Beside other libraries that hook into the executor, whichever was loaded first, a
# key does what it does alone; and they keep their own counts: what was given again
# is a call, nothing in it was run, and what is nested stays nested, after errors as
# well.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RingfenceTest;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
cron.database_name = 'app'
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_buffers = on
auto_explain.log_triggers = on
auto_explain.log_verbose = on
auto_explain.log_nested_statements = on
pg_stat_statements.track = all
pg_stat_statements.track_planning = on
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE DATABASE app;
	REVOKE TEMPORARY ON DATABASE app FROM PUBLIC;
});
$node->safe_psql('app', q{
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	CREATE EXTENSION pg_stat_statements;
	CREATE TABLE public.payments (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL CHECK (note <> 'bad'));
	CREATE TABLE public.receipts (payment_id integer NOT NULL REFERENCES public.payments ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION public.receipt() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.receipts (payment_id) VALUES (NEW.id);
		RETURN NULL;
	END $$;
	CREATE TRIGGER receipt AFTER INSERT ON public.payments FOR EACH ROW EXECUTE FUNCTION public.receipt();
	CREATE FUNCTION public.pay_twice(note text) RETURNS SETOF text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN QUERY INSERT INTO public.payments (note) VALUES (pay_twice.note || ' 1') RETURNING payments.note;
		RETURN QUERY INSERT INTO public.payments (note) VALUES (pay_twice.note || ' 2') RETURNING payments.note;
	END $$;
});

# Each is sent under its key: the first time, and twice again.
my @statements = (
	[ insert => q{INSERT INTO public.payments (note) VALUES ('inserted'), ('inserted too') RETURNING note} ],
	[ with => q{WITH p AS (INSERT INTO public.payments (note) VALUES ('unread')) SELECT 'paid' AS answer} ],
	[ function => q{SELECT public.pay_twice('called')} ],
	[ update => q{UPDATE public.payments SET note = note || ' again' WHERE note LIKE 'inserted%'} ],
	[ execute => q{EXECUTE pay ('executed')} ],
	[ delete => q{DELETE FROM public.payments WHERE note = 'executed' RETURNING note} ],
	[ call => q{SELECT ringfence.idempotent('call', 'public.pay_twice(text)', '{"note": "once"}')} ]);
my $script = join "\n", '\set VERBOSITY verbose', 'SELECT ringfence.library_version() \g /dev/null', q{PREPARE pay (text) AS INSERT INTO public.payments (note) VALUES ($1) RETURNING note;}, map {
	my ($key, $statement) = @$_;
	my $set = $key eq 'call' ? '' : "SET LOCAL ringfence.idempotency_key = '$key';";
	("\\echo $key", ("BEGIN; $set\n$statement;\n\\echo :ROW_COUNT\nCOMMIT;") x 3)
} @statements;
# Errors of the statement and of the key, each followed by what the key is for.
$script .= q{
\echo errors
BEGIN; SET LOCAL ringfence.idempotency_key = 'error';
SAVEPOINT s;
INSERT INTO public.payments (note) VALUES ('bad');
ROLLBACK TO s;
INSERT INTO public.payments (note) VALUES ('good') RETURNING note;
COMMIT;
BEGIN; SET LOCAL ringfence.idempotency_key = 'error';
SAVEPOINT s;
INSERT INTO public.payments (note) VALUES ('other') RETURNING note;
ROLLBACK TO s;
SELECT public.pay_twice('other');
ROLLBACK TO s;
INSERT INTO public.payments (note) VALUES ('good') RETURNING note;
COMMIT;
BEGIN; SET LOCAL ringfence.idempotency_key = 'refused';
SAVEPOINT s;
TRUNCATE public.payments;
ROLLBACK TO s;
EXPLAIN (ANALYZE) INSERT INTO public.payments (note) VALUES ('explained');
ROLLBACK;
\echo no key
SELECT public.pay_twice('no key');
SET auto_explain.log_nested_statements = off;
SELECT public.pay_twice('not nested');
\echo payments and receipts
SELECT note FROM public.payments ORDER BY id;
SELECT count(*) FROM public.receipts;
};

my $answers = join "\n",
  'insert', ("inserted\ninserted too\n2") x 3,
  'with', ("paid\n1") x 3,
  'function', ("called 1\ncalled 2\n2") x 3,
  'update', ('2') x 3,
  'execute', ("executed\n1") x 3,
  'delete', ("executed\n1") x 3,
  'call', (qq(["once 1", "once 2"]\n1)) x 3,
  'errors', 'good', 'good',
  'no key', 'no key 1', 'no key 2', 'not nested 1', 'not nested 2',
  'payments and receipts', 'inserted again', 'inserted too again', 'unread', 'called 1', 'called 2', 'once 1', 'once 2', 'good',
  'no key 1', 'no key 2', 'not nested 1', 'not nested 2', '12';
my $errors = join "\n",
  '23514: new row for relation "payments" violates check constraint "payments_note_check"',
  ('PT422: the idempotency key was used for another request') x 2,
  '0A000: TRUNCATE TABLE cannot be used with an idempotency key',
  '0A000: EXPLAIN cannot be used with an idempotency key';

# Calls that did not fail, given again or not; nested ones of what was run.
my $calls = q{
	SELECT toplevel, sum(s.calls), q.query
	FROM pg_stat_statements AS s,
		substring(regexp_replace(s.query, '^PREPARE.* AS ', '')
			FROM '^(INSERT INTO public\.\w+|UPDATE public\.\w+|DELETE FROM public\.\w+|WITH|SELECT public\.\w+|SELECT ringfence\.idempotent)') AS q (query)
	WHERE q.query IS NOT NULL
	GROUP BY s.toplevel, q.query
	ORDER BY q.query COLLATE "C", 1};
my $called = join "\n",
  't|3|DELETE FROM public.payments',
  'f|8|INSERT INTO public.payments',
  't|8|INSERT INTO public.payments',
  'f|13|INSERT INTO public.receipts',
  't|5|SELECT public.pay_twice',
  't|3|SELECT ringfence.idempotent',
  't|3|UPDATE public.payments',
  't|3|WITH';

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
my @cron = -e "$sharedir/extension/pg_cron.control" ? ('pg_cron') : ();
note('without pg_cron, which is not installed') unless @cron;
# For the server, and for sessions.
my @orders = (
	[ [], ['ringfence'] ],
	[ [ 'ringfence', 'pg_stat_statements', 'auto_explain', @cron ], [] ],
	[ [ @cron, 'auto_explain', 'pg_stat_statements', 'ringfence' ], [] ],
	[ [ 'pg_stat_statements', 'ringfence', @cron, 'auto_explain' ], [] ],
	[ ['pg_stat_statements'], [ 'auto_explain', 'ringfence' ] ],
	[ [ @cron, 'pg_stat_statements' ], [ 'ringfence', 'auto_explain' ] ],
	[ [ @cron, 'ringfence', 'pg_stat_statements' ], ['auto_explain'] ],
	[ [ 'auto_explain', 'pg_stat_statements' ], [] ]);
for my $order (@orders)
{
	my ($server, $session) = map { join ', ', @$_ } @$order;
	my $name = ($server || 'nothing') . ($session ? ", then $session" : '');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$server'\nsession_preload_libraries = '$session'");
	$node->restart;
	$node->safe_psql('app', q{
		TRUNCATE public.payments, public.receipts RESTART IDENTITY;
		DELETE FROM ringfence_data.idempotency_keys});
	$node->safe_psql('app', 'SELECT pg_stat_statements_reset()') if $server =~ /pg_stat_statements/;
	my $offset = -s $node->logfile;
	my ($rc, $out, $err) = $node->psql('app', $script, on_error_stop => 0);
	is($rc, 0, "$name: the session lives");
	is($out, $answers, "$name: everything has its effect once, and its answer each time");
	is(join("\n", $err =~ /^.*?ERROR:  (.*)$/mg), $errors, "$name: and what is wrong is refused");
	is($node->safe_psql('app', $calls), $called, "$name: calls are counted, and nested ones apart") if $server =~ /pg_stat_statements/;
	next unless $name =~ /auto_explain/;
	my ($nested, $not_nested) = split /LOG:  statement: SELECT public.pay_twice\('not nested'\)/, substr slurp_file($node->logfile), $offset;
	is(scalar(() = $nested =~ /Query Text: INSERT INTO public.payments \(note\) VALUES \(pay_twice/g), 6, "$name: nested plans are logged if they were run");
	is(scalar(() = $nested =~ /Query Text: INSERT INTO public.payments \(note\) VALUES \('inserted'\)/g), 3, "$name: plans at the top are logged");
	like($nested, qr/\(never executed\)/, "$name: as not executed, of what was given again");
	like($not_nested, qr/Query Text: SELECT public.pay_twice\('not nested'\)/, "$name: what is at the top is known as such");
	unlike($not_nested, qr/Query Text: INSERT INTO public.payments/, "$name: what is nested as well");
}
$node->stop;
done_testing();
