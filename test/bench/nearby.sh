#!/bin/bash
# How long a driver waits for the places around them: merchant_v1.nearby() among
# BENCH_PLACES places (1,000,000) of 400 cities and the country between them, as whole
# requests, for the places within 1 km and within 50 km of others of these places. All
# is done in a database of its own, removed at the end. Prints a table in Markdown;
# doc/benchmarks.md says how to read it.
: "${BENCH_ROUNDS:=1}" "${BENCH_MS:=10000}"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"
bench_server 'jit = off'

user=regress_bench_nearby
maintenance=$PGDATABASE
database=ringfence_bench_nearby
org=bec40000-0000-7000-8000-000000000002
driver=bec40000-0000-7000-8000-000000000003
member=bec40000-0000-4000-8000-000000000004
places=${BENCH_PLACES:-1000000}
target_ms=5

load() {
	run_psql -o /dev/null -v database=$database -v user=$user -d "$maintenance" <<-'SQL' || return
		SET client_min_messages = warning;
		DROP DATABASE IF EXISTS :database;
		DROP ROLE IF EXISTS :user;
		CREATE ROLE :user LOGIN NOINHERIT IN ROLE ringfence_authenticator;
		CREATE DATABASE :database TEMPLATE template0;
	SQL
	export PGDATABASE=$database
	run_psql -o /dev/null -v org=$org -v driver=$driver -v member=$member -v places="$places" <<-'SQL'
		SET client_min_messages = warning;
		CREATE EXTENSION ringfence;
		SELECT ringfence.install('core'), ringfence.install('merchant');
		INSERT INTO ringfence_data.orgs (id, name) VALUES (:'org', 'Bench');
		INSERT INTO ringfence_data.users (id, email) VALUES (:'member', 'driver@bench.test');
		INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party)
		VALUES (:'org', :'member', '{driver}', jsonb_build_object('driver', :'driver'));
		SELECT setseed(0.5);
		CREATE TABLE public.cities AS
		SELECT n, 26 + 22 * random() AS lat, -122 + 50 * random() AS lng FROM generate_series(0, 399) AS n;
		-- Nine of ten places around a city's center, as the sum of three dice.
		INSERT INTO merchant.places (id, name, lat, lng)
		SELECT 'place:' || i, 'Place ' || i,
			CASE WHEN i % 10 = 0 THEN 26 + 22 * random() ELSE c.lat + (random() + random() + random() - 1.5) / 10 END,
			CASE WHEN i % 10 = 0 THEN -122 + 50 * random() ELSE c.lng + (random() + random() + random() - 1.5) / 10 END
		FROM generate_series(1, :places) AS i
		INNER JOIN public.cities AS c ON c.n = i % 400;
		CREATE TABLE public.spots AS
		SELECT row_number() OVER ()::integer AS n, p.lat, p.lng
		FROM (SELECT p.lat, p.lng FROM merchant.places AS p ORDER BY hashtext(p.id) LIMIT 5000) AS p;
		ALTER TABLE public.spots ADD PRIMARY KEY (n);
		GRANT SELECT ON public.spots TO PUBLIC;
		VACUUM (FREEZE, ANALYZE);
		CHECKPOINT;
	SQL
}

# What PostgREST sends for a request, around the query.
script() {
	cat <<-SQL
		\\set n random(1, 5000)
		BEGIN READ ONLY;
		SELECT set_config('role', 'ringfence_member', true),
			set_config('request.jwt.claims', '{"role": "ringfence_member", "sub": "$member", "org_id": "$org"}', true);
		SELECT ringfence.pre_request();
		SELECT count(x), max(x.distance_m) FROM public.spots AS s, merchant_v1.nearby(s.lat, s.lng, $1, 20) AS x WHERE s.n = :n;
		COMMIT;
	SQL
}

# measure METERS: a row of the table. The first run fills the server's memory.
measure() {
	local log=$scripts/near.$1 seconds=$((run_ms / 1000)) output
	script "$1" >"$log.sql"
	pgbench -n -M prepared -c 2 -j 2 -T 2 -U $user -f "$log.sql" >/dev/null || return
	output=$(pgbench -n -M prepared -c 2 -j 2 -T "$seconds" -U $user -f "$log.sql" -l --log-prefix="$log") || return
	cut -d ' ' -f 3 "$log".[0-9]* | sort -n | awk -v meters="$1" -v target=$target_ms \
		-v tps="$(awk '/^tps = / { print $3 }' <<<"$output")" '
		{ v[NR] = $1 / 1000 }
		END {
			printf "| %s m | %.0f | %.2f | %.2f | %.2f | %.1f | p95 < %s |\n", meters, tps,
				v[int((NR + 1) / 2)], v[int(NR * .95)], v[int(NR * .99)], v[NR], target
		}'
}

load || die 'could not make the places'
bench_conditions
printf '%s places\n\n' "$places"
echo '| within | requests/s, 2 clients | p50 ms | p95 ms | p99 ms | longest ms | target |'
echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: |'
measure 1000 && measure 50000
status=$?
export PGDATABASE=$maintenance
run_psql -o /dev/null -c "DROP DATABASE $database" -c "DROP ROLE $user" || status=1
exit $status
