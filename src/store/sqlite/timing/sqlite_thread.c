#include "store/sqlite/timing/sqlite_thread.h"

#include "base/container/list.h"
#include "base/container_of.h"
#include "base/require.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void sqlite_thread_run(void *arg)
{
    struct sqlite_thread *t = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* the process's signals are the loop's */
    for (;;) {
        uv_sem_wait(&t->wanted);
        if (t->ending) {
            return;
        }
        t->work(t->ctx);
        REQUIRE(eventfd_write(t->done_fd, 1) == 0);
    }
}

static void sqlite_thread_on_readable(uv_poll_t *poll, int status, int events)
{
    struct sqlite_thread *t = container_of(poll, struct sqlite_thread, done);
    eventfd_t n;
    (void)events;
    if (status == 0 && eventfd_read(t->done_fd, &n) == 0) {
        t->on_done(t->ctx);
    }
}

int sqlite_thread_start(struct sqlite_thread *t, uv_loop_t *loop, void (*work)(void *ctx),
                        void (*on_done)(void *ctx), void *ctx)
{
    *t = (struct sqlite_thread){.work = work, .on_done = on_done, .ctx = ctx};
    t->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (t->done_fd < 0) {
        return uv_translate_sys_error(errno);
    }
    REQUIRE(uv_sem_init(&t->wanted, 0) == 0);
    int rc = uv_thread_create(&t->thread, sqlite_thread_run, t);
    if (rc) {
        uv_sem_destroy(&t->wanted);
        close(t->done_fd);
        return rc;
    }
    REQUIRE(uv_poll_init(loop, &t->done, t->done_fd) == 0);
    t->done.data = ctx;
    REQUIRE(uv_poll_start(&t->done, UV_READABLE, sqlite_thread_on_readable) == 0);
    return 0;
}

void sqlite_thread_post(struct sqlite_thread *t)
{
    uv_sem_post(&t->wanted);
}

void sqlite_thread_stop(struct sqlite_thread *t)
{
    t->ending = true;
    uv_sem_post(&t->wanted);
    REQUIRE(uv_thread_join(&t->thread) == 0);
    uv_sem_destroy(&t->wanted);
    REQUIRE(uv_poll_stop(&t->done) == 0);
    close(t->done_fd);
}
