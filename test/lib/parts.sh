#!/bin/bash
# The parts of test/run, each a function part_NAME; runs in the copy of the
# checkout, unprivileged, with RINGFENCE_WORK set. A part's tests are counted one
# by one in the file of results; one that could not start counts as failed.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
src=$PWD
work=$RINGFENCE_WORK
log=$work/log
run_as=
. test/lib/common.sh

data=$work/data
socket=$(socket_dir "$work")
export PGHOST=$socket PGPORT=54329 PGUSER=postgres
export RINGFENCE_TEMPLATE=ringfence_template
running=

# pgTAP files go to as many clusters as there are processors, this one among them:
# roles are a cluster's, and two files that change them in transactions could
# deadlock.
shards=1
if [[ " $* " =~ \ (pgtap|memory|coverage)\  ]]; then
	shards=$(nproc)
	shards=$((shards > 4 ? 4 : shards))
fi

# each_shard COMMAND...: runs it for one after the other, with data and PGPORT set.
each_shard() {
	local shard port=$PGPORT data
	for ((shard = 0; shard < shards; shard++)); do
		data=$work/data${shard#0}
		PGPORT=$((port + shard)) "$@" || return
	done
}

stop_shard() {
	stop_cluster "$data" "${1:-fast}"
}

finish() {
	[ -z "$running" ] || each_shard stop_shard immediate
	[[ $socket == "$work"/* ]] || rm -rf "$socket"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

results=$work/results
: >"$results"

# Counts one test: pass or fail, and its name.
count() {
	printf '%s %s\n' "$1" "$2" >>"$results"
	[ "$1" = pass ] || printf 'FAILED: %s\n' "$2"
}

# step NAME COMMAND...: a step whose output only matters where it fails.
step() {
	local name=$1 began=$SECONDS
	shift
	if "$@" >"$log/$name.log" 2>&1; then
		count pass "$name"
		printf '== %s: done in %s s\n' "$name" $((SECONDS - began))
	else
		tail -n 40 "$log/$name.log"
		count fail "$name"
		return 1
	fi
}

# count_prove PART FILE...: counts the files of a prove run by its output. One
# that the report names has failed, and one that skipped its tests has not run.
# (What a test prints may stand between its name and "ok".)
count_prove() {
	local name=$1 file pattern
	shift
	for file in "$@"; do
		pattern=^${file//./\\.}
		if grep -q '^Result: ' "$log/$name.log" && grep -qE "$pattern \.+" "$log/$name.log" &&
			! grep -qE "$pattern +\(Wstat|$pattern \.+ skipped" "$log/$name.log"; then
			count pass "$name: $file"
		else
			count fail "$name: $file"
		fi
	done
}

build() {
	make clean >/dev/null 2>&1
	make -j "$(nproc)" all
}

# A second source tree and installation, compiled with other flags.
instrumented() {
	local name=$1 flags=$2
	copy_tree "$src" "$work/$name-src" &&
		(PG_CONFIG=$original_pg_config copy_installation "$work/$name-installation") &&
		make -C "$work/$name-src" clean >/dev/null &&
		make -C "$work/$name-src" -j "$(nproc)" with_llvm=no COPT="$flags" SHLIB_LINK="-lcrypto $flags" \
			PG_CONFIG="$work/$name-installation$original_bindir/pg_config" all install
}

# restart_with INSTALLATION LOG
restart_with() {
	each_shard stop_shard && running= &&
		PATH="$work/$1$original_bindir:$PATH" each_shard start_shard "$2" && running=1
}

# The log of the first is NAME.log, that of another NAME1.log.
start_shard() {
	start_cluster "$data" "$log/$1${data#"$work/data"}.log"
}

make_shard() {
	make_cluster "$data" "$socket" "$PGPORT" 'fsync = off' 'full_page_writes = off' 'synchronous_commit = off' \
		'shared_buffers = 64MB' 'max_wal_size = 1GB' 'autovacuum_naptime = 1h' &&
		start_shard server
}

server() {
	running=1
	each_shard make_shard
}

# The login role of requests. The isolation tests make and drop their own.
web_role() {
	psql -X -q -v ON_ERROR_STOP=1 -d "$RINGFENCE_TEMPLATE" <<-'SQL'
		DROP ROLE IF EXISTS regress_web;
		CREATE ROLE regress_web LOGIN NOINHERIT;
		GRANT ringfence_authenticator TO regress_web;
	SQL
}

# The database that tests are cloned from.
template() {
	each_shard make_template
}

make_template() {
	createdb "$RINGFENCE_TEMPLATE" &&
		PGDATABASE=$RINGFENCE_TEMPLATE install_apps "$src" 1 &&
		web_role &&
		psql -X -q -v ON_ERROR_STOP=1 -d "$RINGFENCE_TEMPLATE" <<-'SQL'
			CREATE EXTENSION pgtap;
			CREATE EXTENSION dblink;
			CREATE ROLE regress_operator LOGIN;
			GRANT ringfence_operator TO regress_operator;
			VACUUM ANALYZE;
		SQL
}

clone() {
	createdb -T "$RINGFENCE_TEMPLATE" "$1"
}

# One at a time in each cluster; what a file says is shown when it is done.
run_pgtap() {
	local name=$1
	shift
	{
		printf '%s\n' "$@" | xargs -P "$shards" --process-slot-var=SHARD -n 1 bash -c '
			said=$(PGPORT=$((PGPORT + SHARD)) pg_prove --psql-bin "$0" "$1" 2>&1) &&
				said=$(grep -vE "^(All tests successful|Files=|Result: )" <<<"$said")
			printf "%s\n" "$said"' "$src/test/lib/psql-clone"
		echo "Result: $# files"
	} 2>&1 | tee "$log/$name.log"
	count_prove "$name" "$@"
}

part_pgtap() {
	run_pgtap pgtap test/pgtap/*.sql
}

# count_regress PART TEST...: pg_regress and the isolation tester both say
# "test NAME ... ok" up to 15 and "ok 1 - NAME" from 16 on.
count_regress() {
	local name=$1 test
	shift
	for test in "$@"; do
		if grep -qE "^(test )?$test +\.\.\. ok|^ok [0-9]+ +[-+] $test( |\$)" "$log/$name.log"; then
			count pass "$name: $test"
		else
			count fail "$name: $test"
		fi
	done
}

list() {
	local file
	for file in $1; do
		[ ! -e "$file" ] || basename "$file" "$2"
	done
}

part_regress() {
	local tests
	mapfile -t tests < <(list 'test/sql/*.sql' .sql)
	make installcheck ISOLATION= 2>&1 | tee "$log/regress.log"
	count_regress regress "${tests[@]}"
	show_diffs
}

part_isolation() {
	local tests
	mapfile -t tests < <(list 'test/specs/*.spec' .spec)
	make installcheck REGRESS= 2>&1 | tee "$log/isolation.log"
	web_role
	count_regress isolation "${tests[@]}"
	show_diffs
}

show_diffs() {
	[ ! -s test/out/regression.diffs ] || head -n 100 test/out/regression.diffs
	rm -f test/out/regression.diffs
}

part_tap() {
	local pgxs
	pgxs=$("$PG_CONFIG" --pgxs)
	pgxs=${pgxs%/makefiles/pgxs.mk}
	mkdir -p "$work/tap"
	PERL5LIB=$pgxs/test/perl:$src/test/lib PG_REGRESS=$pgxs/test/regress/pg_regress \
		TESTDIR=$work/tap TESTDATADIR=$work/tap/data TESTLOGDIR=$work/tap/log \
		prove -j 2 test/t/*.pl 2>&1 | tee "$log/tap.log"
	count_prove tap test/t/*.pl
}

# run_scripts PART FILE...: each a test that says by its exit status how it went.
run_scripts() {
	local name=$1 script
	shift
	for script in "$@"; do
		"$script" 2>&1 | tee "$log/$name-$(basename "$script" .sh).log"
		if [ "${PIPESTATUS[0]}" = 0 ]; then
			count pass "$script"
		else
			count fail "$script"
		fi
	done
}

part_http() {
	clone http
	PGDATABASE=http run_scripts http test/http/postgraphile.sh
	if [ -n "${POSTGREST:-}" ] || command -v postgrest >/dev/null; then
		PGDATABASE=http run_scripts http test/http/postgrest.sh
	else
		echo "left out: test/http/postgrest.sh, for there is no postgrest on PATH"
	fi
}

part_lint() {
	clone lint
	PGDATABASE=lint run_scripts lint test/lint/[a-z]*.sh
	has_part pgtap || run_pgtap conventions test/pgtap/conventions.sql
}

part_fuzz() {
	run_scripts fuzz test/fuzz/run.sh
}

# The pgTAP files again, with the library watched by the address and undefined
# behaviour sanitizers.
part_memory() {
	local flags='-fsanitize=address,undefined -fno-omit-frame-pointer -O1 -U_FORTIFY_SOURCE' libasan
	libasan=$(gcc -print-file-name=libasan.so)
	# The sanitizer looks for swift_demangle when memory is first allocated; if
	# that is inside gettext, reporting that there is none waits for itself.
	echo 'char *swift_demangle(void) { return 0; }' | gcc -shared -fPIC -x c -o "$work/demangle.so" - || return
	step memory-build instrumented memory "$flags" || return
	export LD_PRELOAD=$libasan:$work/demangle.so
	export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
	restart_with memory-installation memory-server
	local started=$?
	unset LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS
	if [ $started != 0 ]; then
		count fail "memory: the server does not start"
		return
	fi
	run_pgtap memory test/pgtap/*.sql
	restart_with installation server
	grep -h -E -A 30 'runtime error:|ERROR: [A-Za-z]*Sanitizer' "$log"/memory-server*.log >"$log/memory-reports.log"
	if [ -s "$log/memory-reports.log" ]; then
		head -n 100 "$log/memory-reports.log"
		count fail "memory: the sanitizers report"
	else
		count pass "memory: the sanitizers report nothing"
	fi
}

part_coverage() {
	step coverage-build instrumented coverage '--coverage -O0' || return
	restart_with coverage-installation server || return
	run_pgtap coverage test/pgtap/*.sql
	PG_CONFIG=$work/coverage-installation$original_bindir/pg_config make -C "$work/coverage-src" installcheck
	each_shard stop_shard && running=
	lcov --quiet --capture --no-external --directory "$work/coverage-src/src" \
		--base-directory "$work/coverage-src" --output-file "$work/coverage.info" 2>"$log/lcov.log" &&
		genhtml --quiet --output-directory "$work/coverage" "$work/coverage.info" &&
		lcov --summary "$work/coverage.info" 2>&1 | grep -E 'lines|functions' &&
		echo "report: coverage/index.html" && count pass coverage || count fail coverage
}

# On a server as test/bench/lib.sh would make it.
part_bench() {
	local script
	printf '%s\n' 'shared_buffers = 1GB' 'max_wal_size = 16GB' 'checkpoint_timeout = 1d' 'autovacuum = off' \
		'fsync = on' 'full_page_writes = on' >>"$data/postgresql.conf"
	restart_with installation server || return
	for script in test/bench/*.sh; do
		[ "$script" != test/bench/lib.sh ] || continue
		clone bench && PGDATABASE=bench run_scripts bench "$script"
		dropdb --force bench
	done
}

parts=$*
has_part() {
	[[ " $parts " == *" $1 "* ]]
}

# Everything but fuzzing needs a server with ringfence in it.
prepared=yes
if [ "$parts" != fuzz ]; then
	original_pg_config=$PG_CONFIG
	original_bindir=$("$PG_CONFIG" --bindir)
	step installation copy_installation "$work/installation" || prepared=
	use_installation "$work/installation"
	for preparation in build 'install:make install' server template; do
		[ -z "$prepared" ] || step ${preparation%%:*} ${preparation#*:} || prepared=
	done
fi

for part in $parts; do
	if [ -z "$prepared" ]; then
		count fail "$part: did not run"
		continue
	fi
	printf '\n== %s\n' "$part"
	began=$SECONDS
	before=$(wc -l <"$results")
	part_$part
	[ "$(wc -l <"$results")" -gt "$before" ] || count fail "$part: ran no test"
	printf '== %s: %s s\n' "$part" $((SECONDS - began))
done

passed=$(grep -c '^pass ' "$results")
failed=$(grep -c '^fail ' "$results")
if [ "$failed" -gt 0 ]; then
	printf '\nfailed:\n'
	sed -n 's/^fail /  /p' "$results"
fi
printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
