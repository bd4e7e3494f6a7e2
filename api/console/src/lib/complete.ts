// What the search box offers to complete.

import { FILTERS, guessName, KINDS } from './filter';
import { quote, wordAt } from './syntax';
import type { Facets } from './types';

export interface Choice {
  label: string;
  hint: string;
  count?: number;
  /** what replaces the text from start to end */
  insert: string;
  start: number;
  end: number;
}

const MOST = 12;

const FIXED: Record<string, string[]> = {
  status: ['2xx', '4xx', '5xx', '>=500', '403', '429'],
  actor_kind: KINDS,
  outcome: ['completed', 'interrupted'],
  latency_min: ['100ms', '500ms', '1s', '5s'],
  method: ['GET', 'POST', 'DELETE'],
  since: ['15m', '1h', '24h', '7d', '30d'],
};

/** Completions for the word at the caret, best first. */
export function complete(text: string, caret: number, facets: Facets | undefined): Choice[] {
  const word = wordAt(text, caret);
  if (word && caret < word.end && /\S/.test(text[caret] ?? '')) return []; // inside a word: let it be edited
  if (!word) return names('', false, caret, caret, text.trim() === '');
  if (word.name === '') return [...names(word.value, word.not, word.start, word.end, false), ...everywhere(word.value, word, facets)].slice(0, MOST);
  return values(word.name, word.value, word, facets);
}

/** Whether the word at the caret is a beginning: a name's, or that of an actor who is known by a longer id. */
export function unfinished(text: string, caret: number, facets: Facets | undefined): boolean {
  const word = wordAt(text, caret);
  if (!word) return false;
  if (word.name === 'actor') return word.value !== '' && !(facets?.fields.actor ?? []).some((v) => v.value === word.value);
  return word.name === '' && guessName(word.value) === null;
}

function names(typed: string, not: boolean, start: number, end: number, all: boolean): Choice[] {
  const low = typed.toLowerCase();
  if (low === '' && !not && !all) return [];
  return [...FILTERS, { name: 'since', label: 'Since', hint: '1h, 7d or a time' }, { name: 'until', label: 'Until', hint: 'a time' }]
    .filter((f) => f.name.startsWith(low) || (low !== '' && f.label.toLowerCase().startsWith(low)))
    .filter((f) => !not || (f.name !== 'since' && f.name !== 'until'))
    .slice(0, MOST)
    .map((f) => {
      const name = f.name === 'param' ? 'param.' : `${f.name}:`;
      return { label: `${not ? '-' : ''}${name}`, hint: f.hint, insert: `${not ? '-' : ''}${name}`, start, end };
    });
}

/** A word without a name: values of every field that hold it, operators by their names. */
function everywhere(typed: string, word: { start: number; end: number; not: boolean }, facets: Facets | undefined): Choice[] {
  if (typed.length < 2 || !facets) return [];
  const low = typed.toLowerCase();
  const found: Choice[] = [];
  for (const field of ['actor', 'route', 'service', 'client', 'pat', 'agent', 'error_code', 'release']) {
    for (const v of facets.fields[field] ?? []) {
      if (!v.value.toLowerCase().includes(low) && !v.name?.toLowerCase().includes(low)) continue;
      const insert = `${word.not ? '-' : ''}${field}:${quote(v.value)} `;
      found.push({ label: `${word.not ? '-' : ''}${field}:${v.value}`, hint: v.name ?? '', count: v.count, insert, start: word.start, end: word.end });
      if (found.length >= MOST) return found;
    }
  }
  return found;
}

function values(name: string, typed: string, word: { start: number; end: number; not: boolean; valueStart: number }, facets: Facets | undefined): Choice[] {
  const low = typed.toLowerCase();
  const seen = new Set<string>();
  const found: Choice[] = [];
  const offer = (value: string, hint: string, count?: number) => {
    if (seen.has(value) || found.length >= MOST || value === typed) return;
    if (!value.toLowerCase().includes(low) && !hint.toLowerCase().includes(low)) return;
    seen.add(value);
    const choice: Choice = { label: value === '' ? '""' : value, hint, insert: `${quote(value)} `, start: word.valueStart, end: word.end };
    if (count !== undefined) choice.count = count;
    found.push(choice);
  };
  for (const v of facets?.fields[name] ?? []) offer(v.value, v.name ?? '', v.count);
  for (const v of FIXED[name] ?? []) offer(v, '');
  return found;
}
