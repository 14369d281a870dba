/* What specs do to sockets that Lua libraries cannot, and net/close_reason. */
#include "native.h"
#include "net/close_reason.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/socket.h>

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

int native_open_sockets(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"deafen", l_deafen}, {"close_reason", l_close_reason}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
