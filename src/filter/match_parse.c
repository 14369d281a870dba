/* Filter text -> program. Recursive descent with Lua's precedences; conditions and values are told
 * apart, so that what Lua would answer by accident (`not a == b`, `a < b < c`) does not load. */
#include "base/xalloc.h"
#include "filter/match_parser.h"

#include <stdlib.h>
#include <string.h>

enum { OPS_MAX = 1000, OPERANDS_MAX = 4000, END_OF_JUMPS = UINT16_MAX };

static bool parse_or(struct match_parser *p, struct match_part *out);

bool match_parse_fail(struct match_parser *p, size_t at, const char *text)
{
    return match_fail(p->e, p->m->text, at, "%s", text);
}

bool match_parse_next(struct match_parser *p)
{
    return match_lex(&p->lexer, &p->token);
}

bool match_parse_expect(struct match_parser *p, enum match_token_kind kind, const char *what)
{
    return p->token.kind == kind ? match_parse_next(p) : match_parse_fail(p, p->token.at, what);
}

/* ---- emitting */

void *match_parse_grown(void *list, size_t n, size_t size)
{
    return n & (n - 1) ? list : xrealloc(list, (n ? 2 * n : 1) * size); /* at powers of two */
}

static bool emit(struct match_parser *p, struct match_op op)
{
    struct match *m = p->m;
    if (m->op_count == OPS_MAX) {
        return match_parse_fail(p, p->token.at, "too many conditions in one filter");
    }
    m->ops = match_parse_grown(m->ops, m->op_count, sizeof *m->ops);
    m->ops[m->op_count++] = op;
    return true;
}

bool match_parse_push(struct match_parser *p, struct match_operand o)
{
    struct match *m = p->m;
    if (m->operand_count == OPERANDS_MAX) {
        return match_parse_fail(p, p->token.at, "too many values in one filter");
    }
    m->operands = match_parse_grown(m->operands, m->operand_count, sizeof *m->operands);
    m->operands[m->operand_count++] = o;
    return true;
}

bool match_parse_test(struct match_parser *p, enum match_code code, const struct match_operand *v,
                      size_t n)
{
    struct match_op op = {.code = code, .conjunct = true};
    op.first = (uint16_t)p->m->operand_count;
    op.count = (uint16_t)n;
    for (size_t i = 0; i < n; i++) {
        if (!match_parse_push(p, v[i])) {
            return false;
        }
    }
    return emit(p, op);
}

/* What stands under `or` or `not` need not be true for the whole to be. */
static void not_conjunct(struct match_parser *p, size_t from)
{
    for (size_t i = from; i < p->m->op_count; i++) {
        p->m->ops[i].conjunct = false;
    }
}

/* ---- expressions, from the tightest to the loosest */

static bool parse_negative(struct match_parser *p, struct match_part *out)
{
    size_t at = p->token.at;
    if (!match_parse_next(p)) {
        return false;
    }
    if (p->token.kind != TOKEN_NUMBER) {
        return match_parse_fail(p, at,
                                "'-': a number was expected behind it; filters cannot calculate");
    }
    struct match_value v = p->token.value;
    if (v.type == MATCH_INTEGER) {
        v.i = -v.i;
    } else {
        v.f = -v.f;
    }
    out->value = match_parse_constant(p, v, at, p->token.at + p->token.n);
    return match_parse_next(p);
}

static bool deeper(struct match_parser *p)
{
    return ++p->depth <= MATCH_DEPTH_MAX ||
           match_parse_fail(p, p->token.at,
                            "parentheses and `not` are nested too deep (32 is the most)");
}

static bool parse_parentheses(struct match_parser *p, struct match_part *out)
{
    if (!deeper(p) || !match_parse_next(p) || !parse_or(p, out)) {
        return false;
    }
    p->depth--;
    out->refusal = "a condition in parentheses cannot be compared";
    return match_parse_expect(p, TOKEN_CLOSE, "')' was expected");
}

static bool parse_constant(struct match_parser *p, struct match_value v, struct match_part *out)
{
    out->value = match_parse_constant(p, v, p->token.at, p->token.at + p->token.n);
    return match_parse_next(p);
}

bool match_parse_simple(struct match_parser *p, struct match_part *out)
{
    *out = (struct match_part){0};
    switch ((int)p->token.kind) {
    case TOKEN_STRING:
    case TOKEN_NUMBER:
        return parse_constant(p, p->token.value, out);
    case TOKEN_TRUE:
    case TOKEN_FALSE:
        return parse_constant(
            p, (struct match_value){.type = MATCH_BOOLEAN, .b = p->token.kind == TOKEN_TRUE}, out);
    case TOKEN_PARAM:
        out->value = match_parse_param(p, &p->token, false);
        return match_parse_next(p);
    case TOKEN_MINUS:
        return parse_negative(p, out);
    case TOKEN_OPEN:
        return parse_parentheses(p, out);
    case TOKEN_NAME:
        return match_parse_name(p, out);
    case TOKEN_END:
        return match_parse_fail(p, p->token.at, "the text ends where a value was expected");
    default:
        return match_parse_fail(p, p->token.at, "a value was expected here");
    }
}

/* Makes a condition of what was parsed. */
static bool decide(struct match_parser *p, struct match_part *part)
{
    if (part->is_condition) {
        return true;
    }
    part->is_condition = true;
    return match_parse_test(p, MATCH_TRUTH, &part->value, 1);
}

static bool parse_not(struct match_parser *p, struct match_part *out)
{
    if (p->token.kind != TOKEN_NOT) {
        return match_parse_simple(p, out);
    }
    size_t from = p->m->op_count;
    if (!deeper(p) || !match_parse_next(p) || !parse_not(p, out) || !decide(p, out)) {
        return false;
    }
    p->depth--;
    not_conjunct(p, from);
    out->refusal = "`not` binds tighter than a comparison: write not (a == b)";
    return emit(p, (struct match_op){.code = MATCH_NOT});
}

static bool is_comparison(enum match_token_kind kind)
{
    return kind >= TOKEN_EQ && kind <= TOKEN_GE;
}

static bool parse_comparison(struct match_parser *p, struct match_part *out)
{
    if (!parse_not(p, out)) {
        return false;
    }
    if (!is_comparison(p->token.kind)) {
        return true;
    }
    struct match_part right;
    struct match_token sign = p->token;
    if (out->is_condition) {
        return match_parse_fail(p, sign.at, out->refusal);
    }
    if (!match_parse_next(p)) {
        return false;
    }
    size_t at = p->token.at;
    if (!parse_not(p, &right)) {
        return false;
    }
    if (right.is_condition) {
        return match_parse_fail(p, at, "a value was expected here, not a condition");
    }
    if (is_comparison(p->token.kind)) {
        return match_parse_fail(p, p->token.at, "comparisons do not chain: write a < b and b < c");
    }
    struct match_operand v[2] = {out->value, right.value};
    out->is_condition = true;
    return match_parse_test(p, (enum match_code)(MATCH_EQ + (sign.kind - TOKEN_EQ)), v, 2);
}

/* a OP b OP c ..., where each jump leads behind the last. The open jumps form a chain through their
 * targets. */
static bool parse_chain(struct match_parser *p, struct match_part *out, enum match_token_kind word,
                        enum match_code jump,
                        bool (*parse)(struct match_parser *p, struct match_part *out))
{
    struct match *m = p->m;
    uint16_t open = END_OF_JUMPS;
    size_t from = m->op_count;
    if (!parse(p, out)) {
        return false;
    }
    while (p->token.kind == word) {
        struct match_part right;
        if (!decide(p, out) || !emit(p, (struct match_op){.code = jump, .target = open})) {
            return false;
        }
        open = (uint16_t)(m->op_count - 1);
        if (!match_parse_next(p) || !parse(p, &right) || !decide(p, &right)) {
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

static bool parse_and(struct match_parser *p, struct match_part *out)
{
    return parse_chain(p, out, TOKEN_AND, MATCH_UNLESS, parse_comparison);
}

static bool parse_or(struct match_parser *p, struct match_part *out)
{
    return parse_chain(p, out, TOKEN_OR, MATCH_IF, parse_and);
}

static bool parse_text(struct match_parser *p)
{
    struct match_part all;
    if (!match_parse_next(p) || !parse_or(p, &all) || !decide(p, &all)) {
        return false;
    }
    return p->token.kind == TOKEN_END ||
           match_parse_fail(p, p->token.at, "the condition should end here, or go on with and, or");
}

static void match_free(struct match *m)
{
    for (size_t i = 0; i < m->network_count; i++) {
        free(m->networks[i]);
    }
    free(m->networks);
    free(m->params);
    free(m->constants);
    free(m->operands);
    free(m->ops);
    free(m->strings);
    free(m->text);
    free(m);
}

const struct match *match_compile(struct match_set *set, struct slice text, struct match_error *e)
{
    *e = (struct match_error){.line = 1, .column = 1, .text = "longer than 8192 bytes"};
    if (text.n > MATCH_TEXT_MAX_BYTES) {
        return NULL;
    }
    *e = (struct match_error){0};
    struct match *m = xcalloc(1, sizeof *m);
    m->set = set;
    m->text = xstrndup(text.p, text.n);
    m->text_len = text.n;
    m->strings = xmalloc(text.n + 1); /* decoded text is never longer */
    struct match_parser p = {.m = m, .e = e};
    p.lexer = (struct match_lexer){m->text, text.n, 0, m->strings, e};
    if (!parse_text(&p)) {
        match_free(m);
        return NULL;
    }
    m->next = set->all;
    set->all = m;
    return m;
}

void match_programs_free(struct match *all)
{
    while (all) {
        struct match *next = all->next;
        match_free(all);
        all = next;
    }
}
