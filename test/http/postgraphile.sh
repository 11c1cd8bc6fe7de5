#!/bin/bash
# PostGraphile, given the same claims, answers as PostgREST does.
set -u
. "$(dirname "$0")/prepare.sh"
run_tests postgraphile.test.js
