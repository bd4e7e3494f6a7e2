#!/usr/bin/env bash
# Runs every benchmark on real engines and prints one table: figure, ours, reference, ratio, target, verdict.
# References are run beside ours in the same run. The log of the run is bin/bench.log.
#   deploy/bench.sh [package …]     all packages when none is named
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p bin
packages=("$@")
[ "${#packages[@]}" -gt 0 ] || packages=(./...)

echo "$(nproc) processors, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), $(go version | cut -d' ' -f3), $(date -u +%FT%TZ)"
go test -tags bench -run '^TestBench' -count 1 -timeout 120m -p 1 -v "${packages[@]}" >bin/bench.log 2>&1
status=$?
if [ "$#" -eq 0 ]; then # what an operator's browser shows
  (cd api/console && npm run --silent bench) >>bin/bench.log 2>&1 || status=$?
fi
{
  printf 'figure\tours\treference\tratio\ttarget\t\n'
  grep -ah $'FIGURE\t' bin/bench.log | sed $'s/.*FIGURE\t//'
} | column -t -s $'\t'
[ "$status" -eq 0 ] || echo "Some benchmark failed; see bin/bench.log." >&2
exit "$status"
