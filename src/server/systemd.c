#include "server/systemd.h"

#include "base/alloc.h"
#include "base/logging.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

enum { FIRST_FD = 3, SOCKETS_MAX = 128, NOTIFY_MAX_BYTES = 1024 };

/* ---------------------------------------------------------------- sockets */

struct passed {
    struct listen_socket socket; /* fd -1: taken */
    char name[64];
};

/* The number that an environment variable holds; 0: none, or something else. */
static uint64_t number_in(const char *variable)
{
    const char *text = getenv(variable);
    char *end = NULL;
    errno = 0;
    unsigned long long n = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    return end && *end == '\0' && errno == 0 ? n : 0;
}

static int systemd_describe(struct passed *p, struct err *e)
{
    struct address *a = &p->socket.where;
    struct sockaddr_un sun = {0};
    socklen_t len = sizeof a->tcp, size = sizeof(int), unix_len = sizeof sun;
    int fd = p->socket.fd, type = 0, listening = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) || !listening ||
        getsockname(fd, (struct sockaddr *)&a->tcp, &len)) {
        return err_set(e, UV_EINVAL,
                       "file descriptor %d (\"%s\"), passed by the service manager, is no "
                       "listening stream socket: the socket unit needs ListenStream= and Accept=no",
                       fd, p->name);
    }
    if (a->tcp.ss_family == AF_UNIX) {
        (void)getsockname(fd, (struct sockaddr *)&sun, &unix_len); /* as above */
        a->is_unix = true;
        memcpy(a->path, sun.sun_path, sizeof sun.sun_path);
        a->path[sizeof a->path - 1] = '\0';
        if (a->path[0] == '\0') { /* abstract, or none: a rolling restart could not name it */
            return err_set(e, UV_EINVAL,
                           "file descriptor %d (\"%s\"), passed by the service manager, is a Unix "
                           "socket without a path: ListenStream= needs an absolute path",
                           fd, p->name);
        }
    } else if (a->tcp.ss_family != AF_INET && a->tcp.ss_family != AF_INET6) {
        return err_set(e, UV_EINVAL,
                       "file descriptor %d (\"%s\"), passed by the service manager, is neither a "
                       "TCP nor a Unix socket",
                       fd, p->name);
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return 0;
}

static int receive(struct passed *v, size_t *n, struct err *e)
{
    bool ours = number_in("LISTEN_PID") == (uint64_t)getpid();
    uint64_t count = ours ? number_in("LISTEN_FDS") : 0;
    const char *names = getenv("LISTEN_FDNAMES");
    int rc = count > SOCKETS_MAX ? err_set(e, UV_E2BIG,
                                           "the service manager passes %llu sockets: expected %d "
                                           "at most",
                                           (unsigned long long)count, SOCKETS_MAX)
                                 : 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        size_t len = names ? strcspn(names, ":") : 0;
        v[i] = (struct passed){.socket = {.fd = FIRST_FD + (int)i, .inherited = true}};
        (void)snprintf(v[i].name, sizeof v[i].name, "%.*s", (int)len, names ? names : "");
        names = names && names[len] ? names + len + 1 : NULL;
        rc = systemd_describe(&v[i], e);
        *n = i + 1;
    }
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    return rc;
}

static bool is_at(const struct address *a, const struct address *b)
{
    char left[ADDRESS_LISTEN_TEXT_MAX], right[ADDRESS_LISTEN_TEXT_MAX];
    address_text(a, left);
    address_text(b, right);
    return strcmp(left, right) == 0;
}

/* Moves the socket that `text` means into `out`. */
static int give(struct passed *v, size_t n, const char *text, struct listen_socket *out,
                struct err *e)
{
    struct address where;
    int rc = address_parse(text, &where, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        bool meant =
            where.by_name ? strcmp(v[i].name, where.path) == 0 : is_at(&v[i].socket.where, &where);
        if (meant && v[i].socket.fd >= 0) {
            *out = v[i].socket;
            v[i].socket.fd = -1;
            return 0;
        }
    }
    if (rc == 0 && where.by_name) {
        rc = err_set(e, UV_EINVAL,
                     "\"%s\" in `listen`: the service manager passes no%s socket of that name; is "
                     "the socket unit (ListenStream=, FileDescriptorName=%s) running?",
                     text, n ? " further" : "", where.path);
    }
    return rc;
}

int systemd_sockets_take(const struct config *cfg, bool successor, struct systemd_sockets *out,
                         struct err *e)
{
    char text[ADDRESS_LISTEN_TEXT_MAX];
    struct passed *v = xcalloc(SOCKETS_MAX, sizeof *v);
    size_t n = 0;
    *out = (struct systemd_sockets){.admin.fd = -1};
    out->listen = xcalloc(cfg->listen.n, sizeof *out->listen);
    out->count = cfg->listen.n;
    for (size_t i = 0; i < out->count; i++) {
        out->listen[i].fd = -1;
    }
    int rc = successor ? 0 : receive(v, &n, e);
    for (size_t i = 0; rc == 0 && !successor && i < out->count; i++) {
        rc = give(v, n, cfg->listen.v[i].address, &out->listen[i], e);
    }
    rc = rc || successor || !cfg->admin ? rc : give(v, n, cfg->admin, &out->admin, e);
    for (size_t i = 0; i < n; i++) {
        if (v[i].socket.fd >= 0 && rc == 0) {
            address_text(&v[i].socket.where, text);
            rc = err_set(e, UV_EINVAL,
                         "the service manager passes the socket \"%s\" on %s, which is neither in "
                         "`listen` nor `admin`: write \"%s\" or \"systemd:%s\" into `listen`, or "
                         "take it out of the socket unit",
                         v[i].name, text, text, v[i].name);
        }
        listen_socket_close(&v[i].socket, false);
    }
    free(v);
    if (rc) {
        systemd_sockets_clear(out);
    }
    return rc;
}

void systemd_sockets_clear(struct systemd_sockets *s)
{
    for (size_t i = 0; i < s->count; i++) {
        listen_socket_close(&s->listen[i], false);
    }
    listen_socket_close(&s->admin, false);
    free(s->listen);
    *s = (struct systemd_sockets){.admin.fd = -1};
}

/* ---------------------------------------------------------------- what is sent to it */

void systemd_notify(const char *fmt, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char text[NOTIFY_MAX_BYTES];
    size_t n = path ? strlen(path) : 0;
    if (n == 0) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    int rc = n >= sizeof to.sun_path || (*path != '/' && *path != '@') ? UV_EINVAL : 0;
    int fd = rc ? -1 : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        memcpy(to.sun_path, path, n);
        to.sun_path[0] = *path == '@' ? '\0' : *path; /* an abstract name */
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
        size_t bytes = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
        rc = sendto(fd, text, bytes, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&to, size) < 0
                 ? -errno
                 : 0;
        close(fd);
    } else if (rc == 0) {
        rc = -errno;
    }
    if (rc) {
        log_warn("server", "cannot tell the service manager",
                 LOG_F(log_str("socket", path), log_str("text", text),
                       log_str("error", uv_strerror(rc))));
    }
}

void systemd_notify_reloading(const char *status)
{
    systemd_notify("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=%s",
                   (unsigned long long)uv_hrtime() / 1000, status);
}

uint64_t systemd_watchdog_ms(void)
{
    uint64_t pid = number_in("WATCHDOG_PID");
    uint64_t ms = number_in("WATCHDOG_USEC") / 1000 / 2;
    return pid && pid != (uint64_t)getpid() ? 0 : ms;
}
