#!/bin/bash
# Sourced by the benchmarks: a server to measure on, rounds of pgbench, medians.
#
# With PGHOST set they measure there, as a superuser, in the database PGDATABASE.
# Otherwise bench_server builds the checkout in a copy, starts a cluster of its own
# and stops it at the end. BENCH_ROUNDS (15) and BENCH_MS (300) set how many runs of
# pgbench there are, and how long each is: many short ones in turns, since what else
# the machine does changes from second to second.

# By itself it measures nothing.
[[ ${BASH_SOURCE[0]} != "$0" ]] || exit 0

set -u -o pipefail
bench_script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/test/lib/common.sh"
rounds=${BENCH_ROUNDS:-15}
run_ms=${BENCH_MS:-300}
clients=1

run_psql() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# bench_server [SETTING...]: a server with the extension and core in PGDATABASE, and
# a folder for scripts of pgbench. Durability is off, so that what is measured is the
# work and not the disk, unless the settings say otherwise; nothing is vacuumed
# meanwhile. The settings are for a cluster of its own only.
bench_server() {
	if [ -z "${PGHOST:-}" ]; then
		if [ -z "${BENCH_WORK:-}" ]; then
			need_server
			prepare_work "$top/tmp_check"
			rm -rf "${work:?}/bench"
			mkdir -p "$work/bench"
			copy_tree "$top" "$work/bench/src"
			[ -z "$run_as" ] || chown -R "$run_as" "$work/bench"
			cd "$work/bench/src" || exit 1
			as_user env BENCH_WORK="$work/bench" BENCH_ROUNDS="$rounds" BENCH_MS="$run_ms" \
				bash "test/bench/$(basename "$bench_script")"
			exit $?
		fi
		copy_installation "$BENCH_WORK/installation"
		use_installation "$BENCH_WORK/installation"
		make -C "$top" clean all install >"$BENCH_WORK/build.log" 2>&1 || die "could not build: see $BENCH_WORK/build.log"
		export PGHOST PGPORT=54328 PGUSER=postgres PGDATABASE=postgres
		PGHOST=$(socket_dir "$BENCH_WORK")
		make_cluster "$BENCH_WORK/data" "$PGHOST" "$PGPORT" 'fsync = off' 'full_page_writes = off' \
			'synchronous_commit = off' 'shared_buffers = 1GB' 'max_wal_size = 4GB' 'autovacuum = off' "$@" || exit 1
		start_cluster "$BENCH_WORK/data" "$BENCH_WORK/server.log" || exit 1
	fi
	scripts=$(mktemp -d)
	trap bench_finish EXIT
	trap 'exit 130' INT TERM HUP
	run_psql -o /dev/null <<-'SQL' || exit 1
		SET client_min_messages = warning;
		CREATE EXTENSION IF NOT EXISTS ringfence;
		SELECT ringfence.install('core') WHERE to_regclass('ringfence_data.apps') IS NULL;
	SQL
}

bench_finish() {
	rm -rf "$scripts"
	[ -z "${BENCH_WORK:-}" ] || stop_cluster "$BENCH_WORK/data" immediate
}

# The server, in one line, without its name.
bench_conditions() {
	run_psql -c "SELECT format('PostgreSQL %s, %s rounds of %s ms, shared_buffers %s, fsync %s, synchronous_commit %s, jit off',
		split_part(current_setting('server_version'), ' ', 1), $rounds, $run_ms, current_setting('shared_buffers'),
		current_setting('fsync'), current_setting('synchronous_commit'))"
	printf '%s cores, %s\n' "$(nproc)" "$(date +%Y-%m-%d)"
}

# run_pgbench USER SCRIPT [OPTION...]: milliseconds of a transaction, on average, or
# from one to the next where there are several clients at once, as many as the
# variable clients says. The first run of a script lasts a second; each of the
# following as many transactions as, by the run before, take BENCH_MS.
run_pgbench() {
	local user=$1 script=$2 output ms amount=(-T 1)
	shift 2
	[ ! -f "$script.times" ] || amount=(-t "$(<"$script.times")")
	output=$(pgbench -n -M prepared -c "$clients" -U "$user" "${amount[@]}" -f "$script" "$@" 2>&1) || {
		printf '%s\n' "$output" >&2
		return 1
	}
	ms=$(awk '/^tps = / { printf "%.6f\n", 1000 / $3 }' <<<"$output")
	awk -v ms="$ms" -v run="$run_ms" -v n="$clients" 'BEGIN { print 1 + int(run / ms / n) }' >"$script.times"
	printf '%s\n' "$ms"
}

# median NUMBER...
median() {
	printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END {
		printf "%.6f\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# divide A B: A / B.
divide() {
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.6f", a / b }'
}

# ratios "A..." "B...": the median of the ratios b/a of each round.
ratios() {
	local -a a b r=()
	local i
	read -ra a <<<"$1"
	read -ra b <<<"$2"
	for i in "${!a[@]}"; do
		r+=("$(divide "${b[i]}" "${a[i]}")")
	done
	median "${r[@]}"
}

# show NUMBER: three significant digits.
show() {
	awk -v n="$1" 'BEGIN { printf((n >= 100 ? "%.0f" : n >= 10 ? "%.1f" : n >= 1 ? "%.2f" : "%.3f"), n) }'
}
