#include "lua/lua_health.h"

bool lua_health_note(struct lua_health *h, bool failed)
{
    h->calls++;
    h->errors += failed;
    if (h->errors > LUA_HEALTH_ERRORS) {
        h->quarantined = true;
        return true;
    }
    if (h->calls == LUA_HEALTH_CALLS) {
        h->calls = h->errors = 0;
    }
    return false;
}
