#!/bin/bash
# A real PostgREST answers as its replay does, and to a request with an
# Idempotency-Key that it gets again as it did. It serves files as they were written.
set -u
. "$(dirname "$0")/prepare.sh"
. ../lib/common.sh

# serve NAME URL_VARIABLE [MAX_ROWS]
servers=()
serve() {
	local port config=$RINGFENCE_WORK/$1.conf
	port=$(free_port) || return
	psql -X -q -A -t -v ON_ERROR_STOP=1 -v port="$port" -v host="$PGHOST" -v pgport="$PGPORT" -v max_rows="${3:-}" >"$config" <<-'SQL' || return
		SELECT format('%s = %s', s.name, to_json(s.value))
		FROM (VALUES
			('db-uri', format('host=%s port=%s dbname=%s user=regress_web', :'host', :'pgport', current_database())),
			('db-schemas', 'cleaning_v1, ringfence_v1, merchant_v1, once_v1'),
			('db-anon-role', 'ringfence_anon'),
			('db-pre-request', 'ringfence.pre_request'),
			('db-pool', '4'),
			('db-max-rows', nullif(:'max_rows', '')),
			('db-tx-end', 'commit-allow-override'),
			('jwt-secret', ringfence.jwks()::text),
			('jwt-aud', 'ringfence'),
			('server-host', '127.0.0.1'),
			('server-port', :'port'),
			('log-level', 'warn')
		) AS s (name, value)
		WHERE s.value IS NOT NULL;
	SQL
	"${POSTGREST:-postgrest}" "$config" >"$RINGFENCE_WORK/log/$1-server.log" 2>&1 &
	servers+=($!)
	for _ in $(seq 100); do
		curl -s -o /dev/null "http://127.0.0.1:$port/" && break
		kill -0 $! || return
		sleep 0.1
	done
	export "$2=http://127.0.0.1:$port"
}

trap 'kill "${servers[@]}"; wait "${servers[@]}" 2>/dev/null' EXIT
serve postgrest POSTGREST_URL || exit 1
serve postgrest-max-rows POSTGREST_MAX_ROWS_URL 3 || exit 1
status=0
for file in postgrest.test.js idempotency.test.js export.test.js; do
	run_tests $file || status=1
done
exit $status
