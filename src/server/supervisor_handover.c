/* From the old program to the new one in the same process: exec keeps the children and the
 * sockets, a memfd tells which is which. JSON, because the two programs may be of different
 * versions. */
#include "base/alloc.h"
#include "base/logging.h"
#include "server/supervisor_state.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

enum { STATE_MAX_BYTES = 1024 * 1024 };

/* PID:FD, so that no other process takes it for its own. */
#define TAKEOVER "TIDEGATE_TAKEOVER"

/* ---------------------------------------------------------------- which descriptors */

static void pass(int fd, bool on)
{
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, on ? 0 : FD_CLOEXEC);
    }
}

static void pass_all(const struct supervisor *s, bool on)
{
    pass(s->shared_fd, on);
    pass(s->area.fd, on);
    pass(s->admin.fd, on);
    for (size_t i = 0; i < s->listen_count; i++) {
        pass(s->listen[i]->claim.fd, on);
        for (unsigned k = 0; k < WORKERS_MAX; k++) {
            pass(s->listen[i]->slots[k].fd, on);
        }
    }
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        pass(s->wake_fds[i], on);
        pass(s->backends[i].socket.fd, on);
        pass(s->backends[i].path_fd, on);
    }
}

/* ---------------------------------------------------------------- out */

static json_t *socket_json(const struct listen_socket *at, const char *text)
{
    char where[ADDRESS_LISTEN_TEXT_MAX];
    address_text(&at->where, where);
    return json_pack("{s:i, s:s, s:s?, s:b}", "fd", at->fd, "where", where, "text", text,
                     "inherited", at->inherited);
}

static json_t *listen_json(const struct shared_address *a)
{
    json_t *o = socket_json(&a->claim, a->text), *slots = json_array();
    for (unsigned k = 0; k < WORKERS_MAX; k++) {
        json_array_append_new(slots, json_integer(a->slots[k].fd));
    }
    json_object_set_new(o, "slots", slots);
    return o;
}

static json_t *state_json(const struct supervisor *s)
{
    json_t *listen = json_array(), *workers = json_array();
    for (size_t i = 0; i < s->listen_count; i++) {
        json_array_append_new(listen, listen_json(s->listen[i]));
    }
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        json_array_append_new(workers,
                              json_pack("{s:i, s:i, s:i, s:i}", "pid", (int)s->children[i + 1].pid,
                                        "wake", s->wake_fds[i], "backend", s->backends[i].socket.fd,
                                        "backend_path", s->backends[i].path_fd));
    }
    return json_pack("{s:i, s:i, s:i, s:i, s:o?, s:o, s:o}", "shared", s->shared_fd, "quotas",
                     s->area.fd, "count", (int)s->count, "admin_pid", (int)s->children[0].pid,
                     "admin", s->admin.fd >= 0 ? socket_json(&s->admin, s->admin_text) : NULL,
                     "listen", listen, "workers", workers);
}

int handover_exec(struct supervisor *s, struct err *e)
{
    char name[64];
    json_t *state = state_json(s);
    int fd = memfd_create("tidegate-takeover", 0);
    int rc = fd < 0 ? -errno : !state || json_dumpfd(state, fd, 0) ? UV_ENOMEM : 0;
    json_decref(state);
    if (rc == 0) {
        (void)snprintf(name, sizeof name, "%d:%d", (int)getpid(), fd);
        rc = setenv(TAKEOVER, name, 1) ? -errno : 0;
    }
    if (rc == 0) {
        pass_all(s, true);
        (void)execvp(s->argv[0], s->argv);
        rc = -errno;
        pass_all(s, false);
        (void)unsetenv(TAKEOVER);
    }
    if (fd >= 0) {
        close(fd);
    }
    return err_set(e, rc, "%s: cannot be run: %s", s->argv[0], uv_strerror(rc));
}

/* ---------------------------------------------------------------- in */

static int integer(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    return json_is_integer(v) ? (int)json_integer_value(v) : -1;
}

static int supervisor_handover_take_socket(const json_t *o, struct listen_socket *out, char **text,
                                           struct err *e)
{
    const char *where = json_string_value(json_object_get(o, "where"));
    const char *configured = json_string_value(json_object_get(o, "text"));
    if (!where || !configured) {
        return err_set(e, UV_EINVAL, "a socket without an address");
    }
    int rc = address_parse(where, &out->where, e);
    out->fd = integer(o, "fd");
    out->inherited = json_is_true(json_object_get(o, "inherited"));
    *text = xstrdup(configured);
    return rc;
}

static int take_listen(struct supervisor *s, const json_t *list, struct err *e)
{
    size_t i;
    json_t *o;
    int rc = 0;
    s->listen = xcalloc(json_array_size(list) + 1, sizeof(struct shared_address *));
    json_array_foreach(list, i, o)
    {
        struct shared_address *a = xcalloc(1, sizeof *a);
        const json_t *slots = json_object_get(o, "slots");
        rc = supervisor_handover_take_socket(o, &a->claim, &a->text, e);
        a->one = a->claim.where.is_unix || a->claim.inherited;
        for (unsigned k = 0; k < WORKERS_MAX; k++) {
            const json_t *fd = json_array_get(slots, k);
            a->slots[k].where = a->claim.where;
            a->slots[k].fd = fd ? (int)json_integer_value(fd) : -1;
        }
        s->listen[s->listen_count++] = a;
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static void take_workers(struct supervisor *s, const json_t *list)
{
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        const json_t *o = json_array_get(list, i);
        int pid = integer(o, "pid");
        s->children[i + 1].pid = pid > 0 ? pid : 0;
        s->children[i + 1].served = true;
        s->children[i + 1].started_ms = supervisor_now_ms();
        s->wake_fds[i] = integer(o, "wake");
        admin_backend_take(&s->backends[i], integer(o, "backend"), integer(o, "backend_path"));
    }
}

/* An earlier program may have had fewer members, which are the first of ours: the memory grows under its
 * workers. Memory of a later one is left to those who use it. */
static void take_shared(struct supervisor *s, int fd)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || st.st_size > (off_t)sizeof *s->shared ||
        ftruncate(fd, sizeof *s->shared)) {
        return;
    }
    void *at = mmap(NULL, sizeof *s->shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) {
        s->shared = at;
        s->shared_fd = fd;
    }
}

static int supervisor_handover_take(struct supervisor *s, const json_t *state, struct err *e)
{
    const json_t *admin = json_object_get(state, "admin");
    int pid = integer(state, "admin_pid"), count = integer(state, "count");
    s->children[0].pid = pid > 0 ? pid : 0;
    s->roll.before = count > 0 && count <= WORKERS_MAX ? (unsigned)count : 0; /* 0: not said */
    take_shared(s, integer(state, "shared"));
    if (shared_area_take(&s->area, integer(state, "quotas"))) {
        log_warn("supervisor", "new workers count streams and rates apart from those before them",
                 LOG_F(log_str("why", "the former program counts in another way, or not at all")));
    }
    take_workers(s, json_object_get(state, "workers"));
    int rc = json_is_object(admin)
                 ? supervisor_handover_take_socket(admin, &s->admin, &s->admin_text, e)
                 : 0;
    rc = rc ? rc : take_listen(s, json_object_get(state, "listen"), e);
    pass_all(s, false);
    return rc;
}

/* The descriptor of the state; -1: this process took over from no other. */
static int find_state(void)
{
    const char *name = getenv(TAKEOVER);
    char *end = NULL;
    long pid = name ? strtol(name, &end, 10) : 0;
    if (!name || pid != (long)getpid() || *end != ':') {
        return -1;
    }
    long fd = strtol(end + 1, &end, 10);
    return *end == '\0' && fd >= 0 && fd <= INT_MAX ? (int)fd : -1;
}

bool handover_expected(void)
{
    return find_state() >= 0;
}

int handover_take(struct supervisor *s, struct err *e)
{
    int fd = find_state();
    struct stat st;
    json_error_t error;
    if (fstat(fd, &st) || st.st_size > STATE_MAX_BYTES || lseek(fd, 0, SEEK_SET) != 0) {
        return err_set(e, UV_EBADF, "what the former program left cannot be read");
    }
    json_t *state = json_loadfd(fd, 0, &error);
    close(fd);
    (void)unsetenv(TAKEOVER);
    int rc =
        state ? supervisor_handover_take(s, state, e) : err_set(e, UV_EINVAL, "%s", error.text);
    json_decref(state);
    return rc;
}
