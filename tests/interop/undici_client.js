// Opens WebSockets with undici, over HTTP/2 where the server lets it, and prints what came as JSON. The arguments are
// the server's URL, the file of its authority, and the package: `undici`, or `undici-7`.

import buffer from "node:buffer";
import crypto from "node:crypto";
import { readFileSync } from "node:fs";
import threads from "node:worker_threads";
import zlib from "node:zlib";

// undici wants these. Node 20 lacks some of them, and Node 18, which Debian 12 has, lacks all.
globalThis.File ??= buffer.File;
String.prototype.toWellFormed ??= function toWellFormed() { return String(this); };
crypto.hash ??= (name, text, form) => crypto.createHash(name).update(text).digest(form);
threads.markAsUncloneable ??= () => {};
zlib.createZstdDecompress ??= zlib.createBrotliDecompress;

const [url, authority, version] = process.argv.slice(2);
const { Agent, WebSocket } = await import(version);
const dispatcher = new Agent({ allowH2: true, connect: { ca: readFileSync(authority) } });

const talk = (path, text) => new Promise((resolve) => {
  const socket = new WebSocket(url + path, { dispatcher });
  const came = [];
  socket.addEventListener("open", () => { if (text !== undefined) socket.send(text); });
  socket.addEventListener("message", (event) => { came.push(event.data); socket.close(4000, "bye"); });
  socket.addEventListener("close", (event) => { resolve({ came, code: event.code, reason: event.reason }); });
});

const told = await Promise.all([talk("/info"), talk("/", "hello"), talk("/", "x".repeat(1000000))]);
console.log(JSON.stringify(told));
await dispatcher.destroy();
