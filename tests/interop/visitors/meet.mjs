// One visit by a client with the interface of browsers, for visit.mjs and for pages: it connects, sends three texts,
// takes what comes, and closes. visit.py says what is asked and told. Must never know what is expected of a client.

export function meet(asked, open, seen = {}) {
  const TEXTS = ["one", "two", "three"];
  const SETTLED = 1;
  const SHOWN = 24;
  Object.assign(seen, asked, { opened: false, messages: [], waited: false, error: "", code: null });
  return new Promise((resolve) => {
    let timer;
    const wait = (seconds, then) => {
      clearTimeout(timer);
      timer = setTimeout(then, seconds * 1000);
    };
    const end = () => {
      clearTimeout(timer);
      resolve(seen);
    };
    const leave = () => {
      seen.waited = true;
      wait(asked.quiet / 2, end);
      client.close(1000);
    };
    const client = open(asked);
    client.binaryType = "arraybuffer";
    wait(asked.quiet, () => {
      seen.waited = true;
      client.close();
      end();
    });
    client.addEventListener("open", () => {
      seen.opened = true;
      for (const text of TEXTS) client.send(text);
      wait(asked.quiet, leave);
    });
    client.addEventListener("message", ({ data }) => {
      const text = typeof data === "string" ? data : new TextDecoder().decode(data.slice(0, 4 * SHOWN));
      seen.messages.push(text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`);
      if (!seen.waited) wait(seen.messages.includes(TEXTS.at(-1)) ? SETTLED : asked.quiet, leave);
    });
    client.addEventListener("error", (event) => {
      seen.error ||= String(event.message || event.error?.message || "error").slice(0, 200);
      if (seen.opened === false && /timeout|timed out/i.test(seen.error)) seen.waited = true;
      if (!seen.opened) end();
    });
    client.addEventListener("close", ({ code }) => {
      seen.code = code;
      end();
    });
  });
}
