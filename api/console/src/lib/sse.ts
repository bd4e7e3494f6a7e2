// Server-sent events over fetch: EventSource cannot send an Authorization header.

import { ApiError, asApiError, isAbort, open } from './http';

export interface ServerEvent {
  event: string;
  id: string | null;
  data: string;
}

/** Cuts a stream of text into events, as the HTML standard says. */
export class EventParser {
  private rest = '';
  private event = '';
  private id: string | null = null;
  private data: string[] = [];

  push(text: string, emit: (event: ServerEvent) => void): void {
    this.rest += text;
    let from = 0;
    for (;;) {
      const end = this.rest.indexOf('\n', from);
      if (end < 0) break;
      const line = this.rest.slice(from, this.rest[end - 1] === '\r' && end > from ? end - 1 : end);
      from = end + 1;
      this.line(line, emit);
    }
    this.rest = this.rest.slice(from);
  }

  private line(line: string, emit: (event: ServerEvent) => void): void {
    if (line === '') {
      if (this.data.length > 0 || this.event !== '' || this.id !== null) {
        emit({ event: this.event || 'message', id: this.id, data: this.data.join('\n') });
      }
      this.event = '';
      this.id = null;
      this.data = [];
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') this.data.push(value);
    else if (field === 'event') this.event = value;
    else if (field === 'id') this.id = value;
  }
}

export type StreamState =
  | { step: 'connecting' | 'open' | 'closed' }
  | { step: 'waiting'; error: ApiError; until: number }
  | { step: 'stopped'; error: ApiError };

export interface StreamOptions {
  path: string;
  query: URLSearchParams;
  /** where to start: a position, or '' for now */
  from: string;
  onEvent(event: ServerEvent): void;
  onState(state: StreamState): void;
}

/** Nothing for this long means the connection is dead: the server pings every 10 seconds. */
const SILENCE = 25_000;

/** Follows a stream, reconnecting where it was cut, until the returned function is called. */
export function follow(options: StreamOptions): () => void {
  const control = new AbortController();
  let position = '';
  let failures = 0;

  const once = async (): Promise<'again' | 'stop'> => {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    control.signal.addEventListener('abort', abort);
    let silence: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(abort, SILENCE);
    };
    try {
      const query = new URLSearchParams(options.query);
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (position) headers['Last-Event-ID'] = position;
      else if (options.from) query.set('cursor', options.from);
      const answer = await open(options.path, { query, headers, signal: attempt.signal, timeout: 15_000 });
      options.onState({ step: 'open' });
      const opened = Date.now();
      heard();
      const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      let outcome: 'again' | 'stop' = 'again';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return outcome;
        heard();
        parser.push(value, (event) => {
          failures = 0;
          if (event.id) position = event.id;
          if (event.event === 'behind') {
            position = (JSON.parse(event.data) as { resume: string }).resume;
          } else if (event.event === 'denied') {
            const { error } = JSON.parse(event.data) as { error: { code: string; message: string; audit_id: string | null } };
            // The next attempt, with a fresh token, is told for certain; but not for ever.
            if (Date.now() - opened < 10_000) {
              options.onState({ step: 'stopped', error: new ApiError(401, error.code, error.message, error.audit_id) });
              outcome = 'stop';
            }
          } else {
            options.onEvent(event);
          }
        });
      }
    } finally {
      clearTimeout(silence);
      control.signal.removeEventListener('abort', abort);
      attempt.abort();
    }
  };

  void (async () => {
    while (!control.signal.aborted) {
      options.onState({ step: 'connecting' });
      let error = new ApiError(0, 'closed', 'The stream was closed.');
      try {
        if ((await once()) === 'stop') return;
      } catch (cause) {
        if (control.signal.aborted) break;
        error = isAbort(cause) ? new ApiError(0, 'silent', 'The stream went silent.') : asApiError(cause);
        // What will not get better by waiting. 401 has already led to the sign-in.
        if (error.status >= 400 && error.status < 500 && error.status !== 429 && error.status !== 408) {
          options.onState({ step: 'stopped', error });
          return;
        }
      }
      if (control.signal.aborted) break;
      // At once after a cut, then 0.5 s doubling to 10 s, jittered so that tabs do not come back together.
      const wait = Math.max(error.retryAfter * 1000, failures === 0 ? 50 : Math.min(10_000, 250 * 2 ** failures) * (0.5 + Math.random()));
      failures++;
      options.onState({ step: 'waiting', error, until: Date.now() + wait });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        control.signal.addEventListener('abort', () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    options.onState({ step: 'closed' });
  })();
  return () => control.abort();
}
