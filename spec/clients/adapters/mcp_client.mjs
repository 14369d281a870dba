// An MCP client: initializes, lists tools, calls one, and ends its session. usage: mcp_client.mjs streamable|sse URL, with
// MCP_TOKEN (its user's) and MCP_END (it ends the session when that file is there)
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { end, error, event, name, open, url } from "./common.mjs";

const requestInit = { headers: { Authorization: `Bearer ${process.env.MCP_TOKEN}` } };
const transport = name === "sse"
  ? new SSEClientTransport(new URL(url), { requestInit })
  : new StreamableHTTPClientTransport(new URL(url), {
    requestInit,
    reconnectionOptions: {
      initialReconnectionDelay: 100, maxReconnectionDelay: 500, reconnectionDelayGrowFactor: 1.5, maxRetries: 1000,
    },
  });
const client = new Client({ name: "spec", version: "1" });
client.onerror = error;
client.setNotificationHandler(ToolListChangedNotificationSchema, () => event("changed", "", ""));
try {
  await client.connect(transport);
  open();
  event("session", "", transport.sessionId ?? "");
  const { tools } = await client.listTools();
  event("tools", "", tools.map((tool) => tool.name).join(" "));
  const result = await client.callTool({ name: "count", arguments: {} }, undefined, {
    onprogress: (p) => event("progress", "", String(p.progress)),
  });
  event("result", "", result.content[0].text);
  while (!existsSync(process.env.MCP_END)) await sleep(20);
  if (transport.terminateSession) await transport.terminateSession();
  event("terminated", "", "");
  await client.close();
  end("done");
} catch (e) {
  end(e);
}
