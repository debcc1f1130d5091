// Opens two WebSockets as streams of one HTTP/2 connection, with Node's own module, and prints what came as JSON.

import { readFileSync } from "node:fs";
import http2 from "node:http2";
import { randomBytes } from "node:crypto";

const frame = (opcode, payload) => {
  const mask = randomBytes(4);
  const size = Buffer.alloc(2);
  size.writeUInt16BE(payload.length);
  const header = payload.length < 126 ? [0x80 | opcode, 0x80 | payload.length] : [0x80 | opcode, 0xfe, ...size];
  return Buffer.concat([Buffer.from(header), mask, payload.map((octet, place) => octet ^ mask[place % 4])]);
};

const session = http2.connect(process.argv[2], { ca: process.argv[3] && readFileSync(process.argv[3]) });
session.on("error", (error) => { console.error(error.message); process.exit(1); });

const open = (path, payload) => new Promise((resolve) => {
  const stream = session.request({
    ":method": "CONNECT", ":protocol": "websocket", ":path": path, "sec-websocket-version": "13",
  });
  const pieces = [];
  let status;
  stream.on("response", (head) => { status = head[":status"]; });
  stream.on("data", (octets) => {
    if (!pieces.length) setTimeout(() => { stream.write(frame(8, Buffer.from([0x03, 0xe8]))); }, 200);
    pieces.push(octets);
  });
  stream.on("error", () => {});
  stream.on("close", () => resolve({ status, code: stream.rstCode, octets: Buffer.concat(pieces).toString("latin1") }));
  stream.write(frame(1, Buffer.from(payload)));
});

session.once("remoteSettings", async (settings) => {
  const streams = await Promise.all([open("/", "hello"), open("/?abort&after=1", "x".repeat(1000))]);
  const page = await new Promise((resolve) => {
    const stream = session.request({ ":path": "/healthz" });
    let text = "";
    stream.on("data", (octets) => { text += octets; });
    stream.on("end", () => resolve(text));
  });
  console.log(JSON.stringify({ can_connect: settings.enableConnectProtocol, streams, page }));
  session.close();
});
