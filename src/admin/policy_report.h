/* What came of an order about the policy: filled by whoever carries it out, shown by the admin
 * service. Everything is borrowed for the call. */
#ifndef ADMIN_POLICY_REPORT_H
#define ADMIN_POLICY_REPORT_H

#include "broker/policy.h"
#include "broker/trial.h"

#include <stdbool.h>
#include <stddef.h>

enum policy_outcome {
    POLICY_RELOADED,
    POLICY_WOULD_RELOAD, /* dry run */
    POLICY_UNCHANGED,    /* the same files: nothing was done */
    POLICY_TAKEN_BACK,   /* the one before is in force again */
    POLICY_REFUSED,      /* the one in force stays; `error` says why */
    POLICY_BUSY,         /* not now; `error` says why */
};

/* Names of filters, or of formats, that only one of two policies has. */
struct policy_names {
    const char **v;
    size_t n;
};

struct policy_report {
    enum policy_outcome outcome;
    const char *error;              /* of POLICY_REFUSED, POLICY_BUSY: file, line, cause */
    const char *previous, *version; /* hashes: in force before; loaded now (NULL: it never was) */
    const char *previous_label, *label; /* may be NULL */
    enum reload_mode mode;              /* what open streams are told */
    unsigned streams;                   /* open ones */
    const struct trial_report *trial;   /* NULL: it did not come to that */
    struct policy_names filters_added, filters_removed, formats_added, formats_removed;
};

struct policy_order {
    bool dry_run; /* says what would happen; nothing does */
    bool force;   /* even an unchanged one, or one that had to be taken back */
};

typedef void (*policy_report_cb)(void *ctx, uint64_t token, const struct policy_report *r);

#endif
