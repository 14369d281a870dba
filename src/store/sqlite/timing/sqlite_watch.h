/* Notices that some program writes to the log of a SQLite file (inotify(7)).
 *
 * Not uv_fs_event_t: what this process writes itself would be reported as well, write by write, and
 * wake the loop several times for each commit of its own. So the watch pauses meanwhile. */
#ifndef STORE_SQLITE_TIMING_SQLITE_WATCH_H
#define STORE_SQLITE_TIMING_SQLITE_WATCH_H

#include <stdbool.h>
#include <uv.h>

struct sqlite_watch {
    int fd; /* -1: there is none */
    uv_poll_t poll;
    void (*on_write)(void *ctx);
    void *ctx; /* also the data of `poll` */
};

/* Watches events.db-wal in `dir`, whether or not it exists now. Negative UV_E*: it cannot; nothing
 * is to be stopped or closed then. */
int sqlite_watch_start(struct sqlite_watch *w, uv_loop_t *loop, const char *dir,
                       void (*on_write)(void *ctx), void *ctx);
/* From here on nothing is reported. */
void sqlite_watch_pause(struct sqlite_watch *w);
/* What was written during the pause is not reported any more. */
void sqlite_watch_resume(struct sqlite_watch *w);
/* `poll` is the caller's to close after that, if there was a watch: then true. */
bool sqlite_watch_stop(struct sqlite_watch *w);

#endif
