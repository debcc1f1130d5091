// A WebSocket echo server over HTTP/2, of Node's `http2` and `ws`. Usage: node http2.js PORT [-tls CERT KEY]; Node looks
// for `ws` in NODE_PATH. `ws` has no server for HTTP/2, but a WebSocket of it takes any stream.
'use strict';

const fs = require('fs');
const http2 = require('http2');
const { WebSocket } = require('ws');

const [port, ...rest] = process.argv.slice(2);
const settings = { enableConnectProtocol: true };
const server =
  rest[0] === '-tls'
    ? http2.createSecureServer({ settings, cert: fs.readFileSync(rest[1]), key: fs.readFileSync(rest[2]) })
    : http2.createServer({ settings });

server.on('stream', (stream, headers) => {
  if (headers[':protocol'] !== 'websocket') {
    stream.respond({ ':status': 404 }, { endStream: true });
    return;
  }
  stream.respond({ ':status': 200 });
  stream.setNoDelay = () => {}; // a WebSocket calls what a socket has
  const socket = new WebSocket(null, undefined, {});
  socket.on('error', () => socket.terminate());
  socket.on('message', (message, isBinary) => socket.send(message, { binary: isBinary }));
  socket.setSocket(stream, Buffer.alloc(0), { allowSynchronousEvents: true, maxPayload: 100 * 1024 * 1024 });
});
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 1024 });
