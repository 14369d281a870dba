/* What the supervisor binds and holds for the workers. */
#include "base/alloc.h"
#include "base/logging.h"
#include "server/supervisor_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

void sockets_init(struct supervisor *s)
{
    s->admin.fd = s->shared_fd = s->roll.check_output = -1;
    shared_area_none(&s->area);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        s->backends[i] = (struct admin_backend){.socket.fd = -1, .path_fd = -1};
        s->wake_fds[i] = -1;
    }
}

/* ---------------------------------------------------------------- addresses */

static void address_close(struct shared_address *a, bool unlink_path)
{
    if (a) {
        listen_socket_close(&a->claim, unlink_path);
        for (unsigned i = 0; i < WORKERS_MAX; i++) {
            listen_socket_close(&a->slots[i], false);
        }
        free(a->text);
        free(a);
    }
}

static void log_listening(const struct listen_socket *at, const char *server, bool tls)
{
    char text[ADDRESS_LISTEN_TEXT_MAX];
    address_text(&at->where, text);
    log_info("net", "listening",
             LOG_F(log_str("address", text), log_str("server", server),
                   log_str("scheme", tls ? "https" : "http"),
                   log_str("socket", at->inherited ? "inherited" : "own")));
}

/* `given`: what the service manager has passed for it, which is taken; fd -1: nothing. */
static int address_open(const char *text, struct listen_socket *given, struct shared_address **out,
                        struct err *e)
{
    struct address where;
    struct shared_address *a = xcalloc(1, sizeof *a);
    a->text = xstrdup(text);
    a->claim.fd = -1;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        a->slots[i].fd = -1;
    }
    int rc = address_parse(text, &where, e);
    a->one = rc == 0 && (where.is_unix || given->fd >= 0);
    if (given->fd >= 0) {
        a->claim = *given;
        given->fd = -1;
    } else if (rc == 0 && where.by_name) {
        rc = err_set(e, UV_EINVAL,
                     "\"%s\" in `listen`: sockets are passed when the service is started, not in a "
                     "restart of its workers",
                     text);
    } else if (rc == 0) {
        rc = where.is_unix ? listen_socket_open(&where, &a->claim, e)
                           : listen_socket_claim(&where, &a->claim, e);
    }
    if (rc) {
        address_close(a, false);
        return rc;
    }
    *out = a;
    return 0;
}

static bool holds(struct shared_address *const *list, size_t n, const struct shared_address *a)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == a) {
            return true;
        }
    }
    return false;
}

/* One that is open and not among those chosen already: with port 0 a text may come twice. */
static struct shared_address *supervisor_sockets_find(const struct supervisor *s, const char *text,
                                                      struct shared_address *const *chosen,
                                                      size_t n)
{
    for (size_t i = 0; i < s->listen_count; i++) {
        if (strcmp(s->listen[i]->text, text) == 0 && !holds(chosen, n, s->listen[i])) {
            return s->listen[i];
        }
    }
    return NULL;
}

static int open_public(struct supervisor *s, struct err *e)
{
    size_t count = s->cfg->listen.n;
    struct shared_address **list = xcalloc(count, sizeof(struct shared_address *));
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        const char *text = s->cfg->listen.v[i].address;
        list[i] = supervisor_sockets_find(s, text, list, i);
        rc = list[i] ? 0 : address_open(text, &s->given->listen[i], &list[i], e);
    }
    for (size_t i = 0; i < count && rc; i++) { /* what is new goes again */
        if (!holds(s->listen, s->listen_count, list[i])) {
            address_close(list[i], true);
        }
    }
    if (rc) {
        free(list);
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        if (!holds(s->listen, s->listen_count, list[i])) {
            log_listening(&list[i]->claim, "public", s->cfg->listen.v[i].tls.n > 0);
        }
    }
    for (size_t i = 0; i < s->listen_count; i++) {
        if (!holds(list, count, s->listen[i])) {
            address_close(s->listen[i], true);
        }
    }
    free(s->listen);
    s->listen = list;
    s->listen_count = count;
    return 0;
}

static int open_admin(struct supervisor *s, struct err *e)
{
    struct listen_socket now = {.fd = -1};
    struct address where;
    int rc = 0;
    if (s->cfg->admin && s->admin_text && strcmp(s->cfg->admin, s->admin_text) == 0) {
        return 0;
    }
    if (s->given->admin.fd >= 0) {
        now = s->given->admin;
        s->given->admin.fd = -1;
    } else if (s->cfg->admin) {
        rc = address_parse(s->cfg->admin, &where, e);
        rc = rc ? rc : listen_socket_open(&where, &now, e);
    }
    if (rc) {
        return rc;
    }
    listen_socket_close(&s->admin, true);
    free(s->admin_text);
    s->admin = now;
    if (now.fd >= 0) {
        log_listening(&now, "admin", false);
    }
    s->admin_text = s->cfg->admin ? xstrdup(s->cfg->admin) : NULL;
    return 0;
}

/* ---------------------------------------------------------------- for each worker */

static int open_tickets(struct supervisor *s, struct err *e)
{
    int rc = tls_tickets_init(&s->shared->tickets, (uint64_t)time(NULL));
    return rc ? err_set(e, rc, "the system has no random bytes for the keys of TLS tickets") : 0;
}

/* Of a program before us: its streams and rates are counted in it, so it stays as large as it is. */
static int open_area(struct supervisor *s, struct err *e)
{
    uint32_t streams = (uint32_t)s->cfg->policy.quota_streams;
    uint32_t keys = (uint32_t)s->cfg->policy.rate_keys;
    if (!s->area.at) {
        return shared_area_new(&s->area, streams, keys, e);
    }
    if (s->area.quota_streams != streams || s->area.rate_keys != keys) {
        log_warn("supervisor",
                 "policy.quota_streams and policy.rate_keys stay as they were until the broker is "
                 "stopped and started",
                 LOG_F(log_uint("quota_streams", s->area.quota_streams),
                       log_uint("rate_keys", s->area.rate_keys)));
    }
    return 0;
}

static int open_shared(struct supervisor *s, struct err *e)
{
    int rc = open_area(s, e);
    if (rc) {
        return rc;
    }
    if (s->shared) {
        return open_tickets(s, e); /* of a program before us, which may have known none */
    }
    s->shared_fd = memfd_create("tidegate-workers", MFD_CLOEXEC);
    if (s->shared_fd < 0 || ftruncate(s->shared_fd, sizeof *s->shared)) {
        return err_set(e, -errno, "no memory for the workers: %s", uv_strerror(-errno));
    }
    void *at = mmap(NULL, sizeof *s->shared, PROT_READ | PROT_WRITE, MAP_SHARED, s->shared_fd, 0);
    if (at == MAP_FAILED) {
        return err_set(e, -errno, "no memory for the workers: %s", uv_strerror(-errno));
    }
    s->shared = at;
    return open_tickets(s, e);
}

static int open_workers(struct supervisor *s, struct err *e)
{
    int rc = 0;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        if (s->wake_fds[i] < 0) {
            s->wake_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        }
        if (s->wake_fds[i] < 0) {
            return err_set(e, -errno, "cannot make an eventfd: %s", uv_strerror(-errno));
        }
    }
    for (unsigned i = 0; i < s->count && rc == 0 && s->cfg->admin; i++) {
        rc = s->backends[i].socket.fd < 0 ? admin_backend_open(&s->backends[i], e) : 0;
    }
    return rc;
}

int sockets_open(struct supervisor *s, struct err *e)
{
    int rc = open_shared(s, e);
    rc = rc ? rc : open_workers(s, e);
    rc = rc ? rc : open_admin(s, e);
    return rc ? rc : open_public(s, e);
}

int sockets_open_slot(struct supervisor *s, unsigned number, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < s->listen_count && rc == 0; i++) {
        struct shared_address *a = s->listen[i];
        struct listen_socket *own = &a->slots[number - 1];
        if (!a->one && own->fd < 0) {
            rc = listen_socket_share(&a->claim, own, e);
        }
    }
    return rc;
}

void sockets_close_slot(struct supervisor *s, unsigned number)
{
    for (size_t i = 0; i < s->listen_count; i++) {
        listen_socket_close(&s->listen[i]->slots[number - 1], false);
    }
}

void sockets_keep(struct supervisor *s, unsigned number, struct listen_socket *out)
{
    for (size_t i = 0; i < s->listen_count; i++) {
        struct shared_address *a = s->listen[i];
        struct listen_socket *from = a->one ? &a->claim : &a->slots[number - 1];
        if (number) {
            out[i] = *from;
            from->fd = -1;
        }
        listen_socket_close(&a->claim, false);
        for (unsigned k = 0; k < WORKERS_MAX; k++) {
            listen_socket_close(&a->slots[k], false);
        }
    }
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        if (number && i != number - 1) {
            admin_backend_close(&s->backends[i]);
        } else if (!number) {
            listen_socket_close(&s->backends[i].socket, false);
        }
    }
    if (number) {
        listen_socket_close(&s->admin, false);
    }
}

void sockets_close_public(struct supervisor *s)
{
    for (size_t i = 0; i < s->listen_count; i++) {
        for (unsigned k = 0; k < WORKERS_MAX; k++) {
            listen_socket_close(&s->listen[i]->slots[k], false);
        }
        if (s->listen[i]->one) {
            listen_socket_close(&s->listen[i]->claim, true);
        }
    }
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void sockets_clear(struct supervisor *s, bool last)
{
    listen_socket_close(&s->admin, last);
    for (size_t i = 0; i < s->listen_count; i++) {
        address_close(s->listen[i], last);
    }
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        admin_backend_close(&s->backends[i]);
        close_fd(&s->wake_fds[i]);
    }
    close_fd(&s->roll.check_output);
    close_fd(&s->shared_fd);
    shared_area_close(&s->area);
    free(s->listen);
    free(s->admin_text);
    if (s->shared) {
        (void)munmap(s->shared, sizeof *s->shared);
    }
}
