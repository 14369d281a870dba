/* The result of a reload or rollback of the policy: reload/policy_reload.c fills it, the admin
 * service shows it. Everything is borrowed for the call. */
#ifndef ADMIN_ANSWERS_POLICY_REPORT_H
#define ADMIN_ANSWERS_POLICY_REPORT_H

#include "broker/dry_run.h"
#include "policy/policy.h"

#include <stdbool.h>
#include <stddef.h>

enum policy_outcome {
    POLICY_RELOADED,
    POLICY_WOULD_RELOAD, /* dry run */
    POLICY_UNCHANGED,    /* the same files: nothing was done */
    POLICY_ROLLED_BACK,  /* the previous policy is current again */
    POLICY_REFUSED,      /* the current policy stays; `error` says why */
    POLICY_BUSY,         /* not possible now; `error` says why */
    POLICY_NO_PREVIOUS,  /* nothing to roll back to; `error` says why */
};

/* Names of filters, or of formats, that only one of two policies has; of settings that differ. */
struct policy_names {
    const char **v;
    size_t n;
};

struct policy_report {
    enum policy_outcome outcome;
    const char *error;              /* of POLICY_REFUSED and those below: file, line, cause */
    const char *previous, *version; /* hashes: of the policy before; of the one loaded, or NULL */
    const char *previous_label, *label;   /* may be NULL */
    enum reload_mode mode;                /* what happens to open streams */
    unsigned streams;                     /* open ones */
    const struct dry_run_report *dry_run; /* NULL: there was no dry run */
    struct policy_names filters_added, filters_removed, formats_added, formats_removed,
        settings_changed;
};

struct policy_order {
    bool dry_run; /* only reports what would happen */
    bool force;   /* also loads an unchanged policy, or one that was rolled back */
};

typedef void (*policy_report_cb)(void *ctx, uint64_t token, const struct policy_report *r);

#endif
