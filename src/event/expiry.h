/* When an event ends: `expires` and `ttl` of a publication. Pure. */
#ifndef EVENT_EXPIRY_H
#define EVENT_EXPIRY_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ten years, leap days among them. */
#define EXPIRY_MAX_S INT64_C(315619200)

/* `expires`: Unix time, also with a fraction, or ISO 8601 as event/window.h has it. `ttl`: seconds from `now_ms` on. Of
 * the two one at most; absent: no such field. *out_ms: the Unix time from which on the event is not delivered, which may
 * have passed; 0: never. False: `detail` has the field, its value, and what was expected. */
bool expiry_parse(struct slice expires, struct slice ttl, int64_t now_ms, int64_t *out_ms,
                  char *detail, size_t size);
/* The same of numbers. */
bool expiry_of_time(double seconds, int64_t now_ms, int64_t *out_ms, char *detail, size_t size);
bool expiry_of_ttl(double seconds, int64_t now_ms, int64_t *out_ms, char *detail, size_t size);

#endif
