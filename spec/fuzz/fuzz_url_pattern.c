/* URL patterns: the first line is a pattern, the second a URL. What fits must fit by a matcher that tries everything, and
 * what is plain must be told the same. */
#include "base/text/url_pattern.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 40, WILDCARDS_MAX = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool name_byte(char c, bool first)
{
    return isalpha((unsigned char)c) || c == '_' || c == '$' ||
           (!first && isdigit((unsigned char)c));
}

static struct slice from(struct slice s, size_t n)
{
    return slice_of(s.p + n, s.n - n);
}

static bool naive(struct slice p, struct slice s, const char *name_stops, const char *star_stops)
{
    if (p.n == 0) {
        return s.n == 0;
    }
    bool star = *p.p == '*', name = *p.p == ':' && p.n > 1 && name_byte(p.p[1], true);
    size_t rest = 1;
    if (!star && !name) {
        return s.n > 0 && *s.p == *p.p && naive(from(p, 1), from(s, 1), name_stops, star_stops);
    }
    while (name && rest < p.n && name_byte(p.p[rest], false)) {
        rest++;
    }
    for (size_t n = 0; n <= s.n; n++) {
        if ((star || n > 0) && naive(from(p, rest), from(s, n), name_stops, star_stops)) {
            return true;
        }
        if (n < s.n && strchr(star ? star_stops : name_stops, s.p[n])) {
            return false;
        }
    }
    return false;
}

/* Where the scheme ends, and the host. */
static void parts(struct slice s, size_t *host, size_t *path, size_t *end)
{
    const char *scheme = s.n ? memmem(s.p, s.n, "://", 3) : NULL;
    *host = scheme && *s.p != '/' ? (size_t)(scheme - s.p) + 3 : 0;
    for (*path = *host; *host && *path < s.n && !memchr("/?#", s.p[*path], 3);) {
        ++*path;
    }
    for (*end = *path; *end < s.n && s.p[*end] != '?' && s.p[*end] != '#';) {
        ++*end;
    }
}

static bool expected(struct slice p, struct slice u)
{
    size_t ph, pp, pe, uh, up, ue;
    parts(p, &ph, &pp, &pe);
    parts(u, &uh, &up, &ue);
    struct slice path = up == ue ? slice_str("/") : slice_of(u.p + up, ue - up);
    return ph == uh && memcmp(p.p, u.p, ph) == 0 &&
           naive(slice_of(p.p + ph, pp - ph), slice_of(u.p + uh, up - uh), ".:", ":") &&
           (pp == pe || naive(slice_of(p.p + pp, pe - pp), path, "/", ""));
}

/* Nothing in it that is not compared as it is. */
static bool plain(struct slice u)
{
    for (size_t i = 0; i < u.n; i++) {
        if (!(islower((unsigned char)u.p[i]) || isdigit((unsigned char)u.p[i]) ||
              (u.p[i] && strchr("/:?#-", u.p[i])))) {
            return false;
        }
    }
    size_t host, path, end;
    parts(u, &host, &path, &end);
    return host ? host > 3 && path > host && islower((unsigned char)*u.p) &&
                      strspn(u.p, "abcdefghijklmnopqrstuvwxyz") == host - 3
                : u.n > 0 && *u.p == '/' && (u.n == 1 || u.p[1] != '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data, *line = size ? memchr(p, '\n', size) : NULL;
    if (!line) {
        return 0;
    }
    struct slice pattern = slice_of(p, (size_t)(line - p));
    struct slice url = slice_of(line + 1, size - pattern.n - 1);
    bool ok = url_pattern_ok(pattern), fits = url_pattern_fits(pattern, url);
    size_t wildcards = 0;
    for (size_t i = 0; i < pattern.n; i++) {
        wildcards += pattern.p[i] == ':' || pattern.p[i] == '*';
    }
    if (!ok && fits) {
        abort();
    }
    if (ok && url.n <= TEXT_MAX && wildcards <= WILDCARDS_MAX && (fits || plain(url)) &&
        fits != expected(pattern, url)) {
        abort();
    }
    return 0;
}
