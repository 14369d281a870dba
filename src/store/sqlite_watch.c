#include "store/sqlite_watch.h"

#include "base/list.h"

#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* The same directory again replaces what it is watched for (inotify_add_watch(2)). Deaf: for what
 * does not happen while the store has files open in it. */
static int listen_for(const struct sqlite_watch *w, bool deaf)
{
    uint32_t mask = deaf ? IN_DELETE_SELF : IN_MODIFY;
    return inotify_add_watch(w->fd, w->dir, mask) < 0 ? uv_translate_sys_error(errno) : 0;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct sqlite_watch *w = container_of(poll, struct sqlite_watch, poll);
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool written = false;
    (void)events;
    ssize_t n = status ? 0 : read(w->fd, buffer, sizeof buffer);
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(buffer + at);
        written = written || (e->mask & IN_Q_OVERFLOW) ||
                  (e->len && strcmp(e->name, "events.db-wal") == 0);
        at += (ssize_t)(sizeof *e + e->len);
    }
    if (written) {
        w->on_write(w->ctx);
    }
}

int sqlite_watch_start(struct sqlite_watch *w, uv_loop_t *loop, const char *dir,
                       void (*on_write)(void *ctx), void *ctx)
{
    *w = (struct sqlite_watch){.dir = dir, .on_write = on_write, .ctx = ctx};
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int rc = w->fd < 0 ? uv_translate_sys_error(errno) : listen_for(w, false);
    rc = rc ? rc : uv_poll_init(loop, &w->poll, w->fd);
    if (rc) {
        if (w->fd >= 0) {
            close(w->fd);
            w->fd = -1;
        }
        return rc;
    }
    w->poll.data = ctx;
    return uv_poll_start(&w->poll, UV_READABLE, on_readable);
}

void sqlite_watch_deaf(const struct sqlite_watch *w, bool deaf)
{
    if (w->fd >= 0) {
        (void)listen_for(w, deaf); /* a directory that is gone is noticed by the next write */
    }
}

bool sqlite_watch_stop(struct sqlite_watch *w)
{
    if (w->fd < 0) {
        return false;
    }
    (void)uv_poll_stop(&w->poll);
    close(w->fd);
    w->fd = -1;
    return true;
}
