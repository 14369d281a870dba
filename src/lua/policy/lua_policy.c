#include "base/alloc.h"
#include "base/require.h"
#include "lua/load/lua_cover.h"
#include "lua/load/lua_sandbox.h"
#include "lua/load/lua_sources.h"
#include "lua/policy/lua_policy_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { WHO_MAX_BYTES = 512 };

static int64_t unix_ms(void *ctx)
{
    return loop_unix_ms(ctx);
}

/* ---- errors and figures */

static void log_failure(struct lua_policy *p, const struct policy_failure *f)
{
    if (!p->host.dry_run) {
        policy_log_write(&p->log, f);
    }
}

static void lua_policy_note_error(struct lua_policy *p, const struct policy_failure *f)
{
    p->n.errors++;
    snprintf(p->last_error, sizeof p->last_error, "%s%s%s: %.400s", policy_hook_name(f->hook),
             f->function ? " " : "", f->function ? f->function : "", f->text);
    log_failure(p, f);
}

static void lua_policy_count(struct policy_metrics *m, enum policy_hook hook, int code)
{
    policy_log_count(m, hook);
    if (code == UV_EINTR) {
        policy_log_count_overdue(m, hook);
    }
}

void lua_policy_report(struct lua_policy *p, struct policy_failure *f,
                       const struct lua_function *fn, const struct err *e)
{
    const struct lua_vm_failure *failure = lua_vm_failure(p->vm);
    bool raised = e->code != UV_EBUSY;
    f->where = raised && failure->where[0] ? failure->where : fn->where;
    f->text = e->text;
    f->traceback = raised ? failure->traceback : NULL;
    lua_policy_count(p->metrics, f->hook, e->code);
    lua_policy_note_error(p, f);
}

void lua_policy_report_plain(struct lua_policy *p, struct policy_failure *f,
                             const struct lua_function *fn, const struct err *e)
{
    f->where = fn->where;
    f->text = e->text;
    policy_log_count(p->metrics, f->hook);
    lua_policy_note_error(p, f);
}

static void lua_policy_note_time(struct policy_metrics *m, enum policy_hook hook, uint64_t wall_ns,
                                 uint64_t cpu_ns)
{
    struct policy_hook_times *t = &m->hooks[hook];
    t->hook = policy_hook_name(hook);
    latency_add_ns(&t->wall, wall_ns);
    latency_add_ns(&t->cpu, cpu_ns);
}

void lua_policy_time(struct policy_metrics *m, enum policy_hook hook,
                     const struct lua_cpu_mark *from)
{
    uint64_t wall_ns, cpu_ns = lua_watchdog_lap(from, &wall_ns);
    lua_policy_note_time(m, hook, wall_ns, cpu_ns);
}

void lua_policy_update_figures(struct lua_policy *p)
{
    if (!p->live) {
        return; /* the gauges are those of the policy in force */
    }
    p->metrics->policy_quarantined = p->quarantined;
    p->metrics->policy_memory = lua_vm_memory(p->vm);
    p->metrics->policy_stack_repairs = lua_vm_stack_repairs(p->vm);
}

/* ---- gates */

/* Has room for what the log says of a publisher. */
struct lua_publisher {
    char client[ADDRESS_TEXT_MAX];
    struct strbuf who;
};

/* What the log says of the event that could not be published. */
static void lua_policy_tell_event(const struct lua_policy *p, const struct lua_hook_call *q,
                                  struct policy_failure *f, struct lua_publisher *by)
{
    if (q->at >= q->asked.n) {
        return; /* the hook does not publish, or has not come so far */
    }
    f->topic = event_topic(q->asked.v[q->at]);
    f->index = q->at;
    f->batch = q->asked.n;
    peer_address_text(&q->job.owner, by->client);
    f->client = by->client;
    if (q->result) {
        identity_describe(strbuf_slice(&q->result->draft.identity), &p->opt.identity_shown,
                          &by->who);
        f->who = strbuf_slice(&by->who);
    }
}

static bool lua_policy_contains(struct slice text, const char *part, size_t n)
{
    return text.n >= n && memmem(text.p, text.n, part, n);
}

/* Is what a function refused a text of the event, or all of its data? Only then its publisher can be at fault. */
static bool lua_policy_is_of_event(const struct lua_vm_failure *failure,
                                   const struct lua_hook_call *q)
{
    char quoted[sizeof failure->given + 2];
    size_t n = failure->given_bytes;
    if (!failure->has_given || q->at >= q->asked.n) {
        return false;
    }
    const struct event *ev = q->asked.v[q->at];
    struct slice given = slice_of(failure->given, n);
    quoted[0] = '"';
    memcpy(quoted + 1, failure->given, n);
    quoted[n + 1] = '"';
    size_t most = failure->given_cut ? n + 1 : n + 2;
    struct slice data = event_data(ev);
    data.n = failure->given_cut && data.n > n ? n : data.n;
    bool named = n && (slice_eq(given, event_topic(ev)) || slice_eq(given, event_type(ev)) ||
                       slice_eq(given, event_key(ev)) || slice_eq(given, data));
    return named || lua_policy_contains(event_attrs(ev), quoted, most) ||
           lua_policy_contains(event_data(ev), quoted, most);
}

static bool settled(void *ctx, const struct lua_hook_call *q, int rc, const struct err *e)
{
    struct lua_policy *p = ctx;
    const struct lua_function *fn = &p->file.hooks[q->hook];
    const struct lua_vm_failure *failure = lua_vm_failure(p->vm);
    struct policy_failure f = {.hook = q->hook, .request = q->request.text};
    struct lua_publisher by;
    bool transient = rc == UV_ETIMEDOUT || rc == UV_EAGAIN || rc == UV_ENOTCONN;
    bool refused = rc == UV_EINVAL && q->hook == POLICY_HOOK_PUBLISH &&
                   lua_policy_is_of_event(failure, q); /* no error of the policy's */
    /* It runs before the policy is in force. The loader reports the error itself. */
    if (q->hook == POLICY_HOOK_SETUP) {
        if (rc && !transient) {
            lua_policy_count(p->live_metrics, q->hook, rc);
        }
        return false;
    }
    strbuf_init(&by.who, WHO_MAX_BYTES);
    if (transient || refused) {
        lua_policy_tell_event(p, q, &f, &by);
        f.transient = f.given_up = transient;
        f.refused = refused;
        f.where = failure->where[0] ? failure->where : fn->where;
        f.text = e->text;
        f.traceback = failure->traceback;
        log_failure(p, &f);
    } else if (rc) {
        lua_policy_tell_event(p, q, &f, &by);
        lua_policy_report(p, &f, fn, e);
    } else if (q->result && q->result->draft.v.kind == VERDICT_TRANSIENT) {
        const struct strbuf *reason = &q->result->draft.reason;
        lua_policy_tell_event(p, q, &f, &by);
        f.transient = true;
        f.where = fn->where;
        f.text = reason->len ? reason->data : "";
        log_failure(p, &f);
    }
    strbuf_clear(&by.who);
    lua_policy_update_figures(p);
    return refused;
}

/* setup runs before the policy is in force. */
static void timed(void *ctx, enum policy_hook hook, uint64_t wall_ns, uint64_t cpu_ns)
{
    const struct lua_policy *p = ctx;
    lua_policy_note_time(hook == POLICY_HOOK_SETUP ? p->live_metrics : p->metrics, hook, wall_ns,
                         cpu_ns);
}

static void ask_subscribe(struct policy *base, const struct policy_request *rq,
                          policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_policy *p = lua_policy_of(base);
    p->n.calls++;
    lua_hooks_subscribe(&p->calls, rq, cb, ctx, token);
    lua_policy_update_figures(p);
}

static void ask_resubscribe(struct policy *base, const struct policy_request *rq,
                            struct slice identity, policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_policy *p = lua_policy_of(base);
    p->n.calls++;
    lua_hooks_resubscribe(&p->calls, rq, identity, cb, ctx, token);
    lua_policy_update_figures(p);
}

static void ask_authenticate(struct policy *base, const struct policy_request *rq,
                             policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_policy *p = lua_policy_of(base);
    p->n.calls++;
    lua_hooks_authenticate(&p->calls, rq, cb, ctx, token);
    lua_policy_update_figures(p);
}

static void lua_policy_ask_publish(struct policy *base, const struct policy_request *rq,
                                   struct event_list *asked, policy_publish_cb cb, void *ctx,
                                   uint64_t token)
{
    struct lua_policy *p = lua_policy_of(base);
    p->n.calls++;
    lua_hooks_publish(&p->calls, rq, asked, cb, ctx, token);
    lua_policy_update_figures(p);
}

static void ask_cancel(struct policy *base, uint64_t token)
{
    lua_waits_cancel(lua_policy_of(base)->opt.waits, token);
}

static void ask_disconnected(struct policy *base, struct slice identity,
                             const struct disconnect_info *info)
{
    struct lua_policy *p = lua_policy_of(base);
    if (lua_policy_file_has(&p->file, POLICY_HOOK_DISCONNECT)) {
        p->n.calls++;
        lua_hooks_disconnect(&p->calls, identity, info);
        lua_policy_update_figures(p);
    }
}

static bool wants_disconnect(const struct policy *base)
{
    return lua_policy_file_has(&lua_policy_of(base)->file, POLICY_HOOK_DISCONNECT);
}

/* ---- life */

static void free_policy(struct lua_policy *p)
{
    if (p->vm) {
        p->calls.closing = true;
        lua_coros_free(p->coros);
        if (p->opt.cover) {
            p->opt.cover->closing(p->opt.cover->ctx, &p->host, &p->file);
        }
        if (p->params.empty != LUA_NOREF) {
            lua_params_close(&p->params, p->vm);
        }
        format_classes_free(p->classes);
        policy_sets_close(&p->sets);
        lua_policy_file_clear(&p->file, p->vm);
        lua_vm_free(p->vm);
    }
    lua_settings_clear(&p->settings);
    for (size_t i = 0; i < p->dir_count; i++) {
        free(p->dirs[i]);
    }
    free((void *)p->dirs);
    free((char *)(uintptr_t)p->opt.file);
    free(p);
}

static void lua_policy_on_sets(void *ctx, const struct err *e)
{
    struct lua_policy *p = ctx;
    if (e) {
        p->setup.cb(p->setup.ctx, e->code, e);
    } else {
        lua_hooks_setup(&p->calls, p->version, p->setup.previous[0] ? p->setup.previous : NULL,
                        p->setup.cb, p->setup.ctx);
    }
}

/* The hook comes last: it may rely on what else there is. */
static void ask_setup(struct policy *base, const char *previous, policy_ready_cb cb, void *ctx)
{
    struct lua_policy *p = lua_policy_of(base);
    snprintf(p->setup.previous, sizeof p->setup.previous, "%s", previous ? previous : "");
    p->setup.cb = cb;
    p->setup.ctx = ctx;
    policy_sets_await(&p->sets, lua_policy_on_sets, p);
}

static int ask_reloaded(struct policy *base, const char *previous, enum reload_mode *out,
                        struct err *e)
{
    struct lua_policy *p = lua_policy_of(base);
    struct lua_cpu_mark from = lua_watchdog_mark(&p->cpu);
    int rc = lua_hooks_reload(p->vm, &p->budgets, &p->file, previous, out, e);
    if (lua_policy_file_has(&p->file, POLICY_HOOK_RELOAD)) {
        lua_policy_time(p->live_metrics, POLICY_HOOK_RELOAD, &from);
    }
    if (rc) {
        lua_policy_count(p->live_metrics, POLICY_HOOK_RELOAD, rc);
    }
    return rc;
}

static void ask_set_stage(struct policy *base, enum policy_stage stage)
{
    struct lua_policy *p = lua_policy_of(base);
    p->before_dry_run = p->host.dry_run ? p->before_dry_run : p->n;
    p->n = p->before_dry_run;
    p->live = stage == POLICY_LIVE;
    p->metrics = stage == POLICY_DRY_RUN ? &p->muted : p->live_metrics;
    p->host.dry_run = stage == POLICY_DRY_RUN;
    lua_policy_update_figures(p);
}

static void ask_figures(const struct policy *base, struct policy_figures *out)
{
    const struct lua_policy *p = lua_policy_of(base);
    *out = (struct policy_figures){p->n.calls, p->n.errors, p->last_error};
}

static bool ask_busy(const struct policy *base)
{
    return lua_coros_busy(lua_policy_of(base)->coros) > 0;
}

static void ask_close(struct policy *base)
{
    struct lua_policy *p = lua_policy_of(base);
    policy_log_clear(&p->log);
    free_policy(p);
}

static const struct policy_gates gates = {
    .subscribe = ask_subscribe,
    .resubscribe = ask_resubscribe,
    .authenticate = ask_authenticate,
    .publish = lua_policy_ask_publish,
    .cancel = ask_cancel,
    .disconnected = ask_disconnected,
    .wants_disconnect = wants_disconnect,
};

static const struct policy_life life = {
    .setup = ask_setup,
    .reloaded = ask_reloaded,
    .set_stage = ask_set_stage,
    .figures = ask_figures,
    .busy = ask_busy,
    .close = ask_close,
};

static struct lua_hooks hook_calls_of(struct lua_policy *p)
{
    return (struct lua_hooks){
        .loop = p->loop,
        .coros = p->coros,
        .file = &p->file,
        .budgets = &p->budgets,
        .limits = &p->opt.limits,
        .event_bytes = p->opt.event_bytes,
        .batch_bytes = p->opt.memory_bytes,
        .subscribe_timeout_ms = p->opt.subscribe_timeout_ms,
        .publish_timeout_ms = p->opt.publish_timeout_ms,
        .settled = settled,
        .timed = timed,
        .ctx = p,
    };
}

/* A directory of policy.path: as it is named, it may be a symbolic link that is turned. */
static int add_directory(struct lua_policy *p, struct lua_sources *sources, const char *path,
                         struct err *e)
{
    struct stat st;
    char *real = realpath(path, NULL);
    if (!real || stat(real, &st)) {
        free(real);
        return err_set(e, -errno, "policy.path: %s: %s", path, strerror(errno));
    }
    p->dirs[p->dir_count++] = real;
    if (!S_ISDIR(st.st_mode)) {
        return err_set(e, UV_ENOTDIR, "policy.path: %s is not a directory", path);
    }
    if (strcmp(real, path) != 0 && lua_sources_add_data(sources, path)) {
        return err_set(e, UV_E2BIG, "policy.path: too many files");
    }
    return 0;
}

/* Where `require` looks. */
static int open_directories(struct lua_policy *p, struct lua_sources *sources, struct err *e)
{
    p->dirs = xcalloc(1 + p->opt.path_count, sizeof *p->dirs);
    p->dirs[0] = lua_sources_directory(p->opt.file);
    if (!p->dirs[0]) {
        return err_set(e, -errno, "%s", strerror(errno));
    }
    p->dir_count = 1;
    int rc = 0;
    for (size_t i = 0; i < p->opt.path_count && rc == 0; i++) {
        rc = add_directory(p, sources, p->opt.path[i], e);
    }
    return rc;
}

static int lua_policy_load(struct lua_policy *p, struct lua_sources *sources, struct err *e)
{
    int rc = open_directories(p, sources, e);
    if (rc) {
        return err_context(e, "policy %s", p->opt.file);
    }
    p->vm = lua_vm_new(p->opt.memory_bytes);
    if (!p->vm) {
        return err_set(e, UV_ENOMEM, "policy %s: %zu bytes of memory are too few for a Lua state",
                       p->opt.file, p->opt.memory_bytes);
    }
    if (p->opt.configuration && lua_sources_add_data(sources, p->opt.configuration)) {
        return err_set(e, UV_E2BIG, "policy %s: too many files", p->opt.file);
    }
    rc = lua_settings_read(&p->settings, p->opt.settings, p->opt.setting_count, sources, e);
    if (rc) {
        return err_context(e, "policy %s", p->opt.file);
    }
    lua_vm_watch(p->vm, p->opt.watchdog);
    lua_vm_trace(p->vm, p->opt.cover ? p->opt.cover->line : NULL);
    p->coros = lua_coros_new(p->opt.waits, p->vm);
    p->host = (struct lua_host){.dirs = p->dirs,
                                .dir_count = p->dir_count,
                                .unix_ms = unix_ms,
                                .ctx = p->loop,
                                .settings = &p->settings,
                                .cover = p->opt.cover,
                                .sources = sources,
                                .credential_params = p->opt.credential_params,
                                .credential_param_count = p->opt.credential_param_count,
                                .keyring = p->opt.keyring,
                                .coros = p->coros,
                                .cache = p->opt.cache,
                                .queries = &p->file.queries,
                                .http = p->opt.http,
                                .rates = p->opt.rates,
                                .extend = p->opt.extend,
                                .extend_ctx = p->opt.extend_ctx};
    rc = lua_sandbox_open(p->vm, &p->host, e);
    if (rc == 0) {
        rc = lua_policy_file_load(&p->file, p->vm, p->opt.file, p->opt.auth_open, &p->budgets.load,
                                  e);
    }
    if (rc == 0 && policy_sets_open(&p->sets, p->opt.sets, &p->file.sets, p->file.texts, e)) {
        rc = err_context(e, "policy %s", p->opt.file);
    }
    if (rc == 0) {
        p->classes = format_classes_new(p->file.formats.n);
        rc = lua_params_open(&p->params, p->vm, e);
    }
    p->host.loading = false;
    p->host.sources = NULL;
    p->host.settings = NULL;
    lua_settings_forget(&p->settings);
    p->calls = hook_calls_of(p);
    if (rc == 0 && lua_sources_finish(sources)) {
        rc = err_set(e, UV_ENOSYS, "policy %s: libcrypto cannot hash it", p->opt.file);
    }
    memcpy(p->version, sources->version, sizeof p->version - 1); /* it ends with a NUL */
    p->base.reach = p->file.observes.n ? &lua_policy_reach : NULL;
    p->base.label = p->file.version[0] ? p->file.version : NULL;
    p->base.settings = p->file.declared;
    p->base.setting_count = p->file.declared_count;
    return rc;
}

int lua_policy_open(const struct lua_policy_options *opt, struct loop *loop,
                    struct policy_metrics *metrics, struct policy **out,
                    struct lua_sources *sources, struct err *e)
{
    struct lua_sources own;
    struct lua_policy *p = xcalloc(1, sizeof *p);
    REQUIRE(opt->file[0] == '/');
    p->base = (struct policy){
        .gates = &gates, .rules = &lua_policy_rules, .life = &life, .version = p->version};
    p->opt = *opt;
    p->opt.file = xstrdup(opt->file);
    p->loop = loop;
    p->metrics = &p->muted;
    p->live_metrics = metrics;
    p->params.empty = LUA_NOREF;
    lua_policy_file_init(&p->file);
    p->file.counts = opt->cover != NULL;
    lua_budgets_init(&p->budgets, &p->opt.cpu);
    p->file.queries.source = opt->queries;
    lua_sources_init(sources ? sources : &own);
    int rc = lua_policy_load(p, sources ? sources : &own, e);
    if (!sources) {
        lua_sources_clear(&own);
    }
    if (rc) {
        free_policy(p);
        return rc;
    }
    policy_log_init(&p->log, loop, opt->error_log_interval_s, strrchr(p->opt.file, '/') + 1,
                    p->version);
    p->log.failed = opt->failed;
    p->log.ctx = opt->extend_ctx;
    lua_policy_update_figures(p);
    *out = &p->base;
    return 0;
}

bool lua_policy_admits_all(const struct policy *p)
{
    return !lua_policy_file_has(&lua_policy_of(p)->file, POLICY_HOOK_AUTHENTICATE);
}

size_t lua_policy_settings_changed(const struct policy *before, const struct policy *after,
                                   const char *out[2 * POLICY_SETTINGS_MAX])
{
    return lua_settings_changed(&lua_policy_of(before)->settings, &lua_policy_of(after)->settings,
                                out);
}

bool lua_policy_set(const struct policy *p, size_t i, struct policy_set_state *out)
{
    return policy_sets_state(&lua_policy_of(p)->sets, i, out);
}

const char *lua_policy_version(const struct policy *p)
{
    return lua_policy_of(p)->version;
}

const struct lua_policy_file *lua_policy_file_of(const struct policy *p)
{
    return &lua_policy_of(p)->file;
}
