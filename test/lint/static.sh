#!/bin/bash
# cppcheck finds nothing in src/. What the server's macros mean is said here,
# since reading its headers for each file takes minutes.
set -u
cd "$(dirname "$0")/../.." || exit 1
cppcheck --quiet --language=c --std=c99 --enable=warning,performance,portability --inline-suppr \
	--error-exitcode=1 --suppress=missingInclude --suppress=missingIncludeSystem --suppress=unknownMacro \
	-D'PG_MODULE_MAGIC=' -D'PG_FUNCTION_INFO_V1(f)=' -D'PGDLLEXPORT=' -D'PG_TRY()=if(1)' -D'Assert(condition)=((condition) ? (void) 0 : abort())' \
	-D'ereport(level, ...)=abort()' -D'elog(level, ...)=abort()' -D'PG_VERSION_NUM=150000' -I src src
