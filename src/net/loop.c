/* See loop.h. One timer serves all deadlines; prepare and check run the flush step (before the
 * kernel is asked, for what timers did; after, for what sockets did); idle keeps the loop from
 * sleeping while work is left. */
#include "net/loop.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"

#include <stdlib.h>

enum { FLUSH_MAX = 8, DEADLINE_SLACK_MS = 25 };

struct deadline_class {
    struct list node; /* in loop.classes */
    struct list armed;
    struct loop *loop;
    uint64_t ms;
    void (*expired)(struct deadline *d);
};

struct flush {
    bool (*run)(void *ctx);
    void *ctx;
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t timer;
    uv_signal_t sigint, sigterm, sigusr2;
    struct list tasks, late, classes;
    unsigned admitted;     /* since the last flush step */
    uint64_t admitting_ns; /* since when: uv_hrtime() */
    struct flush flushes[FLUSH_MAX];
    unsigned flush_count;
    uint64_t timer_due; /* 0: the timer is off */
    uint64_t unix_at;   /* loop time at which unix_ms was read */
    int64_t unix_ms;
    int64_t fixed_unix_ms; /* 0: none */
    void (*on_stop)(void *ctx, int signum);
    void *on_stop_ctx;
    char *read_buffer;
};

static void run_first(struct list *tasks)
{
    struct task *t = list_first(tasks, struct task, node);
    list_del(&t->node);
    t->run(t);
}

static bool past(uint64_t from_ns, unsigned us)
{
    return uv_hrtime() - from_ns > us * UINT64_C(1000);
}

static void run_late(struct loop *l)
{
    uint64_t from = list_empty(&l->late) ? 0 : uv_hrtime();
    for (unsigned i = 0; i < LOOP_LATE_TASKS && !list_empty(&l->late); i++) {
        if (i >= LOOP_ADMITTED_LEAST && past(from, LOOP_ADMITTED_US)) {
            break;
        }
        run_first(&l->late);
    }
}

static void flush_step(struct loop *l)
{
    struct list due;
    bool more = false;
    l->admitted = 0;
    list_init(&due);
    list_splice_tail(&due, &l->tasks);
    while (!list_empty(&due)) {
        run_first(&due);
    }
    for (unsigned i = 0; i < l->flush_count; i++) {
        more |= l->flushes[i].run(l->flushes[i].ctx);
    }
    run_late(l);
    if (more || !list_empty(&l->tasks) || !list_empty(&l->late)) {
        REQUIRE(uv_idle_start(&l->idle, l->idle.idle_cb) == 0);
    } else {
        uv_idle_stop(&l->idle);
    }
}

static void on_prepare(uv_prepare_t *h)
{
    flush_step(container_of(h, struct loop, prepare));
}

static void on_check(uv_check_t *h)
{
    flush_step(container_of(h, struct loop, check));
}

static void on_idle(uv_idle_t *h)
{
    (void)h; /* its being active is the effect */
}

static void on_timer(uv_timer_t *h);

static void timer_set(struct loop *l, uint64_t due)
{
    uint64_t now = uv_now(&l->uv);
    l->timer_due = due;
    uint64_t wait = due > now ? due - now : 0;
    REQUIRE(uv_timer_start(&l->timer, on_timer, wait + DEADLINE_SLACK_MS, 0) == 0);
}

/* True: there was no time for all that are due. */
static bool class_expire(struct deadline_class *c, uint64_t now, uint64_t from_ns)
{
    for (unsigned n = 0; !list_empty(&c->armed); n++) { /* a callback may disarm others */
        struct deadline *d = list_first(&c->armed, struct deadline, node);
        if (d->due_ms > now) {
            break;
        }
        if (n >= LOOP_EXPIRED_LEAST && past(from_ns, LOOP_EXPIRED_US)) {
            return true;
        }
        list_del(&d->node);
        c->expired(d);
    }
    return false;
}

static void on_timer(uv_timer_t *h)
{
    struct loop *l = container_of(h, struct loop, timer);
    uint64_t now = uv_now(&l->uv);
    uint64_t next = 0, from = uv_hrtime();
    bool more = false;
    l->timer_due = UINT64_MAX; /* deadlines armed by the callbacks are seen below */
    list_for_each (it, &l->classes) {
        more |= class_expire(container_of(it, struct deadline_class, node), now, from);
    }
    list_for_each (it, &l->classes) {
        struct deadline_class *c = container_of(it, struct deadline_class, node);
        if (!list_empty(&c->armed)) {
            uint64_t due = list_first(&c->armed, struct deadline, node)->due_ms;
            next = next == 0 || due < next ? due : next;
        }
    }
    l->timer_due = 0;
    if (more) { /* not at once: libuv would call again before anything else has had its turn */
        l->timer_due = next;
        REQUIRE(uv_timer_start(&l->timer, on_timer, 1, 0) == 0);
    } else if (next) {
        timer_set(l, next);
    }
}

static void loop_signalled(uv_signal_t *h, int signum)
{
    struct loop *l = h->data;
    l->on_stop(l->on_stop_ctx, signum);
}

struct loop *loop_new(void)
{
    struct loop *l = xcalloc(1, sizeof *l);
    int rc = uv_loop_init(&l->uv);
    if (rc) {
        log_error("loop", "cannot start", LOG_F(log_str("error", uv_strerror(rc))));
        free(l);
        return NULL;
    }
    list_init(&l->tasks);
    list_init(&l->late);
    list_init(&l->classes);
    l->read_buffer = xmalloc(LOOP_READ_BUFFER_BYTES);
    REQUIRE(uv_prepare_init(&l->uv, &l->prepare) == 0);
    REQUIRE(uv_check_init(&l->uv, &l->check) == 0);
    REQUIRE(uv_idle_init(&l->uv, &l->idle) == 0);
    REQUIRE(uv_timer_init(&l->uv, &l->timer) == 0);
    REQUIRE(uv_signal_init(&l->uv, &l->sigint) == 0);
    REQUIRE(uv_signal_init(&l->uv, &l->sigterm) == 0);
    REQUIRE(uv_signal_init(&l->uv, &l->sigusr2) == 0);
    l->idle.idle_cb = on_idle;
    REQUIRE(uv_prepare_start(&l->prepare, on_prepare) == 0);
    REQUIRE(uv_check_start(&l->check, on_check) == 0);
    /* none of the loop's own handles keeps it alive */
    uv_unref((uv_handle_t *)&l->prepare);
    uv_unref((uv_handle_t *)&l->check);
    uv_unref((uv_handle_t *)&l->timer);
    uv_unref((uv_handle_t *)&l->sigint);
    uv_unref((uv_handle_t *)&l->sigterm);
    uv_unref((uv_handle_t *)&l->sigusr2);
    return l;
}

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}

uint64_t loop_now(const struct loop *l)
{
    return uv_now(&l->uv);
}

int64_t loop_unix_ms(struct loop *l)
{
    uint64_t now = uv_now(&l->uv);
    if (l->fixed_unix_ms) {
        return l->fixed_unix_ms;
    }
    if (l->unix_ms == 0 || l->unix_at != now) {
        l->unix_ms = clock_unix_ms();
        l->unix_at = now;
    }
    return l->unix_ms;
}

void loop_set_unix_ms(struct loop *l, int64_t unix_ms)
{
    l->fixed_unix_ms = unix_ms;
}

bool loop_unix_is_set(const struct loop *l)
{
    return l->fixed_unix_ms != 0;
}

uv_buf_t loop_read_buffer(struct loop *l)
{
    return uv_buf_init(l->read_buffer, LOOP_READ_BUFFER_BYTES);
}

void loop_defer(struct loop *l, struct task *t)
{
    if (!list_linked(&t->node)) {
        list_add_tail(&l->tasks, &t->node);
    }
}

void loop_defer_late(struct loop *l, struct task *t)
{
    if (!list_linked(&t->node)) {
        list_add_tail(&l->late, &t->node);
    }
}

bool loop_admit(struct loop *l)
{
    if (l->admitted == 0) {
        l->admitting_ns = uv_hrtime();
    } else if (l->admitted >= LOOP_ADMITTED ||
               (l->admitted >= LOOP_ADMITTED_LEAST && past(l->admitting_ns, LOOP_ADMITTED_US))) {
        return false;
    }
    l->admitted++;
    return true;
}

void loop_on_flush(struct loop *l, bool (*flush)(void *ctx), void *ctx)
{
    REQUIRE(l->flush_count < FLUSH_MAX);
    l->flushes[l->flush_count++] = (struct flush){flush, ctx};
}

struct deadline_class *loop_deadline_class(struct loop *l, uint64_t ms,
                                           void (*expired)(struct deadline *d))
{
    list_for_each (it, &l->classes) {
        struct deadline_class *c = container_of(it, struct deadline_class, node);
        if (c->ms == ms && c->expired == expired) {
            return c;
        }
    }
    struct deadline_class *c = xmalloc(sizeof *c);
    *c = (struct deadline_class){.loop = l, .ms = ms, .expired = expired};
    list_init(&c->armed);
    list_add_tail(&l->classes, &c->node);
    return c;
}

void deadline_arm(struct deadline_class *c, struct deadline *d)
{
    deadline_arm_in(c, d, c->ms);
}

void deadline_arm_in(struct deadline_class *c, struct deadline *d, uint64_t ms)
{
    list_del(&d->node);
    d->due_ms = uv_now(&c->loop->uv) + ms;
    struct list *before = c->armed.prev;
    while (before != &c->armed && container_of(before, struct deadline, node)->due_ms > d->due_ms) {
        before = before->prev;
    }
    list_add_head(before, &d->node);
    if (before == &c->armed && (c->loop->timer_due == 0 || d->due_ms < c->loop->timer_due) &&
        c->loop->timer_due != UINT64_MAX) {
        timer_set(c->loop, d->due_ms);
    }
}

int loop_on_signal(struct loop *l, void (*cb)(void *ctx, int signum), void *ctx)
{
    l->on_stop = cb;
    l->on_stop_ctx = ctx;
    l->sigint.data = l->sigterm.data = l->sigusr2.data = l;
    int rc = uv_signal_start(&l->sigint, loop_signalled, SIGINT);
    rc = rc ? rc : uv_signal_start(&l->sigusr2, loop_signalled, SIGUSR2);
    return rc ? rc : uv_signal_start(&l->sigterm, loop_signalled, SIGTERM);
}

void loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

static void count_open(uv_handle_t *h, void *arg)
{
    unsigned *open = arg;
    if (!uv_is_closing(h)) {
        log_error("loop", "handle left open",
                  LOG_F(log_str("type", uv_handle_type_name(uv_handle_get_type(h)))));
    }
    ++*open;
}

unsigned loop_free(struct loop *l)
{
    uv_handle_t *own[] = {(uv_handle_t *)&l->prepare, (uv_handle_t *)&l->check,
                          (uv_handle_t *)&l->idle,    (uv_handle_t *)&l->timer,
                          (uv_handle_t *)&l->sigint,  (uv_handle_t *)&l->sigterm,
                          (uv_handle_t *)&l->sigusr2};
    unsigned open = 0;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        uv_close(own[i], NULL);
    }
    uv_run(&l->uv, UV_RUN_NOWAIT);
    if (uv_loop_close(&l->uv) != 0) {
        uv_walk(&l->uv, count_open, &open);
        return open ? open : 1; /* memory stays: the handles point into it */
    }
    while (!list_empty(&l->classes)) {
        struct deadline_class *c = list_first(&l->classes, struct deadline_class, node);
        list_del(&c->node);
        free(c);
    }
    free(l->read_buffer);
    free(l);
    return 0;
}
