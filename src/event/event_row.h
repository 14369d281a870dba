/* Events from rows of a store. Any program can have written such a row, so it is held against all
 * rules of an event. Pure. */
#ifndef EVENT_EVENT_ROW_H
#define EVENT_EVENT_ROW_H

#include "event/event.h"

/* Makes the canonical form of `f->attrs`, which may be any JSON text, then checks and copies the
 * fields. A new reference with the id `id`. NULL: no memory (*reason is NULL), or the row breaks a
 * rule: *reason is a constant text that names the field and the rule. */
struct event *event_from_row(const struct event_fields *f, uint64_t id, size_t max_data,
                             const char **reason);

#endif
