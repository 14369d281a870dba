#include "lua/policy/lua_health.h"

#include <uv.h>

bool lua_health_note(struct lua_health *h, int rc, uint64_t event)
{
    bool known = rc == UV_EINVAL && h->failed_on == event;
    if (known || rc == UV_ENOMEM || rc == UV_EBUSY) {
        return false;
    }
    h->failed_on = rc == UV_EINVAL ? event : h->failed_on;
    h->calls++;
    h->errors += rc != 0;
    if (h->errors > LUA_HEALTH_ERRORS) {
        h->quarantined = true;
        return true;
    }
    if (h->calls == LUA_HEALTH_CALLS) {
        h->calls = h->errors = 0;
    }
    return false;
}
