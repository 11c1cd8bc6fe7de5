#!/bin/bash
# Every SQL file of the extension and of the apps is in the Makefile's lists;
# demo data is no part of an app.
set -u
cd "$(dirname "$0")/../.." || exit 1
status=0
for file in sql/*.sql apps/*/*.sql; do
	case $file in
		sql/ringfence--*.sql | */demo.sql) continue ;;
		sql/*) list=$(sed -n '/^SQL_FILES/,/[^\\]$/p' Makefile) ;;
		apps/*) list=$(sed -n "/^APP_$(basename "$(dirname "$file")") /,/[^\\\\]\$/p" Makefile) ;;
	esac
	grep -qw -- "$(basename "$file")" <<<"$list" || {
		echo "$file is in no list of the Makefile"
		status=1
	}
done
exit $status
