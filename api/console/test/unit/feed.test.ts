import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { compareRows, Feed, FIRST_PAGE, LIVE_KEEP, LIVE_WAIT, mergeRows } from '../../src/audit/feed';
import { useToken } from '../../src/lib/session';
import { EventParser, type ServerEvent } from '../../src/lib/sse';
import type { Row } from '../../src/lib/types';

let seed = 5;
const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function row(seq: number, ms: number): Row {
  const at = `${new Date(ms).toISOString().slice(0, 23)}000Z`;
  return { writer_id: 1, seq, id: `id-${seq}`, occurred_at: at, recorded_at: at } as Row;
}

const START = Date.UTC(2026, 0, 31);

/** A log, its search and its stream, as the server would answer. */
class FakeLog {
  rows: Row[] = [];
  private streams = new Set<(row: Row) => void>();

  append(row: Row): void {
    this.rows.push(row);
    for (const send of this.streams) send(row);
  }

  fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const url = new URL(String(input), 'http://argus.example');
    if (url.pathname.endsWith('/me')) return Response.json({ actor_id: 'user_test', scopes: ['logs:read'] });
    if (url.pathname.endsWith('/stream')) return this.stream(url, init!);
    const until = url.searchParams.get('until');
    const limit = Number(url.searchParams.get('limit'));
    const cursor = url.searchParams.get('cursor');
    const [top, place] = cursor ? (JSON.parse(cursor) as [number, Row]) : [this.rows.length, null];
    const found = this.rows.filter((r) => r.seq <= top && (!until || r.occurred_at < until) && (!place || compareRows(place, r) < 0)).sort(compareRows);
    const page = found.slice(0, limit);
    return Response.json({
      rows: page,
      snapshot: String(top),
      next_cursor: found.length > limit ? JSON.stringify([top, page[page.length - 1]]) : null,
      since: null,
      until: null,
      source: 'clickhouse',
      replicated_through: null,
      actors: {},
      break_glass: {},
    });
  };

  private stream(url: URL, init: RequestInit): Response {
    const from = Number((init.headers as Record<string, string>)['Last-Event-ID'] ?? url.searchParams.get('cursor'));
    let send!: (row: Row) => void;
    const body = new ReadableStream<Uint8Array>({
      start: (control) => {
        send = (r) => control.enqueue(new TextEncoder().encode(`event: row\nid: ${r.seq}\ndata: ${JSON.stringify(r)}\n\n`));
        for (const r of this.rows) if (r.seq > from) send(r);
        this.streams.add(send);
        init.signal!.addEventListener('abort', () => {
          this.streams.delete(send);
          control.error(new DOMException('aborted', 'AbortError'));
        });
      },
    });
    return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
  }
}

async function start(t: TestContext, count: number): Promise<{ log: FakeLog; feed: Feed }> {
  const log = new FakeLog();
  for (let i = 1; i <= count; i++) log.append(row(i, START + i * 10));
  globalThis.fetch = log.fetch;
  assert.equal(await useToken('argus_pat_of_a_test'), null);
  const feed = new Feed(new URLSearchParams(), false, false);
  t.after(() => feed.dispose());
  return { log, feed };
}

const ids = (rows: Row[]) => rows.map((r) => r.id);
const expected = (log: FakeLog) => ids([...log.rows].sort(compareRows));

async function toEnd(feed: Feed): Promise<void> {
  for (let i = 0; i < 500 && !feed.complete; i++) await feed.more();
  assert.ok(feed.complete);
}

test('merging keeps order and loses nothing', () => {
  for (let n = 0; n < 300; n++) {
    const all = Array.from({ length: Math.floor(random() * 30) }, (_, i) => row(i, START + Math.floor(random() * 8)));
    const a = all.filter(() => random() < 0.5);
    const b = all.filter((r) => !a.includes(r));
    assert.deepEqual(ids(mergeRows(a.sort(compareRows), b.sort(compareRows))), ids([...all].sort(compareRows)));
  }
});

test('paging brings each row once, also while rows arrive', async (t) => {
  const { log, feed } = await start(t, 3000);
  await feed.load();
  assert.equal(feed.rows.length, FIRST_PAGE);
  const snapshot = expected(log);
  log.append(row(3001, START + 5));
  await toEnd(feed);
  assert.deepEqual(ids(feed.rows), snapshot);
});

test('the tail goes on where the search ended; rows late in time find their place, also behind what is loaded', async (t) => {
  const { log, feed } = await start(t, 1000);
  await feed.load();
  log.append(row(1001, START + 1_000_000)); // between the search and the tail
  feed.start();
  for (let i = 1002; i < 1100; i++) log.append(row(i, START + Math.floor(random() * 12_000)));
  await sleep(500);
  await toEnd(feed);
  assert.deepEqual(ids(feed.rows), expected(log));
  feed.stop();
});

test('held rows wait, are counted, and are shown when asked', async (t) => {
  const { log, feed } = await start(t, 400);
  await feed.load();
  feed.start();
  await sleep(20);
  feed.hold(true);
  for (let i = 401; i <= 450; i++) log.append(row(i, START + i * 10));
  await sleep(300);
  assert.equal(feed.waiting, 50);
  assert.equal(feed.rows[0]!.seq, 400);
  feed.showWaiting();
  assert.equal(feed.waiting, 0);
  assert.equal(feed.rows[0]!.seq, 450);
  assert.equal(feed.rows.length, FIRST_PAGE + 50);
});

test('more waiting than is kept: the search is made anew, and nothing is missing', async (t) => {
  const { log, feed } = await start(t, 300);
  await feed.load();
  feed.start();
  await sleep(20);
  feed.hold(true);
  for (let i = 301; i <= 301 + LIVE_WAIT + 500; i++) log.append(row(i, START + i * 10));
  await sleep(400);
  assert.equal(feed.waiting, LIVE_WAIT + 501);
  feed.showWaiting();
  await sleep(50);
  log.append(row(9999, START + 99_999_990));
  await sleep(400);
  await toEnd(feed);
  assert.deepEqual(ids(feed.rows), expected(log));
});

test('a tail of days keeps the newest rows, and paging goes on from the oldest kept', async (t) => {
  const { log, feed } = await start(t, 600);
  await feed.load();
  feed.start();
  await sleep(20);
  const many = LIVE_KEEP + 3000;
  for (let i = 601; i <= 600 + many; i++) log.append(row(i, START + Math.floor(i / 7) * 10)); // ties in time
  await sleep(1500);
  assert.ok(feed.rows.length >= LIVE_KEEP && feed.rows.length <= LIVE_KEEP + 1000, String(feed.rows.length));
  assert.ok(!feed.complete);
  feed.stop();
  await toEnd(feed);
  assert.deepEqual(ids(feed.rows), expected(log));
});

test('events come whole, however the stream is cut into pieces', () => {
  const text = 'event: ready\nid: c1\ndata: {}\n\n: comment\nevent: row\r\nid: c2\r\ndata: {"a":\r\ndata: 1}\r\n\r\nevent: ping\ndata: {}\n\ndata: plain\n\n';
  const want: ServerEvent[] = [
    { event: 'ready', id: 'c1', data: '{}' },
    { event: 'row', id: 'c2', data: '{"a":\n1}' },
    { event: 'ping', id: null, data: '{}' },
    { event: 'message', id: null, data: 'plain' },
  ];
  for (let size = 1; size < text.length; size++) {
    const parser = new EventParser();
    const got: ServerEvent[] = [];
    for (let i = 0; i < text.length; i += size) parser.push(text.slice(i, i + size), (e) => got.push(e));
    assert.deepEqual(got, want, `pieces of ${size}`);
  }
});
