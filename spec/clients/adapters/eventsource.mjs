// Clients with the interface of a browser's EventSource.
import { follow, name, url } from "./common.mjs";

const make = {
  "@sanity/eventsource": async () => new (await import("@sanity/eventsource")).default(url),
  "event-source-polyfill": async () => new (await import("event-source-polyfill")).default.EventSourcePolyfill(url),
  "eventsource 2": async () => new (await import("eventsource2")).default(url),
  "eventsource 3": async () => new (await import("eventsource3")).EventSource(url),
  "eventsource 4": async () => new (await import("eventsource4")).EventSource(url),
  "extended-eventsource": async () => new (await import("extended-eventsource")).EventSource(url),
  "launchdarkly-eventsource": async () => {
    const { EventSource } = (await import("launchdarkly-eventsource")).default;
    // Without it the client takes Node's own five seconds of silence for a lost connection.
    return new EventSource(url, { readTimeoutMillis: 60000 });
  },
  "reconnecting-eventsource": async () => {
    const { EventSource } = await import("eventsource4");
    const Reconnecting = (await import("reconnecting-eventsource")).default;
    return new (Reconnecting.default ?? Reconnecting)(url, { eventSourceClass: EventSource });
  },
  "undici": async () => new (await import("undici")).EventSource(url),
};

follow(await make[name]());
