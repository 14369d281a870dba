#include "net/http/listener.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "net/http/conn_proxy.h"
#include "net/http/conn_tls.h"

#include <stdlib.h>
#include <unistd.h>

enum { ACCEPT_RETRY_MS = 100 };

struct listener {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    struct list node; /* in server->listeners */
    struct http_server *server;
    struct deadline retry; /* after accept failed */
    struct task more;      /* goes on in the next turn */
    struct listener_options opt;
    char *unlink; /* the socket file that goes with it; owned; NULL: none */
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

static void listener_note_gave_way(struct http_server *s)
{
    if (log_pace_take(&s->gave_way_pace, loop_now(s->loop))) {
        log_warn(
            "http",
            "closed the oldest connection whose client asked nothing, to make room for another "
            "one: does a program on this machine leave connections open?",
            LOG_F(log_str("server", s->opt.name), log_uint("most", s->opt.max_connections),
                  log_uint("closed", s->metrics->closed[CLOSE_GAVE_WAY])));
    }
}

/* Of a full service that gives way: the oldest connection whose client has to act, because nothing it asked
 * for is under way, ends. Its place is taken when it has closed. */
static void listener_make_room(struct http_server *s)
{
    if (!s->opt.gives_way) {
        return;
    }
    list_for_each (it, &s->conns) {
        struct conn *c = container_of(it, struct conn, node);
        if (c->closing) {
            return; /* its place will do */
        }
        if (c->wait != CONN_WAIT_NOTHING) {
            conn_close(c, CLOSE_GAVE_WAY);
            listener_note_gave_way(s);
            return;
        }
    }
}

/* Takes the connection libuv holds; false when it has to wait. */
static bool listener_take(struct listener *l)
{
    struct http_server *s = l->server;
    if (s->conn_count >= s->opt.max_connections) {
        l->waiting = true;
        s->metrics->accept_paused++;
        listener_make_room(s);
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
    c->redirects = l->opt.redirect_https;
    if (l->opt.proxy_protocol) {
        conn_proxy_start(c, l->opt.tls ? tls_cert_files_current(l->opt.tls) : NULL);
    } else if (l->opt.tls && conn_tls_start(c, tls_cert_files_current(l->opt.tls))) {
        conn_close(c, CLOSE_NO_MEMORY);
        return true;
    }
    conn_start(c);
    return true;
}

int listener_adopt(struct http_server *server, int fd)
{
    struct conn *c = conn_new(server, true);
    if (!c) {
        return UV_ENOMEM;
    }
    int rc = uv_pipe_open(&c->handle.pipe, fd);
    if (rc) {
        conn_close(c, CLOSE_CLIENT_ERROR);
        return rc;
    }
    conn_start(c);
    return 0;
}

static void on_connection(uv_stream_t *server, int status)
{
    struct listener *l = server->data;
    if (status < 0) {
        pause_accepting(l, uv_strerror(status));
        return;
    }
    if (loop_admit(l->server->loop)) {
        listener_take(l);
    } else { /* libuv would go on as long as there are any */
        l->waiting = true;
        loop_defer(l->server->loop, &l->more);
    }
}

static void on_more(struct task *t)
{
    struct listener *l = container_of(t, struct listener, more);
    if (l->waiting) {
        listener_take(l);
    }
}

static void on_retry(struct deadline *d)
{
    struct listener *l = container_of(d, struct listener, retry);
    if (l->waiting) {
        listener_take(l);
    }
}

void listener_resume_all(struct http_server *server)
{
    list_for_each (it, &server->listeners) {
        struct listener *l = container_of(it, struct listener, node);
        if (l->waiting) {
            listener_take(l);
        }
    }
}

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *l = h->data;
    free(l->unlink);
    free(l);
}

static void listener_close(struct listener *l)
{
    list_del(&l->node);
    deadline_disarm(&l->retry);
    task_cancel(&l->more);
    l->waiting = false;
    if (l->unlink) {
        (void)unlink(l->unlink); /* another process removed it: as good */
    }
    uv_close((uv_handle_t *)&l->handle, on_listener_closed);
}

static int listener_take_socket(struct listener *l, struct listen_socket *from)
{
    int rc = l->is_unix ? uv_pipe_open(&l->handle.pipe, from->fd)
                        : uv_tcp_open(&l->handle.tcp, from->fd);
    if (rc == 0) {
        from->fd = -1; /* the handle's */
    }
    return rc ? rc : uv_listen(&l->handle.stream, LISTEN_BACKLOG, on_connection);
}

static int open_on(struct http_server *server, struct listen_socket *from,
                   const struct listener_options *opt, bool unlink_path, struct err *e)
{
    struct listener *l = xcalloc(1, sizeof *l);
    uv_loop_t *uv = loop_uv(server->loop);
    l->is_unix = from->where.is_unix;
    int rc = l->is_unix ? uv_pipe_init(uv, &l->handle.pipe, 0) : uv_tcp_init(uv, &l->handle.tcp);
    if (rc) {
        free(l);
        listen_socket_close(from, unlink_path);
        return err_set(e, rc, "cannot listen: %s", uv_strerror(rc));
    }
    l->handle.stream.data = l;
    l->server = server;
    if (opt) {
        l->opt = *opt;
    }
    if (l->opt.tls) {
        conn_tls_open(server);
    }
    l->unlink = l->is_unix && unlink_path ? xstrdup(from->where.path) : NULL;
    deadline_init(&l->retry);
    task_init(&l->more, on_more);
    list_init(&l->node);
    list_add_tail(&server->listeners, &l->node);
    rc = listener_take_socket(l, from);
    if (rc) {
        listener_close(l);
        listen_socket_close(from, false);
        return listen_socket_fail(e, rc, &from->where);
    }
    if (server->first_address[0] == '\0') {
        address_text(&from->where, server->first_address);
    }
    return 0;
}

int listener_open_socket(struct http_server *server, struct listen_socket *from,
                         const struct listener_options *opt, struct err *e)
{
    return open_on(server, from, opt, false, e);
}

int listener_open(struct http_server *server, const struct address *where,
                  const struct listener_options *opt, struct err *e)
{
    char text[ADDRESS_LISTEN_TEXT_MAX];
    struct listen_socket own;
    int rc = listen_socket_open(where, &own, e);
    rc = rc ? rc : open_on(server, &own, opt, true, e);
    if (rc == 0) {
        address_text(&own.where, text);
        log_info("net", "listening",
                 LOG_F(log_str("address", text), log_str("server", server->opt.name),
                       log_str("scheme", opt && opt->tls ? "https" : "http")));
    }
    return rc;
}

void listener_close_all(struct http_server *server)
{
    while (!list_empty(&server->listeners)) {
        listener_close(list_first(&server->listeners, struct listener, node));
    }
}
