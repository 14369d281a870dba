/* When the next group begins.
 *
 * Publishers who wait for each answer come back within the time it takes to write the answers of a
 * commit. A group that began before that would leave them to the next one: halves would be
 * committed in turn, each for an fsync of its own. So a group begins after the turn of the loop in
 * which the last one was answered, and after further turns as long as each brings more and not all
 * are back. None of these turns sleeps. Where turns are long, because much is delivered, nothing is
 * waited for: then the disk is to work at the same time.
 *
 * Measured (16 connections, one publish in flight on each): 7 events a commit without, 14 with. */
#ifndef STORE_SQLITE_TIMING_SQLITE_GROUP_WAIT_H
#define STORE_SQLITE_TIMING_SQLITE_GROUP_WAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct sqlite_group_wait {
    uv_idle_t idle;
    const size_t *waiting; /* borrowed: how many events wait */
    void (*begin)(void *ctx);
    void *ctx;
    bool on;
    size_t seen, enough;
    unsigned turns; /* to go before it matters whether more came */
    unsigned passed;
    unsigned skip; /* commits without waiting, since turns were long */
    uint64_t since_ns;
};

/* `begin` is called at the end of each gathering, from the loop. `ctx` is also the handle's data.
 */
void sqlite_group_wait_init(struct sqlite_group_wait *g, uv_loop_t *loop, const size_t *waiting,
                            void (*begin)(void *ctx), void *ctx);
/* A group is wanted. False: begin it now. */
bool sqlite_group_wait_first(struct sqlite_group_wait *g);
/* The last one is done: `answered` publishers may come back. False: begin the next one now. */
bool sqlite_group_wait_next(struct sqlite_group_wait *g, size_t answered);
/* `idle` is to be closed by the owner after that. */
void sqlite_group_wait_stop(struct sqlite_group_wait *g);

#endif
