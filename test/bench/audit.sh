#!/bin/bash
# What the audit log costs: a protected table of 12 columns is changed
#   bare           without audit, after ringfence.unaudit()
#   ringfence      as ringfence.protect() leaves it
#   supa_audit     with that extension instead, if the server has it
#   audit-trigger  with 2ndQuadrant's instead, if AUDIT_TRIGGER_SQL names its file
# in turns: a row at a time, by 1 and by 4 clients, which wait for the disk or not,
# and 100,000 rows at once. Then the records are measured, sealed and verified.
# The other tools get a database of their own each, removed at the end, and take
# part in every fourth round only. Prints tables in Markdown; doc/benchmarks.md
# says how to read them.
: "${BENCH_ROUNDS:=6}" "${BENCH_MS:=500}"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"
bench_server 'fsync = on' 'full_page_writes = on' 'synchronous_commit = on' 'max_wal_size = 16GB' \
	'checkpoint_timeout = 1d' 'jit = off'

user=${PGUSER:-postgres}
login=ringfence_bench
declare -A database=([bare]=$PGDATABASE [ringfence]=$PGDATABASE
	[supa_audit]=ringfence_bench_supa_audit [audit-trigger]=ringfence_bench_trigger)
declare -A table=([bare]=bare [ringfence]=audited [supa_audit]=audited [audit-trigger]=audited)
all=(bare ringfence supa_audit audit-trigger)
variants=(bare ringfence)
if [ -n "$(run_psql -c "SELECT FROM pg_available_extensions WHERE name = 'supa_audit'" -c '\echo :ROW_COUNT' | grep -x 1)" ]; then
	variants+=(supa_audit)
fi
[ -z "${AUDIT_TRIGGER_SQL:-}" ] || variants+=(audit-trigger)

# psql_in VARIANT OPTION...
psql_in() {
	PGDATABASE=${database[$1]} run_psql "${@:2}"
}

# Organizations with an owner each, and the rows that are inserted at once: those
# of one organization, and those of 100 as they come in.
load_fixture() {
	run_psql -o /dev/null -v login="$login" <<-'SQL'
		SET client_min_messages = warning;
		CREATE EXTENSION IF NOT EXISTS ringfence;
		SELECT ringfence.install('core') WHERE to_regclass('ringfence_data.apps') IS NULL;
		DROP SCHEMA IF EXISTS bench_audit CASCADE;
		CREATE SCHEMA bench_audit;
		GRANT USAGE ON SCHEMA bench_audit TO ringfence_member, :login;
		CREATE FUNCTION bench_audit.key(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
		RETURN ('bec40000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
		INSERT INTO ringfence_data.orgs (id, name)
		SELECT bench_audit.key(k), 'Bench ' || k FROM generate_series(1, 100) AS k ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.users (id, email)
		SELECT bench_audit.key(k), 'bench' || k || '@example.com' FROM generate_series(1, 100) AS k ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.memberships (org_id, user_id, roles)
		SELECT bench_audit.key(k), bench_audit.key(k), '{owner}' FROM generate_series(1, 100) AS k ON CONFLICT DO NOTHING;

		CREATE TABLE bench_audit.many (
			org_id uuid NOT NULL,
			id uuid NOT NULL DEFAULT ringfence.uuid7(),
			name text NOT NULL,
			amount bigint NOT NULL,
			quantity integer NOT NULL,
			price numeric(12,2) NOT NULL,
			active boolean NOT NULL,
			starts_at timestamptz NOT NULL,
			due date NOT NULL,
			status text NOT NULL,
			attributes jsonb NOT NULL,
			note text
		);
		INSERT INTO bench_audit.many
		SELECT bench_audit.key(i % 100 + 1), bench_audit.key(i), 'Customer ' || i, i * 1000, i % 50, i % 10000 / 100.0, i % 2 = 0,
			timestamptz '2026-01-01' + i * interval '1 min', date '2026-01-01' + i % 365, 'open',
			jsonb_build_object('color', 'red', 'size', i % 10, 'tags', jsonb_build_array('a', 'b')),
			CASE WHEN i % 2 = 0 THEN 'a note on this row' END
		FROM generate_series(1, 100000) AS i;
		CREATE TABLE bench_audit.one (LIKE bench_audit.many INCLUDING DEFAULTS);
		INSERT INTO bench_audit.one
		SELECT bench_audit.key(50), id, name, amount, quantity, price, active, starts_at, due, status, attributes, note
		FROM bench_audit.many;
		VACUUM (FREEZE, ANALYZE) bench_audit.many, bench_audit.one;
	SQL
}

# The tables of a variant: rows for single changes, none for many at once, and
# 20,000 of 60 columns, 4 kB together.
make_tables() {
	run_psql -o /dev/null -v variant="$1" <<-'SQL'
		SET client_min_messages = warning;
		SET session_replication_role = replica;
		SELECT set_config('bench.table', :'variant', false);
		DO $$
		DECLARE
			name text := current_setting('bench.table');
			suffix text;
		BEGIN
			FOREACH suffix IN ARRAY ARRAY['', '_bulk'] LOOP
				EXECUTE format('CREATE TABLE bench_audit.%I (LIKE bench_audit.many INCLUDING DEFAULTS, PRIMARY KEY (org_id, id),
					FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id))', name || suffix);
			END LOOP;
			EXECUTE format('INSERT INTO bench_audit.%I SELECT * FROM bench_audit.many', name);
			EXECUTE format('CREATE TABLE bench_audit.%I (org_id uuid NOT NULL, id uuid NOT NULL, %s, PRIMARY KEY (org_id, id),
				FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id)) WITH (toast_tuple_target = 8160)', name || '_wide',
				(SELECT string_agg(format('c%s text NOT NULL', c), ', ') FROM generate_series(1, 58) AS c));
			EXECUTE format('INSERT INTO bench_audit.%I SELECT bench_audit.key(i %% 100 + 1), bench_audit.key(i), %s
				FROM generate_series(1, 20000) AS i', name || '_wide',
				(SELECT string_agg(format('md5((i * 100 + %s)::text) || md5(i::text)', c), ', ') FROM generate_series(1, 58) AS c));
			FOREACH suffix IN ARRAY ARRAY['', '_bulk', '_wide'] LOOP
				PERFORM ringfence.protect(format('bench_audit.%I', name || suffix)::regclass, '{"owner,admin": "all"}');
			END LOOP;
		END
		$$;
	SQL
	psql -X -q -c "VACUUM (FREEZE, ANALYZE) bench_audit.$1, bench_audit.$1_wide"
}

# for_tables VARIANT FUNCTION: calls the SQL function for each of its tables.
for_tables() {
	psql_in "$1" -o /dev/null -c 'SET client_min_messages = warning' -c "SELECT $2 FROM
		unnest('{${table[$1]},${table[$1]}_bulk,${table[$1]}_wide}'::text[]) AS name,
		LATERAL (SELECT format('bench_audit.%I', name)::regclass AS rel) AS r"
}

load() {
	local variant
	run_psql -o /dev/null <<-SQL
		SET client_min_messages = warning;
		DO \$\$ BEGIN CREATE ROLE $login LOGIN NOINHERIT; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$;
		GRANT ringfence_authenticator TO $login;
		ALTER ROLE $login SET session_preload_libraries = 'ringfence';
	SQL
	for variant in "${variants[@]}"; do
		if [ "${database[$variant]}" != "$PGDATABASE" ]; then
			run_psql -c 'SET client_min_messages = warning' -c "DROP DATABASE IF EXISTS ${database[$variant]}" \
				-c "CREATE DATABASE ${database[$variant]} TEMPLATE template0" || return
		fi
		if [ "$variant" != ringfence ]; then
			PGDATABASE=${database[$variant]} load_fixture || return
		fi
		PGDATABASE=${database[$variant]} make_tables "${table[$variant]}" || return
		case $variant in
		ringfence) ;;
		bare) for_tables bare 'ringfence.unaudit(rel)' ;;
		supa_audit)
			for_tables "$variant" 'ringfence.unaudit(rel)' &&
				psql_in "$variant" -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION supa_audit CASCADE' &&
				for_tables "$variant" 'audit.enable_tracking(rel)'
			;;
		audit-trigger)
			for_tables "$variant" 'ringfence.unaudit(rel)' &&
				psql_in "$variant" -o /dev/null -c 'SET client_min_messages = warning' -f "$AUDIT_TRIGGER_SQL" &&
				for_tables "$variant" 'audit.audit_table(rel, true, false)'
			;;
		esac || return
	done
}

# What pgbench does again and again: in a request, as PostgREST sends it, or alone.
write_script() {
	local name=bench_audit.${table[$1]} what=$2
	local new="'Customer', 1000, 10, 12.50, true, '2026-01-01', '2026-02-01', 'open', '{\"color\": \"red\", \"size\": 3, \"tags\": [\"a\", \"b\"]}', 'a note on this row'"
	local columns='name, amount, quantity, price, active, starts_at, due, status, attributes, note'
	case $what in
	insert)
		printf '\\set k random(1, 100)\nINSERT INTO %s (org_id, %s) VALUES (bench_audit.key(:k), %s);\n' "$name" "$columns" "$new"
		;;
	update)
		printf '\\set i random(1, 100000)\n\\set k :i %% 100 + 1\n'
		printf 'UPDATE %s SET quantity = quantity + 1 WHERE org_id = bench_audit.key(:k) AND id = bench_audit.key(:i);\n' "$name"
		;;
	request)
		cat <<-SQL
			\\set k random(1, 100)
			BEGIN;
			SELECT set_config('search_path', 'bench_audit, public', true), set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', json_build_object('role', 'ringfence_member', 'sub', bench_audit.key(:k), 'org_id', bench_audit.key(:k), 'exp', 4102444800)::text, true), set_config('request.method', 'POST', true), set_config('request.path', '/rows', true), set_config('request.headers', '{"accept": "application/json", "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "x-forwarded-for": "192.0.2.7", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}', true), set_config('request.cookies', '{}', true);
			SELECT ringfence.pre_request();
			INSERT INTO $name ($columns) VALUES ($new);
			COMMIT;
		SQL
		;;
	esac
}

# in_turns ROUND: the variants of a round, which begins with another one each time.
in_turns() {
	local i list=("${variants[@]}")
	[ "$1" = 0 ] || [ $(($1 % 4)) = 1 ] || list=(bare ringfence)
	for i in "${!list[@]}"; do
		echo "${list[($1 + i) % ${#list[@]}]}"
	done
}

# report TITLE WHAT BARE TARGET: a row of the table, by the ratios in lists.
report() {
	local variant cells=''
	for variant in "${all[@]:1}"; do
		if [ -z "${lists[$2 $variant]:-}" ]; then
			cells+=' - |'
		else
			# shellcheck disable=SC2086
			cells+=" $(show "$(median ${lists[$2 $variant]})") |"
		fi
	done
	printf '| %s | %s |%s %s |\n' "$1" "$(show "$3")" "$cells" "$4"
}

# single TITLE USER WHAT CLIENTS WAIT TARGET
single() {
	local round variant options='-c jit=off'
	local -A now
	[ "$2" = "$login" ] || options+=' -c session_preload_libraries=ringfence'
	clients=$4
	rm -f "$scripts"/*
	declare -gA lists=()
	for variant in "${variants[@]}"; do
		write_script "$variant" "$3" >"$scripts/$variant.sql"
	done
	run_psql -c CHECKPOINT
	for ((round = 0; round <= rounds; round++)); do
		now=()
		for variant in $(in_turns "$round"); do
			now[$variant]=$(PGDATABASE=${database[$variant]} PGOPTIONS="$options -c synchronous_commit=$5" \
				run_pgbench "$2" "$scripts/$variant.sql") || exit 1
		done
		# The first round warms up.
		[ "$round" -gt 0 ] || continue
		lists[single]+=" ${now[bare]}"
		for variant in "${!now[@]}"; do
			lists["single $variant"]+=" $(divide "${now[bare]}" "${now[$variant]}")"
		done
	done
	# shellcheck disable=SC2086
	report "$1" single "$(divide 1000 "$(median ${lists[single]})")" "$6"
}

# timed VARIANT STATEMENT: milliseconds, after a checkpoint.
timed() {
	psql_in "$1" -c CHECKPOINT
	psql_in "$1" -c '\timing on' -c "$2" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | grep .
}

# bulk BEFORE PHASE...: rounds of the phases one after the other, each by all
# variants in turns, into lists: a phase's times without audit, and by "PHASE VARIANT"
# the ratios to them. BEFORE is what each round begins with.
bulk() {
	local start=$1 phase round variant
	local -A now
	shift
	declare -gA lists=()
	for ((round = 1; round <= rounds; round++)); do
		for variant in $(in_turns "$round"); do
			psql_in "$variant" -c "${start/TABLE/bench_audit.${table[$variant]}}" || exit 1
		done
		for phase in "$@"; do
			now=()
			for variant in $(in_turns "$round"); do
				now[$variant]=$(timed "$variant" "$(statement "$phase" "bench_audit.${table[$variant]}" "$round")") || exit 1
			done
			lists[$phase]+=" ${now[bare]}"
			for variant in "${!now[@]}"; do
				lists["$phase $variant"]+=" $(divide "${now[$variant]}" "${now[bare]}")"
			done
		done
	done
}

# report_phase TITLE PHASE TARGET
report_phase() {
	# shellcheck disable=SC2086
	report "$1" "$2" "$(median ${lists[$2]})" "$3"
}

# statement PHASE TABLE ROUND
statement() {
	case $1 in
	insert-*)
		echo "INSERT INTO $2_bulk (org_id, name, amount, quantity, price, active, starts_at, due, status, attributes, note)
			SELECT org_id, name, amount, quantity, price, active, starts_at, due, status, attributes, note FROM bench_audit.${1#*-}"
		;;
	update-*) echo "UPDATE $2_bulk SET quantity = quantity + 1" ;;
	delete-*) echo "DELETE FROM $2_bulk" ;;
	wide) echo "UPDATE $2_wide SET c30 = 'round $3'" ;;
	esac
}

# size VARIANT: records, bytes of their rows, bytes of their indexes.
size() {
	local log
	case $1 in
	ringfence) log="SELECT relid FROM pg_partition_tree('ringfence_data.audit_log') WHERE isleaf" ;;
	supa_audit) log="SELECT 'audit.record_version'::regclass AS relid" ;;
	audit-trigger) log="SELECT 'audit.logged_actions'::regclass AS relid" ;;
	esac
	psql_in "$1" -F ' ' -c "SELECT sum((xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM ' || relid::regclass, false, true, '')))[1]::text::bigint),
		sum(pg_table_size(relid)), sum(pg_indexes_size(relid)) FROM ($log) AS log"
}

# What a record takes on average, since size was taken into before.
report_sizes() {
	local variant now
	printf '\n| bytes of a record | row | indexes | together |\n| --- | ---: | ---: | ---: |\n'
	for variant in "${variants[@]:1}"; do
		now=$(size "$variant")
		awk -v name="$variant" -v before="${before[$variant]}" -v now="$now" 'BEGIN {
			split(before, b); split(now, n); records = n[1] - b[1]
			row = (n[2] - b[2]) / records; indexes = (n[3] - b[3]) / records
			printf "| %s | %.0f | %.0f | %.0f |\n", name, row, indexes, row + indexes }'
	done
}

# report_speed TITLE RECORDS STATEMENT
report_speed() {
	local ms
	ms=$(timed ringfence "$3") || exit 1
	awk -v title="$1" -v n="$2" -v ms="$ms" 'BEGIN { printf "| %s | %d | %.1f | %.0f | >= 500000 |\n", title, n, ms / 1000, n / ms * 1000 }'
}

seal() {
	local records
	if [ -z "$(run_psql -c "SELECT to_regprocedure('ringfence.audit_seal()')")" ]; then
		printf '\nRecords are not sealed: there is no ringfence.audit_seal().\n'
		return
	fi
	if [ -z "$(run_psql -c "SELECT current_setting('ringfence.audit_key_file', true)")" ]; then
		printf '\nRecords are not sealed: ringfence.audit_key_file is not set.\n'
		return
	fi
	records=$(size ringfence)
	records=${records%% *}
	printf '\n| | records | s | records/s | target |\n| --- | ---: | ---: | ---: | ---: |\n'
	report_speed 'audit_seal()' "$records" 'SELECT ringfence.audit_seal()'
	report_speed 'audit_verify()' "$records" "DO \$\$ BEGIN ASSERT NOT EXISTS (SELECT FROM ringfence.audit_verify()), 'a finding'; END \$\$"
}

# The records that it caused stay: nobody can delete them.
clean_up() {
	local variant
	for variant in "${variants[@]}"; do
		[ "${database[$variant]}" = "$PGDATABASE" ] || run_psql -c "DROP DATABASE ${database[$variant]}"
	done
	run_psql -c 'SET client_min_messages = warning' -c 'DROP SCHEMA bench_audit CASCADE' \
		-c 'SET session_replication_role = replica' \
		-c "DELETE FROM ringfence_data.memberships WHERE org_id::text LIKE 'bec40000-%'" \
		-c "DELETE FROM ringfence_data.users WHERE id::text LIKE 'bec40000-%'" \
		-c "DELETE FROM ringfence_data.orgs WHERE id::text LIKE 'bec40000-%'" -c "DROP ROLE $login"
}

load || die "could not load the rows"
bench_conditions
if [ "$(run_psql -c 'SHOW fsync')" = off ]; then
	echo 'fsync is off: whether commits wait makes no difference.'
fi
cat <<-'END'

	| transactions of one row, throughput | bare, 1/s | ringfence/bare | supa_audit/bare | audit-trigger/bare | target |
	| --- | ---: | ---: | ---: | ---: | ---: |
END
for wait in on off; do
	target='>= 0.92'
	[ $wait = on ] || target='>= 0.85'
	single "INSERT, 4 clients, synchronous_commit $wait" "$user" insert 4 $wait "$target"
	single "UPDATE, 4 clients, synchronous_commit $wait" "$user" update 4 $wait "$target"
	single "INSERT, 1 client, synchronous_commit $wait" "$user" insert 1 $wait ''
	single "UPDATE, 1 client, synchronous_commit $wait" "$user" update 1 $wait ''
	single "request with an INSERT, 4 clients, synchronous_commit $wait" "$login" request 4 $wait ''
done

declare -A before=()
for variant in "${variants[@]:1}"; do
	before[$variant]=$(size "$variant")
done
cat <<-'END'

	| many rows, time | bare, ms | ringfence/bare | supa_audit/bare | audit-trigger/bare | target |
	| --- | ---: | ---: | ---: | ---: | ---: |
END
bulk 'TRUNCATE TABLE_bulk' insert-one update-one delete-one
report_phase 'INSERT of 100,000 rows of an organization' insert-one '<= 2'
report_phase 'UPDATE of one column of them' update-one '<= 2'
report_phase 'DELETE of them' delete-one '<= 4'
bulk 'TRUNCATE TABLE_bulk' insert-many update-many delete-many
report_phase 'INSERT of 100,000 rows of 100 organizations' insert-many ''
report_phase 'UPDATE of one column of them' update-many ''
report_phase 'DELETE of them' delete-many ''
# What the tables above are about, before what follows widens the average.
sizes=$(report_sizes)
bulk 'VACUUM TABLE_wide' wide
report_phase 'UPDATE of one of 60 columns, 20,000 rows of 4 kB' wide ''
printf '%s\n' "$sizes"
seal
clean_up
