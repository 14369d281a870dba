// A TCP relay that can lose what passes: the network between a broker and its database.
// usage: node relay.js TARGET_PORT       prints the port it listens on
// Commands on stdin, a line each: "cut" (nothing passes, connections stay), "deaf" (only what clients send passes),
// "heal" (new connections pass; those that lost something are reset), "reset" (ends all connections).
"use strict";
const net = require("net");
const target = Number(process.argv[2]);
let mode = "heal";
const pairs = new Set();

const server = net.createServer((client) => {
  const up = net.connect(target, "127.0.0.1");
  const pair = { client, up, damaged: false };
  pairs.add(pair);
  const pass = (from, to, blocked) => {
    from.on("data", (bytes) => {
      if (blocked()) pair.damaged = true;
      else to.write(bytes);
    });
    from.on("error", () => {});
    from.on("close", () => {
      if (mode === "heal") to.destroy();
      else pair.damaged = true;
      if (client.destroyed && up.destroyed) pairs.delete(pair);
    });
  };
  pass(client, up, () => mode === "cut" || pair.damaged);
  pass(up, client, () => mode !== "heal" || pair.damaged);
  if (mode !== "heal") pair.damaged = true;
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`port ${server.address().port}\n`));

function reset(which) {
  for (const pair of pairs) {
    if (which(pair)) {
      pair.client.destroy();
      pair.up.destroy();
      pairs.delete(pair);
    }
  }
}

let rest = "";
process.stdin.on("data", (bytes) => {
  const lines = (rest + bytes).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    if (line === "reset") reset(() => true);
    else mode = line;
    if (mode === "heal") reset((pair) => pair.damaged);
    process.stdout.write(`${line}\n`);
  }
});
process.stdin.on("end", () => process.exit(0));
