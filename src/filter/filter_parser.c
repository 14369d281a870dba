/* Filter text -> program. Recursive descent with Lua's precedences; conditions and values are told
 * apart, so that what Lua would answer by accident (`not a == b`, `a < b < c`) does not load. */
#include "base/alloc.h"
#include "base/text/nearest.h"
#include "base/text/uri_template.h"
#include "base/text/url_pattern.h"
#include "filter/filter_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct filter_parser {
    struct filter *m;
    struct filter_lexer lexer;
    struct filter_token token; /* the one that comes next */
    struct filter_error *e;
    unsigned depth;
};

/* What a part of the text turned out to be. */
struct filter_part {
    bool is_condition; /* its ops are emitted; else a value */
    struct filter_operand value;
    const char *refusal; /* of a condition: why it cannot be compared */
};

enum { OPS_MAX = 1000, OPERANDS_MAX = 4000, END_OF_JUMPS = UINT16_MAX };

static bool parse_or(struct filter_parser *p, struct filter_part *out);
static bool parse_simple(struct filter_parser *p, struct filter_part *out);

static bool parser_fail(struct filter_parser *p, size_t at, const char *text)
{
    return filter_fail(p->e, p->m->text, at, "%s", text);
}

static bool parser_next(struct filter_parser *p)
{
    return filter_lex(&p->lexer, &p->token);
}

static bool parser_expect(struct filter_parser *p, enum filter_token_kind kind, const char *what)
{
    return p->token.kind == kind ? parser_next(p) : parser_fail(p, p->token.at, what);
}

/* ---- emitting */

static void *grown(void *list, size_t n, size_t size)
{
    return n & (n - 1) ? list : xrealloc(list, (n ? 2 * n : 1) * size); /* at powers of two */
}

static bool emit(struct filter_parser *p, struct filter_op op)
{
    struct filter *m = p->m;
    if (m->op_count == OPS_MAX) {
        return parser_fail(p, p->token.at, "too many conditions in one filter");
    }
    m->ops = grown(m->ops, m->op_count, sizeof *m->ops);
    m->ops[m->op_count++] = op;
    return true;
}

static bool push_operand(struct filter_parser *p, struct filter_operand o)
{
    struct filter *m = p->m;
    if (m->operand_count == OPERANDS_MAX) {
        return parser_fail(p, p->token.at, "too many values in one filter");
    }
    m->operands = grown(m->operands, m->operand_count, sizeof *m->operands);
    m->operands[m->operand_count++] = o;
    return true;
}

static bool emit_test(struct filter_parser *p, enum filter_code code,
                      const struct filter_operand *v, size_t n)
{
    struct filter_op op = {.code = code, .conjunct = true};
    op.first = (uint16_t)p->m->operand_count;
    op.count = (uint16_t)n;
    for (size_t i = 0; i < n; i++) {
        if (!push_operand(p, v[i])) {
            return false;
        }
    }
    return emit(p, op);
}

/* What stands under `or` or `not` need not be true for the whole to be. */
static void not_conjunct(struct filter_parser *p, size_t from)
{
    for (size_t i = from; i < p->m->op_count; i++) {
        p->m->ops[i].conjunct = false;
    }
}

/* ---- values: constants, params, fields of the event, functions */

enum { SEGMENT_MAX = 128 };

static struct filter_operand constant_operand(struct filter_parser *p, struct filter_value v,
                                              size_t at, size_t end)
{
    struct filter *m = p->m;
    m->constants = grown(m->constants, m->constant_count, sizeof *m->constants);
    m->constants[m->constant_count] = v;
    return (struct filter_operand){OPERAND_CONSTANT, (uint16_t)m->constant_count++, (uint16_t)at,
                                   (uint16_t)(end - at)};
}

static struct filter_operand param_operand(struct filter_parser *p, const struct filter_token *t,
                                           bool network)
{
    struct filter *m = p->m;
    size_t i = 0;
    while (i < m->param_count &&
           !(slice_eq(m->params[i].name, t->text) && m->params[i].network == network)) {
        i++;
    }
    if (i == m->param_count) {
        m->params = grown(m->params, m->param_count, sizeof *m->params);
        m->params[m->param_count++] = (struct filter_param){.name = t->text, .network = network};
    }
    return (struct filter_operand){OPERAND_PARAM, (uint16_t)i, (uint16_t)t->at, (uint16_t)t->n};
}

/* ---- fields */

static bool push_step(struct filter_parser *p, struct filter_field *f, struct slice name,
                      uint32_t index)
{
    size_t most = f->kind == FIELD_ATTR ? 1 : FILTER_PATH_MAX;
    if (f->step_count == most) {
        return parser_fail(p, p->token.at,
                           f->kind == FIELD_ATTR
                               ? "attributes are no objects: attrs.name is all there is"
                               : "the path has more than 16 names");
    }
    f->steps = grown(f->steps, f->step_count, sizeof *f->steps);
    f->steps[f->step_count++] =
        (struct filter_step){name.p ? xstrndup(name.p, name.n) : NULL, (uint32_t)name.n, index};
    return true;
}

/* ["x"] or [1], behind the bracket. */
static bool parse_index(struct filter_parser *p, struct filter_field *f)
{
    struct filter_token t = p->token;
    bool pushed = false;
    if (t.kind == TOKEN_STRING) {
        pushed = push_step(p, f, t.value.s, 0);
    } else if (t.kind == TOKEN_NUMBER && f->kind == FIELD_DATA && t.value.type == FILTER_INTEGER &&
               t.value.i >= 1 && t.value.i <= UINT32_MAX) {
        pushed = push_step(p, f, slice_of(NULL, 0), (uint32_t)t.value.i);
    } else {
        return parser_fail(p, t.at,
                           f->kind == FIELD_DATA
                               ? "a \"name\" or a place in an array (from 1) was expected"
                               : "a \"name\" was expected");
    }
    return pushed && parser_next(p) && parser_expect(p, TOKEN_BRACKET_END, "']' was expected");
}

static bool parse_steps(struct filter_parser *p, struct filter_field *f)
{
    while (p->token.kind == TOKEN_DOT || p->token.kind == TOKEN_BRACKET) {
        bool dot = p->token.kind == TOKEN_DOT;
        if (!parser_next(p)) {
            return false;
        }
        if (!dot) {
            if (!parse_index(p, f)) {
                return false;
            }
            continue;
        }
        struct filter_token t = p->token;
        bool word = t.kind == TOKEN_NAME || (t.text.p && t.kind != TOKEN_PARAM);
        if (!word) {
            return parser_fail(p, t.at, "a name was expected behind the point");
        }
        if (filter_is_keyword(t.text)) {
            return filter_fail(p->e, p->m->text, t.at,
                               "'%.*s' is a word of the language: write [\"%.*s\"]", (int)t.text.n,
                               t.text.p, (int)t.text.n, t.text.p);
        }
        if (!push_step(p, f, t.text, 0) || !parser_next(p)) {
            return false;
        }
    }
    return true;
}

static bool intern(struct filter_parser *p, struct filter_field *f, size_t at, size_t end,
                   struct filter_operand *out)
{
    int index = filter_field_intern(p->m->set, f);
    if (index < 0) {
        return parser_fail(p, at, "the filters of one policy use too many different fields");
    }
    *out =
        (struct filter_operand){OPERAND_FIELD, (uint16_t)index, (uint16_t)at, (uint16_t)(end - at)};
    return true;
}

/* attrs.x or data.a.b, behind the first name. */
static bool filter_parser_parse_path(struct filter_parser *p, enum filter_field_kind kind,
                                     size_t at, struct filter_operand *out)
{
    struct filter_field f = {.kind = kind};
    bool ok = parse_steps(p, &f);
    if (ok && f.step_count == 0) {
        ok = parser_fail(p, at,
                         kind == FIELD_ATTR ? "attrs needs a name: attrs.x"
                                            : "data needs a path: data.x.y");
    }
    size_t end = p->token.at;
    while (end > at && strchr(" \t\r\n", p->m->text[end - 1])) {
        end--;
    }
    ok = ok && intern(p, &f, at, end, out);
    filter_field_clear(&f); /* interning has emptied it */
    return ok;
}

/* ---- functions */

static bool parse_value(struct filter_parser *p, struct filter_operand *out)
{
    struct filter_part part;
    size_t at = p->token.at;
    if (!parse_simple(p, &part)) {
        return false;
    }
    if (part.is_condition) {
        return parser_fail(p, at, "a value was expected here, not a condition");
    }
    *out = part.value;
    return true;
}

enum { ARGS_MAX = 256 };

struct arguments {
    struct filter_operand v[ARGS_MAX];
    size_t n;
};

/* (a, b, ...), at the bracket. */
static bool parse_arguments(struct filter_parser *p, struct arguments *a)
{
    a->n = 0;
    if (!parser_expect(p, TOKEN_OPEN, "'(' was expected")) {
        return false;
    }
    if (p->token.kind == TOKEN_CLOSE) {
        return parser_next(p);
    }
    for (;;) {
        if (a->n == ARGS_MAX) {
            return parser_fail(p, p->token.at, "too many arguments");
        }
        if (!parse_value(p, &a->v[a->n])) {
            return false;
        }
        a->n++;
        if (p->token.kind != TOKEN_COMMA) {
            return parser_expect(p, TOKEN_CLOSE, "',' or ')' was expected");
        }
        if (!parser_next(p)) {
            return false;
        }
    }
}

/* The second argument of cidr() is looked at now, where it is written down. */
static bool filter_parser_to_network(struct filter_parser *p, struct filter_operand *o)
{
    struct filter *m = p->m;
    char text[64];
    struct err e;
    if (o->kind == OPERAND_PARAM) {
        struct filter_token t = {.at = o->at, .n = o->n, .text = m->params[o->index].name};
        *o = param_operand(p, &t, true);
        return true;
    }
    const struct filter_value *v = o->kind == OPERAND_CONSTANT ? &m->constants[o->index] : NULL;
    if (!v || v->type != FILTER_STRING || v->s.n >= sizeof text) {
        return parser_fail(p, o->at, "cidr: a network like \"10.0.0.0/8\", or $name, was expected");
    }
    memcpy(text, v->s.p, v->s.n);
    text[v->s.n] = '\0';
    struct network *network = xcalloc(1, sizeof *network);
    m->networks = grown(m->networks, m->network_count, sizeof *m->networks);
    m->networks[m->network_count++] = network;
    if (memchr(v->s.p, '\0', v->s.n) || network_parse(text, network, &e)) {
        return filter_fail(p->e, m->text, o->at, "cidr: %s", e.text);
    }
    *o = constant_operand(p, (struct filter_value){.type = FILTER_NETWORK, .network = network},
                          o->at, (size_t)o->at + o->n);
    return true;
}

/* The second argument of in_set() is the name of a set that the policy declares. */
static bool filter_parser_to_set(struct filter_parser *p, struct filter_operand *o)
{
    struct filter_set *set = p->m->set;
    const struct filter_value *v = o->kind == OPERAND_CONSTANT ? &p->m->constants[o->index] : NULL;
    const char *names[FILTER_SETS_MAX];
    if (!v || v->type != FILTER_STRING) {
        return parser_fail(p, o->at, "in_set: the name of a set, a text, was expected");
    }
    for (size_t i = 0; i < set->set_count; i++) {
        if (slice_is(v->s, set->sets[i].name)) {
            set->sets[i].used = true;
            o->kind = OPERAND_SET;
            o->index = (uint16_t)i;
            return true;
        }
        names[i] = set->sets[i].name;
    }
    const char *near = nearest_name(names, set->set_count, v->s);
    int n = v->s.n < 64 ? (int)v->s.n : 64;
    if (near) {
        return filter_fail(p->e, p->m->text, o->at,
                           "in_set: there is no set '%.*s' (did you mean '%s'?)", n, v->s.p, near);
    }
    return filter_fail(p->e, p->m->text, o->at,
                       set->set_count ? "in_set: there is no set '%.*s' in `sets` of the policy"
                                      : "in_set: there is no set '%.*s': the policy has no `sets`",
                       n, v->s.p);
}

/* A template or pattern that is written down must be one: what a broken one fits is nothing but itself. */
static bool filter_parser_check_fits(struct filter_parser *p, enum filter_code code,
                                     const struct filter_operand *o)
{
    const struct filter_value *v = o->kind == OPERAND_CONSTANT ? &p->m->constants[o->index] : NULL;
    bool template = code == FILTER_FITS_TEMPLATE;
    if (!v ||
        (v->type == FILTER_STRING && (template ? uri_template_ok(v->s) : url_pattern_ok(v->s)))) {
        return true;
    }
    return parser_fail(
        p, o->at,
        template
            ? "fits_template: a URI template like \"/books/{id}\", $name or $list, was expected"
            : "fits_url_pattern: a pattern like \"/books/:id\", $name or $list, was expected");
}

static const struct function {
    const char *name;
    enum filter_code code;
    unsigned least, most;
    const char *usage;
} functions[] = {
    {"has", FILTER_HAS, 1, 1, "has(x)"},
    {"one_of", FILTER_ONE_OF, 2, ARGS_MAX, "one_of(x, \"a\", \"b\") or one_of(x, $list)"},
    {"starts_with", FILTER_STARTS_WITH, 2, 2, "starts_with(text, beginning)"},
    {"ends_with", FILTER_ENDS_WITH, 2, 2, "ends_with(text, end)"},
    {"contains", FILTER_CONTAINS, 2, 2, "contains(list, x)"},
    {"cidr", FILTER_CIDR, 2, 2, "cidr(address, \"10.0.0.0/8\")"},
    {"in_set", FILTER_IN_SET, 2, 2, "in_set(x, \"name of a set\")"},
    {"fits_template", FILTER_FITS_TEMPLATE, 2, 2, "fits_template(text, \"/books/{id}\" or $list)"},
    {"fits_url_pattern", FILTER_FITS_URL_PATTERN, 2, 2,
     "fits_url_pattern(text, \"/books/:id\" or $list)"},
};
enum { FUNCTION_COUNT = sizeof functions / sizeof *functions };

static bool check_test(struct filter_parser *p, const struct function *f, struct arguments *a)
{
    if (f->code == FILTER_CIDR) {
        return filter_parser_to_network(p, &a->v[1]);
    }
    if (f->code == FILTER_IN_SET) {
        return filter_parser_to_set(p, &a->v[1]);
    }
    if (f->code == FILTER_FITS_TEMPLATE || f->code == FILTER_FITS_URL_PATTERN) {
        return filter_parser_check_fits(p, f->code, &a->v[1]);
    }
    if (f->code == FILTER_HAS) {
        struct filter_operand o = a->v[0];
        if (o.kind != OPERAND_FIELD && o.kind != OPERAND_PARAM) {
            return parser_fail(p, o.at, "has: a field of the event, or $name, was expected");
        }
        if (o.kind == OPERAND_PARAM) {
            p->m->params[o.index].optional = true;
        }
    }
    return true;
}

/* topic_seg(n), distance_km(...) and tonumber(x): functions that are values. */
static bool value_function(struct filter_parser *p, struct slice name, struct arguments *a,
                           size_t at, size_t end, struct filter_operand *out)
{
    if (slice_is(name, "topic_seg")) {
        const struct filter_value *v =
            a->n == 1 && a->v[0].kind == OPERAND_CONSTANT ? &p->m->constants[a->v[0].index] : NULL;
        if (!v || v->type != FILTER_INTEGER || v->i < 1 || v->i > SEGMENT_MAX) {
            return parser_fail(p, at, "topic_seg: one whole number from 1 to 128 was expected");
        }
        struct filter_field f = {.kind = FIELD_SEGMENT};
        bool ok =
            push_step(p, &f, slice_of(NULL, 0), (uint32_t)v->i) && intern(p, &f, at, end, out);
        filter_field_clear(&f);
        return ok;
    }
    bool number = slice_is(name, "tonumber");
    if (a->n != (number ? 1 : 4)) {
        return parser_fail(
            p, at, number ? "usage: tonumber(x)" : "usage: distance_km(lat1, lon1, lat2, lon2)");
    }
    *out =
        (struct filter_operand){number ? OPERAND_NUMBER : OPERAND_DISTANCE,
                                (uint16_t)p->m->operand_count, (uint16_t)at, (uint16_t)(end - at)};
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].kind == OPERAND_DISTANCE || (number && a->v[i].kind == OPERAND_NUMBER)) {
            return parser_fail(p, a->v[i].at, "this is no number to be made of another");
        }
        if (!push_operand(p, a->v[i])) {
            return false;
        }
    }
    return true;
}

static bool unknown(struct filter_parser *p, const struct filter_token *t, bool called)
{
    static const char *const names[] = {"id",
                                        "topic",
                                        "type",
                                        "time",
                                        "expires",
                                        "key",
                                        "attrs",
                                        "data",
                                        "has",
                                        "one_of",
                                        "starts_with",
                                        "ends_with",
                                        "contains",
                                        "cidr",
                                        "in_set",
                                        "topic_seg",
                                        "distance_km",
                                        "fits_template",
                                        "fits_url_pattern"};
    enum { FIELDS = 8, ALL = sizeof names / sizeof *names };
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)t->text.n, t->text.p);
    if (slice_is(t->text, "nil")) {
        return parser_fail(p, t->at, "nil: ask has(x), or not has(x)");
    }
    const char *near = called ? nearest_name(names + FIELDS, ALL - FIELDS, t->text)
                              : nearest_name(names, ALL, t->text);
    if (near) {
        return filter_fail(p->e, p->m->text, t->at, "unknown %s '%s' (did you mean '%s'?)",
                           called ? "function" : "name", name, near);
    }
    return filter_fail(
        p->e, p->m->text, t->at, "unknown %s '%s' (%s)", called ? "function" : "name", name,
        called ? "there are has, one_of, starts_with, ends_with, contains, cidr, in_set, "
                 "fits_template, fits_url_pattern, tonumber, topic_seg and distance_km"
               : "there are id, topic, type, time, expires, key, attrs.x, data.x and $x of params");
}

/* A function, with the bracket as next word. */
static bool parse_call(struct filter_parser *p, const struct filter_token *name,
                       struct filter_part *out)
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
        return filter_fail(p->e, p->m->text, name->at, "usage: %s", f->usage);
    }
    out->is_condition = true;
    out->refusal = "the answer of this function is a condition and cannot be compared";
    return check_test(p, f, &a) && emit_test(p, f->code, a.v, a.n);
}

static bool parse_name(struct filter_parser *p, struct filter_part *out)
{
    static const struct {
        const char *name;
        enum filter_field_kind kind;
    } fields[] = {{"id", FIELD_ID},     {"topic", FIELD_TOPIC},     {"type", FIELD_TYPE},
                  {"time", FIELD_TIME}, {"expires", FIELD_EXPIRES}, {"key", FIELD_KEY}};
    struct filter_token t = p->token;
    if (!parser_next(p)) {
        return false;
    }
    if (p->token.kind == TOKEN_OPEN) {
        return parse_call(p, &t, out);
    }
    if (slice_is(t.text, "attrs") || slice_is(t.text, "data")) {
        return filter_parser_parse_path(p, *t.text.p == 'a' ? FIELD_ATTR : FIELD_DATA, t.at,
                                        &out->value);
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!slice_is(t.text, fields[i].name)) {
            continue;
        }
        if (p->token.kind == TOKEN_DOT || p->token.kind == TOKEN_BRACKET) {
            return filter_fail(p->e, p->m->text, p->token.at, "%s has no fields", fields[i].name);
        }
        struct filter_field f = {.kind = fields[i].kind};
        return intern(p, &f, t.at, t.at + t.n, &out->value);
    }
    return unknown(p, &t, false);
}

/* ---- conditions */

/* ---- expressions, from the tightest to the loosest */

static bool parse_negative(struct filter_parser *p, struct filter_part *out)
{
    size_t at = p->token.at;
    if (!parser_next(p)) {
        return false;
    }
    if (p->token.kind != TOKEN_NUMBER) {
        return parser_fail(p, at, "'-': a number was expected behind it; filters cannot calculate");
    }
    struct filter_value v = p->token.value;
    if (v.type == FILTER_INTEGER) {
        v.i = -v.i;
    } else {
        v.f = -v.f;
    }
    out->value = constant_operand(p, v, at, p->token.at + p->token.n);
    return parser_next(p);
}

static bool deeper(struct filter_parser *p)
{
    return ++p->depth <= FILTER_DEPTH_MAX ||
           parser_fail(p, p->token.at,
                       "parentheses and `not` are nested too deep (32 is the most)");
}

static bool parse_parentheses(struct filter_parser *p, struct filter_part *out)
{
    if (!deeper(p) || !parser_next(p) || !parse_or(p, out)) {
        return false;
    }
    p->depth--;
    out->refusal = "a condition in parentheses cannot be compared";
    return parser_expect(p, TOKEN_CLOSE, "')' was expected");
}

static bool parse_constant(struct filter_parser *p, struct filter_value v, struct filter_part *out)
{
    out->value = constant_operand(p, v, p->token.at, p->token.at + p->token.n);
    return parser_next(p);
}

static bool parse_simple(struct filter_parser *p, struct filter_part *out)
{
    *out = (struct filter_part){0};
    switch ((int)p->token.kind) {
    case TOKEN_STRING:
    case TOKEN_NUMBER:
        return parse_constant(p, p->token.value, out);
    case TOKEN_TRUE:
    case TOKEN_FALSE:
        return parse_constant(
            p, (struct filter_value){.type = FILTER_BOOLEAN, .b = p->token.kind == TOKEN_TRUE},
            out);
    case TOKEN_PARAM:
        out->value = param_operand(p, &p->token, false);
        return parser_next(p);
    case TOKEN_MINUS:
        return parse_negative(p, out);
    case TOKEN_OPEN:
        return parse_parentheses(p, out);
    case TOKEN_NAME:
        return parse_name(p, out);
    case TOKEN_END:
        return parser_fail(p, p->token.at, "the text ends where a value was expected");
    default:
        return parser_fail(p, p->token.at, "a value was expected here");
    }
}

/* Makes a condition of what was parsed. */
static bool decide(struct filter_parser *p, struct filter_part *part)
{
    if (part->is_condition) {
        return true;
    }
    part->is_condition = true;
    return emit_test(p, FILTER_TRUTH, &part->value, 1);
}

static bool parse_not(struct filter_parser *p, struct filter_part *out)
{
    if (p->token.kind != TOKEN_NOT) {
        return parse_simple(p, out);
    }
    size_t from = p->m->op_count;
    if (!deeper(p) || !parser_next(p) || !parse_not(p, out) || !decide(p, out)) {
        return false;
    }
    p->depth--;
    not_conjunct(p, from);
    out->refusal = "`not` binds tighter than a comparison: write not (a == b)";
    return emit(p, (struct filter_op){.code = FILTER_NOT});
}

static bool is_comparison(enum filter_token_kind kind)
{
    return kind >= TOKEN_EQ && kind <= TOKEN_GE;
}

static bool parse_comparison(struct filter_parser *p, struct filter_part *out)
{
    if (!parse_not(p, out)) {
        return false;
    }
    if (!is_comparison(p->token.kind)) {
        return true;
    }
    struct filter_part right;
    struct filter_token sign = p->token;
    if (out->is_condition) {
        return parser_fail(p, sign.at, out->refusal);
    }
    if (!parser_next(p)) {
        return false;
    }
    size_t at = p->token.at;
    if (!parse_not(p, &right)) {
        return false;
    }
    if (right.is_condition) {
        return parser_fail(p, at, "a value was expected here, not a condition");
    }
    if (is_comparison(p->token.kind)) {
        return parser_fail(p, p->token.at, "comparisons do not chain: write a < b and b < c");
    }
    struct filter_operand v[2] = {out->value, right.value};
    out->is_condition = true;
    return emit_test(p, (enum filter_code)(FILTER_EQ + (sign.kind - TOKEN_EQ)), v, 2);
}

/* a OP b OP c ..., where each jump leads behind the last. The open jumps form a chain through their
 * targets. */
static bool parse_chain(struct filter_parser *p, struct filter_part *out,
                        enum filter_token_kind word, enum filter_code jump,
                        bool (*parse)(struct filter_parser *p, struct filter_part *out))
{
    struct filter *m = p->m;
    uint16_t open = END_OF_JUMPS;
    size_t from = m->op_count;
    if (!parse(p, out)) {
        return false;
    }
    while (p->token.kind == word) {
        struct filter_part right;
        if (!decide(p, out) || !emit(p, (struct filter_op){.code = jump, .target = open})) {
            return false;
        }
        open = (uint16_t)(m->op_count - 1);
        if (!parser_next(p) || !parse(p, &right) || !decide(p, &right)) {
            return false;
        }
        if (word == TOKEN_OR) {
            not_conjunct(p, from);
        }
    }
    while (open != END_OF_JUMPS) {
        uint16_t before = m->ops[open].target;
        m->ops[open].target = (uint16_t)m->op_count;
        open = before;
    }
    return true;
}

static bool parse_and(struct filter_parser *p, struct filter_part *out)
{
    return parse_chain(p, out, TOKEN_AND, FILTER_UNLESS, parse_comparison);
}

static bool parse_or(struct filter_parser *p, struct filter_part *out)
{
    return parse_chain(p, out, TOKEN_OR, FILTER_IF, parse_and);
}

static bool parse_text(struct filter_parser *p)
{
    struct filter_part all;
    if (!parser_next(p) || !parse_or(p, &all) || !decide(p, &all)) {
        return false;
    }
    return p->token.kind == TOKEN_END ||
           parser_fail(p, p->token.at, "the end of the condition, `and` or `or` was expected");
}

static void filter_free(struct filter *m)
{
    for (size_t i = 0; i < m->network_count; i++) {
        free(m->networks[i]);
    }
    free(m->networks);
    free(m->params);
    free(m->constants);
    free(m->operands);
    free(m->ops);
    free(m->seen);
    free(m->strings);
    free(m->text);
    free(m);
}

const struct filter *filter_compile(struct filter_set *set, struct slice text,
                                    struct filter_error *e)
{
    *e = (struct filter_error){.line = 1, .column = 1, .text = "longer than 8192 bytes"};
    if (text.n > FILTER_TEXT_MAX_BYTES) {
        return NULL;
    }
    *e = (struct filter_error){0};
    struct filter *m = xcalloc(1, sizeof *m);
    m->set = set;
    m->text = xstrndup(text.p, text.n);
    m->text_len = text.n;
    m->strings = xmalloc(text.n + 1); /* decoded text is never longer */
    struct filter_parser p = {.m = m, .e = e};
    p.lexer = (struct filter_lexer){m->text, text.n, 0, m->strings, e};
    if (!parse_text(&p)) {
        filter_free(m);
        return NULL;
    }
    m->seen = set->counts ? xcalloc(m->op_count + 1, sizeof *m->seen) : NULL;
    m->next = set->all;
    set->all = m;
    return m;
}

void filter_programs_free(struct filter *all)
{
    while (all) {
        struct filter *next = all->next;
        filter_free(all);
        all = next;
    }
}
