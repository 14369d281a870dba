/* A client's half of an HTTP/2 connection, bytes in and bytes out: nghttp2's, driven by support/h2.lua. */
#include "base/alloc.h"
#include "native.h"
#include "net/h2/h2_memory.h"

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLIENT "native.h2.client"

struct h2_body {
    struct h2_body *next;
    int32_t id;
    char *bytes; /* owned */
    size_t len, sent;
    bool complete;
};

struct h2_client {
    nghttp2_session *ng;
    lua_State *L; /* of the call under way */
    struct h2_body *bodies;
};

static struct h2_client *check_client(lua_State *L)
{
    struct h2_client *c = luaL_checkudata(L, 1, CLIENT);
    luaL_argcheck(L, c->ng != NULL, 1, "it was closed");
    c->L = L;
    return c;
}

/* Pushes a fresh event, which is in the list of events already. */
static void push_event(struct h2_client *c, const char *kind, int32_t id)
{
    lua_State *L = c->L;
    lua_getiuservalue(L, 1, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, (lua_Integer)lua_rawlen(L, -3) + 1);
    lua_remove(L, -2);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    lua_pushinteger(L, id);
    lua_setfield(L, -2, "id");
}

static void set_integer(lua_State *L, const char *name, lua_Integer n)
{
    lua_pushinteger(L, n);
    lua_setfield(L, -2, name);
}

/* Fields gather in the second user value until their frame is complete. */
static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct h2_client *c = user;
    lua_State *L = c->L;
    (void)ng;
    (void)frame;
    (void)flags;
    lua_getiuservalue(L, 1, 2);
    lua_newtable(L);
    lua_pushlstring(L, (const char *)name, name_len);
    lua_rawseti(L, -2, 1);
    lua_pushlstring(L, (const char *)value, value_len);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
    return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct h2_client *c = user;
    lua_State *L = c->L;
    (void)ng;
    int32_t id = frame->hd.stream_id;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        push_event(c, "headers", id);
        lua_getiuservalue(L, 1, 2);
        lua_setfield(L, -2, "fields");
        lua_newtable(L);
        lua_setiuservalue(L, 1, 2);
        break;
    case NGHTTP2_DATA:
        push_event(c, "data-end", id);
        break;
    case NGHTTP2_RST_STREAM:
        push_event(c, "reset", id);
        set_integer(L, "code", frame->rst_stream.error_code);
        break;
    case NGHTTP2_GOAWAY:
        push_event(c, "goaway", id);
        set_integer(L, "code", frame->goaway.error_code);
        set_integer(L, "last", frame->goaway.last_stream_id);
        break;
    case NGHTTP2_PING:
        push_event(c, "ping", id);
        break;
    default:
        return 0;
    }
    lua_pushboolean(L, frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    lua_setfield(L, -2, "ended");
    lua_pop(L, 1);
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *user)
{
    struct h2_client *c = user;
    (void)ng;
    (void)flags;
    push_event(c, "data", id);
    lua_pushlstring(c->L, (const char *)data, len);
    lua_setfield(c->L, -2, "data");
    lua_pop(c->L, 1);
    return 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
    struct h2_client *c = user;
    (void)ng;
    push_event(c, "close", id);
    set_integer(c->L, "code", code);
    lua_pop(c->L, 1);
    return 0;
}

static ssize_t on_read_body(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t length,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_body *b = source->ptr;
    (void)ng;
    (void)id;
    (void)user;
    size_t n = b->len - b->sent < length ? b->len - b->sent : length;
    if (n) {
        memcpy(buf, b->bytes + b->sent, n);
    }
    b->sent += n;
    if (b->sent == b->len && b->complete) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (n == 0) {
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

/* client{ window = initial window of streams, manual = true: windows grow by consume() only } */
static int client_new(lua_State *L)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    bool manual = false;
    lua_Integer window = 65535;
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "manual");
        manual = lua_toboolean(L, -1);
        lua_getfield(L, 1, "window");
        window = luaL_optinteger(L, -1, window);
    }
    lua_settop(L, 0);
    struct h2_client *c = lua_newuserdatauv(L, sizeof *c, 2);
    *c = (struct h2_client){.L = L};
    luaL_setmetatable(L, CLIENT);
    for (int i = 1; i <= 2; i++) {
        lua_newtable(L);
        lua_setiuservalue(L, 1, i);
    }
    if (nghttp2_session_callbacks_new(&cb)) {
        return luaL_error(L, "memory is short");
    }
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    if (nghttp2_option_new(&opt)) {
        nghttp2_session_callbacks_del(cb);
        return luaL_error(L, "memory is short");
    }
    nghttp2_option_set_no_auto_window_update(opt, manual);
    int rc = nghttp2_session_client_new2(&c->ng, cb, c, opt);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(opt);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)window},
                                         {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    rc = rc ? rc : nghttp2_submit_settings(c->ng, NGHTTP2_FLAG_NONE, settings, 2);
    return rc ? luaL_error(L, "%s", nghttp2_strerror(rc)) : 1;
}

static int client_close(lua_State *L)
{
    struct h2_client *c = luaL_checkudata(L, 1, CLIENT);
    nghttp2_session_del(c->ng);
    c->ng = NULL;
    while (c->bodies) {
        struct h2_body *b = c->bodies;
        c->bodies = b->next;
        free(b->bytes);
        free(b);
    }
    return 0;
}

static void body_append(struct h2_body *b, const char *bytes, size_t n)
{
    b->bytes = xrealloc(b->bytes, b->len + n + 1);
    memcpy(b->bytes + b->len, bytes, n);
    b->len += n;
}

/* request(fields, body or nil, incomplete): the id. `incomplete`: append() follows. */
static int client_request(lua_State *L)
{
    struct h2_client *c = check_client(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t n = lua_rawlen(L, 2), len = 0;
    const char *body = luaL_optlstring(L, 3, NULL, &len);
    bool incomplete = lua_toboolean(L, 4);
    nghttp2_nv *nv = xcalloc(n + 1, sizeof *nv);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        nv[i].name = (uint8_t *)(uintptr_t)lua_tolstring(L, -2, &nv[i].namelen);
        nv[i].value = (uint8_t *)(uintptr_t)lua_tolstring(L, -1, &nv[i].valuelen);
        lua_pop(L, 3); /* the table keeps them */
    }
    struct h2_body *b = NULL;
    if (body || incomplete) {
        b = xcalloc(1, sizeof *b);
        body_append(b, body ? body : "", len);
        b->complete = !incomplete;
        b->next = c->bodies;
        c->bodies = b;
    }
    nghttp2_data_provider source = {.source = {.ptr = b}, .read_callback = on_read_body};
    int32_t id = nghttp2_submit_request(c->ng, NULL, nv, n, b ? &source : NULL, NULL);
    free(nv);
    if (id < 0) {
        return luaL_error(L, "%s", nghttp2_strerror(id));
    }
    if (b) {
        b->id = id;
    }
    lua_pushinteger(L, id);
    return 1;
}

/* append(id, bytes, complete) */
static int client_append(lua_State *L)
{
    struct h2_client *c = check_client(L);
    int32_t id = (int32_t)luaL_checkinteger(L, 2);
    size_t n;
    const char *bytes = luaL_checklstring(L, 3, &n);
    struct h2_body *b = c->bodies;
    while (b && b->id != id) {
        b = b->next;
    }
    if (!b) {
        return luaL_argerror(L, 2, "no such request");
    }
    body_append(b, bytes, n);
    b->complete = lua_toboolean(L, 4);
    (void)nghttp2_session_resume_data(c->ng, id); /* it may not have been deferred */
    return 0;
}

static int client_feed(lua_State *L)
{
    struct h2_client *c = check_client(L);
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    ssize_t rc = nghttp2_session_mem_recv(c->ng, (const uint8_t *)bytes, n);
    if (rc < 0) {
        lua_pushnil(L);
        lua_pushstring(L, nghttp2_strerror((int)rc));
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int client_output(lua_State *L)
{
    struct h2_client *c = check_client(L);
    luaL_Buffer b;
    const uint8_t *bytes;
    ssize_t n;
    luaL_buffinit(L, &b);
    while ((n = nghttp2_session_mem_send(c->ng, &bytes)) > 0) {
        luaL_addlstring(&b, (const char *)bytes, (size_t)n);
    }
    luaL_pushresult(&b);
    return 1;
}

static int client_events(lua_State *L)
{
    check_client(L);
    lua_getiuservalue(L, 1, 1);
    lua_newtable(L);
    lua_setiuservalue(L, 1, 1);
    return 1;
}

static int check_rc(lua_State *L, int rc)
{
    return rc ? luaL_error(L, "%s", nghttp2_strerror(rc)) : 0;
}

static int client_consume(lua_State *L)
{
    struct h2_client *c = check_client(L);
    return check_rc(L, nghttp2_session_consume(c->ng, (int32_t)luaL_checkinteger(L, 2),
                                               (size_t)luaL_checkinteger(L, 3)));
}

static int client_reset(lua_State *L)
{
    struct h2_client *c = check_client(L);
    return check_rc(L, nghttp2_submit_rst_stream(c->ng, NGHTTP2_FLAG_NONE,
                                                 (int32_t)luaL_checkinteger(L, 2),
                                                 (uint32_t)luaL_optinteger(L, 3, NGHTTP2_CANCEL)));
}

static int client_ping(lua_State *L)
{
    struct h2_client *c = check_client(L);
    return check_rc(L, nghttp2_submit_ping(c->ng, NGHTTP2_FLAG_NONE, NULL));
}

/* How many of the `n` pages from `p` are resident. */
static int resident_pages(char *p, size_t n, size_t page)
{
    unsigned char there[64];
    int count = 0;
    if (n > sizeof there || mincore(p, n * page, there)) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        count += there[i] & 1;
    }
    return count;
}

/* Of a block of so many bytes that was used: the resident pages in it before h2_memory_forget(), and after, and then the
 * sum of their bytes. */
static int h2_forget(lua_State *L)
{
    size_t size = (size_t)luaL_checkinteger(L, 1), page = (size_t)sysconf(_SC_PAGESIZE);
    char *block = xmalloc(size);
    char *first = block + (page - (uintptr_t)block % page) % page;
    size_t n = first < block + size ? (size_t)(block + size - first) / page : 0;
    memset(block, 1, size);
    lua_pushinteger(L, n ? resident_pages(first, n, page) : 0);
    h2_memory_forget(block, size);
    lua_pushinteger(L, n ? resident_pages(first, n, page) : 0);
    lua_Integer sum = 0;
    for (size_t i = 0; i < n * page; i++) {
        sum += first[i];
    }
    lua_pushinteger(L, sum);
    free(block);
    return 3;
}

int native_open_h2(lua_State *L)
{
    static const luaL_Reg methods[] = {{"request", client_request},
                                       {"append", client_append},
                                       {"feed", client_feed},
                                       {"output", client_output},
                                       {"events", client_events},
                                       {"consume", client_consume},
                                       {"reset", client_reset},
                                       {"ping", client_ping},
                                       {"close", client_close},
                                       {"__gc", client_close},
                                       {NULL, NULL}};
    native_class(L, CLIENT, methods);
    lua_newtable(L);
    lua_pushcfunction(L, client_new);
    lua_setfield(L, -2, "client");
    lua_pushcfunction(L, h2_forget);
    lua_setfield(L, -2, "forget");
    return 1;
}
