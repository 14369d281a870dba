/* See config_listen.h. The kernel would refuse the second one as well, but names neither place. */
#include "config/config_listen.h"

#include "net/address.h"

#include <string.h>
#include <uv.h>

static bool config_listen_same_ip(const void *a, const void *b, size_t n)
{
    static const unsigned char any[16];
    return memcmp(a, b, n) == 0 || memcmp(a, any, n) == 0 || memcmp(b, any, n) == 0;
}

static bool config_listen_conflict(const struct address *a, const struct address *b)
{
    if (a->by_name || b->by_name) {
        return false; /* the service manager may pass several sockets of one name */
    }
    if (a->is_unix || b->is_unix) {
        return a->is_unix == b->is_unix && strcmp(a->path, b->path) == 0;
    }
    if (a->tcp.ss_family != b->tcp.ss_family) {
        return false; /* whether "[::]" takes IPv4 as well, the system decides */
    }
    if (a->tcp.ss_family == AF_INET6) {
        const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)&a->tcp;
        const struct sockaddr_in6 *y = (const struct sockaddr_in6 *)&b->tcp;
        return x->sin6_port && x->sin6_port == y->sin6_port &&
               config_listen_same_ip(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr);
    }
    const struct sockaddr_in *x = (const struct sockaddr_in *)&a->tcp;
    const struct sockaddr_in *y = (const struct sockaddr_in *)&b->tcp;
    return x->sin_port &&
           x->sin_port == y->sin_port && /* 0: the kernel picks another one each time */
           config_listen_same_ip(&x->sin_addr, &y->sin_addr, sizeof x->sin_addr);
}

int config_listen_check(const struct config_place *places, size_t n, struct strbuf *problems)
{
    int rc = 0;
    for (size_t i = 1; i < n; i++) {
        struct address a, b;
        struct err e = {0};
        bool said = address_parse(places[i].address, &a, &e) != 0;
        for (size_t k = 0; k < i && !said; k++) {
            said = address_parse(places[k].address, &b, &e) == 0 && config_listen_conflict(&a, &b);
            if (said) {
                int full = strbuf_printf(
                    problems,
                    "%s: \"%s\" is taken by %s (\"%s\"): remove one, or change its address\n",
                    places[i].name, places[i].address, places[k].name, places[k].address);
                rc = full ? full : UV_EINVAL;
            }
        }
    }
    return rc;
}
