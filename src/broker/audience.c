#include "broker/audience.h"

#include "base/logging.h"
#include "broker/broker_state.h"
#include "broker/subscriber.h"
#include "event/topic.h"

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

struct subscription audience_subscription(const struct audience *a)
{
    return (struct subscription){.topics = a->topics,
                                 .topic_count = a->topic_count,
                                 .filter = a->filter,
                                 .format = a->format,
                                 .params = a->params};
}

bool audience_is_for(const struct audience *a, const struct subscription *s)
{
    struct strbuf key;
    strbuf_init(&key, KEY_MAX_BYTES);
    bool same =
        key_build(&key, s) == 0 && key.len == a->key_len && memcmp(key.data, a->key, key.len) == 0;
    strbuf_clear(&key);
    return same;
}

/* To the policy in force; in the index is who is bound, by what the binding says. */
static int bind_names(struct broker *b, struct audience *a)
{
    const struct subscription s = audience_subscription(a);
    audience_index_del(b->index, a);
    int rc = b->policy->ops->bind(b->policy, &s, &a->binding);
    a->unbound = rc != 0;
    a->judged = false;
    if (rc == 0) {
        audience_index_add(b->index, a);
    }
    return rc;
}

static void log_unbound(const struct audience *a, unsigned audiences)
{
    log_warn("broker", "the policy has no such filter or format, or no memory for its params",
             LOG_F(log_slice("filter", a->filter), log_slice("format", a->format),
                   log_uint("audiences", audiences)));
}

void audience_rebind_all(struct broker *b, struct policy *old)
{
    const struct audience *unbound = NULL;
    unsigned count = 0;
    for (struct map_entry *e = b->audiences.first; e; e = map_next(e)) {
        struct audience *a = container_of(e, struct audience, by_key);
        struct policy_binding was = a->binding;
        bool was_bound = !a->unbound;
        if (bind_names(b, a)) {
            subscriber_unlive_all(a);
            unbound = a;
            count++;
        }
        if (was_bound) {
            old->ops->unbind(old, &was);
        }
    }
    subscriber_resume_held(b);
    if (unbound) {
        log_unbound(unbound, count);
    }
}

struct audience *audience_intern(struct broker *b, const struct subscription *s)
{
    struct strbuf key;
    strbuf_init(&key, KEY_MAX_BYTES);
    int rc = key_build(&key, s);
    if (rc) {
        log_error("broker", "subscription too large",
                  LOG_F(log_uint("limit_bytes", KEY_MAX_BYTES)));
        strbuf_clear(&key);
        return NULL;
    }
    unsigned hash = (unsigned)hash_bytes(&b->key, key.data, key.len);
    struct map_entry *found = map_find(&b->audiences, strbuf_slice(&key), hash);
    if (found) {
        struct audience *a = container_of(found, struct audience, by_key);
        strbuf_clear(&key);
        if (a->unbound) {
            if (bind_names(b, a)) {
                return NULL;
            }
            subscriber_resume_held(b);
        }
        return audience_ref(a);
    }
    struct audience *a = audience_new(b, &key, s->topic_count);
    if (bind_names(b, a)) {
        log_unbound(a, 1);
        audience_free(a);
        return NULL;
    }
    REQUIRE(map_add(&b->audiences, &a->by_key, slice_of(a->key, a->key_len), hash));
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
    audience_index_del(b->index, a);
    map_del(&b->audiences, &a->by_key);
    list_del(&a->dirty);
    if (!a->unbound) {
        b->policy->ops->unbind(b->policy, &a->binding);
    }
    b->metrics->audiences--;
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

/* Filters that are text are asked here, one event after the other: what a filter looks up in an
 * event is found once for all audiences, and who does not want it costs nothing more. */
static bool refuses(struct broker *b, struct audience *a, struct event *ev)
{
    bool ask = a->binding.text && (a->judged || a->pending.n == 0);
    if (!ask) {
        return false;
    }
    const struct render_order order = {
        .mode = RENDER_DELIVERY, .binding = &a->binding, .event = ev};
    return !render_wants(&b->renderer, &order);
}

static void route_to(void *ctx, struct audience *a)
{
    struct routing *r = ctx;
    if (a->seen == r->mark) {
        return; /* two of its patterns match */
    }
    a->seen = r->mark;
    if (refuses(r->b, a, r->ev)) {
        return;
    }
    if (a->pending.n == 0) {
        a->pending_from = r->mark - 1;
        a->judged = a->binding.text != NULL;
    }
    event_list_push(&a->pending, event_ref(r->ev));
    if (!list_linked(&a->dirty)) {
        list_add_tail(&r->b->dirty, &a->dirty);
    }
}

void audience_route(struct broker *b, struct event *ev, uint64_t ordinal)
{
    struct routing r = {b, ev, ordinal + 1};
    b->metrics->filter_probes += audience_index_match(b->index, ev, route_to, &r);
}

void audience_forget_pending(struct broker *b)
{
    while (!list_empty(&b->dirty)) {
        struct audience *a = list_first(&b->dirty, struct audience, dirty);
        list_del(&a->dirty);
        event_list_clear(&a->pending);
    }
}
