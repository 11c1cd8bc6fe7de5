#!/bin/bash
# What rows as CSV cost: BENCH_ROWS rows (1,000,000) of eight columns by
#   csv()       of the row, as requests and exports have it
#   COPY        of the same rows, FORMAT csv, HEADER
#   pg_csv      csv_agg(), where that extension can be created
#   by hand     string_agg(format(...)) with replace() for the quotes
# in turns, within the server and to a client that throws them away; ndjson() beside
# string_agg(to_json(row)). Then what each takes of memory; and the job "exports", of
# as many rows and of BENCH_LARGE times as many (4). Prints tables in Markdown;
# doc/benchmarks.md says how to read them.
: "${BENCH_ROUNDS:=9}"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"
bench_server

export PGOPTIONS='-c jit=off -c max_parallel_workers_per_gather=0'
rows=${BENCH_ROWS:-1000000}
large=$((rows * ${BENCH_LARGE:-4}))
org=0bec0000-0000-7000-8000-000000000e01
user=0bec0000-0000-7000-8000-000000000e02

# The columns of a row, by its number g.
columns="g::bigint AS id, md5('ref ' || g)::uuid AS ref, 'Client ' || g % 5000 || ' of ' || md5(g::text) AS name,
	CASE g % 5
		WHEN 0 THEN NULL
		WHEN 1 THEN format(E'Ring \"%s\" twice, then wait\nby the door', g % 100)
		WHEN 2 THEN 'Keys: under the mat, left'
		ELSE 'Every second Tuesday of the month'
	END AS note, ((g::bigint * 7919 % 10000000) / 100.0)::numeric(12,2) AS amount,
	timestamptz '2024-01-01 08:00+00' + g * interval '61.7 sec' AS sold_at, date '2024-01-01' + g % 900 AS due, g % 3 = 0 AS paid"

load() {
	run_psql -o /dev/null <<-SQL
		SET client_min_messages = warning;
		DROP SCHEMA IF EXISTS bench_export CASCADE;
		CREATE SCHEMA bench_export;
		CREATE TABLE bench_export.sales AS SELECT $columns FROM generate_series(1, $rows) AS g;
		VACUUM ANALYZE bench_export.sales;
	SQL
}

declare -A aggregate=(
	[csv]='ringfence.csv(t)'
	[exact]="ringfence.csv(t, ringfence.csv_options(guard => false, newline => E'\n'))"
	[hand]="string_agg(format('%s,%s,\"%s\",%s,%s,%s,%s,%s', t.id, t.ref, replace(t.name, '\"', '\"\"'),
		'\"' || replace(t.note, '\"', '\"\"') || '\"', t.amount, t.sold_at, t.due, t.paid), E'\r\n')"
	[pg_csv]='csv_agg(t)'
	[ndjson]='ringfence.ndjson(t)'
	[to_json]="string_agg(to_json(t)::text, E'\n')"
)

# statement NAME WHERE: what is measured, in the server or to the client.
statement() {
	case $1-$2 in
	copy-server) echo "COPY (SELECT * FROM bench_export.sales) TO '/dev/null' (FORMAT csv, HEADER)" ;;
	copy-client) echo "COPY (SELECT * FROM bench_export.sales) TO STDOUT (FORMAT csv, HEADER)" ;;
	*-server) echo "SELECT octet_length(${aggregate[$1]}) FROM bench_export.sales AS t" ;;
	*) echo "SELECT ${aggregate[$1]} FROM bench_export.sales AS t" ;;
	esac
}

declare -A times
# round WHERE NAME...: all of them once, one after the other, in a session that has
# touched the table's pages.
round() {
	local where=$1 name i=0 arguments=()
	shift
	for name in "$@"; do
		arguments+=(-c "$(statement "$name" "$where")")
	done
	local -a took
	mapfile -t took < <(run_psql -c 'SELECT count(t) FROM bench_export.sales AS t' -c '\timing on' -c '\o /dev/null' "${arguments[@]}" |
		tee "$scripts/output" | grep -a '^Time: ' | cut -d ' ' -f 2)
	[ ${#took[@]} = $# ] || die "a statement failed"
	for name in "$@"; do
		times[$name-$where]+="${took[i]} "
		i=$((i + 1))
	done
}

# Of the own process, in kB; what is shared is the server's buffers.
own_status() {
	printf "SELECT substring(pg_read_file('/proc/self/status') FROM '%s:\s+(\d+)')" "$1"
}

# peak NAME WHERE: bytes that a statement takes at most, above what a session has that
# has read the table.
peak() {
	local -a kb
	mapfile -t kb < <(run_psql -c "$(statement copy server)" -c "$(own_status VmHWM)" -c '\o /dev/null' -c "$(statement "$1" "$2")" \
		-c '\o' -c "$(own_status VmHWM)" | grep -aE '^[0-9]+$')
	[ ${#kb[@]} = 2 ] || die "no figures of memory"
	echo $(((kb[1] - kb[0]) * 1024))
}

# row NAME BASE TITLE WHERE TARGET: medians, and of the rounds' ratios.
row() {
	local -a all
	local name=$1 base=$2 title=$3 where=$4 target=$5 memory
	read -ra all <<<"${times[$name-$where]}"
	memory=$(peak "$name" "$where") || exit 1
	printf '| %s | %s | %s | %s | %s | %s |\n' "$title" "$(show "$(median "${all[@]}")")" \
		"$(show "$(divide "$rows" "$(divide "$(median "${all[@]}")" 1000)")")" \
		"$(show "$(ratios "${times[$base-$where]}" "${times[$name-$where]}")")" \
		"$(show "$(divide "$memory" "$(bytes_of "$name")")")" "$target"
}

bytes_of() {
	[ "$1" != copy ] || set -- exact
	run_psql -c "$(statement "$1" server)"
}

# A protected table with as many rows of one organization, and who may export it.
protect_rows() {
	run_psql -o /dev/null -v org="$org" -v user="$user" <<-SQL
		SET client_min_messages = warning;
		INSERT INTO ringfence_data.orgs (id, name) VALUES (:'org', 'Bench export') ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.users (id, email, name) VALUES (:'user', 'bench@export.test', 'Bench') ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party) VALUES (:'org', :'user', '{owner}', '{}') ON CONFLICT DO NOTHING;
		DELETE FROM ringfence_data.export_parts AS p WHERE p.org_id = :'org';
		DELETE FROM ringfence_data.exports AS e WHERE e.org_id = :'org';
		DROP TABLE IF EXISTS bench_export.ledger CASCADE;
		CREATE TABLE bench_export.ledger (
			org_id uuid NOT NULL DEFAULT ringfence.org_id(), id bigint NOT NULL, ref uuid NOT NULL, name text NOT NULL, note text,
			amount numeric(12,2) NOT NULL, sold_at timestamptz NOT NULL, due date NOT NULL, paid boolean NOT NULL, PRIMARY KEY (org_id, id)
		);
		GRANT USAGE ON SCHEMA bench_export TO ringfence_member;
		SELECT ringfence.protect('bench_export.ledger', '{"owner": "all"}');
		CREATE VIEW bench_export.ledger_view WITH (security_invoker = true) AS
		SELECT l.id, l.ref, l.name, l.note, l.amount, l.sold_at, l.due, l.paid FROM bench_export.ledger AS l;
		GRANT SELECT ON bench_export.ledger_view TO ringfence_member;
		SELECT ringfence.declare_export('bench_export', 'bench_export.ledger_view', '{id}', '{owner}');
		SET session_replication_role = replica;
		INSERT INTO bench_export.ledger (org_id, id, ref, name, note, amount, sold_at, due, paid)
		SELECT :'org', t.* FROM (SELECT $columns FROM generate_series(1, $1) AS g) AS t;
		RESET session_replication_role;
		VACUUM ANALYZE bench_export.ledger;
	SQL
}

# chunked CONSISTENT: milliseconds that the job takes, and bytes that its process has
# of its own at most, above what it had when idle.
chunked() {
	local idle most ms output pid
	run_psql -o /dev/null -v org="$org" -v user="$user" -v consistent="$1" <<-'SQL' || return
		BEGIN;
		SELECT ringfence.set_context(:'org', :'user', '{owner}', '{}');
		SET LOCAL ROLE ringfence_member;
		SELECT e.id FROM ringfence_v1.start_export('bench_export', consistent => :'consistent') AS e;
		COMMIT;
		CHECKPOINT;
	SQL
	mkfifo "$scripts/begin"
	: >"$scripts/job"
	run_psql >"$scripts/job" 2>&1 <<-SQL &
		SELECT 'pid ' || pg_backend_pid();
		\! cat "$scripts/begin" >/dev/null
		SET ROLE ringfence_jobs;
		\timing on
		DO 'BEGIN WHILE ringfence.export_step() > 0 LOOP COMMIT; END LOOP; END';
	SQL
	until pid=$(sed -n 's/^pid //p' "$scripts/job") && [ -n "$pid" ]; do
		sleep 0.1
	done
	# Looks a hundred times a second until the process is gone.
	run_psql -v pid="$pid" >"$scripts/memory" <<-'SQL' &
		CREATE FUNCTION pg_temp.watch(pid integer) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			kb integer;
			idle integer;
			most integer := 0;
		BEGIN
			LOOP
				kb := substring(pg_read_file(format('/proc/%s/status', pid), 0, 100000, true) FROM 'RssAnon:\s+(\d+)');
				EXIT WHEN kb IS NULL;
				idle := coalesce(idle, kb);
				most := greatest(most, kb);
				PERFORM pg_sleep(0.01);
			END LOOP;
			RETURN format('%s %s', idle, most);
		END
		$$;
		SELECT pg_temp.watch(:pid);
	SQL
	sleep 1
	echo >"$scripts/begin"
	wait
	rm "$scripts/begin"
	read -r idle most <"$scripts/memory"
	ms=$(sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' "$scripts/job" | tail -n 1)
	output=$(run_psql -v org="$org" <<<"SELECT e.state FROM ringfence_data.exports AS e WHERE e.org_id = :'org' ORDER BY e.id DESC LIMIT 1")
	[ "$output" = "done" ] || die "the export is $output: $(<"$scripts/job")"
	echo "$ms $(((most - idle) * 1024))"
}

# chunked_row ROWS TITLE CONSISTENT TIMES_AND_BYTES...
chunked_row() {
	local rows=$1 title=$2 ms=() bytes=() i
	shift 2
	for ((i = 1; i <= $#; i += 2)); do
		ms+=("${!i}")
		bytes+=("${@:i+1:1}")
	done
	printf '| %s | %s | %s | %s | %s | <= 64 |\n' "$rows" "$title" "$(show "$(divide "$(median "${ms[@]}")" 1000)")" \
		"$(awk -v r="$rows" -v ms="$(median "${ms[@]}")" 'BEGIN { printf "%.0f", r / ms * 1000 }')" \
		"$(show "$(divide "$(printf '%s\n' "${bytes[@]}" | sort -n | tail -n 1)" 1048576)")"
}

load || exit 1
formats=(csv copy exact hand)
if run_psql -o /dev/null -c 'CREATE EXTENSION IF NOT EXISTS pg_csv' 2>/dev/null; then
	formats+=(pg_csv)
else
	echo 'pg_csv is not there to be measured'
fi
for ((i = 0; i < rounds; i++)); do
	for where in server client; do
		round $where "${formats[@]}" && round $where ndjson to_json || exit 1
	done
done
declare -A title=([csv]='`csv()`' [copy]='`COPY`' [exact]="\`csv()\`, the bytes of \`COPY\`" [hand]='`string_agg(format(...))`' [pg_csv]='pg_csv'
	[server]='within the server' [client]='to a client')

bench_conditions | sed 's/ rounds of [0-9]* ms/ rounds/'
printf '%s rows, %s bytes of CSV\n' "$rows" "$(bytes_of csv)"
for where in server client; do
	printf '\n| %s | ms | rows/s | time / `COPY` | memory / output | target |\n| --- | ---: | ---: | ---: | ---: | ---: |\n' "${title[$where]}"
	for name in "${formats[@]}"; do
		target=
		[ "$name" != csv ] || target='<= 1.0'
		[ "$name-$where" != csv-server ] || target='<= 1.0, memory <= 1.3'
		row "$name" copy "${title[$name]}" "$where" "$target"
	done
done
for where in server client; do
	printf '\n| %s | ms | rows/s | time / `to_json()` | memory / output | target |\n| --- | ---: | ---: | ---: | ---: | ---: |\n' "${title[$where]}"
	row ndjson to_json '`ndjson()`' "$where" ''
	row to_json to_json '`string_agg(to_json(row)::text)`' "$where" ''
done

printf '\n| rows | the job "exports" | s | rows/s | memory above idle, MB | target |\n| ---: | --- | ---: | ---: | ---: | ---: |\n'
for n in "$rows" "$large"; do
	protect_rows "$n" || exit 1
	separate=() consistent=()
	for ((i = 0; i < 3; i++)); do
		one=$(chunked false) && other=$(chunked true) || exit 1
		read -ra one <<<"$one"
		read -ra other <<<"$other"
		separate+=("${one[@]}") consistent+=("${other[@]}")
	done
	chunked_row "$n" 'each part as of its moment' "${separate[@]}"
	chunked_row "$n" 'all as of one moment' "${consistent[@]}"
done
