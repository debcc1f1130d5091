// Drives `ws` for clients.py: opens the connection that its argument describes and takes commands on standard input.
//
// A command is one line of JSON. It lists messages as [is binary, octets], and their octets follow the line without
// separators. Answers have the same form. At the end of the input the client closes the connection. Must never know
// what is expected of the daemon.

import { readFileSync } from "node:fs";
import { once } from "node:events";
import { stdin, stdout, argv } from "node:process";
import WebSocket from "ws";

const options = JSON.parse(argv[2]);
const offer = options.offer && {
  serverNoContextTakeover: options.offer.server_no_context_takeover,
  clientNoContextTakeover: options.offer.client_no_context_takeover,
  serverMaxWindowBits: options.offer.server_max_window_bits,
  clientMaxWindowBits: options.offer.client_max_window_bits,
  threshold: options.offer.threshold,
};
const socket = new WebSocket(options.url, options.subprotocols, {
  perMessageDeflate: offer ?? options.compression,
  maxPayload: 0,
  ca: options.certificate ? readFileSync(options.certificate) : undefined,
});

// Standard input, cut into lines and bodies.
const pieces = [];
let size = 0;

async function more() {
  for (;;) {
    const piece = stdin.read();
    if (piece !== null) {
      pieces.push(piece);
      size += piece.length;
      return true;
    }
    if (stdin.readableEnded) return false;
    await Promise.race([once(stdin, "readable"), once(stdin, "end")]);
  }
}

function take(octets) {
  const all = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
  pieces.splice(0, pieces.length, all.subarray(octets));
  size -= octets;
  return all.subarray(0, octets);
}

async function readLine() {
  for (;;) {
    const end = Buffer.concat(pieces).indexOf("\n");
    if (end >= 0) return take(end + 1).toString();
    if (!(await more())) return null;
  }
}

async function readBody(octets) {
  while (size < octets) if (!(await more())) throw new Error("the input ends within a message");
  return take(octets);
}

function answer(record, bodies = []) {
  stdout.write(JSON.stringify(record) + "\n");
  for (const body of bodies) stdout.write(body);
}

// The messages that have come, also while nobody waits for them.
const received = [];
let wanted = { count: Infinity, resolve: () => {} };

socket.on("message", (data, isBinary) => {
  received.push([isBinary, data]);
  if (received.length >= wanted.count) wanted.resolve();
});

async function receive(count) {
  if (received.length < count) await new Promise((resolve) => (wanted = { count, resolve }));
  wanted = { count: Infinity, resolve: () => {} };
  const messages = received.splice(0, count);
  answer({ messages: messages.map(([isBinary, data]) => [isBinary, data.length]) }, messages.map(([, data]) => data));
}

const commands = {
  async exchange(messages) {
    for (const [isBinary, data] of messages) socket.send(data, { binary: isBinary });
    await receive(messages.length);
  },

  async exchangeFragments(messages) {
    for (const [index, [isBinary, data]] of messages.entries()) {
      if (index > 0) {
        const pong = once(socket, "pong");
        socket.ping("between");
        await pong;
      }
      socket.send(data, { binary: isBinary, fin: index === messages.length - 1 });
    }
    await receive(1);
  },
};

await once(socket, "open");
answer({ subprotocol: socket.protocol, extensions: socket.extensions });
for (let line = await readLine(); line !== null; line = await readLine()) {
  const command = JSON.parse(line);
  if (command.do === "close") {
    const closed = once(socket, "close");
    if (command.code === null) socket.close();
    else socket.close(command.code, command.reason);
    const [code, reason] = await closed;
    answer({ code, reason: reason.toString() });
  } else {
    const messages = [];
    for (const [isBinary, octets] of command.messages) messages.push([isBinary, await readBody(octets)]);
    await commands[command.do](messages);
  }
}
if (socket.readyState === WebSocket.OPEN) {
  socket.close();
  await once(socket, "close");
}
