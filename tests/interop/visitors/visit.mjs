// Does for clients in JavaScript what visit.py does for those in Python: `node visit.mjs ws|undici|node`, and the same
// in Deno and in Bun with their names. ws and undici are packages, the others are what the runtime has built in. All
// have the interface of browsers. All but ws always offer permessage-deflate, if they know it.
// Must never know what is expected of a client.

import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import process, { argv, stdin, stdout } from "node:process";

import { meet } from "./meet.mjs";

const AT_ONCE = 25;

const visits = new AsyncLocalStorage();
const kind = argv[2];
const require = createRequire(import.meta.url);
const isPackage = kind === "ws" || kind === "undici";
if (kind === "undici") await import("../for_undici.js");
const Client = isPackage ? (await import(kind)).WebSocket : WebSocket;
const version = isPackage ? require(`${kind}/package.json`).version : process.versions[kind];
const tell = (line) => stdout.write(`${line}\n`);

const options = (asked) => ({ perMessageDeflate: asked.deflate, handshakeTimeout: 1000 * asked.quiet });
const open = (asked) => (kind === "ws" ? new Client(asked.url, options(asked)) : new Client(asked.url));

function visit(asked) {
  const seen = {};
  return visits.run(seen, () => meet(asked, open, seen));
}

// An exception that a client raises where nobody can catch it. It would end all visits.
process.on("uncaughtException", (error) => {
  const seen = visits.getStore();
  if (seen) seen.error ||= `uncaught: ${error}`.slice(0, 200);
});

tell(`${kind} ${version}`);
const lines = [];
for await (const line of createInterface({ input: stdin })) lines.push(JSON.parse(line));
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let asked = lines.shift(); asked; asked = lines.shift()) tell(JSON.stringify(await visit(asked)));
  }),
);
process.exit(0);
