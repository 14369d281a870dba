/* One event for one audience: filter, format, and the fields of its frame. Delivery, dry runs of a
 * policy, explain and the tools all ask here, so that none of them can say other than what a client
 * gets. */
#ifndef AUDIENCE_RENDER_H
#define AUDIENCE_RENDER_H

#include "audience/format_cache.h"
#include "audience/metrics.h"
#include "base/strbuf.h"
#include "event/event.h"
#include "event/sse_frame.h"
#include "net/loop.h"
#include "policy/policy.h"

enum render_mode {
    RENDER_DELIVERY, /* counted; audiences that a format cannot tell apart share its result */
    RENDER_DRY_RUN,  /* not counted, nothing shared. The policy counts and logs its errors unless it
                        is POLICY_TRIED */
    RENDER_EXPLAIN,  /* without any effect: the policy fills the accounts instead */
};

struct renderer {
    struct policy *policy;            /* borrowed: who is asked */
    struct audience_metrics *metrics; /* borrowed; NULL: RENDER_DELIVERY is not asked for */
    struct format_cache format_cache; /* of RENDER_DELIVERY */
    struct strbuf data, event;        /* scratch of formats */
    struct strbuf envelope, comment;  /* scratch */
    enum sse_topic topic;
    struct slice source; /* borrowed: of CloudEvents that the format makes */
    struct loop *loop;   /* borrowed: its clock says which events have expired; NULL: none has */
    size_t format_max, json_max; /* bounds of `data`: the policy's, "json" */
};

struct render_order {
    enum render_mode mode;
    const struct policy_binding *binding; /* to the renderer's policy */
    struct event *event;
    bool judged;      /* it has passed the filter */
    bool expired_too; /* whether it would be delivered is not the question */
    struct policy_account *filter, *format, *ends; /* of RENDER_EXPLAIN; else NULL */
};

enum render_result {
    RENDER_EVENT,    /* the frame of the event */
    RENDER_EXPIRED,  /* none: its time has passed; nobody is asked but where streams have `ends` */
    RENDER_FILTERED, /* none: the filter said no, or failed */
    RENDER_LEFT_OUT, /* none: the format said so */
    RENDER_FAILED, /* the format failed: a comment says so, never the raw data, which may hold what
                        the format removes */
    RENDER_NO_MEMORY /* nothing is decided */
};

/* Of RENDER_EVENT and RENDER_FAILED; `ends` of RENDER_EXPIRED, too. Borrows from event and renderer until the next render(). */
struct rendering {
    struct sse_fields fields;
    struct frame *known; /* borrowed: the frame, made for another audience; NULL: make it */
    bool plain;          /* the data as published: the same for every audience */
    bool renamed;        /* the format gave the event a type of its own */
    bool ends;           /* a stream that was given it ends, or would have been */
    uint64_t key;        /* under which it may be remembered; 0: not */
    char comment[64];
};

/* `event_bytes`: most bytes of data of an event. `topic` and `source` have defaults until they are set. */
void renderer_init(struct renderer *r, struct policy *policy, struct audience_metrics *metrics,
                   size_t event_bytes);
void renderer_clear(struct renderer *r);
/* Another policy is asked from now on. */
void renderer_set_policy(struct renderer *r, struct policy *policy);

/* Has its time passed? Then it is not delivered any more: not live, not in replay, in no page and no snapshot. */
static inline bool render_is_expired(const struct renderer *r, const struct event *ev)
{
    return ev->expires_ms && r->loop && ev->expires_ms <= loop_unix_ms(r->loop);
}

/* The filter alone, for events that are filtered on arrival. */
bool render_wants(struct renderer *r, const struct render_order *o);
enum render_result render(struct renderer *r, const struct render_order *o, struct rendering *out);
/* The frame that was made of a RENDER_EVENT, for other audiences in the same flush step: `large`,
 * or bytes to copy. */
void render_remember(struct renderer *r, const struct rendering *out, const struct event *ev,
                     struct frame *large, struct slice bytes);
/* The flush step ends. */
void render_forget(struct renderer *r);

#endif
