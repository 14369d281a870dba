/* The threads that shake hands: a few of their own, started with the first work.
 *
 * Not libuv's: there they would wait behind readers of the store, and leave what OpenSSL and the allocator keep for a
 * thread with each of those in turn. These share one part of the allocator's memory, give it back when they have
 * nothing to do, and give way to the loop where both share a core: who is connected does not wait for who connects.
 * They take the next work without asking the loop, which hears of all that is done meanwhile at once. */
#ifndef NET_TLS_TLS_THREADS_H
#define NET_TLS_TLS_THREADS_H

#include "base/container/list.h"

#include <uv.h>

/* Embedded in its owner. */
struct tls_work {
    struct list node;
};

struct tls_threads;

/* `run` is called on one of the threads, then `done` on the loop's. */
struct tls_threads *tls_threads_new(uv_loop_t *loop, void (*run)(struct tls_work *w),
                                    void (*done)(struct tls_work *w));
/* In the order in which they come. UV_E*: there is no thread to be had. */
__attribute__((warn_unused_result)) int tls_threads_post(struct tls_threads *t, struct tls_work *w);
/* When everything is done. Frees `t`. */
void tls_threads_close(struct tls_threads *t);

#endif
