#include "lua/policy/lua_explain.h"

#include "base/utf8.h"
#include "lua/policy/lua_format_spec.h"
#include "lua/policy/lua_judge.h"

#include <stdio.h>
#include <uv.h>

static void put_where(struct policy_account *a, const char *where)
{
    snprintf(a->where, sizeof a->where, "%s", where);
}

/* An error of either. `vm`: Lua ran, and may know the line. */
static void put_error(struct policy_account *a, const struct lua_vm *vm, const struct err *e)
{
    const char *text = utf8_ok(slice_str(e->text)) ? e->text : "(an error that is not UTF-8)";
    if (vm && e->code != UV_EBUSY && lua_vm_failure(vm)->where[0]) {
        put_where(a, lua_vm_failure(vm)->where);
    }
    strbuf_reset(&a->why);
    a->cut = strbuf_append_str(&a->why, text) != 0;
}

/* As in delivery, but that nothing is logged. What is read of params counts as ever: what a
 * function keeps of them, a later call may find. */
static void enter(const struct lua_explain *x, struct param_reads *reads, bool *tried)
{
    *tried = x->host->tried;
    x->host->tried = true;
    x->host->pure = true;
    x->host->reads = reads;
}

static void leave(const struct lua_explain *x, bool tried)
{
    x->host->reads = NULL;
    x->host->pure = false;
    x->host->tried = tried;
}

/* ---- filters */

static bool explain_text(const struct policy_binding *b, struct event *ev, struct policy_account *a)
{
    bool traced;
    a->cut = filter_explain(b->text, ev, &traced, &a->lines) != 0;
    return filter_test(b->text, ev); /* decides, as in delivery: a trace that was cut does not */
}

static enum policy_judged explain_filter(const struct lua_explain *x,
                                         const struct policy_binding *b, struct event *ev,
                                         struct policy_account *a)
{
    if (b->filter < 0) {
        a->asked = true;
        return JUDGED_DELIVER;
    }
    const struct lua_function *fn = &x->file->filters.v[b->filter];
    bool deliver = false, tried;
    struct err e;
    a->kind = b->text ? "text" : "function";
    put_where(a, fn->where);
    a->out_of_use = fn->health.quarantined;
    a->asked = !a->out_of_use;
    if (a->out_of_use) {
        return JUDGED_FILTER_ERROR;
    }
    if (b->text) {
        return explain_text(b, ev, a) ? JUDGED_DELIVER : JUDGED_FILTERED;
    }
    struct judge j = {x->vm,
                      fn,
                      lua_params_ref(x->params, b->params),
                      ev,
                      &x->budgets->hooks[POLICY_HOOK_FILTER],
                      &a->why};
    enter(x, format_classes_filter_reads(x->classes), &tried);
    int rc = lua_judge_filter(&j, &deliver, &e);
    leave(x, tried);
    if (rc) {
        put_error(a, x->vm, &e);
        return JUDGED_FILTER_ERROR;
    }
    return deliver ? JUDGED_DELIVER : JUDGED_FILTERED;
}

/* ---- formats */

static enum format_result run_format(const struct lua_explain *x, const struct policy_binding *b,
                                     struct event *ev, struct formatted *out,
                                     struct policy_account *a)
{
    const struct lua_function *fn = &x->file->formats.v[b->format];
    enum format_result result;
    struct param_reads reads = {.all = false};
    bool tried;
    struct err e;
    struct judge j = {
        x->vm, fn, lua_params_ref(x->params, b->params), ev, &x->budgets->hooks[POLICY_HOOK_FORMAT],
        NULL};
    enter(x, &reads, &tried);
    int rc = lua_judge_format(&j, out, &result, &e);
    leave(x, tried);
    if (rc) {
        put_error(a, x->vm, &e);
    }
    if (rc && rc != UV_EINVAL) {
        return result; /* it was stopped: what it had read by then says nothing */
    }
    (void)format_classes_key(x->classes, (size_t)b->format, lua_params_text(x->params, b->params),
                             lua_params_classes(x->params, b->params), &reads);
    return result;
}

static enum format_result explain_format(const struct lua_explain *x,
                                         const struct policy_binding *b, struct event *ev,
                                         struct formatted *out, struct policy_account *a)
{
    a->asked = true;
    if (b->format < 0) {
        a->kind = "built-in";
        return lua_judge_built_in(b->format, ev, out);
    }
    const struct lua_function *fn = &x->file->formats.v[b->format];
    struct err e;
    a->kind = fn->spec ? "rules" : "function";
    put_where(a, fn->where);
    if (fn->spec) {
        enum format_result result = lua_format_spec_apply(fn->spec, ev, out, &e);
        if (result != FORMAT_DELIVER) {
            put_error(a, NULL, &e);
        }
        return result;
    }
    a->out_of_use = fn->health.quarantined;
    a->asked = !a->out_of_use;
    return a->out_of_use ? FORMAT_FAILED : run_format(x, b, ev, out, a);
}

enum policy_judged lua_explain(const struct lua_explain *x, const struct policy_binding *b,
                               struct event *ev, struct formatted *out,
                               struct policy_account *filter, struct policy_account *format)
{
    enum policy_judged judged = explain_filter(x, b, ev, filter);
    if (judged != JUDGED_DELIVER) {
        return judged;
    }
    switch (explain_format(x, b, ev, out, format)) {
    case FORMAT_DELIVER:
        return JUDGED_DELIVER;
    case FORMAT_SKIP:
        return JUDGED_FORMAT_NIL;
    case FORMAT_FAILED:
    case FORMAT_NO_MEMORY:
        break;
    }
    return JUDGED_FORMAT_ERROR;
}
