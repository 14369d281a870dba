/* CONTRACT: a policy in a test broker, for the tools that test it (`tidegate eval`, `tidegate test`).
 * src/tools/test/test_broker.c builds it as server.c builds a server: it loads the policy as `serve` does,
 * with a complete broker around it.
 *
 * What differs from a server: the event store is memory, the clients are the other ends of socket
 * pairs, the wall clock can be set, and nothing happens outside test_broker_turn() and _wait(). No
 * port is opened and no file is written. */
#ifndef TOOLS_TEST_TEST_BROKER_H
#define TOOLS_TEST_TEST_BROKER_H

#include "admin/answers/policy_report.h"
#include "auth/keyring.h"
#include "base/err.h"
#include "broker/broker.h"

struct config;
struct lua_State;
struct lua_cover;
struct lua_waits;
struct policy_setting;
struct policy_failure;
struct test_broker;

/* What a policy is given, instead of what the configuration says; NULL: that. Borrowed until other things are
 * given, or the test broker's end. */
struct test_broker_given {
    const char *policy; /* the file to load; absolute */
    const struct policy_setting *settings;
    size_t setting_count;
    char *const *path; /* absolute directories of `require` */
    size_t path_count;
};

struct test_broker_options {
    const struct config *config; /* borrowed for the test broker's life */
    bool auth_open;              /* `authenticate` may be missing, whatever `config` says */
    int64_t unix_ms;             /* the time it is; 0: the machine's clock goes on */
    /* Key sets instead of the configuration's; NULL: those. */
    const struct keyset_options *keys;
    size_t key_count;
    struct test_broker_given given;
    /* Instead of the configuration's; NULL: those. Borrowed for its life. */
    const struct public_routes *routes;
    struct query_source *queries;  /* where its `queries` are declared; NULL: nowhere */
    struct lua_http_service *http; /* whom http.get asks; NULL: nobody */
    /* Further globals of the policy: see lua_policy_options. Both may be NULL. `prepare` is called
     * before the policy is loaded. */
    void (*prepare)(void *ctx, struct lua_waits *waits);
    void (*extend)(struct lua_State *L, void *ctx);
    void (*failed)(void *ctx, const struct policy_failure *f); /* NULL: the log */
    const struct lua_cover
        *cover; /* borrowed; NULL: nothing is recorded. Budgets are larger with it */
    void *ctx;
};

/* 0, or a negative UV_E* with the reason in `e`. */
int test_broker_open(struct test_broker **out, const struct test_broker_options *opt,
                     struct err *e);
/* Closes every client. NULL is fine. */
void test_broker_close(struct test_broker *w);

/* One turn of the loop; never waits. */
void test_broker_turn(struct test_broker *w);
/* One turn that waits until there is something to do, at most a second. */
void test_broker_wait(struct test_broker *w);
/* The paths beside http.events_path. */
const struct public_routes *test_broker_routes(const struct test_broker *w);
/* Is nothing pending: no publish, no event that a stream has not considered yet? */
bool test_broker_settled(const struct test_broker *w);
/* From now on it is that time, Unix milliseconds; 0: the machine's clock. Streams that have expired
 * by it end, the policy is going to be asked about those whose grant says so, and cached values and
 * sets age. */
void test_broker_set_time(struct test_broker *w, int64_t unix_ms);
/* The policy is loaded again as `tidegate reload` does it, with `given`, whether it differs or not. Calls `cb`
 * once, before it returns. Where it is refused, what was given before stays. */
void test_broker_reload(struct test_broker *w, const struct test_broker_given *given,
                        policy_report_cb cb, void *ctx);
/* The sets of the policy are loaded anew. */
void test_broker_load_sets(struct test_broker *w);
/* A set of the policy is being loaded. */
bool test_broker_loading(const struct test_broker *w);
/* Every bucket of tg.rate is full again: what is asked next is asked as if nothing had been. */
void test_broker_refill(struct test_broker *w);
/* A client's end of a new connection, non-blocking, closed by the caller; or a negative UV_E*. The
 * broker sees a trusted proxy: X-Forwarded-For says who the client is. */
int test_broker_dial(struct test_broker *w);
/* Stores an event as an application would that writes into the database: without the publish hook.
 * Takes the reference. */
void test_broker_insert(struct test_broker *w, struct event *ev);

/* Borrowed. */
const struct http_limits *test_broker_limits(const struct test_broker *w);
const struct publish_limits *test_broker_envelopes(const struct test_broker *w);
const struct config *test_broker_config(const struct test_broker *w);
const struct policy_metrics *test_broker_policy_metrics(const struct test_broker *w);
struct loop *test_broker_loop(struct test_broker *w);
struct broker *test_broker_broker(struct test_broker *w);
struct policy *test_broker_policy(struct test_broker *w);

#endif
