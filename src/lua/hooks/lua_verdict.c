#include "lua/hooks/lua_verdict.h"

#include "event/last_event_id.h"
#include "lua/api/lua_api.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_shape.h"

#include <math.h>
#include <stdlib.h>

enum { NAME_BYTES = 64, TRANSIENT_REASON_BYTES = 1024 };

void verdict_draft_init(struct verdict_draft *d, const struct policy_limits *limits)
{
    *d = (struct verdict_draft){.v = {.kind = VERDICT_TRANSIENT}, .limits = limits};
    strbuf_init(&d->reason, TRANSIENT_REASON_BYTES);
    strbuf_init(&d->identity, limits->identity_bytes);
    strbuf_init(&d->filter, NAME_BYTES);
    strbuf_init(&d->format, NAME_BYTES);
    strbuf_init(&d->ends, NAME_BYTES);
    strbuf_init(&d->mark, EVENT_MARK_MAX_BYTES);
    strbuf_init(&d->first, limits->first_bytes);
    strbuf_init(&d->first_data, limits->first_bytes);
    strbuf_init(&d->fields, POLICY_FIELDS_MAX_BYTES);
    strbuf_init(&d->names, POLICY_FIELDS_MAX_BYTES);
    strbuf_init(&d->params, limits->params_bytes);
    strbuf_init(&d->tag_text, (size_t)POLICY_TAGS_MAX * POLICY_TAG_MAX_BYTES);
    strbuf_init(&d->topic_text, limits->topics * EVENT_TOPIC_MAX_BYTES);
    strbuf_init(&d->presence, EVENT_TOPIC_MAX_BYTES);
    strbuf_init(&d->presence_data, limits->presence_bytes);
    strbuf_init(&d->quota_text, (size_t)QUOTAS_PER_STREAM * QUOTA_KEY_MAX_BYTES);
}

void verdict_draft_clear(struct verdict_draft *d)
{
    strbuf_clear(&d->reason);
    strbuf_clear(&d->identity);
    strbuf_clear(&d->filter);
    strbuf_clear(&d->format);
    strbuf_clear(&d->ends);
    strbuf_clear(&d->mark);
    strbuf_clear(&d->first);
    strbuf_clear(&d->first_data);
    strbuf_clear(&d->fields);
    strbuf_clear(&d->names);
    strbuf_clear(&d->params);
    strbuf_clear(&d->topic_text);
    strbuf_clear(&d->tag_text);
    strbuf_clear(&d->quota_text);
    strbuf_clear(&d->presence);
    strbuf_clear(&d->presence_data);
    free(d->topics);
}

void verdict_draft_fail(struct verdict_draft *d, const char *reason)
{
    d->v = (struct verdict){.kind = VERDICT_TRANSIENT};
    strbuf_reset(&d->reason);
    size_t n = strnlen(reason, TRANSIENT_REASON_BYTES);
    if (strbuf_append(&d->reason, reason, n)) {
        strbuf_reset(&d->reason); /* no memory even for that: an empty reason says enough */
    }
}

static int compare_slices(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

/* Points them at their text, sorts them and drops equal ones; returns how many are left. */
static size_t verdict_draft_finish_list(const struct strbuf *text, struct slice *list, size_t n)
{
    const char *at = text->data;
    size_t unique = 0;
    for (size_t i = 0; i < n; i++) {
        list[i].p = at;
        at += list[i].n;
    }
    if (n > 1) {
        qsort(list, n, sizeof *list, compare_slices);
    }
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !slice_eq(list[i], list[unique - 1])) {
            list[unique++] = list[i];
        }
    }
    return unique;
}

static void finish_quotas(struct verdict_draft *d)
{
    const char *at = d->quota_text.data;
    for (size_t i = 0; i < d->quota_count; i++) {
        d->quotas[i].key.p = at;
        at += d->quotas[i].key.n;
    }
    d->v.subscription.quotas = d->quotas;
    d->v.subscription.quota_count = d->quota_count;
}

static struct slice absent_if_empty(const struct strbuf *b)
{
    return b->len ? strbuf_slice(b) : slice_of(NULL, 0);
}

void verdict_draft_finish(struct verdict_draft *d)
{
    d->v.reason = strbuf_slice(&d->reason);
    d->v.identity = absent_if_empty(&d->identity);
    if (d->v.kind != VERDICT_ALLOW) {
        d->v.subscription = (struct subscription){0};
        return;
    }
    d->v.subscription.topics = d->topics;
    d->v.subscription.topic_count =
        verdict_draft_finish_list(&d->topic_text, d->topics, d->topic_count);
    d->v.subscription.tags = d->tags;
    d->v.subscription.tag_count = verdict_draft_finish_list(&d->tag_text, d->tags, d->tag_count);
    finish_quotas(d);
    d->v.subscription.filter = absent_if_empty(&d->filter);
    d->v.subscription.format = absent_if_empty(&d->format);
    d->v.subscription.first = absent_if_empty(&d->first);
    d->v.subscription.fields = absent_if_empty(&d->fields);
    d->v.subscription.names = absent_if_empty(&d->names);
    d->v.subscription.ends = absent_if_empty(&d->ends);
    d->v.subscription.mark = absent_if_empty(&d->mark);
    d->v.subscription.params = absent_if_empty(&d->params);
    d->v.subscription.presence = absent_if_empty(&d->presence);
    d->v.subscription.presence_data = absent_if_empty(&d->presence_data);
}

static void copy_reason(lua_State *L, struct slice text, struct verdict_draft *d)
{
    size_t n = text.n < TRANSIENT_REASON_BYTES ? text.n : TRANSIENT_REASON_BYTES;
    strbuf_reset(&d->reason);
    if (strbuf_append(&d->reason, text.p, n)) {
        luaL_error(L, "not enough memory");
    }
}

/* tg.deny()'s second result, or a table of the same shape */
static void read_denial(lua_State *L, int idx, struct verdict_draft *d)
{
    static const char *const keys[] = {"status", "reason", "retry_after", NULL};
    lua_shape_closed(L, idx, "denial", keys);
    if (lua_shape_field(L, idx, "retry_after") != LUA_TNIL) {
        d->v.retry_after_s = (unsigned)ceil(
            lua_shape_positive(L, -1, "denial.retry_after (seconds)", DENY_RETRY_AFTER_MAX_S));
    }
    lua_pop(L, 1);
    lua_shape_field(L, idx, "status");
    lua_Integer status = lua_shape_integer(L, -1, "denial.status", 204, 429);
    if (!lua_api_deny_status_ok(status)) {
        luaL_error(L, "denial.status: " LUA_API_DENY_STATUSES " was expected, got %I",
                   (LUAI_UACINT)status);
    }
    lua_shape_field(L, idx, "reason");
    struct slice reason = lua_shape_string(L, -1, "denial.reason");
    const char *bad = lua_api_deny_reason_check(reason.p, reason.n);
    if (bad) {
        luaL_error(L, "denial.reason: %s", bad);
    }
    d->v.kind = VERDICT_DENY;
    d->v.status = (int)status;
    copy_reason(L, reason, d);
    lua_pop(L, 2);
}

/* Are the two on top nil and a table with nothing but that field? Pushes it then. */
static bool lua_verdict_has_mark(lua_State *L, const char *field)
{
    const char *const keys[] = {field, NULL};
    int second = lua_gettop(L);
    luaL_checkstack(L, 8, NULL);
    if (lua_type(L, second) != LUA_TTABLE || lua_type(L, second - 1) != LUA_TNIL) {
        return false;
    }
    if (lua_shape_field(L, second, field) == LUA_TNIL) {
        lua_settop(L, second);
        return false;
    }
    lua_shape_closed(L, second, field, keys);
    return true;
}

bool lua_verdict_stored(lua_State *L, bool unanswered, struct verdict_draft *d)
{
    if (!lua_verdict_has_mark(L, "stored")) {
        return false;
    }
    lua_Integer status = lua_shape_integer(L, -1, "stored", 200, 204);
    if (!lua_api_stored_status_ok(status)) {
        luaL_error(L, "stored: " LUA_API_STORED_STATUSES " was expected, got %I",
                   (LUAI_UACINT)status);
    }
    if (!unanswered) {
        luaL_error(L, "subscribe returned tg.stored(): that is for a request that publishes, and "
                      "is not answered yet");
    }
    d->v.subscription.without_stream = (int)status;
    return true;
}

bool lua_verdict_dropped(lua_State *L, struct slice *why)
{
    if (!lua_verdict_has_mark(L, "drop")) {
        return false;
    }
    *why = lua_shape_string(L, -1, "drop");
    const char *bad = lua_api_deny_reason_check(why->p, why->n);
    if (bad) {
        luaL_error(L, "drop: %s", bad);
    }
    return true;
}

bool lua_verdict_granted(lua_State *L, const char *hook, struct verdict_draft *d)
{
    int first = lua_gettop(L) - 1, second = first + 1;
    luaL_checkstack(L, 8, NULL);
    if (lua_type(L, first) == LUA_TTABLE && lua_isnil(L, second)) {
        return true;
    }
    if (lua_isnil(L, first) && lua_type(L, second) == LUA_TTABLE) {
        read_denial(L, second, d);
        return false;
    }
    if (lua_isnil(L, first) && lua_type(L, second) == LUA_TSTRING) {
        d->v.kind = VERDICT_TRANSIENT;
        copy_reason(L, lua_shape_string(L, second, "reason"), d);
        return false;
    }
    luaL_error(L,
               "%s returned %s%s%s: a table, `tg.deny(status, reason)`, or `nil, \"why\"` (try "
               "again later) was expected%s",
               hook, luaL_typename(L, first), lua_isnil(L, second) ? "" : " and ",
               lua_isnil(L, second) ? "" : luaL_typename(L, second),
               lua_isnil(L, first) && lua_isnil(L, second)
                   ? "; `... or tg.deny(...)` drops half of it: give it a `return` of its own"
                   : "");
    return false;
}

void lua_verdict_identity(lua_State *L, int idx, struct verdict_draft *d)
{
    strbuf_reset(&d->identity);
    lua_json_encode(L, idx, "identity", LUA_JSON_OBJECT_OF_SCALARS, &d->identity);
    if (lua_readonly_real(L, idx)) { /* encoding saw through the view, so must this */
        lua_replace(L, idx);
    }
    if (lua_shape_field(L, idx, "expires") != LUA_TNIL) {
        if (lua_type(L, -1) == LUA_TNUMBER && !lua_isinteger(L, -1)) { /* as tokens may have it */
            lua_pushnumber(L, floor(lua_tonumber(L, -1)));
            lua_replace(L, -2);
        }
        d->v.expires_ms = 1000 * lua_shape_time(L, -1, "identity.expires (Unix seconds)", 0,
                                                LUA_VERDICT_EXPIRES_MAX_S);
    }
    lua_pop(L, 1);
}
