/* The least that broadcasting over server-sent events can cost: what spec/bench/run.lua holds
 * Tidegate against.
 *
 *   tidegate_limit PORT send|coalesce          (127.0.0.1, one thread, until it is killed)
 *
 * GET /...topic=NAME is a stream, POST /...topic=NAME an event for the streams of that name,
 * answered with 204. There is no policy, no store, no history, no heartbeat, no limit: a request is
 * looked at just enough to find the topic and the end of the body, an id is a counter, a topic
 * lives forever. send       an event is written to each socket at once: the cheapest server of
 * those that write event by event, and what the kernel takes for it. Nobody who does so can be
 * below it. coalesce   events of one turn of the loop leave together, once for each socket: what is
 * left when a saturated server pays the kernel once for many events. A broker that comes near them
 * spends nearly all its time in the kernel; what it spends above them is what policies, durable
 * events, resuming and bounds cost. */
#include "base/alloc.h"
#include "base/container/list.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/strbuf.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>
#include <uthash.h>

enum {
    READ_BYTES = 256 * 1024,
    BUFFER_MAX = 1024 * 1024 * 1024,
    TURN_EVENTS = 1024,
    BACKLOG = 4096
};

struct topic {
    char *name;
    struct list streams;   /* struct conn.in_topic */
    struct strbuf pending; /* frames of this turn, with coalesce */
    struct list in_dirty;  /* linked while there are some */
    UT_hash_handle hh;
};

struct conn {
    int fd;
    bool stream;
    bool wants_write;     /* is epoll asked for EPOLLOUT? */
    struct list in_topic; /* of a stream */
    struct strbuf in;     /* the beginning of a request that is not complete */
    struct strbuf out;    /* what the kernel has not taken */
};

struct limit {
    int epoll, listener;
    bool coalesce;
    uint64_t last_id;
    struct hash_key key;
    struct topic *topics;
    struct list dirty;
    struct strbuf answers; /* to one connection */
    struct strbuf frame;
    char buffer[READ_BYTES];
};

static void must(bool well, const char *what)
{
    if (!well) {
        fprintf(stderr, "tidegate_limit: %s: %s\n", what, strerror(errno));
        exit(EX_OSERR);
    }
}

/* ---------------------------------------------------------------- writing */

static void watch(struct limit *l, struct conn *c, bool write)
{
    struct epoll_event ev = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    c->wants_write = write;
    must(epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &ev) == 0, "epoll_ctl");
}

/* Of a connection that is broken nothing is said here: the next read closes it. */
static size_t try_send(const struct conn *c, struct slice bytes)
{
    ssize_t n = send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
    return n > 0 ? (size_t)n : 0;
}

static void send_or_keep(struct limit *l, struct conn *c, struct slice bytes)
{
    size_t n = c->out.len ? 0 : try_send(c, bytes);
    if (n < bytes.n) {
        must(strbuf_append(&c->out, bytes.p + n, bytes.n - n) == 0, "a socket's queue");
        if (!c->wants_write) {
            watch(l, c, true);
        }
    }
}

static void send_kept(struct limit *l, struct conn *c)
{
    strbuf_consume(&c->out, try_send(c, strbuf_slice(&c->out)));
    if (c->out.len == 0) {
        strbuf_clear(&c->out);
        watch(l, c, false);
    }
}

static void broadcast(struct limit *l, const struct topic *t, struct slice bytes)
{
    list_for_each (it, &t->streams) {
        send_or_keep(l, container_of(it, struct conn, in_topic), bytes);
    }
}

/* ---------------------------------------------------------------- requests */

static struct topic *topic_named(struct limit *l, struct slice name)
{
    struct topic *t = NULL;
    unsigned hash = (unsigned)hash_bytes(&l->key, name.p, name.n);
    HASH_FIND_BYHASHVALUE(hh, l->topics, name.p, name.n, hash, t);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        t->name = xstrndup(name.p, name.n);
        list_init(&t->streams);
        list_init(&t->in_dirty);
        strbuf_init(&t->pending, BUFFER_MAX);
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, l->topics, t->name, name.n, hash, t);
    }
    return t;
}

static void make_frame(struct limit *l, struct strbuf *out, struct slice data)
{
    int rc = strbuf_append(out, "id: ", 4);
    rc = rc ? rc : strbuf_append_decimal(out, ++l->last_id);
    rc = rc ? rc : strbuf_append(out, "\ndata: ", 7);
    rc = rc ? rc : strbuf_append(out, data.p, data.n);
    rc = rc ? rc : strbuf_append(out, "\n\n", 2);
    must(rc == 0, "a frame");
}

static void publish(struct limit *l, struct topic *t, struct slice data)
{
    static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
    must(strbuf_append(&l->answers, answer, sizeof answer - 1) == 0, "answers");
    if (l->coalesce) {
        make_frame(l, &t->pending, data);
        if (!list_linked(&t->in_dirty)) {
            list_add_tail(&l->dirty, &t->in_dirty);
        }
        return;
    }
    strbuf_reset(&l->frame);
    make_frame(l, &l->frame, data);
    broadcast(l, t, strbuf_slice(&l->frame));
}

static void subscribe(struct limit *l, struct conn *c, struct topic *t)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    c->stream = true;
    list_add_tail(&t->streams, &c->in_topic);
    send_or_keep(l, c, slice_of(head, sizeof head - 1));
}

/* The bytes behind `key` up to one of `ends`, or the absent slice. */
static struct slice behind(struct slice text, const char *key, const char *ends)
{
    const char *p = memmem(text.p, text.n, key, strlen(key));
    if (!p) {
        return slice_str(NULL);
    }
    p += strlen(key);
    size_t n = 0;
    while (p + n < text.p + text.n && !strchr(ends, p[n])) {
        n++;
    }
    return slice_of(p, n);
}

/* One request off `in`. False: it is not complete. */
static bool take_request(struct limit *l, struct conn *c, struct slice *in)
{
    const char *blank = memmem(in->p, in->n, "\r\n\r\n", 4);
    if (!blank) {
        return false;
    }
    struct slice head = slice_of(in->p, (size_t)(blank - in->p) + 2);
    struct slice length = behind(head, "Content-Length: ", "\r");
    size_t body = length.p ? strtoul(length.p, NULL, 10) : 0, all = head.n + 2 + body;
    if (in->n < all) {
        return false;
    }
    struct topic *t = topic_named(l, behind(head, "topic=", "& \r"));
    if (*head.p == 'G') {
        subscribe(l, c, t);
    } else {
        publish(l, t, slice_of(head.p + head.n + 2, body));
    }
    *in = slice_of(in->p + all, in->n - all);
    return true;
}

static void take_bytes(struct limit *l, struct conn *c, struct slice bytes)
{
    struct slice in = bytes;
    if (c->in.len) {
        must(strbuf_append(&c->in, bytes.p, bytes.n) == 0, "a request");
        in = strbuf_slice(&c->in);
    }
    while (!c->stream && take_request(l, c, &in)) {
    }
    if (l->answers.len) {
        send_or_keep(l, c, strbuf_slice(&l->answers));
        strbuf_reset(&l->answers);
    }
    if (c->stream || in.n == 0) {
        strbuf_clear(&c->in);
    } else if (c->in.len) {
        strbuf_consume(&c->in, c->in.len - in.n);
    } else {
        must(strbuf_append(&c->in, in.p, in.n) == 0, "a request");
    }
}

/* ---------------------------------------------------------------- connections */

static void close_conn(struct conn *c)
{
    close(c->fd);
    list_del(&c->in_topic);
    strbuf_clear(&c->in);
    strbuf_clear(&c->out);
    free(c);
}

static void accept_all(struct limit *l)
{
    int fd, one = 1;
    while ((fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = xcalloc(1, sizeof *c);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        c->fd = fd;
        list_init(&c->in_topic);
        strbuf_init(&c->in, BUFFER_MAX);
        strbuf_init(&c->out, BUFFER_MAX);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* it is only slower */
        must(epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
    }
    must(errno == EAGAIN || errno == ECONNABORTED, "accept");
}

static void serve_conn(struct limit *l, struct conn *c, uint32_t events)
{
    if (events & EPOLLOUT) {
        send_kept(l, c);
    }
    if (events & ~(uint32_t)EPOLLOUT) {
        ssize_t n = recv(c->fd, l->buffer, sizeof l->buffer, 0);
        if (n > 0) {
            take_bytes(l, c, slice_of(l->buffer, (size_t)n));
        } else if (n == 0 || errno != EAGAIN) {
            close_conn(c);
        }
    }
}

static void flush(struct limit *l)
{
    while (!list_empty(&l->dirty)) {
        struct topic *t = list_first(&l->dirty, struct topic, in_dirty);
        list_del(&t->in_dirty);
        broadcast(l, t, strbuf_slice(&t->pending));
        strbuf_reset(&t->pending);
    }
}

static void run(struct limit *l)
{
    struct epoll_event events[TURN_EVENTS];
    for (;;) {
        int n = epoll_wait(l->epoll, events, TURN_EVENTS, -1);
        must(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) {
                serve_conn(l, events[i].data.ptr, events[i].events);
            } else {
                accept_all(l);
            }
        }
        flush(l);
    }
}

static void listen_on(struct limit *l, unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    int one = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    l->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(l->listener >= 0, "socket");
    (void)setsockopt(l->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); /* bind() tells */
    must(bind(l->listener, (const struct sockaddr *)&at, sizeof at) == 0, "bind");
    must(listen(l->listener, BACKLOG) == 0, "listen");
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    must(l->epoll >= 0 && epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->listener, &ev) == 0, "epoll");
}

int main(int argc, char **argv)
{
    static struct limit l;
    struct rlimit files;
    bool coalesce = argc == 3 && strcmp(argv[2], "coalesce") == 0;
    unsigned long port = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
    if (port == 0 || port > 65535 || (!coalesce && strcmp(argv[2], "send") != 0)) {
        fputs("usage: tidegate_limit PORT send|coalesce\n", stderr);
        return EX_USAGE;
    }
    must(getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
    files.rlim_cur = files.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
    l.coalesce = coalesce;
    hash_key_init(&l.key);
    list_init(&l.dirty);
    strbuf_init(&l.answers, BUFFER_MAX);
    strbuf_init(&l.frame, BUFFER_MAX);
    listen_on(&l, (unsigned)port);
    run(&l);
}
