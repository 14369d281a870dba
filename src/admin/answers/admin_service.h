/* Shared by the parts of the admin service of one worker; admin.h answers requests. */
#ifndef ADMIN_ANSWERS_ADMIN_SERVICE_H
#define ADMIN_ANSWERS_ADMIN_SERVICE_H

#include "admin/answers/policy_report.h"
#include "admin/metrics/metrics.h"
#include "auth/keyring.h"
#include "broker/broker.h"
#include "net/address.h"
#include "net/http/stream.h"
#include "net/loop.h"
#include "net/message/http_request.h"
#include "policy/policy_set.h"
#include "quota/shared_area.h"

/* State that only the composition root knows. Strings are borrowed until the next loop turn. */
struct admin_state {
    bool draining;
    const char *store_away;                        /* why it is not open; NULL: it opens */
    const char *policy_file;                       /* NULL: no policy is loaded */
    const char *policy_version;                    /* hash; NULL: none is loaded yet */
    const char *policy_label;                      /* its `version`; NULL: none */
    const struct policy_declared *policy_settings; /* that it has declared */
    size_t policy_setting_count;
    const char *previous_version, *previous_label; /* of the policy that a rollback restores */
};

/* Filled by the composition root; everything is borrowed for the life of the admin server. */
struct admin {
    struct loop *loop;
    struct broker *broker;
    struct store *store;     /* NULL while it opens */
    struct keyring *keyring; /* NULL: none yet */
    struct metrics_sources metrics;
    const struct shared_area *area; /* of quotas and rates; NULL: none yet */
    bool alone;                     /* it answers operators itself, not through the admin process */
    struct identity_shown identity_shown;
    int64_t start_ms; /* Unix time at which the process started */
    void (*state)(void *ctx, struct admin_state *out);
    void (*drain)(void *ctx); /* as SIGTERM does; called after the answer was sent */
    struct http_server
        *server; /* the admin server itself, to find streams that wait for an answer */
    void (*reload)(void *ctx, const struct policy_order *order, policy_report_cb cb, void *cb_ctx,
                   uint64_t token);
    void (*rollback)(void *ctx, policy_report_cb cb, void *cb_ctx, uint64_t token);
    /* The i-th set of the policy in force; false: there are no more. */
    bool (*policy_set)(void *ctx, size_t i, struct policy_set_state *out);
    void *ctx;
};

#endif
