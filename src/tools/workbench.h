/* CONTRACT: a policy in a test broker, for the tools that test it (`tidegate eval`, `tidegate test`).
 * src/tools/workbench.c builds it as server.c builds a server: it loads the policy as `serve` does,
 * with a complete broker around it.
 *
 * What differs from a server: the event store is memory, the clients are the other ends of socket
 * pairs, the wall clock can be set, and nothing happens outside workbench_turn() and _wait(). No
 * port is opened and no file is written. */
#ifndef TOOLS_WORKBENCH_H
#define TOOLS_WORKBENCH_H

#include "auth/keyring.h"
#include "base/err.h"
#include "broker/broker.h"

struct config;
struct lua_State;
struct lua_waits;
struct policy_failure;
struct workbench;

struct workbench_options {
    const struct config *config; /* borrowed for the workbench's life */
    const char *policy;          /* the file to load, instead of the configuration's; NULL: that */
    bool auth_open;              /* `authenticate` may be missing, whatever `config` says */
    int64_t unix_ms;             /* the time it is; 0: the machine's clock goes on */
    /* Key sets instead of the configuration's; NULL: those. */
    const struct keyset_options *keys;
    size_t key_count;
    struct query_source *queries; /* where its `queries` are declared; NULL: nowhere */
    /* Further globals of the policy: see lua_policy_options. Both may be NULL. `prepare` is called
     * before the policy is loaded. */
    void (*prepare)(void *ctx, struct lua_waits *waits);
    void (*extend)(struct lua_State *L, void *ctx);
    void (*failed)(void *ctx, const struct policy_failure *f); /* NULL: the log */
    void *ctx;
};

/* 0, or a negative UV_E* with the reason in `e`. */
int workbench_open(struct workbench **out, const struct workbench_options *opt, struct err *e);
/* Closes every client. NULL is fine. */
void workbench_close(struct workbench *w);

/* One turn of the loop; never waits. */
void workbench_turn(struct workbench *w);
/* One turn that waits until there is something to do, at most a second. */
void workbench_wait(struct workbench *w);
/* Is nothing pending: no publish, no event that a stream has not considered yet? */
bool workbench_settled(const struct workbench *w);
/* From now on it is that time, Unix milliseconds; 0: the machine's clock. Streams that have expired
 * by it end, the policy is going to be asked about those whose grant says so, and cached values
 * age. */
void workbench_set_time(struct workbench *w, int64_t unix_ms);
/* A client's end of a new connection, non-blocking, closed by the caller; or a negative UV_E*. The
 * broker sees a trusted proxy: X-Forwarded-For says who the client is. */
int workbench_dial(struct workbench *w);
/* Stores an event as an application would that writes into the database: without the publish hook.
 * Takes the reference. */
void workbench_insert(struct workbench *w, struct event *ev);

/* Borrowed. */
const struct http_limits *workbench_limits(const struct workbench *w);
const struct envelope_limits *workbench_envelopes(const struct workbench *w);
const struct broker_metrics *workbench_metrics(const struct workbench *w);
struct loop *workbench_loop(struct workbench *w);
struct broker *workbench_broker(struct workbench *w);
struct policy *workbench_policy(struct workbench *w);

#endif
