#!/bin/bash
# Runs each fuzz_NAME.c here for its share of FUZZ_SECONDS, under the address
# and undefined behaviour sanitizers; what it finds is left in tmp_check/fuzz.
# A corpus lies in NAME.seeds/, a dictionary in NAME.dict, if there is one.
set -u
cd "$(dirname "$0")" || exit 1
fuzz=${RINGFENCE_WORK:?}/fuzz
harnesses=(fuzz_*.c)
seconds=$((${FUZZ_SECONDS:-60} / ${#harnesses[@]}))
[ "$seconds" -gt 0 ] || seconds=1
status=0
for harness in "${harnesses[@]}"; do
	name=${harness#fuzz_}
	name=${name%.c}
	mkdir -p "$fuzz/$name"
	if ! clang -g -O1 -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined -fwrapv -Wno-ignored-attributes -DFRONTEND -D_GNU_SOURCE -I. -I../../src \
		-I"$("$PG_CONFIG" --includedir-server)" -o "$fuzz/fuzz_$name" "$harness" memory.c \
		../../src/claims.c ../../src/jose.c ../../src/idempotency_wire.c ../../src/csv_split.c \
		-L"$("$PG_CONFIG" --pkglibdir)" -L"$("$PG_CONFIG" --libdir)" -lpgcommon -lpgport -lcrypto -lm; then
		status=1
		continue
	fi
	arguments=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
		-artifact_prefix="$fuzz/$name-" "$fuzz/$name")
	[ ! -f "$name.dict" ] || arguments+=(-dict="$name.dict")
	[ ! -d "$name.seeds" ] || arguments+=("$name.seeds")
	if "$fuzz/fuzz_$name" "${arguments[@]}" >"$fuzz/$name.log" 2>&1; then
		printf '%s: %s inputs in %s s, no failure\n' "$name" \
			"$(sed -n 's/^stat::number_of_executed_units: *//p' "$fuzz/$name.log")" "$seconds"
	else
		tail -n 60 "$fuzz/$name.log"
		status=1
	fi
done
exit $status
