# Sourced by demo.sh: tokens, PostgREST, and requests with their answers.

if [ -t 1 ]; then
	bold() { printf '\033[1m%s\033[0m\n' "$*"; }
else
	bold() { printf '%s\n' "$*"; }
fi

sql() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 -c "$1"
}

# Claims of the people of the demo data, and tokens that carry them, for a day.
tokens() {
	local o
	: >"$work/tokens"
	while IFS='|' read -r name claims token; do
		printf '%s=%q\n%s_claims=%q\n' "$name" "$token" "$name" "$claims" >>"$work/tokens"
	done < <(sql "
		SELECT lower(split_part(o.name, ' ', 1)) || '_' || m.roles[1]
					|| coalesce(nullif(row_number() OVER (PARTITION BY o.name, m.roles[1] ORDER BY m.user_id), 1)::text, ''),
				c.claims, ringfence.jwt_sign(c.claims, '1 day')
			FROM ringfence_data.memberships AS m
				JOIN ringfence_data.orgs AS o ON o.id = m.org_id
				CROSS JOIN LATERAL (
					SELECT jsonb_build_object('role', 'ringfence_member', 'sub', m.user_id, 'org_id', m.org_id) AS claims) AS c
			WHERE o.name IN ('Alder Clean', 'Birch Services', 'Cedar Home Care', 'Juniper Charge', 'Kestrel Charge')
				AND m.roles[1] <> 'finance'
			ORDER BY 1")
	. "$work/tokens"
	for o in alder birch juniper kestrel; do
		[ -n "$(token_of ${o}_owner)" ] || die "the demo data has no owner of $o"
	done
}

token_of() {
	local name=$1
	printf '%s' "${!name}"
}

# What the next requests give as their reason, and their Idempotency-Key; the media
# type they accept; and where the answer is one value, what SQL makes the body of it.
reason=
key=
accept=
answered_as=

start_postgrest() {
	local config=$work/postgrest.conf log=$work/postgrest.log port
	if [ -f "$work/postgrest.pid" ] && [ "$(readlink "/proc/$(cat "$work/postgrest.pid")/exe")" = "$(cat "$work/postgrest.exe")" ]; then
		kill "$(cat "$work/postgrest.pid")"
	fi
	port=$(free_port) || die "no free port"
	url=http://127.0.0.1:$port
	psql -X -q -A -t -v ON_ERROR_STOP=1 -v host="$PGHOST" -v pgport="$PGPORT" -v port="$port" >"$config" <<-'SQL' || exit 1
		SELECT format('%s = %s', s.name, to_json(s.value))
		FROM (VALUES
			('db-uri', format('host=%s port=%s dbname=demo user=demo_web', :'host', :'pgport')),
			('db-schemas', 'cleaning_v1, merchant_v1, ringfence_v1, demo_v1'),
			('db-anon-role', 'ringfence_anon'),
			('db-pre-request', 'ringfence.pre_request'),
			('jwt-secret', ringfence.jwks()::text),
			('jwt-aud', 'ringfence'),
			('server-host', '127.0.0.1'),
			('server-port', :'port')
		) AS s (name, value);
	SQL
	[ -z "$run_as" ] || chown "$run_as" "$config"
	chmod 600 "$config"
	(cd "$work" && as_user setsid bash -c 'echo $$ >postgrest.pid; exec "$0" "$1"' "$postgrest" "$config") >"$log" 2>&1 </dev/null &
	for _ in $(seq 100); do
		if curl -s -o /dev/null "$url/"; then
			readlink "/proc/$(cat "$work/postgrest.pid")/exe" >"$work/postgrest.exe"
			bold "PostgREST listens on $url"
			return
		fi
		sleep 0.1
	done
	tail -n 20 "$log"
	die "PostgREST does not answer"
}

# The status that PostgREST answers an SQLSTATE with, of those that the demo
# meets.
status_of() {
	case $1 in
		42501) [ "$2" = nobody ] && echo 401 || echo 403 ;;
		23503 | 23505) echo 409 ;;
		PT[1-5][0-9][0-9]) echo "${1#PT}" ;;
		*) echo 400 ;;
	esac
}

# A body, an array a row a line, not too much of it.
brief() {
	sed -e 's/}, *{/},\n    {/g' | cut -c 1-220 | {
		head -n 6
		[ "$(wc -l)" = 0 ] || echo "    ..."
	} | sed 's/^ *//; s/^/      /'
}

# by_superuser TITLE SQL: statements of a superuser, and what psql prints.
by_superuser() {
	echo
	bold "$1"
	sed 's/^/  /' <<<"$2"
	psql -X -q -P footer=off <<<"$2" 2>&1 | grep -v '^$' | cut -c 1-220 | sed 's/^/      /'
}

# show TITLE WHO METHOD PATH BODY SQL [PROFILE]: one request. WHO is a name in
# tokens, or nobody; SQL is what PostgREST makes of the request; the variables
# reason, key and accept, if they aren't empty, go along as x-reason,
# Idempotency-Key and Accept.
show() {
	local title=$1 who=$2 method=$3 path=$4 body=$5 query=$6 profile=${7:-cleaning_v1}
	echo
	bold "$title"
	if [ -n "$postgrest" ]; then
		over_http
	else
		through_psql
	fi
}

over_http() {
	local arguments=(-s -g -X "$method" "$url$path") printed status header
	printed="curl -s -g"
	[ "$method" = GET ] || printed+=" -X $method"
	printed+=" '$url$path'"
	if [ "$who" != nobody ]; then
		arguments+=(-H "Authorization: Bearer $(token_of "$who")")
		printed+=" -H \"Authorization: Bearer \$$who\""
	fi
	if [ "$profile" != cleaning_v1 ]; then
		header=Content-Profile
		[ "$method" != GET ] || header=Accept-Profile
		arguments+=(-H "$header: $profile")
		printed+=" -H '$header: $profile'"
	fi
	if [ -n "$reason" ]; then
		arguments+=(-H "x-reason: $reason")
		printed+=" -H 'x-reason: $reason'"
	fi
	if [ -n "$accept" ]; then
		arguments+=(-H "Accept: $accept")
		printed+=" -H 'Accept: $accept'"
	fi
	if [ -n "$key" ]; then
		arguments+=(-H "Idempotency-Key: $key")
		printed+=" -H 'Idempotency-Key: $key'"
	fi
	if [ -n "$body" ]; then
		arguments+=(-H 'Content-Type: application/json' -H 'Prefer: return=representation' -d "$body")
		printed+=" -H 'Content-Type: application/json' -H 'Prefer: return=representation' -d '${body//\'/\'\\\'\'}'"
	elif [ "$method" = DELETE ]; then
		arguments+=(-H 'Prefer: return=representation')
		printed+=" -H 'Prefer: return=representation'"
	fi
	echo "  $printed"
	status=$(curl "${arguments[@]}" -D "$work/headers" -o "$work/answer" -w '%{http_code}')
	echo "  $status"
	sed -n 's/^\(\(idempotency-replayed\|location\|content-disposition\|export-[a-z]*\|repr-digest\): [^\r]*\).*/      \1/Ip' "$work/headers"
	brief <"$work/answer"
}

through_psql() {
	local body_sql="${answered_as:-coalesce(json_agg(_postgrest_t), '[]')}" page_sql=${answered_as:+1}
	local mode=WRITE role=ringfence_member claims_name=${who}_claims claims output code main
	local headers='{"host":"localhost","accept":"'"${accept:-*/*}"'"'${reason:+,\"x-reason\":\"$reason\"}${key:+,\"idempotency-key\":\"$key\"}'}'
	[ "$method" != GET ] || mode=ONLY
	page_sql=${page_sql:-pg_catalog.count(_postgrest_t)}
	if [ "$who" = nobody ]; then
		role=ringfence_anon
		claims='{"role": "ringfence_anon"}'
	else
		claims=${!claims_name}
	fi
	echo "  $method $path${body:+ $body}   ($who)${reason:+   x-reason: $reason}${key:+   Idempotency-Key: $key}"
	main="WITH pgrst_source AS ($query) SELECT null::bigint AS total_result_set, $page_sql AS page_total, $body_sql AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted FROM (SELECT * FROM pgrst_source) _postgrest_t"
	cat >"$work/request.sql" <<-SQL
		\\set VERBOSITY verbose
		BEGIN ISOLATION LEVEL READ COMMITTED READ $mode;
		select set_config('search_path', \$\$"$profile", "public"\$\$, true), set_config('role', '$role', true), set_config('request.jwt.claims', \$\$$claims\$\$, true), set_config('request.method', '$method', true), set_config('request.path', \$\$${path%%\?*}\$\$, true), set_config('request.headers', '$headers', true), set_config('request.cookies', '{}', true) \g /dev/null
		select "ringfence"."pre_request"() \g /dev/null
		$main;
		COMMIT;
	SQL
	if [ -z "${explained:-}" ]; then
		explained=yes
		echo "  which is, as PostgREST sends it (of the other requests only the answer is shown):"
		sed -e 1d -e 's| \\g /dev/null|;|' -e 's/^/    /' "$work/request.sql" | fold -s -w 110
	fi
	if output=$(psql -X -q -A -t -F $'\037' -v ON_ERROR_STOP=1 -U demo_web -f "$work/request.sql" 2>&1); then
		output=$(paste -sd ' ' <<<"$output")
		code=$(cut -d $'\037' -f 5 <<<"$output")
		case $method in
			POST) [[ $path == /rpc/* ]] && echo "  ${code:-200}" || echo "  ${code:-201}" ;;
			*) echo "  ${code:-200}" ;;
		esac
		cut -d $'\037' -f 4 <<<"$output" |
			grep -oE '"(Idempotency-Replayed|Location|Content-Disposition|Export-[A-Za-z]+|Repr-Digest)": "([^"\\]|\\.)*"' |
			sed 's/^"\([^"]*\)": "\(.*\)"$/      \1: \2/; s/\\"/"/g'
		cut -d $'\037' -f 3 <<<"$output" | tr '\036' '\n' | brief
	else
		code=$(sed -n 's/.*ERROR:  \([0-9A-Z]\{5\}\): .*/\1/p' <<<"$output" | head -n 1)
		echo "  $(status_of "$code" "$who")"
		grep -E 'ERROR|DETAIL|HINT' <<<"$output" | sed 's/.*\(ERROR\|DETAIL\|HINT\): */      \1: /'
	fi
}
