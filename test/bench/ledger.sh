#!/bin/bash
# What a transfer costs, and a busy account: single transfers, each a transaction,
#   ringfence  by ringfence.transfer()
#   pgledger   by its own function, if PGLEDGER_DIR names a checkout of it
#   INSERTs    as two rows in a table like ringfence's, with its keys and indexes
#   by hand    as two UPDATEs of a balance per account and an INSERT, in PL/pgSQL
# in turns, by 1 and by 4 clients, which wait for the disk or not; between 10,000
# accounts, and with one account in all of them. Then batches in one statement, bytes
# on disk, and the time that ledger_verify() takes. All is done in a database of its
# own, removed at the end. Prints tables in Markdown; doc/benchmarks.md says how to
# read them.
: "${BENCH_ROUNDS:=6}" "${BENCH_MS:=500}"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"
bench_server 'fsync = on' 'full_page_writes = on' 'synchronous_commit = on' 'max_wal_size = 16GB' \
	'checkpoint_timeout = 1d' 'jit = off'

user=${PGUSER:-postgres}
maintenance=$PGDATABASE
database=ringfence_bench_ledger
org=bec40000-0000-7000-8000-000000000001
actor=bec40000-0000-7000-8000-000000000002
# What the id of an account begins with, here and in pgledger; the rest is a number
# of 12 digits.
key=bec40000-0000-7000-8000-
pgledger_key=pgla_01KBE8WV6PE2BS
accounts=10000
# How many transfers the bytes of one are an average of.
transfers=${BENCH_TRANSFERS:-200000}
# An ordinary account and one with a limit are two of these; the others are one each.
ordinary=100000000000 limited=300000000000
hot=200000000001 hot_limited=200000000002 hot_debited=200000000003

patterns=(spread limited hot hot-limited hot-debited)
others=(inserts-spread inserts-hot hand-spread hand-hot)
declare -A title=([spread]="between $accounts accounts" [limited]="between $accounts accounts with a limit"
	[hot]='one account credited in all' [hot-limited]='one account with a limit credited in all'
	[hot-debited]='one account with a limit debited in all')
if [ -n "${PGLEDGER_DIR:-}" ]; then
	others+=(pgledger-spread pgledger-hot)
fi

# Liabilities, as customers' balances are, and a platform's revenue.
load() {
	run_psql -o /dev/null -v database=$database -d "$maintenance" <<-'SQL' || return
		SET client_min_messages = warning;
		DROP DATABASE IF EXISTS :database;
		CREATE DATABASE :database TEMPLATE template0;
	SQL
	export PGDATABASE=$database
	run_psql -o /dev/null -v org=$org -v key=$key -v accounts=$accounts -v ordinary=$ordinary -v limited=$limited \
		-v hot=$hot -v hot_limited=$hot_limited -v hot_debited=$hot_debited <<-'SQL' &&
		SET client_min_messages = warning;
		CREATE EXTENSION ringfence;
		SELECT ringfence.install('core');
		CREATE SCHEMA bench_ledger;
		INSERT INTO ringfence_data.orgs (id, name) VALUES (:'org', 'Bench');
		INSERT INTO ringfence_data.ledger_assets (org_id, code, name, scale) VALUES (:'org', 'EUR', 'Euro', 2);
		INSERT INTO ringfence_data.ledger_accounts (org_id, id, code, name, asset, kind, no_overdraft, credit_limit)
		SELECT :'org', (:'key' || n)::uuid, n::text, 'Account ' || n, 'EUR', kind, credit_limit IS NOT NULL, coalesce(credit_limit, 0)
		FROM (
			SELECT :ordinary + i, 'liability', NULL FROM generate_series(0, :accounts - 1) AS i
			UNION ALL
			SELECT :limited + i, 'liability', 1000000000000 FROM generate_series(0, :accounts - 1) AS i
			UNION ALL
			VALUES (:hot, 'revenue', NULL), (:hot_limited, 'liability', 0), (:hot_debited, 'liability', 1000000000000000)
		) AS a (n, kind, credit_limit);

		CREATE TABLE bench_ledger.plain (LIKE ringfence_data.ledger_transfers INCLUDING INDEXES,
			FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id),
			FOREIGN KEY (org_id, debit_account_id, asset) REFERENCES ringfence_data.ledger_accounts (org_id, id, asset),
			FOREIGN KEY (org_id, credit_account_id, asset) REFERENCES ringfence_data.ledger_accounts (org_id, id, asset));
		CREATE TABLE bench_ledger.hand (LIKE bench_ledger.plain INCLUDING INDEXES,
			FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id),
			FOREIGN KEY (org_id, debit_account_id, asset) REFERENCES ringfence_data.ledger_accounts (org_id, id, asset),
			FOREIGN KEY (org_id, credit_account_id, asset) REFERENCES ringfence_data.ledger_accounts (org_id, id, asset));
		CREATE TABLE bench_ledger.hand_balances (
			org_id uuid NOT NULL,
			account_id uuid NOT NULL,
			debits bigint NOT NULL DEFAULT 0,
			credits bigint NOT NULL DEFAULT 0,
			PRIMARY KEY (org_id, account_id),
			FOREIGN KEY (org_id, account_id) REFERENCES ringfence_data.ledger_accounts (org_id, id)
		) WITH (fillfactor = 50);
		INSERT INTO bench_ledger.hand_balances (org_id, account_id) SELECT org_id, id FROM ringfence_data.ledger_accounts;
		-- In the order of ids, or two that cross would wait for each other.
		CREATE FUNCTION bench_ledger.pay(org uuid, who uuid, debit uuid, credit uuid, paid bigint) RETURNS uuid
		LANGUAGE plpgsql AS $$
		DECLARE
			new_id uuid := ringfence.uuid7();
		BEGIN
			IF debit < credit THEN
				UPDATE bench_ledger.hand_balances SET debits = debits + paid WHERE org_id = org AND account_id = debit;
				UPDATE bench_ledger.hand_balances SET credits = credits + paid WHERE org_id = org AND account_id = credit;
			ELSE
				UPDATE bench_ledger.hand_balances SET credits = credits + paid WHERE org_id = org AND account_id = credit;
				UPDATE bench_ledger.hand_balances SET debits = debits + paid WHERE org_id = org AND account_id = debit;
			END IF;
			INSERT INTO bench_ledger.hand (org_id, id, debit_account_id, credit_account_id, amount, posted_at, recorded_at, posted_on, asset, state, kind, actor)
			VALUES (org, new_id, debit, credit, paid, now(), now(), current_date, 'EUR', 'posted', 'bench', who);
			RETURN new_id;
		END
		$$;
	SQL
		load_batches && load_pgledger &&
		run_psql -c 'VACUUM (FREEZE, ANALYZE)' -c CHECKPOINT
}

# What batches are made of: an array kept ready for each size, and its elements.
load_batches() {
	run_psql -v org=$org -v key=$key -v accounts=$accounts -v ordinary=$ordinary -v hot=$hot <<-'SQL'
		CREATE TABLE bench_ledger.lines (n integer PRIMARY KEY, debit uuid NOT NULL, credit uuid NOT NULL, amount bigint NOT NULL);
		INSERT INTO bench_ledger.lines (n, debit, credit, amount)
		SELECT n, (:'key' || :ordinary + d)::uuid, (:'key' || :ordinary + (d + 1 + c) % :accounts)::uuid, 1 + n
		FROM (
			SELECT i, (random() * (:accounts - 1))::integer, (random() * (:accounts - 2))::integer FROM generate_series(1, 8000) AS i
		) AS r (n, d, c);
		CREATE TABLE bench_ledger.batches (pattern text NOT NULL, size integer NOT NULL, transfers ringfence.transfer[] NOT NULL);
		ALTER TABLE bench_ledger.batches ALTER COLUMN transfers SET STORAGE EXTERNAL;
		INSERT INTO bench_ledger.batches (pattern, size, transfers)
		SELECT pattern, size, ARRAY(
			SELECT (NULL, l.debit, CASE pattern WHEN 'hot' THEN (:'key' || :hot)::uuid ELSE l.credit END, l.amount,
				NULL, 'bench', NULL, NULL, NULL, NULL, NULL, NULL, false)::ringfence.transfer
			FROM bench_ledger.lines AS l WHERE l.n <= size ORDER BY l.n)
		FROM unnest(ARRAY['spread', 'hot']) AS pattern, unnest(ARRAY[1, 100, 8000]) AS size;
	SQL
}

# As its functions would make the accounts, but for their ids.
load_pgledger() {
	local files
	[ -n "${PGLEDGER_DIR:-}" ] || return 0
	files=("$PGLEDGER_DIR"/vendor/*/*.sql "$PGLEDGER_DIR/pgledger.sql")
	run_psql -c 'CREATE SCHEMA pgledger' || return
	PGOPTIONS='-c search_path=pgledger -c client_min_messages=warning' run_psql -o /dev/null "${files[@]/#/-f}" || return
	PGOPTIONS='-c search_path=pgledger' run_psql -v key=$pgledger_key -v accounts=$accounts -v ordinary=$ordinary -v hot=$hot <<-'SQL'
		INSERT INTO pgledger_accounts (id, name, currency, allow_negative_balance, allow_positive_balance, created_at, updated_at)
		SELECT :'key' || n, 'Account ' || n, 'EUR', true, true, now(), now()
		FROM (SELECT :ordinary + i FROM generate_series(0, :accounts - 1) AS i UNION ALL VALUES (:hot)) AS a (n);
		CREATE TABLE batches (size integer NOT NULL, transfers transfer_request[] NOT NULL);
		ALTER TABLE batches ALTER COLUMN transfers SET STORAGE EXTERNAL;
		INSERT INTO batches (size, transfers)
		SELECT size, ARRAY(SELECT (:'key' || right(l.debit::text, 12), :'key' || right(l.credit::text, 12), l.amount)::transfer_request
			FROM bench_ledger.lines AS l WHERE l.n <= size ORDER BY l.n)
		FROM unnest(ARRAY[1, 100, 8000]) AS size;
	SQL
}

# write_accounts PATTERN: the numbers of two accounts, d and c.
write_accounts() {
	local first=$ordinary
	[ "$1" != limited ] || first=$limited
	cat <<-SQL
		\\set i random(0, $accounts - 1)
		\\set d $first + :i
		\\set c $first + (:i + random(1, $accounts - 1)) % $accounts
	SQL
	case $1 in
	hot) echo "\\set c $hot" ;;
	hot-limited) echo "\\set c $hot_limited" ;;
	hot-debited) echo "\\set d $hot_debited" ;;
	esac
}

# write_insert: a row in the table that is like ringfence's.
write_insert() {
	cat <<-SQL
		INSERT INTO bench_ledger.plain (org_id, id, debit_account_id, credit_account_id, amount, posted_at, recorded_at, posted_on, asset, state, kind, actor) VALUES ('$org', ringfence.uuid7(), ('$key' || :d)::uuid, ('$key' || :c)::uuid, 100, now(), now(), current_date, 'EUR', 'posted', 'bench', '$actor');
	SQL
}

# write_single TOOL PATTERN: a transaction with one transfer, in one round trip.
write_single() {
	write_accounts "$2"
	case $1 in
	ringfence)
		echo "SELECT ringfence.set_context('$org', '$actor'), ringfence.transfer(('$key' || :d)::uuid, ('$key' || :c)::uuid, 100, 'bench');"
		;;
	pgledger) echo "SELECT id FROM pgledger_create_transfer('$pgledger_key' || :d, '$pgledger_key' || :c, 100);" ;;
	hand) echo "SELECT bench_ledger.pay('$org', '$actor', ('$key' || :d)::uuid, ('$key' || :c)::uuid, 100);" ;;
	inserts)
		printf '\\startpipeline\nBEGIN;\n'
		write_insert
		write_insert
		printf 'COMMIT;\n\\endpipeline\n'
		;;
	esac
}

# write_batch WHAT SIZE: a transaction with one statement. One that is refused is an
# error here.
write_batch() {
	local array="SELECT transfers FROM bench_ledger.batches WHERE pattern = 'spread' AND size = $2" statement
	statement="SELECT 1 / (count(*) FILTER (WHERE code = 'ok') = $2)::integer FROM ringfence.transfers(ARRAY_HERE);"
	case $1 in
	ringfence) ;;
	hot) array=${array/spread/hot} ;;
	built)
		array="SELECT (ringfence.uuid7(), debit, credit, amount, NULL, 'bench', NULL, NULL, NULL, NULL, NULL, NULL, false)::ringfence.transfer FROM bench_ledger.lines WHERE n <= $2 ORDER BY n"
		statement=${statement/ARRAY_HERE/ARRAYARRAY_HERE}
		;;
	read) statement='SELECT cardinality(ARRAY_HERE);' ;;
	inserts)
		statement="INSERT INTO bench_ledger.plain (org_id, id, debit_account_id, credit_account_id, amount, posted_at, recorded_at, posted_on, asset, state, kind, actor) SELECT '$org', ringfence.uuid7(), debit, credit, amount, now(), now(), current_date, 'EUR', 'posted', 'bench', '$actor' FROM bench_ledger.lines WHERE n <= $2 ORDER BY n;"
		;;
	pgledger)
		echo "SELECT count(*) FROM pgledger_create_transfers((SELECT transfers FROM batches WHERE size = $2), NULL, NULL);"
		return
		;;
	esac
	printf '\\startpipeline\nBEGIN;\n'
	echo "SELECT ringfence.set_context('$org', '$actor');"
	echo "${statement/ARRAY_HERE/($array)}"
	printf 'COMMIT;\n\\endpipeline\n'
}

# options VARIANT WAIT: what the sessions of a variant run with.
options() {
	printf -- '-c jit=off -c synchronous_commit=%s ' "$2"
	case $1 in
	pgledger*) echo '-c search_path=pgledger' ;;
	*) echo '-c session_preload_libraries=ringfence' ;;
	esac
}

# in_turns ROUND: the variants of a round, which begins with another one each time.
in_turns() {
	local i
	for i in "${!variants[@]}"; do
		echo "${variants[($1 + i) % ${#variants[@]}]}"
	done
}

# measure CLIENTS WAIT VARIANT...: rounds of all variants in turns, whose scripts are
# there, into lists of milliseconds.
measure() {
	local wait=$2 round variant ms
	clients=$1
	shift 2
	variants=("$@")
	declare -gA lists=()
	run_psql -c 'VACUUM ANALYZE' -c CHECKPOINT
	for ((round = 0; round <= rounds; round++)); do
		for variant in $(in_turns "$round"); do
			ms=$(PGOPTIONS=$(options "$variant" "$wait") run_pgbench "$user" "$scripts/$variant.sql") || exit 1
			# The first round warms up.
			[ "$round" = 0 ] || lists[$variant]+=" $ms"
		done
	done
}

# times VARIANT OTHER: how many times as fast the variant is, or "-".
times() {
	if [ -n "${lists[$2]:-}" ]; then
		show "$(ratios "${lists[$1]}" "${lists[$2]}")"
	else
		printf -- '-'
	fi
}

# per_second VARIANT [TRANSFERS]
per_second() {
	# shellcheck disable=SC2086
	awk -v n="${2:-1}" -v ms="$(median ${lists[$1]})" 'BEGIN { printf "%.0f", 1000 * n / ms }'
}

# single CLIENTS WAIT [TARGET...]: a table of single transfers; the targets are of the
# patterns in turn.
single() {
	local pattern variant other
	rm -f "$scripts"/*
	for variant in "${patterns[@]/#/ringfence-}" "${others[@]}"; do
		write_single "${variant%%-*}" "${variant#*-}" >"$scripts/$variant.sql"
	done
	measure "$1" "$2" "${patterns[@]/#/ringfence-}" "${others[@]}"
	printf '\n| single transfers, clients: %s, synchronous_commit %s | 1/s | / spread | / pgledger | / two INSERTs | / by hand | target |\n' "$1" "$2"
	printf '| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n'
	shift 2
	for pattern in "${patterns[@]}"; do
		variant=ringfence-$pattern other=hot
		[[ $pattern = hot* ]] || other=spread
		printf '| %s | %s | %s | %s | %s | %s | %s |\n' "${title[$pattern]}" "$(per_second "$variant")" \
			"$(times "$variant" ringfence-spread)" "$(times "$variant" pgledger-$other)" \
			"$(times "$variant" inserts-$other)" "$(times "$variant" hand-$other)" "${1:-}"
		shift $(($# > 0))
	done
	for variant in "${others[@]}"; do
		printf '| %s | %s | %s | | | | |\n' "${variant/-/, }" "$(per_second "$variant")" "$(times "$variant" ringfence-spread)"
	done
}

# report_batch TITLE VARIANT SIZE TARGET
report_batch() {
	local alone=-
	if [ -n "${lists[read-$3]:-}" ] && [[ $2 != built-* ]]; then
		# shellcheck disable=SC2086
		alone=$(awk -v n="$3" -v all="$(median ${lists[$2]})" -v read="$(median ${lists[read-$3]})" \
			'BEGIN { printf "%.0f", 1000 * n / (all - read) }')
	fi
	printf '| %s | %s | %s | %s | %s | %s |\n' "$1" "$(per_second "$2" "$3")" "$alone" \
		"$(times "$2" "pgledger-$3")" "$(times "$2" "inserts-$3")" "$4"
}

batches() {
	local size variant list
	cat <<-'END'

		| batches, 1 client, synchronous_commit off | transfers/s | without reading the array | / pgledger | / INSERT ... SELECT | target |
		| --- | ---: | ---: | ---: | ---: | ---: |
	END
	for size in 1 100 8000; do
		rm -f "$scripts"/*
		list=("ringfence-$size" "hot-$size" "built-$size" "read-$size" "inserts-$size")
		[ -z "${PGLEDGER_DIR:-}" ] || list+=("pgledger-$size")
		for variant in "${list[@]}"; do
			write_batch "${variant%-*}" $size >"$scripts/$variant.sql"
		done
		measure 1 off "${list[@]}"
		report_batch "$size in an array" "ringfence-$size" "$size" "$([ "$size" != 8000 ] || echo '>= 100000')"
		report_batch "$size that credit one account" "hot-$size" "$size" ''
		report_batch "$size made in the statement, with ids" "built-$size" "$size" ''
	done
}

# size TABLE...: rows of the first, bytes of all, bytes of their indexes.
size() {
	run_psql -F ' ' -c "SELECT (SELECT count(*) FROM $1), sum(pg_table_size(rel)), sum(pg_indexes_size(rel))
		FROM unnest(string_to_array('$*', ' ')::regclass[]) AS rel"
}

# report_size NAME TARGET TABLE...: what a row of the first takes on average.
report_size() {
	local name=$1 target=$2
	shift 2
	size "$@" | awk -v name="$name" -v target="$target" '{
		printf "| %s | %d | %.0f | %.0f | %.0f | %s |\n", name, $1, $2 / $1, $3 / $1, ($2 + $3) / $1, target }'
}

# post TOOL COUNT: so many transfers, by 4 clients.
post() {
	PGOPTIONS=$(options "$1" off) pgbench -n -M prepared -U "$user" -c 4 -t $(($2 / 4)) -f "$scripts/$1.sql" >"$scripts/$1.log" 2>&1 || {
		cat "$scripts/$1.log" >&2
		return 1
	}
}

# sizes: fills the tables. The first few are for the statistics: a plan made for an
# empty table reads all of it, as long as its session lasts.
sizes() {
	local tool tools=(ringfence)
	[ -z "${PGLEDGER_DIR:-}" ] || tools+=(pgledger)
	for tool in "${tools[@]}"; do
		write_single "$tool" spread >"$scripts/$tool.sql"
		post "$tool" 4000 && run_psql -c 'VACUUM ANALYZE' && post "$tool" "$transfers" || return
	done
	printf '\n| bytes | rows | row | indexes | together | target |\n| --- | ---: | ---: | ---: | ---: | ---: |\n'
	report_size 'a transfer' '<= 350' ringfence_data.ledger_transfers
	[ -z "${PGLEDGER_DIR:-}" ] ||
		report_size 'a transfer of pgledger, with its entries' '' pgledger.pgledger_transfers pgledger.pgledger_entries
	report_size 'a balance' '' ringfence_data.ledger_balances
}

# What was measured is a ledger in order.
verify() {
	local findings ms rows
	rows=$(run_psql -c 'SELECT count(*) FROM ringfence_data.ledger_transfers')
	ms=$(run_psql -c '\timing on' -c "SELECT f.code, f.object, f.detail FROM ringfence.ledger_verify('$org') AS f" |
		tee "$scripts/findings" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | grep .) || die "ledger_verify() failed"
	findings=$(grep -v '^Time: ' "$scripts/findings")
	[ -z "$findings" ] || die "ledger_verify() found: $findings"
	printf '\nledger_verify() went through %s transfers in %s s and found nothing.\n' "$rows" "$(show "$(divide "$ms" 1000)")"
}

load || die "could not load the rows"
bench_conditions
[ -n "${PGLEDGER_DIR:-}" ] || echo 'Without pgledger: PGLEDGER_DIR names no checkout of it.'
if [ "$(run_psql -c 'SHOW fsync')" = off ]; then
	echo 'fsync is off: whether commits wait makes no difference.'
fi
sizes || exit 1
single 4 off '>= 4 pgledger' '' '>= 8 pgledger, >= 0.8 spread'
single 1 off
single 4 on
single 1 on
batches
verify
run_psql -d "$maintenance" -c "DROP DATABASE $database"
