#!/usr/bin/env bash
# A certificate authority of the grid's kind with one host and one user, for the
# grid systems that are tested here: no pass phrases, worth nothing elsewhere.
#
# usage: testca.sh make | env
#
# Idempotent. Everything lies below FLOE_TESTCA (default /var/tmp/floe-testca); user
# and proxy are Alice Tester's.
set -euo pipefail
root=${FLOE_TESTCA:-/var/tmp/floe-testca}
host=$(hostname -s)

issue() { # name subject extensions
	openssl req -newkey rsa:2048 -nodes -sha256 -subj "$2" -keyout "$1key.pem" -out "private/$1.csr" 2>/dev/null
	openssl x509 -req -sha256 -days 3600 -in "private/$1.csr" -CA cacert.pem -CAkey private/cakey.pem -CAcreateserial \
		-extfile <(printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n%b' "$3") \
		-out "$1cert.pem" 2>/dev/null
	chmod 600 "$1key.pem" # the tools of Globus refuse keys that others may read
}

make() {
	exec 9>"$root.lock" # two systems may start at once
	flock 9
	[ -s "$root/.done" ] && openssl x509 -checkend 86400 -noout -in "$root/usercert.pem" >/dev/null && return
	rm -rf "$root"
	mkdir -p "$root/certificates" "$root/private"
	chmod 700 "$root/private"
	cd "$root"
	openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -subj '/O=Grid/O=Test/CN=Throwaway Test CA' \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
		-keyout private/cakey.pem -out cacert.pem 2>/dev/null
	issue host "/O=Grid/O=Test/CN=$host" "subjectAltName=DNS:$host,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n"
	issue user '/O=Grid/O=Test/CN=Alice Tester' 'extendedKeyUsage=clientAuth\n'
	# The directory of authorities is looked up by either hash of the subject.
	for hash in "$(openssl x509 -in cacert.pem -noout -subject_hash)" "$(openssl x509 -in cacert.pem -noout -subject_hash_old)"; do
		cp cacert.pem "certificates/$hash.0"
		cat >"certificates/$hash.signing_policy" <<POLICY
access_id_CA      X509         '/O=Grid/O=Test/CN=Throwaway Test CA'
pos_rights        globus       CA:sign
cond_subjects     globus       '"/O=Grid/O=Test/*"'
POLICY
	done
	chmod 755 "$root"
	echo yes >.done
}

case ${1-} in
make) make ;;
env) printf 'export X509_CERT_DIR=%s/certificates X509_USER_CERT=%s/usercert.pem X509_USER_KEY=%s/userkey.pem\n' "$root" "$root" "$root" ;;
*)
	sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
