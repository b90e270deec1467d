#!/bin/sh
# Install OpenSSH's server where that is possible; tests that need it skip with the reason elsewhere.
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
  echo "no sshd here and no way to install it: tests against real OpenSSH will be skipped" >&2
  exit 0
}
export DEBIAN_FRONTEND=noninteractive
# A freshly installed service must not start listening: the tests run their own servers on loopback.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; made=1; }
apt-get install -y -qq openssh-server || { apt-get update -qq && apt-get install -y -qq openssh-server; }
status=$?
[ -z "${made-}" ] || rm -f "$policy"
exit $status
