import { useEffect, useRef, useState } from 'preact/hooks';
import { inBackground } from './background';
import { type ApiError, asApiError, isAbort } from './http';
import { outage } from './outage';
import { session } from './session';

export const REFRESH = 15_000;

/** What a page knows of an answer it asks for again and again. */
export interface Polled<T> {
  /** the last good answer; undefined before the first */
  data: T | undefined;
  /** the key the data was fetched for */
  dataKey: string;
  /** when the data came, in this machine's milliseconds; 0 before */
  at: number;
  /** why the last try failed; null when it did not */
  error: ApiError | null;
  loading: boolean;
  /** Asks anew at once. */
  reload: () => void;
  /** Puts a newer answer in place of the one shown. */
  put: (data: T) => void;
}

interface PollState<T> {
  data: T | undefined;
  dataKey: string;
  at: number;
  error: ApiError | null;
  loading: boolean;
}

/**
 * Fetches for a key now, when the key changes, and every 15 seconds while the page is visible, and keeps the
 * last good answer meanwhile. A null key fetches nothing.
 */
export function usePoll<T>(key: string | null, fetcher: (signal: AbortSignal) => Promise<T>, every = REFRESH): Polled<T> {
  const [state, setState] = useState<PollState<T>>({ data: undefined, dataKey: '', at: 0, error: null, loading: true });
  const latest = useRef(fetcher);
  latest.current = fetcher;
  const trigger = useRef<() => void>(() => undefined);

  useEffect(() => {
    if (key === null) return;
    let control: AbortController | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let lastTry = 0;

    const run = async (background = false) => {
      clearTimeout(timer);
      control?.abort();
      const mine = (control = new AbortController());
      if (background) inBackground(mine.signal);
      lastTry = Date.now();
      let wait = every;
      setState((s) => ({ ...s, loading: true }));
      try {
        const data = await latest.current(mine.signal);
        if (mine.signal.aborted) return;
        setState({ data, dataKey: key, at: Date.now(), error: null, loading: false });
      } catch (cause) {
        if (mine.signal.aborted || isAbort(cause)) return;
        const error = asApiError(cause);
        setState((s) => ({ ...s, error, loading: false }));
        // None gets better by asking: signing in, or the operator, starts it again.
        if ([400, 401, 403, 422].includes(error.status)) return;
        wait = Math.max(error.retryAfter * 1000, error.status === 0 || error.status >= 500 ? Math.min(every, 5000) : every);
      }
      timer = setTimeout(() => void run(true), wait);
    };
    const wake = () => {
      if (document.hidden) {
        clearTimeout(timer);
      } else if (Date.now() - lastTry >= every) {
        void run(true);
      } else {
        clearTimeout(timer);
        timer = setTimeout(() => void run(true), every - (Date.now() - lastTry));
      }
    };
    const online = () => void run(true);
    const signedIn = session.watch(() => {
      if (session.get().step === 'signed-in') void run();
    });
    const wasAway = outage.watch(() => {
      if (outage.get() === null) void run(true);
    });
    trigger.current = () => void run();
    document.addEventListener('visibilitychange', wake);
    addEventListener('online', online);
    void run();
    return () => {
      clearTimeout(timer);
      control?.abort();
      signedIn();
      wasAway();
      document.removeEventListener('visibilitychange', wake);
      removeEventListener('online', online);
    };
  }, [key, every]);

  return {
    ...state,
    reload: () => trigger.current(),
    put: (data) => setState((s) => ({ ...s, data, at: Date.now(), error: null })),
  };
}
