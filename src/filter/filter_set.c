/* The filters of a policy and the fields they look at, and binding one of them to params. */
#include "base/alloc.h"
#include "base/require.h"
#include "base/text/json_text.h"
#include "filter/filter_state.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct filter_set *filter_set_new(void)
{
    return xcalloc(1, sizeof(struct filter_set));
}

void filter_field_clear(struct filter_field *f)
{
    for (size_t i = 0; i < f->step_count; i++) {
        free(f->steps[i].name);
    }
    free(f->steps);
    f->steps = NULL;
    f->step_count = 0;
}

void filter_set_free(struct filter_set *set)
{
    if (!set) {
        return;
    }
    filter_set_event(set, NULL);
    filter_programs_free(set->all);
    for (size_t i = 0; i < set->field_count; i++) {
        filter_field_clear(&set->fields[i]);
    }
    free(set);
}

void filter_set_count(struct filter_set *set)
{
    set->counts = true;
}

static bool same_field(const struct filter_field *a, const struct filter_field *b)
{
    if (a->kind != b->kind || a->step_count != b->step_count) {
        return false;
    }
    for (size_t i = 0; i < a->step_count; i++) {
        const struct filter_step *x = &a->steps[i], *y = &b->steps[i];
        if (!x->name != !y->name || x->index != y->index ||
            (x->name && !slice_eq(slice_of(x->name, x->name_n), slice_of(y->name, y->name_n)))) {
            return false;
        }
    }
    return true;
}

int filter_field_intern(struct filter_set *set, struct filter_field *f)
{
    size_t i = 0;
    while (i < set->field_count && !same_field(&set->fields[i], f)) {
        i++;
    }
    if (i == FILTER_FIELDS_MAX) {
        return -1;
    }
    if (i < set->field_count) {
        filter_field_clear(f);
    } else {
        set->fields[set->field_count++] = *f;
        *f = (struct filter_field){.kind = f->kind};
    }
    return (int)i;
}

bool filter_set_add_values(struct filter_set *set, const char *name)
{
    if (set->set_count == FILTER_SETS_MAX) {
        return false;
    }
    set->sets[set->set_count++] = (struct filter_values){.name = name};
    return true;
}

static struct filter_values *filter_set_find_values(struct filter_set *set, const char *name)
{
    size_t i = 0;
    while (i < set->set_count && strcmp(set->sets[i].name, name) != 0) {
        i++;
    }
    REQUIRE(i < set->set_count);
    return &set->sets[i];
}

void filter_set_bind_values(struct filter_set *set, const char *name, const struct value_slot *slot)
{
    filter_set_find_values(set, name)->slot = slot;
}

bool filter_set_uses_values(struct filter_set *set, const char *name)
{
    return filter_set_find_values(set, name)->used;
}

/* ---- binding */

/* Absent: `params` has none. */
static struct slice member(struct slice params, struct slice name)
{
    struct slice value = {NULL, 0};
    json_text_member(params, name, &value);
    return value;
}

/* Elements of a list of scalars. */
static size_t list_size(struct slice list)
{
    struct slice element;
    size_t n = 0;
    json_text_take(&list, '[');
    while (json_text_value(&list, &element)) {
        n++;
        json_text_take(&list, ',');
    }
    return n;
}

static bool is_list(struct slice json)
{
    return json.p && json.n && *json.p == '[';
}

static struct filter_value list_of(struct slice json, struct filter_value **next, char **room)
{
    struct filter_value out = {.type = FILTER_LIST};
    struct slice element;
    out.list.v = *next;
    json_text_take(&json, '[');
    while (json_text_value(&json, &element)) {
        *(*next)++ = filter_value_of_json(element, room);
        out.list.n++;
        json_text_take(&json, ',');
    }
    return out;
}

static bool is_optional(const struct filter *m, struct slice name)
{
    for (size_t i = 0; i < m->param_count; i++) {
        if (m->params[i].optional && slice_eq(m->params[i].name, name)) {
            return true;
        }
    }
    return false;
}

static int filter_set_to_network(struct filter_value *v, struct network **next, struct slice name,
                                 struct err *e)
{
    char text[64];
    struct err why = {.text = "a network like \"10.0.0.0/8\" was expected"};
    if (v->type != FILTER_STRING || v->s.n >= sizeof text || memchr(v->s.p, '\0', v->s.n)) {
        return err_set(e, UV_EINVAL, "params.%.*s: %s", (int)name.n, name.p, why.text);
    }
    memcpy(text, v->s.p, v->s.n);
    text[v->s.n] = '\0';
    if (network_parse(text, *next, &why)) {
        return err_set(e, UV_EINVAL, "params.%.*s: %s", (int)name.n, name.p, why.text);
    }
    *v = (struct filter_value){.type = FILTER_NETWORK, .network = (*next)++};
    return 0;
}

static int to_networks(struct filter_value *v, struct network **next, struct slice name,
                       struct err *e)
{
    if (v->type != FILTER_LIST) {
        return v->type == FILTER_MISSING ? 0 : filter_set_to_network(v, next, name, e);
    }
    struct filter_value *list = (struct filter_value *)(uintptr_t)v->list.v; /* of these args */
    for (size_t i = 0; i < v->list.n; i++) {
        int rc = filter_set_to_network(&list[i], next, name, e);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

struct sizes {
    size_t values, networks, room;
};

static int filter_set_measure(const struct filter *m, struct slice params, struct sizes *out,
                              struct err *e)
{
    *out = (struct sizes){.values = m->param_count};
    for (size_t i = 0; i < m->param_count; i++) {
        struct slice name = m->params[i].name, json = member(params, name);
        if (!json.p && !is_optional(m, name)) {
            return err_set(e, UV_EINVAL,
                           "params.%.*s: missing; the filter compares with $%.*s. Give it, or let "
                           "the filter ask has($%.*s) first",
                           (int)name.n, name.p, (int)name.n, name.p, (int)name.n, name.p);
        }
        size_t listed = is_list(json) ? list_size(json) : 0;
        out->values += listed;
        out->networks += m->params[i].network ? listed + 1 : 0;
        out->room += json.n; /* decoded strings are never longer */
    }
    return 0;
}

/* The conjunct that tells audiences apart best: an equation with a param, else what comes first. */
static struct filter_discriminator discriminator_of(const struct filter_args *a)
{
    const struct filter *m = a->m;
    struct filter_discriminator best = {{NULL, 0}, NULL, 0};
    bool by_param = false;
    for (size_t i = 0; i < m->op_count; i++) {
        const struct filter_op *op = &m->ops[i];
        if (!op->conjunct || op->count != 2 ||
            (op->code != FILTER_EQ && op->code != FILTER_ONE_OF)) {
            continue;
        }
        const struct filter_operand *x = &m->operands[op->first], *y = x + 1;
        bool swap = op->code == FILTER_EQ && x->kind != OPERAND_FIELD;
        const struct filter_operand *field = swap ? y : x, *other = swap ? x : y;
        bool fits = field->kind == OPERAND_FIELD &&
                    m->set->fields[field->index].kind == FIELD_ATTR &&
                    (other->kind == OPERAND_PARAM || other->kind == OPERAND_CONSTANT);
        if (!fits || (best.attr.p && (by_param || other->kind != OPERAND_PARAM))) {
            continue;
        }
        const struct filter_step *step = &m->set->fields[field->index].steps[0];
        const struct filter_value *v =
            other->kind == OPERAND_PARAM ? &a->values[other->index] : &m->constants[other->index];
        bool list = v->type == FILTER_LIST;
        best = (struct filter_discriminator){slice_of(step->name, step->name_n), v, 1};
        by_param = other->kind == OPERAND_PARAM;
        if (list && op->code == FILTER_ONE_OF) {
            best.values = v->list.v;
            best.count = v->list.n;
        } else if (list || v->type == FILTER_MISSING) {
            best.count = 0; /* equal to nothing */
        }
    }
    return best;
}

static int filter_set_fill(struct filter_args *a, struct slice params, char *room, struct err *e)
{
    const struct filter *m = a->m;
    struct filter_value *lists = a->values + m->param_count;
    struct network *network = a->networks;
    for (size_t i = 0; i < m->param_count; i++) {
        struct slice json = member(params, m->params[i].name);
        a->values[i] = !json.p         ? (struct filter_value){.type = FILTER_MISSING}
                       : is_list(json) ? list_of(json, &lists, &room)
                                       : filter_value_of_json(json, &room);
        int rc =
            m->params[i].network ? to_networks(&a->values[i], &network, m->params[i].name, e) : 0;
        if (rc) {
            return rc;
        }
    }
    return 0;
}

struct filter_args *filter_bind(const struct filter *m, struct slice params, struct err *e)
{
    struct sizes sizes;
    if (filter_set_measure(m, params, &sizes, e)) {
        return NULL;
    }
    /* one block: ten thousand of them are looked at for an event */
    size_t values = (sizes.values + 1) * sizeof(struct filter_value);
    size_t networks = (sizes.networks + 1) * sizeof(struct network);
    struct filter_args *a = calloc(1, sizeof *a + values + networks + params.n + sizes.room + 1);
    if (!a) {
        err_set(e, UV_ENOMEM, "params: memory is short");
        return NULL;
    }
    a->m = m;
    a->values = (struct filter_value *)(void *)(a + 1);
    a->networks = (struct network *)(void *)((char *)(a + 1) + values);
    a->text = (char *)(a + 1) + values + networks;
    if (params.n) {
        memcpy(a->text, params.p, params.n);
    }
    a->text[params.n] = '\0';
    params.p = params.p ? a->text : NULL;
    if (filter_set_fill(a, params, a->text + params.n + 1, e)) {
        filter_args_free(a);
        return NULL;
    }
    if (!m->seen) {
        a->discriminator = discriminator_of(a);
    }
    return a;
}

void filter_args_free(struct filter_args *a)
{
    free(a);
}

struct filter_discriminator filter_discriminator(const struct filter_args *a)
{
    return a->discriminator;
}

void filter_reads(const struct filter *m,
                  void (*visit)(void *ctx, struct slice field, bool of_data), void *ctx)
{
    for (size_t i = 0; i < m->operand_count; i++) {
        const struct filter_operand *o = &m->operands[i];
        if (o->kind != OPERAND_FIELD) {
            continue;
        }
        enum filter_field_kind kind = m->set->fields[o->index].kind;
        if (kind == FIELD_ATTR || kind == FIELD_DATA) {
            visit(ctx, slice_of(m->text + o->at, o->n), kind == FIELD_DATA);
        }
    }
}

uint64_t filter_set_mismatches(const struct filter_set *set)
{
    return set->mismatches;
}

uint64_t filter_set_missing(const struct filter_set *set)
{
    return set->missing;
}

uint64_t filter_set_refused(const struct filter_set *set)
{
    return set->refused;
}
