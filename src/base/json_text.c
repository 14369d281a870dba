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
