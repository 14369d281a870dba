/* The JSON documents of the admin service. Ids and positions are strings, as everywhere: a
 * connection's id does not fit the numbers of JavaScript. */
#include "admin/admin_json.h"

#include "admin/admin_ready.h"
#include "admin/status_json.h"
#include "base/program/build_info.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

/* jansson's setters take the value also when they fail, and NULL is a failure: what could not be
 * made shows in the sum of their results. */

static json_t *text(const char *value)
{
    return value ? json_string(value) : json_null();
}

json_t *admin_json_text(struct slice value)
{
    return value.p ? json_stringn(value.p, value.n) : json_null();
}

static json_t *admin_json_count(uint64_t value)
{
    return json_integer((json_int_t)value);
}

json_t *admin_json_connection_id(bool alone, uint64_t id)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%s%" PRIu64, alone ? "1-" : "", id);
    return json_string(digits);
}

json_t *admin_json_id(uint64_t id)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, id);
    return json_string(digits);
}

static json_t *admin_json_seconds(double value)
{
    return json_real(round(value * 1000) / 1000);
}

json_t *admin_json_time(int64_t unix_ms)
{
    time_t s = (time_t)(unix_ms / 1000);
    struct tm utc;
    char iso[32];
    if (!gmtime_r(&s, &utc) || strftime(iso, sizeof iso, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0) {
        return json_null();
    }
    return json_string(iso);
}

static int admin_json_dump_chunk(const char *buffer, size_t size, void *out)
{
    return strbuf_append(out, buffer, size);
}

int admin_json_dump(json_t *root, int failed, struct strbuf *out)
{
    int rc = UV_ENOMEM;
    if (root && !failed) {
        rc = json_dump_callback(root, admin_json_dump_chunk, out,
                                JSON_INDENT(2) | JSON_REAL_PRECISION(15))
                 ? UV_ENOBUFS
                 : 0;
    }
    json_decref(root);
    return rc ? rc : strbuf_append(out, "\n", 1);
}

static json_t *store_document(struct store *store)
{
    json_t *o = json_object();
    struct store_health h = {.ok = false, .detail = "not open yet"};
    if (store) {
        h = store->ops->health(store);
    }
    int bad = json_object_set_new(o, "ok", json_boolean(h.ok));
    bad |= json_object_set_new(o, "detail", text(h.detail));
    if (h.degraded) {
        bad |= json_object_set_new(o, "degraded", text(h.degraded));
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
    json_t *o = admin_not_ready(a, st, &why) || why.len == 0 ? json_null()
                                                             : json_stringn(why.data, why.len);
    strbuf_clear(&why);
    return o;
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
    int bad = json_object_set_new(o, "version", text(build_info.version));
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
    bad |= json_object_set_new(o, "store", store_document(a->store));
    bad |= json_object_set_new(o, "policy",
                               json_pack("{s:b, s:s?, s:s?, s:s?}", "loaded",
                                         st.policy_file != NULL, "file", st.policy_file, "version",
                                         st.policy_version, "label", st.policy_label));
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

int admin_json_status(const struct admin *a, struct strbuf *out)
{
    json_t *workers = json_array();
    json_t *o = worker_document(a);
    int bad = status_json_describe(o, 1, true, 0);
    bad |= json_array_append_new(workers, o);
    json_t *restart = json_pack("{s:s, s:i}", "state", "none", "count", 0);
    return status_json(workers, bad, getpid(), restart, out);
}

static const char *mode_name(enum reload_mode mode)
{
    static const char *const names[] = {"resubscribe", "keep", "reconnect"};
    return names[mode];
}

static json_t *names_document(const struct policy_names *added, const struct policy_names *removed)
{
    const struct policy_names *lists[] = {added, removed};
    static const char *const keys[] = {"added", "removed"};
    json_t *o = json_object();
    int bad = 0;
    for (int k = 0; k < 2; k++) {
        json_t *list = json_array();
        for (size_t i = 0; i < lists[k]->n; i++) {
            bad |= json_array_append_new(list, text(lists[k]->v[i]));
        }
        bad |= json_object_set_new(o, keys[k], list);
    }
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *dry_run_document(const struct dry_run_report *t)
{
    return json_pack("{s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i, s:i}}", "connects", t->connects,
                     "judgements", t->judgements, "errors", t->errors, "streams", "asked",
                     t->streams, "same", t->same, "moved", t->moved, "denied", t->denied, "unknown",
                     t->unknown);
}

static json_t *policy_document(const char *version, const char *label)
{
    return json_pack("{s:s?, s:s?}", "version", version, "label", label);
}

int admin_json_policy(const struct policy_report *r, bool alone, struct strbuf *out)
{
    static const char *const outcomes[] = {"reloaded", "would-reload", "unchanged",  "rolled-back",
                                           "refused",  "busy",         "no-previous"};
    json_t *o = json_object();
    int bad = json_object_set_new(o, "result", text(outcomes[r->outcome]));
    if (r->error) {
        bad |= json_object_set_new(o, "error", text(r->error));
    }
    if (r->previous) {
        bad |= json_object_set_new(o, "previous", policy_document(r->previous, r->previous_label));
    }
    if (r->version) {
        bad |= json_object_set_new(o, "policy", policy_document(r->version, r->label));
    }
    if (r->dry_run) {
        bad |= json_object_set_new(o, "dry_run", dry_run_document(r->dry_run));
    }
    if (!r->error) {
        bad |= json_object_set_new(o, "streams", admin_json_count(r->streams));
        bad |= json_object_set_new(o, "mode", text(mode_name(r->mode)));
    }
    if (r->outcome == POLICY_RELOADED || r->outcome == POLICY_WOULD_RELOAD) {
        bad |= json_object_set_new(o, "filters",
                                   names_document(&r->filters_added, &r->filters_removed));
        bad |= json_object_set_new(o, "formats",
                                   names_document(&r->formats_added, &r->formats_removed));
    }
    if (alone) {
        json_t *self = json_copy(o);
        bad |= json_object_set_new(self, "worker", json_integer(1));
        bad |= json_object_set_new(o, "workers", json_pack("[o]", self));
    }
    return admin_json_dump(o, bad, out);
}

struct listing {
    json_t *list; /* owned */
    bool alone;
    size_t limit, bytes, total;
    int bad;
};

/* Half of what may be sent: the other half is for names, quotes and escapes. */
enum { LISTING_MAX_BYTES = ADMIN_JSON_MAX_BYTES / 2 };

json_t *admin_json_topics(const struct broker_connection *c)
{
    json_t *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < c->topic_count; i++) {
        bad |= json_array_append_new(list, admin_json_text(c->topics[i]));
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *admin_json_params(struct slice params)
{
    json_t *o = params.p ? json_loadb(params.p, params.n, 0, NULL) : json_null();
    return o ? o : admin_json_text(params);
}

static void list_connection(void *ctx, const struct broker_connection *c)
{
    struct listing *l = ctx;
    size_t bytes = 400 + c->filter.n + c->format.n + c->params.n;
    for (size_t i = 0; i < c->topic_count; i++) {
        bytes += c->topics[i].n + 16;
    }
    l->total++;
    if (json_array_size(l->list) >= l->limit || l->bytes + bytes > LISTING_MAX_BYTES) {
        return;
    }
    l->bytes += bytes;
    json_t *o = json_object();
    int bad = json_object_set_new(o, "id", admin_json_connection_id(l->alone, c->id));
    bad |= json_object_set_new(o, "worker", json_integer(1)); /* the admin process knows better */
    bad |= json_object_set_new(o, "client", text(c->client));
    bad |= json_object_set_new(o, "protocol", json_string(c->protocol));
    bad |= json_object_set_new(o, "seconds", admin_json_seconds(c->seconds));
    bad |= json_object_set_new(o, "topics", admin_json_topics(c));
    bad |= json_object_set_new(o, "filter", admin_json_text(c->filter));
    bad |= json_object_set_new(o, "format", admin_json_text(c->format));
    bad |= json_object_set_new(o, "params", admin_json_params(c->params));
    bad |= json_object_set_new(o, "cursor", admin_json_id(c->cursor));
    bad |= json_object_set_new(o, "lag", admin_json_count(c->lag));
    bad |= json_object_set_new(o, "behind", json_boolean(c->behind));
    bad |= json_object_set_new(o, "delivered", admin_json_count(c->delivered));
    l->bad |= bad | json_array_append_new(l->list, o);
}

int admin_json_connections(const struct admin *a, size_t limit, struct strbuf *out)
{
    struct listing l = {.list = json_array(), .alone = a->alone, .limit = limit};
    broker_each_connection(a->broker, list_connection, &l);
    size_t shown = json_array_size(l.list);
    json_t *o = json_object();
    int bad = l.bad;
    bad |= json_object_set_new(o, "total", admin_json_count(l.total));
    bad |= json_object_set_new(o, "truncated", json_boolean(shown < l.total));
    bad |= json_object_set_new(o, "connections", l.list);
    return admin_json_dump(o, bad, out);
}
