#!/bin/bash
# Our scripts hold nothing that shellcheck warns of.
set -u
cd "$(dirname "$0")/../.." || exit 1
grep -rlE --exclude-dir=node_modules '^#!/bin/(ba)?sh' .ci demo test | sort |
	xargs shellcheck --severity=warning --external-sources --exclude=SC1091,SC2153,SC2154,SC2034
