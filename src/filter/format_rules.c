/* One pass over text that was checked before. On the way down each rule is at some of its steps (at
 * several where a `*` may mean an element of an array or a member of it), or out of the race; where
 * none is left, the rest is copied as a block. */
#include "filter/format_rules.h"

#include "base/alloc.h"
#include "base/text/json_text.h"
#include "base/utf8.h"
#include "filter/format_values.h"

#include <stdint.h>
#include <stdlib.h>
#include <uv.h>

struct step {
    bool any; /* `*` */
    size_t n;
    char *name; /* owned; NULL for any */
};

struct rule {
    enum format_rules_rule kind;
    struct step steps[FORMAT_RULES_STEPS_MAX];
    unsigned step_count;
    struct slice text; /* owned: JSON of a mask, the key of a hash, a new name */
    unsigned n;        /* of round and cut */
};

/* A member that is set. */
struct set {
    struct slice name; /* owned */
    struct slice text; /* owned: JSON, or the name of a param */
    bool of_params;
};

struct format_rules {
    struct rule *rules;
    unsigned count;
    struct set *sets;
    unsigned set_count;
    bool keeps; /* there is a rule of that kind */
    bool renames;
};

/* How far each rule has come: a bit for those still in the race. */
struct state {
    uint64_t alive;
    uint32_t at[FORMAT_RULES_RULES_MAX]; /* a bit for each step that may come next */
    bool kept;                           /* above or here a `keep` has been reached */
};

struct edit {
    const struct format_rules *rules;
    struct slice params;
    struct strbuf *out;
    struct err *e;
    unsigned depth;
};

/* ---- rules */

struct format_rules *format_rules_new(void)
{
    return xcalloc(1, sizeof(struct format_rules));
}

static void rule_clear(struct rule *r)
{
    for (unsigned i = 0; i < r->step_count; i++) {
        free(r->steps[i].name);
    }
    free((char *)(uintptr_t)r->text.p);
}

static struct slice format_rules_copy(struct slice s)
{
    return slice_of(xstrndup(s.p ? s.p : "", s.n), s.n);
}

void format_rules_free(struct format_rules *edit)
{
    if (!edit) {
        return;
    }
    for (unsigned i = 0; i < edit->count; i++) {
        rule_clear(&edit->rules[i]);
    }
    for (unsigned i = 0; i < edit->set_count; i++) {
        free((char *)(uintptr_t)edit->sets[i].name.p);
        free((char *)(uintptr_t)edit->sets[i].text.p);
    }
    free(edit->rules);
    free(edit->sets);
    free(edit);
}

/* Cuts the next step off the path, unescaped into `name`. NULL, or what is wrong. */
static const char *take_step(struct slice *path, char *name, size_t *n, bool *any)
{
    bool starred = false;
    size_t i = 0;
    *n = 0;
    for (; i < path->n && path->p[i] != '.'; i++) {
        char c = path->p[i];
        if (c == '\\') {
            i++;
            if (i == path->n || !strchr(".*\\", path->p[i]) || path->p[i] == '\0') {
                return "a backslash stands before '.', '*' or another backslash only";
            }
            c = path->p[i];
        } else if (c == '*') {
            starred = true;
        }
        name[(*n)++] = c;
    }
    *any = starred;
    if (*n == 0) {
        return "a name is empty";
    }
    if (starred && i != 1) {
        return "'*' stands alone between points; \\* is the character";
    }
    bool more = i < path->n;
    *path = slice_of(path->p + i + more, path->n - i - more);
    return more && path->n == 0 ? "a name is empty" : NULL;
}

static const char *format_rules_parse_path(struct slice path, struct rule *r)
{
    char name[FORMAT_RULES_PATH_MAX_BYTES];
    if (path.n == 0 || path.n > sizeof name) {
        return "names with points between, at most 512 bytes, were expected";
    }
    while (path.n) {
        size_t n;
        bool any;
        const char *bad = take_step(&path, name, &n, &any);
        if (bad) {
            return bad;
        }
        if (r->step_count == FORMAT_RULES_STEPS_MAX) {
            return "more than 16 names";
        }
        r->steps[r->step_count++] = (struct step){any, n, any ? NULL : xstrndup(name, n)};
    }
    return NULL;
}

static bool format_rules_is_name(struct slice name)
{
    return name.n > 0 && name.n <= FORMAT_RULES_PATH_MAX_BYTES && utf8_ok(name);
}

static const char *format_rules_parse(const struct format_rule *rule, struct rule *r)
{
    const char *bad = format_rules_parse_path(rule->path, r);
    if (bad) {
        return bad;
    }
    r->text = format_rules_copy(rule->text);
    if (rule->kind == FORMAT_RULES_RENAME && r->steps[r->step_count - 1].any) {
        return "a name was expected at its end, because one member gets a new name";
    }
    if (rule->kind == FORMAT_RULES_RENAME && !format_rules_is_name(rule->text)) {
        return "the new name has 1 to 512 bytes of UTF-8";
    }
    return NULL;
}

/* Would both give members of one object the same name? */
static bool format_rules_same_name(const struct rule *a, const struct rule *b)
{
    bool same = a->kind == FORMAT_RULES_RENAME && b->kind == FORMAT_RULES_RENAME &&
                a->step_count == b->step_count && slice_eq(a->text, b->text);
    for (unsigned i = 0; same && i + 1 < a->step_count; i++) {
        const struct step *x = &a->steps[i], *y = &b->steps[i];
        same = x->any || y->any || slice_eq(slice_of(x->name, x->n), slice_of(y->name, y->n));
    }
    return same;
}

int format_rules_add(struct format_rules *edit, const struct format_rule *rule, struct err *e)
{
    struct rule r = {.kind = rule->kind, .n = rule->n};
    if (edit->count == FORMAT_RULES_RULES_MAX) {
        return err_set(e, UV_EINVAL, "more than %d paths", FORMAT_RULES_RULES_MAX);
    }
    const char *bad = format_rules_parse(rule, &r);
    for (unsigned i = 0; i < edit->count && !bad; i++) {
        bad = format_rules_same_name(&edit->rules[i], &r)
                  ? "another rule gives a member of the same object this name"
                  : NULL;
    }
    if (bad) {
        rule_clear(&r);
        return err_set(e, UV_EINVAL, "path '%.*s': %s", (int)rule->path.n, rule->path.p, bad);
    }
    edit->rules = xrealloc(edit->rules, (edit->count + 1) * sizeof *edit->rules);
    edit->rules[edit->count++] = r;
    edit->keeps = edit->keeps || r.kind == FORMAT_RULES_KEEP;
    edit->renames = edit->renames || r.kind == FORMAT_RULES_RENAME;
    return 0;
}

int format_rules_set(struct format_rules *edit, struct slice name, struct slice text,
                     bool of_params, struct err *e)
{
    if (edit->set_count == FORMAT_RULES_SETS_MAX) {
        return err_set(e, UV_EINVAL, "more than %d members", FORMAT_RULES_SETS_MAX);
    }
    if (!format_rules_is_name(name)) {
        return err_set(e, UV_EINVAL, "names have 1 to %d bytes of UTF-8",
                       FORMAT_RULES_PATH_MAX_BYTES);
    }
    edit->sets = xrealloc(edit->sets, (edit->set_count + 1) * sizeof *edit->sets);
    edit->sets[edit->set_count++] =
        (struct set){format_rules_copy(name), format_rules_copy(text), of_params};
    return 0;
}

bool format_rules_param(const struct format_rules *edit, unsigned i, struct slice *name)
{
    for (unsigned k = 0; k < edit->set_count; k++) {
        if (edit->sets[k].of_params && i-- == 0) {
            *name = edit->sets[k].text;
            return true;
        }
    }
    return false;
}

/* ---- where the rules are */

/* The steps that may come next behind a member or element; none: the path does not lead there. */
static uint32_t step_enter(const struct rule *r, unsigned at, struct slice key)
{
    uint32_t stay = UINT32_C(1) << at, next = stay << 1;
    if (at == r->step_count) { /* of those that reach the elements, see judge() */
        return key.p ? 0 : stay;
    }
    const struct step *step = &r->steps[at];
    if (!key.p && step->any) {
        return r->kind == FORMAT_RULES_KEEP ? next : stay | next;
    }
    if (!key.p) {
        return stay;
    }
    bool same = step->any || json_text_string_is(key, slice_of(step->name, step->n));
    return same ? next : 0;
}

/* Moves every rule from a container into one of its members (`key`: a JSON string) or elements
 * (absent). */
static void state_enter(const struct format_rules *rules, const struct state *from,
                        struct slice key, struct state *to)
{
    to->kept = from->kept;
    to->alive = 0; /* so nothing in `at` counts yet */
    for (uint64_t left = from->alive; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        const struct rule *r = &rules->rules[i];
        uint32_t at = 0;
        for (uint32_t steps = from->at[i]; steps; steps &= steps - 1) {
            at |= step_enter(r, (unsigned)__builtin_ctz(steps), key);
        }
        to->at[i] = at;
        to->alive |= (uint64_t)(at != 0) << i;
    }
}

enum fate { FATE_DROP, FATE_REPLACE, FATE_COPY, FATE_DESCEND };

struct judgement {
    enum fate fate;
    const struct rule *replaces; /* by FATE_REPLACE */
    const struct rule *renames;  /* NULL: it keeps its name */
};

static bool rule_replaces(const struct rule *r)
{
    return r->kind >= FORMAT_RULES_MASK && r->kind <= FORMAT_RULES_CUT;
}

static bool is_container(struct slice value)
{
    return *value.p == '{' || *value.p == '[';
}

/* What happens to a value; rules that have arrived leave the race, but for those that go on into an array. */
static struct judgement judge(const struct format_rules *rules, struct state *s, struct slice value)
{
    struct judgement j = {FATE_DROP, NULL, NULL};
    bool container = is_container(value);
    bool dropped = false, through = false; /* the way to something kept */
    for (uint64_t left = s->alive; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        const struct rule *r = &rules->rules[i];
        bool arrived = s->at[i] >> r->step_count;
        if (!arrived) {
            through = through || r->kind == FORMAT_RULES_KEEP;
        } else if (*value.p != '[' || !rule_replaces(r) || r->kind == FORMAT_RULES_MASK) {
            s->alive &= ~(UINT64_C(1) << i);
            dropped = dropped || r->kind == FORMAT_RULES_DROP;
            s->kept = s->kept || r->kind == FORMAT_RULES_KEEP;
            j.renames = r->kind == FORMAT_RULES_RENAME ? r : j.renames;
            j.replaces = !j.replaces && rule_replaces(r) ? r : j.replaces;
        }
    }
    bool masked = j.replaces && j.replaces->kind == FORMAT_RULES_MASK;
    bool visible = !rules->keeps || s->kept || (through && (container || masked));
    bool whole = s->alive == 0 && (!rules->keeps || s->kept);
    if (!dropped && visible) {
        j.fate = j.replaces ? FATE_REPLACE : container && !whole ? FATE_DESCEND : FATE_COPY;
    }
    return j;
}

/* ---- writing */

static int format_rules_put(struct edit *x, const char *from, const char *to)
{
    return strbuf_append(x->out, from, (size_t)(to - from));
}

static int write_container(struct edit *x, struct slice text, const struct state *s);

static int write_value(struct edit *x, struct slice text, const struct state *s,
                       const struct judgement *j)
{
    const struct rule *r = j->replaces;
    if (j->fate == FATE_COPY) {
        return strbuf_append(x->out, text.p, text.n);
    }
    if (j->fate == FATE_DESCEND) {
        return write_container(x, text, s);
    }
    if (r->kind == FORMAT_RULES_MASK) {
        return strbuf_append(x->out, r->text.p, r->text.n);
    }
    if (is_container(text)) {
        return strbuf_append_str(x->out, "null");
    }
    return r->kind == FORMAT_RULES_HASH    ? format_value_hash(x->out, text, r->text)
           : r->kind == FORMAT_RULES_ROUND ? format_value_round(x->out, text, r->n)
                                           : format_value_cut(x->out, text, r->n);
}

/* An object or array that is written. Which of its members are renamed is looked up once for each rule: a client may
 * repeat a name many times. */
struct whole {
    struct slice text;
    const struct state *s;
    uint64_t known, there; /* rules: looked up; their member is there */
};

static bool is_set(const struct edit *x, struct slice name)
{
    for (unsigned i = 0; x->depth == 1 && i < x->rules->set_count; i++) {
        if (slice_eq(x->rules->sets[i].name, name)) {
            return true;
        }
    }
    return false;
}

static bool renamed_member_is_there(struct whole *w, unsigned i, const struct step *last)
{
    uint64_t bit = UINT64_C(1) << i;
    struct slice unused;
    if (!(w->known & bit)) {
        w->known |= bit;
        bool there = json_text_member(w->text, slice_of(last->name, last->n), &unused);
        w->there |= there ? bit : 0;
    }
    return w->there & bit;
}

/* Something else of this object takes the name of the member. */
static bool loses_its_name(const struct edit *x, struct whole *w, struct slice key)
{
    for (unsigned i = 0; x->depth == 1 && i < x->rules->set_count; i++) {
        if (json_text_string_is(key, x->rules->sets[i].name)) {
            return true;
        }
    }
    for (uint64_t left = x->rules->renames ? w->s->alive : 0; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        const struct rule *r = &x->rules->rules[i];
        const struct step *last = &r->steps[r->step_count - 1];
        if (r->kind == FORMAT_RULES_RENAME && w->s->at[i] >> (r->step_count - 1) & 1 &&
            !json_text_string_is(key, slice_of(last->name, last->n)) &&
            json_text_string_is(key, r->text) && renamed_member_is_there(w, i, last)) {
            return true;
        }
    }
    return false;
}

/* A member or element from its separator on; *written: it was not the first to stay. */
static int write_part(struct edit *x, struct whole *w, struct slice *rest, bool *written)
{
    const char *start = rest->p;
    struct slice key = {NULL, 0}, value;
    struct state inner;
    if (*w->text.p == '{') {
        json_text_value(rest, &key);
        json_text_take(rest, ':');
    }
    json_text_value(rest, &value);
    json_text_skip(rest);
    state_enter(x->rules, w->s, key, &inner);
    struct judgement j = judge(x->rules, &inner, value);
    bool lost = j.renames ? is_set(x, j.renames->text) : key.p && loses_its_name(x, w, key);
    if (j.fate == FATE_DROP || lost) {
        return 0;
    }
    int rc = *written ? strbuf_append_str(x->out, ",") : 0;
    *written = true;
    if (j.renames) {
        rc = rc ? rc : format_rules_put(x, start, key.p);
        rc = rc ? rc : json_text_quote(x->out, j.renames->text);
        start = key.p + key.n;
    }
    rc = rc ? rc : format_rules_put(x, start, value.p);
    rc = rc ? rc : write_value(x, value, &inner, &j);
    return rc ? rc : format_rules_put(x, value.p + value.n, rest->p);
}

static int write_sets(struct edit *x, bool written)
{
    int rc = 0;
    for (unsigned i = 0; i < x->rules->set_count && rc == 0; i++) {
        const struct set *set = &x->rules->sets[i];
        struct slice value = set->text;
        if (set->of_params && !(x->params.p && json_text_member(x->params, set->text, &value) &&
                                !is_container(value))) {
            return err_set(x->e, UV_EINVAL, "set: params has no text, number or boolean '%.*s'",
                           (int)set->text.n, set->text.p);
        }
        rc = written || i ? strbuf_append_str(x->out, ",") : 0;
        rc = rc ? rc : json_text_quote(x->out, set->name);
        rc = rc ? rc : strbuf_append_str(x->out, ":");
        rc = rc ? rc : strbuf_append(x->out, value.p, value.n);
    }
    return rc;
}

static int write_container(struct edit *x, struct slice text, const struct state *s)
{
    struct slice rest = slice_of(text.p + 1, text.n - 2), blank = rest;
    struct whole w = {.text = text, .s = s};
    bool written = false, top = x->depth == 0;
    if (x->depth == FORMAT_RULES_DEPTH_MAX) {
        return err_set(x->e, UV_EINVAL,
                       "the data is nested deeper than %d levels where a path leads",
                       FORMAT_RULES_DEPTH_MAX);
    }
    json_text_skip(&blank);
    bool more = blank.n > 0;
    if (!more && !(top && x->rules->set_count)) {
        return strbuf_append(x->out, text.p, text.n);
    }
    x->depth++;
    int rc = strbuf_append(x->out, text.p, 1);
    while (rc == 0 && more) {
        rc = write_part(x, &w, &rest, &written);
        more = json_text_take(&rest, ',');
    }
    x->depth--;
    rc = rc || !top ? rc : write_sets(x, written);
    return rc ? rc : strbuf_append(x->out, text.p + text.n - 1, 1);
}

static int write_all(struct edit *x, struct slice text)
{
    struct slice rest = text, value;
    struct state s = {.alive = 0};
    json_text_value(&rest, &value);
    for (unsigned i = 0; i < x->rules->count; i++) {
        s.alive |= UINT64_C(1) << i;
        s.at[i] = 1;
    }
    struct judgement j = judge(x->rules, &s, value);
    if (j.fate == FATE_DROP) {
        return err_set(x->e, UV_EINVAL, "keep: the data is neither an object nor an array");
    }
    if (x->rules->set_count && *value.p != '{') {
        return err_set(x->e, UV_EINVAL, "set: the data is not an object");
    }
    j.fate = x->rules->set_count ? FATE_DESCEND : j.fate;
    int rc = format_rules_put(x, text.p, value.p);
    rc = rc ? rc : write_value(x, value, &s, &j);
    return rc ? rc : format_rules_put(x, value.p + value.n, text.p + text.n);
}

int format_rules_apply(const struct format_rules *edit, struct slice text, struct slice params,
                       struct strbuf *out, struct err *e)
{
    struct edit x = {.rules = edit, .params = params, .out = out, .e = e};
    size_t before = out->len;
    *e = (struct err){0};
    if (!json_text_ok(text)) {
        return err_set(e, UV_EINVAL, "the data is not JSON");
    }
    int rc = write_all(&x, text);
    if (rc) {
        out->len = before; /* nothing half written */
        if (out->data) {
            out->data[before] = '\0';
        }
        if (e->code == 0) {
            err_set(e, rc, "the edited data is longer than %zu bytes, or memory is short",
                    out->max);
        }
    }
    return rc;
}
