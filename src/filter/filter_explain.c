/* filter_test() with words: each condition that was looked at becomes a line. */
#include "filter/filter_state.h"

static const char *const names[] = {
    [FILTER_EQ] = "==",
    [FILTER_NE] = "~=",
    [FILTER_LT] = "<",
    [FILTER_LE] = "<=",
    [FILTER_GT] = ">",
    [FILTER_GE] = ">=",
    [FILTER_HAS] = "has",
    [FILTER_ONE_OF] = "one_of",
    [FILTER_STARTS_WITH] = "starts_with",
    [FILTER_ENDS_WITH] = "ends_with",
    [FILTER_CONTAINS] = "contains",
    [FILTER_CIDR] = "cidr",
    [FILTER_IN_SET] = "in_set",
    [FILTER_FITS_TEMPLATE] = "fits_template",
    [FILTER_FITS_URL_PATTERN] = "fits_url_pattern",
};

/* As it is written, and what it stands for. */
static int print_operand(struct filter_run *r, const struct filter_operand *o, struct strbuf *out)
{
    int rc = strbuf_append(out, r->m->text + o->at, o->n);
    if (rc || o->kind == OPERAND_CONSTANT || o->kind == OPERAND_SET) {
        return rc;
    }
    rc = strbuf_append_str(out, "=");
    return rc ? rc : filter_value_print(filter_operand_value(r, o, 0), out);
}

static int print_call(struct filter_run *r, const struct filter_op *op, struct strbuf *out)
{
    int rc = strbuf_printf(out, "%s(", names[op->code]);
    for (unsigned i = 0; i < op->count && rc == 0; i++) {
        rc = i ? strbuf_append_str(out, ", ") : 0;
        rc = rc ? rc : print_operand(r, &r->m->operands[op->first + i], out);
    }
    return rc ? rc : strbuf_append_str(out, ")");
}

static int print_test(struct filter_run *r, const struct filter_op *op, struct strbuf *out)
{
    const struct filter_operand *o = &r->m->operands[op->first];
    if (op->code > FILTER_TRUTH) {
        return print_call(r, op, out);
    }
    int rc = print_operand(r, o, out);
    if (rc || op->code == FILTER_TRUTH) {
        return rc;
    }
    rc = strbuf_printf(out, " %s ", names[op->code]);
    return rc ? rc : print_operand(r, o + 1, out);
}

struct trace {
    struct strbuf *out;
    int rc;
    uint64_t mismatches, missing; /* counted so far: the next condition's own are what is above */
};

static void trace_op(void *ctx, struct filter_run *r, const struct filter_op *op, bool result)
{
    struct trace *t = ctx;
    struct filter_set *set = r->set;
    const char *why = r->refused ? " (the set has no values: all of the filter is false)"
                      : set->mismatches > t->mismatches ? " (the types do not fit)"
                      : set->missing > t->missing       ? " (missing)"
                                                        : "";
    t->mismatches = set->mismatches;
    t->missing = set->missing;
    t->rc = t->rc ? t->rc : print_test(r, op, t->out);
    t->rc = t->rc ? t->rc : strbuf_printf(t->out, " = %s%s\n", result ? "true" : "false", why);
    set->mismatches = t->mismatches; /* printing does not count */
    set->missing = t->missing;
}

int filter_explain(const struct filter_args *a, struct event *ev, bool *deliver, struct strbuf *out)
{
    struct filter_run r = {.m = a->m, .args = a, .set = a->m->set};
    struct trace t = {.out = out, .mismatches = r.set->mismatches, .missing = r.set->missing};
    filter_set_event(r.set, ev);
    *deliver = filter_run_traced(&r, trace_op, &t);
    return t.rc;
}
