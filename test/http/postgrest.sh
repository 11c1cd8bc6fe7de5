#!/bin/bash
# A real PostgREST answers as its replay does, and to a request with an
# Idempotency-Key that it gets again as it did.
set -u
. "$(dirname "$0")/prepare.sh"
. ../lib/common.sh

port=$(free_port) || exit 1
config=$RINGFENCE_WORK/postgrest.conf
psql -X -q -A -t -v ON_ERROR_STOP=1 -v port="$port" -v host="$PGHOST" -v pgport="$PGPORT" >"$config" <<-'SQL' || exit 1
	SELECT format('%s = %s', s.name, to_json(s.value))
	FROM (VALUES
		('db-uri', format('host=%s port=%s dbname=%s user=regress_web', :'host', :'pgport', current_database())),
		('db-schemas', 'cleaning_v1, ringfence_v1, once_v1'),
		('db-anon-role', 'ringfence_anon'),
		('db-pre-request', 'ringfence.pre_request'),
		('db-pool', '4'),
		('db-tx-end', 'commit-allow-override'),
		('jwt-secret', ringfence.jwks()::text),
		('jwt-aud', 'ringfence'),
		('server-host', '127.0.0.1'),
		('server-port', :'port'),
		('log-level', 'warn')
	) AS s (name, value);
SQL
"${POSTGREST:-postgrest}" "$config" >"$RINGFENCE_WORK/log/postgrest-server.log" 2>&1 &
server=$!
trap 'kill $server; wait $server 2>/dev/null' EXIT
for _ in $(seq 100); do
	curl -s -o /dev/null "http://127.0.0.1:$port/" && break
	kill -0 $server || exit 1
	sleep 0.1
done
export POSTGREST_URL=http://127.0.0.1:$port
status=0
for file in postgrest.test.js idempotency.test.js; do
	run_tests $file || status=1
done
exit $status
