/* net/address, net/address_limit. */
#include "native.h"
#include "net/address_limit.h"
#include "net/address_rate.h"
#include "net/message/forwarded.h"

#include <netinet/in.h>

static struct slice check_slice(lua_State *L, int i)
{
    size_t n;
    const char *p = luaL_checklstring(L, i, &n);
    return slice_of(p, n);
}

/* listen(text) -> { unix = path | family, port, host, is_local }, or nil, message */
static int l_listen(lua_State *L)
{
    struct address a;
    struct err e = {.code = 0};
    if (address_parse(luaL_checkstring(L, 1), &a, &e) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    lua_newtable(L);
    lua_pushboolean(L, address_is_local(&a));
    lua_setfield(L, -2, "is_local");
    if (a.is_unix || a.by_name) {
        lua_pushstring(L, a.path);
        lua_setfield(L, -2, a.is_unix ? "path" : "name");
        return 1;
    }
    char host[ADDRESS_TEXT_MAX] = "";
    bool v6 = a.tcp.ss_family == AF_INET6;
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)&a.tcp;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a.tcp;
    int rc = v6 ? uv_ip6_name(in6, host, sizeof host) : uv_ip4_name(in4, host, sizeof host);
    lua_pushstring(L, rc ? "?" : host);
    lua_setfield(L, -2, "host");
    lua_pushinteger(L, v6 ? 6 : 4);
    lua_setfield(L, -2, "family");
    lua_pushinteger(L, ntohs(v6 ? in6->sin6_port : in4->sin_port));
    lua_setfield(L, -2, "port");
    return 1;
}

static int push_text(lua_State *L, const struct peer_address *a)
{
    char text[ADDRESS_TEXT_MAX];
    peer_address_text(a, text);
    lua_pushstring(L, text);
    return 1;
}

/* peer(text) -> the address written back; nil when it is none */
static int l_peer(lua_State *L)
{
    struct peer_address a;
    if (!peer_address_parse(check_slice(L, 1), &a)) {
        lua_pushnil(L);
        return 1;
    }
    return push_text(L, &a);
}

static void check_network(lua_State *L, const char *text, struct network *out)
{
    struct err e = {.code = 0};
    if (network_parse(text, out, &e) != 0) {
        luaL_error(L, "%s", e.text);
    }
}

static void check_peer(lua_State *L, int i, struct peer_address *out)
{
    if (!peer_address_parse(check_slice(L, i), out)) {
        luaL_argerror(L, i, "not an address");
    }
}

/* contains(network, address); raises the network's error */
static int l_contains(lua_State *L)
{
    struct network n;
    struct peer_address a;
    check_network(L, luaL_checkstring(L, 1), &n);
    check_peer(L, 2, &a);
    lua_pushboolean(L, network_contains(&n, &a));
    return 1;
}

/* client(peer, { {name, value}, ... }, { networks }) -> text */
static int l_client(lua_State *L)
{
    enum { MOST = 16 };
    struct http_header fields[MOST];
    struct network trusted[MOST];
    struct peer_address peer, out;
    size_t field_count = 0, trusted_count = 0;
    check_peer(L, 1, &peer);
    for (lua_Integer i = 1; i <= luaL_len(L, 2) && i <= MOST; i++) {
        lua_rawgeti(L, 2, i);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        fields[field_count++] =
            (struct http_header){.name = check_slice(L, -2), .value = check_slice(L, -1)};
        lua_pop(L, 3); /* the table keeps the strings */
    }
    for (lua_Integer i = 1; i <= luaL_len(L, 3) && i <= MOST; i++) {
        lua_rawgeti(L, 3, i);
        check_network(L, luaL_checkstring(L, -1), &trusted[trusted_count++]);
        lua_pop(L, 1);
    }
    client_address(&peer, fields, field_count, trusted, trusted_count, &out);
    return push_text(L, &out);
}

/* limits{ {"take", address, max}, {"release", address}, {"count"} } -> answers in order */
static int l_limits(lua_State *L)
{
    struct address_limit *l = address_limit_new();
    lua_newtable(L);
    int answers = lua_gettop(L);
    lua_Integer n = luaL_len(L, 1);
    for (lua_Integer i = 1; i <= n; i++) {
        struct peer_address a = {.ip = {0}};
        lua_rawgeti(L, 1, i);
        int call = lua_gettop(L);
        lua_rawgeti(L, call, 1);
        lua_rawgeti(L, call, 2);
        lua_rawgeti(L, call, 3);
        const char *op = lua_tostring(L, call + 1);
        if (lua_isstring(L, call + 2)) {
            check_peer(L, call + 2, &a);
        }
        if (strcmp(op, "take") == 0) {
            unsigned max = (unsigned)lua_tointeger(L, call + 3);
            lua_pushboolean(L, address_limit_take(l, &a, 1, max));
        } else if (strcmp(op, "release") == 0) {
            address_limit_release(l, &a, 1);
            lua_pushboolean(L, 1);
        } else {
            lua_pushinteger(L, (lua_Integer)address_limit_addresses(l));
        }
        lua_rawseti(L, answers, i);
        lua_settop(L, answers);
    }
    address_limit_free(l);
    return 1;
}

/* rates(per_s, burst, most, { {address, now_ms} }) -> answers in order, addresses remembered at the end */
static int l_rates(lua_State *L)
{
    struct address_rate *r =
        address_rate_new((unsigned)luaL_checkinteger(L, 1), (unsigned)luaL_checkinteger(L, 2),
                         (size_t)luaL_checkinteger(L, 3));
    lua_Integer n = luaL_len(L, 4);
    lua_newtable(L);
    for (lua_Integer i = 1; i <= n; i++) {
        struct peer_address a;
        lua_rawgeti(L, 4, i);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        check_peer(L, lua_gettop(L) - 1, &a);
        bool taken = address_rate_take(r, &a, (uint64_t)lua_tointeger(L, -1));
        lua_pop(L, 3);
        lua_pushboolean(L, taken);
        lua_rawseti(L, -2, i);
    }
    lua_pushinteger(L, (lua_Integer)address_rate_addresses(r));
    address_rate_free(r);
    return 2;
}

/* unconnected() -> who the peer of a TCP socket that has none is, and that of a Unix socket */
static int l_unconnected(lua_State *L)
{
    uv_loop_t loop;
    uv_tcp_t tcp;
    uv_pipe_t named;
    struct peer_address a, b;
    if (uv_loop_init(&loop) || uv_tcp_init(&loop, &tcp) || uv_pipe_init(&loop, &named, 0)) {
        return luaL_error(L, "libuv");
    }
    peer_address_of((uv_stream_t *)&tcp, &a);
    peer_address_of((uv_stream_t *)&named, &b);
    uv_close((uv_handle_t *)&tcp, NULL);
    uv_close((uv_handle_t *)&named, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&loop);
    if (rc) {
        return luaL_error(L, "libuv: %s", uv_strerror(rc));
    }
    push_text(L, &a);
    push_text(L, &b);
    return 2;
}

int native_open_address(lua_State *L)
{
    static const luaL_Reg functions[] = {{"listen", l_listen},           {"peer", l_peer},
                                         {"contains", l_contains},       {"client", l_client},
                                         {"limits", l_limits},           {"rates", l_rates},
                                         {"unconnected", l_unconnected}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
