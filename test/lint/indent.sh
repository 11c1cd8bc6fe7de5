#!/bin/bash
# src/ is laid out as pg_bsd_indent does it with pgindent's flags; --write
# rewrites it so.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
top=$PWD
. test/lib/common.sh
need_server
need pg-bsd-indent command -v pg_bsd_indent
install_missing

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The server's types, out of its headers, and ours; less the names that pgindent
# leaves out because they are also those of variables and fields.
{
	find -L "$("$PG_CONFIG" --includedir-server)" -name '*.h' -print0 |
		xargs -0 perl -0777 -ne '
			print "$1\n" while /^typedef\b[^;{}()]*?\b(\w+)\s*(?:\[[^\]]*\])?;/gm;
			print "$1\n" while /^typedef\b[^;{}]*?\(\s*\*\s*(\w+)\s*\)/gm;
			print "$1\n" while /^\}\s*(?:pg_attribute\w+\(\w*\)\s*)?\*?(\w+);/gm;'
	cat typedefs.list
} | LC_ALL=C sort -u | grep '^[A-Za-z_]' | grep -vxE 'ANY|FD_SET|U_SHORT|abs|allocfunc|boolean|date|digit|ilist|interval|iterator|other|pointer|printfunc|reference|string|timestamp|type|wrap' \
	>"$scratch/typedefs"

flags='-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 -lp -lpl -nip -npro -sac -tpg -ts4'
status=0
for file in src/*.[ch] test/fuzz/*.[ch]; do
	[ -e "$file" ] || continue
	# shellcheck disable=SC2086
	pg_bsd_indent $flags "-U$scratch/typedefs" <"$file" >"$scratch/out" 2>"$scratch/err" || {
		sed "s|^|$file: |" "$scratch/err"
		status=1
		continue
	}
	# A function's return type keeps one blank before its star, as pgindent has it.
	sed -E -i 's/^([A-Za-z_][A-Za-z_0-9 ]*[A-Za-z_0-9])[[:blank:]]+(\*+)$/\1 \2/' "$scratch/out"
	if [ "${1-}" = --write ]; then
		cmp -s "$file" "$scratch/out" || cat "$scratch/out" >"$file"
	else
		diff -u --label "$file" --label "$file, indented" "$file" "$scratch/out" || status=1
	fi
done
exit $status
