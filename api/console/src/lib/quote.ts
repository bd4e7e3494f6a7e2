/** The text in at most so many bytes of UTF-8, cut between characters, as argus.Text. */
export function cut(text: string, bytes: number): string {
  let left = bytes;
  let end = 0;
  for (const c of text) {
    left -= new TextEncoder().encode(c).length;
    if (left < 0) break;
    end += c.length;
  }
  return text.slice(0, end).replaceAll('\0', '\ufffd');
}

const SHORT: Record<string, string> = { '"': '\\"', '\\': '\\\\', '\x07': '\\a', '\b': '\\b', '\f': '\\f', '\n': '\\n', '\r': '\\r', '\t': '\\t', '\v': '\\v' };

/** The text in quotes, with escapes for what would not be seen: what the server writes with %q. */
export function quoted(text: string): string {
  let out = '';
  for (const c of text) {
    const code = c.codePointAt(0)!;
    const hex = code.toString(16);
    if (SHORT[c]) out += SHORT[c];
    else if (/[\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(c)) out += c;
    else if (code < 0x20 || code === 0x7f) out += `\\x${hex.padStart(2, '0')}`;
    else out += code > 0xffff ? `\\U${hex.padStart(8, '0')}` : `\\u${hex.padStart(4, '0')}`;
  }
  return `"${out}"`;
}
