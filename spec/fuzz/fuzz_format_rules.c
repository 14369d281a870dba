/* Edited JSON text against jansson's edit of the same: the result is JSON, means the same, and
 * editing it again changes nothing, so no path leads to anything that should be gone: not in the
 * first of equal keys either. The first byte chooses the rules. */
#include "base/text/json_text.h"
#include "filter/format_rules.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rules {
    const char *drop[4], *keep[4], *mask[4];
} sets[] = {
    {.drop = {"a", "b.c", "l.*.x"}},
    {.mask = {"a", "b.c", "l.*"}},
    {.keep = {"a", "b.c", "l.x"}},
    {.keep = {"*.c", "b"}, .mask = {"b.c", "a"}},
    {.drop = {"*.*"}, .mask = {"a", "*"}},
    {.drop = {"l.*"}, .mask = {"*.a.c"}},
    {.keep = {"*"}},
    {.mask = {"*.*", "b"}},
    {.mask = {"*.a", "l.*.b"}, .drop = {"*.c", "l.*.*.x"}},
    {.keep = {"*.a", "l.*.b"}, .mask = {"*.a.b"}},
};

static const char masked[] = "\"***\"";

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void add_rule(struct format_rules *edit, enum format_rules_rule kind, const char *path)
{
    struct err e;
    if (path) {
        struct format_rule rule = {kind, slice_str(path), slice_str(masked), 0};
        require(format_rules_add(edit, &rule, &e) == 0);
    }
}

static struct format_rules *edit_of(const struct rules *r)
{
    struct format_rules *edit = format_rules_new();
    for (unsigned i = 0; i < 4; i++) {
        add_rule(edit, FORMAT_RULES_DROP, r->drop[i]);
        add_rule(edit, FORMAT_RULES_KEEP, r->keep[i]);
        add_rule(edit, FORMAT_RULES_MASK, r->mask[i]);
    }
    return edit;
}

/* ---- the same on trees: where a path can lead, kept as the texts that are left of it */

enum { PATHS_MAX = 48 };

struct paths {
    const char *p[PATHS_MAX];
    char kind[PATHS_MAX];
    unsigned n;
    bool kept;
};

static void add(struct paths *to, const char *p, char kind)
{
    for (unsigned i = 0; i < to->n && p; i++) {
        p = to->p[i] == p && to->kind[i] == kind ? NULL : p;
    }
    if (p) {
        require(to->n < PATHS_MAX);
        to->p[to->n] = p;
        to->kind[to->n++] = kind;
    }
}

/* The paths behind a member (`key`) or element (NULL). */
static struct paths enter(const struct paths *from, const char *key)
{
    struct paths to = {.kept = from->kept};
    for (unsigned i = 0; i < from->n; i++) {
        const char *p = from->p[i], *end = p + strcspn(p, ".");
        const char *rest = *end ? end + 1 : "";
        bool any = *p == '*';
        if (any && !key && from->kind[i] != 'k') { /* hidden either way */
            add(&to, p, from->kind[i]);
        }
        if (any || (key && strlen(key) == (size_t)(end - p) && strncmp(key, p, strlen(key)) == 0)) {
            add(&to, rest, from->kind[i]);
        } else if (!key) {
            add(&to, p, from->kind[i]);
        }
    }
    return to;
}

/* A new reference to what is left of `v`; NULL: nothing. */
static json_t *edited(json_t *v, struct paths at, bool keeps)
{
    bool drop = false, mask = false, keeping = false;
    bool container = json_is_object(v) || json_is_array(v);
    for (unsigned i = 0; i < at.n; i++) {
        bool arrived = *at.p[i] == '\0';
        drop = drop || (arrived && at.kind[i] == 'd');
        mask = mask || (arrived && at.kind[i] == 'm');
        at.kept = at.kept || (arrived && at.kind[i] == 'k');
        keeping = keeping || (!arrived && at.kind[i] == 'k');
    }
    for (unsigned i = 0; i < at.n;) {
        if (*at.p[i] == '\0') {
            at.n--;
            at.p[i] = at.p[at.n];
            at.kind[i] = at.kind[at.n];
        } else {
            i++;
        }
    }
    if (drop || (keeps && !at.kept && !(keeping && (container || mask)))) {
        return NULL;
    }
    if (mask) {
        return json_string("***");
    }
    if (json_is_array(v)) {
        json_t *out = json_array();
        for (size_t i = 0; i < json_array_size(v); i++) {
            json_t *left = edited(json_array_get(v, i), enter(&at, NULL), keeps);
            require(!left || json_array_append_new(out, left) == 0);
        }
        return out;
    }
    if (json_is_object(v)) {
        json_t *out = json_object();
        const char *key;
        json_t *member;
        json_object_foreach(v, key, member)
        {
            json_t *left = edited(member, enter(&at, key), keeps);
            require(!left || json_object_set_new_nocheck(out, key, left) == 0);
        }
        return out;
    }
    return json_incref(v);
}

static void compare(const struct rules *r, struct slice text, const struct strbuf *out)
{
    json_error_t why;
    json_t *before = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    struct paths at = {.n = 0};
    bool keeps = r->keep[0] != NULL;
    if (!before) {
        return; /* duplicates, numbers out of range, \u0000 */
    }
    for (unsigned i = 0; i < 4; i++) {
        add(&at, r->drop[i], 'd');
        add(&at, r->mask[i], 'm');
        add(&at, r->keep[i], 'k');
    }
    json_t *after = json_loadb(out->len ? out->data : "", out->len,
                               JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    json_t *expected = edited(before, at, keeps);
    require(after && expected && json_equal(after, expected));
    json_decref(expected);
    json_decref(after);
    json_decref(before);
}

/* The rules that make something of a value: what comes out is JSON again. */
static void transform(struct slice text)
{
    static const struct format_rule rules[] = {
        {FORMAT_RULES_HASH, {"*.h", 3}, {"0123456789abcdef", 16}, 0},
        {FORMAT_RULES_ROUND, {"*", 1}, {NULL, 0}, 2},
        {FORMAT_RULES_CUT, {"b.*", 3}, {NULL, 0}, 2},
        {FORMAT_RULES_CUT, {"l", 1}, {NULL, 0}, 1},
        {FORMAT_RULES_RENAME, {"a", 1}, {"b", 1}, 0},
        {FORMAT_RULES_RENAME, {"*.c", 3}, {"\"\xc3\xa4", 3}, 0},
        {FORMAT_RULES_DROP, {"l.x", 3}, {NULL, 0}, 0},
    };
    struct format_rules *edit = format_rules_new();
    struct strbuf out;
    struct err e;
    strbuf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        require(format_rules_add(edit, &rules[i], &e) == 0);
    }
    require(format_rules_set(edit, slice_str("s"), slice_str("x"), true, &e) == 0);
    require(format_rules_set(edit, slice_str("a"), slice_str("1"), false, &e) == 0);
    int rc = format_rules_apply(edit, text, slice_str("{\"x\":null}"), &out, &e);
    require(rc == 0 ? json_text_ok(strbuf_slice(&out)) : out.len == 0);
    strbuf_clear(&out);
    format_rules_free(edit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (data[0] >= 128) {
        transform(slice_of((const char *)data + 1, size - 1));
        return 0;
    }
    const struct rules *r = &sets[data[0] % (sizeof sets / sizeof *sets)];
    struct slice text = slice_of((const char *)data + 1, size - 1);
    struct format_rules *edit = edit_of(r);
    struct strbuf out, again;
    struct err e;
    strbuf_init(&out, 1 << 20);
    strbuf_init(&again, 1 << 20);
    int rc = format_rules_apply(edit, text, slice_of(NULL, 0), &out, &e);
    require((rc == 0) == (e.code == 0));
    if (rc) {
        require(out.len == 0);
    } else {
        require(json_text_ok(strbuf_slice(&out)));
        require(format_rules_apply(edit, strbuf_slice(&out), slice_of(NULL, 0), &again, &e) == 0);
        require(slice_eq(strbuf_slice(&out), strbuf_slice(&again)));
        compare(r, text, &out);
    }
    strbuf_clear(&out);
    strbuf_clear(&again);
    format_rules_free(edit);
    return 0;
}
