/* See tls_threads.h. */
#include "net/tls/tls_threads.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    THREADS = 2,
    NICE = 10,      /* a tenth of what the loop gets of a core that has too much to do */
    TRIM_AFTER = 8, /* less than so much work leaves little behind */
};
static const uint64_t TRIM_NS = 500 * 1000 * 1000;

struct tls_threads {
    uv_thread_t threads[THREADS];
    unsigned count; /* of those that run */
    unsigned arena;
    int done_fd; /* eventfd(2): there is something in `finished` */
    uv_poll_t poll;
    void (*run)(struct tls_work *w);
    void (*done)(struct tls_work *w);
    uv_mutex_t mutex; /* of what follows */
    uv_cond_t wanted;
    struct list posted, finished;
    bool ending;
};

/* ---------------------------------------------------------------- on a thread */

static void tls_threads_prepare(const struct tls_threads *t)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* the process's signals are the loop's */
    (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + NICE); /* of this thread */
    alloc_use_arena(t->arena);
}

/* With the mutex. A thousand clients that come at once leave some MB of free memory with these threads, which do not
 * allocate again until more clients come: nobody else would give it back. */
static void tls_threads_wait(struct tls_threads *t, unsigned *untrimmed)
{
    if (*untrimmed < TRIM_AFTER) {
        uv_cond_wait(&t->wanted, &t->mutex);
    } else if (uv_cond_timedwait(&t->wanted, &t->mutex, TRIM_NS) == UV_ETIMEDOUT) {
        *untrimmed = 0;
        uv_mutex_unlock(&t->mutex);
        alloc_trim();
        uv_mutex_lock(&t->mutex);
    }
}

static void tls_threads_main(void *arg)
{
    struct tls_threads *t = arg;
    unsigned untrimmed = 0;
    tls_threads_prepare(t);
    uv_mutex_lock(&t->mutex);
    while (!t->ending) {
        if (list_empty(&t->posted)) {
            tls_threads_wait(t, &untrimmed);
            continue;
        }
        struct tls_work *w = list_first(&t->posted, struct tls_work, node);
        list_del(&w->node);
        uv_mutex_unlock(&t->mutex);
        t->run(w);
        untrimmed++;
        (void)
            sched_yield(); /* else a loop that wakes on this core may wait for the end of a slice, 4 ms */
        uv_mutex_lock(&t->mutex);
        bool first = list_empty(&t->finished);
        list_add_tail(&t->finished, &w->node);
        if (first) {
            uv_mutex_unlock(&t->mutex);
            REQUIRE(eventfd_write(t->done_fd, 1) == 0);
            uv_mutex_lock(&t->mutex);
        }
    }
    uv_mutex_unlock(&t->mutex);
}

/* ---------------------------------------------------------------- on the loop */

static void tls_threads_on_readable(uv_poll_t *poll, int status, int events)
{
    struct tls_threads *t = container_of(poll, struct tls_threads, poll);
    eventfd_t n;
    struct list finished;
    (void)events;
    if (status || eventfd_read(t->done_fd, &n)) {
        return;
    }
    list_init(&finished);
    uv_mutex_lock(&t->mutex);
    list_splice_tail(&finished, &t->finished);
    uv_mutex_unlock(&t->mutex);
    while (!list_empty(&finished)) {
        struct tls_work *w = list_first(&finished, struct tls_work, node);
        list_del(&w->node);
        t->done(w);
    }
}

static int tls_threads_start(struct tls_threads *t)
{
    int rc = 0;
    while (rc == 0 && t->count < THREADS) {
        rc = uv_thread_create(&t->threads[t->count], tls_threads_main, t);
        t->count += rc == 0;
    }
    return t->count ? 0 : rc; /* one is better than none */
}

int tls_threads_post(struct tls_threads *t, struct tls_work *w)
{
    int rc = t->count ? 0 : tls_threads_start(t);
    if (rc == 0) {
        uv_mutex_lock(&t->mutex);
        list_add_tail(&t->posted, &w->node);
        uv_mutex_unlock(&t->mutex);
        uv_cond_signal(&t->wanted);
    }
    return rc;
}

struct tls_threads *tls_threads_new(uv_loop_t *loop, void (*run)(struct tls_work *w),
                                    void (*done)(struct tls_work *w))
{
    struct tls_threads *t = xcalloc(1, sizeof *t);
    t->run = run;
    t->done = done;
    t->arena = alloc_new_arena();
    list_init(&t->posted);
    list_init(&t->finished);
    REQUIRE(uv_mutex_init(&t->mutex) == 0 && uv_cond_init(&t->wanted) == 0);
    t->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    REQUIRE(t->done_fd >= 0);
    REQUIRE(uv_poll_init(loop, &t->poll, t->done_fd) == 0);
    REQUIRE(uv_poll_start(&t->poll, UV_READABLE, tls_threads_on_readable) == 0);
    return t;
}

static void tls_threads_on_closed(uv_handle_t *h)
{
    struct tls_threads *t = container_of((uv_poll_t *)h, struct tls_threads, poll);
    close(t->done_fd);
    uv_cond_destroy(&t->wanted);
    uv_mutex_destroy(&t->mutex);
    free(t);
}

void tls_threads_close(struct tls_threads *t)
{
    uv_mutex_lock(&t->mutex);
    t->ending = true;
    uv_mutex_unlock(&t->mutex);
    uv_cond_broadcast(&t->wanted);
    for (unsigned i = 0; i < t->count; i++) {
        REQUIRE(uv_thread_join(&t->threads[i]) == 0);
    }
    uv_close((uv_handle_t *)&t->poll, tls_threads_on_closed);
}
