// Drives `ws` for watchers.py: opens the connection that its standard input describes, and sends the given messages.
// When the connection has ended, or nothing has come for `patience` seconds, it prints what it saw as one JSON object.
// Must never know what is expected of the daemon.

import { readFileSync } from "node:fs";
import { stdin, stdout } from "node:process";
import WebSocket from "ws";

const options = JSON.parse(Buffer.concat(await stdin.toArray()));
const began = performance.now();
const seconds = () => (performance.now() - began) / 1000;
const seen = { status: null, headers: {}, opened: null, messages: [], pings: 0, code: null, reason: "", gaveUp: false };
let quiet;

function end() {
  clearTimeout(quiet);
  stdout.write(JSON.stringify(seen), () => process.exit(0));
}

function wait() {
  clearTimeout(quiet);
  quiet = setTimeout(end, options.patience * 1000);
}

const socket = new WebSocket(options.url, {
  perMessageDeflate: options.compression,
  ca: options.certificate ? readFileSync(options.certificate) : undefined,
  handshakeTimeout: options.openTimeout * 1000,
});
socket.on("unexpected-response", (_, response) => {
  seen.status = response.statusCode;
  seen.headers = response.headers;
  end();
});
socket.on("open", () => {
  seen.opened = seconds();
  for (const message of options.messages) socket.send(message);
  wait();
});
socket.on("message", (data, isBinary) => {
  seen.messages.push([seconds(), isBinary, data.toString("base64")]);
  wait();
});
socket.on("ping", () => {
  seen.pings += 1;
});
socket.on("error", () => {
  seen.gaveUp = seen.opened === null && seen.status === null;
});
socket.on("close", (code, reason) => {
  seen.code = code;
  seen.reason = reason.toString();
  end();
});
