#include "lua/policy/lua_policy.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"
#include "base/utf8.h"
#include "lua/policy/lua_format_spec.h"
#include "lua/policy/lua_hooks.h"
#include "lua/policy/lua_judge.h"
#include "lua/policy/lua_params.h"
#include "lua/policy/lua_policy_file.h"
#include "lua/policy/lua_sandbox.h"
#include "lua/policy/lua_sources.h"
#include "lua/policy/policy_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct lua_policy {
    struct policy base;
    struct lua_policy_options opt; /* file: owned */
    char *dir;                     /* owned */
    struct loop *loop;
    bool live;
    struct policy_metrics *metrics;      /* `live_metrics` or `muted` */
    struct policy_metrics *live_metrics; /* borrowed */
    struct policy_metrics muted;         /* what one that is not in force yet counts */
    struct lua_vm *vm;
    struct lua_host host;
    struct lua_policy_file file;
    struct lua_params params;
    struct format_classes *classes; /* owned */
    struct lua_budgets budgets;
    struct policy_log log;
    struct lua_coros *coros;
    struct lua_hooks calls;
    char version[DIGEST_HEX_BYTES];
    unsigned quarantined; /* functions */
    struct policy_figures n,
        before_dry_run;   /* dry runs do not count in the end; last_error: not here */
    char last_error[512]; /* for people */
};

static struct lua_policy *lua_policy_of(const struct policy *p)
{
    return container_of((struct policy *)(uintptr_t)p, struct lua_policy, base);
}

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

/* Where to look: the line that raised, or, when the hook had returned, its definition. */
static void lua_policy_report(struct lua_policy *p, struct policy_failure *f,
                              const struct lua_function *fn, const struct err *e)
{
    const struct lua_vm_failure *failure = lua_vm_failure(p->vm);
    bool raised = e->code != UV_EBUSY;
    f->where = raised && failure->where[0] ? failure->where : fn->where;
    f->text = e->text;
    f->traceback = raised ? failure->traceback : NULL;
    policy_log_count(p->metrics, f->hook);
    if (e->code == UV_EINTR) {
        policy_log_count_overdue(p->metrics, f->hook);
    }
    lua_policy_note_error(p, f);
}

static void lua_policy_update_figures(struct lua_policy *p)
{
    if (!p->live) {
        return; /* the gauges are those of the policy in force */
    }
    p->metrics->policy_quarantined = p->quarantined;
    p->metrics->policy_memory = lua_vm_memory(p->vm);
    p->metrics->policy_stack_repairs = lua_vm_stack_repairs(p->vm);
}

/* ---- gates */

static void settled(void *ctx, const struct lua_hook_call *q, int rc, const struct err *e)
{
    struct lua_policy *p = ctx;
    const struct lua_function *fn = &p->file.hooks[q->hook];
    struct policy_failure f = {.hook = q->hook, .request = q->request};
    if (rc == UV_ETIMEDOUT || rc == UV_EAGAIN || rc == UV_ENOTCONN) {
        const struct lua_vm_failure *failure = lua_vm_failure(p->vm);
        f.transient = f.given_up = true;
        f.where = failure->where[0] ? failure->where : fn->where;
        f.text = e->text;
        f.traceback = failure->traceback;
        log_failure(p, &f);
    } else if (rc) {
        lua_policy_report(p, &f, fn, e);
    } else if (q->result && q->result->draft.v.kind == VERDICT_TRANSIENT) {
        const struct strbuf *reason = &q->result->draft.reason;
        f.transient = true;
        f.where = fn->where;
        f.text = reason->len ? reason->data : "";
        log_failure(p, &f);
    }
    lua_policy_update_figures(p);
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

/* ---- audiences */

static int lua_policy_resolve(const struct lua_policy *p, const struct subscription *s,
                              struct policy_binding *out)
{
    *out = (struct policy_binding){POLICY_NONE, POLICY_FORMAT_RAW, POLICY_NONE, NULL};
    if (s->filter.p) {
        out->filter = lua_functions_find(&p->file.filters, s->filter);
        if (out->filter < 0) {
            return UV_ENOENT;
        }
    }
    if (s->format.p && slice_is(s->format, "json")) {
        out->format = POLICY_FORMAT_JSON;
    } else if (s->format.p && !slice_is(s->format, "raw")) {
        out->format = lua_functions_find(&p->file.formats, s->format);
        if (out->format < 0) {
            return UV_ENOENT;
        }
    }
    return 0;
}

/* What failed without Lua. */
static void report_plain(struct lua_policy *p, struct policy_failure *f,
                         const struct lua_function *fn, const struct err *e)
{
    f->where = fn->where;
    f->text = e->text;
    policy_log_count(p->metrics, f->hook);
    lua_policy_note_error(p, f);
}

/* A filter that is text meets its params without Lua. */
static int bind_text(struct lua_policy *p, const struct subscription *s, struct policy_binding *out)
{
    const struct lua_function *fn = out->filter < 0 ? NULL : &p->file.filters.v[out->filter];
    if (!fn || !fn->text) {
        return 0;
    }
    struct err e;
    struct policy_failure f = {.hook = POLICY_HOOK_SUBSCRIBE, .params = s->params};
    out->text = filter_bind(fn->text, s->params, &e);
    if (out->text) {
        return 0;
    }
    f.function = fn->name;
    report_plain(p, &f, fn, &e);
    return e.code;
}

static int ask_bind(struct policy *base, const struct subscription *s, struct policy_binding *out)
{
    struct lua_policy *p = lua_policy_of(base);
    int rc = lua_policy_resolve(p, s, out);
    rc = rc ? rc : bind_text(p, s, out);
    bool format = out->format >= 0 && !p->file.formats.v[out->format].spec;
    bool filter = out->filter >= 0 && !out->text && s->params.p;
    if (rc || (!format && !filter)) {
        return rc; /* no function would read the params */
    }
    struct err e;
    struct slice params = s->params.p ? s->params : slice_str("{}");
    rc = lua_params_bind(&p->params, p->vm, params, format, &e);
    if (rc < 0) {
        struct policy_failure f = {.hook = POLICY_HOOK_SUBSCRIBE, .params = s->params};
        lua_policy_report(p, &f, &p->file.hooks[POLICY_HOOK_SUBSCRIBE], &e);
        filter_args_free(out->text);
        out->text = NULL;
        return rc;
    }
    out->params = rc;
    lua_policy_update_figures(p);
    return 0;
}

static void ask_unbind(struct policy *base, struct policy_binding *b)
{
    struct lua_policy *p = lua_policy_of(base);
    if (b->params >= 0) {
        format_class_cache_clear(p->classes, lua_params_classes(&p->params, b->params));
    }
    lua_params_unbind(&p->params, p->vm, b->params);
    filter_args_free(b->text);
    *b = (struct policy_binding){POLICY_NONE, POLICY_FORMAT_RAW, POLICY_NONE, NULL};
    lua_policy_update_figures(p);
}

/* ---- events: delivery, dry runs and explain all come here, so that all see the same */

static void account_where(struct policy_account *a, const char *where)
{
    snprintf(a->where, sizeof a->where, "%s", where);
}

/* `vm`: Lua ran, and may know the line. */
static void account_error(struct policy_account *a, const struct lua_vm *vm, const struct err *e)
{
    const char *text = utf8_ok(slice_str(e->text)) ? e->text : "(an error that is not UTF-8)";
    if (vm && e->code != UV_EBUSY && lua_vm_failure(vm)->where[0]) {
        account_where(a, lua_vm_failure(vm)->where);
    }
    a->failed = true;
    strbuf_reset(&a->why);
    a->cut = strbuf_append_str(&a->why, text) != 0;
}

/* A filter or format is about to decide. */
static void note_call(struct lua_policy *p, const struct lua_function *fn, const char *kind,
                      struct policy_account *account)
{
    if (!account) {
        p->n.calls++;
        return;
    }
    account->asked = true;
    account->kind = kind;
    account_where(account, fn->where);
}

/* Counts as an error: putting a function out of use must not make a policy look healthy. */
static bool out_of_use(struct lua_policy *p, const struct lua_function *fn,
                       struct policy_account *account)
{
    bool out = fn->health.quarantined;
    if (account) {
        account->asked = !out;
        account->out_of_use = account->failed = out;
    } else if (out) {
        p->n.errors++;
        p->metrics->policy_quarantined_calls++;
    }
    return out;
}

/* One call of a filter or format that is a function. */
struct rule_call {
    enum policy_hook hook;
    struct lua_function *fn;
    const struct policy_binding *binding;
    struct event *ev;
    struct policy_account *account;
    bool dry_run; /* the host was, before */
};

/* What is read of params counts for an account, too: what a function keeps of them, a later call
 * may find. */
static struct judge rule_begin(struct lua_policy *p, struct rule_call *c, struct param_reads *reads)
{
    c->dry_run = p->host.dry_run;
    p->host.dry_run = c->dry_run || c->account; /* what it logs is of no interest */
    p->host.pure = true;
    p->host.reads = reads;
    return (struct judge){.vm = p->vm,
                          .fn = c->fn,
                          .params = lua_params_ref(&p->params, c->binding->params),
                          .ev = c->ev,
                          .budget = &p->budgets.hooks[c->hook],
                          .why = c->account ? &c->account->why : NULL};
}

static void rule_failed(struct lua_policy *p, const struct rule_call *c, const struct err *e)
{
    struct policy_failure f = {
        .hook = c->hook,
        .function = c->fn->name,
        .event = c->ev->id,
        .params = lua_params_text(&p->params, c->binding->params),
    };
    if (c->account) {
        account_error(c->account, p->vm, e);
    } else {
        lua_policy_report(p, &f, c->fn, e);
    }
}

static void rule_end(struct lua_policy *p, const struct rule_call *c, int rc, const struct err *e)
{
    p->host.dry_run = c->dry_run;
    p->host.pure = false;
    p->host.reads = NULL;
    if (rc) {
        rule_failed(p, c, e);
    }
    if (!c->account && !c->dry_run && lua_health_note(&c->fn->health, rc, c->ev->id)) {
        p->quarantined++;
        policy_log_quarantine(&p->log, c->hook, c->fn);
    }
    lua_policy_update_figures(p);
}

static bool filter_by_text(struct lua_policy *p, const struct policy_binding *b, struct event *ev,
                           struct policy_account *account)
{
    if (account) {
        bool traced; /* decides nothing: a trace may be cut */
        account->cut = filter_explain(b->text, ev, &traced, &account->lines) != 0;
        return filter_test(b->text, ev);
    }
    uint64_t before = filter_set_mismatches(p->file.texts);
    bool deliver = filter_test(b->text, ev);
    p->metrics->filter_mismatches += filter_set_mismatches(p->file.texts) - before;
    return deliver;
}

static bool ask_filter(struct policy *base, const struct policy_binding *b, struct event *ev,
                       struct policy_account *account)
{
    struct lua_policy *p = lua_policy_of(base);
    bool deliver = true;
    struct err e;
    if (b->filter < 0) {
        if (account) {
            account->asked = true;
        }
        return true;
    }
    struct lua_function *fn = &p->file.filters.v[b->filter];
    note_call(p, fn, b->text ? "text" : "function", account);
    if (b->text) {
        return filter_by_text(p, b, ev, account);
    }
    if (out_of_use(p, fn, account)) {
        return false;
    }
    struct rule_call call = {POLICY_HOOK_FILTER, fn, b, ev, account, false};
    struct judge j = rule_begin(p, &call, format_classes_filter_reads(p->classes));
    int rc = lua_judge_filter(&j, &deliver, &e);
    rule_end(p, &call, rc, &e);
    return deliver;
}

/* The key of results that no params have a part in; 0: of others. */
static uint64_t plain_key(const struct lua_policy *p, const struct policy_binding *b)
{
    bool spec = b->format >= 0 && p->file.formats.v[b->format].spec;
    return b->format < 0 ? 1 : spec ? 2 + (uint64_t)b->format : 0;
}

static size_t ask_format_keys(struct policy *base, const struct policy_binding *b,
                              uint64_t keys[POLICY_FORMAT_KEYS_MAX])
{
    struct lua_policy *p = lua_policy_of(base);
    keys[0] = plain_key(p, b);
    return keys[0] ? 1
                   : format_classes_keys(p->classes, (size_t)b->format,
                                         lua_params_text(&p->params, b->params),
                                         lua_params_classes(&p->params, b->params), keys);
}

static enum format_result format_by_rules(struct lua_policy *p, const struct lua_function *fn,
                                          struct event *ev, struct formatted *out,
                                          struct policy_account *account)
{
    struct err e;
    enum format_result result = lua_format_spec_apply(fn->spec, ev, out, &e);
    if (account && result != FORMAT_DELIVER) {
        account_error(account, NULL, &e);
    } else if (result == FORMAT_FAILED) {
        struct policy_failure f = {
            .hook = POLICY_HOOK_FORMAT, .function = fn->name, .event = ev->id};
        report_plain(p, &f, fn, &e);
    }
    return result;
}

static enum format_result ask_format(struct policy *base, const struct policy_binding *b,
                                     struct event *ev, struct formatted *out,
                                     struct policy_account *account)
{
    struct lua_policy *p = lua_policy_of(base);
    enum format_result result;
    struct err e;
    out->key = plain_key(p, b);
    if (b->format < 0) {
        if (account) {
            account->asked = true;
            account->kind = "built-in";
        }
        return lua_judge_built_in(b->format, ev, out);
    }
    struct lua_function *fn = &p->file.formats.v[b->format];
    note_call(p, fn, fn->spec ? "rules" : "function", account);
    if (fn->spec) {
        return format_by_rules(p, fn, ev, out, account);
    }
    if (out_of_use(p, fn, account)) {
        return FORMAT_FAILED;
    }
    struct param_reads reads = {.all = false};
    struct rule_call call = {POLICY_HOOK_FORMAT, fn, b, ev, account, false};
    struct judge j = rule_begin(p, &call, &reads);
    int rc = lua_judge_format(&j, out, &result, &e);
    rule_end(p, &call, rc, &e);
    /* what was read counts also for a call that was stopped: a later one may find what it kept */
    uint64_t key =
        format_classes_key(p->classes, (size_t)b->format, lua_params_text(&p->params, b->params),
                           lua_params_classes(&p->params, b->params), &reads);
    if (rc == 0 || rc == UV_EINVAL) { /* not stopped, nor out of memory: that is no one else's */
        out->key = key;
    }
    return result;
}

/* ---- life */

static void free_policy(struct lua_policy *p)
{
    if (p->vm) {
        p->calls.closing = true;
        lua_coros_free(p->coros);
        if (p->params.empty != LUA_NOREF) {
            lua_params_close(&p->params, p->vm);
        }
        format_classes_free(p->classes);
        lua_policy_file_clear(&p->file, p->vm);
        lua_vm_free(p->vm);
    }
    free(p->dir);
    free((char *)(uintptr_t)p->opt.file);
    free(p);
}

static void ask_setup(struct policy *base, const char *previous, policy_ready_cb cb, void *ctx)
{
    struct lua_policy *p = lua_policy_of(base);
    lua_hooks_setup(&p->calls, p->version, previous, cb, ctx);
}

static int ask_reloaded(struct policy *base, const char *previous, enum reload_mode *out,
                        struct err *e)
{
    struct lua_policy *p = lua_policy_of(base);
    return lua_hooks_reload(p->vm, &p->budgets, &p->file, previous, out, e);
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
    .publish = lua_policy_ask_publish,
    .cancel = ask_cancel,
    .disconnected = ask_disconnected,
    .wants_disconnect = wants_disconnect,
};

static const struct policy_rules rules = {
    .bind = ask_bind,
    .unbind = ask_unbind,
    .filter = ask_filter,
    .format = ask_format,
    .format_keys = ask_format_keys,
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
        .ctx = p,
    };
}

static int lua_policy_load(struct lua_policy *p, struct lua_sources *sources, struct err *e)
{
    p->dir = lua_sources_directory(p->opt.file);
    if (!p->dir) {
        return err_set(e, -errno, "policy %s: %s", p->opt.file, strerror(errno));
    }
    p->vm = lua_vm_new(p->opt.memory_bytes);
    if (!p->vm) {
        return err_set(e, UV_ENOMEM, "policy %s: %zu bytes of memory are too few for a Lua state",
                       p->opt.file, p->opt.memory_bytes);
    }
    lua_vm_watch(p->vm, p->opt.watchdog);
    p->coros = lua_coros_new(p->opt.waits, p->vm);
    p->host = (struct lua_host){.dir = p->dir,
                                .unix_ms = unix_ms,
                                .ctx = p->loop,
                                .sources = sources,
                                .credential_params = p->opt.credential_params,
                                .credential_param_count = p->opt.credential_param_count,
                                .keyring = p->opt.keyring,
                                .coros = p->coros,
                                .cache = p->opt.cache,
                                .queries = &p->file.queries,
                                .http = p->opt.http,
                                .extend = p->opt.extend,
                                .extend_ctx = p->opt.extend_ctx};
    int rc = lua_sandbox_open(p->vm, &p->host, e);
    if (rc == 0) {
        rc = lua_policy_file_load(&p->file, p->vm, p->opt.file, p->opt.auth_open, &p->budgets.load,
                                  e);
    }
    if (rc == 0) {
        p->classes = format_classes_new(p->file.formats.n);
        rc = lua_params_open(&p->params, p->vm, e);
    }
    p->host.loading = false;
    p->host.sources = NULL;
    p->calls = hook_calls_of(p);
    if (rc == 0 && lua_sources_finish(sources)) {
        rc = err_set(e, UV_ENOSYS, "policy %s: libcrypto cannot hash it", p->opt.file);
    }
    snprintf(p->version, sizeof p->version, "%s", sources->version);
    return rc;
}

int lua_policy_open(const struct lua_policy_options *opt, struct loop *loop,
                    struct policy_metrics *metrics, struct policy **out,
                    struct lua_sources *sources, struct err *e)
{
    struct lua_sources own;
    struct lua_policy *p = xcalloc(1, sizeof *p);
    REQUIRE(opt->file[0] == '/');
    p->base = (struct policy){&gates, &rules, &life, p->version};
    p->opt = *opt;
    p->opt.file = xstrdup(opt->file);
    p->loop = loop;
    p->metrics = &p->muted;
    p->live_metrics = metrics;
    p->params.empty = LUA_NOREF;
    lua_policy_file_init(&p->file);
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

const char *lua_policy_version(const struct policy *p)
{
    return lua_policy_of(p)->version;
}

const struct lua_policy_file *lua_policy_file_of(const struct policy *p)
{
    return &lua_policy_of(p)->file;
}
