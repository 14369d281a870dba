#include "admin/answers/status_json.h"

#include "admin/answers/admin_json.h"
#include "base/program/build_info.h"

#include <stdlib.h>

int status_json_describe(json_t *worker, unsigned number, bool answers, unsigned restarts)
{
    int bad = json_object_set_new(worker, "worker", json_integer(number));
    bad |= json_object_set_new(worker, "answers", json_boolean(answers));
    return bad | json_object_set_new(worker, "restarts", json_integer(restarts));
}

/* `within`: the member that has it; NULL: the entry itself. */
static json_t *sum_of(const json_t *workers, const char *within, const char *key)
{
    json_int_t sum = 0;
    for (size_t i = 0; i < json_array_size(workers); i++) {
        const json_t *w = json_array_get(workers, i);
        sum += json_integer_value(json_object_get(within ? json_object_get(w, within) : w, key));
    }
    return json_integer(sum);
}

/* Of the first worker that has it; null: none has. A new reference. */
static json_t *first_of(const json_t *workers, const char *key)
{
    for (size_t i = 0; i < json_array_size(workers); i++) {
        json_t *o = json_object_get(json_array_get(workers, i), key);
        if (o && !json_is_null(o)) {
            return json_incref(o);
        }
    }
    return json_null();
}

/* The oldest worker says since when the broker serves. */
static const json_t *oldest(const json_t *workers)
{
    const json_t *found = NULL;
    double longest = -1;
    for (size_t i = 0; i < json_array_size(workers); i++) {
        const json_t *w = json_array_get(workers, i);
        const json_t *uptime = json_object_get(w, "uptime_s");
        if (uptime && json_number_value(uptime) > longest) {
            longest = json_number_value(uptime);
            found = w;
        }
    }
    return found;
}

static json_t *newest_id(const json_t *workers)
{
    json_t *found = NULL;
    unsigned long long newest = 0;
    for (size_t i = 0; i < json_array_size(workers); i++) {
        json_t *id = json_object_get(json_array_get(workers, i), "head_id");
        unsigned long long n = json_is_string(id) ? strtoull(json_string_value(id), NULL, 10) : 0;
        if (json_is_string(id) && (!found || n > newest)) {
            newest = n;
            found = id;
        }
    }
    return found ? json_incref(found) : json_null();
}

static json_t *store_of(const json_t *workers)
{
    for (size_t i = 0; i < json_array_size(workers); i++) {
        json_t *store = json_object_get(json_array_get(workers, i), "store");
        if (store && !json_is_true(json_object_get(store, "ok"))) {
            return json_incref(store);
        }
    }
    return first_of(workers, "store");
}

/* Why /readyz refuses; null: it does not. */
static json_t *not_ready(const json_t *workers)
{
    for (size_t i = 0; i < json_array_size(workers); i++) {
        const json_t *w = json_array_get(workers, i);
        const char *why = json_string_value(json_object_get(w, "not_ready"));
        if (!json_is_true(json_object_get(w, "ready"))) {
            return json_sprintf("worker %zu: %s", i + 1, why ? why : "does not answer");
        }
    }
    return json_null();
}

static json_t *any_drains(const json_t *workers)
{
    bool drains = false;
    for (size_t i = 0; i < json_array_size(workers); i++) {
        drains |= json_is_true(json_object_get(json_array_get(workers, i), "draining"));
    }
    return json_boolean(drains);
}

static json_t *log_of(const json_t *workers)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "events", sum_of(workers, "log", "events"));
    bad |= json_object_set_new(o, "bytes", sum_of(workers, "log", "bytes"));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

int status_json(json_t *workers, int failed, pid_t pid, json_t *restart, struct strbuf *out)
{
    static const char *const sums[] = {"connections", "subscribers", "behind", "audiences"};
    json_t *started = json_object_get(oldest(workers), "started");
    json_t *uptime = json_object_get(oldest(workers), "uptime_s");
    json_t *why = not_ready(workers);
    json_t *o = json_object();
    int bad = failed | json_object_set_new(o, "version", json_string(build_info.version));
    bad |= json_object_set_new(o, "commit", json_string(build_info.commit));
    bad |= json_object_set_new(o, "date", json_string(build_info.date));
    bad |= json_object_set_new(o, "pid", json_integer(pid));
    bad |= json_object_set(o, "started", started ? started : json_null());
    bad |= json_object_set(o, "uptime_s", uptime ? uptime : json_null());
    bad |= json_object_set_new(o, "ready", json_boolean(json_is_null(why)));
    bad |= json_object_set_new(o, "not_ready", why);
    bad |= json_object_set_new(o, "draining", any_drains(workers));
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        bad |= json_object_set_new(o, sums[i], sum_of(workers, NULL, sums[i]));
    }
    bad |= json_object_set_new(o, "head_id", newest_id(workers));
    bad |= json_object_set_new(o, "log", log_of(workers));
    bad |= json_object_set_new(o, "store", store_of(workers));
    bad |= json_object_set_new(o, "quota", first_of(workers, "quota")); /* they share it */
    bad |= json_object_set_new(o, "rates", first_of(workers, "rates"));
    bad |= json_object_set_new(o, "policy", first_of(workers, "policy"));
    bad |= json_object_set_new(o, "previous_policy", first_of(workers, "previous_policy"));
    bad |= json_object_set_new(o, "restart", restart);
    bad |= json_object_set_new(o, "workers", workers);
    return admin_json_dump(o, bad, out);
}
