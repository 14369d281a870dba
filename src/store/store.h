/* CONTRACT: where events survive. store/ implements it.
 *
 * Every accepted call completes exactly once, on the loop thread, never before the call returns.
 * `ctx` must outlive the store; `token` is passed through, so that an asker that may be gone by
 * then can be looked up. Refusals (non-zero return) never call back. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/err.h"
#include "event/event.h"

#include <stdbool.h>
#include <stdint.h>

/* The id that the wall clock alone would give: 2^20 ids per second since 2025-01-01, to the
 * millisecond (< 2^53 until the year 2297). A store starts at, and leaps to, this floor: ids are
 * never handed out twice, even after the store was restored from an old copy or created again. */
static inline uint64_t store_id_floor(int64_t unix_ms)
{
    uint64_t ms = (uint64_t)(unix_ms - INT64_C(1735689600000));
    return (ms / 1000 << 20) + (ms % 1000 << 20) / 1000;
}

/* Ids in (after, upto] were never handed out by this store, or are not to be trusted: a client that
 * holds one saw a store, or a tail, that is gone. */
struct store_leap {
    uint64_t after, upto;
};

struct store_bounds {
    uint64_t head;                  /* last id handed out (or leapt to) */
    uint64_t trimmed;               /* retention removed everything up to here; 0: nothing yet */
    const struct store_leap *leaps; /* by `after`; borrowed until the next loop turn */
    size_t leap_count;
    bool leap_has_rows; /* the last leap may cover events that are there: who has been sent nothing
                           since it begins can read on from there */
};

struct store_ack {
    uint64_t id;
    bool duplicate; /* the key was known: `id` is the first event's */
};

/* Topics whose newest event is kept, whatever retention removes: store.latest. Who reads them has what was
 * committed up to the id that he asks for. An event with empty data removes its topic. */
struct store_latest {
    const char *const
        *patterns; /* as subscriptions have them; borrowed for as long as the store lives */
    size_t n;
    uint64_t topics; /* most of them: an event of a further one is refused */
};

/* An append that would begin a topic beyond that. */
#define STORE_TOPICS_FULL UV_ENOBUFS

/* rc 0: committed, `acks` in the order of the events. UV_ECONNABORTED: the store was lost, or failed,
 * meanwhile and it is not known whether they were stored. Any other negative UV_E*, STORE_TOPICS_FULL
 * among them: nothing was stored. */
typedef void (*store_append_cb)(void *ctx, uint64_t token, int rc, const struct store_ack *acks,
                                size_t n);

/* Committed events, of any writer, in strictly increasing id order, no event twice, none left
 * out. For an append of ours: before its store_append_cb. Borrowed for the call.
 * `n` 0: here, behind what was reported and before what comes next, the tail has passed rows that
 * cannot be delivered; what they were about is not known. */
typedef void (*store_tail_cb)(void *ctx, struct event *const *events, size_t n);

/* At run time, between calls of the tail: the ids in (after, upto] are no one's, and the tail goes
 * on above `upto`. bounds() has the leap already, unless what is missing was removed, by retention
 * or by hand: pages of history say so. An event that the tail reported with an id above `after` is gone: the
 * store has lost it (failover to a server that had not got it, restore). */
typedef void (*store_leap_cb)(void *ctx, const struct store_leap *leap);

struct store_query {
    uint64_t after, upto; /* after < id <= upto */
    size_t max_events;
    size_t max_bytes; /* of event_cost(); at least one event is returned whatever its size */
    /* Only these are asked for: names, no patterns. 0: all. Given to stores that read by topic, who
     * copy them; other events may be among the answer. */
    const struct slice *topics;
    size_t topic_count;
    /* Not the log: the newest event of each topic that store.latest names, of those asked for (names
     * and patterns; all stores read by them). Who reads page by page up to an id that was handed out
     * before the first page, and then the log from there, ends with the newest of each: what was
     * replaced, or removed, by an event above `upto` may be missing in a later page. UV_EAGAIN: not
     * yet, the store is still looking through what it held before the topics were named. UV_ENOTSUP: it
     * may say so where no topics are named. */
    bool latest;
};

struct store_page {
    struct event *const *events; /* by id; borrowed */
    size_t n;
    uint64_t upto;    /* everything in (query.after, upto] is in the page or does not exist */
    uint64_t trimmed; /* as of this read: query.after < trimmed means history is missing */
};

/* Negative UV_E*: `page` is NULL. */
typedef void (*store_page_cb)(void *ctx, uint64_t token, int rc, const struct store_page *page);
/* `id`: the greatest id whose event is older than the time asked for; 0 when all are younger. Where
 * all that are left are younger, and all that retention removed were older, it is `trimmed`. */
typedef void (*store_seek_cb)(void *ctx, uint64_t token, int rc, uint64_t id);

/* rc 0: what any writer had committed when the call was made has come through the tail. */
typedef void (*store_sync_cb)(void *ctx, uint64_t token, int rc);

/* Events that are to be forgotten: who has a copy drops it. By this process or any other one on the
 * store; some are named twice, and some before the tail has reported them, which it may still do. An order does not
 * find what retention had removed: copies of all up to `trimmed` are to be dropped, too. */
typedef void (*store_erased_cb)(void *ctx, const uint64_t *ids, size_t n, uint64_t trimmed);
/* rc 0: committed; `n` of the events were there. Another rc: nothing was erased, or it is not known. */
typedef void (*store_erase_cb)(void *ctx, uint64_t token, int rc, size_t n);
/* STORE_ERASE_NONE: no event has that id. Erased after all others of an order, it has `erased` called everywhere. */
enum { STORE_ERASE_MAX = 1000, STORE_ERASE_NONE = 0 };

/* Who is there. A member is a topic of store.latest; which processes have it stands in the store, and who is the first
 * to say so, or the last to take it back, has an event stored on that topic in the same transaction. Saying the same
 * twice has no effect. */
enum store_presence_kind {
    STORE_PRESENCE_CHANGE, /* members of this process come and go */
    STORE_PRESENCE_BEAT, /* it is alive; takes back what processes have said that are gone, some of it at a time */
    STORE_PRESENCE_END, /* it ends: counts as gone after the grace. UV_ENOTSUP: that is seen without it */
};
struct store_presence_change {
    struct slice topic, data; /* no data: it is no longer here; each topic is named once */
    bool refused;             /* the answer: it would be one more than store.latest_topics */
};
/* The caller's until `done`, which is called once, on the loop thread, if the call returned 0. Before that it is not to
 * be touched. */
struct store_presence {
    enum store_presence_kind kind;
    struct store_presence_change *v;
    size_t n;
    uint64_t grace_ms, lease_ms;
    bool spare; /* of a beat: who gave no sign of life in time keeps what it has said; see `late` */
    void (*done)(struct store_presence *op);
    void *ctx;
    /* the answer; rc as of store_append_cb. UV_ESRCH: others have taken this process for gone: a beat comes first */
    int rc;
    bool lost; /* of a beat: the store has nothing of this process any more, or has never had */
    bool more; /* of a beat: do it again */
    bool late; /* of a beat: it spared some. SQLite: never, there the end of a process is seen */
    size_t joined, left, swept; /* events stored, by why */
    size_t refused;             /* of a beat: left, but the store lets no event in that says so */
};

struct store_health {
    bool ok;
    const char *detail; /* borrowed until the next loop turn; never NULL */
    /* What is wrong although events are stored and delivered: maintenance fails, say. As `detail`;
     * NULL: nothing. */
    const char *degraded;
    uint64_t events; /* rows held, 0 while unknown */
    uint64_t bytes;  /* on disk (or in memory) */
};

struct store;

struct store_ops {
    bool reads_by_topic; /* history of a few topics costs what they hold, not what all hold */
    /* The events (id 0) are one atomic unit: all or none. Takes the references and empties the list
     * when 0 is returned. UV_EAGAIN: the queue is full (max_queue_events, max_queue_bytes);
     * UV_ENOTCONN: the store is away; UV_ECANCELED: closing. */
    int (*append)(struct store *s, struct event_list *events, store_append_cb cb, void *ctx,
                  uint64_t token);
    int (*read)(struct store *s, const struct store_query *q, store_page_cb cb, void *ctx,
                uint64_t token);
    int (*seek)(struct store *s, int64_t unix_ms, store_seek_cb cb, void *ctx, uint64_t token);
    /* NULL: the tail is never behind, for there is no other broker on this store. */
    int (*sync)(struct store *s, store_sync_cb cb, void *ctx, uint64_t token);
    /* Removes these events, at most STORE_ERASE_MAX, and the idempotency keys that they have, in one
     * transaction. Their ids stay used, and are no gap of the history. `erased` hears of it before `cb`, in
     * other processes soon. `n` 0: the last step, after which no file of the store holds bytes of events
     * that were removed; UV_EBUSY: somebody else's transaction kept it from that. UV_EAGAIN: another call is under
     * way. */
    int (*erase)(struct store *s, const uint64_t *ids, size_t n, store_erase_cb cb, void *ctx,
                 uint64_t token);
    /* One at a time: UV_EAGAIN. */
    int (*presence)(struct store *s, struct store_presence *op);
    /* Another process of ours has committed: look now. NULL: it would not help. */
    void (*wake)(struct store *s);
    struct store_bounds (*bounds)(const struct store *s);
    struct store_health (*health)(const struct store *s);
    /* Lets what was accepted complete, then calls `done` and frees the store. */
    void (*close)(struct store *s, void (*done)(void *ctx), void *ctx);
};

struct store {
    const struct store_ops *ops;
    store_erased_cb erased; /* of whoever keeps copies, with `erased_ctx`; NULL: nobody */
    void *erased_ctx;
};

#endif
