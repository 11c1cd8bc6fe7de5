# Random statements under a key, each beside a twin without one. What is
# committed has its key on record; what it did is what the twin did, rows and
# command tag included; sent again, it answers the same and changes nothing, not
# even a sequence; what fails or is refused leaves neither effect nor key.
#
# Each statement starts from the same rows and has a seed of its own, so that
# FUZZ_SEED=seed FUZZ_STATEMENTS=1 repeats one. FUZZ_SECONDS goes on for so long;
# FUZZ_CONF has more settings for the server.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Statements;
use Test::More;
use Wire;

my $seed = $ENV{FUZZ_SEED} // 1;
my $statements = $ENV{FUZZ_STATEMENTS} // ($ENV{FUZZ_SECONDS} ? 1e9 : 300);
my $until = time + ($ENV{FUZZ_SECONDS} // 1e6);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
autovacuum = off
max_prepared_transactions = 5
session_preload_libraries = 'ringfence'
max_parallel_workers_per_gather = 2
jit = off
restart_after_crash = on
log_statement = none
log_min_error_statement = panic
});
$node->append_conf('postgresql.conf', $ENV{FUZZ_CONF}) if $ENV{FUZZ_CONF};
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', q{
	REVOKE TEMPORARY ON DATABASE app FROM PUBLIC;
	CREATE EXTENSION ringfence;
	SELECT ringfence.install('core');
	CREATE ROLE regress_web LOGIN NOINHERIT;
	GRANT ringfence_authenticator TO regress_web;
	CREATE ROLE regress_fuzz;
});
$node->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('app'), '-f', "$FindBin::Bin/../fuzz/statements.sql" ],
	'the tables are made');
$node->safe_psql('app', q{
	GRANT USAGE ON SCHEMA f TO regress_fuzz, ringfence_anon, ringfence_member, regress_web;
	GRANT ALL ON ALL TABLES IN SCHEMA f TO regress_fuzz, ringfence_anon, ringfence_member;
	GRANT ALL ON ALL SEQUENCES IN SCHEMA f TO regress_fuzz, ringfence_anon, ringfence_member;
	REVOKE UPDATE ON f.made FROM regress_fuzz;
});

# --- Connections ---

my (%connections, $version);

sub connection
{
	my ($name) = @_;
	return $connections{$name} if $connections{$name};
	my $user = $name eq 'web' ? 'regress_web' : getpwuid($<);
	my $connection = Wire->connect($node->host, $node->port, $user, 'app');
	$connection->ask(q{
		CREATE TEMP TABLE scratch (id integer PRIMARY KEY, a integer, b text); GRANT ALL ON scratch TO regress_fuzz}) if $name eq 'main';
	return $connections{$name} = $connection;
}

sub lose_connections
{
	$_->close for values %connections;
	%connections = ();
	return;
}

sub refill
{
	connection('admin')->ask('SELECT f.refill()');
	connection('main')->ask(q{
		TRUNCATE pg_temp.scratch; INSERT INTO pg_temp.scratch SELECT g, g, 'temp' FROM generate_series(1, 7) AS g});
	return;
}

# --- What a transaction did ---

my $probe = q{SELECT f.state(), nullif(current_setting('response.status', true), ''),
	nullif(current_setting('response.headers', true), '')};
my $scratch = q{, (SELECT 'scratch=' || count(*) || md5(string_agg(t::text, '|' ORDER BY t.id)) FROM pg_temp.scratch AS t)};

sub state_now
{
	my ($connection) = @_;
	my @values = $connection->ask($probe . ($connection == ($connections{main} // 0) ? $scratch : ''));
	return { tables => $values[0] =~ s/#\S+ //gr . ($values[3] // ''), all => $values[0] . ($values[3] // ''), status => $values[1], headers => $values[2] };
}

sub keys_on_record
{
	return connection('admin')->ask('SELECT count(*) FROM ringfence_data.idempotency_keys');
}

sub set_key
{
	my ($n, $by_call) = @_;
	return "SELECT ringfence.set_idempotency_key('key $n')" if $by_call;
	return "SET LOCAL ringfence.idempotency_key = 'key $n'";
}

# A request's first statements, as PostgREST sends them.
sub request_begin
{
	my ($plan, $armed) = @_;
	my $role = $plan->{web};
	my $claims = $role eq 'ringfence_anon' ? '' :
	  ', "org_id": "0aaaaaaa-0000-7000-8000-00000000000a", "sub": "0aaaaaaa-0000-7000-8000-0000000000aa"';
	my $headers = $armed ? '{"idempotency-key": "\"key 1\"", "x-session-key": "fuzz"}' : '{"x-session-key": "fuzz"}';
	return (
		qq{SELECT set_config('search_path', '"f", "public"', true), set_config('role', '$role', true),
			set_config('request.jwt.claims', '{"role": "$role"$claims}', true), set_config('request.method', 'POST', true),
			set_config('request.path', '/plain', true), set_config('request.headers', '$headers', true),
			set_config('request.cookies', '{}', true)},
		'SELECT ringfence.pre_request()');
}

# The steps of one transaction: what is sent, and whether its answer counts.
sub steps
{
	my ($plan, $armed) = @_;
	my @steps;
	my $key = 0;
	push @steps, map { [$_] } "BEGIN ISOLATION LEVEL $plan->{isolation}", ($plan->{web} ? request_begin($plan, $armed) : ()), @{ $plan->{settings} };
	for my $step (@{ $plan->{wrap} })
	{
		if ($step eq 'key')
		{
			push @steps, [ set_key(++$key, $plan->{by_call}) ] if $armed && !$plan->{web};
		}
		elsif ($step eq 'statement')
		{
			push @steps, [ $plan->{sql}, how => $plan->{how}, parameters => $plan->{parameters}, name => $plan->{name} ];
		}
		elsif ($step eq 'other')
		{
			push @steps, [ $plan->{other}, how => 'simple' ];
		}
		elsif ($step eq 'utility')
		{
			push @steps, [ $plan->{utility}, fails => qr/^0A000 .* cannot be used with an idempotency key/ ] if $armed;
		}
		elsif ($step eq 'mistake')
		{
			push @steps, [ $plan->{mistake}, fails => qr/^(?:23505|PT422|PT409) / ];
		}
		else
		{
			push @steps, [$step];
		}
	}
	return @steps;
}

sub execute
{
	my ($connection, $step) = @_;
	my ($sql, %step) = @$step;
	my $how = $step{how} // 'simple';
	my @parameters = @{ $step{parameters} // [] };
	return $connection->send_extended($sql, \@parameters) if $how eq 'extended';
	return $connection->send_extended($sql, \@parameters, binary => 1) if $how eq 'binary';
	return $connection->send_extended($sql, \@parameters, limit => 1) if $how eq 'limit';
	if ($how eq 'execute')
	{
		my $arguments = @parameters ? '(' . join(', ', @parameters) . ')' : '';
		my $answer = $connection->send_simple("PREPARE $step{name} AS $sql");
		$answer = $connection->send_simple("EXECUTE $step{name}$arguments") unless $answer->{error};
		$connection->send_simple("DEALLOCATE $step{name}") unless $answer->{error};
		return $answer;
	}
	if ($how =~ /cursor|all/)
	{
		my $answer = $connection->send_simple("DECLARE $step{name} CURSOR FOR $sql");
		return $answer->{error} ? $answer : $connection->send_simple('FETCH ' . ($how eq 'all' ? 'ALL' : 2) . " FROM $step{name}");
	}
	return $connection->send_simple($sql);
}

# Runs a transaction: its answers, the error that ended it, and the state in it
# and after it.
sub run
{
	my ($plan, %options) = @_;
	my $connection = connection($options{connection} // $plan->{connection});
	my $did = { answers => [] };
	my @steps = steps($plan, $options{armed});
	if ($plan->{how} eq 'string')
	{
		my @answers = $connection->send_all(join "; ", map { $_->[0] } @steps);
		$did->{error} = $answers[-1]{error};
		$did->{answers} = [ $answers[-1] ];
	}
	else
	{
		for my $step (@steps)
		{
			my ($sql, %step) = @$step;
			my $answer = execute($connection, $step);
			push @{ $did->{answers} }, $answer if $step{how};
			if ($step{fails})
			{
				next if ($answer->{error} // '') =~ $step{fails};
				$did->{error} = 'did not fail: ' . ($answer->{error} // $answer->{tag} // '') . " of $sql";
				last;
			}
			$did->{error} = $answer->{error};
			last if defined $did->{error};
		}
	}
	if (!defined $did->{error})
	{
		$did->{inside} = state_now($connection);
		if ($options{end} eq 'ROLLBACK' || $plan->{check})
		{
			$did->{error} = $connection->send_simple('SET CONSTRAINTS ALL IMMEDIATE')->{error};
			$did->{inside} = state_now($connection) unless defined $did->{error};
		}
	}
	if (!defined $did->{error} && $options{end} ne 'ROLLBACK')
	{
		my $answer = $connection->send_simple($options{end});
		$did->{error} = $answer->{error};
		$did->{warning} = join ' ', @{ $answer->{notices} };
	}
	else
	{
		$connection->send_simple('ROLLBACK');
		$connection->send_simple('DEALLOCATE ALL') if $plan->{how} eq 'execute';
	}
	$did->{after} = state_now($connection) if $options{end} !~ /^PREPARE/;
	return $did;
}

# --- What must hold ---

my %counts = map { $_ => 0 } qw(recorded replayed refused failed unused incomplete mismatched prepared two reshaped);
my @failures;
my $report;

sub describe
{
	my ($answer) = @_;
	my @rows = map { '(' . join(', ', map { defined ? $_ : 'NULL' } @$_) . ')' } @{ $answer->{rows} };
	splice @rows, 10 if @rows > 10;
	return ($answer->{error} // $answer->{tag} // 'nothing') . ' [' . join(', ', @{ $answer->{columns} }) . '] ' . join(' ', @rows);
}

sub wrong
{
	my ($what, @details) = @_;
	$report->(join "\n", $what, map { s/[^\x09\x0a\x20-\x7e]/?/gr } @details);
	return;
}

sub same_answers
{
	my ($one, $other, $sorted) = @_;
	return 0 unless @$one == @$other;
	for my $i (0 .. $#$one)
	{
		my ($x, $y) = map {
			my @rows = map { join "\1", map { defined ? ">$_" : '' } @$_ } @{ $_->{rows} };
			join "\2", $_->{tag} // '', $_->{error} // '', @{ $_->{columns} }, $sorted ? sort @rows : @rows
		} $one->[$i], $other->[$i];
		return 0 if $x ne $y;
	}
	return 1;
}

sub compare_with_twin
{
	my ($plan, $twin, $first) = @_;
	return if $plan->{notes}{unstable};
	wrong('the answer is another than without a key', map { describe($_) } @{ $twin->{answers} }, @{ $first->{answers} })
	  unless same_answers($twin->{answers}, $first->{answers}, 1);
	wrong('the effect is another than without a key', $twin->{inside}{all}, $first->{after}{all})
	  unless $twin->{inside}{all} eq $first->{after}{all};
	return;
}

# The first time failed: no effect, no key, and not because of the key.
sub check_failure
{
	my ($plan, $before, $twin, $first) = @_;
	wrong('what failed had an effect', $first->{error}, $before->{tables}, $first->{after}{tables})
	  unless $first->{after}{tables} eq $before->{tables};
	wrong('what failed left a key', $first->{error}) if keys_on_record() > 0;
	if ($first->{error} =~ /^0A000 .*(?:idempotency key|be recorded)/)
	{
		$counts{refused}++;
		wrong('refused without need', $first->{error})
		  unless $plan->{notes}{refused} || $plan->{notes}{several} || $plan->{how} =~ /limit|cursor|all/;
	}
	elsif (defined $twin->{error} || $plan->{notes}{unstable})
	{
		$counts{failed}++;
		wrong('it fails otherwise than without a key', $first->{error}, $twin->{error})
		  unless $plan->{notes}{unstable} || $first->{error} eq $twin->{error} || $first->{error} =~ /^25000 the transaction wrote/;
	}
	elsif ($first->{error} =~ /^25000 the transaction wrote without using/ && (!$plan->{notes}{changes} || $plan->{notes}{several}))
	{
		$counts{unused}++;
	}
	else
	{
		wrong('it fails under a key only', $first->{error});
	}
	return;
}

# Under a key that it did not use.
sub check_unused
{
	my ($plan, $before, $first) = @_;
	$counts{unused}++;
	my $undone = grep { /^ROLLBACK TO/ } @{ $plan->{wrap} };
	my $part = $undone ? 'tables' : 'all';
	wrong('an effect without its key', $before->{$part}, $first->{after}{$part}) unless $first->{after}{$part} eq $before->{$part};
	wrong('it should have used the key') if $plan->{notes}{changes} && !$plan->{notes}{several};
	wrong('nobody is told that the key was not used', $first->{warning})
	  unless $plan->{web} || $undone || $first->{warning} =~ /no statement used/ || "@{$plan->{settings}}" =~ /client_min_messages = 'error'/;
	return;
}

sub masked
{
	my ($plan, $answers) = @_;
	return $answers unless $plan->{postgrest};
	my ($answer) = @$answers;
	my @rows = map { [@$_] } @{ $answer->{rows} };
	$_->[4] = undef for @rows;
	return [ { %$answer, rows => \@rows } ];
}

sub check_replay
{
	my ($plan, $first, $name) = @_;
	my ($complete) = connection('admin')->ask('SELECT bool_and(complete) FROM ringfence_data.idempotency_keys');
	my $keys = keys_on_record();
	my $again = run($plan, armed => 1, end => 'COMMIT', connection => $name);
	my @expected = @{ $first->{answers} };
	$counts{replayed}++;
	return wrong('the repetition fails', $again->{error}, map { describe($_) } @{ $first->{answers} }) if defined $again->{error};
	@expected = ($expected[-1]) x @expected if grep { /^ROLLBACK TO/ } @{ $plan->{wrap} };
	if ($complete eq 't')
	{
		wrong('the repetition answers something else', map { describe($_) } @expected, @{ $again->{answers} })
		  unless same_answers(masked($plan, \@expected), masked($plan, $again->{answers}));
		# But for what is set once the rows are done: by a WITH query that nobody reads.
		wrong('the response is another', $first->{inside}{status}, $again->{inside}{status})
		  unless !$plan->{web} || $plan->{sql} =~ /^WITH c/ || ($first->{inside}{status} // '') eq ($again->{inside}{status} // '');
	}
	else
	{
		$counts{incomplete}++;
		wrong("rows of an answer that was too large", map { describe($_) } @{ $again->{answers} })
		  if grep { @{ $again->{answers}[$_]{rows} } && !$plan->{postgrest} && !$plan->{notes}{calls} && !same_answers([ $expected[$_] ], [ $again->{answers}[$_] ]) } 0 .. $#expected;
	}
	wrong('the repetition is not told', $again->{inside}{headers})
	  if $plan->{web} && ($again->{inside}{headers} // '') !~ /Idempotency-Replayed/;
	wrong('the repetition had an effect', $first->{after}{all}, $again->{after}{all})
	  unless $first->{after}{all} =~ s/scratch=.*//r eq $again->{after}{all} =~ s/scratch=.*//r
	  && ($name ne 'main' || $first->{after}{all} eq $again->{after}{all});
	wrong('the repetition changed the keys') unless keys_on_record() == $keys;
	return;
}

# Something else under the same key.
sub check_mismatch
{
	my ($plan, $first) = @_;
	my $other = { %$plan, sql => "INSERT INTO f.log (what) VALUES ('other')", how => 'simple', wrap => [ 'key', 'statement' ] };
	$other = { %$plan, sql => $plan->{sql} =~ s/\{/{"o": 1, /r } if $plan->{notes}{calls};
	$other = { %$plan, parameters => [ map { $_ + 1 } @{ $plan->{parameters} } ], wrap => [ 'key', 'statement' ] } if @{ $plan->{parameters} // [] };
	my $did = run($other, armed => 1, end => 'COMMIT');
	$counts{mismatched}++;
	wrong('something else under the same key', $did->{error}) unless ($did->{error} // '') =~ /^PT422/;
	wrong('something else under the same key had an effect') unless $did->{after}{all} =~ s/#.*//r eq $first->{after}{all} =~ s/#.*//r;
	return;
}

# Once tables and types are others, it gets what it got, or an error.
sub check_shape
{
	my ($plan, $first) = @_;
	my ($there, $back) = other_shape();
	connection('admin')->ask($there);
	my $did = run($plan, armed => 1, end => 'COMMIT');
	connection('admin')->ask($back);
	$did->{after} = state_now(connection($plan->{connection}));
	$counts{reshaped}++;
	wrong("an effect after $there", $did->{error}, $first->{after}{all}, $did->{after}{all})
	  unless $did->{after}{all} =~ s/#.*//r eq $first->{after}{all} =~ s/#.*//r;
	wrong("after $there", $did->{error}) unless ($did->{error} // '') =~ /^(?:$|PT409 the answer|PT422|42|22|did not fail: 42)/;
	return;
}

# While the first one is prepared, a second one is in its way.
sub commit_prepared
{
	my ($plan, $first) = @_;
	if (defined $first->{error})
	{
		$first->{after} = state_now(connection($plan->{connection}));
		return;
	}
	my $plan_2 = { %$plan, settings => [ 'SET LOCAL ringfence.idempotency_wait = 0', @{ $plan->{settings} } ] };
	my $second = run($plan_2, armed => 1, end => 'COMMIT', connection => 'other');
	$counts{prepared}++;
	connection('admin')->ask("COMMIT PREPARED 'fuzz'");
	$first->{after} = state_now(connection($plan->{connection}));
	wrong('what is in progress', $second->{error})
	  unless ($second->{error} // '') =~ /^PT409 a request with the same/ || keys_on_record() == 0;
	return;
}

# --- One statement ---

sub make_plan
{
	my ($sql, $notes) = statement($version);
	($sql, $notes) = call_once('key 1') if chance(20);
	my $prepare = chance(12) && $sql !~ /scratch/;
	my $plan = {
		sql => $sql, notes => $notes,
		isolation => pick('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'),
		settings => [ settings(chance(2) ? 60 : 8) ],
		connection => $prepare ? 'apart' : 'main',
		end => $prepare ? "PREPARE TRANSACTION 'fuzz'" : 'COMMIT',
		how => pick('simple', 'simple', 'simple', 'extended', 'binary', 'execute'),
		name => 'p' . up_to(1e9),
		check => chance(2),
		web => chance(6) && $sql !~ /scratch/ && !$notes->{calls} && pick('ringfence_anon', 'ringfence_member'),
		wrap => pick(
			([ 'key', 'statement' ]) x 6,
			[ 'key', harmless(), 'statement' ],
			[ 'key', 'SAVEPOINT s', 'statement', 'RELEASE s' ],
			[ 'SAVEPOINT s', 'key', 'statement', 'RELEASE s' ],
			[ 'key', 'SAVEPOINT s', 'statement', 'ROLLBACK TO s', 'statement' ],
			[ 'key', 'SAVEPOINT s', 'SAVEPOINT t', 'statement', 'RELEASE t', 'ROLLBACK TO s', 'statement', 'RELEASE s' ],
			[ 'key', 'SAVEPOINT s', 'mistake', 'ROLLBACK TO s', 'statement' ],
			[ 'key', 'SAVEPOINT s', 'utility', 'ROLLBACK TO s', 'statement' ],
			[ 'key', 'statement', 'key', 'other' ])
	};
	($plan->{other}) = "INSERT INTO f.log (what, a) VALUES ('another', " . up_to(99) . ') RETURNING id, what';
	$plan->{utility} = utility();
	$plan->{mistake} = pick('INSERT INTO f.plain (id) VALUES (1)', "INSERT INTO f.hooked (id, a) VALUES (50, 1), (1, 2)");
	$plan->{settings} = [ settings(2) ] if $plan->{how} eq 'binary';
	$plan->{how} = 'limit' if chance(25);
	$plan->{how} = pick('cursor', 'all') if chance(4) && !$notes->{changes};
	$plan->{how} = 'string' if chance(10) && !grep { /ROLLBACK|other/ } @{ $plan->{wrap} };
	$plan->{wrap} = [ pick([], ['SAVEPOINT s'])->@*, 'statement' ] if $notes->{calls};
	if ($plan->{web})
	{
		$plan->{connection} = 'web';
		$plan->{end} = 'COMMIT';
		$plan->{settings} = [];
		$plan->{wrap} = [ 'key', 'statement' ];
		$plan->{how} = 'extended' unless $plan->{how} eq 'binary';
		if ($sql =~ /^(?:INSERT|UPDATE|DELETE)/ && $sql =~ /RETURNING/)
		{
			$plan->{postgrest} = 1;
			delete $notes->{refused};
			$plan->{sql} = qq{WITH pgrst_source AS ($sql) SELECT '' AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total,
				array[]::text[] AS header, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers,
				nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted FROM (SELECT * FROM pgrst_source) _postgrest_t};
		}
	}
	else
	{
		push @{ $plan->{settings} }, 'SET LOCAL ROLE regress_fuzz' if chance(8) && $sql !~ /scratch/ && !$notes->{calls};
		$plan->{by_call} = chance(3) && "@{$plan->{settings}}" !~ /ROLE/;
		unshift @{ $plan->{settings} }, 'SET LOCAL ringfence.idempotency_max_response = ' . pick(0, 10, 200, 4000) if chance(6);
	}
	$plan->{wrap} = [ 'key', 'statement' ] if $plan->{end} ne 'COMMIT' && !$notes->{calls};
	if ($plan->{how} =~ /extended|binary|execute|limit/ && chance(2))
	{
		my @values;
		$plan->{sql} =~ s/([<>=] )(\d+)\b/push @values, $2; $1 . '$1::integer'/e;
		$plan->{parameters} = \@values if @values;
	}
	return $plan;
}

sub try_statement
{
	my ($plan) = @_;
	my $keys = 1 + grep { $_ eq 'other' } @{ $plan->{wrap} };
	refill();
	my $before = state_now(connection($plan->{connection}));
	my $twin = run($plan, end => 'ROLLBACK');
	refill();
	if (chance(10))
	{
		my $rehearsal = run($plan, armed => 1, end => 'ROLLBACK');
		wrong('a rollback leaves something', $before->{tables}, $rehearsal->{after}{tables})
		  unless $rehearsal->{after}{tables} eq $before->{tables} && keys_on_record() == 0;
		refill();
	}
	my $first = run($plan, armed => 1, end => $plan->{end});
	commit_prepared($plan, $first) if $plan->{end} ne 'COMMIT';
	return check_failure($plan, $before, $twin, $first) if defined $first->{error};
	return wrong('it fails without a key only', $twin->{error}) if defined $twin->{error} && !$plan->{notes}{unstable};
	compare_with_twin($plan, $twin, $first);
	if (keys_on_record() == 0)
	{
		check_unused($plan, $before, $first);
		return;
	}
	wrong('not refused') if $plan->{notes}{refused};
	if (keys_on_record() != $keys)
	{
		wrong('number of keys: ' . keys_on_record()) if $plan->{notes}{changes} && !$plan->{notes}{several};
		return;
	}
	$counts{recorded}++;
	$counts{two}++ if $keys == 2;
	check_replay($plan, $first, $plan->{connection});
	check_replay($plan, $first, 'other') if chance(3) && $plan->{sql} !~ /scratch/ && !$plan->{web};
	if ($plan->{how} eq 'binary' && !$plan->{web})
	{
		my $which = qr/search_path|client_encoding|ROLE/;
		my @settings = ((grep { /$which/ } @{ $plan->{settings} }), (grep { !/$which/ } settings(2)));
		check_replay({ %$plan, settings => \@settings }, $first, $plan->{connection});
	}
	check_mismatch($plan, $first) if chance(4) && $keys == 1;
	check_shape($plan, $first) if chance(4);
	return;
}

# The statements.
$version = int(connection('admin')->ask('SHOW server_version_num') / 10000);
add_literals('xml', "'<a b=\"c\"/>'", "'x <b/>'", "'<?xml version=\"1.0\"?><a/>'", "''")
  unless connection('admin')->send_simple("SELECT xml ''")->{error};
my $done = 0;
while ($done < $statements && time < $until && @failures < 20)
{
	srand($seed + $done);
	my $plan = make_plan();
	my $this = $seed + $done++;
	$report = sub {
		my ($what) = @_;
		my $transaction = join ";\n  ", map { $_->[0] . (@{$_} > 1 ? "  -- $plan->{how}" : '') } steps($plan, 1);
		push @failures, $this;
		diag("FUZZ_SEED=$this: $what\n  " . $transaction =~ s/[^\x09\x0a\x20-\x7e]/?/gr);
	};
	if (!eval { try_statement($plan); 1 })
	{
		wrong("$@");
		lose_connections();
		$node->poll_query_until('app', 'SELECT true') or BAIL_OUT('the server did not come back');
		$node->safe_psql('app', "ROLLBACK PREPARED 'fuzz'") if $node->safe_psql('app', 'SELECT count(*) FROM pg_prepared_xacts') > 0;
	}
}
diag("statements: $done" . join '', map { ", $_: $counts{$_}" } sort keys %counts);
is("@failures", '', "each of $done statements has one effect");
cmp_ok($counts{$_}, '>', 0, "some were $_") for $done < 300 ? () : sort keys %counts;
lose_connections();

my $log = slurp_file($node->logfile);
unlike($log, qr/was terminated by|TRAP:|PANIC:|leak|not closed|still active/, 'the server has nothing to complain of');
$node->stop;
done_testing();
