import { useRef, useState } from 'preact/hooks';
import { type ApiError, asApiError, change, type Method } from './http';

export interface Changer {
  busy: boolean;
  error: ApiError | null;
  /** The id under which the log has the last change made; null before. */
  auditId: () => string | null;
  /** Makes the change; undefined when it failed, which error then tells. */
  run: <T>(path: string, body: unknown, method?: Method) => Promise<T | undefined>;
}

/**
 * Changes made by a form. The key that keeps a repetition from doing a thing twice stays the same while the
 * outcome of the attempt before is unknown and the form is unchanged.
 */
export function useChange(): Changer {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const auditId = useRef<string | null>(null);
  const attempt = useRef({ what: '', key: '' });
  return {
    busy,
    error,
    auditId: () => auditId.current,
    run: async <T>(path: string, body: unknown, method: Method = 'POST') => {
      const what = JSON.stringify([method, path, body]);
      if (attempt.current.what !== what) attempt.current = { what, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
      setBusy(true);
      try {
        const answer = await change<T>(path, body, attempt.current.key, method, (id) => {
          auditId.current = id;
        });
        setError(null);
        return answer;
      } catch (cause) {
        const failed = asApiError(cause);
        setError(failed);
        // Rejected: the next attempt is a first one. 409 may mean that the first is still running.
        if (failed.status >= 400 && failed.status < 500 && failed.status !== 409) attempt.current.what = '';
        return undefined;
      } finally {
        setBusy(false);
      }
    },
  };
}
