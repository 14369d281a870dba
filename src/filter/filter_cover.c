/* Which conditions of a text were true, and which were false. */
#include "filter/filter_state.h"

struct slice filter_text(const struct filter *m)
{
    return slice_of(m->text, m->text_len);
}

/* Operands say where they are written. What is between them belongs to the condition, and so do the words and
 * parentheses of a function around them. */
static struct filter_condition filter_condition_of(const struct filter *m,
                                                   const struct filter_op *op)
{
    const struct filter_operand *first = &m->operands[op->first];
    const struct filter_operand *last = first + op->count - 1;
    size_t from = first->at, to = (size_t)last->at + last->n;
    if (op->code > FILTER_TRUTH) {
        while (from > 0 && m->text[from - 1] != '(') {
            from--;
        }
        from -= from > 0;
        while (from > 0 && (m->text[from - 1] == ' ' || m->text[from - 1] == '\t')) {
            from--;
        }
        while (from > 0 && (m->text[from - 1] == '_' ||
                            (m->text[from - 1] >= 'a' && m->text[from - 1] <= 'z'))) {
            from--;
        }
        while (to < m->text_len && m->text[to - 1] != ')') {
            to++;
        }
    }
    return (struct filter_condition){.text = slice_of(m->text + from, to - from), .offset = from};
}

void filter_each_condition(const struct filter *m,
                           void (*each)(void *ctx, const struct filter_condition *c), void *ctx)
{
    for (size_t i = 0; m->seen && i < m->op_count; i++) {
        if (m->ops[i].code < FILTER_NOT) {
            struct filter_condition c = filter_condition_of(m, &m->ops[i]);
            c.yes = m->seen[i].yes;
            c.no = m->seen[i].no;
            each(ctx, &c);
        }
    }
}
