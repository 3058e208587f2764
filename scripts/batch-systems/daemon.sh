# Functions of the scripts that run batch systems on this machine, for daemons that
# write their process id to a file. Sourced, not run.

# alive FILE tells whether the process of a file lives.
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

# end FILE... ends the processes of the files, one after the other: SIGTERM, or the
# signal that is in end_by, and SIGKILL for one that has not gone after 20 s.
end() {
	local file pid
	for file; do
		if alive "$file"; then
			pid=$(cat "$file")
			kill "-${end_by:-TERM}" "$pid" || true
			for _ in $(seq 80); do
				kill -0 "$pid" 2>/dev/null || break
				sleep 0.25
			done
			! kill -0 "$pid" 2>/dev/null || kill -KILL "$pid" || true
		fi
		rm -f "$file"
	done
}
