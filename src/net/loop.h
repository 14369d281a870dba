/* The event loop of a worker: one uv_loop, work deferred to the end of a turn, deadlines, signals.
 *
 * A turn is: timers, socket callbacks, then the flush step (deferred tasks in order, then the flush
 * callbacks, then some of the late tasks). Results of asynchronous calls are always delivered from the flush step, never from
 * inside the call itself. */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/container/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { LOOP_READ_BUFFER_BYTES = 64 * 1024 };
/* Each costs some 20 us: of a connection that begins, of its first request, of its end. Where they cost more, a policy's
 * work for instance, time bounds them first, and some are served in any case. */
enum { LOOP_LATE_TASKS = 16, LOOP_ADMITTED = 16, LOOP_ADMITTED_LEAST = 4, LOOP_ADMITTED_US = 500 };
/* Deadlines that are due at once, 10,000 heartbeats for instance: of each class at least so many a turn, and as many as
 * there is time for. */
enum { LOOP_EXPIRED_LEAST = 16, LOOP_EXPIRED_US = 1000 };

struct loop;

/* Embedded in its owner; linked at most once. */
struct task {
    struct list node;
    void (*run)(struct task *t);
};

/* A point in time at which something is due or times out. Embedded in its owner. */
struct deadline {
    struct list node;
    uint64_t due_ms; /* loop time */
};

/* All deadlines of one duration, in order of expiry: arming is appending, no timer per entry. */
struct deadline_class;

struct loop *loop_new(void);
uv_loop_t *loop_uv(struct loop *l);
/* Milliseconds, monotonic, cached per turn. */
uint64_t loop_now(const struct loop *l);
/* Unix time in ms, cached per turn. */
int64_t loop_unix_ms(struct loop *l);
/* Sets that time, for tools and tests; 0: the machine's clock again. */
void loop_set_unix_ms(struct loop *l, int64_t unix_ms);
/* Was it set? */
bool loop_unix_is_set(const struct loop *l);
/* The read buffer every connection borrows for the length of one read callback. */
uv_buf_t loop_read_buffer(struct loop *l);

static inline void task_init(struct task *t, void (*run)(struct task *))
{
    list_init(&t->node);
    t->run = run;
}
/* Runs `t` in the flush step of this turn (of the next turn if called from a task). No effect if it
 * is deferred already. The task is unlinked before it runs, so it may free itself. */
void loop_defer(struct loop *l, struct task *t);
/* The same behind all other work of the turn, LOOP_LATE_TASKS in each flush step, or as many as LOOP_ADMITTED_US
 * allow, the others in the next ones:
 * for what thousands may bring along at once, so that those who are there do not wait for it. */
void loop_defer_late(struct loop *l, struct task *t);
/* May the caller do at once what it would else defer? LOOP_ADMITTED times between two flush steps, fewer when
 * LOOP_ADMITTED_US have passed since the first. */
bool loop_admit(struct loop *l);
static inline void task_cancel(struct task *t)
{
    list_del(&t->node);
}

/* Once per turn, after the tasks; returns true when work is left and the loop must not sleep.
 * At most 8 callbacks, for the life of the loop. */
void loop_on_flush(struct loop *l, bool (*flush)(void *ctx), void *ctx);

/* The class of that duration and callback; made on first use, owned by the loop. Deadlines fire up
 * to 50 ms late, never early; when many are due at once, some a turn, so that those who are there do not wait. */
struct deadline_class *loop_deadline_class(struct loop *l, uint64_t ms,
                                           void (*expired)(struct deadline *d));
static inline void deadline_init(struct deadline *d)
{
    list_init(&d->node);
    d->due_ms = 0;
}
/* Starts or restarts the deadline, from now. It is disarmed when the callback runs. */
void deadline_arm(struct deadline_class *c, struct deadline *d);
/* The same for another duration than the class's. For rare use: it walks past all deadlines that are
 * due later. */
void deadline_arm_in(struct deadline_class *c, struct deadline *d, uint64_t ms);
static inline void deadline_disarm(struct deadline *d)
{
    list_del(&d->node);
}

/* SIGINT, SIGTERM, SIGUSR2: `cb` on the loop thread. */
int loop_on_signal(struct loop *l, void (*cb)(void *ctx, int signum), void *ctx);

/* Runs until only the loop's own handles are left. */
void loop_run(struct loop *l);
/* Closes the loop's own handles and frees it. Returns how many foreign handles were still open;
 * each one was logged. */
unsigned loop_free(struct loop *l);

#endif
