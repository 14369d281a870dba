/* The sets of policies, which filter texts ask with in_set(): each is the answer of a query, loaded in the
 * background again and again. Equal declarations are one set, however many policies have them, so that
 * a reload does not load what is there, and all see the same.
 *
 * A set is filled where the database's answer is read and sealed on a pool thread; the loop only
 * exchanges a pointer, between two events. When a load fails the values before stay, until they are
 * older than `stale_ms`: then the set has none, and filters that ask it let nothing through. Loop
 * thread only. */
#ifndef SETS_SET_STORE_H
#define SETS_SET_STORE_H

#include "base/container/list.h"
#include "base/err.h"
#include "filter/value_set.h"
#include "lookup/query_pool.h"
#include "net/loop.h"
#include "policy/metrics.h"
#include "policy/policy_set.h"

struct set_store;
struct stored_set;

struct set_store_options {
    /* Connections of its own, which a long answer may keep busy; opened when the first set is declared.
     * Its time limit is that of a load. The strings are borrowed. */
    const struct query_options *database; /* NULL: none */
    struct query_source *source;          /* instead of that; borrowed; NULL: none */
    size_t values, bytes;                 /* most of one set */
};

/* Borrows the metrics. */
struct set_store *set_store_new(struct loop *loop, const struct set_store_options *opt,
                                struct policy_metrics *metrics);
/* Loads nothing from now on; nobody who waits is answered. The loop goes on until nothing is under way. */
void set_store_close(struct set_store *store);
/* A load is under way, or due. */
bool set_store_busy(const struct set_store *store);
/* A pool thread works for it. */
bool set_store_works(const struct set_store *store);
/* After the end of the loop, or when nothing works for it and it has no connections of its own. No set
 * is used any more. NULL is fine. */
void set_store_free(struct set_store *store);
/* For tests: so much time has passed. What is due by it is loaded, what is stale by it is dropped. */
void set_store_age(struct set_store *store, uint64_t ms);
/* For tests: every set that is in use is loaded, whether that is due or not. */
void set_store_load_all(struct set_store *store);

struct set_declaration {
    const char *name;
    struct slice sql;
    uint64_t every_ms, stale_ms;
};

/* Begins to use a set. It is not loaded yet, unless it is another policy's, too. UV_EINVAL: the query
 * cannot be declared, or takes arguments; UV_ENOENT: there is no database. `e` says why. */
int set_store_use(struct set_store *store, const struct set_declaration *d, struct stored_set **out,
                  struct err *e);
void stored_set_release(struct stored_set *s); /* NULL is fine */

/* Where its values are; borrowed until it is released. */
const struct value_slot *stored_set_slot(const struct stored_set *s);
void stored_set_state(const struct stored_set *s, struct policy_set_state *out);

/* Waits for values. */
struct set_wait {
    struct list node;
    /* Once: `e` NULL: they are there. Releases no set. */
    void (*done)(void *ctx, const struct err *e);
    void *ctx;
};
/* True: it has values already. Else `w` (borrowed) is done later, in a turn of the loop, unless it is
 * given up before. Loads are under way from the first wait on. */
bool stored_set_await(struct stored_set *s, struct set_wait *w);
void set_wait_give_up(
    struct set_wait *w); /* also when it is done, or was never begun after list_init() */

#endif
