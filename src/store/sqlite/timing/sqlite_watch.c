#include "store/sqlite/timing/sqlite_watch.h"

#include "base/container/list.h"
#include "base/container_of.h"
#include "base/require.h"

#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Takes what the kernel has to tell. Was the log written to? What did not fit into its queue was,
 * for all we know. */
static bool sqlite_watch_take(const struct sqlite_watch *w)
{
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool written = false;
    ssize_t n = read(w->fd, buffer, sizeof buffer);
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(buffer + at);
        written = written || (e->mask & IN_Q_OVERFLOW) ||
                  (e->len && strcmp(e->name, "events.db-wal") == 0);
        at += (ssize_t)(sizeof *e + e->len);
    }
    return written;
}

static void sqlite_watch_on_readable(uv_poll_t *poll, int status, int events)
{
    struct sqlite_watch *w = container_of(poll, struct sqlite_watch, poll);
    (void)events;
    if (status == 0 && sqlite_watch_take(w)) {
        w->on_write(w->ctx);
    }
}

int sqlite_watch_start(struct sqlite_watch *w, uv_loop_t *loop, const char *dir,
                       void (*on_write)(void *ctx), void *ctx)
{
    *w = (struct sqlite_watch){.on_write = on_write, .ctx = ctx};
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int rc = w->fd < 0 || inotify_add_watch(w->fd, dir, IN_MODIFY) < 0
                 ? uv_translate_sys_error(errno)
                 : uv_poll_init(loop, &w->poll, w->fd);
    if (rc) {
        if (w->fd >= 0) {
            close(w->fd);
            w->fd = -1;
        }
        return rc;
    }
    w->poll.data = ctx;
    sqlite_watch_resume(w);
    return 0;
}

void sqlite_watch_pause(struct sqlite_watch *w)
{
    if (w->fd >= 0) {
        REQUIRE(uv_poll_stop(&w->poll) == 0);
    }
}

/* The kernel merges what is alike (inotify(7)), so one read takes all that our commit left there.
 */
void sqlite_watch_resume(struct sqlite_watch *w)
{
    if (w->fd >= 0) {
        (void)sqlite_watch_take(w);
        REQUIRE(uv_poll_start(&w->poll, UV_READABLE, sqlite_watch_on_readable) == 0);
    }
}

bool sqlite_watch_stop(struct sqlite_watch *w)
{
    if (w->fd < 0) {
        return false;
    }
    sqlite_watch_pause(w);
    close(w->fd);
    w->fd = -1;
    return true;
}
