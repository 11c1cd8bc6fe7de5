# Kill -9 while organizations are deleted, at every stage: afterwards the deletion
# goes on where it was. Nothing is deleted that was not exported, every row is
# exported once, nothing of the organization is left but what outlives it, and no
# other organization loses a row.

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

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
ringfence.audit_key_file = 'audit_key.pem'
});
append_to_file($node->data_dir . '/audit_key.pem',
	"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n");
chmod 0600, $node->data_dir . '/audit_key.pem';
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
install_demo($node, 'app');

# Beside the demo data a table of many rows with children, some of which are kept.
$node->safe_psql('app', q{
	SET client_min_messages = error;
	CREATE TABLE public.items (id integer NOT NULL, label text NOT NULL);
	CREATE TABLE public.parts (id integer NOT NULL, item_id integer NOT NULL);
	CREATE TABLE public.proofs (id integer NOT NULL, item_id integer NOT NULL, made_at timestamptz NOT NULL DEFAULT now());
	SELECT ringfence.protect(t.rel, '{"owner": "all"}') FROM unnest('{public.items,public.parts,public.proofs}'::regclass[]) AS t (rel);
	ALTER TABLE public.parts ADD FOREIGN KEY (org_id, item_id) REFERENCES public.items (org_id, id);
	ALTER TABLE public.proofs ADD FOREIGN KEY (org_id, item_id) REFERENCES public.items (org_id, id);
	CREATE INDEX ON public.parts (org_id, item_id);
	CREATE INDEX ON public.proofs (org_id, item_id);
	CREATE INDEX ON public.proofs (org_id, made_at);
	SELECT ringfence.retain('public.proofs', 'made_at', '7 years', outlives_org => true);
	INSERT INTO public.items (org_id, id, label) SELECT o.id, n, repeat(md5(n::text), 5) FROM ringfence_data.orgs AS o, generate_series(1, 20000) AS n;
	INSERT INTO public.parts (org_id, id, item_id) SELECT i.org_id, i.id, i.id FROM public.items AS i;
	INSERT INTO public.proofs (org_id, id, item_id) SELECT i.org_id, i.id, i.id FROM public.items AS i WHERE i.id <= 10;
	VACUUM ANALYZE;
});
my $org = ALDER;

# Rows of an organization by table, of those that are exported.
my $counts = $node->safe_psql('app', q{
	SET search_path = pg_catalog;
	SELECT string_agg(format('SELECT %L AS relation, count(*) AS n FROM %s AS t WHERE t.org_id = $1', o.relation, o.relation), ' UNION ALL ')
	FROM ringfence.org_tables() AS o WHERE o.exported});

sub rows_of
{
	my ($id) = @_;
	(my $sql = $counts) =~ s/\$1/'$id'/g;
	return $node->safe_psql('app', "SELECT string_agg(relation || ' ' || n, ', ' ORDER BY relation COLLATE \"C\") FROM ($sql) AS c WHERE n > 0");
}

my $before = rows_of($org);
my $others = $node->safe_psql('app', qq{
	SELECT string_agg(x, ' ' ORDER BY x) FROM (
		SELECT count(*) || md5(string_agg(b::text, '' ORDER BY b::text)) AS x FROM cleaning.bookings AS b WHERE b.org_id <> '$org'
		UNION ALL SELECT count(*) || md5(string_agg(i::text, '' ORDER BY i::text)) FROM public.items AS i WHERE i.org_id <> '$org') AS s});
like($before, qr/cleaning\.bookings \d+.*public\.items 20000/, 'there is something to export');
$node->safe_psql('app', qq{
	BEGIN;
	SELECT ringfence.close_org('$org', 'over');
	COMMIT;
	SELECT ringfence.delete_org('$org', 'over', '0')});

my $stage = qq{SELECT d.stage FROM ringfence_data.org_deletions AS d WHERE d.org_id = '$org'};

# The job, until it is killed.
sub begin_job
{
	my $noise = '';
	return IPC::Run::start(
		[ 'psql', '-X', '-q', '-d', $node->connstr('app') . ' application_name=job', '-c', 'CALL ringfence.delete_orgs(120)' ],
		'<', \undef, '>&', \$noise);
}

# Two crashes at each of these, by turns of a backend and of the whole server.
my @moments = (
	[ 'the export has begun', q{SELECT count(*) > 0 FROM ringfence_data.org_export_parts} ],
	[ 'a table of several parts is exported', q{SELECT count(*) >= 2 FROM ringfence_data.org_export_parts WHERE relation = 'public.items'} ],
	[ 'all is exported', q{SELECT count(*) > 0 FROM ringfence_data.org_deletions WHERE exported_at IS NOT NULL} ],
	[ 'rows are deleted', q{SELECT count(*) > 0 FROM ringfence_data.org_deletions WHERE (deleted -> 'public.parts')::bigint > 3000} ],
	[ 'parents are deleted', q{SELECT count(*) > 0 FROM ringfence_data.org_deletions WHERE (deleted -> 'public.items')::bigint > 3000} ],
	[ 'what is left is anonymized', q{SELECT count(*) > 0 FROM ringfence_data.org_deletions WHERE stage = 'anonymize'} ]);
my $crashes = 0;
for my $moment (@moments)
{
	my ($name, $condition) = @$moment;
	my $job = begin_job();
	ok($node->poll_query_until('app', $condition), "$name, under the job");
	my $present = $node->safe_psql('app', $stage);
	isnt($present, 'done', "$name, and it isn't done yet");
	if (++$crashes % 2)
	{
		my $pid = $node->safe_psql('app', q{SELECT s.pid FROM ringfence.job_status() AS s WHERE s.job = 'org_deletion'});
		kill 'KILL', $pid;
		eval { IPC::Run::finish($job) };
		$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
	}
	else
	{
		kill_server($node);
		eval { IPC::Run::finish($job) };
		start_again($node);
	}
	is($node->safe_psql('app', q{SELECT s.state FROM ringfence.job_status() AS s WHERE s.job = 'org_deletion'}), 'interrupted', "$name: after a crash the job is known to have come to no end");
	like($node->safe_psql('app', $stage), qr/^(export|delete|anonymize)$/, "$name: the deletion is where it was");
	next if $node->safe_psql('app', 'SELECT count(*) FROM ringfence_data.org_deletions WHERE exported_at IS NOT NULL') > 0;
	is(rows_of($org), $before, "$name: before all is exported nothing is deleted");
}

$node->safe_psql('app', 'CALL ringfence.delete_orgs(120)');
is($node->safe_psql('app', $stage), 'done', 'it comes to its end');
like($node->safe_psql('app', q{SELECT s.state, s.failures, s.last_error FROM ringfence.job_status() AS s WHERE s.job = 'org_deletion'}),
	qr/^succeeded\|0\|the run in process \d+ came to no end/, 'and the job has succeeded');

# Exported: every row that was there, once.
is($node->safe_psql('app', q{
		SELECT string_agg(relation || ' ' || n, ', ' ORDER BY relation COLLATE "C")
		FROM (SELECT p.relation, sum(p.rows) AS n FROM ringfence_data.org_export_parts AS p GROUP BY p.relation) AS s}),
	$before, 'every row was exported');
is($node->safe_psql('app', q{
		SELECT count(*), count(DISTINCT (p.relation, l.line))
		FROM ringfence_data.org_export_parts AS p
		CROSS JOIN LATERAL string_to_table(rtrim(convert_from(p.data, 'UTF8'), E'\n'), E'\n') AS l (line)}) =~ s/^(\d+)\|\1$/same/r,
	'same', 'once');
is($node->safe_psql('app', q{SELECT count(*) FROM ringfence_data.org_export_parts AS p WHERE p.sha256 <> sha256(p.data)}), '0', 'and the parts are what was hashed');
is($node->safe_psql('app', q{SELECT min(p.part) = 1 AND max(p.part) = count(*) FROM ringfence_data.org_export_parts AS p}), 't', 'none is missing');
my ($data, $sha) = split /\|/, $node->safe_psql('app', q{SELECT encode(p.data, 'hex'), encode(p.sha256, 'hex') FROM ringfence_data.org_export_parts AS p WHERE p.relation = 'public.items' ORDER BY p.part LIMIT 1});
is(sha256_hex(pack('H*', $data)), $sha, 'which can be told outside the server');

# Left: what outlives it.
unlike(rows_of($org), qr/memberships|photos|parts|workers|teams [^4]/, 'nothing is left of what was to go');
like(rows_of($org), qr/public\.items 10, public\.proofs 10$/, 'what is kept is there, and what that references');
is($node->safe_psql('app', q{SELECT (d.deleted -> 'public.items')::bigint, (d.deleted -> 'public.parts')::bigint FROM ringfence_data.org_deletions AS d}), '19990|20000',
	'each row was counted once');
is($node->safe_psql('app', qq{
	SELECT string_agg(x, ' ' ORDER BY x) FROM (
		SELECT count(*) || md5(string_agg(b::text, '' ORDER BY b::text)) AS x FROM cleaning.bookings AS b WHERE b.org_id <> '$org'
		UNION ALL SELECT count(*) || md5(string_agg(i::text, '' ORDER BY i::text)) FROM public.items AS i WHERE i.org_id <> '$org') AS s}),
	$others, 'no other organization has lost a row');
is($node->safe_psql('app', qq{SELECT o.status FROM ringfence_data.orgs AS o WHERE o.id = '$org'}), 'deleted', 'the organization is deleted');
is($node->safe_psql('app', qq{SELECT string_agg(l.action, ', ' ORDER BY l.recorded_at, l.id) FROM ringfence_data.audit_log AS l WHERE l.org_id = '$org' AND l.action ~ '^org[.]'}),
	'org.closed, org.deletion_ordered, org.deletion_begun, org.exported, org.deleted', 'each event is on record once');
is($node->safe_psql('app', 'SELECT count(*) FROM ringfence_data.tombstones'), $node->safe_psql('app', q{SELECT (d.deleted -> 'cleaning.photos') FROM ringfence_data.org_deletions AS d}) || 0,
	'each photo has left a tombstone');
$node->safe_psql('app', 'SELECT ringfence.audit_seal()');
is($node->safe_psql('app', 'SELECT v.problem, v.detail FROM ringfence.audit_verify() AS v'), '', 'audit_verify() finds nothing');
verify_clean($node, 'app', 'after all that');
$node->stop;
done_testing();
