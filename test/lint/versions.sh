#!/bin/bash
# The version in the control file is the one in META.json and at the head of
# the CHANGELOG; META.json names files that exist.
set -u
cd "$(dirname "$0")/../.." || exit 1
version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" ringfence.control)
status=0
same() {
	[ "$2" = "$version" ] || {
		echo "$1 says \"$2\", ringfence.control says \"$version\""
		status=1
	}
}
same 'META.json, version' "$(jq -r .version META.json)"
same 'META.json, provides.ringfence.version' "$(jq -r .provides.ringfence.version META.json)"
same 'CHANGELOG.md, newest entry' "$(sed -n 's/^## \([0-9][0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)"
for file in $(jq -r '.provides[] | .docfile' META.json); do
	[ -f "$file" ] || {
		echo "META.json names $file, which does not exist"
		status=1
	}
done
exit $status
