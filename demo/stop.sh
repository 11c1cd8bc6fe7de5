#!/bin/bash
# Ends what demo/demo.sh started; the cluster's files stay for the next run.
set -u
cd "$(dirname "$0")/.." || exit 1
top=$PWD
. test/lib/common.sh
if [ ! -d demo/cluster ]; then
	echo "there is no demo cluster"
	exit
fi
prepare_work demo/cluster
if [ -f "$work/postgrest.pid" ]; then
	pid=$(cat "$work/postgrest.pid")
	if [ "$(readlink "/proc/$pid/exe")" = "$(cat "$work/postgrest.exe")" ]; then
		kill "$pid"
	fi
	rm -f "$work/postgrest.pid"
fi
if [ -f "$work/data/postmaster.pid" ]; then
	pg_ctl=$(find "$work/installation" -name pg_ctl -path '*/bin/*' | head -n 1)
	as_user "$pg_ctl" -D "$work/data" -m fast -w stop >/dev/null 2>&1 </dev/null
fi
echo "the demo is stopped; rm -rf demo/cluster removes its files"
