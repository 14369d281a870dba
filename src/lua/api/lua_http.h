/* http.get() and http.post(): asking servers that the configuration names, while the hook waits.
 * Policies never name a server themselves: what a stranger sends cannot make the broker knock at
 * other doors. */
#ifndef LUA_API_LUA_HTTP_H
#define LUA_API_LUA_HTTP_H

#include "net/client/http_client.h"
#include "policy/metrics.h"

#include <lua.h>

struct lua_http_target {
    const char *name, *url; /* see http_url_join() */
    unsigned timeout_ms;
    size_t max_response_bytes;
    const char *ca_file; /* NULL: the system's authorities */
    const struct http_client_header *headers;
    size_t header_count;
    bool failing; /* it did not answer last time: said once */
};

/* CONTRACT: who carries the requests out; one per process, outlives the policies. As
 * http_client_start() and http_client_cancel(), with the target beside; `headers`, `ca_file` and
 * the limits are in `rq` already. */
struct lua_http_service {
    int (*start)(void *ctx, const struct lua_http_target *target,
                 const struct http_client_request *rq, http_client_cb cb, void *cb_ctx,
                 uint64_t token, uint64_t *id, struct err *e);
    void (*cancel)(void *ctx, uint64_t id);
    void *ctx;
    struct policy_metrics *metrics;
    struct lua_http_target *targets; /* sorted by name */
    size_t target_count;
};

/* Sets `http` in the table on top of the stack. Its functions find the service by the vm's host. */
void lua_http_open(lua_State *L);

#endif
