/* The sending half of a connection. A write that the kernel takes in full costs one system call and
 * nothing else; only the rest of one that it does not take is handed to libuv, one at a time, so
 * that a slow client holds at most that and one queued frame. */
#include "base/xalloc.h"
#include "net/http/conn.h"
#include "net/http/exchange.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { WRITE_IOV_MAX = 1024 }; /* IOV_MAX of Linux */

struct conn_write {
    uv_write_t req;
    struct conn *conn;
    char *bytes;         /* owned; or */
    struct frame *frame; /* a reference */
};

static void write_free(struct conn_write *w)
{
    frame_unref(w->frame);
    free(w->bytes);
    free(w);
}

void conn_write_clear(struct conn *c)
{
    frame_unref(c->queued);
    c->queued = NULL;
    strbuf_clear(&c->out);
}

static void on_written(uv_write_t *req, int status)
{
    struct conn_write *w = container_of(req, struct conn_write, req);
    struct conn *c = w->conn;
    c->write = NULL;
    write_free(w);
    if (c->closing) {
        return; /* libuv cancels writes before the close callback */
    }
    if (status < 0) {
        conn_close(c, close_reason_of(status));
        return;
    }
    conn_wait_over(c); /* a further write has its own time to make progress */
    conn_write_out(c);
    struct stream *s = c->closing || c->write ? NULL : exchange_streaming(c);
    if (s && s->events) {
        s->events->writable(s);
    }
    conn_progress(c);
}

/* Hands bytes to libuv. Takes `bytes` or the reference `frame`, whichever is given. */
static void write_start(struct conn *c, char *bytes, struct frame *frame, size_t from, size_t to)
{
    struct conn_write *w = xcalloc(1, sizeof *w);
    w->conn = c;
    w->bytes = bytes;
    w->frame = frame;
    char *base = (frame ? frame->bytes : bytes) + from;
    uv_buf_t buf = uv_buf_init(base, (unsigned)(to - from));
    c->write = w;
    c->server->metrics->writes_blocked++;
    int rc = uv_write(&w->req, &c->handle.stream, &buf, 1, on_written);
    if (rc) {
        c->write = NULL;
        write_free(w);
        conn_close_when_written(c, close_reason_of(rc)); /* not now: the caller may be an owner */
    }
}

/* What uv_try_write() does when nothing is queued, but through the system calls of sockets:
 * write(2) visits the file's inode and its watchers on the way, which are cold for each of many
 * clients. */
static ssize_t send_now(const struct conn *c, const uv_buf_t *bufs, unsigned count)
{
    uv_os_fd_t fd;
    int rc = uv_fileno(&c->handle.any, &fd);
    if (rc) {
        return rc;
    }
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)bufs, /* as <uv/unix.h> allows */
                       .msg_iovlen = count};
    ssize_t n;
    do {
        n = count == 1 ? send(fd, bufs->base, bufs->len, MSG_NOSIGNAL)
                       : sendmsg(fd, &m, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) { /* ENOBUFS: a Unix socket, when the kernel is short of memory */
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS
                   ? UV_EAGAIN
                   : uv_translate_sys_error(errno);
    }
    return n;
}

ssize_t conn_write_now(struct conn *c, const uv_buf_t *bufs, unsigned count)
{
    uv_buf_t all[WRITE_IOV_MAX];
    size_t head = c->out.len;
    const uv_buf_t *from = bufs;
    if (head) {
        if (count > WRITE_IOV_MAX - 1) {
            count = WRITE_IOV_MAX - 1;
        }
        all[0] = uv_buf_init(c->out.data, (unsigned)head);
        if (count) {
            memcpy(all + 1, bufs, count * sizeof *bufs);
        }
        from = all;
        count++;
    }
    c->server->metrics->writes++;
    ssize_t n = send_now(c, from, count);
    if (n < 0) {
        if (n != UV_EAGAIN) {
            return n;
        }
        n = 0;
    }
    c->server->metrics->bytes_out += (uint64_t)n;
    if ((size_t)n >= head) {
        strbuf_clear(&c->out);
        return (ssize_t)((size_t)n - head);
    }
    strbuf_consume(&c->out, (size_t)n);
    size_t len = c->out.len;
    write_start(c, strbuf_detach(&c->out), NULL, 0, len);
    return 0;
}

void conn_write_out(struct conn *c)
{
    if (c->write || c->closing) {
        return;
    }
    if (c->out.len) {
        ssize_t n = conn_write_now(c, NULL, 0);
        if (n < 0) {
            conn_close(c, close_reason_of(n));
            return;
        }
    }
    if (!c->write && c->queued) {
        struct frame *f = c->queued;
        c->queued = NULL;
        write_start(c, NULL, f, c->queued_offset, f->len);
    }
}
