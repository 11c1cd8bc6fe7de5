# Sourced by the scripts of test/ and demo/: packages, the user that servers run
# as, a private copy of the PostgreSQL installation, clusters. Callers set top
# to the checkout; prepare_work sets work, a folder that run_as may write.

# What an outer make hands down is not meant for the makes started here.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
export LC_ALL=C.UTF-8 PGAPPNAME=ringfence
# runuser and useradd are there, which a plain su does not look into.
export PATH=$PATH:/usr/sbin:/sbin

die() {
	printf '%s\n' "$*" >&2
	exit 1
}

# PostgreSQL: PG_CONFIG, else the newest that Debian installed.
find_pg_config() {
	local candidate
	if command -v "${PG_CONFIG:-pg_config}" >/dev/null &&
		[ -x "$("${PG_CONFIG:-pg_config}" --bindir)/postgres" ]; then
		PG_CONFIG=$(command -v "${PG_CONFIG:-pg_config}")
		return
	fi
	for candidate in $(printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | sort -Vr); do
		if [ -x "${candidate%/*}/postgres" ]; then
			PG_CONFIG=$candidate
			return
		fi
	done
	return 1
}

# Major version of the server, or of the one that packages are taken of.
pg_major() {
	"${PG_CONFIG:-pg_config}" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p' | grep . || echo 15
}

missing=()

# need PACKAGE COMMAND...: remembers the package where the command fails.
need() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

# A control file of the server's, by the extension's name.
has_extension() {
	[ -f "$("$PG_CONFIG" --sharedir)/extension/$1.control" ]
}

install_missing() {
	local sudo=
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		sudo='sudo -n'
		$sudo true 2>/dev/null ||
			die "missing packages: ${missing[*]} (install them, or run this as root or where sudo asks for no password)"
	fi
	command -v apt-get >/dev/null || die "missing packages: ${missing[*]} (there is no apt-get here to install them with)"
	echo "installing ${missing[*]}"
	# Old lists name old versions; without any network the packages may be cached.
	$sudo env DEBIAN_FRONTEND=noninteractive sh -c '
		apt-get update -q
		apt-get install -y -q --no-install-recommends "$@"' sh "${missing[@]}" \
		>"${1:-/dev/null}" 2>&1 </dev/null || die "could not install: ${missing[*]}"
	missing=()
}

# What building and running the server takes.
need_server() {
	local major
	major=$(pg_major)
	need gcc command -v gcc
	need libc6-dev test -f /usr/include/stdlib.h
	need libssl-dev test -f /usr/include/openssl/evp.h
	if ! find_pg_config; then
		missing+=("postgresql-$major")
	fi
	need "postgresql-server-dev-$major" \
		sh -c "test -f \"\$('${PG_CONFIG:-pg_config}' --pgxs)\" && test -f \"\$('${PG_CONFIG:-pg_config}' --includedir-server)/postgres.h\""
	install_missing
	find_pg_config || die "no PostgreSQL server beside ${PG_CONFIG:-pg_config}"
	[ "$(pg_major)" -ge 15 ] || die "PostgreSQL $(pg_major) is too old: 15 or later is needed"
	export PG_CONFIG
}

# Servers refuse to run as root: then the packaged user, or one made for it.
choose_user() {
	run_as=
	[ "$(id -u)" = 0 ] || return 0
	for run_as in postgres ringfence; do
		getent passwd $run_as >/dev/null && return
	done
	useradd --system --shell /bin/bash ringfence
}

as_user() {
	if [ -n "$run_as" ]; then
		runuser -u "$run_as" -- "$@"
	else
		"$@"
	fi
}

# work: the folder $1, or one elsewhere, with $1 a link to it, where the other
# user can't reach it or its name has what a Makefile can't bear.
prepare_work() {
	choose_user
	mkdir -p "$1" || exit 1
	work=$(cd "$1" && pwd -P)
	[ -z "$run_as" ] || chown "$run_as" "$work"
	if [[ $work == *[[:space:]]* ]] || ! as_user test -w "$work"; then
		if [ -L "$1" ]; then
			rm -rf "$(readlink "$1")"
		fi
		rm -rf "$1"
		work=$(mktemp -d /tmp/ringfence.XXXXXX) || exit 1
		[ -z "$run_as" ] || chown "$run_as" "$work"
		ln -sfn "$work" "$1"
	fi
}

# A copy of the checkout to build in, so that it stays as it is.
copy_tree() {
	rm -rf "$2"
	mkdir -p "$2"
	tar -C "$1" --exclude=./.git --exclude=./tmp_check --exclude=./coverage --exclude=./demo/cluster \
		--exclude=node_modules --exclude='*.o' --exclude='*.bc' --exclude='*.so' -cf - . | tar -C "$2" -xf -
}

# A copy of the PostgreSQL installation under $1, links but for the programs,
# which find their files relative to themselves. What is installed there touches
# no other server of the machine, and needs no rights.
copy_installation() {
	local to=$1 bindir pkglibdir sharedir includedir
	bindir=$("$PG_CONFIG" --bindir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	sharedir=$("$PG_CONFIG" --sharedir)
	includedir=$("$PG_CONFIG" --includedir)
	rm -rf "$to"
	mkdir -p "$to$bindir" "$to$pkglibdir" "$to$sharedir" "$to$(dirname "$includedir")"
	cp -L "$bindir"/* "$to$bindir/"
	cp -rs "$pkglibdir/." "$to$pkglibdir/"
	cp -rs "$sharedir/." "$to$sharedir/" 2>/dev/null
	ln -sfn "$includedir" "$to$includedir"
	rm -rf "$to$pkglibdir"/ringfence.so "$to$pkglibdir"/bitcode/ringfence* "$to$sharedir"/extension/ringfence*
	[ "$("$to$bindir/pg_config" --pkglibdir)" = "$to$pkglibdir" ] ||
		die "this PostgreSQL can't be moved: its programs expect their files in $pkglibdir"
}

# Points PATH and PG_CONFIG at the copy of the installation in $1.
use_installation() {
	bindir=$1$("$PG_CONFIG" --bindir)
	PG_CONFIG=$bindir/pg_config
	export PG_CONFIG PATH="$bindir:$PATH"
}

# A folder for unix sockets, whose names must stay under 107 bytes.
socket_dir() {
	local dir=$1/socket
	if [ ${#dir} -gt 80 ]; then
		dir=$(mktemp -d /tmp/ringfence.XXXXXX)
	fi
	mkdir -p "$dir"
	chmod 700 "$dir"
	printf '%s\n' "$dir"
}

# make_cluster DIR SOCKETDIR PORT [SETTING...]: initdb, with trust for those who
# can reach the socket. No TCP.
make_cluster() {
	local data=$1 socket=$2 port=$3
	shift 3
	initdb -D "$data" -U postgres -A trust -E UTF8 --no-locale -N >/dev/null || return 1
	# A key for the seal of the audit log; everybody knows it.
	(umask 077 && printf '%s\n' '-----BEGIN PRIVATE KEY-----' \
		MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f \
		'-----END PRIVATE KEY-----' >"$data/audit_key.pem") || return 1
	{
		printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$socket'" "port = $port" \
			"max_connections = 60" "max_prepared_transactions = 5" "log_line_prefix = '%m [%p] %q%u@%d '" \
			"timezone = 'UTC'" "ringfence.audit_key_file = 'audit_key.pem'"
		[ $# -eq 0 ] || printf '%s\n' "$@"
	} >>"$data/postgresql.conf"
}

start_cluster() {
	pg_ctl -D "$1" -l "$2" -w -t 120 start >/dev/null </dev/null || {
		tail -n 20 "$2" >&2
		return 1
	}
}

stop_cluster() {
	[ ! -f "$1/postmaster.pid" ] || pg_ctl -D "$1" -m "${2:-fast}" -w -t 120 stop >/dev/null 2>&1
}

# A TCP port that nothing listens on.
free_port() {
	local port
	for port in $(shuf -i 20000-32000 -n 50); do
		(: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || {
			echo "$port"
			return
		}
	done
	return 1
}

# ringfence with core, cleaning with demo data, and merchant in the database that the
# environment names; $1 is the source tree, $2 the scale.
install_apps() {
	psql -X -q -v ON_ERROR_STOP=1 -o /dev/null <<-'SQL' &&
		SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) \gexec
		CREATE EXTENSION ringfence;
		SELECT ringfence.install('core');
		SELECT ringfence.install('cleaning');
		SELECT ringfence.install('merchant');
	SQL
		psql -X -q -v ON_ERROR_STOP=1 -v "scale=$2" -o /dev/null -f "$1/apps/cleaning/demo.sql"
}
