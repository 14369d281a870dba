/* See http_url.h. Characters: RFC 3986, section 2 and 3.3. */
#include "net/client/http_url.h"

#include "base/text/hex.h"

#include <uv.h>

static bool is_unreserved(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("-._~", c));
}

/* What may stand in a path as it is. */
static bool is_path_char(char c)
{
    return is_unreserved(c) || (c != '\0' && strchr("!$&'()*+,;=:@/", c));
}

/* "." or ".."; servers see them behind '\\' and encodings, too. */
static bool is_dots(struct slice s)
{
    return slice_is(s, ".") || slice_is(s, "..");
}

/* Decodes one character of a path. NULL: fine; else what is wrong. */
static const char *http_url_decode(struct slice path, size_t *at, char *out)
{
    char c = path.p[*at];
    if (c != '%') {
        *out = c;
        ++*at;
        return is_path_char(c) ? NULL : "has a character that must be written as %XX";
    }
    int high = *at + 2 < path.n ? hex_value(path.p[*at + 1]) : -1;
    int low = *at + 2 < path.n ? hex_value(path.p[*at + 2]) : -1;
    if (high < 0 || low < 0) {
        return "has a % without two hexadecimal digits";
    }
    *out = (char)(high << 4 | low);
    *at += 3;
    return (unsigned char)*out < 0x20 || *out == 0x7f ? "has an encoded control character" : NULL;
}

/* Does a '%' that was decoded begin a '.', '/' or '\\' for a server that decodes twice? */
static bool is_encoded_twice(struct slice rest)
{
    return rest.n >= 2 && ((rest.p[0] == '2' && strchr("eEfF", rest.p[1])) ||
                           (rest.p[0] == '5' && strchr("cC", rest.p[1])));
}

/* Looks at the path as a server does that decodes it once before it looks for segments, and takes
 * ";parameters" off them (RFC 3986, 3.3), as some do. */
static const char *path_problem(struct slice path)
{
    char segment[3] = "";
    size_t n = 0; /* of the segment so far; only its first bytes are kept */
    bool parameters = false;
    if (path.n == 0 || path.p[0] != '/') {
        return "must begin with '/'";
    }
    if (path.n > 1 && path.p[1] == '/') {
        return "must not begin with \"//\"";
    }
    for (size_t at = 0; at < path.n;) {
        char c = '\0';
        const char *problem = http_url_decode(path, &at, &c);
        if (problem) {
            return problem;
        }
        if (c == '%' && is_encoded_twice(slice_of(path.p + at, path.n - at))) {
            return "has a '.', '/' or '\\' that is encoded twice";
        }
        if (c == '/' || c == '\\') {
            if (n <= 2 && is_dots(slice_of(segment, n))) {
                return "has a \".\" or \"..\" segment";
            }
            n = 0;
            parameters = false;
        } else if (c == ';' || parameters) {
            parameters = true;
        } else {
            if (n < sizeof segment) {
                segment[n] = c;
            }
            n++;
        }
    }
    return n <= 2 && is_dots(slice_of(segment, n)) ? "has a \".\" or \"..\" segment" : NULL;
}

static int put_encoded(struct strbuf *out, struct slice s)
{
    static const char digits[] = "0123456789ABCDEF";
    int rc = 0;
    for (size_t i = 0; i < s.n && rc == 0; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char encoded[3] = {'%', digits[c >> 4], digits[c & 15]};
        rc = is_unreserved((char)c) ? strbuf_append(out, (const char *)&c, 1)
                                    : strbuf_append(out, encoded, sizeof encoded);
    }
    return rc;
}

static const char *segment_problem(struct slice s)
{
    if (s.n == 0 || is_dots(s)) {
        return "has an empty, \".\" or \"..\" segment";
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f || c == '/' || c == '\\') {
            return "has a segment with '/', '\\' or a control character";
        }
    }
    return NULL;
}

static int put_segments(struct strbuf *out, const struct http_url_parts *parts, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < parts->segment_count && rc == 0; i++) {
        const char *problem = segment_problem(parts->segments[i]);
        if (problem) {
            return err_set(e, UV_EINVAL, "the path %s", problem);
        }
        rc = strbuf_append(out, "/", 1);
        rc = rc ? rc : put_encoded(out, parts->segments[i]);
    }
    return rc;
}

int http_url_join(struct strbuf *out, const char *base, const struct http_url_parts *parts,
                  struct err *e)
{
    size_t n = strlen(base);
    bool more = parts->path.p || parts->segment_count;
    const char *problem = parts->path.p ? path_problem(parts->path) : NULL;
    if (problem) {
        return err_set(e, UV_EINVAL, "the path %s", problem);
    }
    n -= more && n > 0 && base[n - 1] == '/';
    e->code = 0;
    int rc = strbuf_append(out, base, n);
    if (rc == 0 && parts->path.p) {
        rc = strbuf_append(out, parts->path.p, parts->path.n);
    }
    rc = rc ? rc : put_segments(out, parts, e);
    for (size_t i = 0; i < parts->query_count && rc == 0; i++) {
        rc = strbuf_append(out, i ? "&" : "?", 1);
        rc = rc ? rc : put_encoded(out, parts->query[i].name);
        rc = rc ? rc : strbuf_append(out, "=", 1);
        rc = rc ? rc : put_encoded(out, parts->query[i].value);
    }
    return rc && !e->code ? err_set(e, UV_EMSGSIZE, "the URL is longer than %zu bytes", out->max)
                          : rc;
}
