/* When a quiet stream is sent a heartbeat, and when the new position in its place. */
#include "base/container_of.h"
#include "broker/subscriber_state.h"

/* Of an interval: what silence is rounded to, so that a busy stream is not re-armed all the time.
 */
enum { HEARTBEAT_SLACK_DIVISOR = 16 };

/* The new position, if there is one and the last was sent long enough ago; else NULL. Streams at
 * the head share it. */
static struct frame *subscriber_position_frame(struct subscriber *sub)
{
    struct broker *b = sub->b;
    if (sub->beats < UINT16_MAX) {
        sub->beats++;
    }
    uint64_t at = subscriber_untold_position(sub);
    if (at == 0 || (uint64_t)sub->beats * sub->beat_ms < (uint64_t)b->opt.position_s * 1000) {
        return NULL;
    }
    struct frame *f = position_frames_get(&b->positions, b->opt.position_event, sub->prime, at,
                                          sub->audience->mark);
    if (f) {
        sub->beats = 0;
        sub->told = at;
        b->metrics->positions++;
    }
    return f;
}

static void subscriber_on_beat(struct deadline *d)
{
    struct subscriber *sub = container_of(d, struct subscriber, beat);
    if (sub->state == SUB_BLOCKED) {
        return; /* never behind an unfinished write: armed again when that has left */
    }
    if (!subscriber_is_behind(sub->state)) {
        subscriber_note_position(sub); /* should the write block */
    }
    struct frame *position = subscriber_position_frame(sub);
    subscriber_send_frame(sub, position ? position : sub->b->heartbeat);
}

void subscriber_sent(struct subscriber *sub)
{
    uint64_t due = loop_now(sub->b->loop) + sub->beat_ms;
    if (list_linked(&sub->beat.node) &&
        due - sub->beat.due_ms < sub->beat_ms / HEARTBEAT_SLACK_DIVISOR) {
        return;
    }
    deadline_arm(sub->beat_class, &sub->beat);
}

void subscriber_set_heartbeat(struct subscriber *sub, unsigned seconds)
{
    struct deadline_class *was = sub->beat_class;
    sub->beat_ms = seconds * 1000;
    sub->beat_class = loop_deadline_class(sub->b->loop, sub->beat_ms, subscriber_on_beat);
    if (sub->beat_class != was && list_linked(&sub->beat.node)) {
        deadline_arm(sub->beat_class, &sub->beat);
    }
}
