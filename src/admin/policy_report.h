/* What came of an order to load the policy anew: filled by whoever loads it, shown by the admin
 * service. Strings are borrowed for the call. */
#ifndef ADMIN_POLICY_REPORT_H
#define ADMIN_POLICY_REPORT_H

#include "broker/policy.h"

#include <stdbool.h>
#include <stddef.h>

enum policy_outcome {
    POLICY_RELOADED,
    POLICY_WOULD_RELOAD, /* dry run */
    POLICY_UNCHANGED,    /* the same files: nothing was done */
    POLICY_REFUSED,      /* the one in force stays; `error` says why */
    POLICY_BUSY,         /* another order is being carried out */
};

struct policy_report {
    enum policy_outcome outcome;
    const char *error;              /* of POLICY_REFUSED, POLICY_BUSY: file, line, cause */
    const char *previous, *version; /* hashes: in force before; loaded now (NULL: it never was) */
    const char *previous_label, *label; /* may be NULL */
    enum reload_mode mode;              /* what open streams are told */
    unsigned streams;                   /* open ones */
};

struct policy_order {
    bool dry_run; /* says what would happen; nothing does */
    bool force;   /* even an unchanged one, or one that had to be taken back */
};

typedef void (*policy_report_cb)(void *ctx, uint64_t token, const struct policy_report *r);

#endif
