/* What specs do to sockets that Lua libraries cannot, and net/close_reason. */
#include "native.h"
#include "net/close_reason.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* deafen(fd): the socket drops whatever arrives from now on, acknowledgements as well, as if the
 * cable were cut: to the other side this is a black hole. */
static int l_deafen(lua_State *L)
{
    struct sock_filter drop[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {.len = 1, .filter = drop};
    int fd = (int)luaL_checkinteger(L, 1);
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program)) {
        return luaL_error(L, "SO_ATTACH_FILTER: %s", strerror(errno));
    }
    return 0;
}

/* max_segment(fd, bytes): the other side sends no larger segments. Before the connection is made (tcp(7), TCP_MAXSEG). */
static int l_max_segment(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    int bytes = (int)luaL_checkinteger(L, 2);
    if (setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &bytes, sizeof bytes)) {
        return luaL_error(L, "TCP_MAXSEG: %s", strerror(errno));
    }
    return 0;
}

/* ours(fd): programs that are started do not get the socket. One that has it keeps it open. */
static int l_ours(lua_State *L)
{
    if (fcntl((int)luaL_checkinteger(L, 1), F_SETFD, FD_CLOEXEC)) {
        return luaL_error(L, "FD_CLOEXEC: %s", strerror(errno));
    }
    return 0;
}

/* close_reason("ETIMEDOUT") -> the name of the reason that such an error of a socket is */
static int l_close_reason(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    char each[32];
    for (int code = 1; code < 4096; code++) {
        if (strcmp(uv_err_name_r(-code, each, sizeof each), name) == 0) {
            lua_pushstring(L, close_reason_name(close_reason_of(-code)));
            return 1;
        }
    }
    return luaL_error(L, "no such error: %s", name);
}

/* datagrams(path) -> the descriptor of a Unix socket that receives datagrams; "@name": abstract */
static int l_datagrams(lua_State *L)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t n;
    const char *path = luaL_checklstring(L, 1, &n);
    luaL_argcheck(L, n > 0 && n < sizeof at.sun_path, 1, "path");
    memcpy(at.sun_path, path, n);
    at.sun_path[0] = *path == '@' ? '\0' : *path;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size)) {
        return luaL_error(L, "%s: %s", path, strerror(errno));
    }
    lua_pushinteger(L, fd);
    return 1;
}

/* datagram(fd) -> the next one; nil: none is there yet */
static int l_datagram(lua_State *L)
{
    char text[4096];
    ssize_t n = recv((int)luaL_checkinteger(L, 1), text, sizeof text, 0);
    if (n < 0) {
        lua_pushnil(L);
    } else {
        lua_pushlstring(L, text, (size_t)n);
    }
    return 1;
}

static int l_close(lua_State *L)
{
    lua_pushboolean(L, close((int)luaL_checkinteger(L, 1)) == 0);
    return 1;
}

int native_open_sockets(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"deafen", l_deafen},       {"close_reason", l_close_reason},
        {"datagrams", l_datagrams}, {"datagram", l_datagram},
        {"close", l_close},         {"max_segment", l_max_segment},
        {"ours", l_ours},           {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
