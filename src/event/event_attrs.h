/* attrs -> the one text that equal attrs have: keys sorted by their bytes, no white space, each
 * number as short as it may be without becoming another one. Pure. */
#ifndef EVENT_EVENT_ATTRS_H
#define EVENT_EVENT_ATTRS_H

#include "base/strbuf.h"

struct json_t;

/* Canonical JSON (compact, sorted keys, shortest numbers) of an object of scalars, appended to
 * `out`, or a constant text saying what is wrong ("attrs: ..."), with `out` as it was. `what` may
 * be any parsed JSON value (struct json_t of jansson); it is not changed. */
const char *event_attrs_canonical(struct json_t *what, struct strbuf *out);

#endif
