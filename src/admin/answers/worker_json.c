#include "admin/answers/worker_json.h"

#include "admin/answers/admin_json.h"
#include "admin/answers/admin_ready.h"
#include "admin/answers/quota_json.h"
#include "admin/answers/status_json.h"
#include "base/program/build_info.h"

#include <unistd.h>

static json_t *store_document(struct store *store, const char *away)
{
    json_t *o = json_object();
    struct store_health h = {.ok = false, .detail = away ? away : "not open yet"};
    if (store) {
        h = store->ops->health(store);
    }
    int bad = json_object_set_new(o, "ok", json_boolean(h.ok));
    bad |= json_object_set_new(o, "detail", admin_json_string(h.detail));
    if (h.degraded) {
        bad |= json_object_set_new(o, "degraded", admin_json_string(h.degraded));
    }
    bad |= json_object_set_new(o, "events", admin_json_count(h.events));
    bad |= json_object_set_new(o, "bytes", admin_json_count(h.bytes));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *unready_document(const struct admin *a, const struct admin_state *st)
{
    struct strbuf why;
    strbuf_init(&why, 4096);
    json_t *o = admin_not_ready(a, st, &why) ? json_string("memory is too short to say why")
                : why.len                    ? json_stringn(why.data, why.len)
                                             : json_null();
    strbuf_clear(&why);
    return o;
}

/* What the policy has declared, without values. */
static json_t *settings_document(const struct admin_state *st)
{
    json_t *list = json_array();
    for (size_t i = 0; i < st->policy_setting_count; i++) {
        const struct policy_declared *s = &st->policy_settings[i];
        json_t *one =
            json_pack("{s:s, s:s, s:s}", "name", s->name, "type", s->type, "from", s->from);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *sets_document(const struct admin *a)
{
    struct policy_set_state s;
    json_t *list = json_array();
    int bad = 0;
    for (size_t i = 0; a->policy_set && a->policy_set(a->ctx, i, &s); i++) {
        json_t *o = json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "name", s.name, "trusted",
                              s.trusted, "entries", (json_int_t)s.entries, "bytes",
                              (json_int_t)s.bytes, "every_s", (json_int_t)(s.every_ms / 1000),
                              "stale_s", (json_int_t)(s.stale_ms / 1000), "loads",
                              (json_int_t)s.loads, "failures", (json_int_t)s.failures);
        bad |= json_object_set_new(
            o, "age_s", s.age_ms < 0 ? json_null() : admin_json_seconds((double)s.age_ms / 1e3));
        bad |=
            json_object_set_new(o, "error", s.error[0] ? admin_json_string(s.error) : json_null());
        bad |= json_array_append_new(list, o);
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* An entry of `workers` in the document of /status. */
static json_t *worker_document(const struct admin *a)
{
    const struct broker_metrics *m = a->metrics.broker;
    struct admin_state st = {0};
    a->state(a->ctx, &st);
    double uptime = (double)(loop_unix_ms(a->loop) - a->start_ms) / 1e3;
    json_t *why = unready_document(a, &st);

    json_t *o = json_object();
    int bad = json_object_set_new(o, "version", admin_json_string(build_info.version));
    bad |= json_object_set_new(o, "pid", json_integer(getpid()));
    bad |= json_object_set_new(o, "started", admin_json_time(a->start_ms));
    bad |= json_object_set_new(o, "uptime_s", admin_json_seconds(uptime));
    bad |= json_object_set_new(o, "ready", json_boolean(json_is_null(why)));
    bad |= json_object_set_new(o, "not_ready", why);
    bad |= json_object_set_new(o, "draining", json_boolean(st.draining));
    bad |= json_object_set_new(o, "connections", admin_json_count(a->metrics.net->connections));
    bad |= json_object_set_new(o, "subscribers", admin_json_count(m->subscribers));
    bad |= json_object_set_new(o, "behind", admin_json_count(m->behind));
    bad |= json_object_set_new(o, "audiences", admin_json_count(m->audience.audiences));
    bad |= json_object_set_new(o, "head_id", admin_json_id(m->head_id));
    bad |= json_object_set_new(o, "log",
                               json_pack("{s:I, s:I}", "events", (json_int_t)m->log_events, "bytes",
                                         (json_int_t)m->log_bytes));
    bad |= json_object_set_new(o, "store", store_document(a->store, st.store_away));
    bad |= json_object_set_new(o, "policy",
                               json_pack("{s:b, s:s?, s:s?, s:s?, s:o, s:o}", "loaded",
                                         st.policy_file != NULL, "file", st.policy_file, "version",
                                         st.policy_version, "label", st.policy_label, "settings",
                                         settings_document(&st), "sets", sets_document(a)));
    if (a->area) {
        bad |= json_object_set_new(o, "quota", quota_json(a->area));
        bad |= json_object_set_new(o, "rates", rates_json(a->area));
    }
    bad |= json_object_set_new(
        o, "previous_policy",
        st.previous_version
            ? json_pack("{s:s, s:s?}", "version", st.previous_version, "label", st.previous_label)
            : json_null());
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

int worker_json_status(const struct admin *a, struct strbuf *out)
{
    json_t *workers = json_array();
    json_t *o = worker_document(a);
    int bad = status_json_describe(o, 1, true, 0);
    bad |= json_array_append_new(workers, o);
    json_t *restart = json_pack("{s:s, s:i}", "state", "none", "count", 0);
    return status_json(workers, bad, getpid(), restart, out);
}
