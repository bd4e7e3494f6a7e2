// The rows of the audit page: pages of a search, and the live tail that goes on where the search's snapshot
// ended. It knows nothing of the page's elements.

import { type ApiError, asApiError, call, isAbort } from '../lib/http';
import { learnNames } from '../lib/names';
import { follow, type StreamState } from '../lib/sse';
import { Store } from '../lib/store';
import { microAfter } from '../lib/time';
import type { Row, SearchPage } from '../lib/types';

export const FIRST_PAGE = 200;
const NEXT_PAGE = 1000;
/** The live tail lets go of the oldest rows beyond this, so that a page left open for a week stays light. */
export const LIVE_KEEP = 20_000;
/** More waiting rows than this are not kept: the search is made anew instead. */
export const LIVE_WAIT = 5_000;
/** Rows are taken in this often, in milliseconds, however fast they come. */
const FLUSH = 200;

export type Live = 'off' | StreamState;

/** -1 when a stands before b, newest first. */
export function compareRows(a: Row, b: Row): number {
  if (a.occurred_at !== b.occurred_at) return a.occurred_at > b.occurred_at ? -1 : 1;
  if (a.writer_id !== b.writer_id) return a.writer_id > b.writer_id ? -1 : 1;
  return b.seq - a.seq;
}

/** Two lists, newest first, as one. */
export function mergeRows(a: Row[], b: Row[]): Row[] {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  if (compareRows(a[a.length - 1]!, b[0]!) < 0) return a.concat(b);
  if (compareRows(b[b.length - 1]!, a[0]!) < 0) return b.concat(a);
  const merged: Row[] = new Array(a.length + b.length);
  for (let i = 0, j = 0, k = 0; k < merged.length; k++) {
    if (j >= b.length || (i < a.length && compareRows(a[i]!, b[j]!) <= 0)) merged[k] = a[i++]!;
    else merged[k] = b[j++]!;
  }
  return merged;
}

export class Feed {
  /** Rises with every change. */
  readonly version = new Store(0);

  rows: Row[] = [];
  /** the first page as answered; undefined until it came */
  page: SearchPage | undefined;
  /** when the first page came, in this machine's milliseconds */
  at = 0;
  error: ApiError | null = null;
  loading = true;
  loadingMore = false;
  moreError: ApiError | null = null;
  /** every row of the search is loaded */
  complete = false;
  live: Live = 'off';
  /** how many rows the live tail brought that wait to be shown */
  waiting = 0;
  /** ids of the rows the last flush brought, to mark them */
  fresh: ReadonlySet<string> = new Set();
  breakGlass: Record<string, string> = {};

  private cursor: string | null = null;
  private tried = 0;
  private pages = 0;
  private trimmed = false;
  private arrived: Row[] = [];
  private held: Row[] = [];
  private overflow = false;
  /** rows the live tail brought that belong behind what is loaded */
  private behind: Row[] = [];
  private holding = false;
  private position = '';
  private stopStream: (() => void) | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private control = new AbortController();

  constructor(
    /** filter and window as the API takes them */
    readonly query: URLSearchParams,
    readonly ascending: boolean,
    /** whether a live tail is to follow the search: then a filter's value may be one that no call had yet */
    live: boolean,
  ) {
    if (live) this.live = { step: 'connecting' };
  }

  private changed(): void {
    this.version.set(this.version.get() + 1);
  }

  /** Makes the search, or makes it anew. What is shown stays until the answer is there. */
  async load(background = false): Promise<void> {
    this.control.abort();
    const mine = (this.control = new AbortController());
    this.loading = true;
    this.tried = Date.now();
    this.loadingMore = false;
    // The tail rests meanwhile: it goes on from the new snapshot, or, should this fail, where it is now.
    this.disconnect();
    this.changed();
    try {
      const page = await this.fetch(FIRST_PAGE, null, this.query, mine.signal, background);
      this.page = page;
      this.at = Date.now();
      this.rows = page.rows;
      this.cursor = page.next_cursor;
      this.complete = page.next_cursor === null;
      this.pages = 1;
      this.trimmed = false;
      this.behind = [];
      this.held = [];
      this.arrived = [];
      this.waiting = 0;
      this.overflow = false;
      this.position = page.snapshot;
      this.error = null;
      this.moreError = null;
      this.fresh = new Set();
    } catch (cause) {
      if (mine.signal.aborted || isAbort(cause)) return;
      this.error = asApiError(cause);
      // The live tail waited for such calls. Without it there is nothing to show.
      if (this.error.code === 'unknown_filter_value' && this.rows.length === 0) this.page = undefined;
    } finally {
      if (!mine.signal.aborted) {
        this.loading = false;
        if (this.live !== 'off' && this.page) this.connect();
        if (this.arrived.length > 0) this.flush(false);
        this.changed();
      }
    }
  }

  /** Brings the first page up to date in place, when nothing else is loaded and the reader is at the top. */
  async refresh(): Promise<void> {
    if (this.live !== 'off' || this.loading || this.loadingMore || this.pages > 1 || this.holding) return;
    if (Date.now() - this.tried < 5000) return; // just made
    await this.load(true);
  }

  /** Loads the rows after the last one. */
  async more(): Promise<void> {
    if (this.loading || this.loadingMore || this.complete || !this.page) return;
    this.loadingMore = true;
    this.moreError = null;
    this.changed();
    const mine = this.control;
    try {
      let query = this.query;
      let cursor = this.cursor;
      const last = this.rows[this.rows.length - 1];
      if (this.trimmed && last) {
        // The cursor stands further down than the rows kept: start over at the last row kept.
        query = new URLSearchParams(this.query);
        query.set('until', microAfter(last.occurred_at));
        cursor = null;
      }
      const page = await this.fetch(this.pages < 3 ? FIRST_PAGE : NEXT_PAGE, cursor, query, mine.signal);
      let rows = this.trimmed && last ? page.rows.filter((r) => compareRows(last, r) < 0) : page.rows;
      this.cursor = page.next_cursor;
      this.complete = page.next_cursor === null;
      this.trimmed = false;
      if (this.behind.length > 0) {
        const end = page.rows[page.rows.length - 1];
        const due = this.complete || !end ? this.behind : this.behind.filter((r) => compareRows(r, end) < 0);
        this.behind = this.behind.filter((r) => !due.includes(r));
        rows = mergeRows(rows, due);
      }
      this.rows = this.rows.concat(rows);
      this.pages++;
    } catch (cause) {
      if (mine.signal.aborted || isAbort(cause)) return;
      this.moreError = asApiError(cause);
    } finally {
      if (!mine.signal.aborted) {
        this.loadingMore = false;
        this.changed();
      }
    }
  }

  private async fetch(limit: number, cursor: string | null, base: URLSearchParams, signal: AbortSignal, background = false): Promise<SearchPage> {
    const query = new URLSearchParams(base);
    query.set('limit', String(limit));
    if (this.ascending) query.set('order', 'asc');
    if (this.live !== 'off') query.set('follow', 'true');
    if (cursor) query.set('cursor', cursor);
    const page = await call<SearchPage>('/v1/audit-log', { query, signal, background });
    page.rows ??= [];
    learnNames(page.actors);
    this.breakGlass = { ...this.breakGlass, ...page.break_glass };
    return page;
  }

  /** Starts the live tail where the search's snapshot, or the tail before, ended. */
  start(): void {
    if (this.live !== 'off' && this.live.step !== 'stopped') return;
    this.live = { step: 'connecting' };
    this.changed();
    if (this.page && !this.loading) this.connect();
    else void this.load(); // a search that did not say that a tail follows may be rejected
  }

  stop(): void {
    if (this.live === 'off') return;
    this.disconnect();
    this.live = 'off';
    this.flush(true);
    this.changed();
    if (this.rows.length === 0 && this.page?.awaited?.length) void this.load();
  }

  private connect(): void {
    this.disconnect();
    const query = new URLSearchParams(this.query);
    query.delete('since'); // the tail brings what is new; the window was the search's
    query.delete('until');
    this.stopStream = follow({
      path: '/v1/audit-log/stream',
      query,
      from: this.position,
      onEvent: (event) => {
        if (event.id) this.position = event.id;
        if (event.event !== 'row') return;
        this.arrived.push(JSON.parse(event.data) as Row);
        this.timer ??= setTimeout(() => this.flush(false), FLUSH);
      },
      onState: (state) => {
        if (state.step === 'closed') return;
        this.live = state;
        this.changed();
      },
    });
  }

  private disconnect(): void {
    this.stopStream?.();
    this.stopStream = null;
  }

  /** Whether new rows wait instead of moving what is being read. */
  hold(holding: boolean): void {
    if (this.holding === holding) return;
    this.holding = holding;
    if (!holding && this.held.length + this.arrived.length > 0) this.flush(false);
  }

  /** Shows the waiting rows. */
  showWaiting(): void {
    this.holding = false;
    if (this.overflow) void this.load();
    else this.flush(true);
  }

  private flush(all: boolean): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.loading) return; // the new search has these rows; if it fails, this is called again
    const batch = this.arrived;
    this.arrived = [];
    if (this.holding && !all) {
      this.waiting += batch.length;
      if (this.held.length + batch.length > LIVE_WAIT) this.overflow = true;
      if (this.overflow) this.held = [];
      else this.held.push(...batch);
      if (batch.length > 0) this.changed();
      return;
    }
    if (this.overflow) {
      // What waits was not kept; only the search has it all.
      if (!this.holding) void this.load();
      return;
    }
    const rows = this.held.concat(batch).sort(compareRows);
    this.held = [];
    this.waiting = 0;
    if (rows.length > 0) {
      const last = this.rows[this.rows.length - 1];
      const inside = this.complete || !last ? rows : rows.filter((r) => compareRows(r, last) < 0);
      if (inside.length < rows.length)
        this.behind = mergeRows(
          this.behind,
          rows.filter((r) => !inside.includes(r)),
        );
      this.rows = mergeRows(inside, this.rows);
      // Where everything is new, nothing is marked.
      this.fresh = new Set(inside.length <= 20 ? inside.map((r) => r.id) : []);
      if (this.rows.length > LIVE_KEEP + 1000) {
        this.rows = this.rows.slice(0, LIVE_KEEP);
        this.trimmed = true;
        this.complete = false;
        this.behind = [];
      }
    }
    this.changed();
  }

  dispose(): void {
    this.control.abort();
    this.disconnect();
    clearTimeout(this.timer);
  }
}
