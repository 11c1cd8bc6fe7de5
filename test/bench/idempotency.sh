#!/bin/bash
# What idempotency costs, and what a retry does: a payment is posted
#   plain   without a key
#   first   with a key that is new
#   replay  with one of 1000 keys that were used before, and the same body
# as whole requests of PostgREST's, or as bare SQL, in turns, by 1 and by 4 clients,
# which wait for the disk or not. Beside them, "by hand": a table of keys and a
# function in PL/pgSQL that remembers the answer, which stands in for the INSERT.
# It takes part on the same protected table, and on an open one without ringfence.
# Also: an answer of 100 kB, a million keys recorded before, and statements of
# sessions that have the library loaded and use none of it. Prints tables in
# Markdown; doc/benchmarks.md says how to read them.
: "${BENCH_ROUNDS:=6}" "${BENCH_MS:=500}"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"
bench_server 'fsync = on' 'full_page_writes = on' 'synchronous_commit = on' 'max_wal_size = 16GB' \
	'checkpoint_timeout = 1d' 'jit = off'

user=${PGUSER:-postgres}
login=ringfence_bench
open_login=ringfence_bench_open
open_role=ringfence_bench_member
schema=bench_idempotency
# What all keys begin with, so that they can be told from others. With the number
# they are as long as a UUID.
key=bench-3b7f4f26a0d4-
keys=1000
# Not the one that ringfence takes, and as long.
hand_header=x-once-only-key
# What a variant inserts into.
declare -A table=([plain]=payments [first]=payments [replay]=payments [hand]=payments [hand-replay]=payments
	[open]=open_payments [open-hand]=open_payments [open-hand-replay]=open_payments)

# The organizations of the clients, with an owner each, and the tables.
load() {
	run_psql -o /dev/null -v login=$login -v open_login=$open_login -v open_role=$open_role <<-'SQL'
		SET client_min_messages = warning;
		DROP SCHEMA IF EXISTS bench_idempotency CASCADE;
		SELECT format('CREATE ROLE %I %s', name, options)
		FROM (VALUES (:'login', 'LOGIN NOINHERIT'), (:'open_login', 'LOGIN NOINHERIT'), (:'open_role', 'NOLOGIN')) AS r (name, options)
		WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
		GRANT ringfence_authenticator TO :login;
		GRANT :open_role TO :open_login;
		ALTER ROLE :login SET session_preload_libraries = 'ringfence';
		CREATE SCHEMA bench_idempotency;
		GRANT USAGE ON SCHEMA bench_idempotency TO ringfence_member, :open_role;
		INSERT INTO ringfence_data.orgs (id, name)
		SELECT ('bec40000-0000-7000-8000-00000000000' || k)::uuid, 'Bench ' || k FROM generate_series(0, 9) AS k ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.users (id, email)
		SELECT ('bec40000-0000-7000-8000-00000000000' || k)::uuid, 'bench' || k || '@example.com' FROM generate_series(0, 9) AS k ON CONFLICT DO NOTHING;
		INSERT INTO ringfence_data.memberships (org_id, user_id, roles)
		SELECT id, id, '{owner}' FROM ringfence_data.orgs WHERE id::text LIKE 'bec40000-%' ON CONFLICT DO NOTHING;

		CREATE TABLE bench_idempotency.payments (
			org_id uuid NOT NULL,
			id uuid NOT NULL DEFAULT gen_random_uuid(),
			amount bigint NOT NULL,
			currency text NOT NULL,
			reference text NOT NULL,
			note text,
			created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
			PRIMARY KEY (org_id, id)
		);
		CREATE TABLE bench_idempotency.open_orgs (id uuid PRIMARY KEY);
		INSERT INTO bench_idempotency.open_orgs (id) SELECT id FROM ringfence_data.orgs WHERE id::text LIKE 'bec40000-%';
		CREATE TABLE bench_idempotency.open_payments (LIKE bench_idempotency.payments INCLUDING ALL,
			FOREIGN KEY (org_id) REFERENCES bench_idempotency.open_orgs (id));
		ALTER TABLE bench_idempotency.open_payments
			ALTER COLUMN org_id SET DEFAULT (current_setting('request.jwt.claims', true)::json ->> 'org_id')::uuid;
		SELECT ringfence.protect('bench_idempotency.payments', '{"owner,admin": "all"}');
		GRANT SELECT, INSERT ON bench_idempotency.open_payments TO :open_role;
		CREATE TABLE bench_idempotency.known (id bigint PRIMARY KEY, amount bigint NOT NULL, note text NOT NULL);
		INSERT INTO bench_idempotency.known (id, amount, note) SELECT i, i, 'a note on this row' FROM generate_series(1, 100000) AS i;
		CREATE FUNCTION bench_idempotency.pre_request() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SQL
	by_hand pay keys payments 'params jsonb' &&
		by_hand pay_open open_keys open_payments 'params jsonb' &&
		by_hand pay_sql sql_keys open_payments 'given text, params jsonb' &&
		run_psql -c "VACUUM (FREEZE, ANALYZE) $schema.known" \
			-c 'VACUUM ANALYZE ringfence_data.orgs, ringfence_data.users, ringfence_data.memberships'
}

# by_hand FUNCTION KEYS TABLE ARGUMENTS: a table of keys as on
# https://brandur.org/idempotency-keys, without the phases, since all happens in one
# transaction, and with one index; and a function that posts a payment once. Whoever
# comes second waits for the first at that index. Outside a request the caller
# passes the key.
by_hand() {
	local me="current_setting('request.jwt.claims', true)::json ->> 'sub'" org='' value=''
	local declare_key="given text := current_setting('request.headers', true)::json ->> '$hand_header';"
	if [[ $4 = given* ]]; then
		me=session_user declare_key='' org='org_id, ' value="'bec40000-0000-7000-8000-000000000000', "
	fi
	run_psql <<-SQL
		CREATE TABLE $schema.$2 (
			user_id text NOT NULL,
			idempotency_key text NOT NULL CHECK (char_length(idempotency_key) <= 100),
			created_at timestamptz NOT NULL DEFAULT now(),
			locked_at timestamptz DEFAULT now(),
			request_method text NOT NULL,
			request_path text NOT NULL,
			request_params jsonb NOT NULL,
			response_code integer,
			response_body jsonb,
			PRIMARY KEY (user_id, idempotency_key)
		);
		GRANT SELECT, INSERT, UPDATE ON $schema.$2 TO ringfence_member, $open_role;
		CREATE FUNCTION $schema.$1($4) RETURNS jsonb
		LANGUAGE plpgsql AS \$function\$
		DECLARE
			me text := $me;
			$declare_key
			known record;
			answer jsonb;
		BEGIN
			INSERT INTO $schema.$2 (user_id, idempotency_key, request_method, request_path, request_params)
			VALUES (me, given, coalesce(current_setting('request.method', true), ''),
				coalesce(current_setting('request.path', true), ''), params)
			ON CONFLICT DO NOTHING;
			IF NOT FOUND THEN
				SELECT request_params, response_code, response_body INTO known
				FROM $schema.$2 WHERE user_id = me AND idempotency_key = given;
				IF known.request_params <> params THEN
					RAISE EXCEPTION 'this key was used with other parameters' USING ERRCODE = 'PT422';
				END IF;
				PERFORM set_config('response.status', known.response_code::text, true);
				RETURN known.response_body;
			END IF;
			INSERT INTO $schema.$3 (${org}amount, currency, reference, note)
			VALUES ($value(params ->> 'amount')::bigint, params ->> 'currency', params ->> 'reference', params ->> 'note')
			RETURNING to_jsonb($3.*) INTO answer;
			UPDATE $schema.$2 SET locked_at = NULL, response_code = 201, response_body = answer
			WHERE user_id = me AND idempotency_key = given;
			PERFORM set_config('response.status', '201', true);
			RETURN answer;
		END
		\$function\$;
	SQL
}

# body VARIANT [BYTES]: what is posted. A long note, of random words, can be
# compressed to a third or so.
body() {
	awk -v variant="$1" -v bytes="${2:-0}" 'BEGIN {
		srand(1)
		note = variant
		while (length(note) < bytes)
			note = note sprintf(", item %d at %.2f", 1000000 * rand(), 1000 * rand())
		printf "{\"amount\": 4900, \"currency\": \"EUR\", \"reference\": \"invoice 2026-000731\", \"note\": \"%s\"}", note }'
}

# insert_statement TABLE / call_statement FUNCTION: what PostgREST makes of a POST
# to a table and to a function.
insert_statement() {
	cat <<-SQL
		WITH pgrst_source AS (INSERT INTO "$schema"."$1"("amount", "currency", "reference", "note") SELECT "pgrst_body"."amount", "pgrst_body"."currency", "pgrst_body"."reference", "pgrst_body"."note" FROM (SELECT :body::json AS json_data) pgrst_payload, LATERAL (SELECT "amount", "currency", "reference", "note" FROM json_to_record(pgrst_payload.json_data) AS _("amount" bigint, "currency" text, "reference" text, "note" text) ) pgrst_body  RETURNING "$schema"."$1".*) SELECT '' AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, array[]::text[] AS header, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted FROM (SELECT "$1".* FROM "pgrst_source" AS "$1"     ) _postgrest_t;
	SQL
}

call_statement() {
	cat <<-SQL
		WITH pgrst_source AS (SELECT pgrst_call.pgrst_scalar FROM (SELECT :body::jsonb AS json_data) pgrst_payload, LATERAL (SELECT "$schema"."$1"(pgrst_payload.json_data) pgrst_scalar) pgrst_call) SELECT null::bigint AS total_result_set, 1 AS page_total, coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted FROM (SELECT "$1".* FROM "pgrst_source" AS "$1"     ) _postgrest_t;
	SQL
}

# The number in a key: new each time, one of those that the client recorded, or the
# next to record.
write_key() {
	case $1 in
	record) printf '\\set i :i + 1\n\\set n :client_id * %s + :i\n' "$keys" ;;
	replay) printf '\\set n :client_id * %s + random(1, %s)\n' "$keys" "$keys" ;;
	*) echo '\set n random(1000000, 1000000000000000)' ;;
	esac
}

# write_request VARIANT HOW: a request of PostgREST's. One without a key has another
# header instead, so that all send as much.
write_request() {
	local role=ringfence_member pre=ringfence.pre_request header=idempotency-key path=${table[$1]}
	case $1 in
	plain | open) header=x-something-new ;;
	hand*) header=$hand_header path=rpc/pay ;;
	open-*) header=$hand_header path=rpc/pay_open ;;
	esac
	if [[ $1 = open* ]]; then
		role=$open_role pre=$schema.pre_request
	fi
	write_key "$2"
	cat <<-SQL
		BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
		select set_config('search_path', '"$schema", "public"', true), set_config('role', '$role', true), set_config('request.jwt.claims', '{"exp": 4102444800, "role": "$role", "sub": "bec40000-0000-7000-8000-00000000000' || :client_id || '", "org_id": "bec40000-0000-7000-8000-00000000000' || :client_id || '"}', true), set_config('request.method', 'POST', true), set_config('request.path', '/$path', true), set_config('request.headers', '{"host": "localhost", "content-type": "application/json", "accept": "application/json", "prefer": "return=representation", "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "$header": "$key' || :n || '"}', true), set_config('request.cookies', '{}', true);
		select $pre();
	SQL
	case $path in
	rpc/*) call_statement "${path#rpc/}" ;;
	*) insert_statement "$path" ;;
	esac
	echo 'COMMIT;'
}

# write_sql VARIANT HOW: the same without a request, on the open table.
write_sql() {
	local setting=app.something
	[[ $1 != first && $1 != replay ]] || setting=ringfence.idempotency_key
	write_key "$2"
	cat <<-SQL
		BEGIN;
		SELECT set_config('$setting', '$key' || :n, true);
	SQL
	case $1 in
	hand*) echo "SELECT $schema.pay_sql('$key' || :n, :body::jsonb);" ;;
	*)
		echo "INSERT INTO $schema.open_payments (org_id, amount, currency, reference, note) VALUES ('bec40000-0000-7000-8000-000000000000', 4900, 'EUR', 'invoice 2026-000731', :note) RETURNING *;"
		;;
	esac
	echo 'COMMIT;'
}

# write_unarmed VARIANT HOW: one statement, as the variable unarmed says.
write_unarmed() {
	case $unarmed in
	select) printf '\\set i random(1, 100000)\nSELECT amount, note FROM %s.known WHERE id = :i;\n' $schema ;;
	update) printf '\\set i random(1, 100000)\nUPDATE %s.known SET amount = amount + 1 WHERE id = :i;\n' $schema ;;
	insert) echo "INSERT INTO $schema.open_payments (org_id, amount, currency, reference) VALUES ('bec40000-0000-7000-8000-000000000000', 4900, 'EUR', 'invoice 2026-000731');" ;;
	esac
}

# in_turns ROUND: the variants of a round, which begins with another one each time.
in_turns() {
	local i
	for i in "${!variants[@]}"; do
		echo "${variants[($1 + i) % ${#variants[@]}]}"
	done
}

# login_of KIND VARIANT
login_of() {
	case $1-$2 in
	request-open*) echo $open_login ;;
	request-*) echo $login ;;
	*) echo "$user" ;;
	esac
}

# options KIND VARIANT WAIT: with the library or without it, for a superuser. What
# is done by hand does without.
options() {
	local library=ringfence
	case $1-$2 in
	sql-hand* | unarmed-bare*) library= ;;
	esac
	printf -- '-c jit=off -c synchronous_commit=%s' "$3"
	[ "$1" = request ] || printf -- ' -c session_preload_libraries=%s' $library
}

# Empty tables, with a million keys of others' if that is wanted.
refill() {
	run_psql -c "TRUNCATE $schema.payments, $schema.open_payments, $schema.keys, $schema.open_keys, $schema.sql_keys" \
		-c "DELETE FROM ringfence_data.idempotency_keys WHERE key LIKE '$key%'" || return
	[ "$1" = 0 ] || run_psql <<-SQL || return
		INSERT INTO ringfence_data.idempotency_keys (id, org_id, user_id, key, method, path, fingerprint,
			created_at, expires_at, status, headers, processed, complete, response)
		SELECT gen_random_uuid(), o.id, o.id, '$key-' || i, 'POST', '/payments',
			sha256(convert_to(i::text, 'UTF8')), now(), now() + i * interval '80 ms', NULL, NULL, 1, true, convert_to(repeat('x', 300), 'UTF8')
		FROM generate_series(1, $1) AS i
		INNER JOIN (SELECT id, right(id::text, 1)::integer AS n FROM ringfence_data.orgs WHERE id::text LIKE 'bec40000-%') AS o ON o.n = i % 10;
		INSERT INTO $schema.keys (user_id, idempotency_key, locked_at, request_method, request_path, request_params, response_code, response_body)
		SELECT 'bec40000-0000-7000-8000-00000000000' || i % 10, '$key-' || md5(i::text), NULL, 'POST', '/rpc/pay', '{"amount": 4900, "currency": "EUR"}', 201,
			jsonb_build_object('id', md5(i::text), 'amount', 4900, 'note', repeat('x', 200))
		FROM generate_series(1, $1) AS i;
	SQL
	run_psql -c 'VACUUM ANALYZE ringfence_data.idempotency_keys' -c "VACUUM ANALYZE $schema.keys" -c CHECKPOINT
}

# record KIND VARIANT WAIT BYTES: each client's first requests with the keys that it
# repeats later.
record() {
	"write_$1" "$2" record >"$scripts/$2-record.sql"
	PGOPTIONS=$(options "$1" "$2" "$3") pgbench -n -M prepared -c "$clients" -U "$(login_of "$1" "$2")" -t $keys -D i=0 \
		-D note="$2" -D body="$(body "$2" "$4")" -f "$scripts/$2-record.sql" >"$scripts/$2-record.log" 2>&1 || {
		cat "$scripts/$2-record.log" >&2
		return 1
	}
}

# No retry had an effect, or it isn't one; and ringfence recorded its keys alone.
check_effects() {
	local expected=0 found variant
	for variant in "${variants[@]}"; do
		[[ $variant != *replay ]] || ((expected += clients * keys))
	done
	found=$(run_psql -F ' ' <<-SQL
		SELECT count(*) FILTER (WHERE note ~ '^[a-z-]*replay'), count(*) FILTER (WHERE note ~ '^(first|replay)') - (
			SELECT count(*) FROM ringfence_data.idempotency_keys WHERE key LIKE '$key%' AND key NOT LIKE '$key-%')
		FROM (SELECT note FROM $schema.payments UNION ALL SELECT note FROM $schema.open_payments) AS p
	SQL
	)
	[ "$found" = "$expected 0" ] || die "$expected keys were repeated: payments of those, and others without a key: $found"
}

# measure KIND CLIENTS WAIT BYTES RECORDED VARIANT...: rounds of all variants in turns,
# the first of which is what the others are compared with, into lists.
measure() {
	local kind=$1 wait=$3 bytes=$4 round variant how
	local -A now
	clients=$2
	refill "$5" || exit 1
	shift 5
	variants=("$@")
	rm -f "$scripts"/*
	declare -gA lists=()
	for variant in "${variants[@]}"; do
		how=first
		if [[ $variant = *replay ]]; then
			record "$kind" "$variant" "$wait" "$bytes" || exit 1
			how=replay
		fi
		"write_$kind" "$variant" "$how" >"$scripts/$variant.sql"
	done
	for ((round = 0; round <= rounds; round++)); do
		for variant in $(in_turns "$round"); do
			now[$variant]=$(PGOPTIONS=$(options "$kind" "$variant" "$wait") run_pgbench "$(login_of "$kind" "$variant")" \
				"$scripts/$variant.sql" -D note="$variant" -D body="$(body "$variant" "$bytes")") || exit 1
		done
		# The first round warms up.
		[ "$round" -gt 0 ] || continue
		lists[time]+=" ${now[${variants[0]}]}"
		for variant in "${variants[@]}"; do
			lists[$variant]+=" $(divide "${now[${variants[0]}]}" "${now[$variant]}")"
		done
	done
	check_effects
}

# row TITLE TARGET KIND CLIENTS WAIT BYTES RECORDED VARIANT...: a row of the table.
row() {
	local variant cells
	measure "${@:3}"
	# shellcheck disable=SC2086
	cells=" $(show "$(divide 1000 "$(median ${lists[time]})")") |"
	for variant in "${variants[@]:1}"; do
		# shellcheck disable=SC2086
		cells+=" $(show "$(median ${lists[$variant]})") |"
	done
	printf '| %s |%s %s |\n' "$1" "$cells" "$2"
}

# header_row WHAT COLUMN...
header_row() {
	local column line='| --- |'
	printf '\n|'
	for column in "$@"; do
		printf ' %s |' "$column"
	done
	shift
	for column in "$@"; do
		line+=' ---: |'
	done
	printf '\n%s\n' "$line"
}

count_clients() {
	[ "$1" = 1 ] && echo '1 client' || echo "$1 clients"
}

# both TARGET KIND VARIANT...: by 1 and by 4 clients, which wait for the disk or not.
both() {
	local wait n
	for wait in on off; do
		for n in 4 1; do
			row "$(count_clients $n), synchronous_commit $wait" "$1" "$2" $n $wait 0 0 "${@:3}"
		done
	done
}

clean_up() {
	run_psql -c 'SET client_min_messages = warning' -c "DROP SCHEMA $schema CASCADE" \
		-c "DELETE FROM ringfence_data.idempotency_keys WHERE key LIKE '$key%'" \
		-c 'SET session_replication_role = replica' \
		-c "DELETE FROM ringfence_data.memberships WHERE org_id::text LIKE 'bec40000-%'" \
		-c "DELETE FROM ringfence_data.users WHERE id::text LIKE 'bec40000-%'" \
		-c "DELETE FROM ringfence_data.orgs WHERE id::text LIKE 'bec40000-%'" \
		-c "DROP ROLE $login, $open_login, $open_role"
}

load || die "could not load the rows"
bench_conditions
if [ "$(run_psql -c 'SHOW fsync')" = off ]; then
	echo 'fsync is off: whether commits wait makes no difference.'
fi

header_row 'PostgREST request with an INSERT, throughput' 'plain, 1/s' first/plain replay/plain \
	'by hand, first/plain' 'by hand, replay/plain' target
both 'first >= 0.85' request plain first replay hand hand-replay
header_row 'the same on an open table, without ringfence' 'plain, 1/s' 'by hand, first/plain' 'by hand, replay/plain' target
both '' request open open-hand open-hand-replay
header_row 'BEGIN, set_config(), INSERT, COMMIT' 'plain, 1/s' first/plain replay/plain \
	'by hand, first/plain' 'by hand, replay/plain' target
both 'first >= 0.85' sql plain first replay hand hand-replay

header_row 'PostgREST request, 4 clients, synchronous_commit on' 'plain, 1/s' first/plain replay/plain \
	'by hand, first/plain' 'by hand, replay/plain' target
row 'an answer of 100 kB' '' request 4 on 100000 0 plain first replay hand hand-replay
row 'a million keys recorded before' '' request 4 on 0 1000000 plain first replay hand hand-replay

header_row 'a statement without a key, throughput' 'without the library, 1/s' again/without with/without target
# They differ by little.
rounds=$((2 * rounds))
for unarmed in select update insert; do
	for n in 4 1; do
		row "${unarmed^^}, $(count_clients $n), synchronous_commit off" '= again' unarmed $n off 0 0 bare bare-again loaded
	done
done
clean_up
