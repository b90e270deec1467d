#!/bin/sh
# Install Chromium and its driver where that is possible; tests that need them skip with the reason elsewhere.
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
  echo "no Chromium here and no way to install it: tests of the HTML report in a browser will be skipped" >&2
  exit 0
}
export DEBIAN_FRONTEND=noninteractive
# What the packages bring along must not start anything: the tests run their own browser only.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; made=1; }
packages="chromium chromium-driver fonts-noto-cjk"
apt-get install -y -qq --no-install-recommends $packages ||
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; }
status=$?
[ -z "${made-}" ] || rm -f "$policy"
exit $status
