#include "broker/audience.h"

#include "base/logging.h"
#include "broker/broker_state.h"
#include "broker/topic.h"

#include <stdlib.h>

/* far above what policy_limits let through */
enum { KEY_MAX_BYTES = 16 << 20 };

/* Canonical bytes of a subscription: length-prefixed, so that no two subscriptions share them. */
static int key_part(struct strbuf *key, struct slice s)
{
    uint32_t n = s.p ? (uint32_t)s.n : UINT32_MAX;
    int rc = strbuf_append(key, (const char *)&n, sizeof n);
    return rc ? rc : strbuf_append(key, s.p ? s.p : "", s.n);
}

static int key_build(struct strbuf *key, const struct subscription *s)
{
    int rc = key_part(key, s->filter);
    rc = rc ? rc : key_part(key, s->format);
    rc = rc ? rc : key_part(key, s->params);
    for (size_t i = 0; rc == 0 && i < s->topic_count; i++) {
        rc = key_part(key, s->topics[i]);
    }
    return rc;
}

static struct slice key_next(const char **at)
{
    uint32_t n;
    memcpy(&n, *at, sizeof n);
    *at += sizeof n;
    if (n == UINT32_MAX) {
        return slice_of(NULL, 0);
    }
    struct slice s = slice_of(*at, n);
    *at += n;
    return s;
}

size_t audience_names_split(struct slice names, struct slice out[AUDIENCE_NAMES_MAX])
{
    const char *at = names.p;
    size_t n = 0;
    while (at < names.p + names.n && n < AUDIENCE_NAMES_MAX) {
        out[n++] = key_next(&at);
    }
    return n;
}

static struct audience *audience_new(struct broker *b, struct strbuf *key, size_t topic_count)
{
    struct audience *a = xcalloc(1, sizeof *a);
    a->refs = 1;
    a->id = ++b->last_audience_id;
    a->key_len = key->len;
    a->key = strbuf_detach(key);
    const char *at = a->key;
    a->filter = key_next(&at);
    a->format = key_next(&at);
    a->params = key_next(&at);
    a->topics = xcalloc(topic_count, sizeof *a->topics);
    a->topic_count = topic_count;
    const char *names = at;
    bool plain = topic_count <= AUDIENCE_NAMES_MAX;
    for (size_t i = 0; i < topic_count; i++) {
        a->topics[i] = key_next(&at);
        plain = plain && !topic_is_pattern(a->topics[i]);
    }
    a->names = plain ? slice_of(names, (size_t)(at - names)) : slice_of(NULL, 0);
    list_init(&a->live);
    list_init(&a->parked);
    list_init(&a->dirty);
    return a;
}

static void audience_free(struct audience *a)
{
    event_list_clear(&a->pending);
    free(a->topics);
    free(a->key);
    free(a);
}

struct audience *audience_intern(struct broker *b, const struct subscription *s)
{
    struct strbuf key;
    struct audience *a = NULL;
    strbuf_init(&key, KEY_MAX_BYTES);
    int rc = key_build(&key, s);
    if (rc) {
        log_error("broker", "subscription too large",
                  LOG_F(log_uint("limit_bytes", KEY_MAX_BYTES)));
        strbuf_clear(&key);
        return NULL;
    }
    unsigned hash = (unsigned)hash_bytes(&b->key, key.data, key.len);
    HASH_FIND_BYHASHVALUE(hh, b->audiences, key.data, key.len, hash, a);
    if (a) {
        strbuf_clear(&key);
        return audience_ref(a);
    }
    a = audience_new(b, &key, s->topic_count);
    rc = b->policy->ops->bind(b->policy, s, &a->binding);
    if (rc) {
        log_error("broker", "policy cannot bind a subscription",
                  LOG_F(log_str("error", uv_strerror(rc))));
        audience_free(a);
        return NULL;
    }
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, b->audiences, a->key, a->key_len, hash, a);
    for (size_t i = 0; i < a->topic_count; i++) {
        topic_index_add(b->topics, a->topics[i], a);
    }
    b->metrics->audiences++;
    return a;
}

struct audience *audience_ref(struct audience *a)
{
    a->refs++;
    return a;
}

void audience_unref(struct broker *b, struct audience *a)
{
    if (--a->refs) {
        return;
    }
    REQUIRE(list_empty(&a->live) && list_empty(&a->parked));
    for (size_t i = 0; i < a->topic_count; i++) {
        topic_index_del(b->topics, a->topics[i], a);
    }
    HASH_DEL(b->audiences, a);
    list_del(&a->dirty);
    b->policy->ops->unbind(b->policy, &a->binding);
    b->metrics->audiences--;
    if (b->segment.audience == a) {
        segment_reset(&b->segment);
    }
    audience_free(a);
}

bool audience_wants(const struct audience *a, struct slice topic)
{
    for (size_t i = 0; i < a->topic_count; i++) {
        if (topic_match(a->topics[i], topic)) {
            return true;
        }
    }
    return false;
}

struct routing {
    struct broker *b;
    struct event *ev;
    uint64_t mark;
};

static void route_to(void *ctx, void *member)
{
    struct routing *r = ctx;
    struct audience *a = member;
    if (a->seen == r->mark) {
        return; /* two of its patterns match */
    }
    a->seen = r->mark;
    if (a->pending.n == 0) {
        a->pending_from = r->mark - 1;
    }
    event_list_push(&a->pending, event_ref(r->ev));
    if (!list_linked(&a->dirty)) {
        list_add_tail(&r->b->dirty, &a->dirty);
    }
}

void audience_route(struct broker *b, struct event *ev, uint64_t ordinal)
{
    struct routing r = {b, ev, ordinal + 1};
    topic_index_match(b->topics, event_topic(ev), route_to, &r);
}

void audience_forget_pending(struct broker *b)
{
    while (!list_empty(&b->dirty)) {
        struct audience *a = list_first(&b->dirty, struct audience, dirty);
        list_del(&a->dirty);
        event_list_clear(&a->pending);
    }
}
