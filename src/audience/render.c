#include "audience/render.h"

#include "base/require.h"
#include "event/json_format.h"

#include <inttypes.h>
#include <stdio.h>

void renderer_init(struct renderer *r, struct policy *policy, struct audience_metrics *metrics,
                   size_t event_bytes)
{
    *r = (struct renderer){
        .policy = policy,
        .metrics = metrics,
        .source = slice_str("tidegate"),
        /* a format may add to what it was given, but not without end */
        .format_max = 2 * event_bytes + 4096,
        /* every event must fit: a byte may become \u00XX */
        .json_max = 6 * (event_bytes + EVENT_TOPIC_MAX_BYTES + EVENT_TYPE_MAX_BYTES) +
                    2 * EVENT_ATTRS_MAX_BYTES + 2048,
    };
    strbuf_init(&r->data, r->format_max);
    strbuf_init(&r->event, EVENT_TYPE_MAX_BYTES);
    strbuf_init(&r->envelope, r->json_max + 6 * r->format_max);
    strbuf_init(&r->comment, sizeof "topic " + EVENT_TOPIC_MAX_BYTES);
}

void renderer_clear(struct renderer *r)
{
    format_cache_clear(&r->format_cache);
    strbuf_clear(&r->data);
    strbuf_clear(&r->event);
    strbuf_clear(&r->envelope);
    strbuf_clear(&r->comment);
}

void renderer_set_policy(struct renderer *r, struct policy *policy)
{
    REQUIRE(r->format_cache.entries ==
            0); /* as between any two flush steps: its keys are the old one's */
    r->policy = policy;
}

/* Whether another audience could be served by what this one gets. A mark is in the frames of its own audience. */
static bool render_is_shared(const struct renderer *r, const struct render_order *o)
{
    return o->mode == RENDER_DELIVERY && r->metrics->audiences > 1 && !o->binding->mark.n;
}

bool render_wants(struct renderer *r, const struct render_order *o)
{
    if (o->binding->filter < 0 && o->mode != RENDER_EXPLAIN) {
        return true;
    }
    if (o->mode == RENDER_DELIVERY) {
        r->metrics->filter_calls++;
    }
    return r->policy->rules->filter(r->policy, o->binding, o->event, o->filter);
}

static enum render_result render_failed(const struct event *ev, struct rendering *out)
{
    int n = snprintf(out->comment, sizeof out->comment,
                     "skipped id=%" PRIu64 " reason=format-error", ev->id);
    out->fields = (struct sse_fields){.comment = slice_of(out->comment, (size_t)n)};
    return RENDER_FAILED;
}

static enum render_result render_result_of(enum format_result result, const struct event *ev,
                                           struct rendering *out)
{
    switch (result) {
    case FORMAT_DELIVER:
        return RENDER_EVENT;
    case FORMAT_SKIP:
        return RENDER_LEFT_OUT;
    case FORMAT_FAILED:
        return render_failed(ev, out);
    case FORMAT_NO_MEMORY:
        break;
    }
    return RENDER_NO_MEMORY;
}

/* What is in an envelope is not what is in none. Keys of formats are counted up from 1. */
static uint64_t render_key(const struct render_order *o, uint64_t key)
{
    return key && o->binding->envelope ? key | UINT64_C(1) << 63 : key;
}

/* What the format came to for an audience that it cannot tell from this one; NULL: not known. */
static const struct format_cache_entry *render_known(struct renderer *r,
                                                     const struct render_order *o)
{
    uint64_t keys[POLICY_FORMAT_KEYS_MAX];
    if (r->format_cache.entries == 0 || !render_is_shared(r, o)) {
        return NULL;
    }
    size_t n = r->policy->rules->format_keys(r->policy, o->binding, keys);
    for (size_t i = 0; i < n; i++) {
        keys[i] = render_key(o, keys[i]);
    }
    const struct format_cache_entry *known =
        format_cache_find(&r->format_cache, o->event->id, keys, n);
    r->metrics->format_cache_hits += known != NULL;
    return known;
}

static enum format_result render_format(struct renderer *r, const struct render_order *o,
                                        struct rendering *out)
{
    struct formatted f = {r->data, r->event, 0, r->source};
    f.data.max = o->binding->format <= POLICY_FORMAT_JSON ? r->json_max : r->format_max;
    strbuf_reset(&f.data);
    strbuf_reset(&f.event);
    if (o->mode == RENDER_DELIVERY) {
        r->metrics->format_calls++;
    }
    enum format_result result =
        r->policy->rules->format(r->policy, o->binding, o->event, &f, o->format);
    r->data = f.data;
    r->event = f.event;
    out->fields.data = strbuf_slice(&r->data);
    out->renamed = r->event.len > 0;
    if (out->renamed) {
        out->fields.event = strbuf_slice(&r->event);
    }
    out->key = render_is_shared(r, o) ? render_key(o, f.key) : 0;
    if (result == FORMAT_DELIVER && o->binding->envelope) {
        strbuf_reset(&r->envelope);
        result = format_result_of(
            json_envelope(o->event, out->fields.event, out->fields.data, &r->envelope));
        out->fields.data = strbuf_slice(&r->envelope);
    }
    return result;
}

/* Does a stream of the audience end behind that event? Asked for what is delivered only. */
static bool render_ends(struct renderer *r, const struct render_order *o)
{
    if (o->binding->ends < 0) {
        return false;
    }
    if (o->mode == RENDER_DELIVERY) {
        r->metrics->filter_calls++;
    }
    return r->policy->rules->ends(r->policy, o->binding, o->event, o->ends);
}

static enum render_result render_frame(struct renderer *r, const struct render_order *o,
                                       struct rendering *out)
{
    const struct event *ev = o->event;
    out->fields = (struct sse_fields){
        .id = ev->id, .mark = o->binding->mark, .event = event_type(ev), .data = event_data(ev)};
    out->known = NULL;
    out->renamed = false;
    out->key = 0;
    out->plain = o->binding->format == POLICY_FORMAT_RAW;
    if (out->plain) {
        if (o->format) {
            o->format->asked = true;
            o->format->kind = "built-in";
        }
        return RENDER_EVENT;
    }
    const struct format_cache_entry *known = render_known(r, o);
    if (known) {
        out->known = known->frame;
        return render_result_of(known->result, ev, out);
    }
    enum format_result result = render_format(r, o, out);
    if (result == FORMAT_SKIP || result == FORMAT_FAILED) {
        format_cache_put(&r->format_cache, ev->id, out->key, result, NULL);
    }
    return render_result_of(result, ev, out);
}

/* As `sse.topic` says. */
static enum render_result render_tell_topic(struct renderer *r, const struct event *ev,
                                            struct rendering *out)
{
    if (r->topic == SSE_TOPIC_EVENT && !out->renamed) {
        out->fields.event = event_topic(ev);
    } else if (r->topic == SSE_TOPIC_COMMENT) {
        struct slice topic = event_topic(ev);
        strbuf_reset(&r->comment);
        if (strbuf_append_str(&r->comment, "topic ") ||
            strbuf_append(&r->comment, topic.p, topic.n)) {
            return RENDER_NO_MEMORY;
        }
        out->fields.comment = strbuf_slice(&r->comment);
    }
    return RENDER_EVENT;
}

static enum render_result render_any(struct renderer *r, const struct render_order *o,
                                     struct rendering *out)
{
    if (!o->judged && !render_wants(r, o)) {
        return RENDER_FILTERED;
    }
    enum render_result result = render_frame(r, o, out);
    if (result == RENDER_EVENT && r->topic != SSE_TOPIC_NONE && !out->known) {
        result = render_tell_topic(r, o->event, out);
    }
    out->ends = result == RENDER_EVENT && render_ends(r, o);
    return result;
}

enum render_result render(struct renderer *r, const struct render_order *o, struct rendering *out)
{
    if (o->expired_too || !render_is_expired(r, o->event)) {
        return render_any(r, o, out);
    }
    out->ends = o->binding->ends >= 0 && render_any(r, o, out) == RENDER_EVENT && out->ends;
    return RENDER_EXPIRED;
}

void render_remember(struct renderer *r, const struct rendering *out, const struct event *ev,
                     struct frame *large, struct slice bytes)
{
    if (out->key == 0 || !format_cache_has_room(&r->format_cache, large ? large->len : bytes.n)) {
        return;
    }
    struct frame *frame = large ? frame_ref(large) : frame_copy(bytes);
    if (frame) { /* else memory is short: the next audience asks again */
        format_cache_put(&r->format_cache, ev->id, out->key, FORMAT_DELIVER, frame);
        frame_unref(frame);
    }
}

void render_forget(struct renderer *r)
{
    format_cache_reset(&r->format_cache);
}
