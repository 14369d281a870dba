#include "base/json_text.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Length of the string that begins at text.p[0], with its quotes; 0: it does not end. */
static size_t string_size(struct slice text)
{
    for (size_t i = 1; i < text.n; i++) {
        if (text.p[i] == '\\') {
            i++;
        } else if (text.p[i] == '"') {
            return i + 1;
        }
    }
    return 0;
}

/* Length of the array or object that begins at text.p[0]; 0: it does not end. */
static size_t container_size(struct slice text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '"') {
            size_t n = string_size(slice_of(text.p + i, text.n - i));
            if (n == 0) {
                return 0;
            }
            i += n - 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

static bool is_mark(char c)
{
    return c == ',' || c == ':' || c == ']' || c == '}' || c == '[' || c == '{' || c == '"';
}

static size_t literal_size(struct slice text)
{
    size_t n = 0;
    while (n < text.n && !is_space(text.p[n]) && !is_mark(text.p[n])) {
        n++;
    }
    return n;
}

void json_text_skip(struct slice *rest)
{
    while (rest->n && is_space(*rest->p)) {
        *rest = slice_of(rest->p + 1, rest->n - 1);
    }
}

bool json_text_take(struct slice *rest, char c)
{
    json_text_skip(rest);
    if (rest->n == 0 || *rest->p != c) {
        return false;
    }
    *rest = slice_of(rest->p + 1, rest->n - 1);
    return true;
}

bool json_text_value(struct slice *rest, struct slice *value)
{
    json_text_skip(rest);
    if (rest->n == 0) {
        return false;
    }
    char c = *rest->p;
    size_t n = c == '"'               ? string_size(*rest)
               : c == '{' || c == '[' ? container_size(*rest)
                                      : literal_size(*rest);
    *value = slice_of(rest->p, n);
    *rest = slice_of(rest->p + n, rest->n - n);
    return n > 0;
}

size_t json_text_compact(char *out, struct slice text)
{
    size_t at = 0;
    for (size_t i = 0; i < text.n;) {
        if (is_space(text.p[i])) {
            i++;
            continue;
        }
        size_t n = 1;
        if (text.p[i] == '"') {
            size_t size = string_size(slice_of(text.p + i, text.n - i));
            n = size ? size : text.n - i;
        }
        memcpy(out + at, text.p + i, n);
        at += n;
        i += n;
    }
    return at;
}

static unsigned hex4(const char *p)
{
    unsigned n = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
        n = n << 4 | (digit & 0xf);
    }
    return n;
}

static size_t utf8_put(char out[4], unsigned code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[n] | code);
    return n;
}

/* The escape "\uXXXX" at p (p[0] is the 'u'), with the other half of a pair where there is one.
 * *used: bytes behind the backslash. RFC 8259, 7. */
static size_t decode_unicode(const char *p, const char *end, char out[4], size_t *used)
{
    *used = 5;
    if (end - p < 5) {
        *used = (size_t)(end - p);
        return utf8_put(out, 0xfffd);
    }
    unsigned code = hex4(p + 1);
    if (code < 0xd800 || code > 0xdfff) {
        return utf8_put(out, code);
    }
    if (code < 0xdc00 && end - p >= 11 && p[5] == '\\' && p[6] == 'u') {
        unsigned low = hex4(p + 7);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *used = 11;
            return utf8_put(out, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
        }
    }
    return utf8_put(out, 0xfffd);
}

/* The character at *p, decoded; *p moves behind it. */
static size_t decode_step(const char **p, const char *end, char out[4])
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (**p != '\\' || end - *p < 2) {
        out[0] = *(*p)++;
        return 1;
    }
    char c = (*p)[1];
    if (c == 'u') {
        size_t used;
        size_t n = decode_unicode(*p + 1, end, out, &used);
        *p += 1 + used;
        return n;
    }
    const char *at = c ? strchr(from, c) : NULL;
    out[0] = at ? to[at - from] : c;
    *p += 2;
    return 1;
}

size_t json_text_string(char *out, struct slice raw)
{
    size_t n = 0;
    const char *end = raw.p + raw.n - 1;
    for (const char *p = raw.p + 1; p < end;) {
        char one[4];
        size_t more = decode_step(&p, end, one); /* never more than it was written with */
        memcpy(out + n, one, more);
        n += more;
    }
    return n;
}

bool json_text_string_is(struct slice raw, struct slice text)
{
    const char *p = raw.p + 1, *end = raw.p + raw.n - 1;
    if (!memchr(p, '\\', (size_t)(end - p))) {
        return slice_eq(slice_of(p, (size_t)(end - p)), text);
    }
    size_t at = 0;
    while (p < end) {
        char one[4];
        size_t n = decode_step(&p, end, one);
        if (n > text.n - at || memcmp(one, text.p + at, n) != 0) {
            return false;
        }
        at += n;
    }
    return at == text.n;
}

bool json_text_member(struct slice object, struct slice name, struct slice *value)
{
    struct slice key, one;
    if (!object.p || !json_text_take(&object, '{')) {
        return false;
    }
    while (json_text_value(&object, &key) && json_text_take(&object, ':') &&
           json_text_value(&object, &one)) {
        if (json_text_string_is(key, name)) {
            *value = one;
            return true;
        }
        if (!json_text_take(&object, ',')) {
            break;
        }
    }
    return false;
}
