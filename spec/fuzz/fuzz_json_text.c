/* json_text against jansson, and quoting against both: what is embedded into a JSON envelope must
 * be JSON, and every text can be. */
#include "base/text/json_text.h"
#include "event/topic.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static json_t *load(struct slice text, json_error_t *e)
{
    return json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
                      e);
}

/* jansson wants escaped surrogates in pairs; the grammar of RFC 8259 does not. */
static bool has_surrogate_escape(struct slice s)
{
    for (size_t i = 0; i + 3 < s.n; i++) {
        if (s.p[i] == '\\' && s.p[i + 1] == 'u' && (s.p[i + 2] | 0x20) == 'd') {
            return true;
        }
    }
    return false;
}

static size_t brackets(struct slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        n += s.p[i] == '[' || s.p[i] == '{';
    }
    return n;
}

static void check_syntax(struct slice text)
{
    json_error_t e;
    bool ok = json_text_ok(text);
    json_t *tree = load(text, &e);
    if (tree) {
        require(ok || brackets(text) > JSON_TEXT_DEPTH_MAX);
    } else {
        enum json_error_code code = json_error_code(&e);
        bool syntax = code == json_error_invalid_syntax ||
                      code == json_error_premature_end_of_input ||
                      code == json_error_end_of_input_expected;
        require(!ok || !syntax || has_surrogate_escape(text));
    }
    json_decref(tree);
}

/* One value and nothing behind it is what json_text_ok() accepts. */
static void check_cut(struct slice text)
{
    struct slice rest = text, value;
    const char *wrong = json_text_checked_value(&rest, &value);
    require(value.p + value.n == rest.p && rest.p + rest.n == text.p + text.n);
    json_text_skip(&rest);
    bool ok = !wrong && rest.n == 0;
    require(ok == json_text_ok(text) || has_surrogate_escape(text));
    if (ok && (*value.p == '{' || *value.p == '[')) {
        require(json_text_compact(NULL, value) <= value.n);
    }
}

static void check_quote(struct slice text)
{
    struct strbuf out;
    json_error_t e;
    strbuf_init(&out, text.n * 6 + 2);
    require(json_text_quote(&out, text) == 0);
    require(json_text_ok(strbuf_slice(&out)));
    json_t *back = load(strbuf_slice(&out), &e);
    require(json_is_string(back));
    require(slice_eq(slice_of(json_string_value(back), json_string_length(back)), text));
    json_decref(back);
    strbuf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *)data, size);
    if (!utf8_ok(text)) {
        json_text_ok(text); /* must not read past the end */
        return 0;
    }
    if (size && memchr(data, '\0', size)) {
        require(!json_text_ok(text)); /* jansson overlooks a NUL behind a number */
    } else {
        check_syntax(text);
    }
    if (size) {
        check_cut(text);
    }
    check_quote(text);
    return 0;
}
