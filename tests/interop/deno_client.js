// Opens WebSockets with Deno, and prints what came as JSON.

const [url] = Deno.args;

const talk = (path, text) => new Promise((resolve) => {
  const socket = new WebSocket(url + path);
  const came = [];
  socket.addEventListener("open", () => { if (text !== undefined) socket.send(text); });
  socket.addEventListener("message", (event) => { came.push(event.data); socket.close(4000, "bye"); });
  socket.addEventListener("close", (event) => { resolve({ came, code: event.code, reason: event.reason }); });
});

console.log(JSON.stringify([await talk("/info"), await talk("/", "hello"), await talk("/", "x".repeat(1000000))]));
