import { useEffect, useRef, useState } from 'preact/hooks';
import { formatBytes, formatCount } from '../lib/format';
import { type ApiError, asApiError, call, open } from '../lib/http';
import { Dialog } from '../ui/dialog';
import * as icons from '../ui/icons';
import { Popover } from '../ui/menu';
import { FormError } from '../ui/notice';

type Format = 'csv' | 'ndjson';

interface Progress {
  format: Format;
  bytes: number;
  lines: number;
  done: boolean;
  error: ApiError | null;
  /** the export's own call, which its manifest is asked for by */
  auditId: string | null;
}

/** Downloads every row of the filter. The rows stream from the server; the Authorization header alone opens it. */
export function ExportMenu({ query, fileName }: { query: () => URLSearchParams; fileName: string }) {
  const [progress, setProgress] = useState<Progress | null>(null);
  const [beside, setBeside] = useState(false);
  const control = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => control.current?.abort(), []);

  const run = async (format: Format) => {
    control.current?.abort();
    const mine = (control.current = new AbortController());
    const state: Progress = { format, bytes: 0, lines: 0, done: false, error: null, auditId: null };
    setProgress({ ...state });
    const parts: BlobPart[] = [];
    let shown = 0;
    try {
      const params = query();
      params.set('format', format);
      if (beside) for (const more of ['steps', 'names']) params.set(more, 'true');
      const answer = await open('/v1/audit-log/export', { query: params, signal: mine.signal, headers: { Accept: '*/*' } });
      state.auditId = answer.headers.get('Argus-Audit-Id');
      const reader = answer.body!.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        parts.push(value);
        state.bytes += value.length;
        for (const byte of value) if (byte === 10) state.lines++;
        if (Date.now() - shown > 200) {
          shown = Date.now();
          setProgress({ ...state });
        }
      }
      save(new Blob(parts, { type: format === 'csv' ? 'text/csv' : 'application/x-ndjson' }), `${fileName}.${format}`);
      setProgress({ ...state, done: true });
    } catch (cause) {
      if (!mine.signal.aborted) setProgress({ ...state, error: asApiError(cause) });
    }
  };

  const saveManifest = async (of: Progress) => {
    const file = `${fileName}.${of.format}`;
    try {
      const manifest = await call<Record<string, unknown>>(`/v1/audit-log/exports/${of.auditId}`);
      save(new Blob([`${JSON.stringify({ ...manifest, file }, null, 2)}\n`], { type: 'application/json' }), `${file}.manifest.json`);
    } catch (cause) {
      setProgress({ ...of, error: asApiError(cause) });
    }
  };

  const close = () => {
    control.current?.abort();
    setProgress(null);
  };
  const rows = progress ? Math.max(0, progress.lines - (progress.format === 'csv' && progress.lines > 0 ? 1 : 0)) : 0;
  return (
    <>
      <Popover
        label={
          <>
            <icons.Download />
            <span>Export</span>
          </>
        }
        panelLabel="Export"
        align="end"
      >
        {(shut) => (
          <div class="menu">
            {(['csv', 'ndjson'] as const).map((format) => (
              <button
                key={format}
                type="button"
                class="menu-item"
                onClick={() => {
                  shut();
                  void run(format);
                }}
              >
                {format === 'csv' ? 'CSV, for spreadsheets' : 'NDJSON, for programs'}
              </button>
            ))}
            <label class="check pad">
              <input type="checkbox" checked={beside} onChange={(e) => setBeside(e.currentTarget.checked)} />
              With steps and names
            </label>
            <p class="muted pad">Every call of this filter and window. The export is itself a row of the log.</p>
          </div>
        )}
      </Popover>
      {progress && (
        <Dialog title={progress.done ? 'Exported' : progress.error ? 'The export failed' : 'Exporting…'} onClose={close}>
          <p aria-live="polite" class="export-figure">
            <b>{formatCount(rows)}</b> rows, {formatBytes(progress.bytes)}
            {progress.done && (
              <span class="muted">
                {' '}
                in {fileName}.{progress.format}
              </span>
            )}
          </p>
          {progress.error && <FormError error={progress.error} />}
          {progress.error && progress.bytes > 0 && !progress.done && (
            <p class="muted">Export failed, nothing was saved. An incomplete file could be mistaken for a full one.</p>
          )}
          <div class="dialog-actions">
            {progress.done && progress.auditId && (
              <button type="button" class="button" onClick={() => void saveManifest(progress)}>
                Save its manifest
              </button>
            )}
            {progress.error && !progress.done && (
              <button type="button" class="button" onClick={() => void run(progress.format)}>
                Try again
              </button>
            )}
            <button type="button" class={progress.done ? 'button primary' : 'button'} onClick={close}>
              {progress.done || progress.error ? 'Close' : 'Cancel'}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
