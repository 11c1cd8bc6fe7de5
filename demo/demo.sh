#!/bin/bash
# Builds ringfence, makes a private PostgreSQL cluster in demo/cluster with
# three cleaning companies and two operators of chargers in it, and shows the same
# requests made by different people, one that is sent three times, what is on record
# of them, how a forgery of that is found, a driver's reward from the first tap
# to the books, a ledger that leaves as a file, how long things are kept, and what
# remains of people who want to be forgotten. With PostgREST on PATH, or named by POSTGREST, they
# go over HTTP; else, or with POSTGREST empty, psql sends the statements that
# PostgREST would send. SCALE=N loads about N thousand bookings. Run it as often
# as you like; demo/stop.sh ends it.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
top=$PWD
. test/lib/common.sh
unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGDATABASE PGSERVICE PGOPTIONS
. demo/show.sh

scale=${SCALE:-1}
[[ $scale =~ ^[1-9][0-9]{0,4}$ ]] || die "SCALE is a number from 1 to 99999, not \"$scale\""
postgrest=${POSTGREST-$(command -v postgrest)}

prepare_work demo/cluster
need_server
need openssl command -v openssl
if [ -n "$postgrest" ]; then
	need curl command -v curl
fi
install_missing "$work/packages.log"

# In the work folder as the unprivileged user, with the copied installation.
in_demo() {
	(cd "$work" && as_user env PATH="$PATH" PG_CONFIG="$PG_CONFIG" HOME="$work" "$@" </dev/null)
}

bold "building and installing into demo/cluster"
original_bindir=$("$PG_CONFIG" --bindir)
copy_tree "$top" "$work/src"
if [ ! -x "$work/installation$original_bindir/postgres" ]; then
	copy_installation "$work/installation"
fi
[ -z "$run_as" ] || chown -R "$run_as" "$work/src" "$work/installation"
use_installation "$work/installation"
in_demo make -s -C src clean >"$work/build.log" 2>&1
in_demo make -s -C src -j "$(nproc)" all install >>"$work/build.log" 2>&1 || {
	tail -n 40 "$work/build.log"
	die "could not build; all of it is in $work/build.log"
}

# A cluster of other scripts or another scale is made anew.
made="$(cat "$work"/src/sql/ringfence--*.sql "$work"/src/apps/ringfence-*--*.sql "$work/src"/apps/*/demo.sql "$work/src/demo/setup.sql" | md5sum | cut -d ' ' -f 1) $scale"
if [ -d "$work/data" ] && [ "$(cat "$work/made" 2>/dev/null)" != "$made" ]; then
	echo "the cluster there is of another version or scale: making a new one"
	demo/stop.sh >/dev/null
	rm -rf "$work/data"
fi
if [ ! -d "$work/data" ]; then
	rm -f "$work/made"
	socket=$(socket_dir "$work")
	[ -z "$run_as" ] || chown "$run_as" "$socket"
	port=$(free_port) || die "no free port"
	printf 'export PGHOST=%q PGPORT=%q PGUSER=postgres PGDATABASE=demo\n' "$socket" "$port" >"$work/connection"
	in_demo bash -c ". '$work/src/test/lib/common.sh' && make_cluster '$work/data' '$socket' '$port' 'fsync = off' 'max_wal_size = 2GB' 'shared_buffers = 256MB' \"ringfence.audit_key_file = '$work/audit.pem'\"" ||
		die "could not make the cluster"
fi
# What the audit log is sealed with: the server's alone to read, and no part of
# its data.
if [ ! -f "$work/audit.pem" ]; then
	in_demo bash -c 'umask 077 && openssl genpkey -algorithm ed25519 -out audit.pem' || die "could not make the audit key"
fi
. "$work/connection"
mkdir -p "$PGHOST"
[ -z "$run_as" ] || chown "$run_as" "$PGHOST"
if ! in_demo pg_ctl -D "$work/data" status >/dev/null; then
	in_demo bash -c ". '$work/src/test/lib/common.sh' && start_cluster '$work/data' '$work/server.log'" || die "could not start the cluster"
fi
if [ ! -f "$work/made" ]; then
	bold "installing core, cleaning and merchant, loading demo data at scale $scale"
	psql -X -q -d postgres -c 'DROP DATABASE IF EXISTS demo' -c 'CREATE DATABASE demo' 2>/dev/null &&
		install_apps "$work/src" "$scale" &&
		psql -X -q -v ON_ERROR_STOP=1 -v "scale=$scale" -f "$work/src/apps/merchant/demo.sql" -f "$work/src/demo/setup.sql" ||
		die "could not set up the demo database"
	echo "$made" >"$work/made"
fi

tokens
if [ -n "$postgrest" ]; then
	start_postgrest
fi
. demo/requests.sh
. demo/merchant_requests.sh
. demo/export_requests.sh
. demo/erasure_requests.sh

echo
bold "What protects all this, looked over: SELECT * FROM ringfence.verify()"
findings=$(psql -X -q -P footer=off -c 'SELECT severity, code, object, message FROM ringfence.verify()')
if [ "$(wc -l <<<"$findings")" -gt 2 ]; then
	sed 's/^/  /' <<<"$findings"
else
	echo "  nothing to report"
fi

echo
bold "Look around"
echo "  psql -h $PGHOST -p $PGPORT -U postgres demo"
if [ -n "$postgrest" ]; then
	echo "  . demo/cluster/tokens     # then the curl lines above work as they stand"
	echo "  curl -s '$url/clients?limit=1' -H 'Authorization: Bearer $(token_of alder_owner)'"
fi
echo "  make demo-stop"
