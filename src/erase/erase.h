/* Takes the events that a filter matches out of the store, for good, by order of an operator: reads the history page by
 * page, asks the filter on the loop thread, and has the store remove what matches, a page at a time, so that
 * publishers wait for no more than that. What is published meanwhile is left alone.
 *
 * One at a time. It may be interrupted anywhere, and is then ordered again: what is erased stays erased. */
#ifndef ERASE_ERASE_H
#define ERASE_ERASE_H

#include "base/err.h"
#include "base/slice.h"
#include "store/store.h"

#include <stdbool.h>

enum {
    ERASE_SHOWN_MAX = 20,
    ERASE_TIMEOUT_MS = 3600000, /* for who waits for the report */
};

/* Borrowed for the call. */
struct erase_order {
    struct slice topic; /* a name or pattern */
    struct slice where; /* filter text; empty: all events of the topic */
    struct slice client;
    bool dry_run;
};

/* What came of it; borrowed for the call. */
struct erase_report {
    int rc; /* 0: it came to the end; else UV_E*, and `fault` says why */
    const char *fault;
    bool dry_run;
    struct slice topic, where;
    uint64_t examined, matched, erased;
    uint64_t upto;              /* events up to here were looked at */
    struct event *const *shown; /* the first that match */
    size_t shown_n;
};

/* Once, later. */
typedef void (*erase_done_cb)(void *ctx, uint64_t token, const struct erase_report *r);

struct eraser;

struct eraser *eraser_new(struct store *store); /* borrows the store */
void eraser_free(struct eraser *e);             /* NULL is fine; the store is closed */

/* 0; UV_EINVAL: the order is wrong; UV_EBUSY: another one is under way; what the store says. `err` has the
 * text. The log gets one line at the end: who, what, how many; never data. */
int eraser_start(struct eraser *e, const struct erase_order *order, erase_done_cb cb, void *ctx,
                 uint64_t token, struct err *err);

#endif
