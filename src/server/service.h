/* The service manager that runs this process, systemd or one that speaks like it: the listening
 * sockets it passes (sd_listen_fds(3)) and what it wants to be told (sd_notify(3)). Both protocols
 * are an environment variable and a datagram, fixed for good and meant to be spoken without a
 * library; libsystemd would bring four compression and encryption libraries into the process. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include "config/config.h"
#include "net/listen_socket.h"

/* The sockets that were passed, by what the configuration has for them. */
struct service_sockets {
    struct listen_socket *listen; /* one for each entry of `listen`; fd -1: none, bind it */
    size_t count;
    struct listen_socket admin; /* the same */
};

/* Takes the sockets of LISTEN_FDS, so that no child takes them for its own. An entry "systemd:NAME"
 * of the configuration means the next socket of that name (FileDescriptorName=), an address the
 * socket that listens there. UV_EINVAL: a socket that no entry means, or a name that none has, which
 * is as it should be if this process has taken the place of another (`successor`). */
int service_sockets_take(const struct config *cfg, bool successor, struct service_sockets *out,
                         struct err *e);
/* Closes those that nobody took over. */
void service_sockets_clear(struct service_sockets *s);

/* Sends lines such as "READY=1\nSTATUS=serving" to NOTIFY_SOCKET; no effect where there is none. */
__attribute__((format(printf, 1, 2))) void service_notify(const char *fmt, ...);
/* How often WATCHDOG=1 is to be sent, half of what WATCHDOG_USEC allows; 0: not at all. */
uint64_t service_watchdog_ms(void);

#endif
