// The off-the-shelf client of Debian's node-eventsource as a service would use it.
// usage: NODE_PATH=/usr/share/nodejs node eventsource_client.js URL [LAST_EVENT_ID]
// One line of JSON per event on stdout, and {"open":true} whenever a stream is open.
"use strict";
const EventSource = require("eventsource");

const [url, last] = process.argv.slice(2);
const source = new EventSource(url, last ? { headers: { "Last-Event-ID": last } } : {});

function line(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}

source.onopen = () => line({ open: true });
source.onerror = (e) => line({ error: e.message || "connection lost", status: e.status });
for (const type of ["message", "reserved", "cancelled", "gap"]) {
  source.addEventListener(type, (e) => line({ type: e.type, id: e.lastEventId, data: e.data }));
}
