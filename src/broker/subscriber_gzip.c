/* Subscribers whose bodies are compressed: what is theirs to decide about gzip.h. */
#include "audience/audience_set.h"
#include "base/container_of.h"
#include "broker/subscriber_state.h"

/* Between two looks for an encoder to take over: there may be many audiences. */
enum { ENCODER_SEEK_MS = 1000 };

static struct gzip_body *subscriber_body(struct subscriber *sub)
{
    return &container_of(sub, struct subscriber_gzip, sub)->body;
}

bool subscriber_gzip_pays(const struct audience *a, const struct broker *b)
{
    return a->refs >= b->opt.gzip_min_members;
}

void subscriber_leave_epoch(struct subscriber *sub)
{
    if (sub->gzip) {
        gzip_body_leave(subscriber_body(sub), sub->audience->gzip);
    }
}

struct frame *subscriber_gzip_frame(struct subscriber *sub, struct slice bytes, bool ends)
{
    bool begins = !sub->gzip_begun;
    subscriber_leave_epoch(sub);
    sub->gzip_begun = true;
    return gzip_body_stored(subscriber_body(sub), bytes, begins, ends);
}

/* The audience goes without until it has events again. */
static void subscriber_drop_encoder(struct audience *a)
{
    list_for_each (it, &a->live) {
        subscriber_leave_epoch(container_of(it, struct subscriber, place));
    }
    gzip_encoder_free(a->gzip);
    a->gzip = NULL;
}

/* A new one, or that of an audience without events; NULL: neither. */
static struct gzip_encoder *subscriber_find_encoder(struct broker *b)
{
    struct gzip_encoder *e = gzip_encoder_new(b->gzip);
    uint64_t now = loop_now(b->loop);
    if (e || now - b->gzip->sought_ms < ENCODER_SEEK_MS) {
        return e;
    }
    b->gzip->sought_ms = now;
    for (struct audience *a = audience_set_first(b->audiences); a; a = audience_set_next(a)) {
        if (a->gzip && gzip_encoder_is_idle(a->gzip, now)) {
            subscriber_drop_encoder(a);
            return gzip_encoder_new(b->gzip);
        }
    }
    return NULL;
}

struct frame *subscriber_gzip_batch(struct subscriber *sub, struct write_batch *g)
{
    struct broker *b = sub->b;
    struct audience *a = sub->audience;
    bool live = sub->state == SUB_LIVE;
    bool pays = subscriber_gzip_pays(a, b);
    enum gzip_use use = GZIP_STORED;
    if (live && pays && !sub->gzip_stored && !a->gzip) {
        a->gzip = subscriber_find_encoder(b);
    }
    if (!sub->gzip_stored && !live) {
        use = GZIP_BEHIND;
    } else if (!sub->gzip_stored && (pays || a->gzip)) {
        use = GZIP_LIVE;
    }
    return gzip_batch_for(b->gzip, &g->gzip, a->gzip, subscriber_body(sub), &g->sealed, use,
                          loop_now(b->loop));
}
