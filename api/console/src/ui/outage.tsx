import { outage } from '../lib/outage';
import { useStore } from '../lib/store';
import { formatDuration, now, parseTime, timeText, useNow } from '../lib/time';
import type { HealthSummary } from '../lib/types';
import { Notice } from './notice';

export const STAGES: Record<string, string> = {
  postgres: 'Postgres',
  writer: 'Writer',
  replicator: 'Replicator',
  clickhouse: 'ClickHouse',
  identity: 'Identity',
  ledger: 'Ledger',
  ship: 'Ship',
  services: 'Services',
};

/** The part that people are told about: the cause, when one part's absence stops another. */
function away(summary: HealthSummary) {
  const down = summary.stages.filter((s) => s.status === 'down');
  return down.find((s) => s.name === 'postgres') ?? down[0];
}

/** Over every page: the part that is away, and since when. */
export function OutageNotice() {
  const summary = useStore(outage);
  const time = useNow(1);
  if (!summary) return null;
  const part = away(summary);
  const since = part?.since ? (parseTime(part.since) ?? now()) : null;
  return (
    <Notice tone="bad">
      <b>{part ? `${STAGES[part.name] ?? part.name} is away` : 'ARGUS cannot answer calls'}</b>
      {since !== null && part?.since && (
        <>
          {' '}
          since {timeText(part.since)} <span aria-hidden="true">({formatDuration(Math.max(0, Math.floor((time - since) / 1000) * 1000))})</span>
        </>
      )}
      . No call is answered until it is back, and nothing happens unseen. The console goes on by itself.
    </Notice>
  );
}
