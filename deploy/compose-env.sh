#!/bin/sh
# Writes deploy/.env for compose.yaml, with new random secrets, and the lines that you must fill in yourself.
# It never overwrites one: the stores know the passwords of the first.
set -eu
umask 077
cd "$(dirname "$0")"
if [ -e .env ]; then
  echo "deploy/.env is there already, and was left as it is" >&2
  exit 1
fi
secret() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
{
  echo "# Where operators reach ARGUS: https://<this>"
  echo "ARGUS_DOMAIN="
  echo "# Clerk's dashboard: API keys, and Organizations. The issuer is the instance's frontend API, https://…"
  echo "ARGUS_CLERK_ISSUER="
  echo "ARGUS_CLERK_SECRET_KEY="
  echo "ARGUS_CLERK_PUBLISHABLE_KEY="
  echo "ARGUS_CLERK_ORGANIZATION="
  echo
  for name in POSTGRES_PASSWORD POSTGRES_API_PASSWORD POSTGRES_REPLICATOR_PASSWORD POSTGRES_MAINTENANCE_PASSWORD \
    POSTGRES_HOLD_PASSWORD POSTGRES_BREAK_GLASS_PASSWORD POSTGRES_CONSENT_PASSWORD POSTGRES_LEDGER_PASSWORD POSTGRES_SHIP_PASSWORD POSTGRES_AUDITOR_PASSWORD CLICKHOUSE_PASSWORD CLICKHOUSE_REPLICATOR_PASSWORD \
    CLICKHOUSE_MAINTENANCE_PASSWORD CLICKHOUSE_READER_PASSWORD ARGUS_CURSOR_KEY; do
    echo "$name=$(secret)"
  done
} >.env
echo "deploy/.env is written: fill in its first lines" >&2
