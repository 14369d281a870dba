#include "server/admin_process.h"

#include "admin/admin_workers.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "net/client/backend_call.h"
#include "net/http/http_server.h"
#include "net/http/listener.h"
#include "policy/policy.h"
#include "server/server_options.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

/* A private one, made in the first place that can be written: containers often have a root that cannot. */
static int admin_backend_directory(char *dir, size_t size, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    const char *const places[] = {tmp && *tmp == '/' ? tmp : "/tmp", "/tmp", "/dev/shm"};
    int rc = UV_ENOENT;
    for (size_t i = 0; i < sizeof places / sizeof *places && rc; i++) {
        int n = snprintf(dir, size, "%s/tidegate-XXXXXX", places[i]);
        rc = n >= (int)size ? UV_ENAMETOOLONG : mkdtemp(dir) ? 0 : -errno;
    }
    return rc ? err_set(e, rc,
                        "cannot make a directory for sockets in $TMPDIR, /tmp or /dev/shm: %s",
                        uv_strerror(rc))
              : 0;
}

/* proc(5): a path below /proc/self/fd leads to the socket itself, also when its name is gone. So
 * the name lives for a moment in a private directory, and a process that is killed leaves nothing.
 */
int admin_backend_open(struct admin_backend *b, struct err *e)
{
    struct address at = {.is_unix = true};
    char dir[sizeof at.path - 8];
    int rc = admin_backend_directory(dir, sizeof dir, e);
    if (rc) {
        return rc;
    }
    (void)snprintf(at.path, sizeof at.path, "%s/admin", dir);
    rc = listen_socket_open(&at, &b->socket, e);
    if (rc == 0) {
        int path_fd = open(at.path, O_PATH | O_CLOEXEC);
        rc = path_fd < 0 ? err_set(e, -errno, "%s: cannot be opened", at.path) : 0;
        admin_backend_take(b, b->socket.fd, path_fd);
        (void)unlink(at.path);
    }
    (void)rmdir(dir);
    return rc;
}

void admin_backend_take(struct admin_backend *b, int fd, int path_fd)
{
    b->socket = (struct listen_socket){.where.is_unix = true, .fd = fd};
    b->path_fd = path_fd;
    b->reach = (struct address){.is_unix = true};
    (void)snprintf(b->reach.path, sizeof b->reach.path, "/proc/self/fd/%d", path_fd);
}

void admin_backend_close(struct admin_backend *b)
{
    listen_socket_close(&b->socket, false);
    if (b->path_fd >= 0) {
        close(b->path_fd);
        b->path_fd = -1;
    }
}

/* How many subscribe timeouts a dry run of a policy may take: it asks 16 requests at a time. */
enum { DRY_RUN_PATIENCE = 10 };

/* Of a look whether the address for probes is free, and of a line about it. */
enum { PROBES_AGAIN_MS = 1000, PROBES_REMIND_LOOKS = 60 };

struct process {
    const struct admin_process *given;
    struct loop *loop;
    struct http_server server, probes;
    struct admin_workers admin,
        probed;                   /* their answers go to streams of the one, and of the other */
    const char *probes_at;        /* borrowed; NULL: there are none */
    struct deadline probes_again; /* their address was taken */
    unsigned probes_looks;
};

static const struct address *where(void *ctx, unsigned index)
{
    const struct process *p = ctx;
    return &p->given->backends[index].reach;
}

static struct admin_worker_info info_of(void *ctx, unsigned index)
{
    const struct process *p = ctx;
    const struct worker_state *st = &p->given->shared->workers[index];
    int pid = st->pid;
    return (struct admin_worker_info){
        .pid = pid, .ready = pid && st->ready_pid == pid, .starts = st->starts};
}

static struct admin_restart restart_of(void *ctx)
{
    static const char *const names[] = {"none", "running", "done", "failed"};
    const struct process *p = ctx;
    const struct workers_shared *shared = p->given->shared;
    int phase = shared->restart;
    return (struct admin_restart){.phase = names[phase],
                                  .count = shared->restarts,
                                  .error = phase == RESTART_FAILED ? shared->restart_error : NULL};
}

static void order_drain(void *ctx)
{
    const struct process *p = ctx;
    (void)kill(getppid(), p->given->drain_signal); /* gone: then SIGTERM is on its way to us */
}

static void order_restart(void *ctx)
{
    const struct process *p = ctx;
    (void)kill(getppid(), p->given->restart_signal);
}

static void admin_process_on_stop(void *ctx, int signum)
{
    struct process *p = ctx;
    if (signum != SIGUSR2) {
        deadline_disarm(&p->probes_again);
        http_server_close_all(&p->server, CLOSE_DRAINING);
        http_server_close_all(&p->probes, CLOSE_DRAINING);
        backend_calls_end(&p->probed.calls);
        backend_calls_end(&p->admin.calls); /* a reload may take minutes; the successor waits */
    }
}

/* Running the file, `setup` and `reload` have a CPU budget each. Sets, `setup` and the requests of
 * the dry run may also wait. */
static uint64_t load_timeout_ms(const struct config *cfg)
{
    uint64_t budgets = 3 * (uint64_t)cfg->policy.load_cpu_ms;
    uint64_t questions = DRY_RUN_PATIENCE * (uint64_t)cfg->policy.subscribe_timeout_ms;
    return POLICY_READY_TIMEOUT_MS + budgets + questions;
}

static void admin_process_open_probes(struct deadline *d);

/* Bound here and not by the supervisor: probes ask again. Another program, or a predecessor, may hold the address:
 * operators keep `admin`, which is how they find out. */
static void admin_process_try_probes(struct process *p)
{
    struct address where;
    struct err e = {0};
    int rc = address_parse(p->probes_at, &where, &e);
    rc = rc ? rc : listener_open(&p->probes, &where, NULL, &e);
    if (rc) {
        if (p->probes_looks++ % PROBES_REMIND_LOOKS == 0) {
            log_error("supervisor",
                      "probes get no answer: their address cannot be used; tries again",
                      LOG_F(log_str("admin_public", p->probes_at), log_str("error", e.text)));
        }
        deadline_arm(loop_deadline_class(p->loop, PROBES_AGAIN_MS, admin_process_open_probes),
                     &p->probes_again);
    }
}

static void admin_process_open_probes(struct deadline *d)
{
    admin_process_try_probes(container_of(d, struct process, probes_again));
}

int admin_process_run(const struct config *cfg, const struct admin_process *given)
{
    struct process p = {.given = given};
    struct server_options options;
    struct net_metrics metrics = {0};
    struct err e = {0};
    p.loop = loop_new();
    if (!p.loop) {
        return EX_OSERR;
    }
    int code = server_options_init(&options, cfg, &e) ? EX_CONFIG : 0;
    if (code == 0) {
        const struct http_handlers handlers = {NULL, admin_workers_request, NULL, NULL, &p.admin};
        const struct http_handlers probe = {NULL, admin_workers_probe_request, NULL, NULL,
                                            &p.probed};
        http_server_init(&p.server, p.loop, &options.admin, &handlers, &metrics);
        http_server_init(&p.probes, p.loop, &options.probes, &probe, &metrics);
        p.admin = (struct admin_workers){.loop = p.loop,
                                         .server = &p.server,
                                         .count = given->count,
                                         .load_timeout_ms = load_timeout_ms(cfg),
                                         .sum = metrics_sum_new(given->count),
                                         .identity_shown = options.broker.identity_shown,
                                         .where = where,
                                         .info = info_of,
                                         .restart = restart_of,
                                         .order_drain = order_drain,
                                         .order_restart = order_restart,
                                         .ctx = &p};
        list_init(&p.admin.calls);
        p.probed = p.admin;
        p.probed.server = &p.probes;
        list_init(&p.probed.calls);
        deadline_init(&p.probes_again);
        int rc = loop_on_signal(p.loop, admin_process_on_stop, &p);
        rc = rc ? rc : listener_open_socket(&p.server, given->listen, NULL, &e);
        p.probes_at = cfg->admin_public;
        if (rc == 0 && p.probes_at) {
            admin_process_try_probes(&p);
        }
        code = rc ? EX_UNAVAILABLE : 0;
        loop_run(p.loop);
        http_server_clear(&p.server);
        http_server_clear(&p.probes);
        metrics_sum_free(p.admin.sum);
        server_options_clear(&options);
    }
    if (code) {
        log_error("supervisor", "the admin process cannot start", LOG_F(log_str("error", e.text)));
    }
    return loop_free(p.loop) && code == 0 ? EX_SOFTWARE : code;
}
