#include "event/event.h"

#include "base/alloc.h"
#include "base/require.h"

#include <stdlib.h>

static const struct slice default_type = {"message", 7};

static char *event_put(char *at, struct slice s)
{
    if (s.n) {
        memcpy(at, s.p, s.n);
    }
    at[s.n] = '\0';
    return at + s.n + 1;
}

struct event *event_new(const struct event_fields *f)
{
    struct slice type = f->type.n ? f->type : default_type;
    REQUIRE(f->topic.n <= EVENT_TOPIC_MAX_BYTES && type.n <= EVENT_TYPE_MAX_BYTES);
    REQUIRE(f->key.n <= EVENT_KEY_MAX_BYTES && f->attrs.n <= EVENT_ATTRS_MAX_BYTES);
    REQUIRE(f->data.n <= UINT32_MAX);
    size_t bytes = f->topic.n + type.n + f->key.n + f->attrs.n + f->data.n + 5;
    struct event *ev = malloc(sizeof *ev + bytes);
    if (!ev) {
        return NULL;
    }
    *ev = (struct event){
        .refs = 1,
        .data_len = (uint32_t)f->data.n,
        .time_ms = f->time_ms,
        .expires_ms = f->expires_ms,
        .attrs_len = (uint16_t)f->attrs.n,
        .topic_len = (uint8_t)f->topic.n,
        .type_len = (uint8_t)type.n,
        .key_len = (uint8_t)f->key.n,
        .has_key = f->key.p != NULL,
        .has_attrs = f->attrs.p != NULL,
    };
    char *at = event_put(ev->bytes, f->topic);
    at = event_put(at, type);
    at = event_put(at, f->key);
    at = event_put(at, f->attrs);
    event_put(at, f->data);
    return ev;
}

struct event *event_ref(struct event *ev)
{
    ev->refs++;
    return ev;
}

void event_unref(struct event *ev)
{
    if (ev && --ev->refs == 0) {
        frame_unref(ev->raw_frame);
        free(ev);
    }
}

struct slice event_topic(const struct event *ev)
{
    return slice_of(ev->bytes, ev->topic_len);
}

struct slice event_type(const struct event *ev)
{
    return slice_of(ev->bytes + ev->topic_len + 1, ev->type_len);
}

struct slice event_key(const struct event *ev)
{
    const char *at = ev->bytes + ev->topic_len + ev->type_len + 2;
    return slice_of(ev->has_key ? at : NULL, ev->key_len);
}

struct slice event_attrs(const struct event *ev)
{
    const char *at = ev->bytes + ev->topic_len + ev->type_len + ev->key_len + 3;
    return slice_of(ev->has_attrs ? at : NULL, ev->attrs_len);
}

struct slice event_data(const struct event *ev)
{
    const char *at = ev->bytes + ev->topic_len + ev->type_len + ev->key_len + ev->attrs_len + 4;
    return slice_of(at, ev->data_len);
}

size_t event_cost(const struct event *ev)
{
    return sizeof *ev + ev->topic_len + ev->type_len + ev->key_len + ev->attrs_len + ev->data_len +
           5U;
}

void event_list_push(struct event_list *l, struct event *ev)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 4;
        l->v = xrealloc(l->v, l->cap * sizeof *l->v);
    }
    l->v[l->n++] = ev;
}

void event_list_clear(struct event_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        event_unref(l->v[i]);
    }
    free(l->v);
    *l = (struct event_list){0};
}
