// A `ws` echo server. Usage: node ws.js PORT [-deflate] [-tls CERT KEY] [-pings SECONDS]; Node looks for `ws` in
// NODE_PATH. The pings are those of its README: each round drops the connections that did not answer the last one.
'use strict';

const fs = require('fs');
const http = require('http');
const https = require('https');
const { WebSocketServer } = require('ws');

const [port, ...rest] = process.argv.slice(2);
const tls = rest.indexOf('-tls');
const server =
  tls < 0
    ? http.createServer()
    : https.createServer({ cert: fs.readFileSync(rest[tls + 1]), key: fs.readFileSync(rest[tls + 2]) });

const sockets = new WebSocketServer({ server, perMessageDeflate: rest.includes('-deflate') });
sockets.on('connection', (socket) => {
  socket.on('error', () => socket.terminate());
  socket.on('message', (message, isBinary) => socket.send(message, { binary: isBinary }));
  socket.isAlive = true;
  socket.on('pong', () => (socket.isAlive = true));
});

const pings = rest.indexOf('-pings');
if (pings >= 0) {
  setInterval(() => {
    for (const socket of sockets.clients) {
      if (!socket.isAlive) {
        socket.terminate();
      } else {
        socket.isAlive = false;
        socket.ping();
      }
    }
  }, 1000 * Number(rest[pings + 1]));
}
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 1024 });
