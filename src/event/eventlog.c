#include "event/eventlog.h"

#include "base/alloc.h"
#include "base/require.h"

#include <stdlib.h>

/* A new log starts this large and doubles up to its bound: an idle broker holds little. */
enum { EVENTLOG_MIN_SLOTS = 64 };

struct eventlog {
    struct event **slots; /* the event of an ordinal is at slots[ordinal % slot_count] */
    size_t slot_count;
    uint64_t first, end; /* ordinals held: [first, end) */
    size_t max_events, max_bytes;
    size_t bytes;
    uint64_t floor, head;
};

struct eventlog *eventlog_new(size_t max_events, size_t max_bytes, uint64_t floor_id)
{
    REQUIRE(max_events > 0);
    struct eventlog *log = xcalloc(1, sizeof *log);
    log->max_events = max_events;
    log->max_bytes = max_bytes;
    log->floor = log->head = floor_id;
    log->slot_count = max_events < EVENTLOG_MIN_SLOTS ? max_events : EVENTLOG_MIN_SLOTS;
    log->slots = xcalloc(log->slot_count, sizeof *log->slots);
    return log;
}

static struct event **slot(const struct eventlog *log, uint64_t ordinal)
{
    return &log->slots[ordinal % log->slot_count];
}

static void trim_oldest(struct eventlog *log)
{
    struct event *ev = *slot(log, log->first);
    log->first++;
    log->floor = ev->id;
    log->bytes -= event_cost(ev);
    event_unref(ev);
}

void eventlog_free(struct eventlog *log)
{
    if (!log) {
        return;
    }
    while (log->first < log->end) {
        trim_oldest(log);
    }
    free(log->slots);
    free(log);
}

/* Where memory is short the log stays as large as it is, and trims: readers go to the store. */
static void eventlog_grow(struct eventlog *log)
{
    size_t count = log->slot_count > log->max_events / 2 ? log->max_events : log->slot_count * 2;
    struct event **slots = calloc(count, sizeof *slots);
    if (!slots) {
        return;
    }
    for (uint64_t i = log->first; i < log->end; i++) {
        slots[i % count] = *slot(log, i);
    }
    free(log->slots);
    log->slots = slots;
    log->slot_count = count;
}

void eventlog_append(struct eventlog *log, struct event *ev)
{
    REQUIRE(ev->id > log->head);
    size_t cost = event_cost(ev);
    while (log->first < log->end &&
           (log->bytes > log->max_bytes || cost > log->max_bytes - log->bytes ||
            eventlog_count(log) == log->max_events)) {
        trim_oldest(log);
    }
    if (eventlog_count(log) == log->slot_count) {
        eventlog_grow(log);
    }
    if (eventlog_count(log) == log->slot_count) {
        trim_oldest(log);
    }
    *slot(log, log->end) = event_ref(ev);
    log->end++;
    log->bytes += cost;
    log->head = ev->id;
}

/* A hole is what stands in the place of an erased event: no topic of an event is empty. */
static bool eventlog_is_erased(const struct event *ev)
{
    return ev->topic_len == 0;
}

bool eventlog_erase(struct eventlog *log, uint64_t id)
{
    uint64_t at = eventlog_index_after(log, id - 1);
    if (at == log->end || (*slot(log, at))->id != id || eventlog_is_erased(*slot(log, at))) {
        return false;
    }
    struct event *hole = event_new(&(struct event_fields){.topic = slice_of("", 0)});
    if (!hole) {
        while (log->first <= at) {
            trim_oldest(log);
        }
        return false;
    }
    hole->id = id;
    log->bytes -= event_cost(*slot(log, at));
    log->bytes += event_cost(hole);
    event_unref(*slot(log, at));
    *slot(log, at) = hole;
    return true;
}

void eventlog_trim(struct eventlog *log, uint64_t id)
{
    while (log->first < log->end && (*slot(log, log->first))->id <= id) {
        trim_oldest(log);
    }
}

void eventlog_restart(struct eventlog *log, uint64_t id)
{
    REQUIRE(id >= log->head);
    while (log->first < log->end) {
        trim_oldest(log);
    }
    log->floor = log->head = id;
}

uint64_t eventlog_head(const struct eventlog *log)
{
    return log->head;
}

uint64_t eventlog_floor(const struct eventlog *log)
{
    return log->floor;
}

size_t eventlog_count(const struct eventlog *log)
{
    return (size_t)(log->end - log->first);
}

size_t eventlog_bytes(const struct eventlog *log)
{
    return log->bytes;
}

uint64_t eventlog_index_after(const struct eventlog *log, uint64_t id)
{
    uint64_t low = log->first, high = log->end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if ((*slot(log, middle))->id > id) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

uint64_t eventlog_end(const struct eventlog *log)
{
    return log->end;
}

struct event *eventlog_at(const struct eventlog *log, uint64_t ordinal)
{
    struct event *ev = ordinal >= log->first && ordinal < log->end ? *slot(log, ordinal) : NULL;
    return ev && !eventlog_is_erased(ev) ? ev : NULL;
}

uint64_t eventlog_id_at(const struct eventlog *log, uint64_t ordinal)
{
    REQUIRE(ordinal >= log->first && ordinal < log->end);
    return (*slot(log, ordinal))->id;
}

uint64_t eventlog_lag(const struct eventlog *log, uint64_t id)
{
    return log->end - eventlog_index_after(log, id);
}
