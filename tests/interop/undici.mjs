// undici, also in Node 20.

import threads from "node:worker_threads";
import zlib from "node:zlib";

// undici 8 is the first whose WebSocket wants no Sec-WebSocket-Accept over HTTP/2 (RFC 8441 section 5). It wants these
// as it is loaded, uses neither here, and Node 20 has neither.
threads.markAsUncloneable ??= () => {};
zlib.createZstdDecompress ??= zlib.createBrotliDecompress;
export const { Agent, WebSocket } = await import("undici");
