import { useId, useRef, useState } from 'preact/hooks';
import { formatBytes, formatCount, plural } from '../lib/format';
import * as icons from '../ui/icons';

type Verdict = { match: boolean; name: string; bytes: number; digest: string } | { problem: string };

/** The SHA-256 of bytes in lower-case hex. */
export async function sha256(bytes: BufferSource): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((b) => b.toString(16).padStart(2, '0')).join('');
}

/** Says whether a file is what was submitted. The file stays in the browser. */
export function DigestCheck({ digest, bytes }: { digest: string; bytes: number }) {
  const [verdict, setVerdict] = useState<Verdict | null>(null);
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const id = useId();

  const check = async (data: Blob, name: string) => {
    if (!('subtle' in crypto)) {
      setVerdict({ problem: 'The browser computes digests only over https or on this machine. Use argusctl logs match.' });
      return;
    }
    if (data.size > 1 << 26) {
      setVerdict({ problem: `${name} has ${formatBytes(data.size)}: too large to be this body.` });
      return;
    }
    try {
      const found = await sha256(await data.arrayBuffer());
      setVerdict({ match: found === digest, name, bytes: data.size, digest: found });
    } catch {
      setVerdict({ problem: `${name} could not be read.` });
    }
  };

  return (
    <div
      class={`drop ${over ? 'over' : ''}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        const file = event.dataTransfer?.files[0];
        if (file) void check(file, file.name);
        else setVerdict({ problem: 'Drop a file.' });
      }}
      onPaste={(event) => {
        const text = event.clipboardData?.getData('text/plain');
        if (text) void check(new Blob([text]), 'The pasted text');
      }}
    >
      <p id={id}>
        Check a file against this digest: drop it,{' '}
        <button type="button" class="link" aria-describedby={id} onClick={() => input.current?.click()}>
          choose it
        </button>
        , or paste text. Nothing is uploaded.
      </p>
      <input
        ref={input}
        type="file"
        class="offscreen"
        tabIndex={-1}
        aria-label="File to compare with the digest"
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          event.currentTarget.value = '';
          if (file) void check(file, file.name);
        }}
      />
      <div aria-live="polite">
        {verdict && 'problem' in verdict && <p class="verdict tone-warn">{verdict.problem}</p>}
        {verdict && 'match' in verdict && (
          <div class={`verdict ${verdict.match ? 'tone-ok' : 'tone-bad'}`}>
            {verdict.match ? <icons.Check /> : <icons.Close />}
            <div>
              <b>{verdict.match ? 'Match' : 'No match'}</b>{' '}
              {verdict.match
                ? `${verdict.name} is exactly what was submitted, all ${plural(verdict.bytes, 'byte')}.`
                : `${verdict.name} is not what was submitted${verdict.bytes !== bytes ? `: it has ${plural(verdict.bytes, 'byte')}, the call carried ${formatCount(bytes)}` : ', though it is as long'}.`}
              {!verdict.match && <p class="mono wrap-anywhere faint">{verdict.digest}</p>}
            </div>
          </div>
        )}
      </div>
    </div>
  );
}
