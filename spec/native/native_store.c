/* store/: drives a store with a loop of its own. SQL connections of "other programs" and a writer
 * in a thread are in native_store_sql.c. */
#include "native_store.h"

#include "base/container_of.h"
#include "base/require.h"
#include "store/postgres/store_pg.h"
#include "store/sqlite/store_sqlite.h"
#include "store/sqlite/store_sqlite_state.h"
#include "store/store_memory.h"

#include <stdlib.h>

#define STORE_TYPE "native.store"

struct driver {
    uv_loop_t loop;
    uv_timer_t patience;
    bool out_of_patience;
    struct store *store; /* NULL: closed */
    enum { STORE_MEMORY, STORE_SQLITE, STORE_POSTGRES } kind;
    struct store_metrics metrics;
    char latest_text[16][256]; /* of store_latest */
    const char *latest[16];
    lua_State *L;                         /* of the running call */
    int completions, tail, leaps, erased; /* tables in the registry */
    size_t completed, tailed;             /* since opened */
    size_t taken_completed;
    uint64_t tokens;
};

/* ------------------------------------------------------------------ events */

static struct slice field(lua_State *L, int at, const char *name)
{
    size_t n = 0;
    lua_getfield(L, at, name);
    const char *p = lua_tolstring(L, -1, &n);
    lua_pop(L, 1); /* the table still holds it */
    return slice_of(p, n);
}

static lua_Integer integer_field(lua_State *L, int at, const char *name, lua_Integer missing)
{
    lua_getfield(L, at, name);
    lua_Integer n = luaL_optinteger(L, -1, missing);
    lua_pop(L, 1);
    return n;
}

static bool bool_field(lua_State *L, int at, const char *name, bool missing)
{
    lua_getfield(L, at, name);
    bool b = lua_isnil(L, -1) ? missing : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return b;
}

static struct event *to_event(lua_State *L, int at)
{
    uv_timeval64_t now;
    (void)uv_gettimeofday(&now);
    struct event_fields f = {.topic = field(L, at, "topic"),
                             .type = field(L, at, "type"),
                             .data = field(L, at, "data"),
                             .key = field(L, at, "key"),
                             .attrs = field(L, at, "attrs")};
    f.time_ms = integer_field(L, at, "time", now.tv_sec * 1000 + now.tv_usec / 1000);
    f.expires_ms = integer_field(L, at, "expires", 0);
    struct event *ev = event_new(&f);
    REQUIRE(ev != NULL);
    return ev;
}

static void set_slice(lua_State *L, const char *name, struct slice s)
{
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
        lua_setfield(L, -2, name);
    }
}

static void set_integer(lua_State *L, const char *name, uint64_t n)
{
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, name);
}

static void push_event(lua_State *L, const struct event *ev)
{
    lua_createtable(L, 0, 7);
    set_integer(L, "id", ev->id);
    set_integer(L, "time", (uint64_t)ev->time_ms);
    if (ev->expires_ms) {
        set_integer(L, "expires", (uint64_t)ev->expires_ms);
    }
    set_integer(L, "cost", event_cost(ev));
    set_slice(L, "topic", event_topic(ev));
    set_slice(L, "type", event_type(ev));
    set_slice(L, "data", event_data(ev));
    set_slice(L, "key", event_key(ev));
    set_slice(L, "attrs", event_attrs(ev));
}

/* ------------------------------------------------------------------ callbacks of the store */

/* Leaves a new completion on the stack. */
static void push_completion(struct driver *d, const char *kind, uint64_t token, int rc)
{
    lua_State *L = d->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->completions);
    lua_createtable(L, 0, 8);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    set_integer(L, "token", token);
    set_integer(L, "tailed", d->tailed);
    if (rc) {
        lua_pushstring(L, uv_err_name(rc));
        lua_setfield(L, -2, "error");
    }
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, (lua_Integer)lua_rawlen(L, -3) + 1);
    lua_remove(L, -2);
    d->completed++;
    uv_stop(&d->loop); /* l_run() looks at the count again before the loop sleeps */
}

static void on_append(void *ctx, uint64_t token, int rc, const struct store_ack *acks, size_t n)
{
    struct driver *d = ctx;
    push_completion(d, "append", token, rc);
    REQUIRE(rc == 0 || n == 0);
    lua_createtable(d->L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_createtable(d->L, 0, 2);
        set_integer(d->L, "id", acks[i].id);
        lua_pushboolean(d->L, acks[i].duplicate);
        lua_setfield(d->L, -2, "duplicate");
        lua_rawseti(d->L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(d->L, -2, "acks");
    lua_pop(d->L, 1);
}

static void on_page(void *ctx, uint64_t token, int rc, const struct store_page *page)
{
    struct driver *d = ctx;
    push_completion(d, "page", token, rc);
    REQUIRE((rc == 0) == (page != NULL));
    if (page) {
        set_integer(d->L, "upto", page->upto);
        set_integer(d->L, "trimmed", page->trimmed);
        lua_createtable(d->L, (int)page->n, 0);
        for (size_t i = 0; i < page->n; i++) {
            push_event(d->L, page->events[i]);
            lua_rawseti(d->L, -2, (lua_Integer)i + 1);
        }
        lua_setfield(d->L, -2, "events");
    }
    lua_pop(d->L, 1);
}

static void on_seek(void *ctx, uint64_t token, int rc, uint64_t id)
{
    struct driver *d = ctx;
    push_completion(d, "seek", token, rc);
    set_integer(d->L, "id", id);
    lua_pop(d->L, 1);
}

static void on_tail(void *ctx, struct event *const *events, size_t n)
{
    struct driver *d = ctx;
    lua_rawgeti(d->L, LUA_REGISTRYINDEX, d->tail);
    for (size_t i = 0; i < n; i++) {
        push_event(d->L, events[i]);
        lua_rawseti(d->L, -2, (lua_Integer)lua_rawlen(d->L, -2) + 1);
        d->tailed++;
    }
    uv_stop(&d->loop);
    lua_pop(d->L, 1);
}

static void on_leap(void *ctx, const struct store_leap *leap)
{
    struct driver *d = ctx;
    lua_rawgeti(d->L, LUA_REGISTRYINDEX, d->leaps);
    lua_newtable(d->L);
    set_integer(d->L, "after", leap->after);
    set_integer(d->L, "upto", leap->upto);
    set_integer(d->L, "tailed", d->tailed);
    lua_rawseti(d->L, -2, (lua_Integer)lua_rawlen(d->L, -2) + 1);
    uv_stop(&d->loop);
    lua_pop(d->L, 1);
}

static void on_erased(void *ctx, const uint64_t *ids, size_t n, uint64_t trimmed)
{
    struct driver *d = ctx;
    (void)trimmed;
    lua_rawgeti(d->L, LUA_REGISTRYINDEX, d->erased);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(d->L, (lua_Integer)ids[i]);
        lua_rawseti(d->L, -2, (lua_Integer)lua_rawlen(d->L, -2) + 1);
    }
    lua_pop(d->L, 1);
}

static void on_erase(void *ctx, uint64_t token, int rc, size_t n)
{
    struct driver *d = ctx;
    push_completion(d, "erase", token, rc);
    set_integer(d->L, "removed", n);
    lua_rawgeti(d->L, LUA_REGISTRYINDEX, d->erased);
    size_t told = lua_rawlen(d->L, -1);
    lua_pop(d->L, 1);
    set_integer(d->L, "told", told); /* before this */
    lua_pop(d->L, 1);
}

/* ------------------------------------------------------------------ methods */

static struct driver *check(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, STORE_TYPE);
    luaL_argcheck(L, d->store != NULL, 1, "is closed");
    d->L = L;
    luaL_checkstack(L, 20, NULL);
    return d;
}

static int refused(lua_State *L, int rc)
{
    lua_pushnil(L);
    lua_pushstring(L, uv_err_name(rc));
    return 2;
}

static int l_append(lua_State *L)
{
    struct driver *d = check(L);
    struct event_list list = {0};
    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_Integer i = 1; i <= luaL_len(L, 2); i++) {
        lua_rawgeti(L, 2, i);
        event_list_push(&list, to_event(L, lua_gettop(L)));
        lua_pop(L, 1);
    }
    size_t before = d->completed;
    int rc = d->store->ops->append(d->store, &list, on_append, d, ++d->tokens);
    REQUIRE(d->completed == before);
    REQUIRE(rc != 0 || list.n == 0);
    event_list_clear(&list);
    if (rc) {
        return refused(L, rc);
    }
    lua_pushinteger(L, (lua_Integer)d->tokens);
    return 1;
}

/* Fills `topics` from the list in the field of that name; returns how many. The table holds them. */
static size_t topics_field(lua_State *L, int at, struct slice *topics, size_t most)
{
    size_t n = 0;
    lua_getfield(L, at, "topics");
    for (; lua_istable(L, -1) && n < most && n < lua_rawlen(L, -1); n++) {
        lua_rawgeti(L, -1, (lua_Integer)n + 1);
        topics[n].p = lua_tolstring(L, -1, &topics[n].n);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return n;
}

static int l_read(lua_State *L)
{
    struct driver *d = check(L);
    struct slice topics[16];
    struct store_query q = {
        .topics = topics,
        .topic_count = topics_field(L, 2, topics, 16),
        .latest = bool_field(L, 2, "latest", false),
        .after = (uint64_t)integer_field(L, 2, "after", 0),
        .upto = (uint64_t)integer_field(L, 2, "upto", (lua_Integer)EVENT_ID_MAX),
        .max_events = (size_t)integer_field(L, 2, "max_events", 1000),
        .max_bytes = (size_t)integer_field(L, 2, "max_bytes", 1 << 20),
    };
    int rc = d->store->ops->read(d->store, &q, on_page, d, ++d->tokens);
    if (rc) {
        return refused(L, rc);
    }
    lua_pushinteger(L, (lua_Integer)d->tokens);
    return 1;
}

static int l_seek(lua_State *L)
{
    struct driver *d = check(L);
    int rc = d->store->ops->seek(d->store, luaL_checkinteger(L, 2), on_seek, d, ++d->tokens);
    if (rc) {
        return refused(L, rc);
    }
    lua_pushinteger(L, (lua_Integer)d->tokens);
    return 1;
}

/* erase{id...} */
static int l_erase(lua_State *L)
{
    struct driver *d = check(L);
    uint64_t ids[STORE_ERASE_MAX];
    size_t n = (size_t)luaL_len(L, 2);
    luaL_argcheck(L, n <= STORE_ERASE_MAX, 2, "are too many");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        ids[i] = (uint64_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    size_t before = d->completed;
    int rc = d->store->ops->erase(d->store, ids, n, on_erase, d, ++d->tokens);
    REQUIRE(d->completed == before);
    if (rc) {
        return refused(L, rc);
    }
    lua_pushinteger(L, (lua_Integer)d->tokens);
    return 1;
}

static void on_sync(void *ctx, uint64_t token, int rc)
{
    struct driver *d = ctx;
    push_completion(d, "sync", token, rc);
    lua_pop(d->L, 1);
}

static int l_sync(lua_State *L)
{
    struct driver *d = check(L);
    int rc = d->store->ops->sync(d->store, on_sync, d, ++d->tokens);
    if (rc) {
        return refused(L, rc);
    }
    lua_pushinteger(L, (lua_Integer)d->tokens);
    return 1;
}

static int l_wake(lua_State *L)
{
    struct driver *d = check(L);
    d->store->ops->wake(d->store);
    return 0;
}

static void on_patience(uv_timer_t *timer)
{
    struct driver *d = timer->data;
    d->out_of_patience = true;
}

/* run{completions = n, tail = n, ms = 5000}: turns the loop until so many completions and tailed
 * events (counted since opened) are there. Returns whether they are. */
static int l_run(lua_State *L)
{
    struct driver *d = check(L);
    size_t completions = (size_t)integer_field(L, 2, "completions", 0);
    size_t tail = (size_t)integer_field(L, 2, "tail", 0);
    uint64_t ms = (uint64_t)integer_field(L, 2, "ms", 5000);
    bool forever = completions == 0 && tail == 0; /* then for the time given */
    d->out_of_patience = false;
    uv_update_time(&d->loop);
    REQUIRE(uv_timer_start(&d->patience, on_patience, ms, 0) == 0);
    while (!d->out_of_patience && (forever || d->completed < completions || d->tailed < tail)) {
        (void)uv_run(&d->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&d->patience);
    lua_pushboolean(L, d->completed >= completions && d->tailed >= tail);
    return 1;
}

static int take(lua_State *L, int *ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, *ref);
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, *ref);
    return 1;
}

static int l_completions(lua_State *L)
{
    return take(L, &check(L)->completions);
}

static int l_tail(lua_State *L)
{
    return take(L, &check(L)->tail);
}

/* What the tail leapt over since the last call: after, upto, and how many events came before. */
static int l_leaps(lua_State *L)
{
    return take(L, &check(L)->leaps);
}

/* The ids that were to be forgotten since the last call. */
static int l_erased(lua_State *L)
{
    return take(L, &check(L)->erased);
}

static int l_counts(lua_State *L)
{
    struct driver *d = check(L);
    lua_pushinteger(L, (lua_Integer)d->completed);
    lua_pushinteger(L, (lua_Integer)d->tailed);
    return 2;
}

static int l_bounds(lua_State *L)
{
    struct driver *d = check(L);
    struct store_bounds b = d->store->ops->bounds(d->store);
    lua_newtable(L);
    set_integer(L, "head", b.head);
    set_integer(L, "trimmed", b.trimmed);
    lua_newtable(L);
    for (size_t i = 0; i < b.leap_count; i++) {
        lua_newtable(L);
        set_integer(L, "after", b.leaps[i].after);
        set_integer(L, "upto", b.leaps[i].upto);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "leaps");
    return 1;
}

static int l_health(lua_State *L)
{
    struct driver *d = check(L);
    struct store_health h = d->store->ops->health(d->store);
    lua_newtable(L);
    lua_pushboolean(L, h.ok);
    lua_setfield(L, -2, "ok");
    lua_pushstring(L, h.detail);
    lua_setfield(L, -2, "detail");
    set_integer(L, "events", h.events);
    set_integer(L, "bytes", h.bytes);
    return 1;
}

static int l_metrics(lua_State *L)
{
    struct driver *d = check(L);
    lua_newtable(L);
#define X(member, kind, name, help) set_integer(L, #member, d->metrics.member);
    STORE_METRICS(X)
#undef X
    set_integer(L, "appends_timed", d->metrics.store_append.count);
    set_integer(L, "reads_timed", d->metrics.store_read.count);
    return 1;
}

/* A statement on the store's own writing connection, between two jobs. */
static int l_writer_sql(lua_State *L)
{
    struct driver *d = check(L);
    const char *sql = luaL_checkstring(L, 2);
    struct store_sqlite *s = container_of(d->store, struct store_sqlite, base);
    luaL_argcheck(L, d->kind == STORE_SQLITE, 1, "is no SQLite store");
    while (s->busy) {
        (void)uv_run(&d->loop, UV_RUN_ONCE);
    }
    lua_pushboolean(L, sqlite3_exec(s->writer.db.db, sql, NULL, NULL, NULL) == SQLITE_OK);
    return 1;
}

static int l_insert(lua_State *L)
{
    struct driver *d = check(L);
    luaL_argcheck(L, d->kind == STORE_MEMORY, 1, "is no memory store");
    store_memory_insert(d->store, to_event(L, 2));
    return 0;
}

static void on_closed(void *ctx)
{
    struct driver *d = ctx;
    d->store = NULL;
}

/* begin_close(): asks; finish_close() turns the loop until nothing is left of the store. */
static int l_begin_close(lua_State *L)
{
    struct driver *d = check(L);
    d->store->ops->close(d->store, on_closed, d);
    return 0;
}

static int l_finish_close(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, STORE_TYPE);
    d->L = L;
    uv_close((uv_handle_t *)&d->patience, NULL);
    while (uv_run(&d->loop, UV_RUN_DEFAULT) != 0) { /* a completion stops it */
    }
    REQUIRE(d->store == NULL);
    REQUIRE(uv_loop_close(&d->loop) == 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->completions);
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->tail);
    luaL_unref(L, LUA_REGISTRYINDEX, d->completions);
    luaL_unref(L, LUA_REGISTRYINDEX, d->tail);
    luaL_unref(L, LUA_REGISTRYINDEX, d->leaps);
    return 2;
}

static int l_close(lua_State *L)
{
    (void)l_begin_close(L);
    return l_finish_close(L);
}

/* latest = { pattern, ... }, latest_topics = n */
static struct store_latest latest_field(lua_State *L, struct driver *d)
{
    struct store_latest latest = {.patterns = d->latest,
                                  .topics = (uint64_t)integer_field(L, 1, "latest_topics", 1000)};
    lua_getfield(L, 1, "latest");
    for (; lua_istable(L, -1) && latest.n < lua_rawlen(L, -1); latest.n++) {
        REQUIRE(latest.n < 16);
        lua_rawgeti(L, -1, (lua_Integer)latest.n + 1);
        (void)snprintf(d->latest_text[latest.n], 256, "%s", luaL_checkstring(L, -1));
        d->latest[latest.n] = d->latest_text[latest.n];
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return latest;
}

static int open_sqlite(lua_State *L, struct driver *d, struct err *e)
{
    char path[1024];
    struct slice given = field(L, 1, "path");
    REQUIRE(given.n < sizeof path);
    memcpy(path, given.p, given.n);
    path[given.n] = '\0';
    struct store_sqlite_options o = {
        .path = path,
        .synchronous_full = bool_field(L, 1, "synchronous_full", true),
        .poll_ms = (unsigned)integer_field(L, 1, "poll_ms", 50),
        .busy_timeout_ms = (unsigned)integer_field(L, 1, "busy_timeout_ms", 2000),
        .max_queue_events = (size_t)integer_field(L, 1, "max_queue_events", 0),
        .max_queue_bytes = (size_t)integer_field(L, 1, "max_queue_bytes", 0),
        .retain_age_s = (uint64_t)integer_field(L, 1, "retain_age_s", 0),
        .retain_events = (uint64_t)integer_field(L, 1, "retain_events", 0),
        .retain_bytes = (uint64_t)integer_field(L, 1, "retain_bytes", 0),
        .key_window_s = (uint64_t)integer_field(L, 1, "key_window_s", 3600),
        .event_bytes = (size_t)integer_field(L, 1, "event_bytes", 1 << 20),
        .no_retention = bool_field(L, 1, "no_retention", false),
        .latest = latest_field(L, d),
    };
    return store_sqlite_open(&o, &d->loop, &d->metrics, on_tail, on_leap, d, &d->store, e);
}

static int open_postgres(lua_State *L, struct driver *d, struct err *e)
{
    lua_getfield(L, 1, "conninfo"); /* stays on the stack */
    struct store_pg_options o = {
        .conninfo = luaL_checkstring(L, -1),
        .migrate = true,
        .history_connections = 2,
        .poll_ms = (unsigned)integer_field(L, 1, "poll_ms", 250),
        .outbox_poll_ms = (unsigned)integer_field(L, 1, "poll_ms", 250),
        .append_timeout_ms = STORE_PG_APPEND_MAX_MS,
        .batch_rows = 500,
        .partition_ids = (uint64_t)integer_field(L, 1, "partition_ids", INT64_C(1) << 36),
        .max_queue_events = (size_t)integer_field(L, 1, "max_queue_events", 0),
        .max_queue_bytes = (size_t)integer_field(L, 1, "max_queue_bytes", 0),
        .retain_events = (uint64_t)integer_field(L, 1, "retain_events", 0),
        .key_window_s = (uint64_t)integer_field(L, 1, "key_window_s", 3600),
        .event_bytes = (size_t)integer_field(L, 1, "event_bytes", 1 << 20),
        .latest = latest_field(L, d),
    };
    return store_pg_open(&o, NULL, &d->loop, &d->metrics, on_tail, on_leap, d, &d->store, e);
}

static void open_memory(lua_State *L, struct driver *d)
{
    struct store_memory_options o = {
        .first_id = (uint64_t)integer_field(L, 1, "first_id", 0),
        .max_queue_events = (size_t)integer_field(L, 1, "max_queue_events", 0),
        .max_queue_bytes = (size_t)integer_field(L, 1, "max_queue_bytes", 0),
        .keys = true,
        .latest = latest_field(L, d),
    };
    d->store = store_memory_open(&o, &d->loop, &d->metrics, on_tail, d);
}

/* open{kind = "sqlite" | "postgres" | "memory", ...options}: a store, or nil and why. */
static int l_open(lua_State *L)
{
    struct err e = {0};
    int rc = 0;
    luaL_checktype(L, 1, LUA_TTABLE);
    struct driver *d = lua_newuserdatauv(L, sizeof *d, 0);
    memset(d, 0, sizeof *d);
    luaL_setmetatable(L, STORE_TYPE);
    REQUIRE(uv_loop_init(&d->loop) == 0);
    struct slice kind = field(L, 1, "kind");
    if (slice_is(kind, "sqlite")) {
        d->kind = STORE_SQLITE;
        rc = open_sqlite(L, d, &e);
    } else if (slice_is(kind, "postgres")) {
        int top = lua_gettop(L);
        d->kind = STORE_POSTGRES;
        rc = open_postgres(L, d, &e);
        lua_settop(L, top);
    } else {
        open_memory(L, d);
    }
    if (rc) {
        REQUIRE(uv_loop_close(&d->loop) == 0);
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        lua_pushstring(L, uv_err_name(rc));
        return 3;
    }
    REQUIRE(uv_timer_init(&d->loop, &d->patience) == 0);
    d->patience.data = d;
    lua_newtable(L);
    d->completions = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    d->tail = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    d->leaps = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    d->erased = luaL_ref(L, LUA_REGISTRYINDEX);
    d->store->erased = on_erased;
    d->store->erased_ctx = d;
    return 1;
}

static int l_id_floor(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)store_id_floor(luaL_checkinteger(L, 1)));
    return 1;
}

/* Monotonic milliseconds. */
static int l_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)uv_hrtime() / 1e6);
    return 1;
}

int native_open_store(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"open", l_open}, {"floor", l_id_floor}, {"now", l_now}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"append", l_append},
                                       {"read", l_read},
                                       {"seek", l_seek},
                                       {"sync", l_sync},
                                       {"wake", l_wake},
                                       {"run", l_run},
                                       {"completions", l_completions},
                                       {"tail", l_tail},
                                       {"leaps", l_leaps},
                                       {"erase", l_erase},
                                       {"erased", l_erased},
                                       {"counts", l_counts},
                                       {"bounds", l_bounds},
                                       {"health", l_health},
                                       {"metrics", l_metrics},
                                       {"writer_sql", l_writer_sql},
                                       {"insert", l_insert},
                                       {"begin_close", l_begin_close},
                                       {"finish_close", l_finish_close},
                                       {"close", l_close},
                                       {NULL, NULL}};
    luaL_newmetatable(L, STORE_TYPE);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    native_store_sql(L);
    native_store_vfs(L);
    return 1;
}
