/* URI templates: the first line is a template, the second a text. A matcher that tries everything, written without the
 * code under test, must agree. */
#include "base/text/uri_template.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 24, EXPRESSIONS_MAX = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool triplet(struct slice s, size_t at)
{
    return at + 2 < s.n && s.p[at] == '%' && isxdigit((unsigned char)s.p[at + 1]) &&
           isxdigit((unsigned char)s.p[at + 2]);
}

static bool plain(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_' || c == '~';
}

/* `e` is what stands between the braces of a template that is one: may it have become `s`? */
static bool naive_expression(struct slice e, struct slice s)
{
    static const char signs[] = "+#./;?&", firsts[] = "\0#./;?&", separators[] = ",,./;&&";
    const char *sign = strchr(signs, *e.p);
    size_t which = sign ? (size_t)(sign - signs) : 0, commas = 0, found = 0, i = 0;
    char first = sign ? firsts[which] : '\0', separator = sign ? separators[which] : ',';
    bool stars = memchr(e.p, '*', e.n), reserved = sign && which < 2;
    for (size_t k = 0; k < e.n; k++) {
        commas += e.p[k] == ',';
    }
    if (s.n == 0) {
        return true;
    }
    if (first && s.p[i++] != first) {
        return false;
    }
    while (i < s.n) {
        char c = s.p[i];
        if (triplet(s, i)) {
            i += 3;
            continue;
        }
        bool fine = plain(c) || c == ',' || (c == '=' && (stars || (sign && which >= 4))) ||
                    (reserved && c && strchr(":/?#[]@!$&'()*+,;=", c));
        if (!fine && (c != separator || (found++ >= commas && !stars))) {
            return false;
        }
        i++;
    }
    return true;
}

static bool naive(struct slice t, struct slice s)
{
    if (t.n == 0) {
        return s.n == 0;
    }
    if (*t.p != '{') {
        return s.n > 0 && *s.p == *t.p &&
               naive(slice_of(t.p + 1, t.n - 1), slice_of(s.p + 1, s.n - 1));
    }
    size_t end = (size_t)((const char *)memchr(t.p, '}', t.n) - t.p);
    for (size_t n = 0; n <= s.n; n++) {
        if (naive_expression(slice_of(t.p + 1, end - 1), slice_of(s.p, n)) &&
            naive(slice_of(t.p + end + 1, t.n - end - 1), slice_of(s.p + n, s.n - n))) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data, *line = size ? memchr(p, '\n', size) : NULL;
    if (!line) {
        return 0;
    }
    struct slice template = slice_of(p, (size_t)(line - p));
    struct slice text = slice_of(line + 1, size - template.n - 1);
    bool ok = uri_template_ok(template), fits = uri_template_fits(template, text);
    size_t expressions = 0;
    for (size_t i = 0; i < template.n; i++) {
        expressions += template.p[i] == '{';
    }
    if (!ok && fits != slice_eq(template, text)) {
        abort();
    }
    if (ok && text.n <= TEXT_MAX && expressions <= EXPRESSIONS_MAX &&
        fits != (slice_eq(template, text) || naive(template, text))) {
        abort();
    }
    return 0;
}
