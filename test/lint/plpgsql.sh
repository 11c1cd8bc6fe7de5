#!/bin/bash
# plpgsql_check finds nothing in the PL/pgSQL functions of the extension and the
# apps; it runs in the database that the environment names.
set -u
cd "$(dirname "$0")/../.." || exit 1
exec psql -X -q -v ON_ERROR_STOP=1 -f test/lint/plpgsql.sql
