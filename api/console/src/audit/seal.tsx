import { useEffect, useState } from 'preact/hooks';
import { formatCount } from '../lib/format';
import { type ApiError, asApiError, open } from '../lib/http';
import { type Checked, checkProof, ledgerKey, parseKey, pinLedgerKey } from '../lib/proof';
import { useStore } from '../lib/store';
import type { Row } from '../lib/types';
import * as icons from '../ui/icons';

/**
 * Says whether the call is sealed, by computing it here. It asks for the proof by itself when a key is pinned, and at the
 * press of a button otherwise: each proof is a call of its own in the log.
 */
export function Seal({ row }: { row: Row }) {
  const pinned = useStore(ledgerKey);
  const [checked, setChecked] = useState<Checked | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [attempt, setAttempt] = useState(0);
  const [pinning, setPinning] = useState(false);
  const able = 'subtle' in crypto;

  useEffect(() => {
    if (!able || (pinned === null && attempt === 0)) return;
    const control = new AbortController();
    setError(null);
    setChecked(null);
    open(`/v1/audit-log/${encodeURIComponent(row.id)}/proof`, { query: { hash_only: 'true' }, headers: { Accept: 'text/plain' }, signal: control.signal })
      .then((answer) => answer.text())
      .then((file) => checkProof(row, file, pinned))
      .then(
        (found) => {
          if (!control.signal.aborted) setChecked(found);
        },
        (cause: unknown) => {
          if (!control.signal.aborted) setError(asApiError(cause));
        },
      );
    return () => control.abort();
  }, [row.id, pinned, attempt]);

  return (
    <div class="seal">
      {!able ? (
        <p class="muted">The browser computes proofs only over https or on this machine. Use argusctl logs prove.</p>
      ) : (
        <>
          <div aria-live="polite">
            {error && (
              <p class="verdict tone-warn">
                {error.code === 'not_sealed' ? 'Not sealed yet. ' : `${error.message} `}
                <button type="button" class="link" onClick={() => setAttempt(attempt + 1)}>
                  Try again
                </button>
              </p>
            )}
            {checked && <Outcome checked={checked} />}
            {!checked && !error && (pinned !== null || attempt > 0) && <p class="muted">Computing the proof …</p>}
          </div>
          {!checked && !error && pinned === null && attempt === 0 && (
            <button type="button" class="button small" onClick={() => setAttempt(1)}>
              Check the seal
            </button>
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
        </>
      )}
    </div>
  );
}

function Outcome({ checked }: { checked: Checked }) {
  if (checked.outcome === 'wrong') {
    return (
      <div class="verdict tone-bad">
        <icons.Close />
        <div>
          <b>Not proven.</b> {checked.why} Keep the call’s id and tell those who run the log.
        </div>
      </div>
    );
  }
  const where = `checkpoint ${formatCount(checked.size)} of ${checked.origin}`;
  return checked.outcome === 'verified' ? (
    <div class="verdict tone-ok">
      <icons.Check />
      <div>
        <b>Sealed in checkpoint {formatCount(checked.size)}, verified in this browser.</b> Leaf {formatCount(checked.leaf)} of {checked.origin}, signed by the
        pinned key.
      </div>
    </div>
  ) : (
    <div class="verdict tone-warn">
      <icons.Warn />
      <div>
        <b>In {where}, whose signature was not checked:</b> {checked.why}.
      </div>
    </div>
  );
}

/** Takes the key that the user got from those who run the log, over another way than this page. */
export function PinKey({ pinned, onDone }: { pinned: string | null; onDone: () => void }) {
  const [text, setText] = useState(pinned ?? '');
  const [problem, setProblem] = useState(false);
  const save = async () => {
    const vkey = text.trim();
    if (vkey === '') pinLedgerKey(null);
    else if (await parseKey(vkey)) pinLedgerKey(vkey);
    else return setProblem(true);
    onDone();
  };
  return (
    <form
      class="pin-key"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <label>
        Key of the log
        <input
          class="mono"
          value={text}
          placeholder="audit.example.com/argus+1f2e3d4c+AX…"
          aria-invalid={problem}
          onInput={(event) => {
            setText(event.currentTarget.value);
            setProblem(false);
          }}
        />
      </label>
      <p class={problem ? 'tone-bad' : 'muted'}>
        {problem ? 'Invalid key: write it as name+id+key.' : 'Ask the people who run the log for it. It is kept in this browser only.'}
      </p>
      <button type="submit" class="button small">
        Pin
      </button>{' '}
      <button type="button" class="button small" onClick={onDone}>
        Cancel
      </button>
    </form>
  );
}
