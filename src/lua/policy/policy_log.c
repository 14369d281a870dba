#include "lua/policy/policy_log.h"

#include "base/container_of.h"
#include "base/logging.h"

#include <stdio.h>

static void report_repeated(struct policy_log_entry *entry)
{
    char msg[64];
    if (entry->repeated == 0) {
        return;
    }
    if (entry->repeated == 1) {
        snprintf(msg, sizeof msg, "repeated once");
    } else {
        snprintf(msg, sizeof msg, "repeated %llu times", (unsigned long long)entry->repeated);
    }
    log_warn("policy", msg,
             LOG_F(log_str("policy", entry->log->policy),
                   log_str("hook", policy_hook_name(entry->hook)), log_str("error", entry->text)));
    entry->repeated = 0;
}

static void report_not_shown(struct policy_log *log)
{
    if (log->not_shown) {
        log_warn("policy", "further errors of other kinds were not shown",
                 LOG_F(log_str("policy", log->policy), log_uint("errors", log->not_shown)));
        log->not_shown = 0;
    }
}

static void interval_over(struct deadline *d)
{
    struct policy_log_entry *entry = container_of(d, struct policy_log_entry, until);
    report_repeated(entry);
    report_not_shown(entry->log);
}

void policy_log_init(struct policy_log *log, struct loop *loop, unsigned interval_s,
                     const char *policy, const char *version)
{
    *log = (struct policy_log){.loop = loop, .policy = policy};
    snprintf(log->version, sizeof log->version, "%s", version);
    hash_key_init(&log->key);
    if (interval_s) {
        log->interval = loop_deadline_class(loop, interval_s * UINT64_C(1000), interval_over);
    }
    for (size_t i = 0; i < POLICY_LOG_KINDS; i++) {
        deadline_init(&log->entries[i].until);
        log->entries[i].log = log;
    }
}

void policy_log_clear(struct policy_log *log)
{
    for (size_t i = 0; i < POLICY_LOG_KINDS; i++) {
        report_repeated(&log->entries[i]);
        deadline_disarm(&log->entries[i].until);
    }
    report_not_shown(log);
}

static void policy_log_write_line(const struct policy_log *log, const struct policy_failure *f)
{
    struct log_field fields[15];
    size_t n = 0;
    fields[n++] = log_str("policy", log->policy);
    fields[n++] = log_str("policy_version", log->version);
    fields[n++] = log_str("hook", policy_hook_name(f->hook));
    if (f->function) {
        fields[n++] = log_str("function", f->function);
    }
    fields[n++] = log_str("at", f->where);
    if (f->request && *f->request) {
        fields[n++] = log_str("request", f->request);
    }
    if (f->event) {
        fields[n++] = log_uint("event", f->event);
    }
    if (f->topic.p) {
        fields[n++] = log_slice("topic", f->topic);
    }
    if (f->batch > 1) {
        fields[n++] = log_uint("index", f->index);
    }
    if (f->client) {
        fields[n++] = log_str("client", f->client);
    }
    if (f->who.n) {
        fields[n++] = log_slice("who", f->who);
    }
    if (f->params.p) {
        fields[n++] = log_slice("params", f->params);
    }
    fields[n++] = log_str(f->transient ? "reason" : "error", f->text);
    if (f->traceback && *f->traceback) {
        fields[n++] = log_str("traceback", f->traceback);
    }
    fields[n] = (struct log_field){.key = NULL};
    if (f->transient) {
        log_warn("policy", f->given_up ? "a hook was given up" : "the policy refused temporarily",
                 fields);
    } else if (f->refused) {
        log_warn("policy", "publish cannot take an event", fields);
    } else {
        log_error("policy", "policy error, nothing was granted", fields);
    }
}

void policy_log_write(struct policy_log *log, const struct policy_failure *f)
{
    uint64_t kind =
        hash_bytes(&log->key, f->text, strlen(f->text)) + (uint64_t)f->hook * 2 + f->transient;
    struct policy_log_entry *unused = NULL;
    if (log->failed) {
        if (!f->refused) {
            log->failed(log->ctx, f);
        }
        return;
    }
    for (size_t i = 0; i < POLICY_LOG_KINDS && log->interval; i++) {
        struct policy_log_entry *entry = &log->entries[i];
        if (!list_linked(&entry->until.node)) {
            unused = entry;
        } else if (entry->kind == kind) {
            entry->repeated++;
            return;
        }
    }
    if (!unused && log->interval) {
        log->not_shown++;
        return;
    }
    policy_log_write_line(log, f);
    if (unused) {
        unused->kind = kind;
        unused->hook = f->hook;
        unused->repeated = 0;
        snprintf(unused->text, sizeof unused->text, "%s", f->text);
        deadline_arm(log->interval, &unused->until);
    }
}

void policy_log_quarantine(const struct policy_log *log, enum policy_hook hook,
                           const struct lua_function *fn)
{
    log_error("policy",
              hook == POLICY_HOOK_FILTER
                  ? "filter disabled until the policy is reloaded: its audiences get no events"
                  : "format disabled until the policy is reloaded: its audiences get no events",
              LOG_F(log_str("policy", log->policy), log_str("policy_version", log->version),
                    log_str("hook", policy_hook_name(hook)), log_str("function", fn->name),
                    log_str("at", fn->where), log_uint("errors", fn->health.errors),
                    log_uint("calls", fn->health.calls)));
}

void policy_log_count(struct policy_metrics *m, enum policy_hook hook)
{
    switch (hook) {
#define X(e, name, counter, overdue)                                                               \
    case POLICY_HOOK_##e:                                                                          \
        m->counter++;                                                                              \
        break;
        POLICY_HOOKS(X)
#undef X
    case POLICY_HOOK_COUNT:
        break;
    }
}

void policy_log_count_overdue(struct policy_metrics *m, enum policy_hook hook)
{
    switch (hook) {
#define X(e, name, counter, overdue)                                                               \
    case POLICY_HOOK_##e:                                                                          \
        m->overdue++;                                                                              \
        break;
        POLICY_HOOKS(X)
#undef X
    case POLICY_HOOK_COUNT:
        break;
    }
}
