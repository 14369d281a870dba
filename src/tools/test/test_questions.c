/* See test_questions.h. */
#include "tools/test/test_questions.h"

#include "audience/render.h"
#include "base/text/nearest.h"
#include "broker/explain.h"
#include "config/config.h"
#include "event/last_event_id.h"
#include "lua/load/lua_policy_file.h"
#include "lua/policy/lua_policy.h"
#include "net/message/http_parser.h"
#include "tools/test/test_tls.h"
#include "tools/test/test_values.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <uv.h>

enum { NAMES_MAX = 256 }; /* that may be meant by one that there is not */
enum test_names { TEST_SETS, TEST_QUERIES, TEST_TARGETS };

/* A request as the broker would have read it from a socket. */
struct asked {
    struct http_request http;
    struct http_query query, params;
    const struct public_route *route; /* NULL: http.events_path */
    struct policy_request rq;
    struct test_tls tls;
};

struct answer {
    lua_State *L; /* where the verdict goes: onto the stack */
    bool there;
};

static void asked_clear(struct asked *a)
{
    http_query_clear(&a->query);
    http_query_clear(&a->params);
    http_request_clear(&a->http);
}

/* NULL, or what is wrong with the text. */
static const char *asked_read(struct asked *a, struct slice text, struct test_broker *w)
{
    struct peer_address unix_peer = {{0}}, client;
    int rc = 0;
    http_request_init(&a->http, test_broker_limits(w));
    a->query = a->params = (struct http_query){0};
    size_t used = http_parser_feed(&a->http, text.p, text.n);
    if (a->http.state != HTTP_COMPLETE || used != text.n) {
        return a->http.state == HTTP_FAILED ? a->http.fail.text : "the request is not complete";
    }
    if (http_query_parse(&a->query, a->http.query)) {
        a->query = (struct http_query){0};
        return "the query is not well-formed";
    }
    a->route = public_route_find(test_broker_routes(w), a->http.path, &a->params, &rc);
    if (rc) {
        return "the path has a bad escape";
    }
    if (!test_tls_take(&a->tls, &a->http)) {
        return "tls: is longer than a certificate allows";
    }
    client = unix_peer;
    struct slice from = http_request_header(&a->http, "X-Forwarded-For");
    if (from.p && !peer_address_parse(from, &client)) {
        return "ip: an IPv4 or IPv6 address was expected";
    }
    a->rq = (struct policy_request){
        .id = 1,
        .http = &a->http,
        .query = &a->query,
        .params = &a->params,
        .client = client,
        .last_event_id = http_request_header(&a->http, "Last-Event-ID"),
    };
    a->rq.mark = last_event_id_parse_text(a->rq.last_event_id).mark;
    return NULL;
}

static int test_questions_refuse(lua_State *L, const char *text)
{
    lua_pushnil(L);
    lua_pushstring(L, text);
    return 2;
}

/* ---------------------------------------------------------------- answers */

static void on_subscribe(void *ctx, uint64_t token, const struct verdict *v)
{
    struct answer *a = ctx;
    (void)token;
    test_push_verdict(a->L, v);
    a->there = true;
}

static void on_publish(void *ctx, uint64_t token, const struct verdict *v,
                       struct event_list *events, const struct publication_made *made)
{
    struct answer *a = ctx;
    (void)token;
    test_push_verdict(a->L, v);
    if (v->kind == VERDICT_ALLOW && made && made[0].dropped) { /* the tools ask about one event */
        lua_pushstring(a->L, made[0].dropped);
        lua_setfield(a->L, -2, "dropped");
    }
    lua_newtable(a->L);
    for (size_t i = 0; i < events->n; i++) {
        test_push_event(a->L, events->v[i]);
        lua_rawseti(a->L, -2, (lua_Integer)i + 1);
    }
    a->there = true;
}

static void await(struct test_broker *w, const struct answer *a)
{
    test_broker_turn(w);
    while (!a->there) { /* hooks have a deadline: an answer comes */
        test_broker_wait(w);
    }
}

/* stack: userdata, request, identity or nil. NULL, or what is wrong. */
static const char *take_request(lua_State *L, struct test_broker *w, struct asked *q)
{
    struct slice text, who = {NULL, 0};
    text.p = luaL_checklstring(L, 2, &text.n);
    who.p = luaL_optlstring(L, 3, NULL, &who.n);
    luaL_checkstack(L, 20, NULL);
    const char *bad = asked_read(q, text, w);
    q->rq.who = who;
    return bad;
}

int test_ask_subscribe(lua_State *L, struct test_broker *w)
{
    struct answer a = {.L = L};
    struct asked q;
    const char *bad = take_request(L, w, &q);
    if (!bad) {
        struct policy *p = test_broker_policy(w);
        p->gates->subscribe(p, &q.rq, on_subscribe, &a, 1);
        await(w, &a);
    }
    asked_clear(&q);
    return bad ? test_questions_refuse(L, bad) : 1;
}

/* Of what is to be published, which may be nothing. */
static void test_questions_ask_publish(struct test_broker *w, struct asked *q,
                                       struct event_list *events, struct answer *a)
{
    struct policy *p = test_broker_policy(w);
    p->gates->publish(p, &q->rq, events, on_publish, a, 1);
    await(w, a);
}

int test_ask_authenticate(lua_State *L, struct test_broker *w)
{
    struct answer a = {.L = L};
    struct event_list events = {0};
    struct asked q;
    const char *bad = take_request(L, w, &q);
    if (!bad) {
        test_questions_ask_publish(w, &q, &events, &a);
        lua_pop(L, 1); /* the events: none */
    }
    asked_clear(&q);
    return bad ? test_questions_refuse(L, bad) : 1;
}

int test_ask_publish(lua_State *L, struct test_broker *w)
{
    struct answer a = {.L = L};
    struct event_list events = {0};
    struct asked q;
    struct err e = {0};
    bool batch;
    const char *bad = take_request(L, w, &q);
    if (!bad) {
        const struct publish_terms terms = {
            .query = &q.query, .route = q.route, .limits = test_broker_envelopes(w)};
        bool ok = publish_body_parse(&q.http, &terms, loop_unix_ms(test_broker_loop(w)), &events,
                                     &batch, &e) == 0;
        bad = ok ? NULL : e.text;
    }
    if (!bad) {
        test_questions_ask_publish(w, &q, &events, &a);
    }
    event_list_clear(&events);
    asked_clear(&q);
    return bad ? test_questions_refuse(L, bad) : 2;
}

/* ---------------------------------------------------------------- other hooks */

int test_ask_disconnect(lua_State *L, struct test_broker *w)
{
    struct policy *p = test_broker_policy(w);
    struct disconnect_info info = {.reason = CLOSE_CLIENT_CLOSED, .seconds = 1, .delivered = 1};
    struct slice identity;
    identity.p = luaL_checklstring(L, 2, &identity.n);
    p->gates->disconnected(p, identity, &info);
    while (p->life->busy(p)) { /* it has a deadline */
        test_broker_wait(w);
    }
    return 0;
}

int test_ask_reload(lua_State *L, struct test_broker *w)
{
    struct policy *p = test_broker_policy(w);
    enum reload_mode mode;
    struct err e;
    if (p->life->reloaded(p, p->version, &mode, &e)) {
        return test_questions_refuse(L, e.text);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* ---------------------------------------------------------------- filters and formats */

/* What each line says, as a list. stack: +1 */
static void push_lines(lua_State *L, struct slice text)
{
    const char *end = text.p + text.n;
    lua_newtable(L);
    for (const char *at = text.p; at < end;) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        eol = eol ? eol : end;
        lua_pushlstring(L, at, (size_t)(eol - at));
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        at = eol + 1;
    }
}

/* Why the filter said no, as far as it tells: asked again, for people. stack: the result -> the
 * result */
static void add_why(lua_State *L, struct policy *p, const struct policy_binding *b,
                    struct event *ev)
{
    struct policy_account account = {.asked = false};
    strbuf_init(&account.lines, EXPLAIN_LINES_MAX_BYTES);
    strbuf_init(&account.why, EXPLAIN_WHY_MAX_BYTES);
    if (!p->rules->filter(p, b, ev, &account) && !account.failed) {
        if (account.why.len) {
            lua_pushlstring(L, account.why.data, account.why.len);
            lua_setfield(L, -2, "reason");
        }
        if (account.lines.len) {
            push_lines(L, strbuf_slice(&account.lines));
            lua_setfield(L, -2, "lines");
        }
    }
    strbuf_clear(&account.lines);
    strbuf_clear(&account.why);
}

/* What delivery would do with the event. stack: +1 the result */
static void push_judgement(lua_State *L, struct renderer *r, const struct policy_binding *binding,
                           struct event *ev)
{
    static const char *const names[] = {
        [RENDER_EVENT] = "deliver", [RENDER_EXPIRED] = "expired", [RENDER_FILTERED] = "filtered",
        [RENDER_LEFT_OUT] = "skip", [RENDER_FAILED] = "failed",   [RENDER_NO_MEMORY] = "failed"};
    const struct render_order order = {
        .mode = RENDER_DRY_RUN, .binding = binding, .event = ev, .expired_too = true};
    struct rendering what;
    enum render_result result = render(r, &order, &what);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, names[result]);
    lua_setfield(L, -2, "result");
    lua_pushboolean(L, result == RENDER_EVENT);
    lua_setfield(L, -2, "delivered");
    if (result == RENDER_EVENT) {
        lua_pushlstring(L, what.fields.data.n ? what.fields.data.p : "", what.fields.data.n);
        lua_setfield(L, -2, "data");
    }
    if (result == RENDER_EVENT && what.renamed) {
        lua_pushlstring(L, what.fields.event.p, what.fields.event.n);
        lua_setfield(L, -2, "event");
    }
    if (result == RENDER_EVENT && what.ends) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "ends");
    }
    if (result == RENDER_FILTERED) {
        add_why(L, r->policy, binding, ev);
    }
}

/* The policy has none of that name: says so, and what was probably meant. */
static int test_questions_no_such(lua_State *L, const char *what, struct slice name,
                                  const char *const *names, size_t n)
{
    const char *near = nearest_name(names, n, name);
    const char *who = strcmp(what, "target") == 0 ? "configuration" : "policy";
    lua_pushlstring(L, name.p, name.n);
    return test_questions_refuse(
        L, lua_pushfstring(L, "the %s has no such %s: '%s'%s%s%s", who, what, lua_tostring(L, -1),
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : ""));
}

/* The name that the policy does not have. */
static int test_questions_refuse_name(lua_State *L, const struct policy *p,
                                      const struct subscription *s)
{
    const struct {
        struct slice name;
        bool of_format;
    } asked[] = {{s->filter, false}, {s->ends, false}, {s->format, true}};
    const char *names[NAMES_MAX];
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        bool known = !asked[i].name.p ||
                     (asked[i].of_format &&
                      (slice_is(asked[i].name, "raw") || slice_is(asked[i].name, "json") ||
                       slice_is(asked[i].name, "cloudevents")));
        size_t n = 0;
        for (; n < NAMES_MAX && (names[n] = lua_policy_name(p, asked[i].of_format, n)); n++) {
            known = known || slice_is(asked[i].name, names[n]);
        }
        if (!known) {
            return test_questions_no_such(L, asked[i].of_format ? "format" : "filter",
                                          asked[i].name, names, n);
        }
    }
    return test_questions_refuse(L, "the policy has no such filter or format");
}

static const char *test_questions_name(struct test_broker *w, enum test_names of, size_t i)
{
    const struct lua_policy_file *f = lua_policy_file_of(test_broker_policy(w));
    const struct config *c = test_broker_config(w);
    switch (of) {
    case TEST_SETS:
        return i < f->sets.n ? f->sets.v[i].name : NULL;
    case TEST_QUERIES:
        return i < f->queries.n ? f->queries.v[i].name : NULL;
    case TEST_TARGETS:
        break;
    }
    return i < c->http_targets.n ? c->http_targets.v[i].name : NULL;
}

int test_ask_name(lua_State *L, struct test_broker *w)
{
    static const char *const kinds[] = {
        [TEST_SETS] = "set", [TEST_QUERIES] = "query", [TEST_TARGETS] = "target", NULL};
    enum test_names of = (enum test_names)luaL_checkoption(L, 2, NULL, kinds);
    const char *names[NAMES_MAX], *one;
    struct slice name;
    size_t n = 0;
    bool known = of == TEST_TARGETS && !test_questions_name(w, of, 0); /* nothing is told of them */
    name.p = luaL_checklstring(L, 3, &name.n);
    for (size_t i = 0; !known && (one = test_questions_name(w, of, i)) != NULL; i++) {
        known = slice_is(name, one);
        if (n < NAMES_MAX) {
            names[n++] = one;
        }
    }
    if (known) {
        lua_pushboolean(L, true);
        return 1;
    }
    return test_questions_no_such(L, kinds[of], name, names, n);
}

int test_ask_judge(lua_State *L, struct test_broker *w)
{
    struct policy *p = test_broker_policy(w);
    struct policy_binding binding;
    struct subscription s = {.filter = test_field(L, 2, "filter"),
                             .format = test_field(L, 2, "format"),
                             .params = test_field(L, 2, "params"),
                             .ends = test_field(L, 2, "ends")};
    const char *bad = NULL;
    luaL_checkstack(L, 20, NULL);
    struct event *ev = test_make_event(L, 3, w, &bad);
    if (!ev) {
        return test_questions_refuse(L, bad);
    }
    int rc = p->rules->bind(p, &s, &binding);
    if (rc) {
        event_unref(ev);
        return rc == UV_ENOENT ? test_questions_refuse_name(L, p, &s)
                               : test_questions_refuse(L, "it cannot use these params");
    }
    struct renderer r;
    renderer_init(&r, p, NULL, test_broker_envelopes(w)->event_bytes);
    push_judgement(L, &r, &binding,
                   ev); /* short of memory it raises, and the process ends anyway */
    renderer_clear(&r);
    p->rules->unbind(p, &binding);
    event_unref(ev);
    return 1;
}

static void push_effects(lua_State *L, const struct policy_effects *x)
{
    static const char *const names[] = {
        [POLICY_ASK_AGAIN] = "ask_again", [POLICY_END_STREAMS] = "end_streams"};
    lua_createtable(L, (int)x->n, 0);
    for (size_t i = 0; i < x->n; i++) {
        const struct policy_effect *e = &x->v[i];
        lua_createtable(L, 0, 3);
        lua_pushstring(L, names[e->kind]);
        lua_setfield(L, -2, "effect");
        lua_pushlstring(L, e->tag, e->tag_n);
        lua_setfield(L, -2, "tag");
        if (e->kind == POLICY_END_STREAMS) {
            lua_pushlstring(L, e->reason, e->reason_n);
            lua_setfield(L, -2, "reason");
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

int test_ask_observe(lua_State *L, struct test_broker *w)
{
    struct policy *p = test_broker_policy(w);
    const char *bad = NULL, *result = "not-observed";
    struct policy_effects effects;
    luaL_checkstack(L, 20, NULL);
    struct event *ev = test_make_event(L, 2, w, &bad);
    if (!ev) {
        return test_questions_refuse(L, bad);
    }
    policy_effects_init(&effects);
    bool failed = false;
    if (p->reach && p->reach->observes(p, event_topic(ev))) {
        failed = p->reach->observe(p, ev, &effects) != 0;
        result = failed ? "failed" : "observed";
    }
    event_unref(ev);
    lua_createtable(L, 0, 4); /* short of memory it raises, and the process ends anyway */
    if (failed) {
        struct policy_figures figures;
        p->life->figures(p, &figures);
        lua_pushstring(L, figures.last_error);
        lua_setfield(L, -2, "error");
    }
    lua_pushstring(L, result);
    lua_setfield(L, -2, "result");
    push_effects(L, &effects);
    lua_setfield(L, -2, "effects");
    lua_pushinteger(L, (lua_Integer)effects.forgotten);
    lua_setfield(L, -2, "forgotten");
    policy_effects_clear(&effects);
    return 1;
}

/* ---------------------------------------------------------------- how long it takes */

enum { TIMES_MAX = 1000, TIMES_BATCH = 10 };

static const uint64_t times_ns = 10000000; /* for one question */

struct times {
    uint64_t v[TIMES_MAX], began;
    size_t n;
};

static bool times_go_on(const struct times *t)
{
    return t->n < TIMES_MAX && (t->n < 3 || uv_hrtime() - t->began < times_ns);
}

static int times_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Pushes the median, in nanoseconds. */
static void times_push(lua_State *L, struct times *t, unsigned batch)
{
    qsort(t->v, t->n, sizeof *t->v, times_compare);
    size_t middle = t->n / 2;
    lua_pushnumber(L, (double)t->v[middle] / batch);
}

static void on_timed(void *ctx, uint64_t token, const struct verdict *v)
{
    bool *there = ctx;
    (void)token;
    (void)v;
    *there = true;
}

static void on_timed_publish(void *ctx, uint64_t token, const struct verdict *v,
                             struct event_list *events, const struct publication_made *made)
{
    (void)events;
    (void)made;
    on_timed(ctx, token, v);
}

/* Of one question. The turn of the loop that brings the verdict counts only where the hook waits for it. */
static uint64_t test_questions_time(struct test_broker *w, const struct asked *q, bool subscribe,
                                    struct event_list *events)
{
    struct policy *p = test_broker_policy(w);
    bool there = false;
    test_broker_refill(w);
    uint64_t from = uv_hrtime();
    if (subscribe) {
        p->gates->subscribe(p, &q->rq, on_timed, &there, 1);
    } else {
        p->gates->publish(p, &q->rq, events, on_timed_publish, &there, 1);
    }
    while (p->life->busy(p)) {
        test_broker_turn(w);
    }
    uint64_t took = uv_hrtime() - from;
    test_broker_turn(w);
    while (!there) {
        test_broker_wait(w);
    }
    return took;
}

int test_time_hook(lua_State *L, struct test_broker *w)
{
    static const char *const names[] = {"authenticate", "subscribe", "publish", NULL};
    static const enum policy_hook hooks[] = {POLICY_HOOK_AUTHENTICATE, POLICY_HOOK_SUBSCRIBE,
                                             POLICY_HOOK_PUBLISH};
    enum policy_hook hook = hooks[luaL_checkoption(L, 2, NULL, names)];
    if (!lua_policy_file_has(lua_policy_file_of(test_broker_policy(w)), hook)) {
        return test_questions_refuse(L, "the policy has no such hook");
    }
    lua_remove(L, 2);
    struct times t = {.began = uv_hrtime()};
    struct asked q;
    struct err e = {0};
    const char *bad = take_request(L, w, &q);
    while (!bad && times_go_on(&t)) {
        struct event_list events = {0};
        bool batch;
        const struct publish_terms terms = {
            .query = &q.query, .route = q.route, .limits = test_broker_envelopes(w)};
        if (hook == POLICY_HOOK_PUBLISH &&
            publish_body_parse(&q.http, &terms, loop_unix_ms(test_broker_loop(w)), &events, &batch,
                               &e)) {
            bad = e.text;
        } else {
            t.v[t.n++] = test_questions_time(w, &q, hook == POLICY_HOOK_SUBSCRIBE, &events);
        }
        event_list_clear(&events);
    }
    asked_clear(&q);
    if (bad) {
        return test_questions_refuse(L, bad);
    }
    times_push(L, &t, 1);
    return 1;
}

int test_time_observe(lua_State *L, struct test_broker *w)
{
    struct policy *p = test_broker_policy(w);
    const char *bad = NULL;
    struct event *ev = test_make_event(L, 2, w, &bad);
    if (!ev) {
        return test_questions_refuse(L, bad);
    }
    bool good = p->reach && p->reach->observes(p, event_topic(ev));
    struct times t = {.began = uv_hrtime()};
    p->life->set_stage(p, POLICY_DRY_RUN); /* nothing is counted, and the cache keeps what it has */
    while (good && times_go_on(&t)) {
        struct policy_effects effects;
        policy_effects_init(&effects);
        uint64_t from = uv_hrtime();
        good = p->reach->observe(p, ev, &effects) == 0;
        t.v[t.n++] = uv_hrtime() - from;
        policy_effects_clear(&effects);
    }
    p->life->set_stage(p, POLICY_LIVE);
    event_unref(ev);
    if (!good) {
        return test_questions_refuse(L, "it observes no such event, or fails");
    }
    times_push(L, &t, 1);
    return 1;
}

/* Another event each time, as in delivery: what is looked up in one is kept until the next. */
static void test_questions_time_rules(lua_State *L, struct policy *p,
                                      const struct policy_binding *b, struct event *const ev[2],
                                      size_t bytes)
{
    struct times filter = {.began = uv_hrtime()};
    bool wanted = true;
    while (times_go_on(&filter)) {
        uint64_t from = uv_hrtime();
        for (unsigned i = 0; i < TIMES_BATCH; i++) {
            wanted = p->rules->filter(p, b, ev[i % 2], NULL);
        }
        filter.v[filter.n++] = uv_hrtime() - from;
    }
    times_push(L, &filter, TIMES_BATCH);
    if (!wanted) {
        lua_pushnil(L);
        return;
    }
    struct times format = {.began = uv_hrtime()};
    struct formatted f = {.key = 0};
    strbuf_init(&f.data, bytes);
    strbuf_init(&f.event, EVENT_TYPE_MAX_BYTES);
    while (times_go_on(&format)) {
        uint64_t from = uv_hrtime();
        for (unsigned i = 0; i < TIMES_BATCH; i++) {
            strbuf_reset(&f.data);
            strbuf_reset(&f.event);
            (void)p->rules->format(p, b, ev[i % 2], &f, NULL); /* the caller knows that it does */
        }
        format.v[format.n++] = uv_hrtime() - from;
    }
    strbuf_clear(&f.data);
    strbuf_clear(&f.event);
    times_push(L, &format, TIMES_BATCH);
}

int test_time_rules(lua_State *L, struct test_broker *w)
{
    struct policy *p = test_broker_policy(w);
    struct policy_binding binding;
    struct subscription s = {.filter = test_field(L, 2, "filter"),
                             .format = test_field(L, 2, "format"),
                             .params = test_field(L, 2, "params")};
    const char *bad = NULL;
    luaL_checkstack(L, 20, NULL);
    struct event *ev[2] = {test_make_event(L, 3, w, &bad), test_make_event(L, 3, w, &bad)};
    int rc = ev[0] && ev[1] ? p->rules->bind(p, &s, &binding) : UV_EINVAL;
    if (rc == 0) {
        test_questions_time_rules(L, p, &binding, ev, test_broker_envelopes(w)->event_bytes);
        p->rules->unbind(p, &binding);
    }
    for (size_t i = 0; i < 2; i++) {
        if (ev[i]) {
            event_unref(ev[i]);
        }
    }
    return rc ? test_questions_refuse(L, bad ? bad : "it cannot be bound") : 2;
}
