#!/usr/bin/env bash
# A Slurm of one node on this machine, from Debian's packages, without systemd,
# control groups or a database: what tests and benches of floe run against.
#
# usage: slurm.sh install | start | stop | env
#
# Idempotent; needs root. Everything lies below FLOE_SLURM (default
# /var/tmp/floe-slurm) and listens on FLOE_SLURM_PORT (default 26817) and the port
# after it, on loopback. After start, "eval $(slurm.sh env)" lets sbatch and its
# kin find it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${FLOE_SLURM:-/var/tmp/floe-slurm}
port=${FLOE_SLURM_PORT:-26817}
host=$(hostname -s)
. "$here/daemon.sh"

install() {
	command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null && command -v munged >/dev/null && return
	apt-get update -qq || true
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
}

configure() {
	mkdir -p "$root"/{munge,state,spool,log,run}
	chmod 755 "$root"
	chmod 711 "$root/munge"
	[ -s "$root/munge/key" ] || dd if=/dev/urandom of="$root/munge/key" bs=1024 count=1 status=none
	chmod 600 "$root/munge/key"
	printf 'CgroupAutomount=no\nConstrainCores=no\nConstrainDevices=no\nConstrainRAMSpace=no\n' >"$root/cgroup.conf"
	memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
	# Scheduling as eager as Slurm lets it be: a job starts when a core is free, not at
	# the next tick of a cycle; a bench against the defaults would measure their pauses.
	cat >"$root/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$root/munge/socket
CredType=cred/munge
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.log
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$root/log/completed
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0,sched_min_interval=0,default_queue_depth=1000
MaxArraySize=100001
MaxJobCount=200000
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MinJobAge=30
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=30
DefMemPerCPU=16
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=short Nodes=ALL Default=YES MaxTime=60:00 DefaultTime=5:00 State=UP OverSubscribe=NO
CONF
}

start() {
	install
	configure
	if ! alive "$root/run/munged.pid"; then
		rm -f "$root/munge/socket"*
		munged --force --key-file="$root/munge/key" --socket="$root/munge/socket" --pid-file="$root/run/munged.pid" \
			--log-file="$root/log/munged.log" --seed-file="$root/munge/seed" --num-threads=2
	fi
	export SLURM_CONF=$root/slurm.conf
	alive "$root/run/slurmctld.pid" || slurmctld -f "$SLURM_CONF"
	alive "$root/run/slurmd.pid" || slurmd -f "$SLURM_CONF" -N "$host"
	for _ in $(seq 120); do
		case $(sinfo -h -o %T 2>/dev/null | head -n 1) in idle | mixed | allocated) return ;; esac
		sleep 0.25
	done
	echo "slurm.sh: the node does not come up; the logs are in $root/log" >&2
	tail -n 5 "$root"/log/*.log >&2
	return 1
}

stop() { end "$root"/run/{slurmd,slurmctld,munged}.pid; }

case ${1-} in
install | start | stop) "$1" ;;
env) echo "export SLURM_CONF=$root/slurm.conf" ;;
*)
	sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
