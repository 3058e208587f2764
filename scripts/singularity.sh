#!/usr/bin/env bash
# SingularityCE from its source, with which tests run images as they run at sites that
# have apptainer or singularity; Debian's bookworm has a package of neither.
#
# usage: singularity.sh install | bin
#
# install builds it into FLOE_SINGULARITY (default /opt/floe-singularity), unless it is
# there, and installs what unpacks its images; it needs root, and takes some minutes. bin
# prints the directory of the program. The source comes as a Go module, checked by the
# checksum database; nothing of it is set-user-id here.
set -euo pipefail
version=v4.2.2
prefix=${FLOE_SINGULARITY:-/opt/floe-singularity}

install() {
	[ -x "$prefix/bin/singularity" ] && return
	missing=
	command -v mksquashfs >/dev/null || missing="$missing squashfs-tools"
	command -v gcc >/dev/null || missing="$missing gcc libc6-dev"
	command -v pkg-config >/dev/null || missing="$missing pkg-config"
	if [ -n "$missing" ]; then
		apt-get update -qq || true
		# shellcheck disable=SC2086 # a list of packages
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
	fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	# A module of its own: the version of the toolchain is this project's.
	export GOTOOLCHAIN=local GOFLAGS='-mod=readonly -trimpath -buildvcs=false' CGO_ENABLED=1
	(cd "$work" && GOFLAGS='' go mod download -json "github.com/sylabs/singularity/v4@$version") >"$work/module.json"
	cp -r "$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p' "$work/module.json")" "$work/source"
	chmod -R u+w "$work/source"
	cd "$work/source"
	chmod +x mconfig scripts/* makeit/* mlocal/scripts/*
	echo "${version#v}" >VERSION
	./mconfig --without-suid --without-seccomp --without-conmon --without-squashfuse --without-network --prefix="$prefix" -b "$work/build" >"$work/log" || {
		tail -n 20 "$work/log" >&2
		exit 1
	}
	# What its make would do, without documentation, and without clearing Go's cache.
	export GO_BUILD_TAGS='sylog singularity_engine fakeroot_engine' CGO_CFLAGS="-I$work/build -O2"
	(cd internal/pkg/buildcfg && go run confgen/gen.go "$work/build/config.h")
	go build -tags "$GO_BUILD_TAGS" -o "$work/build/starter" ./cmd/starter/main_linux.go
	go build -tags "$GO_BUILD_TAGS" -o "$work/build/singularity" ./cmd/singularity
	etc=$prefix/etc/singularity
	mkdir -p "$prefix/bin" "$prefix/libexec/singularity/bin" "$prefix/var/singularity/mnt/session" "$etc/seccomp-profiles" "$etc/network" "$etc/cgroups"
	cp internal/pkg/syecl/syecl.toml.example "$etc/ecl.toml"
	cp etc/seccomp-profiles/default.json "$etc/seccomp-profiles/"
	cp etc/remote.yaml etc/nvliblist.conf etc/rocmliblist.conf "$etc/"
	echo '{}' >"$etc/capability.json"
	go run etc/conf/gen.go "$etc/singularity.conf"
	cp "$work/build/starter" "$prefix/libexec/singularity/bin/"
	cp "$work/build/singularity" "$prefix/bin/" # last: it says that all is there
}

case ${1-} in
install) install ;;
bin) echo "$prefix/bin" ;;
*)
	sed -n '2,11s/^# \{0,1\}//p' "$0"
	exit 2
	;;
esac
