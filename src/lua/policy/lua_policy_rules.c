/* What an audience is in a Lua policy, and what filter and format decide about one event for it. */
#include "base/utf8.h"
#include "lua/load/lua_format_spec.h"
#include "lua/policy/lua_judge.h"
#include "lua/policy/lua_policy_state.h"

#include <stdio.h>
#include <uv.h>

/* ---- audiences */

static const struct policy_binding unbound = {
    .filter = POLICY_NONE, .format = POLICY_FORMAT_RAW, .params = POLICY_NONE, .ends = POLICY_NONE};

static int lua_policy_resolve(const struct lua_policy *p, const struct subscription *s,
                              struct policy_binding *out)
{
    *out = unbound;
    if (s->filter.p) {
        out->filter = lua_functions_find(&p->file.filters, s->filter);
        if (out->filter < 0) {
            return UV_ENOENT;
        }
    }
    if (s->ends.p) {
        out->ends = lua_functions_find(&p->file.filters, s->ends);
        if (out->ends < 0) {
            return UV_ENOENT;
        }
    }
    bool cloudevents = s->format.p && slice_is(s->format, "cloudevents");
    bool named = s->format.p && !slice_is(s->format, "raw") && !slice_is(s->format, "json");
    out->envelope = s->envelope && named;
    out->mark = s->mark;
    if (s->envelope ? !named : s->format.p && slice_is(s->format, "json")) {
        out->format = POLICY_FORMAT_JSON;
    } else if (cloudevents) {
        out->format = POLICY_FORMAT_CLOUDEVENTS;
    } else if (named) {
        out->format = lua_functions_find(&p->file.formats, s->format);
        if (out->format < 0) {
            return UV_ENOENT;
        }
    }
    return 0;
}

/* A filter that is text meets its params without Lua. */
static int bind_text(struct lua_policy *p, const struct subscription *s, int filter,
                     struct filter_args **out)
{
    const struct lua_function *fn = filter < 0 ? NULL : &p->file.filters.v[filter];
    if (!fn || !fn->text) {
        return 0;
    }
    struct err e;
    struct policy_failure f = {.hook = POLICY_HOOK_SUBSCRIBE, .params = s->params};
    *out = filter_bind(fn->text, s->params, &e);
    if (*out) {
        return 0;
    }
    f.function = fn->name;
    lua_policy_report_plain(p, &f, fn, &e);
    return e.code;
}

/* Do the rules of a format find in params what they read? */
static int bind_rules(struct lua_policy *p, const struct subscription *s,
                      const struct policy_binding *b)
{
    const struct lua_function *fn = b->format < 0 ? NULL : &p->file.formats.v[b->format];
    struct err e;
    if (!fn || !fn->spec || lua_format_spec_bind(fn->spec, s->params, &e) == 0) {
        return 0;
    }
    struct policy_failure f = {
        .hook = POLICY_HOOK_SUBSCRIBE, .function = fn->name, .params = s->params};
    lua_policy_report_plain(p, &f, fn, &e);
    return e.code;
}

static void forget_texts(struct policy_binding *b)
{
    filter_args_free(b->text);
    filter_args_free(b->ends_text);
    b->text = b->ends_text = NULL;
}

static bool format_reads_params(const struct lua_policy *p, int format)
{
    const struct lua_function *fn = format < 0 ? NULL : &p->file.formats.v[format];
    return fn && (!fn->spec || lua_format_spec_reads_params(fn->spec));
}

static int lua_policy_bind(struct policy *base, const struct subscription *s,
                           struct policy_binding *out)
{
    struct lua_policy *p = lua_policy_of(base);
    int rc = lua_policy_resolve(p, s, out);
    rc = rc ? rc : bind_rules(p, s, out);
    rc = rc ? rc : bind_text(p, s, out->filter, &out->text);
    rc = rc ? rc : bind_text(p, s, out->ends, &out->ends_text);
    bool format = format_reads_params(p, out->format);
    bool function = (out->filter >= 0 && !out->text) || (out->ends >= 0 && !out->ends_text);
    if (rc == 0 && !format && !(function && s->params.p)) {
        return 0; /* nothing would read the params */
    }
    if (rc) {
        forget_texts(out);
        return rc;
    }
    struct err e;
    struct slice params = s->params.p ? s->params : slice_str("{}");
    rc = lua_params_bind(&p->params, p->vm, params, format, &e);
    if (rc < 0) {
        struct policy_failure f = {.hook = POLICY_HOOK_SUBSCRIBE, .params = s->params};
        lua_policy_report(p, &f, &p->file.hooks[POLICY_HOOK_SUBSCRIBE], &e);
        forget_texts(out);
        return rc;
    }
    out->params = rc;
    lua_policy_update_figures(p);
    return 0;
}

static void lua_policy_unbind(struct policy *base, struct policy_binding *b)
{
    struct lua_policy *p = lua_policy_of(base);
    if (b->params >= 0) {
        format_class_cache_clear(p->classes, lua_params_classes(&p->params, b->params));
    }
    lua_params_unbind(&p->params, p->vm, b->params);
    forget_texts(b);
    *b = unbound;
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
    bool dry_run;             /* the host was, before */
    struct lua_cpu_mark from; /* wall_ns 0: it is not timed */
};

/* Reading the clocks takes about as long as a short filter. A prime: calls come in rounds. */
enum { TIMED_ONE_IN = 61 };

/* What is read of params counts for an account, too: what a function keeps of them, a later call
 * may find. */
static struct judge rule_begin(struct lua_policy *p, struct rule_call *c, struct param_reads *reads)
{
    c->dry_run = p->host.dry_run;
    p->host.dry_run = c->dry_run || c->account; /* what it logs is of no interest */
    p->host.pure = true;
    p->host.reads = reads;
    unsigned *untimed = &p->untimed[c->hook == POLICY_HOOK_FORMAT];
    if (!c->account && (*untimed)-- == 0) {
        *untimed = TIMED_ONE_IN - 1;
        c->from = lua_watchdog_mark(&p->cpu);
    }
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
    if (c->from.wall_ns) {
        lua_policy_time(p->metrics, c->hook, &c->from);
    }
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

static bool filter_by_text(struct lua_policy *p, const struct filter_args *text, struct event *ev,
                           struct policy_account *account)
{
    if (account) {
        bool traced; /* decides nothing: a trace may be cut */
        account->cut = filter_explain(text, ev, &traced, &account->lines) != 0;
        return filter_test(text, ev);
    }
    uint64_t before = filter_set_mismatches(p->file.texts);
    uint64_t refused = filter_set_refused(p->file.texts);
    bool deliver = filter_test(text, ev);
    p->metrics->filter_mismatches += filter_set_mismatches(p->file.texts) - before;
    p->metrics->filter_set_refused += filter_set_refused(p->file.texts) - refused;
    return deliver;
}

/* Asks the filter of that index, `text` where it is one. */
static bool lua_policy_test(struct lua_policy *p, const struct policy_binding *b, int filter,
                            const struct filter_args *text, struct event *ev,
                            struct policy_account *account)
{
    bool deliver = true;
    struct err e;
    struct lua_function *fn = &p->file.filters.v[filter];
    note_call(p, fn, text ? "text" : "function", account);
    if (text) {
        return filter_by_text(p, text, ev, account);
    }
    if (out_of_use(p, fn, account)) {
        return false;
    }
    struct rule_call call = {
        .hook = POLICY_HOOK_FILTER, .fn = fn, .binding = b, .ev = ev, .account = account};
    struct judge j = rule_begin(p, &call, format_classes_filter_reads(p->classes));
    int rc = lua_judge_filter(&j, &deliver, &e);
    rule_end(p, &call, rc, &e);
    return deliver;
}

static bool lua_policy_filter(struct policy *base, const struct policy_binding *b, struct event *ev,
                              struct policy_account *account)
{
    if (b->filter < 0) {
        if (account) {
            account->asked = true;
        }
        return true;
    }
    return lua_policy_test(lua_policy_of(base), b, b->filter, b->text, ev, account);
}

static bool lua_policy_ends(struct policy *base, const struct policy_binding *b, struct event *ev,
                            struct policy_account *account)
{
    return b->ends >= 0 &&
           lua_policy_test(lua_policy_of(base), b, b->ends, b->ends_text, ev, account);
}

/* The key of results that no params have a part in; 0: of others. */
static uint64_t plain_key(const struct lua_policy *p, const struct policy_binding *b)
{
    enum { JSON_KEY = 1, CLOUDEVENTS_KEY, FIRST_NAMED_KEY };
    return b->format == POLICY_FORMAT_CLOUDEVENTS ? CLOUDEVENTS_KEY
           : b->format < 0                        ? JSON_KEY
           : format_reads_params(p, b->format)    ? 0
                                                  : FIRST_NAMED_KEY + (uint64_t)b->format;
}

static size_t lua_policy_format_keys(struct policy *base, const struct policy_binding *b,
                                     uint64_t keys[POLICY_FORMAT_KEYS_MAX])
{
    struct lua_policy *p = lua_policy_of(base);
    keys[0] = plain_key(p, b);
    return keys[0] ? 1
                   : format_classes_keys(p->classes, (size_t)b->format,
                                         lua_params_text(&p->params, b->params),
                                         lua_params_classes(&p->params, b->params), keys);
}

static enum format_result format_by_rules(struct lua_policy *p, const struct policy_binding *b,
                                          struct event *ev, struct formatted *out,
                                          struct policy_account *account)
{
    const struct lua_function *fn = &p->file.formats.v[b->format];
    struct err e;
    struct slice params = lua_params_text(&p->params, b->params);
    if (out->key == 0) {
        struct param_reads reads = {.all = false};
        lua_format_spec_reads(fn->spec, &reads);
        out->key = format_classes_key(p->classes, (size_t)b->format, params,
                                      lua_params_classes(&p->params, b->params), &reads);
    }
    enum format_result result = lua_format_spec_apply(fn->spec, ev, params, out, &e);
    if (account && result != FORMAT_DELIVER) {
        account_error(account, NULL, &e);
    } else if (result == FORMAT_FAILED) {
        struct policy_failure f = {
            .hook = POLICY_HOOK_FORMAT, .function = fn->name, .event = ev->id};
        lua_policy_report_plain(p, &f, fn, &e);
    }
    return result;
}

static enum format_result lua_policy_format(struct policy *base, const struct policy_binding *b,
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
        return format_by_rules(p, b, ev, out, account);
    }
    if (out_of_use(p, fn, account)) {
        return FORMAT_FAILED;
    }
    struct param_reads reads = {.all = false};
    struct rule_call call = {
        .hook = POLICY_HOOK_FORMAT, .fn = fn, .binding = b, .ev = ev, .account = account};
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

const struct policy_rules lua_policy_rules = {
    .bind = lua_policy_bind,
    .unbind = lua_policy_unbind,
    .filter = lua_policy_filter,
    .ends = lua_policy_ends,
    .format = lua_policy_format,
    .format_keys = lua_policy_format_keys,
};
