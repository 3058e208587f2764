#!/usr/bin/env bash
# An HTCondor pool of one node on this machine, without systemd. Debian 12 has no
# package of it: that of Debian 13 is unpacked into a directory of its own, 600 MB,
# and runs there (bubblewrap), as the user who starts it, and so do its jobs. They
# see Debian 13 with the directories of this machine in it.
#
# usage: condor.sh install | start | stop | env
#
# Idempotent; install needs root and Debian, the rest any user. Everything lies below
# FLOE_CONDOR (default /var/tmp/floe-condor), the system in FLOE_CONDOR_BASE (default
# /var/tmp/floe-condor-base), and it listens on FLOE_CONDOR_PORT (default 26618), on
# loopback. After start, "eval $(condor.sh env)" puts condor_submit and its kin first
# on PATH.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${FLOE_CONDOR:-/var/tmp/floe-condor}
base=${FLOE_CONDOR_BASE:-/var/tmp/floe-condor-base}
port=${FLOE_CONDOR_PORT:-26618}
host=$(hostname -s)
. "$here/daemon.sh"

install() {
	[ -e "$base/.complete" ] && command -v bwrap >/dev/null && return
	if ! { command -v debootstrap && command -v bwrap; } >/dev/null; then
		apt-get update -qq || true
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends debootstrap bubblewrap >/dev/null
	fi
	[ -e "$base/.complete" ] && return
	mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
	rm -rf "$base" # what was begun
	debootstrap --variant=minbase --include=ca-certificates trixie "$base" "${mirror:-http://deb.debian.org/debian}" >"$base.log" 2>&1 ||
		{ tail -n 5 "$base.log" >&2; return 1; }
	# This machine's settings of apt, such as its proxy; and nothing is started.
	cp /etc/apt/apt.conf.d/* "$base/etc/apt/apt.conf.d/" 2>/dev/null || true
	printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
	chmod 755 "$base/usr/sbin/policy-rc.d"
	{
		chroot "$base" apt-get update -qq &&
			DEBIAN_FRONTEND=noninteractive chroot "$base" apt-get install -y -qq --no-install-recommends condor python3 &&
			chroot "$base" apt-get clean
	} >>"$base.log" 2>&1 || { tail -n 5 "$base.log" >&2; return 1; }
	touch "$base/.complete"
}

configure() {
	mkdir -p "$root"/{bin,log,spool,execute,run,lock,etc}
	chmod 755 "$root"
	memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
	cat >"$root/condor_config" <<CONF
RELEASE_DIR = /usr
LIBEXEC = /usr/libexec/condor
LIB = /usr/lib/condor
LOCAL_DIR = $root
LOG = $root/log
SPOOL = $root/spool
EXECUTE = $root/execute
RUN = $root/run
LOCK = $root/lock
ETC = $root/etc
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:$port
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
FULL_HOSTNAME = $host
UID_DOMAIN = $host
FILESYSTEM_DOMAIN = $host
USE_SHARED_PORT = True
SHARED_PORT_PORT = $port
DAEMON_LIST = MASTER, SHARED_PORT, COLLECTOR, NEGOTIATOR, SCHEDD, STARTD
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_CLIENT_AUTHENTICATION_METHODS = FS
SEC_READ_AUTHENTICATION = OPTIONAL
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = *
ALLOW_ADVERTISE_MASTER = *
ALLOW_ADVERTISE_SCHEDD = *
ALLOW_ADVERTISE_STARTD = *
START = True
SUSPEND = False
PREEMPT = False
KILL = False
WANT_SUSPEND = False
MachineMaxVacateTime = 5
NUM_CPUS = 2
MEMORY = $memory
MACHINE_RESOURCE_GPUs = CUDA0, CUDA1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
# HTCondor has no queues; sites that act as if say which they take.
SUBMIT_REQUIREMENT_NAMES = QueueIsKnown
SUBMIT_REQUIREMENT_QueueIsKnown = BatchQueue =?= UNDEFINED || BatchQueue == "short"
SUBMIT_REQUIREMENT_QueueIsKnown_REASON = "there is no such queue here: short is the only one"
# As eager as it can be: what is measured are not its pauses.
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
STARTER_UPDATE_INTERVAL = 5
SHADOW_QUEUE_UPDATE_INTERVAL = 5
PERIODIC_EXPR_INTERVAL = 5
CREDD_OAUTH_MODE = False
BASE_CGROUP =
DISCARD_SESSION_KEYRING_ON_STARTUP = False
USE_PID_NAMESPACES = False
SINGULARITY = /bin/false
DOCKER =
CONF
	# HTCondor runs no jobs of root: inside, the user is always number 1000.
	echo 'floe:x:1000:1000::/:/bin/sh' | cat "$base/etc/passwd" - >"$root/passwd"
	echo 'floe:x:1000:' | cat "$base/etc/group" - >"$root/group"
	# One wrapper for all tools, which HTCondor tells apart by their names.
	{
		cat <<WRAP
#!/bin/sh
# Runs the tool of its name in Debian 13, with this machine's directories.
set -- "\${0##*/}" "\$@"
for dir in /*; do
	case \$dir in
	/bin | /boot | /dev | /etc | /lib* | /lost+found | /proc | /run | /sbin | /sys | /usr | /var) ;;
	*) [ ! -d "\$dir" ] || set -- --bind "\$dir" "\$dir" "\$@" ;;
	esac
done
exec bwrap --unshare-user --uid 1000 --gid 1000 \\
	--ro-bind "$base/usr" /usr --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \\
	--ro-bind "$base/etc" /etc --ro-bind "$root/passwd" /etc/passwd --ro-bind "$root/group" /etc/group \\
	--ro-bind /etc/hosts /etc/hosts --ro-bind-try /etc/resolv.conf /etc/resolv.conf \\
	--ro-bind "$base/var/lib" /var/lib --bind /var/tmp /var/tmp --tmpfs /run \\
	--dev-bind /dev /dev --bind /proc /proc --ro-bind /sys /sys \\
	--setenv CONDOR_CONFIG "$root/condor_config" --setenv PATH /usr/local/bin:/usr/bin:/usr/sbin \\
	"\$@"
WRAP
	} >"$root/bin/.run"
	chmod 755 "$root/bin/.run"
	for tool in "$base"/usr/bin/condor_* "$base"/usr/sbin/condor_*; do ln -sf .run "$root/bin/${tool##*/}"; done
}

start() {
	install
	configure
	if ! alive "$root/run/master.pid"; then
		rm -f "$root/run/master.pid"
		(cd / && exec setsid -f "$root/bin/condor_master" -f -pidfile "$root/run/master.pid" </dev/null >"$root/log/master.out" 2>&1)
	fi
	for _ in $(seq 240); do
		[ -n "$("$root/bin/condor_status" -af Name 2>/dev/null)" ] && "$root/bin/condor_q" -totals >/dev/null 2>&1 && return
		sleep 0.25
	done
	echo "condor.sh: the pool does not come up; the logs are in $root/log" >&2
	tail -n 10 "$root/log/master.out" "$root/log/MasterLog" >&2
	return 1
}

# SIGQUIT: the master ends its daemons and their jobs at once.
stop() { end_by=QUIT end "$root/run/master.pid"; }

case ${1-} in
install | start | stop) "$1" ;;
env) echo "export PATH=$root/bin:\$PATH FLOE_CONDOR_ENDPOINT=floe@$host" ;;
*)
	sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
