#include "audience/audience_set.h"

#include "audience/audience_index.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"

#include <stdlib.h>

struct audience_set *audience_set_new(struct loop *loop, struct renderer *renderer)
{
    struct audience_set *set = xcalloc(1, sizeof *set);
    set->renderer = renderer;
    set->index = audience_index_new();
    hash_key_init(&set->key);
    list_init(&set->dirty);
    set->conflater = conflater_new(loop, renderer, &set->dirty);
    return set;
}

void audience_set_free(struct audience_set *set)
{
    audience_index_free(set->index);
    conflater_free(set->conflater);
    free(set);
}

/* To the policy in force; in the index is who is bound, by what the binding says. */
static int audience_set_bind(struct audience_set *set, struct audience *a)
{
    struct policy *policy = set->renderer->policy;
    const struct subscription s = audience_subscription(a);
    audience_index_del(set->index, a);
    int rc = policy->rules->bind(policy, &s, &a->binding);
    a->unbound = rc != 0;
    a->judged = false;
    if (rc == 0) {
        audience_index_add(set->index, a);
    }
    return rc;
}

static void audience_set_log_unbound(const struct audience *a, unsigned audiences)
{
    log_warn("broker", "the policy has no such filter or format, or no memory for its params",
             LOG_F(log_slice("filter", a->filter), log_slice("format", a->format),
                   log_uint("audiences", audiences)));
}

void audience_set_rebind(struct audience_set *set, struct policy *old)
{
    const struct audience *unbound = NULL;
    unsigned count = 0;
    for (struct audience *a = audience_set_first(set); a; a = audience_set_next(a)) {
        struct policy_binding was = a->binding;
        bool was_bound = !a->unbound;
        if (audience_set_bind(set, a)) {
            unbound = a;
            count++;
        }
        if (was_bound) {
            old->rules->unbind(old, &was);
        }
    }
    if (unbound) {
        audience_set_log_unbound(unbound, count);
    }
}

struct audience *audience_set_intern(struct audience_set *set, const struct subscription *s,
                                     bool *rebound)
{
    struct strbuf key;
    *rebound = false;
    strbuf_init(&key, AUDIENCE_KEY_MAX_BYTES);
    if (audience_key(&key, s)) {
        log_error("broker", "subscription too large",
                  LOG_F(log_uint("limit_bytes", AUDIENCE_KEY_MAX_BYTES)));
        strbuf_clear(&key);
        return NULL;
    }
    unsigned hash = (unsigned)hash_bytes(&set->key, key.data, key.len);
    struct map_entry *found = map_find(&set->by_key, strbuf_slice(&key), hash);
    if (found) {
        struct audience *a = container_of(found, struct audience, by_key);
        strbuf_clear(&key);
        *rebound = a->unbound;
        if (a->unbound && audience_set_bind(set, a)) {
            return NULL;
        }
        return audience_ref(a);
    }
    size_t size = s->every_ms ? sizeof(struct conflation) : sizeof(struct audience);
    struct audience *a = audience_new(size, ++set->last_id, &key, s->topic_count);
    struct conflation *c = conflation_of(a);
    if (c) {
        conflation_init(set->conflater, c);
    }
    if (audience_set_bind(set, a)) {
        audience_set_log_unbound(a, 1);
        audience_free(a);
        return NULL;
    }
    REQUIRE(map_add(&set->by_key, &a->by_key, slice_of(a->key, a->key_len), hash));
    set->renderer->metrics->audiences++;
    return a;
}

void audience_set_unref(struct audience_set *set, struct audience *a)
{
    if (--a->refs) {
        return;
    }
    REQUIRE(list_empty(&a->live) && list_empty(&a->parked));
    audience_index_del(set->index, a);
    map_del(&set->by_key, &a->by_key);
    list_del(&a->dirty);
    if (!a->unbound) {
        set->renderer->policy->rules->unbind(set->renderer->policy, &a->binding);
    }
    set->renderer->metrics->audiences--;
    struct conflation *c = conflation_of(a);
    if (c) {
        conflation_clear(c);
    }
    audience_free(a);
}

struct routing {
    struct audience_set *set;
    struct event *ev;
    uint64_t mark;
};

/* Filters that are text are asked here, one event after the other: what a filter looks up in an
 * event is found once for all audiences, and who does not want it costs nothing more. */
static bool audience_set_refuses(struct audience_set *set, struct audience *a, struct event *ev)
{
    bool ask = a->binding.text && (a->judged || a->pending.n == 0);
    if (!ask) {
        return false;
    }
    const struct render_order order = {
        .mode = RENDER_DELIVERY, .binding = &a->binding, .event = ev};
    return !render_wants(set->renderer, &order);
}

static void audience_set_route_to(void *ctx, struct audience *a)
{
    struct routing *r = ctx;
    if (a->seen == r->mark) {
        return; /* two of its patterns match */
    }
    a->seen = r->mark;
    if (audience_set_refuses(r->set, a, r->ev)) {
        return;
    }
    if (a->pending.n == 0) {
        a->pending_from = r->mark - 1;
        a->judged = a->binding.text != NULL;
    }
    event_list_push(&a->pending, event_ref(r->ev));
    if (!list_linked(&a->dirty)) {
        list_add_tail(&r->set->dirty, &a->dirty);
    }
}

void audience_set_route(struct audience_set *set, struct event *ev, uint64_t ordinal)
{
    struct routing r = {set, ev, ordinal + 1};
    set->renderer->metrics->filter_probes +=
        audience_index_match(set->index, ev, audience_set_route_to, &r);
}

void audience_set_forget_pending(struct audience_set *set)
{
    while (!list_empty(&set->dirty)) {
        struct audience *a = list_first(&set->dirty, struct audience, dirty);
        list_del(&a->dirty);
        event_list_clear(&a->pending);
    }
    for (struct audience *a = audience_set_first(set); a; a = audience_set_next(a)) {
        struct conflation *c = conflation_of(a);
        if (c) {
            conflation_drop(c);
        }
    }
}
