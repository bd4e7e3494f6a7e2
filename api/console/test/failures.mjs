// A reporter of node --test: each test that failed, one JSON object a line. A file that ended before its tests has no `test`.
export default async function* failures(source) {
  for await (const { type, data } of source) {
    if (type !== 'test:fail' || data.nesting > 0) continue;
    yield `${JSON.stringify({ file: data.file, test: data.name === data.file ? undefined : data.name })}\n`;
  }
}
