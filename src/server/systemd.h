/* The service manager that runs this process, systemd or a compatible one: the listening sockets that
 * it passes (sd_listen_fds(3)) and the notifications that it expects (sd_notify(3)). The protocols are
 * environment variables and a datagram. They are stable and documented for use without a library;
 * libsystemd would load four compression and encryption libraries into the process. */
#ifndef SERVER_SYSTEMD_H
#define SERVER_SYSTEMD_H

#include "config/config.h"
#include "net/listen_socket.h"

/* The sockets that were passed, by their entries in the configuration. */
struct systemd_sockets {
    struct listen_socket *listen; /* one for each entry of `listen`; fd -1: none, bind it */
    size_t count;
    struct listen_socket admin; /* the same */
};

/* Takes the sockets of LISTEN_FDS and clears that variable, so that no child takes them. An entry
 * "systemd:NAME" of the configuration gets the next socket of that name (FileDescriptorName=), an
 * address gets the socket that listens there. UV_EINVAL: no entry matches a socket, or no socket
 * matches a name; the latter is no error if this process replaces another one (`successor`). */
int systemd_sockets_take(const struct config *cfg, bool successor, struct systemd_sockets *out,
                         struct err *e);
/* Closes the sockets that are still in `s`. */
void systemd_sockets_clear(struct systemd_sockets *s);

/* Sends lines such as "READY=1\nSTATUS=serving" to NOTIFY_SOCKET; no effect if that is not set. */
__attribute__((format(printf, 1, 2))) void systemd_notify(const char *fmt, ...);
/* RELOADING=1 with the time that goes with it (sd_notify(3)), and a STATUS. READY=1 must follow. */
void systemd_notify_reloading(const char *status);
/* The interval for WATCHDOG=1, half of WATCHDOG_USEC; 0: not at all. */
uint64_t systemd_watchdog_ms(void);

#endif
