// Does for the clients of Node what visit.py does for those of Python: `node visit.mjs ws|undici`. Both have the
// interface of browsers. undici's client, which Node also has built in, always offers permessage-deflate.
// Must never know what is expected of a client.

import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import process, { argv, stdin, stdout } from "node:process";

const TEXTS = ["one", "two", "three"];
const AT_ONCE = 25;
const SETTLED = 1;
const SHOWN = 24;

const visits = new AsyncLocalStorage();
const kind = argv[2];
const require = createRequire(import.meta.url);
const Client = require(kind).WebSocket;
const { version } = require(`${kind}/package.json`);
const tell = (line) => stdout.write(`${line}\n`);

function visit(asked) {
  const seen = { ...asked, opened: false, messages: [], waited: false, error: "", code: null };
  return visits.run(seen, () => meet(asked, seen));
}

function meet(asked, seen) {
  return new Promise((resolve) => {
    let timer;
    const wait = (seconds, then) => {
      clearTimeout(timer);
      timer = setTimeout(then, seconds * 1000);
    };
    const end = () => {
      clearTimeout(timer);
      resolve(seen);
    };
    const leave = () => {
      seen.waited = true;
      wait(asked.quiet / 2, end);
      client.close(1000);
    };
    const options = { perMessageDeflate: asked.deflate, handshakeTimeout: 1000 * asked.quiet };
    const client = kind === "ws" ? new Client(asked.url, options) : new Client(asked.url);
    client.binaryType = "arraybuffer";
    wait(asked.quiet, () => {
      seen.waited = true;
      client.close();
      end();
    });
    client.addEventListener("open", () => {
      seen.opened = true;
      for (const text of TEXTS) client.send(text);
      wait(asked.quiet, leave);
    });
    client.addEventListener("message", ({ data }) => {
      const text = typeof data === "string" ? data : new TextDecoder().decode(data.slice(0, 4 * SHOWN));
      seen.messages.push(text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`);
      if (!seen.waited) wait(seen.messages.includes(TEXTS.at(-1)) ? SETTLED : asked.quiet, leave);
    });
    client.addEventListener("error", (event) => {
      seen.error ||= String(event.message || event.error?.message || "error").slice(0, 200);
      if (seen.opened === false && /timeout|timed out/i.test(seen.error)) seen.waited = true;
      if (!seen.opened) end();
    });
    client.addEventListener("close", ({ code }) => {
      seen.code = code;
      end();
    });
  });
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
