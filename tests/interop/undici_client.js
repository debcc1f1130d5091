// Opens WebSockets with undici, over HTTP/2 where the server lets it, and prints what came as JSON. The arguments are
// the server's URL, the file of its authority, and the package: `undici`, or `undici-7`.

import { readFileSync } from "node:fs";

import "./for_undici.js";

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
