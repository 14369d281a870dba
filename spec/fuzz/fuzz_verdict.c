/* What hooks return, read and checked: the input is JSON, decoded by the policy itself and returned
 * as subscription, publication and frame. Whatever it is, there is exactly one answer, and what is
 * granted obeys the contract of policy/policy.h. */
#include "event/event.h"
#include "event/topic.h"
#include "lua/api/lua_cache.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_waits.h"
#include "net/loop.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct policy_limits limits = {.presence_bytes = 1024,
                                            .topics = 100,
                                            .params_keys = 32,
                                            .params_bytes = 1024,
                                            .identity_bytes = 2048};

static const char source[] =
    "local function given(text) local v, err = json.decode(text)\n"
    "  if v == json.null then return nil end\n"
    "  if type(v) == 'table' and v.deny then return nil, v.deny end return v, err end\n"
    "local P = { api = 1, filters = { f = function() return true end } }\n"
    "function P.authenticate() return {} end\n"
    "function P.subscribe(req) return given(req.query.x) end\n"
    "function P.publish(pub) return given(pub.raw) end\n"
    "P.formats = { g = function(ev) return ev.data end }\n"
    "return P\n";

struct bench {
    struct loop *loop;
    uv_timer_t alive;
    struct policy_metrics metrics;
    struct policy *policy;
    struct policy_binding binding;
    unsigned answers;
};

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void on_alive(uv_timer_t *t)
{
    (void)t;
}

static struct bench *bench_new(void)
{
    char path[] = "/tmp/fuzz_verdict_XXXXXX";
    struct bench *b = calloc(1, sizeof *b);
    struct err e;
    int fd = mkstemp(path);
    require(b && fd >= 0 && write(fd, source, sizeof source - 1) == (ssize_t)sizeof source - 1);
    close(fd);
    b->loop = loop_new();
    struct lua_waits_limits waits = {.suspended = 16};
    struct lua_cache_limits cache = {65536, 4096};
    struct lua_policy_options opt = {.file = path,
                                     .waits = lua_waits_new(b->loop, &b->metrics, &waits),
                                     .cache = lua_cache_new(b->loop, &b->metrics, &cache),
                                     .subscribe_timeout_ms = 1000,
                                     .publish_timeout_ms = 1000,
                                     .memory_bytes = 8 << 20,
                                     .event_bytes = 4096,
                                     .limits = limits,
                                     .error_log_interval_s = 3600};
    require(uv_timer_init(loop_uv(b->loop), &b->alive) == 0);
    require(uv_timer_start(&b->alive, on_alive, 1000000, 1000000) == 0);
    require(lua_policy_open(&opt, b->loop, &b->metrics, &b->policy, NULL, &e) == 0);
    unlink(path);
    struct subscription s = {.format = slice_str("g")};
    require(b->policy->rules->bind(b->policy, &s, &b->binding) == 0);
    return b;
}

static void check_object(struct slice text, size_t most)
{
    json_error_t e;
    require(text.n <= most);
    json_t *tree = json_loadb(text.p, text.n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
    require(json_is_object(tree));
    json_decref(tree);
}

static void check_subscription(const struct subscription *s)
{
    require(s->topic_count >= 1 && s->topic_count <= limits.topics);
    for (size_t i = 0; i < s->topic_count; i++) {
        require(!topic_pattern_check(s->topics[i]));
        require(i == 0 || !slice_eq(s->topics[i - 1], s->topics[i]));
    }
    require(!s->filter.p || slice_is(s->filter, "f"));
    require(!s->format.p || slice_is(s->format, "g") || slice_is(s->format, "raw") ||
            slice_is(s->format, "json"));
    if (s->params.p) {
        check_object(s->params, limits.params_bytes);
    }
    require(s->heartbeat_s <= 3600);
    require(s->events_per_s >= 0 && s->events_per_s <= 1e6);
    require(s->every_ms == 0 || (s->every_ms >= 100 && s->every_ms <= 3600 * 1000));
}

static void check_verdict(const struct verdict *v)
{
    if (v->kind == VERDICT_DENY) {
        require(v->status >= 400 && v->status <= 429 && v->reason.n > 0 && utf8_ok(v->reason));
    }
}

static void on_subscribe(void *ctx, uint64_t token, const struct verdict *v)
{
    struct bench *b = ctx;
    require(token == 1);
    b->answers++;
    check_verdict(v);
    if (v->kind == VERDICT_ALLOW) {
        check_object(v->identity, limits.identity_bytes);
        check_subscription(&v->subscription);
        struct policy_binding binding;
        require(b->policy->rules->bind(b->policy, &v->subscription, &binding) == 0);
        b->policy->rules->unbind(b->policy, &binding);
    }
}

static void on_publish(void *ctx, uint64_t token, const struct verdict *v,
                       struct event_list *events, const struct publication_made *made)
{
    struct bench *b = ctx;
    require(token == 2);
    b->answers++;
    check_verdict(v);
    require((v->kind == VERDICT_ALLOW) == (events->n > 0));
    for (size_t i = 0; i < events->n; i++) {
        const struct event *ev = events->v[i];
        struct event_fields f = {.topic = event_topic(ev),
                                 .type = event_type(ev),
                                 .data = event_data(ev),
                                 .key = event_key(ev),
                                 .attrs = event_attrs(ev),
                                 .time_ms = ev->time_ms,
                                 .expires_ms = ev->expires_ms};
        require(made[0].first == 0 && !event_check(&f, 4096));
    }
}

static struct event *event_of(struct slice data)
{
    struct event_fields f = {
        .topic = slice_str("a"), .data = data, .key = slice_str("k"), .time_ms = 1};
    struct event *ev = event_new(&f);
    require(ev != NULL);
    return ev;
}

static void ask(struct bench *b, struct slice text)
{
    struct http_param param = {slice_str("x"), text};
    struct http_query query = {.params = &param, .count = 1};
    struct http_request http = {.method_name = slice_str("GET"), .path = slice_str("/")};
    struct policy_request rq = {.id = 1, .http = &http, .query = &query};
    struct event_list asked = {0};
    event_list_push(&asked, event_of(text));
    b->answers = 0;
    b->policy->gates->subscribe(b->policy, &rq, on_subscribe, b, 1);
    b->policy->gates->publish(b->policy, &rq, &asked, on_publish, b, 2);
    require(b->answers == 0);
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
    require(b->answers == 2);
}

static void render(struct bench *b, struct slice text)
{
    struct formatted out;
    struct event *ev = event_of(text);
    strbuf_init(&out.data, 1000);
    strbuf_init(&out.event, 255);
    if (b->policy->rules->format(b->policy, &b->binding, ev, &out, NULL) == FORMAT_DELIVER) {
        require(utf8_ok(strbuf_slice(&out.data)) && utf8_ok(strbuf_slice(&out.event)));
    }
    event_unref(ev);
    strbuf_clear(&out.data);
    strbuf_clear(&out.event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bench
        *b; /* one policy for all inputs: what one leaves behind, the next one sees */
    struct slice text = slice_of((const char *)data, size);
    b = b ? b : bench_new();
    if (size <= 4096 && utf8_ok(text)) {
        ask(b, text);
        render(b, text);
        require(b->metrics.policy_stack_repairs == 0);
    }
    return 0;
}
