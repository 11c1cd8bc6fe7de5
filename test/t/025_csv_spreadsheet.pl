# A spreadsheet opens what csv() wrote: of a corpus of formulas it takes none for one,
# though it does where they aren't guarded; numbers are numbers; and what it saves
# again holds every cell as it was, once the apostrophes are off.

use strict;
use warnings;
use FindBin;
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('csv');
$node->init(extra => [ '-E', 'UTF8', '--no-locale' ]);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION ringfence');
$node->safe_psql('postgres', slurp_file("$FindBin::Bin/../pgtap/include/injections.sql"));
my $formulas = $node->safe_psql('postgres', q{SELECT count(*) FROM public.injections WHERE cell ~ '^='});
my $dir = PostgreSQL::Test::Utils::tempdir;

# A query's only value, in a file.
sub save
{
	my ($name, $sql) = @_;
	open(my $file, '>:raw', "$dir/$name.csv") or die "could not write $dir/$name.csv: $!";
	print $file $node->safe_psql('postgres', $sql) . "\r\n";
	close $file;
	return;
}

# Opens a file of the folder and saves it in another form, elsewhere.
sub convert
{
	my ($file, $to, @options) = @_;
	my $folder = "$dir/" . ($to =~ /^(\w+)/)[0];
	make_path($folder);
	run_log([
		'soffice', '--headless', "-env:UserInstallation=file://$dir/profile",
		@options, '--convert-to', $to, '--outdir', $folder, "$dir/$file"
	], IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default)) or die "could not convert $file";
	my ($stem, $ending) = ($file =~ m{([^/.]+)\.\w+$}, $to =~ /^(\w+)/);
	return "$folder/$stem.$ending";
}

# Comma, quote, UTF-8, from the first line, US English whatever the environment says; "="
# in a quoted cell counts, formulas are evaluated. The second one leaves "(5)" alone, which to accountants is -5.
my $eager = '--infilter=CSV:44,34,76,1,,1033,false,true,false,false,false,0,true';
my $faithful = '--infilter=CSV:44,34,76,1,,1033,false,false,false,false,false,0,true';
my $csv = 'csv:Text - txt - csv (StarCalc):44,34,76,1,,1033,true,true,false,false,false,0';

save('guarded', 'SELECT ringfence.csv(t ORDER BY n) FROM (SELECT n, cell, -n AS negative FROM public.injections) AS t');
save('bare',
	'SELECT ringfence.csv(t, ringfence.csv_options(guard => false) ORDER BY n) FROM (SELECT n, cell FROM public.injections) AS t');

my $bare = slurp_file(convert('bare.csv', 'fods', $eager));
my @found = $bare =~ /table:formula=/g;
cmp_ok($formulas, '>', 10, 'the corpus has formulas');
cmp_ok(scalar(@found), '>', 10, 'which a spreadsheet takes for what they are if they aren\'t guarded');
like($bare, qr/table:formula="of:=1\+1" office:value-type="float" office:value="2"/, 'and evaluates');

my $guarded = slurp_file(convert('guarded.csv', 'fods', $eager));
unlike($guarded, qr/table:formula/, 'guarded, none of them is a formula');
like($guarded, qr/<text:p>&apos;=1\+1<|<text:p>'=1\+1</, 'but a text');
like($guarded, qr/office:value-type="float" office:value="-17"/, 'a negative number is a number');

# A spreadsheet has no tabs and control characters, ends lines in LF, and has no empty
# cell beside NULL.
convert('guarded.csv', 'fods', $faithful);
my $saved = convert('fods/guarded.fods', $csv);
$node->safe_psql('postgres', "CREATE TABLE saved (n integer, cell text, negative integer)");
$node->safe_psql('postgres', "COPY saved FROM '$saved' (FORMAT csv, HEADER)");
is($node->safe_psql('postgres', <<'SQL'), '', 'what it saves are the same cells, once the guard is off');
	SELECT i.n, to_json(i.cell), to_json(s.cell), s.negative
	FROM public.injections AS i
	FULL JOIN saved AS s ON s.n = i.n AND s.negative = -i.n
	CROSS JOIN LATERAL (
		SELECT regexp_replace(regexp_replace(ringfence.csv_guard(i.cell), E'\r\n?', E'\n', 'g'), E'[\t\x01\x0B]', '', 'g') AS cell
	) AS kept
	WHERE coalesce(s.cell, '') IS DISTINCT FROM kept.cell
		OR (kept.cell = ringfence.csv_guard(i.cell) AND ringfence.csv_unguard(coalesce(s.cell, '')) <> i.cell)
	ORDER BY i.n
SQL

$node->stop;
done_testing();
