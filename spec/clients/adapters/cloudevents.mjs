// The CloudEvents SDK of the npm registry: what it publishes in each mode, and what it makes of what comes out.
// Arguments: a name that nobody reads, the broker's address. Prints one JSON document: for each mode what the SDK sent,
// what came out of a page of history and what came out of a stream, as the SDK sees them, and the answers' statuses.
import { CloudEvent, HTTP, emitterFor, httpTransport } from "cloudevents";

const base = process.argv[3];
const payloads = {
  object: { data: { sum: 12, list: [1, null, "x"] } },
  text: { data: "two\nlines", datacontenttype: "text/plain" },
  json: { data: [1, 2], datacontenttype: "application/vnd.example+json" },
  nothing: {},
};
const all = [];
for (const mode of ["binary", "structured", "batch"]) {
  for (const [name, more] of Object.entries(payloads)) {
    all.push({ mode, name, event: new CloudEvent({
      id: `${mode}-${name}`, source: "https://sdk.example/source?a=b", type: "org.example.sent", subject: `sdk/${mode}`,
      time: "2026-11-30T12:00:00.123Z", dataschema: "https://sdk.example/schema", region: "north", ...more,
    }) });
  }
}

const statuses = [];
for (const mode of ["binary", "structured"]) {
  // the SDK's own way to send: it goes through http.request and tells nothing of the status
  const emit = emitterFor(httpTransport(`${base}/events`), { mode });
  for (const one of all.filter((one) => one.mode === mode)) {
    const message = HTTP[mode](one.event);
    const send = () => fetch(`${base}/events`, { method: "POST", ...message });
    await (message.body === undefined ? send() : emit(one.event)); // with no body its emitter throws
    const again = await send();
    statuses.push(again.status, (await again.json()).duplicate);
  }
}
const batch = await fetch(`${base}/events`, {
  method: "POST", headers: { "Content-Type": "application/cloudevents-batch+json" },
  body: JSON.stringify(all.filter((one) => one.mode === "batch").map((one) => one.event)),
});
statuses.push(batch.status);

const read = (text) => {
  const event = HTTP.toEvent({ headers: { "content-type": "application/cloudevents+json" }, body: text });
  event.validate();
  return event.toJSON();
};
const page = await (await fetch(`${base}/events?topic=sdk/*`, { headers: { Accept: "application/x-ndjson" } })).text();
const paged = page.trimEnd().split("\n").slice(0, -1).map(read);
const answer = await fetch(`${base}/events?topic=sdk/*&last_event_id=earliest&limit=${paged.length}`);
const streamed = (await answer.text()).split("\n\n")
  .filter((block) => !/^event: (position|end)$/m.test(block))
  .map((block) => block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n"))
  .filter((data) => data).map(read);
console.log(JSON.stringify({ sent: all.map((one) => one.event.toJSON()), paged, streamed, statuses }));
