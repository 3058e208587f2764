#!/usr/bin/env bash
# A NorduGrid ARC CE of one node on this machine, from Debian's packages, without
# systemd: A-REX with its web service, jobs as forked processes of user nobody.
#
# usage: arc.sh install | start | stop | env
#
# Idempotent; needs root. Everything lies below FLOE_ARC (default /var/tmp/floe-arc)
# and listens on FLOE_ARC_PORT (default 26443). After start, "eval $(arc.sh env)"
# says where it is and with which proxy to speak to it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${FLOE_ARC:-/var/tmp/floe-arc}
port=${FLOE_ARC_PORT:-26443}
host=$(hostname -s)
. "$here/daemon.sh"
eval "$("$here/testca.sh" env)"

install() {
	[ -x /usr/sbin/arched ] && [ -x /usr/share/arc/arc-arex-ws-start ] && command -v arcproxy >/dev/null && [ -x /usr/bin/time ] && return
	apt-get update -qq || true
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
		nordugrid-arc-arex nordugrid-arc-client nordugrid-arc-plugins-needed time perl openssl procps >/dev/null
}

configure() {
	mkdir -p "$root"/{control,session,log,run}
	chmod 755 "$root" "$root/session"
	"$here/testca.sh" make
	ca=$(dirname "$X509_CERT_DIR")
	cp "$ca/hostcert.pem" "$ca/hostkey.pem" "$root/"
	chmod 400 "$root/hostkey.pem"
	# Otherwise A-REX looks for a prime of its own, for minutes and in the background.
	[ -s "$root/control/dhparam.pem" ] || (umask 077 && openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out "$root/control/dhparam.pem")
	printf '"%s"\n' '/O=Grid/O=Test/CN=Alice Tester' >"$root/allowed"
	cat >"$root/arc.conf" <<CONF
[common]
hostname = $host
x509_host_key = $root/hostkey.pem
x509_host_cert = $root/hostcert.pem
x509_cert_dir = $X509_CERT_DIR
[authgroup:zero]
file = $root/allowed
[mapping]
map_to_user = zero nobody:nogroup
[lrms]
lrms = fork
[arex]
controldir = $root/control
sessiondir = $root/session
logfile = $root/log/arex.log
joblog = $root/log/jobs.log
helperlog = $root/log/helper.log
pidfile = $root/run/arex.pid
tmpdir = /tmp
wakeupperiod = 2
infoproviders_timelimit = 60
[arex/ws]
wsurl = https://$host:$port/arex
logfile = $root/log/ws.log
pidfile = $root/run/arex-ws.pid
[arex/ws/jobs]
allowaccess = zero
[arex/data-staging]
logfile = $root/log/dtr.log
[infosys]
logfile = $root/log/infoprovider.log
[infosys/glue2]
[infosys/cluster]
[queue:fork]
CONF
}

start() {
	install
	configure
	export ARC_CONFIG=$root/arc.conf
	# States come from a file that only the information provider writes, every 60 s, for
	# which arc.conf has no word: A-REX is started by a copy of its start script that has.
	sed 's#</Service>#<arex:InfoproviderWakeupPeriod>2</arex:InfoproviderWakeupPeriod></Service>#' \
		/usr/share/arc/arc-arex-start >"$root/arc-arex-start"
	chmod 755 "$root/arc-arex-start"
	if ! alive "$root/run/arex.pid"; then
		rm -f "$root/run/arex.pid"
		"$root/arc-arex-start" >/dev/null
	fi
	if ! alive "$root/run/arex-ws.pid"; then
		rm -f "$root/run/arex-ws.pid"
		/usr/share/arc/arc-arex-ws-start >/dev/null
	fi
	ca=$(dirname "$X509_CERT_DIR")
	HOME=$root arcproxy -C "$ca/usercert.pem" -K "$ca/userkey.pem" -T "$X509_CERT_DIR" -P "$root/proxy.pem" -c validityPeriod=24h >/dev/null
	for _ in $(seq 120); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
		sleep 0.25
	done
	echo "arc.sh: A-REX does not answer; its logs are in $root/log" >&2
	tail -n 20 "$root/log/ws.log" >&2
	return 1
}

stop() { end "$root"/run/{arex-ws,arex}.pid; }

case ${1-} in
install | start | stop) "$1" ;;
env) echo "export X509_CERT_DIR=$X509_CERT_DIR X509_USER_PROXY=$root/proxy.pem FLOE_ARC_ENDPOINT=https://$host:$port/arex" ;;
*)
	sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
