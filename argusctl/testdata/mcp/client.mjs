// Asks `argusctl mcp` by the protocol's official TypeScript client, and prints what it got as one JSON object.
// node client.mjs PROGRAM; standard input is the list of [tool, arguments] to use in turn.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const input = [];
for await (const piece of process.stdin) input.push(piece);
const uses = JSON.parse(Buffer.concat(input).toString());

const transport = new StdioClientTransport({ command: process.argv[2], args: ['mcp', ...process.argv.slice(3)], env: process.env, stderr: 'inherit' });
const client = new Client({ name: 'typescript', version: '1.2' });
const strays = [];
client.onerror = (error) => strays.push(String(error));
await client.connect(transport);
const answers = [];
for (const [name, args] of uses) {
  if (args.tenant === 'HANG') {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 200);
    answers.push(await client.callTool({ name, arguments: args }, undefined, { signal: stop.signal }).catch((error) => ({ cancelled: String(error) })));
  } else {
    answers.push(await client.callTool({ name, arguments: args }).catch((error) => ({ failed: String(error) })));
  }
}
const { tools } = await client.listTools();
console.log(JSON.stringify({ server: client.getServerVersion(), instructions: client.getInstructions(), tools, answers, strays }));
await client.close();
