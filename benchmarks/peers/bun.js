// An echo server on Bun's own WebSockets, which are uWebSockets under JavaScriptCore.
// Usage: bun bun.js PORT [-deflate] [-tls CERT KEY] [-pings SECONDS]. It pings a connection that has been silent for half
// of its idle time-out. The limits are those of the largest column.
const [port, ...rest] = process.argv.slice(2);
const deflate = rest.includes('-deflate');
const tls = rest.indexOf('-tls');
const pings = rest.indexOf('-pings');

Bun.serve({
  port: Number(port),
  hostname: '127.0.0.1',
  tls: tls < 0 ? undefined : { cert: Bun.file(rest[tls + 1]), key: Bun.file(rest[tls + 2]) },
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response('', { status: 400 });
  },
  websocket: {
    perMessageDeflate: deflate,
    maxPayloadLength: 16 * 1024 * 1024,
    backpressureLimit: 64 * 1024 * 1024,
    idleTimeout: pings < 0 ? 120 : 2 * Number(rest[pings + 1]),
    message(socket, message) {
      socket.send(message, deflate);
    },
  },
});
