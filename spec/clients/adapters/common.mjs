// What all adapters for Node.js share: the lines they print, and the loop for libraries that only parse.
// An adapter's arguments are the client's name and the URL of the stream. It prints one JSON object a line:
//   {"open": true}   {"event": type, "id": id, "data": data}   {"error": text}   {"end": text}: gave up for good
import { setTimeout as sleep } from "node:timers/promises";

export const [name, url] = process.argv.slice(2);
export const NAMED = ["added", "done", "gap", "live", "position", "put", "revoked"];

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}
export const open = () => say({ open: true });
export const event = (type, id, data) => say({ event: type || "message", id: String(id ?? ""), data });
export const error = (what) => say({ error: String(what?.message ?? what) });
export const end = (what) => say({ end: String(what?.message ?? what) });

// Everything that has the interface of a browser's EventSource.
export function follow(source) {
  source.onopen = open;
  source.onerror = (e) => {
    error(e.message ?? e.status ?? e.code ?? e.type);
    // some close right after they have said so
    setImmediate(() => { if (source.readyState === 2) end("closed"); });
  };
  setInterval(() => {}, 1 << 30); // a service has other work: the timers of some clients do not keep a process alive
  for (const type of ["message", ...NAMED]) {
    source.addEventListener(type, (e) => event(e.type, e.lastEventId, e.data));
  }
}

// A loop on a library that parses and does not reconnect: `read(response, onEvent)` ends with the stream.
// As most such loops do, it remembers the id of what the library hands over, and nothing else.
export async function loop(read) {
  let last, retry = 1000;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const response = await fetch(url, { headers });
      if (response.status !== 200) return end(`status ${response.status}`);
      open();
      await read(response, (e) => {
        if (e.id) last = String(e.id);
        event(e.type, e.id, e.data);
      }, (ms) => { retry = ms; });
    } catch (e) {
      error(e);
    }
    await sleep(retry);
  }
}
