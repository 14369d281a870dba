#include "net/listener.h"

#include "base/logging.h"
#include "base/xalloc.h"
#include "net/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096, ACCEPT_RETRY_MS = 100 };

struct listener {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    struct list node; /* in server->listeners */
    struct http_server *server;
    struct deadline retry; /* after accept failed */
    bool is_unix;
    bool waiting; /* libuv holds a connection we have not taken yet, and has stopped polling */
};

static void on_retry(struct deadline *d);

static void pause_accepting(struct listener *l, const char *why)
{
    l->server->metrics->accept_paused++;
    if (!list_linked(&l->retry.node)) {
        log_warn("net", "accepting paused",
                 LOG_F(log_str("why", why), log_uint("connections", l->server->conn_count)));
        deadline_arm(loop_deadline_class(l->server->loop, ACCEPT_RETRY_MS, on_retry), &l->retry);
    }
}

/* Takes the connection libuv holds; false when it has to wait. */
static bool take(struct listener *l)
{
    struct http_server *s = l->server;
    if (s->conn_count >= s->opt.max_connections) {
        l->waiting = true;
        s->metrics->accept_paused++;
        return false;
    }
    struct conn *c = conn_new(s, l->is_unix);
    if (!c) {
        l->waiting = true;
        pause_accepting(l, "out of memory");
        return false;
    }
    l->waiting = false;
    int rc = uv_accept(&l->handle.stream, &c->handle.stream);
    if (rc) {
        conn_close(c, CLOSE_CLIENT_ERROR);
        return true;
    }
    conn_start(c);
    return true;
}

static void on_connection(uv_stream_t *server, int status)
{
    struct listener *l = server->data;
    if (status < 0) {
        pause_accepting(l, uv_strerror(status));
        return;
    }
    take(l);
}

static void on_retry(struct deadline *d)
{
    struct listener *l = container_of(d, struct listener, retry);
    if (l->waiting) {
        take(l);
    }
}

void listener_resume_all(struct http_server *server)
{
    list_for_each (it, &server->listeners) {
        struct listener *l = container_of(it, struct listener, node);
        if (l->waiting) {
            take(l);
        }
    }
}

/* A socket file that nobody answers is left over from a process that was killed. */
static bool remove_stale(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct stat st;
    if (lstat(path, &st) || !S_ISSOCK(st.st_mode)) {
        return false; /* somebody's file */
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || strlen(path) >= sizeof sun.sun_path) {
        return false;
    }
    memcpy(sun.sun_path, path, strlen(path) + 1);
    bool stale = connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0 && errno == ECONNREFUSED;
    close(fd);
    return stale && unlink(path) == 0;
}

static int bind_unix(struct listener *l, const char *path)
{
    int rc = uv_pipe_bind(&l->handle.pipe, path);
    if (rc == UV_EADDRINUSE && remove_stale(path)) {
        rc = uv_pipe_bind(&l->handle.pipe, path);
    }
    return rc;
}

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *l = h->data;
    free(l);
}

static void listener_close(struct listener *l)
{
    list_del(&l->node);
    deadline_disarm(&l->retry);
    l->waiting = false;
    uv_close((uv_handle_t *)&l->handle, on_listener_closed);
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

int listener_open(struct http_server *server, const struct address *where, struct err *e)
{
    struct listener *l = xcalloc(1, sizeof *l);
    uv_loop_t *uv = loop_uv(server->loop);
    l->is_unix = where->is_unix;
    int rc = l->is_unix ? uv_pipe_init(uv, &l->handle.pipe, 0) : uv_tcp_init(uv, &l->handle.tcp);
    if (rc) {
        free(l);
        return err_set(e, rc, "cannot listen: %s", uv_strerror(rc));
    }
    l->handle.stream.data = l;
    l->server = server;
    deadline_init(&l->retry);
    list_init(&l->node);
    list_add_tail(&server->listeners, &l->node);
    rc = l->is_unix ? bind_unix(l, where->path)
                    : uv_tcp_bind(&l->handle.tcp, (const struct sockaddr *)&where->tcp, 0);
    if (rc == 0) {
        rc = uv_listen(&l->handle.stream, BACKLOG, on_connection);
    }
    char text[ADDRESS_LISTEN_TEXT_MAX];
    if (rc) {
        address_text(where, text);
        listener_close(l);
        return err_set(e, rc, "cannot listen on %s: %s%s", text, uv_strerror(rc), advice(rc));
    }
    struct address got = *where;
    int len = sizeof got.tcp;
    if (!l->is_unix) { /* port 0: what the kernel picked */
        (void)uv_tcp_getsockname(&l->handle.tcp, (struct sockaddr *)&got.tcp, &len);
    }
    address_text(&got, text);
    if (server->first_address[0] == '\0') {
        memcpy(server->first_address, text, sizeof text);
    }
    log_info("net", "listening",
             LOG_F(log_str("address", text), log_str("server", server->opt.name)));
    return 0;
}

void listener_close_all(struct http_server *server)
{
    while (!list_empty(&server->listeners)) {
        listener_close(list_first(&server->listeners, struct listener, node));
    }
}
