// Checks a proof file (C2SP tlog-proof) in this browser: the row's hash, its leaf, the way to the root, and the
// checkpoint's signature by the key that the user pinned. The server is believed in nothing.

import { Store } from './store';
import type { Row } from './types';

/** The pinned key of the log, name+id+key. It is the user's own setting: no server is asked for it. */
const KEY = 'argus.ledger-key';
export const ledgerKey = new Store<string | null>(localStorage.getItem(KEY));

export function pinLedgerKey(vkey: string | null): void {
  if (vkey === null) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, vkey);
  ledgerKey.set(vkey);
}

/** What came out: verified takes the signature of the pinned key, too. */
export type Checked =
  | { outcome: 'verified'; leaf: number; size: number; origin: string }
  /** the row is in the tree of this root, and no pinned key has vouched for the root */
  | { outcome: 'unsigned'; leaf: number; size: number; origin: string; why: string }
  | { outcome: 'wrong'; why: string };

interface Key {
  name: string;
  id: Uint8Array;
  /** type ‖ public key */
  key: Uint8Array;
}

const utf8 = new TextEncoder();

async function sha256(...parts: Uint8Array[]): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', join(...parts)));
}

function join(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

function base64(text: string): Uint8Array {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  if (btoa(String.fromCharCode(...bytes)) !== text) throw new Error('base64');
  return bytes;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((v, i) => v === b[i]);
}

/** Reads a key, null when it is none. */
export async function parseKey(vkey: string): Promise<Key | null> {
  try {
    const [name, id, ...rest] = vkey.trim().split('+');
    const key = base64(rest.join('+'));
    const own = (await sha256(utf8.encode(`${name}\n`), key)).slice(0, 4);
    const hex = [...own].map((b) => b.toString(16).padStart(2, '0')).join('');
    return name && key.length === 33 && key[0] === 1 && hex === id ? { name, id: own, key } : null;
  } catch {
    return null;
  }
}

const i64 = (n: bigint | number) => {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigInt64(0, BigInt(n));
  return b;
};
const i16 = (n: number) => new Uint8Array([(n >> 8) & 255, n & 255]);
const u32 = (n: number) => new Uint8Array([n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255]);
const text = (s: string) => {
  const b = utf8.encode(s);
  return join(u32(b.length), b);
};
const opt = <T>(v: T | null, f: (v: T) => Uint8Array) => (v === null ? new Uint8Array(1) : join(new Uint8Array([1]), f(v)));
const hex = (s: string) => Uint8Array.from(s.match(/../g) ?? [], (d) => Number.parseInt(d, 16));
const uuid = (s: string) => hex(s.replace(/-/g, ''));

/** Microseconds since 1970 of 2026-07-27T10:31:02.123456Z. */
function micros(time: string): bigint {
  return BigInt(Date.parse(`${time.slice(0, 23)}Z`)) * 1000n + BigInt(time.slice(23, 26));
}

function pairs(map: Record<string, string>): Uint8Array {
  const list = Object.entries(map).map(([name, value]) => [utf8.encode(name), value] as const);
  list.sort(([a], [b]) => {
    for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
    return a.length - b.length;
  });
  return join(u32(list.length), ...list.map(([name, value]) => join(u32(name.length), name, text(value))));
}

/** An address in bytes, after its kind. */
function address(ip: string): Uint8Array {
  if (!ip.includes(':')) return new Uint8Array([4, ...ip.split('.').map(Number)]);
  const [head, tail] = ip.split('::') as [string, string?];
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((g) => Number.parseInt(g, 16)));
  const [first, last] = [groups(head), groups(tail ?? '')];
  const all = tail === undefined ? first : [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return join(new Uint8Array([6]), ...all.map(i16));
}

/** The canonical encoding of a call, version 1, under its row_hash: see canonical.go. */
export function canonical(r: Row): Uint8Array {
  return join(
    new Uint8Array([1]),
    i64(r.writer_id),
    i64(r.seq),
    i64(micros(r.recorded_at)),
    uuid(r.id),
    i64(micros(r.occurred_at)),
    text(r.actor_id),
    opt(r.impersonator_id, text),
    text(r.actor_kind),
    opt(r.pat_id, uuid),
    opt(r.break_glass_id, uuid),
    text(r.scope),
    text(r.route),
    pairs(r.path_params),
    text(r.method),
    opt(r.status, i16),
    text(r.outcome),
    opt(r.latency_us, i64),
    address(r.client_ip),
    text(r.user_agent),
    opt(r.body_sha256, hex),
    i64(r.body_bytes),
    opt(r.client_request_id, text),
    opt(r.trace_id, text),
    text(r.service),
    opt(r.release, text),
    opt(r.error_code, text),
    opt(r.reason, text),
    opt(r.agent, text),
    r.workload === null ? new Uint8Array(0) : pairs(r.workload),
  );
}

/** The root that the way from a leaf leads to, null when the way does not fit the tree (RFC 9162, 2.1.3.2). */
async function rootOf(leaf: Uint8Array, index: number, size: number, path: Uint8Array[]): Promise<Uint8Array | null> {
  let [node, fn, sn] = [leaf, index, size - 1];
  const half = (n: number) => Math.floor(n / 2);
  for (const h of path) {
    if (sn === 0 || h.length !== 32) return null;
    if (fn % 2 === 1 || fn === sn) {
      node = await sha256(new Uint8Array([1]), h, node);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      node = await sha256(new Uint8Array([1]), node, h);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 ? node : null;
}

/** Verifies the key's signature on a checkpoint: true, or why not. */
async function signed(key: Key, body: string, signatures: string): Promise<true | 'bad' | 'unknown' | 'unsupported'> {
  for (const line of signatures.split('\n')) {
    const [dash, name, sig] = line.split(' ');
    if (dash !== '—' || name !== key.name || !sig) continue;
    const bytes = base64(sig);
    if (!same(bytes.slice(0, 4), key.id)) continue;
    let imported: CryptoKey;
    try {
      imported = await crypto.subtle.importKey('raw', key.key.slice(1), { name: 'Ed25519' }, false, ['verify']);
    } catch {
      return 'unsupported';
    }
    return (await crypto.subtle.verify('Ed25519', imported, bytes.slice(4), utf8.encode(body))) ? true : 'bad';
  }
  return 'unknown';
}

/** Looks at a signed checkpoint by the pinned key. */
export async function checkCheckpoint(
  note: string,
  vkey: string | null,
): Promise<{ origin: string; size: number; root: Uint8Array; signature: true | 'bad' | 'unknown' | 'unsupported' | 'unpinned' }> {
  const [body, signatures] = note.split('\n\n') as [string, string?];
  const [origin, size, root, more] = body.split('\n') as [string, string, string, string?];
  if (signatures === undefined || more !== undefined || !/^(0|[1-9]\d*)$/.test(size)) throw new Error('not a checkpoint');
  const key = vkey === null ? null : await parseKey(vkey);
  let signature: Awaited<ReturnType<typeof checkCheckpoint>>['signature'] = 'unpinned';
  if (key) signature = key.name === origin ? await signed(key, `${body}\n`, signatures) : 'unknown';
  return { origin, size: Number(size), root: base64(root), signature };
}

const WHY = {
  unpinned: 'no key is pinned',
  unknown: 'the pinned key did not sign it',
  unsupported: 'this browser cannot check Ed25519 signatures',
};

/** Checks that the row, as it is shown, is the leaf that the proof file leads from to a root the pinned key signed. */
export async function checkProof(row: Row, file: string, vkey: string | null): Promise<Checked> {
  const wrong = (why: string): Checked => ({ outcome: 'wrong', why });
  try {
    const cut = file.indexOf('\n\n');
    const [header, extra, index, ...hashes] = file.slice(0, cut).split('\n') as [string, string, string, ...string[]];
    if (header !== 'c2sp.org/tlog-proof@v1' || !extra.startsWith('extra ') || !/^index (0|[1-9]\d*)$/.test(index))
      return wrong('The server sent no proof file.');
    const checkpoint = await checkCheckpoint(file.slice(cut + 2), vkey);
    const digest = await sha256(canonical(row));
    const month = Number(row.occurred_at.slice(0, 4)) * 12 - 1970 * 12 + Number(row.occurred_at.slice(5, 7)) - 1;
    const entry = join(new Uint8Array([1]), i16(month), i64(row.writer_id), i64(row.seq), digest);
    if (!same(entry, base64(extra.slice(6)).slice(0, 51)) || !same(digest, hex(row.row_hash))) return wrong('The row shown is not the one that was sealed.');
    const leaf = Number(index.slice(6));
    const root = leaf < checkpoint.size && (await rootOf(await sha256(new Uint8Array(1), entry), leaf, checkpoint.size, hashes.map(base64)));
    if (!root || !same(root, checkpoint.root)) return wrong('The proof does not lead to the checkpoint’s root.');
    if (checkpoint.signature === 'bad') return wrong('The checkpoint’s signature is not valid.');
    const found = { leaf, size: checkpoint.size, origin: checkpoint.origin };
    return checkpoint.signature === true ? { outcome: 'verified', ...found } : { outcome: 'unsigned', ...found, why: WHY[checkpoint.signature] };
  } catch {
    return wrong('The server sent no proof file.');
  }
}
