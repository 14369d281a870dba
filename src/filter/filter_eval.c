/* Runs a compiled filter text: ops in order, around one flag. */
#include "base/text/json_text.h"
#include "base/text/uri_template.h"
#include "base/text/url_pattern.h"
#include "filter/filter_state.h"

#include <math.h>

static const struct filter_value missing = {.type = FILTER_MISSING};

static bool mismatch(struct filter_run *r)
{
    r->set->mismatches++;
    return false;
}

static bool is_missing(struct filter_run *r, const struct filter_value *v)
{
    if (v->type != FILTER_MISSING) {
        return false;
    }
    r->set->missing++;
    return true;
}

static bool degrees(const struct filter_value *v, double *out)
{
    *out = v->type == FILTER_FLOAT ? v->f : v->type == FILTER_INTEGER ? (double)v->i : 0;
    return v->type == FILTER_FLOAT || v->type == FILTER_INTEGER;
}

/* Great circle on a sphere of the Earth's mean radius: within 0.6 % of the ellipsoid. */
static double haversine_km(double lat1, double lon1, double lat2, double lon2)
{
    static const double radius_km = 6371.0088, rad = 0.017453292519943295;
    double x = sin((lat2 - lat1) * rad / 2), y = sin((lon2 - lon1) * rad / 2);
    double h = x * x + cos(lat1 * rad) * cos(lat2 * rad) * y * y;
    return 2 * radius_km * asin(sqrt(h < 1 ? h : 1));
}

static struct filter_value distance(struct filter_run *r, const struct filter_operand *o)
{
    double d[4];
    for (unsigned i = 0; i < 4; i++) {
        const struct filter_value *v = filter_operand_value(r, &r->m->operands[o->index + i], 0);
        if (is_missing(r, v)) {
            return missing;
        }
        if (!degrees(v, &d[i])) {
            mismatch(r);
            return missing;
        }
    }
    return (struct filter_value){.type = FILTER_FLOAT, .f = haversine_km(d[0], d[1], d[2], d[3])};
}

/* A decimal numeral with white space around it, as Lua's tonumber() has it; else there is no
 * number.
 */
static struct filter_value to_number(const struct filter_value *v)
{
    struct filter_value out;
    return v->type == FILTER_INTEGER || v->type == FILTER_FLOAT              ? *v
           : v->type == FILTER_STRING && filter_value_of_numeral(v->s, &out) ? out
                                                                             : missing;
}

const struct filter_value *filter_operand_value(struct filter_run *r,
                                                const struct filter_operand *o, unsigned slot)
{
    switch (o->kind) {
    case OPERAND_CONSTANT:
        return &r->m->constants[o->index];
    case OPERAND_PARAM:
        return &r->args->values[o->index];
    case OPERAND_FIELD:
        return filter_field_value(r->set, o->index);
    case OPERAND_DISTANCE:
        r->made[slot] = distance(r, o);
        return &r->made[slot];
    case OPERAND_NUMBER:
        r->made[slot] = to_number(filter_operand_value(r, &r->m->operands[o->index], slot));
        return &r->made[slot];
    case OPERAND_SET:
        break;
    }
    return &missing;
}

static bool compare(struct filter_run *r, enum filter_code code, const struct filter_value *a,
                    const struct filter_value *b)
{
    enum filter_order o = filter_value_compare(a, b);
    if (o == FILTER_DIFFERENT || (o == FILTER_UNEQUAL && code >= FILTER_LT) ||
        (o == FILTER_EQUAL && code >= FILTER_LT && a->type == FILTER_BOOLEAN)) {
        return mismatch(r);
    }
    switch ((int)code) {
    case FILTER_EQ:
        return o == FILTER_EQUAL;
    case FILTER_NE:
        return o != FILTER_EQUAL;
    case FILTER_LT:
        return o == FILTER_LESS;
    case FILTER_LE:
        return o == FILTER_LESS || o == FILTER_EQUAL;
    case FILTER_GT:
        return o == FILTER_GREATER;
    default:
        return o == FILTER_GREATER || o == FILTER_EQUAL;
    }
}

static bool equal_scalars(struct filter_run *r, const struct filter_value *a,
                          const struct filter_value *b)
{
    enum filter_order o = filter_value_compare(a, b);
    return o == FILTER_DIFFERENT ? mismatch(r) : o == FILTER_EQUAL;
}

static bool is_one_of(struct filter_run *r, const struct filter_value *x,
                      const struct filter_value *v)
{
    if (v->type != FILTER_LIST) {
        return !is_missing(r, v) && equal_scalars(r, x, v);
    }
    for (size_t i = 0; i < v->list.n; i++) {
        if (filter_value_equal(x, &v->list.v[i])) {
            return true;
        }
    }
    return false;
}

static bool one_of(struct filter_run *r, const struct filter_op *op)
{
    const struct filter_operand *o = &r->m->operands[op->first];
    const struct filter_value *x = filter_operand_value(r, o, 0);
    if (is_missing(r, x)) {
        return false;
    }
    for (unsigned i = 1; i < op->count; i++) {
        if (is_one_of(r, x, filter_operand_value(r, o + i, 1))) {
            return true;
        }
    }
    return false;
}

static bool contains_json(struct slice array, const struct filter_value *x)
{
    struct slice element;
    json_text_take(&array, '[');
    while (json_text_value(&array, &element)) {
        bool string = *element.p == '"';
        char *none = NULL;
        if (string && x->type == FILTER_STRING) {
            if (json_text_string_is(element, x->s)) {
                return true;
            }
        } else if (!string) {
            struct filter_value v = filter_value_of_json(element, &none);
            if (filter_value_equal(&v, x)) {
                return true;
            }
        }
        json_text_take(&array, ',');
    }
    return false;
}

static bool contains(struct filter_run *r, const struct filter_value *list,
                     const struct filter_value *x)
{
    if (x->type == FILTER_LIST || x->type == FILTER_JSON) {
        return mismatch(r);
    }
    if (list->type == FILTER_LIST) {
        return is_one_of(r, x, list);
    }
    return list->type == FILTER_JSON && *list->s.p == '[' ? contains_json(list->s, x) : mismatch(r);
}

static bool in_networks(struct filter_run *r, const struct filter_value *ip,
                        const struct filter_value *v)
{
    struct peer_address a;
    if (ip->type != FILTER_STRING || !peer_address_parse(ip->s, &a)) {
        return mismatch(r);
    }
    if (v->type == FILTER_NETWORK) {
        return network_contains(v->network, &a);
    }
    for (size_t i = 0; v->type == FILTER_LIST && i < v->list.n; i++) {
        if (network_contains(v->list.v[i].network, &a)) {
            return true;
        }
    }
    return false;
}

static bool has_edge(struct filter_run *r, enum filter_code code, const struct filter_value *text,
                     const struct filter_value *part)
{
    if (text->type != FILTER_STRING || part->type != FILTER_STRING) {
        return mismatch(r);
    }
    if (part->s.n > text->s.n) {
        return false;
    }
    const char *from = text->s.p + (code == FILTER_ENDS_WITH ? text->s.n - part->s.n : 0);
    return slice_eq(slice_of(from, part->s.n), part->s);
}

/* Of a list one is enough. */
static bool filter_eval_fits(struct filter_run *r, enum filter_code code,
                             const struct filter_value *text, const struct filter_value *v)
{
    bool (*fits)(struct slice pattern, struct slice text) =
        code == FILTER_FITS_TEMPLATE ? uri_template_fits : url_pattern_fits;
    bool list = v->type == FILTER_LIST;
    if (text->type != FILTER_STRING || (!list && v->type != FILTER_STRING)) {
        return mismatch(r);
    }
    for (size_t i = 0; list && i < v->list.n; i++) {
        const struct filter_value *t = &v->list.v[i];
        if (t->type == FILTER_STRING && fits(t->s, text->s)) {
            return true;
        }
    }
    return !list && fits(v->s, text->s);
}

/* Without its values nothing is known, whatever `x` is. */
static bool in_set(struct filter_run *r, const struct filter_operand *o)
{
    const struct value_slot *slot = r->set->sets[o[1].index].slot;
    const struct value_set *values = slot ? slot->values : NULL;
    if (!values) {
        r->refused = true;
        return false;
    }
    const struct filter_value *x = filter_operand_value(r, o, 0);
    if (is_missing(r, x)) {
        return false;
    }
    bool scalar = x->type == FILTER_STRING || x->type == FILTER_INTEGER ||
                  x->type == FILTER_FLOAT || x->type == FILTER_BOOLEAN;
    if (!scalar || value_set_is_other_type(values, x)) {
        return mismatch(r);
    }
    return value_set_has(values, x);
}

static bool op_test(struct filter_run *r, const struct filter_op *op)
{
    const struct filter_operand *o = &r->m->operands[op->first];
    if (op->code == FILTER_ONE_OF) {
        return one_of(r, op);
    }
    if (op->code == FILTER_IN_SET) {
        return in_set(r, o);
    }
    const struct filter_value *a = filter_operand_value(r, o, 0);
    if (op->code == FILTER_HAS) {
        return a->type != FILTER_MISSING;
    }
    if (is_missing(r, a)) {
        return false;
    }
    if (op->code == FILTER_TRUTH) {
        return a->type == FILTER_BOOLEAN ? a->b : mismatch(r);
    }
    const struct filter_value *b = filter_operand_value(r, o + 1, 1);
    if (is_missing(r, b)) {
        return false;
    }
    switch ((int)op->code) {
    case FILTER_STARTS_WITH:
    case FILTER_ENDS_WITH:
        return has_edge(r, op->code, a, b);
    case FILTER_CONTAINS:
        return contains(r, a, b);
    case FILTER_CIDR:
        return in_networks(r, a, b);
    case FILTER_FITS_TEMPLATE:
    case FILTER_FITS_URL_PATTERN:
        return filter_eval_fits(r, op->code, a, b);
    default:
        return compare(r, op->code, a, b);
    }
}

/* The one interpreter: inlined twice, so that delivery pays nothing for the trace. */
static inline __attribute__((always_inline)) bool filter_eval_run(struct filter_run *r,
                                                                  filter_trace_cb trace, void *ctx)
{
    const struct filter *f = r->m;
    bool flag = false;
    for (size_t i = 0; i < f->op_count;) {
        const struct filter_op *op = &f->ops[i++];
        switch ((int)op->code) {
        case FILTER_NOT:
            flag = !flag;
            break;
        case FILTER_UNLESS:
            i = flag ? i : op->target;
            break;
        case FILTER_IF:
            i = flag ? op->target : i;
            break;
        default:
            flag = op_test(r, op);
            if (trace) {
                trace(ctx, r, op, flag);
            }
            if (r->refused) {
                r->set->refused++;
                return false;
            }
        }
    }
    return flag && !r->set->failed;
}

bool filter_run_traced(struct filter_run *r, filter_trace_cb trace, void *ctx)
{
    return filter_eval_run(r, trace, ctx);
}

static void filter_note(void *ctx, struct filter_run *r, const struct filter_op *op, bool result)
{
    struct filter_seen *seen = &r->m->seen[op - r->m->ops];
    (void)ctx;
    seen->yes += result;
    seen->no += !result;
}

bool filter_test(const struct filter_args *a, struct event *ev)
{
    struct filter_run r = {.m = a->m, .args = a, .set = a->m->set};
    filter_set_event(r.set, ev);
    return __builtin_expect(a->m->seen != NULL, 0) ? filter_run_traced(&r, filter_note, NULL)
                                                   : filter_eval_run(&r, NULL, NULL);
}
