// Libraries that parse a stream: the request, the delay and the id are the loop's.
import { loop, name } from "./common.mjs";

const read = {
  "@azure/core-sse": async (response, onEvent, onRetry) => {
    const { createSseStream } = await import("@azure/core-sse");
    for await (const e of createSseStream(response.body)) {
      if (e.retry) onRetry(e.retry);
      onEvent({ type: e.event, id: e.id, data: e.data });
    }
  },
  "eventsource-parser": async (response, onEvent, onRetry) => {
    const { EventSourceParserStream } = await import("eventsource-parser/stream");
    const stream = response.body.pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream({ onRetry }));
    for await (const e of stream) onEvent({ type: e.event, id: e.id, data: e.data });
  },
  "fetch-event-stream": async (response, onEvent, onRetry) => {
    const { events } = await import("fetch-event-stream");
    for await (const e of events(response)) {
      if (e.retry) onRetry(e.retry);
      if (e.data !== undefined) onEvent({ type: e.event, id: e.id, data: e.data });
    }
  },
  "parse-sse": async (response, onEvent, onRetry) => {
    const { parseServerSentEvents } = await import("parse-sse");
    for await (const e of parseServerSentEvents(response)) {
      if (e.retry) onRetry(e.retry);
      onEvent({ type: e.type, id: e.lastEventId, data: e.data });
    }
  },
};

await loop(read[name]);
