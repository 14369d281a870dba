// An MCP server behind Tidegate: reads what sessions say (mcp/*/in) and publishes what it has to say.
// usage: mcp_server.mjs NAME URL, with MCP_KEY (the server's key) and MCP_GO (the tool `count` waits for that file)
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { event, loop, open, url } from "./common.mjs";

const headers = { Authorization: `Bearer ${process.env.MCP_KEY}` };

async function publish(topic, message) {
  const target = new URL(`/events?topic=${encodeURIComponent(topic)}`, url);
  for (;;) {
    const response = await fetch(target, { method: "POST", headers, body: JSON.stringify(message) }).catch(() => ({}));
    if (response.ok) return;
    await sleep(100);
  }
}

// One session, as the SDK wants it: messages come by onmessage and leave by send.
class Session {
  replies = new Map(); // id of a request -> topic of its stream
  last = Promise.resolve();
  constructor(id) { this.standalone = `mcp/${id}/out/session`; }
  async start() {}
  async close() { this.onclose?.(); }
  send(message, options) {
    const answers = message.method === undefined;
    const topic = this.replies.get(answers ? message.id : options?.relatedRequestId) ?? this.standalone;
    this.last = this.last.then(() => publish(topic, message)); // in order
    return this.last;
  }
  take(type, message, reply) {
    if (type === "request") this.replies.set(message.id, reply);
    this.onmessage?.(message);
  }
}

function serve(session) {
  const server = new Server({ name: "counter", version: "1" }, { capabilities: { tools: { listChanged: true } } });
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: [{ name: "count", description: "counts to three", inputSchema: { type: "object" } }],
  }));
  server.setRequestHandler(CallToolRequestSchema, async (request, extra) => {
    const tell = (progress) => extra.sendNotification({
      method: "notifications/progress",
      params: { progressToken: request.params._meta?.progressToken, progress, total: 3 },
    });
    await tell(1);
    await tell(2);
    while (!existsSync(process.env.MCP_GO)) await sleep(20);
    await tell(3);
    await server.notification({ method: "notifications/tools/list_changed" });
    session.last.then(() => event("told", "", ""));
    return { content: [{ type: "text", text: "counted to 3" }] };
  });
  server.connect(session);
  return session;
}

const sessions = new Map();
const fetched = globalThis.fetch;
globalThis.fetch = (target, init) => fetched(target, { ...init, headers: { ...init?.headers, ...headers } });

open();
await loop(async (response, onEvent) => {
  const stream = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  for await (const e of stream) {
    onEvent({ type: "seen", id: e.id, data: e.event ?? "" }); // loop() resumes behind it
    if (e.event === "position") continue;
    const { type, data, attrs } = JSON.parse(e.data);
    if (type === "end") {
      event("over", e.id, attrs.session);
      sessions.delete(attrs.session);
      continue;
    }
    if (!sessions.has(attrs.session)) sessions.set(attrs.session, serve(new Session(attrs.session)));
    sessions.get(attrs.session).take(type, data, attrs.reply);
  }
});
