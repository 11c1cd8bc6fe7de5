# Sourced by the HTTP tests: packages from npm in a folder of the run; the
# replay helper, endpoints and a signing key in the database that the
# environment names.
cd "$(dirname "$0")" || exit 1
export HOME=${RINGFENCE_WORK:?}/home npm_config_update_notifier=false
if [ ! -d node_modules ]; then
	npm ci --no-audit --no-fund --loglevel=error || exit 1
fi
psql -X -q -v ON_ERROR_STOP=1 -o /dev/null <<-'SQL' || exit 1
	SELECT to_regnamespace('test') IS NULL AS unprepared \gset
	\if :unprepared
		\i ../pgtap/include/postgrest.sql
		\i idempotency.sql
		SELECT ringfence.add_jwt_key('http');
	\endif
SQL

# Runs a file of tests; prints its totals, and what failed.
run_tests() {
	local output=$RINGFENCE_WORK/log/$1.tap status
	node --test --test-reporter=tap "$1" >"$output" 2>&1
	status=$?
	if [ $status != 0 ]; then
		grep -E -A 25 '^ *not ok' "$output" | head -n 200
	fi
	grep -E '^# (tests|pass|fail) ' "$output"
	return $status
}
