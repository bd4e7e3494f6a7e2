#!/usr/bin/env bash
# Runs the commands of docs/tour.md against a running `make dev` and puts their real output into it:
#   source .argus/env && LEDGER_KEY='localhost/argus-dev+…' deploy/tour.sh    # the key that make dev prints
set -euo pipefail
cd "$(dirname "$0")/.."
: "${ARGUS_URL:?source .argus/env first}"
export LEDGER_KEY="${LEDGER_KEY:?the key that make dev prints behind --key}"
export COLUMNS=110
out=$(mktemp)
tour=0 block=0
while IFS= read -r line; do
  case "$line" in
    "<!-- tour"*) tour=1 ;;
    "<!-- /tour"*) tour=0 ;;
  esac
  if [ "$tour" = 1 ] && [ "$line" = '```console' ]; then
    block=1
    printf '%s\n' "$line"
  elif [ "$block" = 1 ] && [ "$line" = '```' ]; then
    block=0
    printf '%s\n' "$line"
  elif [ "$block" = 1 ]; then
    if [ "${line:0:2}" = '$ ' ]; then
      printf '%s\n' "$line"
      bash -c "${line:2}" </dev/null 2>&1 || true
    fi
  else
    printf '%s\n' "$line"
  fi
done <docs/tour.md >"$out"
cat "$out" >docs/tour.md
rm "$out"
