// Clients that take callbacks and reconnect by themselves.
import { end, error, event, name, open, url } from "./common.mjs";

// @microsoft/fetch-event-source and its forks, with the callbacks that its documentation advises: a status is
// fatal, the end of a stream is not.
async function fetchEventSource(module) {
  globalThis.window = globalThis;
  globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
  const library = await import(module);
  class Fatal extends Error {}
  await library.fetchEventSource(url, {
    openWhenHidden: true,
    async onopen(response) {
      if (response.status !== 200) throw new Fatal(`status ${response.status}`);
      open();
    },
    onmessage: (e) => event(e.event, e.id, e.data),
    onclose() { throw new Error("the stream ended"); },
    onerror(e) {
      error(e);
      if (e instanceof Fatal) throw e;
    },
  }).catch(end);
}

const run = {
  "@ai-zen/node-fetch-event-source": fetchEventSource,
  "@fortaine/fetch-event-source": fetchEventSource,
  "@microsoft/fetch-event-source": fetchEventSource,
  "event-source-plus": async () => {
    const { EventSourcePlus } = await import("event-source-plus");
    const controller = new EventSourcePlus(url, { maxRetryInterval: 1000 }).listen({
      onResponse: open,
      onMessage: (e) => event(e.event, e.id, e.data),
      onRequestError: ({ error: e }) => error(e),
      onResponseError({ response }) {
        if (response.status !== 200) {
          controller.abort();
          end(`status ${response.status}`);
        }
      },
    });
  },
  "eventsource-client": async () => {
    const { createEventSource } = await import("eventsource-client");
    createEventSource({
      url,
      onConnect: open,
      onMessage: (e) => event(e.event, e.id, e.data),
      onDisconnect: () => error("disconnected"),
      onScheduleReconnect: ({ delay }) => error(`back in ${delay} ms`),
    });
  },
};

await run[name](name);
