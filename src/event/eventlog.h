/* The newest events, in memory, in id order: a bounded ring that owns one reference each.
 *
 * Events are addressed by ordinal: 0 for the first one ever appended. Ordinals do not change when old
 * events are trimmed, so a reader may keep its ordinal and gets NULL for a trimmed event. */
#ifndef EVENT_EVENTLOG_H
#define EVENT_EVENTLOG_H

#include "event/event.h"

#include <stdbool.h>

struct eventlog;

/* Holds at most `max_events` (at least 1) events and `max_bytes` of event_cost(); one event that is
 * larger than this is still kept, alone. `floor_id`: the store's head as the log begins. */
struct eventlog *eventlog_new(size_t max_events, size_t max_bytes, uint64_t floor_id);
void eventlog_free(struct eventlog *log); /* NULL is fine */

/* Takes a new reference. `ev->id` must be greater than the head. Trims what no longer fits. */
void eventlog_append(struct eventlog *log, struct event *ev);
/* Removes every event: the log restarts after `id` (not below the head). Ordinals continue. */
void eventlog_restart(struct eventlog *log, uint64_t id);

/* Drops what the event said; its id and its ordinal stay. False: it is not here, or memory is short, in which case all
 * events up to it were trimmed. */
bool eventlog_erase(struct eventlog *log, uint64_t id);
/* Trims events up to that id. */
void eventlog_trim(struct eventlog *log, uint64_t id);

/* The id of the newest event, or the id set by the last restart. */
uint64_t eventlog_head(const struct eventlog *log);
/* Every event of the store with floor < id <= head is here. A reader below the floor reads pages. */
uint64_t eventlog_floor(const struct eventlog *log);
size_t eventlog_count(const struct eventlog *log);
size_t eventlog_bytes(const struct eventlog *log);

/* Ordinal of the oldest event held with an id greater than `id`; eventlog_end() when none is. */
uint64_t eventlog_index_after(const struct eventlog *log, uint64_t id);
/* One past the newest ordinal. */
uint64_t eventlog_end(const struct eventlog *log);
/* Borrowed while the log holds it; NULL: trimmed, erased, or not appended yet. */
struct event *eventlog_at(const struct eventlog *log, uint64_t ordinal);
/* Of an event that is held, erased or not. */
uint64_t eventlog_id_at(const struct eventlog *log, uint64_t ordinal);
/* Events held with an id greater than `id`. */
uint64_t eventlog_lag(const struct eventlog *log, uint64_t id);

#endif
