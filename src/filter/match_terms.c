/* Values of a filter text: constants, params, fields of the event, and functions. */
#include "base/nearest.h"
#include "base/xalloc.h"
#include "filter/match_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_MAX = 128 };

struct match_operand match_parse_constant(struct match_parser *p, struct match_value v, size_t at,
                                          size_t end)
{
    struct match *m = p->m;
    m->constants = match_parse_grown(m->constants, m->constant_count, sizeof *m->constants);
    m->constants[m->constant_count] = v;
    return (struct match_operand){OPERAND_CONSTANT, (uint16_t)m->constant_count++, (uint16_t)at,
                                  (uint16_t)(end - at)};
}

struct match_operand match_parse_param(struct match_parser *p, const struct match_token *t,
                                       bool network)
{
    struct match *m = p->m;
    size_t i = 0;
    while (i < m->param_count &&
           !(slice_eq(m->params[i].name, t->text) && m->params[i].network == network)) {
        i++;
    }
    if (i == m->param_count) {
        m->params = match_parse_grown(m->params, m->param_count, sizeof *m->params);
        m->params[m->param_count++] = (struct match_param){.name = t->text, .network = network};
    }
    return (struct match_operand){OPERAND_PARAM, (uint16_t)i, (uint16_t)t->at, (uint16_t)t->n};
}

/* ---- fields */

static void steps_free(struct match_field *f)
{
    for (size_t i = 0; i < f->step_count; i++) {
        free(f->steps[i].name);
    }
    free(f->steps);
    f->steps = NULL;
    f->step_count = 0;
}

static bool push_step(struct match_parser *p, struct match_field *f, struct slice name,
                      uint32_t index)
{
    size_t most = f->kind == FIELD_ATTR ? 1 : MATCH_PATH_MAX;
    if (f->step_count == most) {
        return match_parse_fail(p, p->token.at,
                                f->kind == FIELD_ATTR
                                    ? "attributes are no objects: attrs.name is all there is"
                                    : "the path has more than 16 names");
    }
    f->steps = match_parse_grown(f->steps, f->step_count, sizeof *f->steps);
    f->steps[f->step_count++] =
        (struct match_step){name.p ? xstrndup(name.p, name.n) : NULL, (uint32_t)name.n, index};
    return true;
}

/* ["x"] or [1], behind the bracket. */
static bool parse_index(struct match_parser *p, struct match_field *f)
{
    struct match_token t = p->token;
    bool pushed = false;
    if (t.kind == TOKEN_STRING) {
        pushed = push_step(p, f, t.value.s, 0);
    } else if (t.kind == TOKEN_NUMBER && f->kind == FIELD_DATA && t.value.type == MATCH_INTEGER &&
               t.value.i >= 1 && t.value.i <= UINT32_MAX) {
        pushed = push_step(p, f, slice_of(NULL, 0), (uint32_t)t.value.i);
    } else {
        return match_parse_fail(p, t.at,
                                f->kind == FIELD_DATA
                                    ? "a \"name\" or a place in an array (from 1) was expected"
                                    : "a \"name\" was expected");
    }
    return pushed && match_parse_next(p) &&
           match_parse_expect(p, TOKEN_BRACKET_END, "']' was expected");
}

static bool parse_steps(struct match_parser *p, struct match_field *f)
{
    while (p->token.kind == TOKEN_DOT || p->token.kind == TOKEN_BRACKET) {
        bool dot = p->token.kind == TOKEN_DOT;
        if (!match_parse_next(p)) {
            return false;
        }
        if (!dot) {
            if (!parse_index(p, f)) {
                return false;
            }
            continue;
        }
        struct match_token t = p->token;
        bool word = t.kind == TOKEN_NAME || (t.text.p && t.kind != TOKEN_PARAM);
        if (!word) {
            return match_parse_fail(p, t.at, "a name was expected behind the point");
        }
        if (match_is_keyword(t.text)) {
            return match_fail(p->e, p->m->text, t.at,
                              "'%.*s' is a word of the language: write [\"%.*s\"]", (int)t.text.n,
                              t.text.p, (int)t.text.n, t.text.p);
        }
        if (!push_step(p, f, t.text, 0) || !match_parse_next(p)) {
            return false;
        }
    }
    return true;
}

static bool intern(struct match_parser *p, struct match_field *f, size_t at, size_t end,
                   struct match_operand *out)
{
    int index = match_field_intern(p->m->set, f);
    if (index < 0) {
        return match_parse_fail(p, at, "the filters of one policy use too many different fields");
    }
    *out =
        (struct match_operand){OPERAND_FIELD, (uint16_t)index, (uint16_t)at, (uint16_t)(end - at)};
    return true;
}

/* attrs.x or data.a.b, behind the first name. */
static bool parse_path(struct match_parser *p, enum match_field_kind kind, size_t at,
                       struct match_operand *out)
{
    struct match_field f = {.kind = kind};
    bool ok = parse_steps(p, &f);
    if (ok && f.step_count == 0) {
        ok = match_parse_fail(p, at,
                              kind == FIELD_ATTR ? "attrs needs a name: attrs.x"
                                                 : "data needs a path: data.x.y");
    }
    size_t end = p->token.at;
    while (end > at && strchr(" \t\r\n", p->m->text[end - 1])) {
        end--;
    }
    ok = ok && intern(p, &f, at, end, out);
    steps_free(&f); /* interning has emptied it */
    return ok;
}

/* ---- functions */

static bool parse_value(struct match_parser *p, struct match_operand *out)
{
    struct match_part part;
    size_t at = p->token.at;
    if (!match_parse_simple(p, &part)) {
        return false;
    }
    if (part.is_condition) {
        return match_parse_fail(p, at, "a value was expected here, not a condition");
    }
    *out = part.value;
    return true;
}

enum { ARGS_MAX = 256 };

struct arguments {
    struct match_operand v[ARGS_MAX];
    size_t n;
};

/* (a, b, ...), at the bracket. */
static bool parse_arguments(struct match_parser *p, struct arguments *a)
{
    a->n = 0;
    if (!match_parse_expect(p, TOKEN_OPEN, "'(' was expected")) {
        return false;
    }
    if (p->token.kind == TOKEN_CLOSE) {
        return match_parse_next(p);
    }
    for (;;) {
        if (a->n == ARGS_MAX) {
            return match_parse_fail(p, p->token.at, "too many arguments");
        }
        if (!parse_value(p, &a->v[a->n])) {
            return false;
        }
        a->n++;
        if (p->token.kind != TOKEN_COMMA) {
            return match_parse_expect(p, TOKEN_CLOSE, "',' or ')' was expected");
        }
        if (!match_parse_next(p)) {
            return false;
        }
    }
}

/* The second argument of cidr() is looked at now, where it is written down. */
static bool to_network(struct match_parser *p, struct match_operand *o)
{
    struct match *m = p->m;
    char text[64];
    struct err e;
    if (o->kind == OPERAND_PARAM) {
        struct match_token t = {.at = o->at, .n = o->n, .text = m->params[o->index].name};
        *o = match_parse_param(p, &t, true);
        return true;
    }
    const struct match_value *v = o->kind == OPERAND_CONSTANT ? &m->constants[o->index] : NULL;
    if (!v || v->type != MATCH_STRING || v->s.n >= sizeof text) {
        return match_parse_fail(p, o->at,
                                "cidr: a network like \"10.0.0.0/8\", or $name, was expected");
    }
    memcpy(text, v->s.p, v->s.n);
    text[v->s.n] = '\0';
    struct network *network = xcalloc(1, sizeof *network);
    m->networks = match_parse_grown(m->networks, m->network_count, sizeof *m->networks);
    m->networks[m->network_count++] = network;
    if (memchr(v->s.p, '\0', v->s.n) || network_parse(text, network, &e)) {
        return match_fail(p->e, m->text, o->at, "cidr: %s", e.text);
    }
    *o = match_parse_constant(p, (struct match_value){.type = MATCH_NETWORK, .network = network},
                              o->at, (size_t)o->at + o->n);
    return true;
}

static const struct function {
    const char *name;
    enum match_code code;
    unsigned least, most;
    const char *usage;
} functions[] = {
    {"has", MATCH_HAS, 1, 1, "has(x)"},
    {"one_of", MATCH_ONE_OF, 2, ARGS_MAX, "one_of(x, \"a\", \"b\") or one_of(x, $list)"},
    {"starts_with", MATCH_STARTS_WITH, 2, 2, "starts_with(text, beginning)"},
    {"ends_with", MATCH_ENDS_WITH, 2, 2, "ends_with(text, end)"},
    {"contains", MATCH_CONTAINS, 2, 2, "contains(list, x)"},
    {"cidr", MATCH_CIDR, 2, 2, "cidr(address, \"10.0.0.0/8\")"},
};
enum { FUNCTION_COUNT = sizeof functions / sizeof *functions };

static bool check_test(struct match_parser *p, const struct function *f, struct arguments *a)
{
    if (f->code == MATCH_CIDR) {
        return to_network(p, &a->v[1]);
    }
    if (f->code == MATCH_HAS) {
        struct match_operand o = a->v[0];
        if (o.kind != OPERAND_FIELD && o.kind != OPERAND_PARAM) {
            return match_parse_fail(p, o.at, "has: a field of the event, or $name, was expected");
        }
        if (o.kind == OPERAND_PARAM) {
            p->m->params[o.index].optional = true;
        }
    }
    return true;
}

/* topic_seg(n), distance_km(...) and tonumber(x): functions that are values. */
static bool value_function(struct match_parser *p, struct slice name, struct arguments *a,
                           size_t at, size_t end, struct match_operand *out)
{
    if (slice_is(name, "topic_seg")) {
        const struct match_value *v =
            a->n == 1 && a->v[0].kind == OPERAND_CONSTANT ? &p->m->constants[a->v[0].index] : NULL;
        if (!v || v->type != MATCH_INTEGER || v->i < 1 || v->i > SEGMENT_MAX) {
            return match_parse_fail(p, at,
                                    "topic_seg: one whole number from 1 to 128 was expected");
        }
        struct match_field f = {.kind = FIELD_SEGMENT};
        bool ok =
            push_step(p, &f, slice_of(NULL, 0), (uint32_t)v->i) && intern(p, &f, at, end, out);
        steps_free(&f);
        return ok;
    }
    bool number = slice_is(name, "tonumber");
    if (a->n != (number ? 1 : 4)) {
        return match_parse_fail(
            p, at, number ? "usage: tonumber(x)" : "usage: distance_km(lat1, lon1, lat2, lon2)");
    }
    *out =
        (struct match_operand){number ? OPERAND_NUMBER : OPERAND_DISTANCE,
                               (uint16_t)p->m->operand_count, (uint16_t)at, (uint16_t)(end - at)};
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].kind == OPERAND_DISTANCE || (number && a->v[i].kind == OPERAND_NUMBER)) {
            return match_parse_fail(p, a->v[i].at, "this is no number to be made of another");
        }
        if (!match_parse_push(p, a->v[i])) {
            return false;
        }
    }
    return true;
}

static bool unknown(struct match_parser *p, const struct match_token *t, bool called)
{
    static const char *const names[] = {
        "id",     "topic",       "type",      "time",     "key",  "attrs",     "data",       "has",
        "one_of", "starts_with", "ends_with", "contains", "cidr", "topic_seg", "distance_km"};
    enum { FIELDS = 7, ALL = sizeof names / sizeof *names };
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)t->text.n, t->text.p);
    if (slice_is(t->text, "nil")) {
        return match_parse_fail(p, t->at, "nil: ask has(x), or not has(x)");
    }
    const char *near =
        called ? nearest_name(names + FIELDS, ALL - FIELDS, name) : nearest_name(names, ALL, name);
    if (near) {
        return match_fail(p->e, p->m->text, t->at, "unknown %s '%s' (did you mean '%s'?)",
                          called ? "function" : "name", name, near);
    }
    return match_fail(
        p->e, p->m->text, t->at, "unknown %s '%s' (%s)", called ? "function" : "name", name,
        called ? "there are has, one_of, starts_with, ends_with, contains, cidr, "
                 "tonumber, topic_seg and distance_km"
               : "there are id, topic, type, time, key, attrs.x, data.x and $x of params");
}

/* A function, with the bracket as next word. */
static bool parse_call(struct match_parser *p, const struct match_token *name,
                       struct match_part *out)
{
    const struct function *f = NULL;
    struct arguments a;
    for (size_t i = 0; i < FUNCTION_COUNT; i++) {
        f = slice_is(name->text, functions[i].name) ? &functions[i] : f;
    }
    bool value = slice_is(name->text, "topic_seg") || slice_is(name->text, "distance_km") ||
                 slice_is(name->text, "tonumber");
    if (!f && !value) {
        return unknown(p, name, true);
    }
    if (!parse_arguments(p, &a)) {
        return false;
    }
    if (!f) {
        size_t end = p->token.at;
        while (end > name->at && p->m->text[end - 1] != ')') {
            end--;
        }
        return value_function(p, name->text, &a, name->at, end, &out->value);
    }
    if (a.n < f->least || a.n > f->most) {
        return match_fail(p->e, p->m->text, name->at, "usage: %s", f->usage);
    }
    out->is_condition = true;
    out->refusal = "the answer of this function is a condition and cannot be compared";
    return check_test(p, f, &a) && match_parse_test(p, f->code, a.v, a.n);
}

bool match_parse_name(struct match_parser *p, struct match_part *out)
{
    static const struct {
        const char *name;
        enum match_field_kind kind;
    } fields[] = {{"id", FIELD_ID},
                  {"topic", FIELD_TOPIC},
                  {"type", FIELD_TYPE},
                  {"time", FIELD_TIME},
                  {"key", FIELD_KEY}};
    struct match_token t = p->token;
    if (!match_parse_next(p)) {
        return false;
    }
    if (p->token.kind == TOKEN_OPEN) {
        return parse_call(p, &t, out);
    }
    if (slice_is(t.text, "attrs") || slice_is(t.text, "data")) {
        return parse_path(p, *t.text.p == 'a' ? FIELD_ATTR : FIELD_DATA, t.at, &out->value);
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!slice_is(t.text, fields[i].name)) {
            continue;
        }
        if (p->token.kind == TOKEN_DOT || p->token.kind == TOKEN_BRACKET) {
            return match_fail(p->e, p->m->text, p->token.at, "%s has no fields", fields[i].name);
        }
        struct match_field f = {.kind = fields[i].kind};
        return intern(p, &f, t.at, t.at + t.n, &out->value);
    }
    return unknown(p, &t, false);
}
