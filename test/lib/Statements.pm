package Statements;

# Random statements over the tables of test/fuzz/statements.sql, from perl's own
# rand(). What is known of a statement is in its notes:
#
#   changes   it changes something, so that a key protects it
#   refused   it can't be protected by a key
#   several   a rule may make several statements of it
#   unstable  what it answers differs from one execution to the next
#   calls     it calls idempotent() by itself

use strict;
use warnings;
use Exporter 'import';

our @EXPORT = qw(pick chance up_to statement settings utility harmless call_once other_shape add_literals);

my ($notes, $version);
our $depth;

# --- Choices ---

sub pick
{
	return $_[ int rand @_ ];
}

# One in n.
sub chance
{
	my ($n) = @_;
	return rand() * $n < 1;
}

sub up_to
{
	my ($n) = @_;
	return 1 + int rand $n;
}

sub list_of
{
	my ($n, $make) = @_;
	return join ', ', map { $make->() } 1 .. up_to($n);
}

# --- Values and expressions ---

my %literals = (
	smallint => [qw(0 -1 32767)],
	bigint => [ 0, '9223372036854775807' ],
	numeric => [ '0.0', "'NaN'", '1e-20', '123456789012345678901234567890.5', "'Infinity'" ],
	'numeric(12,2)' => [ '1', '-3.10' ],
	'double precision' => [ '0.1', "'-0'", "'NaN'", "'-Infinity'", '1e300', '1.0 / 3' ],
	real => [ '0.1', "'infinity'", '3.4e38' ],
	boolean => [qw(true false)],
	date => [ "'2020-02-29'", "'infinity'", "'0044-03-15 BC'", "'01/02/2003'" ],
	'time(3)' => [ "'24:00'", "'01:02:03.4567'" ],
	timetz => [ "'12:00+05:30'", "'00:00-15:59'" ],
	timestamp => [ "'2020-03-29 02:30'", "'-infinity'", "'0001-01-01 BC'" ],
	timestamptz => [ "'2020-10-25 01:30Z'", "'infinity'", "'12345-01-01 00:00Z'", "'1890-01-01 00:00:00.000001Z'" ],
	interval => [ "'1 year -1 day 00:00:01.5'", "'0'", "'-1 mons +2 days -03:00'", "'P1Y2M'" ],
	bytea => [ "'\\x00ff5c'", "''" ],
	uuid => ["'0aaaaaaa-0000-7000-8000-00000000000a'"],
	json => [ q('{"a" : [1, null], "a": 2}'), "'null'" ],
	jsonb => [ q('{"b": 1.10, "ä": "\u00e9"}'), "'[]'", q('"x"') ],
	xid8 => ["'12345678901'"],
	'text[]' => [ q('{a,NULL,"NULL","x,y","\"\\\\"}'), "'{}'", q('[0:1]={a,b}') ],
	'integer[]' => [ "'{{1,2},{3,NULL}}'", "ARRAY[1, 2]" ],
	'f.pair[]' => [q(ARRAY[ROW(1, 'a"b,'), NULL, ROW(NULL, '')])],
	'f.mood' => [ "'calm'", q('so, "so"') ],
	'f.mood[]' => [q('{calm,"so, \"so\""}')],
	'f.pair' => [ "ROW(1, 'x')", q(ROW(NULL, '(","\\)')), 'ROW(NULL, NULL)' ],
	'f.small' => [ '1', '-100' ],
	'f.mark' => [ "ROW(2, 'm')", 'NULL' ],
	'f.smalls' => [ "'{1,2}'", "'{}'" ],
	int4range => [ "'[1,4)'", "'empty'", "'(,)'" ],
	tstzrange => ["'[2020-01-01 00:00Z,infinity]'"],
	nummultirange => [ "'{[1.0,2),(3,)}'", "'{}'" ],
	'f.floats' => ["'[0.1,0.30000000000000004)'"],
	inet => [ "'10.1.2.3/8'", "'::ffff:1.2.3.4'" ],
	cidr => ["'10.0.0.0/8'"],
	macaddr => ["'08:00:2b:01:02:03'"],
	macaddr8 => ["'08:00:2b:01:02:03:04:05'"],
	'bit(5)' => ["B'10101'"],
	varbit => [ "B''", "B'1'" ],
	money => [ "'-1234.56'", "'0'" ],
	'"char"' => [ "'a'", "''" ],
	'character(6)' => [ "'ab'", "''" ],
	'varchar(5)' => [ "'abc'", "''" ],
	name => ["'n\"x'"],
	tsvector => [ q($$'a ''b':1A,2 c$$), "''" ],
	tsquery => [q($$!a & ('b c' <-> d:*)$$)],
	point => [ "'(1e-300,-0)'", "'(NaN,Infinity)'" ],
	lseg => ["'[(0,0),(1,1)]'"],
	box => ["'(1,1),(0,0)'"],
	path => [ "'((0,0),(1,0.1))'", "'[(0,0),(1,1)]'" ],
	polygon => ["'((0,0),(1,1),(1,0))'"],
	line => ["'{1,-1,0.1}'"],
	circle => ["'<(0,0),0.1>'"],
	jsonpath => [q('$.a ? (@.b == "x")')],
	regclass => [ "'f.plain'", "'pg_class'", '0', '4294967295' ],
	regtype => [ "'f.pair'", "'integer'" ],
	regprocedure => [ "'f.vol(integer)'", "'pg_catalog.abs(bigint)'" ],
	regrole => ["'regress_fuzz'"],
	regnamespace => ["'f'"],
	regconfig => ["'english'"],
	pg_lsn => ["'FF/0'"],
	oid => ['4294967295'],
	tid => ["'(1,2)'"],
	pg_snapshot => ["'10:20:10,14,15'"],
	int2vector => ["'1 2'"],
	oidvector => ["''"],
	refcursor => ["'c \"x'"],
	aclitem => ["'regress_fuzz=arw/regress_fuzz'"],
	'int8range[]' => [q{'{"[1,5)",empty,NULL}'}],
);
my @types = sort keys %literals;

# For servers that have it.
sub add_literals
{
	my ($type, @values) = @_;
	$literals{$type} = \@values;
	@types = sort keys %literals;
	return;
}

sub literal
{
	my $type = pick(@types);
	return 'NULL::' . $type if chance(8);
	return 'CAST(' . pick(@{ $literals{$type} }) . " AS $type)";
}

# An integer, of the columns that can be seen.
sub integer
{
	my ($columns) = @_;
	local $depth = $depth + 1;
	my @simple = (sub { int rand 60 }, sub { int rand 60 });
	push @simple, (sub { pick(@$columns) . '.' . pick('id', 'a') }) x 3 if @$columns;
	return pick(@simple)->() if $depth > 3;
	return pick(
		@simple, @simple,
		sub { integer($columns) . pick(' + ', ' - ', ' * ') . integer($columns) },
		sub { 'coalesce(' . integer($columns) . ', ' . integer($columns) . ')' },
		sub { 'length(' . text($columns) . ')' },
		sub { 'CASE WHEN ' . boolean($columns) . ' THEN ' . integer($columns) . ' ELSE ' . integer($columns) . ' END' },
		sub { '(SELECT count(*)::integer FROM ' . source('s') . (chance(2) ? ' WHERE ' . boolean([ @$columns, 's' ]) : '') . ')' },
		sub { '(SELECT max(s.a) FROM ' . source('s') . ' WHERE s.id < ' . integer($columns) . ')' },
		sub { 'f.stable(' . integer($columns) . ')' },
		sub { 'f.exact(' . integer($columns) . ')' },
		sub { chance(10) ? integer($columns) . ' / ' . integer($columns) : integer($columns) . ' / 3' })->();
}

sub text
{
	my ($columns) = @_;
	local $depth = $depth + 1;
	my @simple = (sub { pick(q('x'), q('ä "€"'), q(''), 'NULL::text', q(E'\\\\n\n')) });
	push @simple, (sub { pick(@$columns) . '.b' }) x 2 if @$columns;
	return pick(@simple)->() if $depth > 3;
	return pick(
		@simple,
		sub { text($columns) . ' || ' . text($columns) },
		sub { '(' . integer($columns) . ')::text' },
		sub { 'upper(' . text($columns) . ')' },
		sub { 'left(' . text($columns) . ', 5)' },
		sub { "repeat('r', abs(" . integer($columns) . ') % ' . pick(3, 30, 3000) . ')' },
		sub { 'md5(' . text($columns) . ')' },
		sub { literal() . '::text' },
		sub { '(SELECT string_agg(s.b, \',\' ORDER BY s.id, s.b) FROM ' . source('s') . ')' },
		sub { q[current_setting('search_path')] })->();
}

sub boolean
{
	my ($columns) = @_;
	local $depth = $depth + 1;
	my @simple = (sub { integer($columns) . pick(' < ', ' > ', ' = ', ' <> ') . integer($columns) }, sub { pick('true', 'true', 'false') });
	push @simple, (sub { pick(@$columns) . pick('.id < ', '.a > ', '.id = ') . int rand 30 }) x 3 if @$columns;
	return pick(@simple)->() if $depth > 3;
	return pick(
		@simple,
		sub { boolean($columns) . pick(' AND ', ' OR ') . boolean($columns) },
		sub { 'NOT (' . boolean($columns) . ')' },
		sub { 'EXISTS (SELECT FROM ' . source('s') . ' WHERE ' . boolean([ @$columns, 's' ]) . ')' },
		sub { integer($columns) . ' IN (SELECT s.a FROM ' . source('s') . ')' },
		sub { text($columns) . ' IS NULL' })->();
}

# Whatever type it has.
sub anything
{
	my ($columns, $of) = @_;
	my @special = map { my $alias = $_; sub { "$alias." . pick(@{ $of->{$alias} }) } } grep { $of->{$_} } @$columns;
	return pick(
		(map { ($_) x 10 } @special),
		sub { integer($columns) }, sub { text($columns) }, sub { boolean($columns) },
		\&literal, \&literal, \&literal,
		sub { 'ARRAY[' . list_of(3, sub { integer($columns) }) . ']' },
		sub { 'ROW(' . integer($columns) . ', ' . text($columns) . ')::f.pair' },
		sub { 'jsonb_build_object(\'k\', ' . integer($columns) . ', \'l\', ' . text($columns) . ')' },
		sub { 'to_jsonb(' . (@$columns ? pick(@$columns) : 1) . ')' },
		(grep { $_ eq 'w' } @$columns) ? sub { pick('w', 'w::text', 'ARRAY[w]', '(w).b') } : (),
		sub { 'ARRAY(SELECT s.b FROM ' . source('s') . ' ORDER BY s.id)' },
		sub { '(' . integer($columns) . ") * interval '1 day 01:00:00.1'" },
		sub { "timestamptz '2020-03-01 00:00Z' + (" . integer($columns) . ") * interval '1 hour'" },
		sub { '(' . integer($columns) . ') / 7::double precision' },
		sub { 'NULL' },
		sub { "'of no type'" })->();
}

sub unstable
{
	my ($columns) = @_;
	$notes->{unstable} = 1;
	return pick('now()', 'clock_timestamp()', 'random()', 'gen_random_uuid()', 'txid_current()', 'pg_current_xact_id()',
		'pg_backend_pid()', 'statement_timestamp()', (@$columns ? (pick(@$columns) . '.ctid') : ()));
}

# A call with an effect.
my %calls = (
	integer => [qw(vol vol_sql vol_raise vol_respond)],
	text => [qw(vol_text vol_catch)],
	any => [qw(vol vol_sql vol_raise vol_respond vol_text vol_catch vol_void vol_bool vol_json vol_pair)]);

sub call
{
	my ($kind, $columns) = @_;
	my $function = pick(@{ $calls{$kind} });
	return "f.$function(" . (chance(3) ? integer($columns) : int rand 30) . ')';
}

my @names = ('x', 'y', 'body', '"Weird ""name"""', 'response_status', 'page_total', 'id', 'a');

sub alias
{
	return chance(2) ? ' AS ' . pick(@names) : '';
}

# Columns of a result. What can't be told apart is given names.
sub items
{
	my ($columns, $of, %options) = @_;
	my @items;
	for (1 .. up_to(4))
	{
		my $item = chance(25) ? unstable($options{views} ? [] : $columns) : anything($columns, $of);
		if (chance(60))
		{
			$item = pick("ROW($item)", "ARRAY[ROW($item, 1)]");
			$notes->{refused} = 'record' unless $options{inner};
		}
		push @items, $item . alias();
	}
	return join ', ', @items;
}

# --- Tables ---

my %tables = (
	plain => { key => 'id' },
	made => { key => 'id', more => [qw(double at serial)] },
	wide => { key => 'id' },
	hooked => { key => 'id' },
	parent => { key => 'id' },
	child => { key => 'id' },
	late => { key => 'id' },
	parted => { key => 'id, a' },
	elder => { key => 'id' },
	secured => { key => 'id' },
	scratch => { key => 'id' },
	types => {
		key => 'id',
		more => [
			map { "c_$_" }
			  qw(int2 int8 numeric numeric_2 float4 float8 bool date time timetz timestamp timestamptz interval bytea uuid json jsonb
			  text_a int_a date_a pair_a mood pair small mark smalls int4range tstzrange nummultirange floats inet macaddr bit
			  varbit money char bpchar varchar name tsvector tsquery point polygon jsonpath regclass regtype pg_lsn)
		]
	},
	audited => { key => 'org_id, id', more => ['org_id'] },
	ruled => { rules => 1 },
	easy => { view => 1 },
	joined => { view => 1, instead => 1 });
my @readable = sort keys %tables;

sub full
{
	my ($name) = @_;
	return ($name eq 'scratch' ? 'pg_temp.' : 'f.') . $name;
}

# Something to read, under a name.
sub source
{
	my ($alias) = @_;
	return pick(
		(map { full($_) . " AS $alias" } @readable),
		"(VALUES (1, 2, 'v'), (3, NULL, NULL), (40, 7, 'w')) AS $alias (id, a, b)",
		"(SELECT g, g * 3, g::text FROM generate_series(1, 5) AS g) AS $alias (id, a, b)");
}

# Something to write, and what is special about it.
sub target
{
	my $name = chance(12) ? 'ruled' : pick(grep { $_ ne 'ruled' } @readable);
	$name = pick('hooked', 'parted', 'plain') if chance(4);
	return ($name, $tables{$name});
}

sub returning
{
	my ($name, $table, $alias, %options) = @_;
	return '' if !$options{must} && chance(3);
	return " RETURNING $alias.id, $alias.a, $alias.b" if $options{must};
	return " RETURNING $alias.*" if chance(4) && !$table->{rules};
	return ' RETURNING *' if chance(4) && !$table->{rules};
	my @columns = ($alias);
	my $of = { $alias => $table->{more} };
	my $items = items(\@columns, $of, views => $table->{view} || $table->{rules}, inner => $options{inner});
	$items .= ', ' . call('any', \@columns) if chance(8);
	if ($version >= 18 && chance(5) && !$table->{rules})
	{
		$items .= ', old.a AS before, new.b AS after';
	}
	return " RETURNING $items";
}

sub new_a
{
	my ($columns) = @_;
	return chance(12) ? call('integer', $columns) : chance(15) ? pick(77, 13, 'NULL') : chance(3) ? integer($columns) : int rand 50;
}

sub row
{
	my ($name) = @_;
	my $id = chance(3) ? up_to(20) : 20 + up_to(60);
	return $id . ', ' . ($name eq 'child' || $name eq 'late' ? (chance(6) ? 99 : up_to(10)) : new_a([])) . ', ' . text([]);
}

sub insert
{
	my (%options) = @_;
	my ($name, $table) = target();
	my $sql = 'INSERT INTO ' . full($name) . ' AS w ';
	$notes->{several} = 1 if $table->{rules};
	my $read = $options{from} ? $options{from}->() : source('s');
	$sql .= pick(
		sub { '(id, a, b) VALUES ' . list_of(4, sub { '(' . row($name) . ')' }) },
		sub { '(id, a, b) VALUES (' . row($name) . ')' },
		sub { '(b, id, a) SELECT s.b, s.id + 30, ' . new_a(['s']) . " FROM $read" . (chance(2) ? ' WHERE ' . boolean(['s']) : '') . (chance(3) ? ' LIMIT 2' : '') },
		sub { '(id, a) SELECT g, g FROM generate_series(' . up_to(90) . ', ' . up_to(100) . ') AS g' },
		sub { '(id, a, b) SELECT * FROM (VALUES ' . list_of(3, sub { '(' . row($name) . ')' }) . ') AS v' },
		sub { $name eq 'plain' || $name eq 'made' ? (chance(3) ? 'DEFAULT VALUES' : '(a, b) VALUES ' . list_of(3, sub { '(' . up_to(50) . ', DEFAULT)' })) : '(id) VALUES (' . up_to(99) . ')' })->();
	if ($table->{key} && chance(3))
	{
		$sql .= pick(
			' ON CONFLICT DO NOTHING',
			" ON CONFLICT ($table->{key}) DO NOTHING",
			" ON CONFLICT ($table->{key}) DO UPDATE SET " . ($name eq 'parted' ? 'b' : 'a') . ' = excluded.' . ($name eq 'parted' ? 'b' : 'a'),
			" ON CONFLICT ($table->{key}) DO UPDATE SET b = " . text([ 'w', 'excluded' ]) . ' WHERE ' . boolean(['w']));
	}
	return $sql if $table->{rules};
	return $sql . returning($name, $table, 'w', %options);
}

sub assignments
{
	my ($name, $columns) = @_;
	my @set = ('b = ' . text($columns));
	push @set, 'a = ' . new_a($columns) if chance(2);
	push @set, 'id = ' . pick('w.id + 100', 'w.id', 'w.id + 1') if chance(8);
	return '(a, b) = (SELECT s.a, s.b FROM ' . source('s') . ' ORDER BY s.id, s.b LIMIT 1)' if chance(12);
	return join ', ', @set;
}

sub update
{
	my (%options) = @_;
	my ($name, $table) = target();
	$notes->{several} = 1 if $table->{rules};
	my @columns = ('w');
	my $sql = 'UPDATE ' . ($name eq 'elder' && chance(3) ? 'ONLY ' : '') . full($name) . ' AS w SET ';
	my $from = '';
	if (chance(3) && !$table->{rules})
	{
		$from = ' FROM ' . ($options{from} ? $options{from}->() : source('s'));
		push @columns, 's';
	}
	$sql .= assignments($name, \@columns) . $from;
	$sql .= ' WHERE ' . ($from ? 'w.id = s.id AND ' : '') . boolean(\@columns) unless chance(8) && !$from;
	return $sql if $table->{rules} && !$options{must};
	return $sql . returning($name, $table, 'w', %options);
}

sub delete_from
{
	my (%options) = @_;
	my ($name, $table) = target();
	$notes->{several} = 1 if $table->{rules};
	my @columns = ('w');
	my $sql = 'DELETE FROM ' . full($name) . ' AS w';
	if (chance(4) && !$table->{rules})
	{
		$sql .= ' USING ' . ($options{from} ? $options{from}->() : source('s')) . ' WHERE w.id = s.id AND ';
		push @columns, 's';
	}
	else
	{
		$sql .= ' WHERE ';
	}
	$sql .= boolean(\@columns);
	return $sql if $table->{rules} && !$options{must};
	return $sql . returning($name, $table, 'w', %options);
}

sub merge
{
	my (%options) = @_;
	my ($name, $table);
	do
	{
		($name, $table) = target();
	} while ($table->{rules} || ($version < 17 && $table->{view}));
	my $read = $options{from} ? $options{from}->() : pick("(VALUES " . list_of(4, sub { '(' . row($name) . ')' }) . ') AS s (id, a, b)', source('s'));
	my $sql = 'MERGE INTO ' . full($name) . " AS w USING $read ON w.id = s.id" . (chance(5) ? ' AND ' . boolean([ 'w', 's' ]) : '');
	my @both = ('w', 's');
	$sql .= ' WHEN MATCHED' . (chance(2) ? ' AND ' . boolean(\@both) : '') . ' THEN '
	  . pick('DELETE', 'DO NOTHING', 'UPDATE SET b = ' . text(\@both), 'UPDATE SET a = ' . integer(\@both))
	  if chance(2) || chance(2);
	$sql .= ' WHEN NOT MATCHED BY SOURCE' . (chance(2) ? ' AND ' . boolean(['w']) : '') . ' THEN ' . pick('DELETE', "UPDATE SET b = 'gone'")
	  if $version >= 17 && chance(4);
	$sql .= ' WHEN NOT MATCHED' . (chance(3) ? ' AND ' . boolean(['s']) : '') . ' THEN '
	  . pick('INSERT (id, a, b) VALUES (s.id + 40, s.a, s.b)', 'INSERT (id, a) VALUES (s.id, ' . integer(['s']) . ')', 'DO NOTHING');
	return $sql if $version < 17;
	return $sql . pick('', ' RETURNING *', ' RETURNING merge_action(), w.*') if !$options{must} && chance(2);
	return $sql . returning($name, $table, 'w', %options);
}

sub change
{
	my (%options) = @_;
	$notes->{changes} = 1;
	return pick((\&insert) x 3, \&update, \&update, \&delete_from, ($options{must} && $version < 17) ? () : \&merge)->(%options);
}

# --- Queries ---

# One that may call something with an effect, wherever it can be called.
sub query
{
	my ($calls, $from) = @_;
	my $read = $from ? $from->() : source('s');
	my @columns = ('s');
	my $limit = chance(3) ? ' LIMIT ' . up_to(5) : '';
	my $int = sub { $calls ? call('integer', \@columns) : integer(\@columns) };
	my $any = sub { $calls ? call('any', \@columns) : anything(\@columns, {}) };
	my $row_source = sub {
		return source('t') unless $calls;
		return pick('f.vol_table(' . up_to(9) . ')', 'LATERAL f.vol_table(s.id)', 'LATERAL (SELECT f.vol(s.id) AS id, \'l\' AS b OFFSET 0)') . ' AS t';
	};
	return pick(
		sub { 'SELECT ' . $any->() . alias() },
		sub { 'SELECT ' . items(\@columns, {}) . ', ' . $any->() . " FROM $read WHERE " . boolean(\@columns) . " ORDER BY s.id, s.b$limit" },
		sub { "SELECT s.id, s.b FROM $read WHERE s.id < " . $int->() . $limit },
		sub { "SELECT s.id, t.b FROM $read JOIN " . $row_source->() . ' ON s.id = t.id' },
		sub { "SELECT s.id, t.b FROM $read CROSS JOIN " . $row_source->() . $limit },
		sub { 'SELECT * FROM ' . ($calls ? pick('f.vol_set(7)', 'f.vol_table(5)', 'f.vol_out(3)', 'f.vol_pair(2)', 'f.vol_void(1)', 'ROWS FROM (f.vol_set(3), f.vol_table(2))') : 'f.stable_set(7)') . ' AS t' . $limit },
		sub { 'SELECT ' . ($calls ? 'f.vol_set(' . up_to(9) . ')' : 'generate_series(1, 3)') . ", s.id FROM $read WHERE s.id < 4" . $limit },
		sub { "SELECT s.id FROM $read ORDER BY " . $int->() . ", 1$limit" },
		sub { "SELECT count(*), max(" . $int->() . ") FROM $read" },
		sub { "SELECT s.a, count(*) FROM $read GROUP BY s.a HAVING " . $int->() . ' > 5 ORDER BY 1' },
		sub { "SELECT s.id, sum(s.a) OVER (ORDER BY s.id, s.b ROWS BETWEEN " . ($calls ? 'abs(f.vol(1))' : 2) . " PRECEDING AND CURRENT ROW) FROM $read" },
		sub { 'SELECT FROM ' . ($calls ? 'f.vol_set(7)' : 'f.stable_set(5)') },
		sub { "SELECT s.id FROM $read LIMIT " . ($calls ? 'abs(f.vol(2))' : '1 + f.stable(0) % 3') },
		sub { "SELECT s.id FROM $read WHERE EXISTS (SELECT FROM " . source('t') . " WHERE t.id = s.id AND " . $int->() . ' > 1)' },
		sub { 'SELECT (SELECT ' . $int->() . "), s.id FROM $read" },
		sub { "SELECT 1 AS x UNION ALL SELECT " . $int->() . " FROM $read$limit" },
		sub { "SELECT 1 AS x UNION SELECT " . $int->() . " FROM $read ORDER BY 1$limit" },
		sub { 'VALUES (1), (' . ($calls ? call('integer', []) : integer([])) . ')' },
		sub { 'WITH q AS ' . pick('', 'MATERIALIZED ', 'NOT MATERIALIZED ') . "(SELECT s.id, " . $int->() . " AS a FROM $read) SELECT " . pick('*', 'count(*)', '1') . ' FROM q' . $limit },
		sub { 'WITH RECURSIVE q AS (SELECT 1 AS id UNION ALL SELECT ' . ($calls ? '(f.vol(q.id) - q.id) + 1' : 'q.id + 1') . ' FROM q WHERE q.id < 5) SELECT * FROM q' . $limit },
		sub { 'SELECT ' . ($calls ? 'f.vol_sum(s.a)' : 'sum(s.a)') . " FROM $read" },
		sub { 'SELECT s.id ' . ($calls ? 'OPERATOR(f.=%)' : '=') . " 3 FROM $read" },
		sub { "SELECT DISTINCT ON (s.a) s.a, " . $int->() . " FROM $read ORDER BY s.a, s.id, s.b" },
		sub { "SELECT s.id FROM f.plain AS s TABLESAMPLE BERNOULLI (" . ($calls ? 'abs(f.vol(30)) + 40' : 100) . ') REPEATABLE (1)' },
		sub { "SELECT x.* FROM $read, jsonb_to_recordset(" . ($calls ? "jsonb_build_array(f.vol_json(3))" : q('[{"n": 1}]')) . ') AS x (n integer, log integer)' },
		sub { "SELECT s.id FROM $read LEFT JOIN " . source('t') . ' ON t.id = s.id AND ' . $int->() . ' > 0' },
		sub { "SELECT CASE WHEN s.id > 5 THEN " . $int->() . " END FROM $read ORDER BY s.id, s.b" },
		sub { "SELECT s.id, s.b FROM f." . pick(qw(plain hooked parted)) . " AS s WHERE s.id < " . up_to(9) . ' AND ' . $int->() . ' > 0 FOR UPDATE' })->();
}

# Changes in WITH that are read, read in part, or not read.
sub with_changes
{
	my @names;
	my @parts;
	my $from = sub {
		return source('s') if !@names || chance(3);
		return pick(@names) . ' AS s';
	};
	for my $i (1 .. up_to(3))
	{
		my $kind = rand;
		if ($kind < 0.75)
		{
			my $read = chance(5) ? 0 : 1;
			push @parts, "c$i AS (" . change(from => $from, must => $read, inner => 1) . ')';
			push @names, "c$i" if $read;
		}
		elsif ($kind < 0.9)
		{
			push @parts, "c$i AS " . pick('', 'MATERIALIZED ') . '(SELECT s.id, s.a, s.b FROM ' . $from->() . (chance(2) ? ' LIMIT 2' : '') . ')';
			push @names, "c$i";
		}
		else
		{
			push @parts, "c$i AS (SELECT t.id, " . call('integer', []) . " AS a, t.b FROM f.vol_table(4) AS t)";
			push @names, "c$i";
		}
	}
	my $main = pick(
		sub { 'SELECT 1 AS one' },
		sub { 'SELECT s.* FROM ' . $from->() . ' LIMIT ' . pick(0, 1, 2) },
		sub { 'SELECT count(*), sum(s.a) FROM ' . $from->() },
		sub { 'SELECT s.id, s.b FROM ' . $from->() . ' ORDER BY s.id, s.b' },
		sub { 'SELECT EXISTS (SELECT FROM ' . $from->() . ')' },
		sub { 'SELECT s.id, t.a FROM ' . $from->() . ' JOIN ' . source('t') . ' ON t.id = s.id' },
		sub { 'SELECT s.id FROM ' . $from->() . ' WHERE false' },
		sub { query(chance(2), $from) },
		sub { change(from => $from) },
		sub { change(from => $from) })->();
	$main = "($main)" if $main =~ /^WITH/;
	return 'WITH ' . (chance(10) ? 'RECURSIVE ' : '') . join(', ', @parts) . " $main";
}

# --- Statements ---

# A statement and its notes. With "changes" it is one that a key protects.
sub statement
{
	my ($server_version, %options) = @_;
	($notes, $version, $depth) = ({}, $server_version, 0);
	my $sql = pick(
		(\&change) x 6,
		(\&with_changes) x 5,
		(sub { query(1) }) x 5,
		sub { query(0) })->();
	return ($sql, $notes);
}

# What may be different from session to session: one in so many of them.
sub settings
{
	my ($odds) = @_;
	my @settings = (
		[ 'datestyle', 'ISO, DMY', 'German', 'SQL, MDY', 'Postgres' ],
		[ 'intervalstyle', 'iso_8601', 'sql_standard', 'postgres_verbose' ],
		[ 'timezone', 'America/New_York', 'Asia/Kathmandu', 'UTC' ],
		[ 'extra_float_digits', -15, 0, 3 ],
		[ 'bytea_output', 'escape' ],
		[ 'search_path', 'f', 'f, public', 'pg_catalog, f', '' ],
		[ 'array_nulls', 'off' ],
		[ 'xmloption', 'document' ],
		[ 'quote_all_identifiers', 'on' ],
		[ 'plan_cache_mode', 'force_generic_plan' ],
		[ 'enable_hashjoin', 'off' ],
		[ 'enable_nestloop', 'off' ],
		[ 'enable_seqscan', 'off' ],
		[ 'enable_partition_pruning', 'off' ],
		[ 'constraint_exclusion', 'on' ],
		[ 'client_min_messages', 'debug1', 'error' ],
		[ 'default_text_search_config', 'pg_catalog.simple' ],
		[ 'client_encoding', 'LATIN1', 'SQL_ASCII' ],
		[ 'row_security', 'on' ],
		[ $version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode', 'on', 'regress' ]);
	my @chosen = grep { chance($odds) } @settings;
	return map { my ($name, @values) = @$_; "SET LOCAL $name = '" . pick(@values) . "'" } @chosen;
}

# A call by idempotent().
sub call_once
{
	my ($key) = @_;
	$notes = { changes => 1, calls => 1 };
	my $function = pick(qw(vol vol_sql vol_raise vol_respond vol_text vol_catch vol_void vol_bool vol_json vol_pair vol_set vol_table vol_out stable));
	my $n = up_to(30);
	my $arguments = chance(20) ? '{}' : chance(20) ? qq({"m": $n}) : qq({"n": $n});
	my $sql = "ringfence.idempotent('$key', 'f.$function(integer)', '$arguments')";
	return (pick("SELECT $sql", "SELECT $sql ->> 'x' AS x", "SELECT * FROM $sql AS r"), $notes);
}

# Something that changes what a statement's columns or values are, and the way
# back.
sub other_shape
{
	return @{ pick(
		[ 'ALTER TABLE f.plain ADD COLUMN more integer', 'ALTER TABLE f.plain DROP COLUMN more' ],
		[ 'ALTER TABLE f.hooked ADD COLUMN more integer', 'ALTER TABLE f.hooked DROP COLUMN more' ],
		[ 'ALTER TABLE f.parted ADD COLUMN more text', 'ALTER TABLE f.parted DROP COLUMN more' ],
		[ 'ALTER TABLE f.wide RENAME COLUMN b TO c', 'ALTER TABLE f.wide RENAME COLUMN c TO b' ],
		[ 'ALTER TABLE f.child ALTER COLUMN b TYPE varchar(100)', 'ALTER TABLE f.child ALTER COLUMN b TYPE text' ],
		[ "ALTER TYPE f.mood RENAME VALUE 'calm' TO 'still'", "ALTER TYPE f.mood RENAME VALUE 'still' TO 'calm'" ],
		[ 'ALTER DOMAIN f.small ADD CONSTRAINT tight CHECK (VALUE < -1000) NOT VALID', 'ALTER DOMAIN f.small DROP CONSTRAINT tight' ],
		[ 'ALTER TYPE f.pair RENAME ATTRIBUTE y TO why', 'ALTER TYPE f.pair RENAME ATTRIBUTE why TO y' ],
		[ 'ALTER TYPE f.pair RENAME TO couple', 'ALTER TYPE f.couple RENAME TO pair' ],
		[ 'ALTER FUNCTION f.vol(integer) RENAME TO volatile', 'ALTER FUNCTION f.volatile(integer) RENAME TO vol' ]) };
}

# What can't be run once and is refused: a change that no answer stands for.
sub utility
{
	return pick(
		'CREATE TABLE f.made_up (i integer)',
		'CREATE TABLE f.made_up AS SELECT f.vol(1)',
		'SELECT f.vol(2) AS x INTO f.made_up',
		'CREATE TEMP TABLE made_up AS VALUES (f.vol(1))',
		'CREATE INDEX ON f.plain (f.exact(a))',
		'CREATE VIEW f.made_up AS SELECT 1 AS x',
		'ALTER TABLE f.plain ADD COLUMN more integer',
		'ALTER SEQUENCE f.effects RESTART',
		'DROP TABLE f.late',
		'TRUNCATE f.plain CASCADE',
		"DO \$\$ BEGIN PERFORM f.vol(1); END \$\$",
		"COPY f.plain (id, a, b) FROM PROGRAM 'echo'",
		'COPY (INSERT INTO f.log (a) VALUES (1) RETURNING a) TO STDOUT',
		'COPY (SELECT f.vol(5)) TO STDOUT',
		'EXPLAIN (ANALYZE, COSTS OFF) INSERT INTO f.plain VALUES (99)',
		'EXPLAIN ANALYZE SELECT f.vol(1)',
		'EXPLAIN (ANALYZE) CREATE TABLE f.made_up AS SELECT f.vol(1)',
		'NOTIFY wire',
		"COMMENT ON TABLE f.plain IS 'x'",
		'GRANT SELECT ON f.plain TO PUBLIC',
		'ANALYZE f.plain',
		'REINDEX TABLE f.plain');
}

# What may stand between a key and its statement.
sub harmless
{
	return pick(
		'SHOW timezone',
		'SET LOCAL work_mem = 1000',
		'EXPLAIN (COSTS OFF) INSERT INTO f.plain VALUES (98)',
		'EXPLAIN (COSTS OFF) SELECT f.vol(1)',
		'LOCK TABLE f.plain IN SHARE MODE',
		'SELECT 1',
		'SELECT f.stable(1), f.exact(2)',
		"SELECT set_config('work_mem', '2000', true)",
		'SELECT count(*) FROM f.plain',
		'PREPARE unused AS SELECT f.vol($1); DEALLOCATE unused',
		'COPY f.parent TO STDOUT',
		'SET CONSTRAINTS ALL DEFERRED',
		'SAVEPOINT h; RELEASE h',
		'SAVEPOINT h; ROLLBACK TO h; RELEASE h',
		'DECLARE unused CURSOR FOR SELECT 1; FETCH unused; CLOSE unused');
}

1;
