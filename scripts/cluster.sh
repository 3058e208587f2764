# Functions of the scripts that run a cluster on this machine. Sourced, not run:
# the script sets root, the repository, and run, a directory for all files of the
# cluster; and it calls end_cluster when it ends.

coordinator= # process ids
passes=

step() { printf '\n== %s\n' "$*"; }

# field FILE NAME prints a member of the JSON object in a file.
field() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }

# free_port prints a port that is free now for TCP and UDP, and so is the one after it.
free_port() {
	python3 - <<'PY'
import random, socket
while True:
    port = random.randrange(20000, 60000)
    held = []
    try:
        for number in (port, port + 1):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                held.append(socket.socket(socket.AF_INET, kind))
                held[-1].bind(('127.0.0.1', number))
    except OSError:
        continue
    finally:
        for s in held:
            s.close()
    print(port)
    break
PY
}

# found_cluster NAME founds a cluster and starts its coordinator.
found_cluster() {
	port=$(free_port)
	"$root/bin/floe" init "$run/coordinator" --name "$1" --address "localhost:$port"
	start_coordinator coordinator "$port"
	export FLOE_TOKEN_FILE="$run/coordinator/admin.token"
	"$root/bin/floe" cluster status
}

# start_coordinator DIRECTORY PORT OPTION... starts the coordinator of a directory in
# run; coordinator is its process id.
start_coordinator() {
	name=$1 at=$2
	shift 2
	"$root/bin/floe" coordinator "$run/$name" --address "localhost:$at" --timing loopback "$@" 2>>"$run/$name.log" &
	coordinator=$!
}

# join_site NAME CACHE makes this machine a site whose local batch system starts
# pilots as processes, makes its first glidein pass, and has more made.
join_site() {
	"$root/bin/floe" token create site "$1" >"$run/site.token"
	"$root/bin/floe" site join "@$run/site.token" --dir "$run/site"
	cores=$(nproc)
	cat >"$run/site/site.toml" <<TOML
# This machine as a site. The local batch system starts pilots as processes.
[queue]
type = "local"
max_pilots = 2
cores = $(((cores + 1) / 2))
memory = "2GB"
disk = "4GB"
walltime = "2h"

[system]
pilot = "$root/bin/floe-pilot"
cache = "$2"
idle = "30s"
TOML
	"$root/bin/floe" glidein --config "$run/site/site.toml"
	# What cron would do, every few seconds instead of minutes.
	(
		trap 'exit 0' TERM # once the pass or pause under way has ended
		while sleep 3; do
			"$root/bin/floe" glidein --config "$run/site/site.toml" >>"$run/glidein.log" 2>&1 || :
		done
	) &
	passes=$!
}

# pilots prints the ids of the site's pilots. They are processes, each of which
# wrote its id and start time; each leads a group.
pilots() {
	for record in "$run"/site/local/*/process; do
		[ -e "$record" ] || continue
		read -r pid start <"$record" || continue
		now=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20) || continue
		[ "$now" = "$start" ] && echo "$pid"
	done
	return 0
}

# end_cluster ends passes, pilots and the coordinator, in this order.
end_cluster() {
	# A pass under way is let end: it may be launching a pilot.
	[ -z "$passes" ] || { kill "$passes" 2>/dev/null; wait "$passes" 2>/dev/null; } || :
	for pid in $(pilots); do kill -TERM "-$pid" 2>/dev/null || :; done
	tries=0
	while [ -n "$(pilots)" ] && [ $tries -lt 100 ]; do
		tries=$((tries + 1))
		sleep 0.2
	done
	for pid in $(pilots); do kill -KILL "-$pid" 2>/dev/null || :; done
	[ -z "$coordinator" ] || kill "$coordinator" 2>/dev/null || :
	wait 2>/dev/null || :
}
