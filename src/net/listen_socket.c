#include "net/listen_socket.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

/* A socket file that nobody answers is left over from a process that was killed. */
static bool remove_stale(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct stat st;
    if (lstat(path, &st) || !S_ISSOCK(st.st_mode)) {
        return false; /* another program's file */
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool stale = false;
    if (strlen(path) < sizeof sun.sun_path) {
        memcpy(sun.sun_path, path, strlen(path) + 1);
        stale = connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0 && errno == ECONNREFUSED;
    }
    close(fd);
    return stale && unlink(path) == 0;
}

static const char *advice(int rc)
{
    switch (rc) {
    case UV_EADDRINUSE:
        return "; another process listens there: stop it, or choose another address";
    case UV_EACCES:
        return "; ports below 1024 need CAP_NET_BIND_SERVICE, a socket file needs a writable "
               "folder";
    case UV_EADDRNOTAVAIL:
        return "; this machine has no such address";
    default:
        return "";
    }
}

int listen_socket_fail(struct err *e, int rc, const struct address *where)
{
    char text[ADDRESS_LISTEN_TEXT_MAX];
    address_text(where, text);
    return err_set(e, rc, "cannot listen on %s: %s%s", text, uv_strerror(rc), advice(rc));
}

static int set_flag(int fd, int option, int value)
{
    return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) ? -errno : 0;
}

static socklen_t tcp_length(const struct address *a)
{
    return a->tcp.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static uint16_t *tcp_port(struct address *a)
{
    return a->tcp.ss_family == AF_INET6 ? &((struct sockaddr_in6 *)&a->tcp)->sin6_port
                                        : &((struct sockaddr_in *)&a->tcp)->sin_port;
}

static int bind_unix(int fd, const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    memcpy(sun.sun_path, path, strlen(path) + 1); /* address_parse() saw that it fits */
    int rc = bind(fd, (struct sockaddr *)&sun, sizeof sun) ? -errno : 0;
    if (rc == UV_EADDRINUSE && remove_stale(path)) {
        rc = bind(fd, (struct sockaddr *)&sun, sizeof sun) ? -errno : 0;
    }
    return rc;
}

/* Group and mode of the file that `a` names. Until then nobody else can connect. */
static int give_unix(const struct address *a, struct err *e)
{
    const struct group *g = NULL;
    if (a->group[0]) {
        g = getgrnam(a->group);
        if (!g) {
            return err_set(e, UV_ENOENT, "cannot listen on unix:%s: there is no group \"%s\"",
                           a->path, a->group);
        }
    }
    if (g && chown(a->path, (uid_t)-1, g->gr_gid)) {
        return err_set(e, -errno,
                       "cannot listen on unix:%s: the socket cannot be given to the group \"%s\": "
                       "%s; the broker's user must be a member of it",
                       a->path, a->group, uv_strerror(-errno));
    }
    if (a->mode && chmod(a->path, (mode_t)a->mode)) {
        return err_set(e, -errno, "cannot listen on unix:%s: its mode cannot be set: %s", a->path,
                       uv_strerror(-errno));
    }
    return 0;
}

static int open_unix(const struct listen_socket *s, struct err *e)
{
    const struct address *a = &s->where;
    bool given = a->mode || a->group[0];
    mode_t before = given ? umask(0177) : 0;
    int rc = bind_unix(s->fd, a->path);
    if (given) {
        (void)umask(before);
    }
    if (rc) {
        return listen_socket_fail(e, rc, a);
    }
    rc = given ? give_unix(a, e) : 0;
    if (rc == 0 && listen(s->fd, LISTEN_BACKLOG)) {
        rc = listen_socket_fail(e, -errno, a);
    }
    if (rc) {
        (void)unlink(a->path); /* it is this socket's */
    }
    return rc;
}

static int bind_tcp(int fd, struct address *a)
{
    socklen_t len = tcp_length(a);
    if (bind(fd, (struct sockaddr *)&a->tcp, len) ||
        getsockname(fd, (struct sockaddr *)&a->tcp, &len)) {
        return -errno;
    }
    return 0;
}

static int make_socket(const struct address *where, struct listen_socket *out)
{
    int family = where->is_unix ? AF_UNIX : where->tcp.ss_family;
    *out = (struct listen_socket){.where = *where};
    out->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return out->fd < 0 ? -errno : 0;
}

static int listen_socket_finish(struct listen_socket *s, int rc, struct err *e)
{
    if (rc) {
        listen_socket_close(s, false);
        return listen_socket_fail(e, rc, &s->where);
    }
    return 0;
}

int listen_socket_open(const struct address *where, struct listen_socket *out, struct err *e)
{
    int rc = make_socket(where, out);
    if (rc == 0 && where->is_unix) {
        rc = open_unix(out, e);
        if (rc) {
            listen_socket_close(out, false);
        }
        return rc;
    }
    if (rc == 0) {
        rc = set_flag(out->fd, SO_REUSEADDR, 1);
        rc = rc ? rc : bind_tcp(out->fd, &out->where);
    }
    if (rc == 0 && listen(out->fd, LISTEN_BACKLOG)) {
        rc = -errno;
    }
    return listen_socket_finish(out, rc, e);
}

/* A port by number. SO_REUSEADDR passes connections of a former process that are still closing, but
 * would also let two claims through that come at the same time; listening settles which is first.
 * While this socket listens, the flags change to what excludes sockets that do not share; then
 * it stops listening (shutdown), which leaves it bound. */
static int claim_number(struct listen_socket *s)
{
    int rc = set_flag(s->fd, SO_REUSEADDR, 1);
    rc = rc ? rc : bind_tcp(s->fd, &s->where);
    if (rc == 0 && listen(s->fd, 1)) {
        rc = -errno;
    }
    rc = rc ? rc : set_flag(s->fd, SO_REUSEADDR, 0);
    rc = rc ? rc : set_flag(s->fd, SO_REUSEPORT, 1);
    if (rc == 0 && shutdown(s->fd, SHUT_RD)) {
        rc = -errno;
    }
    return rc;
}

/* The kernel gives a port that nobody has; sharing starts when it is ours. */
static int claim_any(struct listen_socket *s)
{
    int rc = bind_tcp(s->fd, &s->where);
    return rc ? rc : set_flag(s->fd, SO_REUSEPORT, 1);
}

int listen_socket_claim(const struct address *where, struct listen_socket *out, struct err *e)
{
    int rc = make_socket(where, out);
    if (rc == 0) {
        rc = *tcp_port(&out->where) ? claim_number(out) : claim_any(out);
    }
    return listen_socket_finish(out, rc, e);
}

int listen_socket_share(const struct listen_socket *claim, struct listen_socket *out, struct err *e)
{
    int rc = make_socket(&claim->where, out);
    rc = rc ? rc : set_flag(out->fd, SO_REUSEADDR, 1); /* connections that are still closing */
    rc = rc ? rc : set_flag(out->fd, SO_REUSEPORT, 1);
    rc = rc ? rc : bind_tcp(out->fd, &out->where);
    if (rc == 0 && listen(out->fd, LISTEN_BACKLOG)) {
        rc = -errno;
    }
    return listen_socket_finish(out, rc, e);
}

void listen_socket_close(struct listen_socket *s, bool unlink_path)
{
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
        if (unlink_path && s->where.is_unix && !s->inherited) {
            (void)unlink(s->where.path); /* another process removed it: as good */
        }
    }
}
