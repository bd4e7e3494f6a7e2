import { useEffect, useState } from 'preact/hooks';
import { PinKey } from '../audit/seal';
import { formatCount } from '../lib/format';
import { call } from '../lib/http';
import { usePoll } from '../lib/poll';
import { checkCheckpoint, ledgerKey } from '../lib/proof';
import { useStore } from '../lib/store';
import { formatDuration, timeText } from '../lib/time';

interface Ledger {
  origin: string | null;
  size: number;
  root: string | null;
  checkpoint: string | null;
  sealed_at: string | null;
  age_seconds: number | null;
  cosignatures: { key: string; line: string; at: string }[];
}

const SAYS = {
  bad: ['bad', 'The signature is not valid'],
  unknown: ['warn', 'Not signed by the pinned key'],
  unsupported: ['warn', 'This browser cannot check the signature'],
  unpinned: ['warn', 'Not checked: no key is pinned'],
} as const;

/** The newest checkpoint: how old it is, who cosigned it, and whether the pinned key signed it. */
export function LedgerCard() {
  const polled = usePoll('ledger', (signal) => call<Ledger>('/v1/ledger', { signal }));
  const pinned = useStore(ledgerKey);
  const [signature, setSignature] = useState<Awaited<ReturnType<typeof checkCheckpoint>>['signature'] | null>(null);
  const [pinning, setPinning] = useState(false);
  const note = polled.data?.checkpoint ?? null;
  useEffect(() => {
    let gone = false;
    setSignature(null);
    if (note === null || !('subtle' in crypto)) return;
    checkCheckpoint(note, pinned).then(
      (c) => !gone && setSignature(c.signature),
      () => !gone && setSignature('bad'),
    );
    return () => {
      gone = true;
    };
  }, [note, pinned]);
  const ledger = polled.data;
  if (!ledger) return null; // without logs:read there is nothing to see
  const old = (ledger.age_seconds ?? 0) > 600;
  return (
    <section class={`stage card ledger-card edge-${ledger.checkpoint === null || old ? 'warn' : 'ok'}`} aria-label="Ledger">
      <h2>Newest checkpoint</h2>
      {ledger.checkpoint === null ? (
        <p>Nothing is sealed. Run argusd ledger, and every row becomes a leaf of a signed tree.</p>
      ) : (
        <>
          <dl class="stage-facts">
            <div>
              <dt>log</dt>
              <dd class="mono wrap-anywhere">{ledger.origin}</dd>
            </div>
            <div>
              <dt>leaves</dt>
              <dd class="mono">{formatCount(ledger.size)}</dd>
            </div>
            <div>
              <dt>sealed</dt>
              <dd class="mono">{timeText(ledger.sealed_at ?? '')}</dd>
            </div>
            <div>
              <dt>age</dt>
              <dd class={`mono ${old ? 'tone-warn' : ''}`}>{formatDuration((ledger.age_seconds ?? 0) * 1000)}</dd>
            </div>
            <div>
              <dt>witnesses</dt>
              <dd class="mono wrap-anywhere">{ledger.cosignatures.length === 0 ? 'none' : [...new Set(ledger.cosignatures.map((c) => c.key))].join(', ')}</dd>
            </div>
            <div>
              <dt>root</dt>
              <dd class="mono wrap-anywhere">{ledger.root}</dd>
            </div>
          </dl>
          {signature === true && <p class="tone-ok">Signature verified in this browser, by the pinned key.</p>}
          {signature !== null && signature !== true && <p class={`tone-${SAYS[signature][0]}`}>{SAYS[signature][1]}.</p>}
        </>
      )}
      {pinning ? (
        <PinKey pinned={pinned} onDone={() => setPinning(false)} />
      ) : (
        <p class="muted">
          <button type="button" class="link" onClick={() => setPinning(true)}>
            {pinned === null ? 'Pin the log’s key' : 'Change the pinned key'}
          </button>
        </p>
      )}
    </section>
  );
}
