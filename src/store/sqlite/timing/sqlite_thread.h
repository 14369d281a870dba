/* The thread that commits: runs one piece of work at a time and tells the loop when it is done.
 *
 * A thread of its own, not one of libuv's pool: there a commit would wait behind slow reads that
 * have taken all threads. And a change of thread costs more there: who is woken finds a mutex that
 * is still held, and uv_async_t has the loop spin (some 50 us where both share a core) until the
 * sending thread has left uv_async_send(), so that the news come through an eventfd here. */
#ifndef STORE_SQLITE_TIMING_SQLITE_THREAD_H
#define STORE_SQLITE_TIMING_SQLITE_THREAD_H

#include <stdbool.h>
#include <uv.h>

struct sqlite_thread {
    uv_thread_t thread;
    uv_sem_t wanted;
    uv_poll_t done;
    int done_fd;                /* eventfd(2) */
    void (*work)(void *ctx);    /* on the thread */
    void (*on_done)(void *ctx); /* on the loop, once for each piece */
    void *ctx;                  /* also the data of `done` */
    bool ending;                /* written before the last post */
};

/* 0, or a negative UV_E* (no thread, or no file, to be had); then nothing is left to stop. */
int sqlite_thread_start(struct sqlite_thread *t, uv_loop_t *loop, void (*work)(void *ctx),
                        void (*on_done)(void *ctx), void *ctx);
/* Never again before on_done() was called. */
void sqlite_thread_post(struct sqlite_thread *t);
/* When no job runs. Waits for the thread; `done` is the caller's to close after that. */
void sqlite_thread_stop(struct sqlite_thread *t);

#endif
