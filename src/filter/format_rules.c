/* One pass over text that was checked before. On the way down each rule is at some of its steps (at
 * several where a `*` may mean an element of an array or a member of it), or out of the race; where
 * none is left, the rest is copied as a block. */
#include "filter/format_rules.h"

#include "base/alloc.h"
#include "base/text/json_text.h"

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
    char *replacement; /* owned */
    size_t replacement_n;
};

struct format_rules {
    struct rule *rules;
    unsigned count;
    bool keeps; /* there is a rule of that kind */
};

/* How far each rule has come: a bit for those still in the race. */
struct state {
    uint64_t alive;
    uint32_t at[FORMAT_RULES_RULES_MAX]; /* a bit for each step that may come next */
    bool kept;                           /* above or here a `keep` has been reached */
};

struct edit {
    const struct format_rules *rules;
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
    free(r->replacement);
}

void format_rules_free(struct format_rules *edit)
{
    if (!edit) {
        return;
    }
    for (unsigned i = 0; i < edit->count; i++) {
        rule_clear(&edit->rules[i]);
    }
    free(edit->rules);
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

int format_rules_add(struct format_rules *edit, enum format_rules_rule kind, struct slice path,
                     struct slice replacement, struct err *e)
{
    struct rule r = {.kind = kind};
    if (edit->count == FORMAT_RULES_RULES_MAX) {
        return err_set(e, UV_EINVAL, "more than %d paths", FORMAT_RULES_RULES_MAX);
    }
    const char *bad = format_rules_parse_path(path, &r);
    if (bad) {
        rule_clear(&r);
        return err_set(e, UV_EINVAL, "path '%.*s': %s", (int)path.n, path.p, bad);
    }
    if (kind == FORMAT_RULES_MASK) {
        r.replacement = xstrndup(replacement.p, replacement.n);
        r.replacement_n = replacement.n;
    }
    edit->rules = xrealloc(edit->rules, (edit->count + 1) * sizeof *edit->rules);
    edit->rules[edit->count++] = r;
    edit->keeps = edit->keeps || kind == FORMAT_RULES_KEEP;
    return 0;
}

/* ---- where the rules are */

/* The steps that may come next behind a member or element; none: the path does not lead there. */
static uint32_t step_enter(const struct rule *r, unsigned at, struct slice key)
{
    const struct step *step = &r->steps[at];
    uint32_t stay = UINT32_C(1) << at, next = stay << 1;
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

/* What happens to a value; rules that have arrived leave the race. */
static enum fate judge(const struct format_rules *rules, struct state *s, bool container,
                       const struct rule **mask)
{
    bool dropped = false, through = false; /* the way to something kept */
    *mask = NULL;
    for (uint64_t left = s->alive; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        const struct rule *r = &rules->rules[i];
        bool arrived = s->at[i] >> r->step_count;
        if (arrived) {
            s->alive &= ~(UINT64_C(1) << i);
            dropped = dropped || r->kind == FORMAT_RULES_DROP;
            s->kept = s->kept || r->kind == FORMAT_RULES_KEEP;
            *mask = !*mask && r->kind == FORMAT_RULES_MASK ? r : *mask;
        } else {
            through = through || r->kind == FORMAT_RULES_KEEP;
        }
    }
    bool visible = !rules->keeps || s->kept || (through && (container || *mask));
    if (dropped || !visible) {
        return FATE_DROP;
    }
    if (*mask) {
        return FATE_REPLACE;
    }
    bool whole = s->alive == 0 && (!rules->keeps || s->kept);
    return container && !whole ? FATE_DESCEND : FATE_COPY;
}

/* ---- writing */

static int format_rules_put(struct edit *x, const char *from, const char *to)
{
    return strbuf_append(x->out, from, (size_t)(to - from));
}

static int write_container(struct edit *x, struct slice text, const struct state *s);

static int write_value(struct edit *x, struct slice text, const struct state *s, enum fate fate,
                       const struct rule *mask)
{
    if (fate == FATE_REPLACE) {
        return strbuf_append(x->out, mask->replacement, mask->replacement_n);
    }
    return fate == FATE_COPY ? strbuf_append(x->out, text.p, text.n) : write_container(x, text, s);
}

static bool is_container(struct slice value)
{
    return *value.p == '{' || *value.p == '[';
}

/* A member or element from its separator on; *written: it was not the first to stay. */
static int write_part(struct edit *x, struct slice *rest, bool object, const struct state *s,
                      bool *written)
{
    const char *start = rest->p;
    struct slice key = {NULL, 0}, value;
    struct state inner;
    const struct rule *mask;
    if (object) {
        json_text_value(rest, &key);
        json_text_take(rest, ':');
    }
    json_text_value(rest, &value);
    json_text_skip(rest);
    state_enter(x->rules, s, key, &inner);
    enum fate fate = judge(x->rules, &inner, is_container(value), &mask);
    if (fate == FATE_DROP) {
        return 0;
    }
    int rc = *written ? strbuf_append_str(x->out, ",") : 0;
    *written = true;
    rc = rc ? rc : format_rules_put(x, start, value.p);
    rc = rc ? rc : write_value(x, value, &inner, fate, mask);
    return rc ? rc : format_rules_put(x, value.p + value.n, rest->p);
}

static int write_container(struct edit *x, struct slice text, const struct state *s)
{
    struct slice rest = slice_of(text.p + 1, text.n - 2), blank = rest;
    bool object = *text.p == '{', written = false;
    if (x->depth == FORMAT_RULES_DEPTH_MAX) {
        return err_set(x->e, UV_EINVAL,
                       "the data is nested deeper than %d levels where a path leads",
                       FORMAT_RULES_DEPTH_MAX);
    }
    json_text_skip(&blank);
    if (blank.n == 0) {
        return strbuf_append(x->out, text.p, text.n);
    }
    x->depth++;
    int rc = strbuf_append(x->out, text.p, 1);
    bool more = true;
    while (rc == 0 && more) {
        rc = write_part(x, &rest, object, s, &written);
        more = json_text_take(&rest, ',');
    }
    x->depth--;
    return rc ? rc : strbuf_append(x->out, text.p + text.n - 1, 1);
}

static int write_all(struct edit *x, struct slice text)
{
    struct slice rest = text, value;
    struct state s = {.alive = 0};
    const struct rule *mask;
    json_text_value(&rest, &value);
    for (unsigned i = 0; i < x->rules->count; i++) {
        s.alive |= UINT64_C(1) << i;
        s.at[i] = 1;
    }
    enum fate fate = judge(x->rules, &s, is_container(value), &mask);
    if (fate == FATE_DROP) {
        return err_set(x->e, UV_EINVAL, "keep: the data is neither an object nor an array");
    }
    int rc = format_rules_put(x, text.p, value.p);
    rc = rc ? rc : write_value(x, value, &s, fate, mask);
    return rc ? rc : format_rules_put(x, value.p + value.n, text.p + text.n);
}

int format_rules_apply(const struct format_rules *edit, struct slice text, struct strbuf *out,
                       struct err *e)
{
    struct edit x = {.rules = edit, .out = out, .e = e};
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
