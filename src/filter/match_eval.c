/* Runs a compiled filter text: ops in order, around one flag. */
#include "base/json_text.h"
#include "filter/match_state.h"

#include <math.h>

static const struct match_value missing = {.type = MATCH_MISSING};

static bool mismatch(struct match_run *r)
{
    r->set->mismatches++;
    return false;
}

static bool is_missing(struct match_run *r, const struct match_value *v)
{
    if (v->type != MATCH_MISSING) {
        return false;
    }
    r->set->missing++;
    return true;
}

static bool degrees(const struct match_value *v, double *out)
{
    *out = v->type == MATCH_FLOAT ? v->f : v->type == MATCH_INTEGER ? (double)v->i : 0;
    return v->type == MATCH_FLOAT || v->type == MATCH_INTEGER;
}

/* Great circle on a sphere of the Earth's mean radius: within 0.6 % of the ellipsoid. */
static double haversine_km(double lat1, double lon1, double lat2, double lon2)
{
    static const double radius_km = 6371.0088, rad = 0.017453292519943295;
    double x = sin((lat2 - lat1) * rad / 2), y = sin((lon2 - lon1) * rad / 2);
    double h = x * x + cos(lat1 * rad) * cos(lat2 * rad) * y * y;
    return 2 * radius_km * asin(sqrt(h < 1 ? h : 1));
}

static struct match_value distance(struct match_run *r, const struct match_operand *o)
{
    double d[4];
    for (unsigned i = 0; i < 4; i++) {
        const struct match_value *v = match_operand_value(r, &r->m->operands[o->index + i], 0);
        if (is_missing(r, v)) {
            return missing;
        }
        if (!degrees(v, &d[i])) {
            mismatch(r);
            return missing;
        }
    }
    return (struct match_value){.type = MATCH_FLOAT, .f = haversine_km(d[0], d[1], d[2], d[3])};
}

/* A decimal numeral with white space around it, as Lua's tonumber() has it; else there is no
 * number.
 */
static struct match_value to_number(const struct match_value *v)
{
    struct match_value out;
    return v->type == MATCH_INTEGER || v->type == MATCH_FLOAT              ? *v
           : v->type == MATCH_STRING && match_value_of_numeral(v->s, &out) ? out
                                                                           : missing;
}

const struct match_value *match_operand_value(struct match_run *r, const struct match_operand *o,
                                              unsigned slot)
{
    switch (o->kind) {
    case OPERAND_CONSTANT:
        return &r->m->constants[o->index];
    case OPERAND_PARAM:
        return &r->args->values[o->index];
    case OPERAND_FIELD:
        return match_field_value(r->set, o->index);
    case OPERAND_DISTANCE:
        r->made[slot] = distance(r, o);
        return &r->made[slot];
    case OPERAND_NUMBER:
        r->made[slot] = to_number(match_operand_value(r, &r->m->operands[o->index], slot));
        return &r->made[slot];
    }
    return &missing;
}

static bool compare(struct match_run *r, enum match_code code, const struct match_value *a,
                    const struct match_value *b)
{
    enum match_order o = match_value_compare(a, b);
    if (o == MATCH_DIFFERENT || (o == MATCH_UNEQUAL && code >= MATCH_LT) ||
        (o == MATCH_EQUAL && code >= MATCH_LT && a->type == MATCH_BOOLEAN)) {
        return mismatch(r);
    }
    switch ((int)code) {
    case MATCH_EQ:
        return o == MATCH_EQUAL;
    case MATCH_NE:
        return o != MATCH_EQUAL;
    case MATCH_LT:
        return o == MATCH_LESS;
    case MATCH_LE:
        return o == MATCH_LESS || o == MATCH_EQUAL;
    case MATCH_GT:
        return o == MATCH_GREATER;
    default:
        return o == MATCH_GREATER || o == MATCH_EQUAL;
    }
}

static bool equal_scalars(struct match_run *r, const struct match_value *a,
                          const struct match_value *b)
{
    enum match_order o = match_value_compare(a, b);
    return o == MATCH_DIFFERENT ? mismatch(r) : o == MATCH_EQUAL;
}

static bool is_one_of(struct match_run *r, const struct match_value *x, const struct match_value *v)
{
    if (v->type != MATCH_LIST) {
        return !is_missing(r, v) && equal_scalars(r, x, v);
    }
    for (size_t i = 0; i < v->list.n; i++) {
        if (match_value_equal(x, &v->list.v[i])) {
            return true;
        }
    }
    return false;
}

static bool one_of(struct match_run *r, const struct match_op *op)
{
    const struct match_operand *o = &r->m->operands[op->first];
    const struct match_value *x = match_operand_value(r, o, 0);
    if (is_missing(r, x)) {
        return false;
    }
    for (unsigned i = 1; i < op->count; i++) {
        if (is_one_of(r, x, match_operand_value(r, o + i, 1))) {
            return true;
        }
    }
    return false;
}

static bool contains_json(struct slice array, const struct match_value *x)
{
    struct slice element;
    json_text_take(&array, '[');
    while (json_text_value(&array, &element)) {
        bool string = *element.p == '"';
        char *none = NULL;
        if (string && x->type == MATCH_STRING) {
            if (json_text_string_is(element, x->s)) {
                return true;
            }
        } else if (!string) {
            struct match_value v = match_value_of_json(element, &none);
            if (match_value_equal(&v, x)) {
                return true;
            }
        }
        json_text_take(&array, ',');
    }
    return false;
}

static bool contains(struct match_run *r, const struct match_value *list,
                     const struct match_value *x)
{
    if (x->type == MATCH_LIST || x->type == MATCH_JSON) {
        return mismatch(r);
    }
    if (list->type == MATCH_LIST) {
        return is_one_of(r, x, list);
    }
    return list->type == MATCH_JSON && *list->s.p == '[' ? contains_json(list->s, x) : mismatch(r);
}

static bool in_networks(struct match_run *r, const struct match_value *ip,
                        const struct match_value *v)
{
    struct peer_address a;
    if (ip->type != MATCH_STRING || !peer_address_parse(ip->s, &a)) {
        return mismatch(r);
    }
    if (v->type == MATCH_NETWORK) {
        return network_contains(v->network, &a);
    }
    for (size_t i = 0; v->type == MATCH_LIST && i < v->list.n; i++) {
        if (network_contains(v->list.v[i].network, &a)) {
            return true;
        }
    }
    return false;
}

static bool has_edge(struct match_run *r, enum match_code code, const struct match_value *text,
                     const struct match_value *part)
{
    if (text->type != MATCH_STRING || part->type != MATCH_STRING) {
        return mismatch(r);
    }
    if (part->s.n > text->s.n) {
        return false;
    }
    const char *from = text->s.p + (code == MATCH_ENDS_WITH ? text->s.n - part->s.n : 0);
    return slice_eq(slice_of(from, part->s.n), part->s);
}

bool match_op_test(struct match_run *r, const struct match_op *op)
{
    const struct match_operand *o = &r->m->operands[op->first];
    if (op->code == MATCH_ONE_OF) {
        return one_of(r, op);
    }
    const struct match_value *a = match_operand_value(r, o, 0);
    if (op->code == MATCH_HAS) {
        return a->type != MATCH_MISSING;
    }
    if (is_missing(r, a)) {
        return false;
    }
    if (op->code == MATCH_TRUTH) {
        return a->type == MATCH_BOOLEAN ? a->b : mismatch(r);
    }
    const struct match_value *b = match_operand_value(r, o + 1, 1);
    if (is_missing(r, b)) {
        return false;
    }
    switch ((int)op->code) {
    case MATCH_STARTS_WITH:
    case MATCH_ENDS_WITH:
        return has_edge(r, op->code, a, b);
    case MATCH_CONTAINS:
        return contains(r, a, b);
    case MATCH_CIDR:
        return in_networks(r, a, b);
    default:
        return compare(r, op->code, a, b);
    }
}

bool match_test(const struct match_args *a, struct event *ev)
{
    const struct match *m = a->m;
    struct match_run r = {.m = m, .args = a, .set = m->set};
    bool flag = false;
    match_set_event(m->set, ev);
    for (size_t i = 0; i < m->op_count;) {
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
            flag = match_op_test(&r, op);
        }
    }
    return flag && !m->set->failed;
}
