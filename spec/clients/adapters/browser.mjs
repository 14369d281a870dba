// A browser without a driver: serves it a page that listens to the broker and reports what it is told. The
// browser has a new profile, no network of its own, and ends with this process.
// Environment: TRUST (a file: the authority of the broker's certificate), STREAMS (how many;
// each line says which, then)
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NAMED, name, url } from "./common.mjs";

const trust = process.env.TRUST;
const profile = mkdtempSync(join(tmpdir(), "tidegate-browser-"));

// The page. A browser that gave up (readyState 2) is helped as conf/README.md says for pages without a proxy;
// `helped` counts that.
const page = `<!doctype html><meta charset="utf-8"><title>listening</title><script>
  let queue = [], sending = false;
  async function say(line) {
    queue.push(JSON.stringify(line));
    if (sending) return;
    sending = true;
    while (queue.length) await fetch("/said", { method: "POST", body: queue.splice(0).join("\\n") + "\\n" });
    sending = false;
  }
  function listen(stream) {
    const own = ${process.env.STREAMS ? "{ stream }" : "{}"};
    let last = "";
    function open() {
      const url = ${JSON.stringify(url)} + (last ? "&last_event_id=" + last : "");
      const source = new EventSource(url);
      source.onopen = () => {
        say({ open: true, ...own });
        while (listening < wanted) listen(listening++);
      };
      source.onerror = () => {
        say({ error: "readyState " + source.readyState, ...own });
        if (source.readyState === 2) again(url);
      };
      for (const type of ["message", ...${JSON.stringify(NAMED)}]) {
        source.addEventListener(type, (e) => {
          last = e.lastEventId || last;
          say({ event: type, id: e.lastEventId, data: e.data, ...own });
        });
      }
    }
    // An EventSource does not say whether it was refused or found nobody; a request does.
    async function again(url) {
      const stop = new AbortController();
      try {
        const response = await fetch(url + "&look=1", { signal: stop.signal, headers: { Accept: "text/event-stream" } });
        stop.abort();
        if (response.status !== 200) return say({ end: "status " + response.status, ...own });
      } catch {
        return setTimeout(again, 1000, url);
      }
      open();
    }
    open();
  }
  // The others when the first is open: until then a browser does not know that one connection is enough.
  const wanted = ${Number(process.env.STREAMS ?? 1)};
  let listening = 1;
  listen(0);
</script>`;

const server = createServer((request, response) => {
  if (request.url === "/said") {
    request.pipe(process.stdout, { end: false });
    request.on("end", () => response.end());
  } else {
    response.setHeader("Content-Type", "text/html");
    response.end(request.url === "/" ? page : "");
  }
});

const start = {
  Chromium: (address) => ["chromium", ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--remote-debugging-port=0", ...(trust ? ["--ignore-certificate-errors"] : []), `--user-data-dir=${profile}`, address]],
  Firefox: (address) => {
    const off = ["app.update.enabled", "browser.safebrowsing.malware.enabled", "browser.safebrowsing.phishing.enabled",
      "browser.shell.checkDefaultBrowser", "datareporting.policy.dataSubmissionEnabled", "extensions.update.enabled",
      "network.captive-portal-service.enabled", "network.connectivity-service.enabled",
      "toolkit.telemetry.enabled", "app.normandy.enabled", "browser.aboutHomeSnippets.updateUrl"];
    const prefs = off.map((pref) => `user_pref("${pref}", false);`);
    prefs.push('user_pref("services.settings.server", "data:,");',
      'user_pref("browser.startup.homepage_override.mstone", "ignore");');
    writeFileSync(join(profile, "user.js"), prefs.join("\n") + "\n");
    if (trust) {
      execFileSync("certutil", ["-N", "-d", `sql:${profile}`, "--empty-password"]);
      execFileSync("certutil", ["-A", "-d", `sql:${profile}`, "-n", "spec", "-t", "C,,", "-i", trust]);
    }
    return ["firefox-esr", ["--headless", "--no-remote", "--profile", profile, address]];
  },
  // From the package libwebkit2gtk-4.1-0, which keeps it away from PATH.
  WebKitGTK: (address) => [process.env.MINIBROWSER, ["--private", address]],
};

const started = [];
function run(program, args, env, stdio) {
  const child = spawn(program, args, { detached: true, stdio, env: { ...process.env, HOME: profile, ...env } });
  started.push(child);
  child.on("error", stop);
  child.on("exit", stop);
  return child;
}

// Each is a group of processes of its own, ended as a whole.
function stop(why) {
  if (why instanceof Error) process.stderr.write(`${why}\n`);
  for (const child of started) {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch { /* it has ended */ }
  }
  rmSync(profile, { recursive: true, force: true, maxRetries: 20 });
  process.exit(0);
}
process.on("SIGTERM", stop);

// A display that nobody sees; Xvfb picks a free number and writes it to its descriptor 3.
function display() {
  if (name !== "WebKitGTK") return Promise.resolve({});
  const child = run("Xvfb", ["-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp"], {},
    ["ignore", 2, 2, "pipe"]);
  return new Promise((resolve) => {
    child.stdio[3].once("data", (number) => resolve({ DISPLAY: `:${String(number).trim()}`, GDK_BACKEND: "x11" }));
  });
}

server.listen(0, "127.0.0.1", async () => {
  const [program, args] = start[name](`http://127.0.0.1:${server.address().port}/`);
  run(program, args, await display(), ["ignore", 2, 2]);
});
