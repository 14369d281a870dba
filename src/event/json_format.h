/* An event as one JSON object: the built-in format "json", and the envelope of others. Pure. */
#ifndef EVENT_JSON_FORMAT_H
#define EVENT_JSON_FORMAT_H

#include "base/strbuf.h"
#include "event/event.h"

/* Appends {"id":"1","topic":..,"type":..,"time":1700000000.123,"data":..,"attrs":{..}}. `data` is
 * the original text where that is JSON (so no digit of a number is lost), else a JSON string.
 * 0, or a negative UV_E* of the buffer (its content is then unspecified). */
__attribute__((warn_unused_result)) int json_format(const struct event *ev, struct strbuf *out);
/* The same with that type and data, and without attrs: a format may be there to hide what they say. */
__attribute__((warn_unused_result)) int json_envelope(const struct event *ev, struct slice type,
                                                      struct slice data, struct strbuf *out);

#endif
