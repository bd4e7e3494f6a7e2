// How a text from outside is shown, and what of a text that a person gives is kept: shown.go and given.go in TypeScript.
// testdata/text.json holds both sides. The ranges stand here by number, so that no Unicode version matters.

/** What is shown as an escape, where no character beside it gives it a meaning. */
const HIDDEN =
  /[\0-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\u{13430}-\u{1343f}\u{16fe4}\u{1bca0}-\u{1bca3}\u{1d159}\u{1d173}-\u{1d17a}\u{1fffe}\u{1ffff}\u{2fffe}\u{2ffff}\u{3fffe}\u{3ffff}\u{4fffe}\u{4ffff}\u{5fffe}\u{5ffff}\u{6fffe}\u{6ffff}\u{7fffe}\u{7ffff}\u{8fffe}\u{8ffff}\u{9fffe}\u{9ffff}\u{afffe}\u{affff}\u{bfffe}\u{bffff}\u{cfffe}\u{cffff}\u{dfffe}\u{dffff}\u{e0000}-\u{10ffff}]/u;
const PICTOGRAPH =
  /[\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299\u{1f000}-\u{1faff}]/u;
const JOINING = /[\u0600-\u061b\u061d-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\ufb50-\ufdcf\ufe70-\ufefc]/u;
const MARK = /[\p{Mn}\p{Me}]/u;
const MAX_MARKS = 4;
/** No text without one of these has anything to escape. */
const SUSPECT = new RegExp(`${HIDDEN.source}|${MARK.source}`, 'u');

type Character = { text: string; hidden: boolean };

function characters(text: string): Character[] {
  const all = [...text];
  let last = '';
  let marks = 0;
  return all.map((c, i) => {
    const next = all[i + 1] ?? '';
    let hidden = HIDDEN.test(c);
    if (c === '\u200d') hidden = !((PICTOGRAPH.test(last) || last === '\ufe0f') && PICTOGRAPH.test(next)) && !(JOINING.test(last) && JOINING.test(next));
    else if (c === '\u200c') hidden = !(JOINING.test(last) && JOINING.test(next));
    else if (c === '\ufe0e' || c === '\ufe0f') hidden = !PICTOGRAPH.test(last) && !(/[0-9#*]/.test(last) && next === '\u20e3');
    marks = MARK.test(c) ? marks + 1 : 0;
    hidden ||= marks > MAX_MARKS;
    last = hidden ? '' : c;
    return { text: c, hidden };
  });
}

function escaped(c: string): string {
  if (c === '\n') return '\\n';
  if (c === '\t') return '\\t';
  if (c === '\r') return '\\r';
  const code = c.codePointAt(0)!;
  const hex = code.toString(16);
  return code < 0x80 ? `\\x${hex.padStart(2, '0')}` : code <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
}

/** A text as a person may see it: hidden characters, and halves of surrogate pairs, are escapes. */
export function shown(text: string): string {
  if (!SUSPECT.test(text)) return text;
  return characters(text)
    .map((c) => (c.hidden ? escaped(c.text) : c.text))
    .join('');
}

const BLANKS = /[\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

/** What the server would keep of a text that a person gives, or the sentence by which it would reject it. */
export function given(what: string, text: string, least: number, most: number): { kept: string; error: string | null } {
  const no = (error: string) => ({ kept: '', error });
  if (/[\ud800-\udfff\ufffd]/u.test(text)) return no(`The ${what} holds a character that cannot be read. Write it anew, in UTF-8.`);
  const kept = text
    .replace(/[\u200e\u200f\u061c]/gu, '')
    .split(BLANKS)
    .filter(Boolean)
    .join(' ');
  let seen = 0;
  let joined = false;
  for (const c of characters(kept)) {
    const own = HIDDEN.test(c.text);
    const mark = MARK.test(c.text);
    if (c.hidden && mark && !own) return no(`The ${what} has a character with more than ${MAX_MARKS} marks. Leave some out.`);
    if (c.hidden) return no(`The ${what} holds the hidden character U+${c.text.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}. Leave it out.`);
    const silent = own || mark || /[\u{1f3fb}-\u{1f3ff}]/u.test(c.text);
    if (!silent && !(joined && PICTOGRAPH.test(c.text))) seen++;
    joined = c.text === '\u200d';
  }
  if (seen < least || seen > most) return no(`A ${what} of ${least} to ${most} characters is needed; this one has ${seen}.`);
  const points = [...kept].length;
  if (points > 4 * most) return no(`The ${what} is too long with its marks: ${points} code points, ${4 * most} at most.`);
  return { kept, error: null };
}
