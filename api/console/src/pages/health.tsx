import { formatFigure } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { usePoll } from '../lib/poll';
import { parseTime, utcText } from '../lib/time';
import type { Health, Stage } from '../lib/types';
import { Skeleton } from '../ui/bits';
import { Failure, StaleNotice } from '../ui/notice';
import { LedgerCard } from './ledger-card';

const TONE = { ok: 'ok', degraded: 'warn', down: 'bad' } as const;
const WORD = { ok: 'All stages work', degraded: 'Something is degraded', down: 'Something is down' } as const;

const LABEL: Record<string, string> = {
  postgres: 'Postgres',
  writer: 'Writer',
  replicator: 'Replicator',
  clickhouse: 'ClickHouse',
  identity: 'Identity',
  ledger: 'Ledger',
  services: 'Services',
};

const WHAT: Record<string, string> = {
  postgres: 'The system of record',
  writer: 'Commits every call’s row before it is answered',
  replicator: 'Copies rows to ClickHouse',
  clickhouse: 'Answers searches and performance',
  identity: 'Checks credentials',
  ledger: 'Seals every row into the signed tree',
  services: 'Answer calls behind ARGUS',
};

/** The stages of the pipeline, as the server sees them. */
export function HealthPage() {
  const polled = usePoll('health', (signal) => call<Health>('/v1/health', { signal }));
  useKeys({ r: polled.reload });
  const health = polled.data;
  return (
    <div class="page">
      <header class="page-head">
        <h1>Health {health && <span class={`head-count tone-${TONE[health.status]}`}>{WORD[health.status]}</span>}</h1>
      </header>
      <StaleNotice polled={polled} what="The health" />
      {polled.error && !health ? (
        <Failure error={polled.error} retry={polled.reload} />
      ) : !health ? (
        <Skeleton rows={5} />
      ) : (
        <>
          <ul class="stages">
            {health.stages.map((stage) => (
              <StageCard key={`${stage.name} ${stage.facts?.slot ?? ''}`} stage={stage} />
            ))}
          </ul>
          <LedgerCard />
          <p class="faint small">Server {health.version}</p>
        </>
      )}
    </div>
  );
}

function formatFact(value: unknown): string {
  if (typeof value === 'number') return formatFigure(value);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string') return parseTime(value) === null ? value : utcText(value);
  return value === null || value === undefined ? '–' : JSON.stringify(value);
}

function StageCard({ stage }: { stage: Stage }) {
  const facts = Object.entries(stage.facts ?? {});
  return (
    <li class={`stage card edge-${TONE[stage.status]}`}>
      <h2>
        {LABEL[stage.name] ?? stage.name} <span class={`pill-state tone-${TONE[stage.status]}`}>{stage.status}</span>
      </h2>
      <p class="muted">{WHAT[stage.name] ?? ''}</p>
      {stage.detail && <p>{stage.detail}</p>}
      {facts.length > 0 && (
        <dl class="stage-facts">
          {facts.map(([name, value]) => (
            <div key={name}>
              <dt>{name.replace(/_/g, ' ')}</dt>
              <dd class="mono wrap-anywhere">{formatFact(value)}</dd>
            </div>
          ))}
        </dl>
      )}
    </li>
  );
}
