import { formatFigure } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { outage } from '../lib/outage';
import { usePoll } from '../lib/poll';
import { useStore } from '../lib/store';
import { parseTime, timeText } from '../lib/time';
import type { Health, HealthSummary, Stage } from '../lib/types';
import { Skeleton } from '../ui/bits';
import { Failure, StaleNotice } from '../ui/notice';
import { STAGES } from '../ui/outage';
import { LedgerCard } from './ledger-card';

const TONE = { ok: 'ok', degraded: 'warn', down: 'bad' } as const;
const WORD = { ok: 'All stages work', degraded: 'Something is degraded', down: 'Something is down' } as const;

const URGENCY = { down: 0, degraded: 1, ok: 2 } as const;

/** What needs a person stands first. Stages of one state keep the order of the pipeline. */
function urgentFirst<T extends { status: Stage['status'] }>(stages: T[]): T[] {
  return [...stages].sort((a, b) => URGENCY[a.status] - URGENCY[b.status]);
}

const WHAT: Record<string, string> = {
  postgres: 'The system of record',
  writer: 'Commits every call’s row before it is answered',
  replicator: 'Copies rows to ClickHouse',
  clickhouse: 'Answers searches and performance',
  identity: 'Checks credentials',
  ledger: 'Seals every row into the signed tree',
  ship: 'Gives every row to the sinks',
  services: 'Answer calls behind ARGUS',
};

/** The stages of the pipeline, as the server sees them. */
export function HealthPage() {
  const polled = usePoll('health', (signal) => call<Health>('/v1/health', { signal }));
  useKeys({ r: polled.reload });
  // What the pages know of an outage is newer than what this one was last told of its stages.
  const known = useStore(outage);
  const summary = known ?? polled.error?.detail.health;
  const health = summary ? undefined : polled.data;
  return (
    <div class="page">
      <header class="page-head">
        <h1>Health {(health ?? summary) && <span class={`head-count tone-${TONE[(health ?? summary)!.status]}`}>{WORD[(health ?? summary)!.status]}</span>}</h1>
      </header>
      {!summary && <StaleNotice polled={polled} what="The health" />}
      {summary ? (
        <Away summary={summary} />
      ) : polled.error && !health ? (
        <Failure error={polled.error} retry={polled.reload} />
      ) : !health ? (
        <Skeleton rows={5} />
      ) : (
        <>
          <ul class="stages">
            {urgentFirst(health.stages).map((stage) => (
              <StageCard key={`${stage.name} ${stage.facts?.slot ?? ''} ${stage.facts?.copy ?? ''}`} stage={stage} />
            ))}
          </ul>
          <LedgerCard />
          <p class="faint small">Server {health.version}</p>
        </>
      )}
    </div>
  );
}

/** While calls are answered 503: what one process knows by itself. */
function Away({ summary }: { summary: HealthSummary }) {
  return (
    <>
      <ul class="stages">
        {urgentFirst(summary.stages).map((s) => (
          <StageCard
            key={`${s.name} ${s.copy ?? ''}`}
            stage={{ name: s.name, status: s.status, detail: s.since ? `Since ${timeText(s.since)}.` : '', facts: s.copy ? { copy: s.copy } : null }}
          />
        ))}
      </ul>
      <p class="muted">One process of ARGUS tells what it knows by itself. The other stages and all details come back with the part that is away.</p>
    </>
  );
}

function formatFact(value: unknown): string {
  if (typeof value === 'number') return formatFigure(value);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string') return parseTime(value) === null ? value : timeText(value);
  if (value === null || value === undefined) return '–';
  if (typeof value !== 'object') return String(value);
  const parts = Object.entries(value).map(([name, of]) => `${Array.isArray(value) ? '' : `${name.replace(/_/g, ' ')} `}${formatFact(of)}`);
  return parts.length > 0 ? parts.join(', ') : '–';
}

/** Which copy a replicator fills, by its slot: argus_east_2 is east/2. The only one has no name. */
function slotCopy(slot: unknown): string | undefined {
  const [, name, shard] = (typeof slot === 'string' && /^argus_(.+?)(?:_(\d+))?$/.exec(slot)) || [];
  return shard ? `${name}/${shard}` : name;
}

function StageCard({ stage }: { stage: Stage }) {
  const { copy = slotCopy(stage.facts?.slot), ...rest } = stage.facts ?? {};
  const facts = Object.entries(rest);
  return (
    <li class={`stage card edge-${TONE[stage.status]}`}>
      <h2>
        {STAGES[stage.name] ?? stage.name}
        {typeof copy === 'string' && ` ${copy}`} <span class={`pill-state tone-${TONE[stage.status]}`}>{stage.status}</span>
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
