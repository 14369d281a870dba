/* The explaining twin of match_test(): the same program, the same tests, with words. */
#include "filter/match_state.h"

static const char *const names[] = {
    [MATCH_EQ] = "==",
    [MATCH_NE] = "~=",
    [MATCH_LT] = "<",
    [MATCH_LE] = "<=",
    [MATCH_GT] = ">",
    [MATCH_GE] = ">=",
    [MATCH_HAS] = "has",
    [MATCH_ONE_OF] = "one_of",
    [MATCH_STARTS_WITH] = "starts_with",
    [MATCH_ENDS_WITH] = "ends_with",
    [MATCH_CONTAINS] = "contains",
    [MATCH_CIDR] = "cidr",
};

/* As it is written, and what it stands for. */
static int print_operand(struct match_run *r, const struct match_operand *o, struct strbuf *out)
{
    int rc = strbuf_append(out, r->m->text + o->at, o->n);
    if (rc || o->kind == OPERAND_CONSTANT) {
        return rc;
    }
    rc = strbuf_append_str(out, "=");
    return rc ? rc : match_value_print(match_operand_value(r, o, 0), out);
}

static int print_call(struct match_run *r, const struct match_op *op, struct strbuf *out)
{
    int rc = strbuf_printf(out, "%s(", names[op->code]);
    for (unsigned i = 0; i < op->count && rc == 0; i++) {
        rc = i ? strbuf_append_str(out, ", ") : 0;
        rc = rc ? rc : print_operand(r, &r->m->operands[op->first + i], out);
    }
    return rc ? rc : strbuf_append_str(out, ")");
}

static int print_test(struct match_run *r, const struct match_op *op, struct strbuf *out)
{
    const struct match_operand *o = &r->m->operands[op->first];
    if (op->code > MATCH_TRUTH) {
        return print_call(r, op, out);
    }
    int rc = print_operand(r, o, out);
    if (rc || op->code == MATCH_TRUTH) {
        return rc;
    }
    rc = strbuf_printf(out, " %s ", names[op->code]);
    return rc ? rc : print_operand(r, o + 1, out);
}

static int trace(struct match_run *r, const struct match_op *op, bool *flag, struct strbuf *out)
{
    uint64_t mismatches = r->set->mismatches, absent = r->set->missing;
    *flag = match_op_test(r, op);
    const char *why = r->set->mismatches > mismatches ? " (the types do not fit)"
                      : r->set->missing > absent      ? " (missing)"
                                                      : "";
    mismatches = r->set->mismatches;
    absent = r->set->missing;
    int rc = print_test(r, op, out);
    r->set->mismatches = mismatches; /* printing is not asking */
    r->set->missing = absent;
    return rc ? rc : strbuf_printf(out, " = %s%s\n", *flag ? "true" : "false", why);
}

int match_explain(const struct match_args *a, struct event *ev, bool *deliver, struct strbuf *out)
{
    const struct match *m = a->m;
    struct match_run r = {.m = m, .args = a, .set = m->set};
    bool flag = false;
    int rc = 0;
    match_set_event(m->set, ev);
    for (size_t i = 0; i < m->op_count && rc == 0;) {
        const struct match_op *op = &m->ops[i++];
        switch ((int)op->code) {
        case MATCH_NOT:
            flag = !flag;
            break;
        case MATCH_UNLESS:
            i = flag ? i : op->target;
            break;
        case MATCH_IF:
            i = flag ? op->target : i;
            break;
        default:
            rc = trace(&r, op, &flag, out);
        }
    }
    *deliver = flag && !m->set->failed;
    return rc;
}
