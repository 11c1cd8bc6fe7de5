#!/bin/bash
# What row security costs: 1M rows of 1000 organizations, read and written by
#   a  a hand-written WHERE org_id = ..., no row security
#   b  the usual policy, on current_setting('request.jwt.claims')::json
#   c  a table that ringfence.protect() protects
# in turns, as PostgREST's login role would. A row "request" is a whole
# transaction: BEGIN, PostgREST's settings, pre_request() (c only), the statement,
# COMMIT. A row "statement" is a statement amid a transaction whose context is
# fixed already: a transaction with many, less one with none, by their number.
# Prints a table in Markdown; doc/benchmarks.md says how to read it.
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"
bench_server

# Rows of an organization lie scattered over the table, as they come in.
load() {
	run_psql -o /dev/null <<-'SQL'
		SET client_min_messages = warning;
		DROP SCHEMA IF EXISTS bench_isolation CASCADE;
		DO $$ BEGIN CREATE ROLE ringfence_bench LOGIN NOINHERIT; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
		GRANT ringfence_authenticator TO ringfence_bench;
		ALTER ROLE ringfence_bench SET jit = off;
		ALTER ROLE ringfence_bench SET session_preload_libraries = 'ringfence';
		CREATE SCHEMA bench_isolation;
		CREATE FUNCTION bench_isolation.key(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
		RETURN ('bec40000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
		INSERT INTO ringfence_data.orgs (id, name)
		SELECT bench_isolation.key(k), 'Bench ' || k FROM generate_series(1, 1000) AS k ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.users (id, email)
		SELECT bench_isolation.key(k), 'bench' || k || '@example.com' FROM generate_series(1, 1000) AS k ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.memberships (org_id, user_id, roles)
		SELECT bench_isolation.key(k), bench_isolation.key(k), '{owner}' FROM generate_series(1, 1000) AS k ON CONFLICT DO NOTHING;

		CREATE TABLE bench_isolation.a (
			org_id uuid NOT NULL,
			id bigint NOT NULL,
			amount bigint NOT NULL,
			status text NOT NULL,
			note text NOT NULL,
			created_at timestamptz NOT NULL,
			PRIMARY KEY (org_id, id)
		);
		CREATE TABLE bench_isolation.b (LIKE bench_isolation.a INCLUDING INDEXES);
		CREATE TABLE bench_isolation.c (LIKE bench_isolation.a INCLUDING INDEXES);
		CREATE TABLE bench_isolation.a_seq (LIKE bench_isolation.a, PRIMARY KEY (id));
		CREATE TABLE bench_isolation.b_seq (LIKE bench_isolation.a, PRIMARY KEY (id));
		CREATE TABLE bench_isolation.c_seq (LIKE bench_isolation.a);
		CREATE TABLE bench_isolation.a_new (LIKE bench_isolation.a INCLUDING INDEXES,
			FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id));
		CREATE TABLE bench_isolation.b_new (LIKE bench_isolation.a_new INCLUDING INDEXES,
			FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id));
		CREATE TABLE bench_isolation.c_new (LIKE bench_isolation.a_new INCLUDING INDEXES);
		GRANT USAGE ON SCHEMA bench_isolation TO ringfence_member;
		GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA bench_isolation TO ringfence_member;
		SELECT ringfence.protect('bench_isolation.c', '{"owner,admin": "all"}'),
			ringfence.protect('bench_isolation.c_new', '{"owner,admin": "all"}'),
			ringfence.protect('bench_isolation.c_seq', '{"owner,admin": "all"}');
		ALTER TABLE bench_isolation.c_seq DROP CONSTRAINT c_seq_pkey, ADD PRIMARY KEY (id);
		DO $$
		DECLARE
			rel text;
		BEGIN
			FOREACH rel IN ARRAY ARRAY['b', 'b_new', 'b_seq'] LOOP
				EXECUTE format('ALTER TABLE bench_isolation.%I ENABLE ROW LEVEL SECURITY', rel);
				EXECUTE format('CREATE POLICY tenant ON bench_isolation.%I
					USING (org_id = (current_setting(''request.jwt.claims'', true)::json ->> ''org_id'')::uuid)', rel);
			END LOOP;
			FOREACH rel IN ARRAY ARRAY['a', 'b', 'c', 'a_seq', 'b_seq', 'c_seq'] LOOP
				EXECUTE format('INSERT INTO bench_isolation.%I
					SELECT o.id, i, i %% 9973, ''open'', repeat(''x'', 60), timestamptz ''2025-01-01'' + i * interval ''1 s''
					FROM generate_series(0, 999999) AS i
					INNER JOIN (SELECT k, bench_isolation.key(k) AS id FROM generate_series(1, 1000) AS k) AS o
						ON o.k = i %% 1000 + 1
					ORDER BY i', rel);
			END LOOP;
		END
		$$;
	SQL
	run_psql -c 'VACUUM (FREEZE, ANALYZE) bench_isolation.a, bench_isolation.b, bench_isolation.c,
		bench_isolation.a_seq, bench_isolation.b_seq, bench_isolation.c_seq' \
		-c 'VACUUM ANALYZE ringfence_data.orgs, ringfence_data.users, ringfence_data.memberships' -c CHECKPOINT
}

# The settings that PostgREST sends, in one list; in c the pre-request after it.
begin_request() {
	cat <<-'SQL'
		BEGIN;
		SELECT set_config('search_path', 'bench_isolation', true), set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', :claims, true), set_config('request.method', 'POST', true), set_config('request.path', '/rows', true), set_config('request.headers', '{"accept": "application/json"}', true), set_config('request.cookies', '{}', true);
	SQL
	[ "$1" != c ] || echo 'SELECT ringfence.pre_request();'
}

# statement VARIANT WHAT I: the statement, one line, with the I-th random key.
statement() {
	local table=bench_isolation.$1 own='WHERE true'
	[ "$1" != a ] || own='WHERE org_id = :org'
	case $2 in
	point) echo "SELECT amount, status FROM $table $own AND id = :id$3" ;;
	scan) echo "SELECT id, amount, status FROM $table $own" ;;
	sum) echo "SELECT sum(amount) FROM $table $own" ;;
	seq*) echo "SELECT sum(amount) FROM ${table}_seq $own" ;;
	insert)
		if [ "$1" = c ]; then
			echo "INSERT INTO ${table}_new (id, amount, status, note, created_at) VALUES (:new$3, 1, 'open', 'x', '2025-01-01')"
		else
			echo "INSERT INTO ${table}_new (org_id, id, amount, status, note, created_at) VALUES (:org, :new$3, 1, 'open', 'x', '2025-01-01')"
		fi
		;;
	esac
}

# write_script VARIANT WHAT TIMES: a transaction with so many statements.
write_script() {
	local variant=$1 what=$2 times=$3 i
	for ((i = 1; i <= times; i++)); do
		echo "\\set id$i 1000 * random(0, 999) + :k - 1"
		echo "\\set new$i 1000000 + random(1, 1000000000000)"
	done
	begin_request "$variant"
	for ((i = 1; i <= times; i++)); do
		echo "$(statement "$variant" "$what" "$i");"
	done
	echo 'COMMIT;'
}

# measure WHAT TIMES: rounds of a, b and c in turns, each round in another
# organization and order, into the lists time_a, time_b and time_c. TIMES 0 measures
# requests.
measure() {
	local what=$1 times=$2 round variant order k org claims ms empty
	rm -f "$scripts"/*
	for variant in a b c; do
		write_script "$variant" "$what" "${times/#0/1}" >"$scripts/$variant.sql"
		write_script "$variant" "$what" 0 >"$scripts/$variant-empty.sql"
	done
	time_a='' time_b='' time_c=''
	for ((round = 0; round <= rounds; round++)); do
		k=$((round * 37 % 1000 + 1))
		org=$(printf 'bec40000-0000-7000-8000-%012x' "$k")
		claims="{\"role\": \"ringfence_member\", \"sub\": \"$org\", \"org_id\": \"$org\", \"roles\": [\"owner\"], \"exp\": 4102444800}"
		order=(a b c b c a c a b)
		for variant in "${order[@]:$((round % 3 * 3)):3}"; do
			ms=$(run_script "$variant") || exit 1
			if [ "$times" -gt 0 ]; then
				empty=$(run_script "$variant-empty") || exit 1
				ms=$(awk -v all="$ms" -v empty="$empty" -v n="$times" 'BEGIN { printf "%.6f", (all - empty) / n }')
			fi
			# The first round warms up.
			[ "$round" = 0 ] || printf -v "time_$variant" '%s' "$(eval "echo \$time_$variant") $ms"
		done
	done
}

# Every run inserts into empty tables.
run_script() {
	[ "$what" != insert ] || run_psql -c 'TRUNCATE bench_isolation.a_new, bench_isolation.b_new, bench_isolation.c_new'
	run_pgbench ringfence_bench "$scripts/$1.sql" -D k="$k" -D org="$org" -D claims="$claims"
}

# report TITLE TARGET WHAT TIMES
report() {
	local title=$1 target=$2
	measure "$3" "$4"
	# shellcheck disable=SC2086
	printf '| %s | %s | %s | %s | %s | **%s** | %s |\n' "$title" \
		"$(show "$(median $time_a)")" "$(show "$(median $time_b)")" "$(show "$(median $time_c)")" \
		"$(show "$(ratios "$time_a" "$time_b")")" "$(show "$(ratios "$time_a" "$time_c")")" "$target"
}

parallel() {
	run_psql -c "ALTER ROLE ringfence_bench SET max_parallel_workers_per_gather = $1"
}

load || die "could not load the rows"
parallel 0
bench_conditions
cat <<-'END'

	| | a, ms | b, ms | c, ms | b/a | c/a | target |
	| --- | ---: | ---: | ---: | ---: | ---: | ---: |
END
report 'statement: point (org, id)' '<= 1.05' point 200
report 'statement: all rows of an org, by index' '<= 1.05' scan 20
report 'statement: sum over an org, by index' '<= 1.05' sum 20
report 'statement: sum over an org, sequential' '<= 1.15' seq 1
report 'statement: insert' '' insert 100
report 'request: point' '' point 0
report 'request: sum over an org' '' sum 0
report 'request: insert' '' insert 0
parallel 2
report 'statement: sum over an org, sequential, 2 workers' '<= 1.15' seq 1
report 'request: sum over an org, sequential, 2 workers' '<= 1.15' seq 0
run_psql -c 'SET client_min_messages = warning' -c 'DROP SCHEMA bench_isolation CASCADE' \
	-c "DELETE FROM ringfence_data.memberships WHERE org_id::text LIKE 'bec40000-%'" \
	-c "DELETE FROM ringfence_data.users WHERE id::text LIKE 'bec40000-%'" \
	-c "DELETE FROM ringfence_data.orgs WHERE id::text LIKE 'bec40000-%'" -c 'DROP ROLE ringfence_bench'
