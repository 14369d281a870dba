/* Scheme, host and path of the pattern are matched with those of the URL, each for itself. */
#include "base/text/url_pattern.h"

#include "base/text/text_places.h"

struct url_parts {
    struct slice scheme, host,
        path; /* host with its port; scheme.p and host.p NULL: a path alone */
};

static bool url_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool url_name_byte(char c, bool first)
{
    return url_letter(c) || c == '_' || c == '$' || (!first && c >= '0' && c <= '9');
}

static size_t url_scheme_length(struct slice s)
{
    size_t n = 0;
    while (n < s.n && s.p[n] >= 'a' && s.p[n] <= 'z') {
        n++;
    }
    return n > 0 && s.n - n >= 3 && memcmp(s.p + n, "://", 3) == 0 ? n : 0;
}

static size_t url_find(struct slice s, size_t from, const char *bytes)
{
    for (; from < s.n; from++) {
        for (const char *b = bytes; *b; b++) {
            if (s.p[from] == *b) {
                return from;
            }
        }
    }
    return from;
}

/* "scheme://host/path" or "/path"; '?' and '#' end the path. */
static bool url_split(struct slice s, struct url_parts *out)
{
    size_t n = url_scheme_length(s), from = n ? n + 3 : 0;
    *out = (struct url_parts){0};
    if (n) {
        size_t slash = url_find(s, from, "/?#");
        out->scheme = slice_of(s.p, n);
        out->host = slice_of(s.p + from, slash - from);
        if (slash == from) {
            return false;
        }
        from = slash;
    } else if (s.n == 0 || *s.p != '/' || (s.n > 1 && s.p[1] == '/')) {
        return false;
    }
    out->path = slice_of(s.p + from, url_find(s, from, "?#") - from);
    return true;
}

/* Is it "." or "..", also written with %2e? */
static bool url_dots(struct slice segment)
{
    size_t dots = 0;
    while (segment.n > 0) {
        size_t n = *segment.p == '.'                                                  ? 1
                   : segment.n >= 3 && slice_is_nocase(slice_of(segment.p, 3), "%2e") ? 3
                                                                                      : 0;
        if (n == 0) {
            return false;
        }
        dots++;
        segment = slice_of(segment.p + n, segment.n - n);
    }
    return dots == 1 || dots == 2;
}

/* Would it be another one if it were made canonical? */
static bool url_is_plain(struct slice url, const struct url_parts *u)
{
    for (size_t i = 0; i < url.n; i++) {
        if ((unsigned char)url.p[i] <= ' ' || url.p[i] == '\\' || url.p[i] == 0x7f) {
            return false;
        }
    }
    if (url_find(u->host, 0, "@") < u->host.n) {
        return false;
    }
    for (size_t from = 0; from < u->path.n;) {
        size_t end = url_find(u->path, from, "/");
        if (url_dots(slice_of(u->path.p + from, end - from))) {
            return false;
        }
        from = end + 1;
    }
    return true;
}

static bool url_host_is_plain(struct slice host)
{
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-._:[]", c)))) {
            return false;
        }
    }
    return true;
}

enum url_wildcard { WILDCARD_NONE, WILDCARD_NAME, WILDCARD_STAR };

/* The bytes before the next ":name" or '*' of `s`, which is moved behind that. */
static struct slice url_take(struct slice *s, enum url_wildcard *kind)
{
    size_t n = 0, end;
    while (n < s->n && s->p[n] != '*' &&
           !(s->p[n] == ':' && n + 1 < s->n && url_name_byte(s->p[n + 1], true))) {
        n++;
    }
    struct slice literal = slice_of(s->p, n);
    *kind = n == s->n ? WILDCARD_NONE : s->p[n] == '*' ? WILDCARD_STAR : WILDCARD_NAME;
    end = n + (*kind != WILDCARD_NONE);
    while (*kind == WILDCARD_NAME && end < s->n && url_name_byte(s->p[end], false)) {
        end++;
    }
    *s = slice_of(s->p + end, s->n - end);
    return literal;
}

/* No byte of it has another meaning in URL patterns; behind a name and a star some have. */
static bool url_part_ok(struct slice part, unsigned *wildcards)
{
    while (part.n > 0) {
        enum url_wildcard kind;
        struct slice literal = url_take(&part, &kind);
        *wildcards += kind != WILDCARD_NONE;
        if (kind != WILDCARD_NONE && part.n > 0 &&
            (*part.p == '*' || (unsigned char)*part.p >= 0x80)) {
            return false;
        }
        for (size_t i = 0; i < literal.n; i++) {
            unsigned char c = (unsigned char)literal.p[i];
            bool name = c == ':' && i + 1 < literal.n && (unsigned char)literal.p[i + 1] >= 0x80;
            if (c <= ' ' || c == 0x7f || strchr("(){}+\\", c) || name) {
                return false;
            }
        }
    }
    return true;
}

bool url_pattern_ok(struct slice pattern)
{
    struct url_parts p;
    unsigned wildcards = 0;
    return pattern.n > 0 && pattern.n <= URL_PATTERN_MAX_BYTES &&
           url_find(pattern, 0, "?#") == pattern.n && url_split(pattern, &p) &&
           url_is_plain(pattern, &p) && url_part_ok(p.host, &wildcards) &&
           url_part_ok(p.path, &wildcards) && wildcards <= URL_PATTERN_WILDCARDS_MAX;
}

static bool url_is_stop(char c, const char *stops)
{
    for (; *stops; stops++) {
        if (c == *stops) {
            return true;
        }
    }
    return c == '\0';
}

/* `stops` end what the wildcard stands for: '/' of a path, '.' of a host. */
static bool url_skip_wildcard(struct text_places *p, struct slice text, enum url_wildcard kind,
                              const char *stops)
{
    bool running = false, any = false;
    size_t begun = p->high, low = 0, high = 0;
    for (size_t i = p->low; i <= text.n && (running || i <= begun); i++) {
        bool begins = i <= begun && p->at[i];
        p->at[i] = running || (begins && kind == WILDCARD_STAR);
        running = (running || begins) && i < text.n && !url_is_stop(text.p[i], stops);
        low = p->at[i] && !any ? i : low;
        high = p->at[i] ? i : high;
        any = any || p->at[i];
    }
    p->low = low;
    p->high = high;
    return any;
}

static bool url_part_fits(struct slice pattern, struct slice text, const char *name_stops,
                          const char *star_stops, unsigned *wildcards)
{
    struct text_places places;
    text_places_init(&places);
    while (pattern.n > 0) {
        enum url_wildcard kind;
        struct slice literal = url_take(&pattern, &kind);
        *wildcards += kind != WILDCARD_NONE;
        if (*wildcards > URL_PATTERN_WILDCARDS_MAX || !text_places_skip(&places, text, literal) ||
            (kind != WILDCARD_NONE &&
             !url_skip_wildcard(&places, text, kind,
                                kind == WILDCARD_NAME ? name_stops : star_stops))) {
            return false;
        }
    }
    return text_places_at_end(&places, text);
}

bool url_pattern_fits(struct slice pattern, struct slice url)
{
    struct url_parts p, u;
    unsigned wildcards = 0;
    if (!url.p || !pattern.p || url.n > URL_PATTERN_TEXT_MAX_BYTES ||
        pattern.n > URL_PATTERN_MAX_BYTES || !url_split(url, &u) || !url_split(pattern, &p) ||
        !p.scheme.p != !u.scheme.p || (p.scheme.p && !slice_eq(p.scheme, u.scheme)) ||
        (p.host.p && !url_part_fits(p.host, u.host, ".:", ":", &wildcards)) ||
        (p.path.n &&
         !url_part_fits(p.path, u.path.n ? u.path : slice_str("/"), "/", "", &wildcards))) {
        return false;
    }
    return url_is_plain(url, &u) && url_host_is_plain(u.host) && url_pattern_ok(pattern);
}
