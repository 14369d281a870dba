/* An event: immutable once stored, shared by reference count, loop thread only.
 *
 * Made from a request body or a row of the store. `id` is 0 until the store has committed the event
 * (the store sets it, once). One allocation holds everything. */
#ifndef EVENT_EVENT_H
#define EVENT_EVENT_H

#include "base/slice.h"
#include "net/frame.h"

#include <stdint.h>

/* Ids stay below 2^53: exact in JavaScript numbers and in Lua. */
#define EVENT_ID_MAX ((UINT64_C(1) << 53) - 1)
#define EVENT_ID_TEXT_MAX 17 /* digits and NUL */
/* Behind an id that a stream was ended with: there is nothing more to come for that request. */
#define EVENT_ID_END "-end"
/* Between an id, as a stream tells it, and the mark that its policy has put there: "58743294180011~g7". */
#define EVENT_MARK_SEPARATOR '~'

enum {
    EVENT_TOPIC_MAX_BYTES = 255,
    EVENT_TYPE_MAX_BYTES = 255,
    EVENT_KEY_MAX_BYTES = 255,
    EVENT_ATTRS_MAX_BYTES = 4096,
};

/* The fields of an event. `type` absent or empty means "message"; `key`, `attrs` may be absent
 * (p == NULL); `attrs` is canonical JSON: an object of scalars, sorted keys, no white space. */
struct event_fields {
    struct slice topic, type, data, key, attrs;
    int64_t time_ms;    /* Unix time of the publish */
    int64_t expires_ms; /* Unix time from which on it is not delivered; 0: never */
};

struct event {
    uint32_t refs;
    uint32_t data_len;
    uint64_t id;
    int64_t time_ms, expires_ms;
    struct frame *raw_frame; /* owned cache of the built-in format, made on first need; or NULL */
    uint32_t since_us;       /* event_since(); 0: not known, as of events of the past */
    uint16_t attrs_len;
    uint8_t topic_len, type_len, key_len;
    bool has_key, has_attrs;
    char bytes[]; /* topic, type, key, attrs, data; each followed by NUL */
};

/* Returns a new reference; copies the fields, which must be valid (event_check). NULL: no memory.
 */
struct event *event_new(const struct event_fields *f);
struct event *event_ref(struct event *ev);
void event_unref(struct event *ev); /* NULL is fine */

/* Borrowed until the last unref. */
struct slice event_topic(const struct event *ev);
struct slice event_type(const struct event *ev); /* never empty: "message" */
struct slice event_key(const struct event *ev);
struct slice event_attrs(const struct event *ev);
struct slice event_data(const struct event *ev);
/* Its memory in bytes, without frames. */
size_t event_cost(const struct event *ev);

/* When a broker got an event that is new, by the monotonic clock of this machine: its publish request
 * was complete, its row was taken from the outbox. `age_us`: that is so long ago. */
static inline uint32_t event_since(uint64_t now_ns, uint64_t age_us)
{
    enum { AGE_MAX_US = 30 * 60 * 1000000 }; /* half of what 32 bits hold, before they wrap */
    return (uint32_t)(now_ns / 1000 - (age_us < AGE_MAX_US ? age_us : AGE_MAX_US)) | 1;
}
/* Microseconds from then on; the event's is known. */
static inline uint32_t event_age_us(uint32_t since_us, uint64_t now_ns)
{
    uint32_t age = (uint32_t)(now_ns / 1000) - since_us;
    return age <= INT32_MAX ? age : 0; /* `since_us` is odd, so it may be one too high */
}

/* NULL when the fields may become an event, else a constant text naming the field and the rule
 * ("topic: ..."). Checks everything: topic grammar, CR/LF/NUL in type and key, lengths, UTF-8.
 * `max_data` bounds the data in bytes. */
const char *event_check(const struct event_fields *f, size_t max_data);

/* A batch; owns one reference to each. */
struct event_list {
    struct event **v;
    size_t n, cap;
};
void event_list_push(struct event_list *l, struct event *ev); /* takes the reference */
void event_list_clear(struct event_list *l);

#endif
