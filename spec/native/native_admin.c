/* admin/: the metrics page of a filled view, and the handler on a stream that only records. */
#include "admin/admin.h"
#include "admin/metrics/metrics.h"
#include "native.h"
#include "net/message/http_parser.h"

static uint64_t member(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    uint64_t value = (uint64_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return value;
}

static void fill_latency(lua_State *L, int table, const char *name, struct latency *l)
{
    if (lua_getfield(L, table, name) == LUA_TTABLE) {
        lua_Integer n = luaL_len(L, -1);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, i);
            latency_add(l, (uint64_t)lua_tointeger(L, -1));
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static const char *text(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    const char *value = lua_tostring(L, -1); /* the table keeps it */
    lua_pop(L, 1);
    return value;
}

/* All that the page is made of. */
struct counted {
    struct net_metrics net;
    struct auth_metrics auth;
    struct broker_metrics broker;
    struct policy_metrics policy;
    struct lookup_metrics lookup;
    struct quota_metrics quota;
    struct store_metrics store;
};

static struct metrics_sources sources_of(const struct counted *c)
{
    return (struct metrics_sources){.net = &c->net,
                                    .auth = &c->auth,
                                    .broker = &c->broker,
                                    .policy = &c->policy,
                                    .lookup = &c->lookup,
                                    .quota = &c->quota,
                                    .store = &c->store};
}

static void fill(lua_State *L, struct counted *c)
{
#define X(m, kind, name, help) c->auth.m = member(L, 1, #m);
    AUTH_METRICS(X)
#undef X
#define X(m, kind, name, help) c->net.m = member(L, 1, #m);
    NET_METRICS(X)
#undef X
#define X(m, kind, name, help) c->broker.m = member(L, 1, #m);
    BROKER_METRICS(X)
#undef X
#define X(m, kind, name, help) c->broker.audience.m = member(L, 1, #m);
    AUDIENCE_METRICS(X)
#undef X
#define X(m, kind, name, help) c->policy.m = member(L, 1, #m);
    POLICY_METRICS(X)
#undef X
#define X(m, kind, name, help) c->lookup.m = member(L, 1, #m);
    LOOKUP_METRICS(X)
#undef X
#define X(m, kind, name, help) c->quota.m = member(L, 1, #m);
    QUOTA_METRICS(X)
#undef X
#define X(m, kind, name, help) c->store.m = member(L, 1, #m);
    STORE_METRICS(X)
#undef X
    for (unsigned i = 0; i < CLOSE_REASON_COUNT; i++) {
        c->net.closed[i] = member(L, 1, close_reason_name((enum close_reason)i));
    }
    fill_latency(L, 1, "store_append", &c->store.store_append);
    fill_latency(L, 1, "store_read", &c->store.store_read);
}

/* render{member = n, ["close-reason"] = n, store_append = {us, ...}, policy_version =,
 *        store = {ok =, events =, bytes =}, max = bytes} -> page, or nil, code */
static int l_render(lua_State *L)
{
    struct counted counted = {.net = {0}};
    struct store_health health = {.detail = "fine"};
    struct process_stats process = metrics_process(12.5);
    luaL_checktype(L, 1, LUA_TTABLE);
    fill(L, &counted);
    struct metrics_view view = {.from = sources_of(&counted),
                                .process = &process,
                                .policy_version = text(L, 1, "policy_version"),
                                .ready = true};
    if (lua_getfield(L, 1, "store") == LUA_TTABLE) {
        health.ok = member(L, lua_gettop(L), "ok") != 0;
        health.events = member(L, lua_gettop(L), "events");
        health.bytes = member(L, lua_gettop(L), "bytes");
        view.store = &health;
    }
    struct strbuf out;
    uint64_t max = member(L, 1, "max");
    strbuf_init(&out, max ? (size_t)max : 1024 * 1024);
    int rc = metrics_render(&view, &out);
    if (rc) {
        strbuf_clear(&out);
        lua_pushnil(L);
        lua_pushinteger(L, rc);
        return 2;
    }
    lua_pushlstring(L, out.data, out.len);
    strbuf_clear(&out);
    return 1;
}

/* names() -> list of the members of both structs, list of the close reasons */
static int l_names(lua_State *L)
{
    static const char *const members[] = {
#define X(m, kind, name, help) #m,
        NET_METRICS(X) AUTH_METRICS(X) BROKER_METRICS(X) AUDIENCE_METRICS(X) POLICY_METRICS(X)
            LOOKUP_METRICS(X) QUOTA_METRICS(X) STORE_METRICS(X)
#undef X
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        lua_pushstring(L, members[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_newtable(L);
    for (unsigned i = 0; i < CLOSE_REASON_COUNT; i++) {
        lua_pushstring(L, close_reason_name((enum close_reason)i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 2;
}

/* ---------------------------------------------------------------- the handler */

struct recorder {
    struct stream stream;
    lua_State *L; /* the answer goes on its stack, as a table */
    bool answered;
};

static int recorder_respond(struct stream *s, const struct http_response *r)
{
    struct recorder *rec = s->owner;
    lua_State *L = rec->L;
    lua_newtable(L);
    lua_pushinteger(L, r->status);
    lua_setfield(L, -2, "status");
    lua_pushstring(L, r->content_type);
    lua_setfield(L, -2, "type");
    lua_pushlstring(L, r->body.p ? r->body.p : "", r->body.n);
    lua_setfield(L, -2, "body");
    lua_pushlstring(L, r->fields.p ? r->fields.p : "", r->fields.n);
    lua_setfield(L, -2, "fields");
    rec->answered = true;
    return 0;
}

static void recorder_close(struct stream *s, enum close_reason why)
{
    struct recorder *rec = s->owner;
    lua_pushstring(rec->L, close_reason_name(why));
    rec->answered = true;
}

static void recorder_request_id(const struct stream *s, struct request_id *out)
{
    (void)s;
    *out = (struct request_id){"of-a-spec"};
}

struct situation {
    struct store store;
    struct store_health health;
    struct admin_state state;
    bool answered_before_drain;
    struct recorder rec;
    lua_Integer drains;
};

static struct store_health fake_health(const struct store *s)
{
    return ((const struct situation *)(const void *)s)->health;
}

static void fake_state(void *ctx, struct admin_state *out)
{
    *out = ((struct situation *)ctx)->state;
}

static void fake_drain(void *ctx)
{
    struct situation *now = ctx;
    now->drains++;
    now->answered_before_drain = now->rec.answered;
}

/* request(bytes, {draining =, policy =, version =, store = "ok" | "a detail" | nil}) ->
 *   answer {status, type, body, fields} or the name of a close reason, drains asked for */
static int l_request(lua_State *L)
{
    static const struct stream_ops ops = {
        .request_id = recorder_request_id, .respond = recorder_respond, .close = recorder_close};
    static const struct store_ops store_ops = {.health = fake_health};
    static const struct http_limits limits = {8192, 16384, 100, 1024};
    size_t n;
    const char *bytes = luaL_checklstring(L, 1, &n);
    luaL_checktype(L, 2, LUA_TTABLE);
    const char *store = text(L, 2, "store");
    lua_getfield(L, 2, "draining");
    struct situation now = {.store.ops = &store_ops,
                            .state = {.draining = lua_toboolean(L, -1),
                                      .policy_file = text(L, 2, "policy"),
                                      .policy_version = text(L, 2, "version")}};
    now.health.ok = store && strcmp(store, "ok") == 0;
    now.health.detail = store ? store : "";
    now.health.degraded = text(L, 2, "degraded");
    now.health.events = 3;
    now.rec = (struct recorder){.stream = {.ops = &ops, .owner = &now.rec, .id = 1}, .L = L};

    struct http_request rq;
    http_request_init(&rq, &limits);
    if (http_parser_feed(&rq, bytes, n) != n || rq.state != HTTP_COMPLETE) {
        http_request_clear(&rq);
        return luaL_error(L, "the spec's own request is not one");
    }
    struct counted counted = {.net.connections = 5, .broker.head_id = EVENT_ID_MAX};
    const struct broker_options opt = {.turn_bytes = 65536, .publish.event_bytes = 65536};
    struct loop *loop = loop_new();
    struct admin admin = {.loop = loop,
                          .broker = broker_new(loop, &opt, &counted.broker),
                          .store = store ? &now.store : NULL,
                          .metrics = sources_of(&counted),
                          .alone = true,
                          .start_ms = loop_unix_ms(loop) - 2500,
                          .state = fake_state,
                          .drain = fake_drain,
                          .ctx = &now};
    struct peer_address client = {{0}};
    admin_request(&admin, &now.rec.stream, &rq, &client);
    broker_free(admin.broker);
    (void)loop_free(loop);
    http_request_clear(&rq);
    if (!now.rec.answered || (now.drains && !now.answered_before_drain)) {
        return luaL_error(L, "not answered, or only after the drain began");
    }
    lua_pushinteger(L, now.drains);
    return 2;
}

int native_open_admin(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"render", l_render}, {"names", l_names}, {"request", l_request}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
