#!/usr/bin/env bash
# A Globus GRAM5 gatekeeper of one node on this machine, from Debian's packages of
# the Grid Community Toolkit, without systemd: jobs as forked processes of the user
# floegrid, which it makes. A GridFTP server beside it.
#
# usage: globus.sh install | start | stop | env
#
# Idempotent; needs root. Everything lies below FLOE_GLOBUS (default
# /var/tmp/floe-globus) and listens on FLOE_GLOBUS_PORT (default 22119) and
# FLOE_GRIDFTP_PORT (default 22811). After start, "eval $(globus.sh env)" says where
# it is and with which proxy to speak to it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${FLOE_GLOBUS:-/var/tmp/floe-globus}
gram=${FLOE_GLOBUS_PORT:-22119}
ftp=${FLOE_GRIDFTP_PORT:-22811}
user=floegrid
host=$(hostname -s)
. "$here/daemon.sh"
eval "$("$here/testca.sh" env)"

install() {
	if ! { command -v globus-gatekeeper && command -v globus-gridftp-server && command -v globus-job-status &&
		command -v globus-url-copy && command -v grid-proxy-init && [ -e /etc/grid-services/available/jobmanager-fork-poll ]; } >/dev/null; then
		apt-get update -qq || true
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
			globus-gatekeeper globus-gram-job-manager globus-gram-client-tools globus-gram-job-manager-fork \
			globus-gram-job-manager-fork-setup-poll globus-proxy-utils globus-gass-cache-program globus-gass-copy-progs \
			globus-gridftp-server-progs openssl >/dev/null
	fi
	id "$user" >/dev/null 2>&1 || useradd -m -s /bin/bash "$user"
}

configure() {
	mkdir -p "$root"/{grid-services,log,run,state}
	chmod 755 "$root"
	chmod 1777 "$root/log" "$root/state"
	"$here/testca.sh" make
	ca=$(dirname "$X509_CERT_DIR")
	cp "$ca/hostcert.pem" "$ca/hostkey.pem" "$root/"
	chmod 400 "$root/hostkey.pem"
	printf '"/O=Grid/O=Test/CN=Alice Tester" %s\n' "$user" >"$root/grid-mapfile"
	cat >"$root/jm.conf" <<CONF
-globus-toolkit-version 6.2
-log-pattern $root/log/gram_\$(LOGNAME).log
-log-levels FATAL|ERROR|WARN
-state-file-dir $root/state
-x509-cert-dir $X509_CERT_DIR
CONF
	for name in jobmanager jobmanager-fork; do
		echo "stderr_log,local_cred - /usr/sbin/globus-job-manager globus-job-manager -conf $root/jm.conf -type fork" >"$root/grid-services/$name"
	done
}

start() {
	install
	configure
	export GLOBUS_HOSTNAME=$host GRIDMAP=$root/grid-mapfile
	if ! alive "$root/run/gatekeeper.pid"; then
		rm -f "$root/run/gatekeeper.pid"
		(cd / && globus-gatekeeper -p "$gram" -l "$root/log/gatekeeper.log" -home / -e /usr/sbin -grid_services "$root/grid-services" \
			-gridmap "$GRIDMAP" -x509_cert_dir "$X509_CERT_DIR" -x509_user_cert "$root/hostcert.pem" \
			-x509_user_key "$root/hostkey.pem" -pidfile "$root/run/gatekeeper.pid" >"$root/log/gatekeeper.out" 2>&1 </dev/null)
	fi
	if ! alive "$root/run/gridftp.pid"; then
		rm -f "$root/run/gridftp.pid"
		(cd / && X509_USER_CERT=$root/hostcert.pem X509_USER_KEY=$root/hostkey.pem globus-gridftp-server -S -p "$ftp" \
			-control-interface 127.0.0.1 -data-interface 127.0.0.1 -log-level ALL -logfile "$root/log/gridftp.log" \
			-pidfile "$root/run/gridftp.pid" >"$root/log/gridftp.out" 2>&1 </dev/null)
	fi
	ca=$(dirname "$X509_CERT_DIR")
	grid-proxy-init -q -valid 24:0 -cert "$ca/usercert.pem" -key "$ca/userkey.pem" -out "$root/proxy.pem" >/dev/null
	for _ in $(seq 80); do
		(exec 3<>"/dev/tcp/127.0.0.1/$gram" 4<>"/dev/tcp/127.0.0.1/$ftp") 2>/dev/null && return
		sleep 0.25
	done
	echo "globus.sh: the gatekeeper does not answer; the logs are in $root/log" >&2
	tail -n 20 "$root"/log/*.out "$root/log/gatekeeper.log" >&2
	return 1
}

stop() { end "$root"/run/{gridftp,gatekeeper}.pid; }

case ${1-} in
install | start | stop) "$1" ;;
env) echo "export X509_CERT_DIR=$X509_CERT_DIR X509_USER_PROXY=$root/proxy.pem GLOBUS_HOSTNAME=$host FLOE_GRAM=$host:$gram/jobmanager-fork FLOE_GRIDFTP=gsiftp://$host:$ftp" ;;
*)
	sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
