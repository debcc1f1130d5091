// Meets faults on streams of one HTTP/2 connection, with Node's own module. It is told as JSON what to ask for,
// `[{path, fields, octets}]`, and prints what came of each. `octets` are sent once the stream is open.

import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [url, asked, authority] = process.argv.slice(2);
const session = http2.connect(url, { ca: authority && readFileSync(authority) });
session.on("error", (error) => { console.error(error.message); process.exit(1); });
const goaways = [];
session.on("goaway", (code) => { goaways.push(code); });

const meet = ({ path, fields, octets }) => new Promise((resolve) => {
  const seen = { status: 0, fields: {}, error: "" };
  const pieces = [];
  const stream = session.request({
    ":method": "CONNECT", ":protocol": "websocket", ":path": path, "sec-websocket-version": "13", ...fields,
  });
  stream.on("response", ({ ":status": status, ...rest }) => {
    Object.assign(seen, { status, fields: rest });
    stream.write(Buffer.from(octets, "hex"));
  });
  stream.on("data", (piece) => { pieces.push(piece); });
  stream.on("end", () => { stream.end(); });
  stream.on("error", (error) => { seen.error = error.code; });
  stream.on("close", () => {
    resolve({ ...seen, code: stream.rstCode, octets: Buffer.concat(pieces).toString("hex"), pieces: pieces.length });
  });
});

session.once("remoteSettings", async () => {
  const seen = await Promise.all(JSON.parse(asked).map(meet));
  console.log(JSON.stringify({ seen, goaways }));
  session.destroy();
});
