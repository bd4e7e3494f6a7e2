// The language of the search box:
//
//   actor:user_ABC route:"GET /v1/tenants/:id" status:5xx -client:argusctl latency_min:500ms since:1h
//
// Words are separated by spaces; a name stands before the first colon; a minus before the name negates it; a
// value with spaces or quotes stands in double quotes, in which \" and \\ mean the character. A name repeated
// is OR, different names are AND. A word without a name is taken for what it looks like (an id, a status, a
// path, a user, an address, a method, a tenant).

import { type Condition, guessName, isFilterName, valueProblem } from './filter';
import { momentProblem, now, readShown, toRFC3339 } from './time';

export interface Word {
  start: number;
  end: number;
  not: boolean;
  /** '' when there is no colon */
  name: string;
  value: string;
  /** where the value starts in the text, its quote included */
  valueStart: number;
  /** a quote was opened and not closed */
  open: boolean;
}

export interface Parsed {
  conditions: Condition[];
  since: string | null;
  until: string | null;
  problems: { message: string; start: number; end: number }[];
}

/** Splits the text into its words. */
export function words(text: string): Word[] {
  const found: Word[] = [];
  let i = 0;
  while (i < text.length) {
    if (/\s/.test(text[i]!)) {
      i++;
      continue;
    }
    const start = i;
    const not = text[i] === '-' && i + 1 < text.length && !/\s/.test(text[i + 1]!);
    if (not) i++;
    const bare = i;
    while (i < text.length && /[A-Za-z_.]/.test(text[i]!)) i++;
    let name = '';
    // The rest of a param's name may be anything a route template allows.
    if (text.slice(bare, i).startsWith('param.')) while (i < text.length && /[A-Za-z0-9_.-]/.test(text[i]!)) i++;
    if (text[i] === ':' && i > bare) {
      name = text.slice(bare, i);
      i++;
    } else {
      i = bare;
    }
    const valueStart = i;
    const read = readValue(text, i);
    found.push({ start, end: read.end, not, name, value: read.value, valueStart, open: read.open });
    i = read.end;
  }
  return found;
}

function readValue(text: string, from: number): { value: string; end: number; open: boolean } {
  let i = from;
  if (text[i] !== '"') {
    while (i < text.length && !/\s/.test(text[i]!)) i++;
    return { value: text.slice(from, i), end: i, open: false };
  }
  let value = '';
  for (i++; i < text.length; i++) {
    if (text[i] === '\\' && (text[i + 1] === '"' || text[i + 1] === '\\')) value += text[++i];
    else if (text[i] === '"') return { value, end: i + 1, open: false };
    else value += text[i];
  }
  return { value, end: i, open: true };
}

/** Reads the text; what cannot be understood is named in problems, the rest still counts. */
export function parse(text: string): Parsed {
  const result: Parsed = { conditions: [], since: null, until: null, problems: [] };
  for (const word of words(text)) {
    const problem = (message: string) => result.problems.push({ message, start: word.start, end: word.end });
    let { name, value } = word;
    if (name !== 'since' && name !== 'until' && !isFilterName(name)) {
      const whole = text.slice(word.start + (word.not ? 1 : 0), word.end);
      const guess = guessName(name === '' ? value : whole);
      if (guess === null) {
        if (name !== '') problem(`There is no filter called “${name}”.`);
        else problem(`“${value}” needs a name, such as user_agent:${quote(value)}.`);
        continue;
      }
      if (name !== '') value = whole;
      name = guess;
    }
    if (word.open) {
      problem('A quote is not closed.');
      continue;
    }
    if (name === 'since' || name === 'until') {
      const wrong = word.not ? `${name} cannot be negated.` : momentProblem(value);
      if (!wrong) result[name] = value;
      // As the picker of windows reads it, too: today, yesterday, monday 9:00.
      const moment = wrong && !word.not ? readShown(value, now(), name === 'until') : null;
      if (moment !== null) result[name] = toRFC3339(moment);
      else if (wrong) problem(wrong);
      continue;
    }
    const wrong = valueProblem(name, name === 'method' ? value.toUpperCase() : value);
    if (wrong) {
      problem(`${wrong[0]!.toUpperCase()}${wrong.slice(1)}`);
      continue;
    }
    result.conditions.push({ name, not: word.not, value: name === 'method' ? value.toUpperCase() : value });
  }
  return result;
}

/** The value as the search box reads it back. */
export function quote(value: string): string {
  return value === '' || /[\s"]/.test(value) ? `"${value.replace(/[\\"]/g, '\\$&')}"` : value;
}

/** The condition as the search box reads it back. */
export function format(condition: Condition): string {
  return `${condition.not ? '-' : ''}${condition.name}:${quote(condition.value)}`;
}

/** The word the caret is in or just behind; null between words. */
export function wordAt(text: string, caret: number): Word | null {
  return words(text).find((w) => caret > w.start && caret <= w.end) ?? null;
}
