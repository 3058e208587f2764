#!/usr/bin/env bash
# A Grid Engine of one node on this machine, from Debian's packages, without systemd
# or init scripts: what tests of floe run against.
#
# usage: sge.sh install | start | stop | env
#
# Idempotent; needs root. Everything lies below FLOE_SGE (default
# /var/tmp/floe-sge) and listens on FLOE_SGE_PORT (default 26844) and the port
# after it. After start, "eval $(sge.sh env)" lets qsub and its kin find it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${FLOE_SGE:-/var/tmp/floe-sge}
port=${FLOE_SGE_PORT:-26844}
host=$(hostname -s)
. "$here/daemon.sh"
admin=sgeadmin # made by Debian's gridengine-common
tools=/usr/lib/gridengine
export SGE_ROOT=$root/root SGE_CELL=default SGE_CLUSTER_NAME=floe
export SGE_QMASTER_PORT=$port SGE_EXECD_PORT=$((port + 1))

install() {
	[ -x $tools/sge_qmaster ] && [ -x $tools/sge_execd ] && [ -x $tools/qsub ] && return
	apt-get update -qq || true
	printf '%s shared/gridengineconfig boolean false\n' gridengine-common gridengine-master | debconf-set-selections
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gridengine-master gridengine-exec gridengine-client >/dev/null
}

# The spool directory of execd is named after what its address resolves to.
execd_pid() { for file in "$root"/execd/*/execd.pid; do echo "$file"; done; }

configure() {
	[ -e "$root/prepared" ] && return
	rm -rf "$root"
	common=$SGE_ROOT/$SGE_CELL/common
	mkdir -p "$root"/{qmaster/job_scripts,execd} "$common"
	for dir in bin lib util utilbin; do ln -s /var/lib/gridengine/$dir "$SGE_ROOT/$dir"; done
	cat >"$common/bootstrap" <<CONF
admin_user             $admin
default_domain         none
ignore_fqdn            true
spooling_method        classic
spooling_lib           libspoolc
spooling_params        $common;$root/qmaster
binary_path            $SGE_ROOT/bin
qmaster_spool_dir      $root/qmaster
security_mode          none
listener_threads       2
worker_threads         2
scheduler_threads      1
jvm_threads            0
CONF
	echo "$host" >"$common/act_qmaster"
	echo floe >"$common/cluster_name"
	# 127.0.0.1 is also called localhost: both are this machine.
	echo "$host localhost" >"$common/host_aliases"
	sed -e "s#^execd_spool_dir .*#execd_spool_dir        $root/execd#" \
		-e 's#^min_uid .*#min_uid 0#' -e 's#^min_gid .*#min_gid 0#' -e 's#^mailer .*#mailer /bin/true#' \
		-e 's#^load_report_time .*#load_report_time 00:00:02#' \
		-e 's#flush_time=00:00:15#flush_time=00:00:01 accounting_flush_time=00:00:00#' \
		/usr/share/gridengine/default-configuration >"$root/global"
	chown -R $admin:$admin "$root"
	# The managers in one call: a second one would take the place of the first.
	su -s /bin/sh $admin -c "set -e
		export SGE_ROOT=$SGE_ROOT SGE_CELL=$SGE_CELL
		$tools/spoolinit classic libspoolc '$common;$root/qmaster' init
		$tools/spooldefaults configuration $root/global
		$tools/spooldefaults complexes /usr/share/gridengine/util/resources/centry
		$tools/spooldefaults usersets /usr/share/gridengine/util/resources/usersets
		$tools/spooldefaults managers $admin root" >/dev/null
	touch "$root/prepared"
}

# populate makes the host, the cards, the parallel environment and the queue. It
# runs once, against a qmaster that is up.
populate() {
	[ -e "$root/populated" ] && return
	$tools/qconf -as "$host" || true
	$tools/qconf -ah "$host" || true
	$tools/qconf -sc >"$root/complexes"
	grep -q '^gpu ' "$root/complexes" || echo 'gpu gpu INT <= YES JOB 0 0' >>"$root/complexes"
	# A project needs to exist before a job may name it.
	printf 'name icecube\noticket 0\nfshare 0\nacl NONE\nxacl NONE\n' >"$root/project"
	$tools/qconf -Aprj "$root/project" || true
	$tools/qconf -Mc "$root/complexes"
	{
		echo "hostname $host"
		echo 'complex_values gpu=2'
		printf '%s NONE\n' load_scaling user_lists xuser_lists projects xprojects usage_scaling report_variables
	} >"$root/host"
	$tools/qconf -Ae "$root/host" || $tools/qconf -Me "$root/host"
	cat >"$root/environment" <<'CONF'
pe_name            smp
slots              16
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $pe_slots
control_slaves     FALSE
job_is_first_task  TRUE
urgency_slots      min
accounting_summary FALSE
qsort_args         NONE
CONF
	$tools/qconf -Ap "$root/environment"
	{
		cat <<CONF
qname                 all.q
hostlist              $host
seq_no                0
nsuspend              1
suspend_interval      00:05:00
priority              0
min_cpu_interval      00:05:00
processors            UNDEFINED
qtype                 BATCH INTERACTIVE
pe_list               smp
rerun                 FALSE
slots                 2
tmpdir                /tmp
shell                 /bin/sh
shell_start_mode      posix_compliant
notify                00:00:05
initial_state         default
CONF
		printf '%s NONE\n' load_thresholds suspend_thresholds ckpt_list prolog epilog starter_method suspend_method resume_method \
			terminate_method owner_list user_lists xuser_lists subordinate_list complex_values projects xprojects calendar
		printf '%s INFINITY\n' {s,h}_{rt,cpu,fsize,data,stack,core,rss,vmem}
	} >"$root/queue"
	$tools/qconf -Aq "$root/queue"
	# Schedule each second, and not each fifteen.
	$tools/qconf -ssconf | sed -e 's/^schedule_interval .*/schedule_interval 0:0:1/' \
		-e 's/^flush_submit_sec .*/flush_submit_sec 1/' -e 's/^flush_finish_sec .*/flush_finish_sec 1/' >"$root/scheduler"
	$tools/qconf -Msconf "$root/scheduler"
	touch "$root/populated"
}

start() {
	install
	configure
	cd /
	if ! alive "$root/qmaster/qmaster.pid"; then
		rm -f "$root/qmaster/qmaster.pid"
		$tools/sge_qmaster
	fi
	for _ in $(seq 80); do
		$tools/qconf -sh >/dev/null 2>&1 && break
		sleep 0.25
	done
	populate >/dev/null
	if ! alive "$(execd_pid)"; then
		rm -f "$root"/execd/*/execd.pid
		$tools/sge_execd
	fi
	for _ in $(seq 120); do # five fields: no flag that the node is away
		alive "$(execd_pid)" && [ "$($tools/qstat -f 2>/dev/null | awk '$1 ~ /^all.q@/ {print NF}')" = 5 ] && return
		sleep 0.25
	done
	echo "sge.sh: the node does not come up; the logs are $root/qmaster/messages and $root/execd/*/messages" >&2
	tail -n 5 "$root"/qmaster/messages "$root"/execd/*/messages >&2
	return 1
}

stop() { end "$(execd_pid)" "$root/qmaster/qmaster.pid"; }

case ${1-} in
install | start | stop) "$1" ;;
env)
	for name in SGE_ROOT SGE_CELL SGE_CLUSTER_NAME SGE_QMASTER_PORT SGE_EXECD_PORT; do echo "export $name=${!name}"; done
	;;
*)
	sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
