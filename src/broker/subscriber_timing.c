/* What time does to one stream: events_per_s slows it, the identity's `expires` ends it, the
 * grant's has the policy asked again. Memory only for streams that have one of them. */
#include "base/alloc.h"
#include "base/container_of.h"
#include "broker/resubscribe.h"
#include "broker/subscriber_state.h"

#include <limits.h>
#include <stdlib.h>

enum { PACE_TICK_MS = 50 };

/* ---------------------------------------------------------------- pace: events_per_s */

struct pace {
    struct deadline tick;
    struct subscriber *sub;
    double per_s, tokens;
    uint64_t at_ms;
};

static void subscriber_on_pace(struct deadline *d)
{
    struct pace *p = container_of(d, struct pace, tick);
    if (p->sub->state == SUB_PACED) {
        subscriber_set_state(p->sub, SUB_RUNNABLE);
    }
}

unsigned subscriber_allowance(struct subscriber *sub)
{
    struct pace *p = sub->pace;
    if (!p) {
        return UINT_MAX;
    }
    uint64_t now = loop_now(sub->b->loop);
    double most = p->per_s > 1 ? p->per_s : 1; /* a second's worth may come at once */
    p->tokens += p->per_s * (double)(now - p->at_ms) / 1000;
    p->tokens = p->tokens > most ? most : p->tokens;
    p->at_ms = now;
    return (unsigned)p->tokens;
}

void subscriber_spend(struct subscriber *sub, unsigned events)
{
    if (sub->pace) {
        sub->pace->tokens -= events;
    }
}

void subscriber_wait_for_pace(struct subscriber *sub)
{
    subscriber_set_state(sub, SUB_PACED);
    deadline_arm(loop_deadline_class(sub->b->loop, PACE_TICK_MS, subscriber_on_pace),
                 &sub->pace->tick);
}

static void subscriber_clear_pace(struct subscriber *sub)
{
    if (sub->pace) {
        deadline_disarm(&sub->pace->tick);
        free(sub->pace);
        sub->pace = NULL;
    }
}

void subscriber_set_pace(struct subscriber *sub, double per_s)
{
    if (sub->pace && per_s > 0) {
        sub->pace->per_s = per_s;
        return;
    }
    subscriber_clear_pace(sub);
    if (per_s <= 0) {
        return;
    }
    struct pace *p = xcalloc(1, sizeof *p);
    deadline_init(&p->tick);
    p->sub = sub;
    p->per_s = per_s;
    p->tokens = 1;
    p->at_ms = loop_now(sub->b->loop);
    sub->pace = p;
}

/* ---------------------------------------------------------------- expiry of the identity */

struct expiry {
    struct deadline due;
    struct subscriber *sub;
    int64_t at_ms; /* Unix */
    bool of_grant; /* else of the identity */
};

static void subscriber_on_expiry(struct deadline *d);

enum { EXPIRY_LOOK_MS = 8000 };

/* Deadlines are FIFOs per duration, so a moment far away is reached in steps of powers of two. None is long: the
 * wall clock may be set, or the machine have slept. */
static void subscriber_expiry_arm(struct expiry *x)
{
    int64_t left = x->at_ms - loop_unix_ms(x->sub->b->loop);
    uint64_t step = 250;
    while (step * 2 <= (uint64_t)(left > 0 ? left : 0) && step < EXPIRY_LOOK_MS) {
        step *= 2;
    }
    deadline_arm(loop_deadline_class(x->sub->b->loop, step, subscriber_on_expiry), &x->due);
}

static void subscriber_on_expiry(struct deadline *d)
{
    struct expiry *x = container_of(d, struct expiry, due);
    if (loop_unix_ms(x->sub->b->loop) < x->at_ms || x->sub->state == SUB_STARTING) {
        subscriber_expiry_arm(x);
        return;
    }
    if (x->of_grant) {
        resubscribe_now(x->sub);
    } else {
        subscriber_end(x->sub, CLOSE_GRANT_EXPIRED, x->sub->retry_ms);
    }
}

/* Takes the place of `*at`, if there is one; 0: none from now on. */
static void set_expiry(struct subscriber *sub, struct expiry **at, int64_t unix_ms, bool of_grant)
{
    if (*at) {
        deadline_disarm(&(*at)->due);
        free(*at);
        *at = NULL;
    }
    if (unix_ms == 0) {
        return;
    }
    struct expiry *x = xcalloc(1, sizeof *x);
    deadline_init(&x->due);
    x->sub = sub;
    x->at_ms = unix_ms;
    x->of_grant = of_grant;
    *at = x;
    subscriber_expiry_arm(x);
}

void subscriber_set_expiry(struct subscriber *sub, int64_t unix_ms)
{
    set_expiry(sub, &sub->expiry, unix_ms, false);
}

void subscriber_set_grant_end(struct subscriber *sub, int64_t unix_ms)
{
    set_expiry(sub, &sub->grant_end, unix_ms, true);
}

int64_t subscriber_grant_end(const struct subscriber *sub)
{
    return sub->grant_end ? sub->grant_end->at_ms : 0;
}

/* ---------------------------------------------------------------- the end of finite streams */

enum {
    END_TICK_MS = 1000,
    END_GRACE_MS = 1000, /* events of before may still be on their way */
};

static void subscriber_end_place_gone(struct subscriber *sub, struct subscriber_part *part)
{
    struct subscriber_end_place *x = container_of(part, struct subscriber_end_place, part);
    deadline_disarm(&x->tick);
    subscriber_part_remove(sub, part);
    sub->finite = false;
    free(x);
}

struct subscriber_end_place *subscriber_end_place_of(const struct subscriber *sub)
{
    struct subscriber_part *part =
        sub->finite ? subscriber_part_of(sub, subscriber_end_place_gone) : NULL;
    return part ? container_of(part, struct subscriber_end_place, part) : NULL;
}

const char *subscriber_at_end(const struct subscriber *sub)
{
    const struct subscriber_end_place *x = subscriber_end_place_of(sub);
    if (!x || (x->left && subscriber_position(sub) < x->until)) {
        return NULL;
    }
    return x->left ? "until" : "limit";
}

/* Events that are not for a stream do not wake it, and time passes without any. */
static void subscriber_on_end_tick(struct deadline *d)
{
    struct subscriber_end_place *x = container_of(d, struct subscriber_end_place, tick);
    struct subscriber *sub = x->sub;
    bool over = x->until_ms < loop_unix_ms(sub->b->loop) - END_GRACE_MS;
    bool due = sub->state == SUB_PARKED && (over || subscriber_at_end(sub));
    const struct event_list *pending = &sub->audience->pending;
    if (due && pending->n && pending->v[pending->n - 1]->id > subscriber_position(sub)) {
        subscriber_note_position(
            sub); /* some of what waits for the end of an interval may be for it */
        subscriber_set_state(sub, SUB_RUNNABLE);
    } else if (due) {
        subscriber_finish_part(sub, "until");
        return;
    }
    deadline_arm(loop_deadline_class(sub->b->loop, END_TICK_MS, subscriber_on_end_tick), &x->tick);
}

void subscriber_set_end(struct subscriber *sub, const struct subscriber_end_place *at)
{
    struct subscriber_end_place *x = xcalloc(1, sizeof *x);
    *x = *at;
    x->part = (struct subscriber_part){.gone = subscriber_end_place_gone};
    x->sub = sub;
    deadline_init(&x->tick);
    subscriber_part_add(sub, &x->part);
    sub->finite = true;
    if (x->until != UINT64_MAX || x->until_ms != INT64_MAX) {
        subscriber_on_end_tick(&x->tick);
    }
}

void subscriber_clock_moved(struct subscriber *sub)
{
    struct expiry *both[] = {sub->grant_end, sub->expiry}; /* the second may end the stream */
    for (size_t i = 0; i < 2; i++) {
        if (both[i] && list_linked(&both[i]->due.node)) { /* else it has happened */
            deadline_disarm(&both[i]->due);
            subscriber_on_expiry(&both[i]->due);
        }
    }
}

void subscriber_clear_timing(struct subscriber *sub)
{
    subscriber_clear_pace(sub);
    subscriber_set_expiry(sub, 0);
    subscriber_set_grant_end(sub, 0);
}
