#!/bin/bash
# What other transactions notice of a purge: BENCH_ROWS rows (1,000,000) that have come
# due, of a table of twice as many, leave while BENCH_CLIENTS clients (4) send
# BENCH_RATE transactions a second (400) that write to and read the same table; by
# run_retention(), by one DELETE, and by a loop of batches that commit. Then a
# partition of as many rows is dropped under the same traffic, and a plain table, which
# shows what of that is the file system's. The server is durable, and vacuums by itself.
# Prints a table in Markdown; doc/benchmarks.md says how to read it.
: "${BENCH_ROUNDS:=3}" "${BENCH_MS:=20000}"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"
bench_server 'fsync = on' 'full_page_writes = on' 'synchronous_commit = on' 'autovacuum = on' 'jit = off'

rows=${BENCH_ROWS:-1000000}
clients=${BENCH_CLIENTS:-4}
rate=${BENCH_RATE:-400}
seconds=$((run_ms / 1000))

# The same table three times: under ringfence, and as a DBA has it without.
load() {
	run_psql -o /dev/null -v rows="$rows" <<-'SQL'
		SET client_min_messages = warning;
		DROP SCHEMA IF EXISTS bench CASCADE;
		CREATE SCHEMA bench;
		GRANT CREATE ON SCHEMA bench TO ringfence_owner;
		INSERT INTO ringfence_data.orgs (id, name)
		SELECT format('0bec0000-0000-7000-8000-%s', lpad(g::text, 12, '0'))::uuid, 'Bench ' || g FROM generate_series(1, 20) AS g
		ON CONFLICT DO NOTHING;
		CREATE TABLE bench.org AS
		SELECT right(o.id::text, 12)::integer AS n, o.id FROM ringfence_data.orgs AS o WHERE o.name LIKE 'Bench %';

		CREATE TABLE bench.protected (
			org_id uuid NOT NULL, id uuid NOT NULL DEFAULT ringfence.uuid7(), name text NOT NULL, note text NOT NULL,
			created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (org_id, id)
		);
		SELECT ringfence.protect('bench.protected', '{"owner": "all"}');
		CREATE INDEX ON bench.protected (org_id, created_at);
		CREATE TABLE bench.plain (LIKE bench.protected INCLUDING ALL);
		CREATE INDEX ON bench.plain (created_at);
		SELECT ringfence.retain('bench.protected', 'created_at', '90 days');
		SET session_replication_role = replica;
		INSERT INTO bench.protected (org_id, name, note, created_at)
		SELECT o.id, 'name ' || g, repeat('n', 60), now() - g * interval '1 day' * 80 / :rows
		FROM generate_series(1, :rows) AS g INNER JOIN bench.org AS o ON o.n = 1 + g % 20;
		INSERT INTO bench.plain SELECT * FROM bench.protected;
	SQL
}

# due TABLE: rows come due again.
due() {
	run_psql -o /dev/null -v rows="$rows" -v table="$1" <<-'SQL'
		SET session_replication_role = replica;
		INSERT INTO bench.:table (org_id, name, note, created_at)
		SELECT o.id, 'name ' || g, repeat('n', 60), now() - interval '100 days' - g * interval '1 day' * 80 / :rows
		FROM generate_series(1, :rows) AS g INNER JOIN bench.org AS o ON o.n = 1 + g % 20;
		RESET session_replication_role;
		VACUUM ANALYZE bench.:table;
		VACUUM ringfence_data.audit_log;
		CHECKPOINT;
	SQL
}

traffic_script() {
	cat <<-SQL
		\set n random(1, 20)
		BEGIN;
		INSERT INTO bench.$1 (org_id, name, note)
		SELECT o.id, 'new', 'traffic' FROM bench.org AS o WHERE o.n = :n;
		SELECT count(*) FROM (
			SELECT FROM bench.$1 AS t
			WHERE t.org_id = (SELECT o.id FROM bench.org AS o WHERE o.n = :n)
			ORDER BY t.created_at DESC LIMIT 20) AS newest;
		UPDATE bench.$1 AS t SET note = note || '.'
		WHERE (t.org_id, t.id) = (
			SELECT n.org_id, n.id FROM bench.$1 AS n
			WHERE n.org_id = (SELECT o.id FROM bench.org AS o WHERE o.n = :n)
			ORDER BY n.created_at DESC LIMIT 1);
		COMMIT;
	SQL
}

# under_traffic TABLE SECONDS COMMAND...: p95 and slowest latency of the traffic, in
# milliseconds, its transactions by second, and how many seconds the command took,
# while which they are counted.
under_traffic() {
	local table=$1 duration=$2 from to
	shift 2
	rm -f "$scripts"/log.*
	traffic_script "$table" >"$scripts/traffic.sql"
	pgbench -n -M prepared -c "$clients" -j 2 -R "$rate" -T $((duration + 4)) -l --log-prefix="$scripts/log" \
		-f "$scripts/traffic.sql" >"$scripts/traffic.out" 2>&1 &
	sleep 2
	from=$(date +%s.%N)
	"$@" >"$scripts/command.out" 2>&1 || {
		cat "$scripts/command.out" >&2
		return 1
	}
	to=$(date +%s.%N)
	wait
	grep -q 'number of failed transactions: 0' "$scripts/traffic.out" || {
		cat "$scripts/traffic.out" >&2
		return 1
	}
	cat "$scripts"/log.* | awk -v from="$from" -v to="$to" '$5 + $6 / 1e6 >= from && $5 + $6 / 1e6 <= to { print $3 }' | sort -n |
		awk -v took="$(awk -v a="$from" -v b="$to" 'BEGIN { print b - a }')" '{ v[NR] = $1 } END {
			printf "%.3f %.3f %.1f %.3f\n", v[int(NR * 0.95) + 1] / 1000, v[NR] / 1000, NR / took, took }'
}

retention() {
	run_psql -c "CALL ringfence.run_retention(max_seconds => 600, rel => '$1')"
}

one_delete() {
	run_psql -c "DELETE FROM bench.plain WHERE created_at < now() - interval '90 days'"
}

naive_loop() {
	run_psql <<-'SQL'
		DO $$
		DECLARE
			gone bigint;
		BEGIN
			LOOP
				DELETE FROM bench.plain WHERE ctid = ANY (ARRAY(
					SELECT ctid FROM bench.plain WHERE created_at < now() - interval '90 days' LIMIT 10000));
				GET DIAGNOSTICS gone = ROW_COUNT;
				COMMIT;
				EXIT WHEN gone = 0;
			END LOOP;
		END
		$$;
	SQL
}

declare -A p95 slowest tps took
# round NAME TABLE COMMAND...
round() {
	local name=$1 table=$2 result
	shift 2
	[ "$name" = idle_protected ] || [ "$name" = idle_plain ] || due "$table" || return
	result=$(under_traffic "$table" "$seconds" "$@") || return
	read -r a b c d <<<"$result"
	p95[$name]+="$a "
	slowest[$name]+="$b "
	tps[$name]+="$c "
	took[$name]+="$d "
}

load || exit 1
for ((i = 0; i < rounds; i++)); do
	round idle_protected protected sleep $((seconds / 2)) &&
		round purge protected retention bench.protected &&
		round idle_plain plain sleep $((seconds / 2)) &&
		round delete plain one_delete &&
		round naive plain naive_loop || exit 1
done

# A partition of as many rows, dropped under traffic on its table.
partitions() {
	run_psql -o /dev/null -v rows="$rows" <<-'SQL'
		SET client_min_messages = warning;
		DROP TABLE IF EXISTS bench.parts CASCADE;
		CREATE TABLE bench.parts (
			org_id uuid NOT NULL, id uuid NOT NULL DEFAULT ringfence.uuid7(), name text NOT NULL, note text NOT NULL,
			created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (org_id, id, created_at)
		) PARTITION BY RANGE (created_at);
		SELECT ringfence.protect('bench.parts', '{"owner": "all"}');
		CREATE INDEX ON bench.parts (org_id, created_at);
		SELECT ringfence.partition_by('bench.parts', 'month');
		SELECT ringfence.make_partitions() FROM generate_series(1, 10);
		SELECT format('CREATE TABLE bench.parts_old PARTITION OF bench.parts FOR VALUES FROM (%L) TO (%L)',
			date_trunc('month', now()) - interval '6 months', date_trunc('month', now()) - interval '5 months') \gexec
		ALTER TABLE bench.parts_old OWNER TO ringfence_owner;
		SELECT ringfence.lock_children('bench.parts');
		SET session_replication_role = replica;
		INSERT INTO bench.parts (org_id, name, note, created_at)
		SELECT o.id, 'name ' || g, repeat('n', 60), date_trunc('month', now()) - interval '6 months' + g * interval '20 days' / :rows
		FROM generate_series(1, :rows) AS g INNER JOIN bench.org AS o ON o.n = 1 + g % 20;
		RESET session_replication_role;
		SELECT ringfence.retain('bench.parts', 'created_at', '3 months', 'drop_partition');
		VACUUM ANALYZE bench.parts;
		CHECKPOINT;
	SQL
}
for ((i = 0; i < rounds; i++)); do
	partitions && result=$(under_traffic parts 8 retention bench.parts) || exit 1
	read -r a b c d <<<"$result"
	p95[drop]+="$a "
	slowest[drop]+="$b "
	tps[drop]+="$c "
	took[drop]+="$d "
	left=$(run_psql -c "SELECT count(*) FROM bench.parts WHERE created_at < now() - interval '4 months'")
	[ "$left" = 0 ] || die "the partition is still there"
done

# What the file system takes by itself: a table of as many rows, and of no interest to
# the traffic, is dropped.
drop_plain() {
	run_psql -c 'DROP TABLE bench.copy'
}
for ((i = 0; i < rounds; i++)); do
	due plain && run_psql -o /dev/null <<-'SQL' || exit 1
		CREATE TABLE bench.copy (LIKE bench.plain INCLUDING INDEXES);
		INSERT INTO bench.copy SELECT * FROM bench.plain WHERE created_at < now() - interval '90 days';
		DELETE FROM bench.plain WHERE created_at < now() - interval '90 days';
		VACUUM ANALYZE bench.plain;
		CHECKPOINT;
	SQL
	result=$(under_traffic plain 8 drop_plain) || exit 1
	read -r a b c d <<<"$result"
	p95[drop_plain]+="$a "
	slowest[drop_plain]+="$b "
	tps[drop_plain]+="$c "
	took[drop_plain]+="$d "
done

# row NAME TITLE IDLE: a line of the table; medians, and rows a second.
row() {
	local name=$1 title=$2 idle=$3 rows_per_second=
	read -ra all <<<"${took[$name]}"
	[ "$name" = "$idle" ] || [[ "$name" == drop* ]] || rows_per_second=$(awk -v r="$rows" -v t="$(median "${all[@]}")" 'BEGIN { printf "%d", r / t }')
	read -ra p <<<"${p95[$name]}"
	read -ra s <<<"${slowest[$name]}"
	read -ra t <<<"${tps[$name]}"
	printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$title" "$(show "$(median "${all[@]}")")" "$rows_per_second" \
		"$(show "$(median "${t[@]}")")" "$(show "$(median "${p[@]}")")" \
		"$(show "$(ratios "${p95[$idle]}" "${p95[$name]}")")" "$(show "$(median "${s[@]}")")"
}

bench_conditions
printf '%s rows due, %s clients, %s transactions/s asked for, retention_batch_ms %s, retention_rest %s\n\n' "$rows" "$clients" "$rate" \
	"$(run_psql -c "LOAD 'ringfence'" -c 'SHOW ringfence.retention_batch_ms')" "$(run_psql -c "LOAD 'ringfence'" -c 'SHOW ringfence.retention_rest')"
printf '| | seconds | rows/s | transactions/s | p95, ms | p95 by idle | slowest, ms |\n| --- | --- | --- | --- | --- | --- | --- |\n'
row idle_protected 'idle, protected table' idle_protected
row purge '`run_retention()`' idle_protected
row idle_plain 'idle, plain table' idle_plain
row delete 'one DELETE' idle_plain
row naive 'batches of 10,000 in a loop' idle_plain
row drop 'a partition dropped' idle_protected
row drop_plain 'DROP TABLE of a plain one' idle_plain
