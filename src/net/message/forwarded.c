#include "net/message/forwarded.h"

#include "base/decimal.h"

#include <string.h>

static bool parse_port(struct slice s)
{
    uint64_t port;
    return decimal_parse(s, UINT16_MAX, &port);
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443", "unix:" */
static bool parse_hop(struct slice s, struct peer_address *out)
{
    if (slice_is(s, "unix:")) {
        s.n--;
        return peer_address_parse(s, out);
    }
    if (s.n && s.p[0] == '[') {
        const char *end = memchr(s.p, ']', s.n);
        if (!end) {
            return false;
        }
        size_t n = (size_t)(end - s.p) + 1;
        struct slice behind = slice_of(s.p + n, s.n - n);
        bool good = behind.n == 0 ||
                    (behind.p[0] == ':' && parse_port(slice_of(behind.p + 1, behind.n - 1)));
        struct slice inner = slice_of(s.p + 1, n - 2);
        return good && memchr(inner.p, ':', inner.n) && peer_address_parse(inner, out);
    }
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    size_t host = colon ? (size_t)(colon - s.p) : s.n;
    if (colon && !memchr(colon + 1, ':', s.n - host - 1)) { /* one colon: a port */
        return parse_port(slice_of(colon + 1, s.n - host - 1)) && memchr(s.p, '.', host) &&
               peer_address_parse(slice_of(s.p, host), out);
    }
    return peer_address_parse(s, out);
}

/* Cuts the last element off a comma-separated list. */
static struct slice last_element(struct slice *list)
{
    size_t end = list->n, start;
    const char *comma = end ? memrchr(list->p, ',', end) : NULL;
    start = comma ? (size_t)(comma - list->p) + 1 : 0;
    list->n = comma ? start - 1 : 0;
    while (start < end && (list->p[start] == ' ' || list->p[start] == '\t')) {
        start++;
    }
    while (end > start && (list->p[end - 1] == ' ' || list->p[end - 1] == '\t')) {
        end--;
    }
    return slice_of(list->p + start, end - start);
}

void client_address(const struct peer_address *peer, const struct http_header *fields,
                    size_t field_count, const struct network *trusted, size_t trusted_count,
                    struct peer_address *out)
{
    *out = *peer;
    if (trusted_count == 0) {
        return;
    }
    for (size_t i = field_count; i-- > 0;) {
        if (!slice_is_nocase(fields[i].name, "X-Forwarded-For")) {
            continue;
        }
        struct slice list = fields[i].value;
        bool more = true;
        while (more) {
            struct peer_address hop;
            if (!networks_contain(trusted, trusted_count, out)) {
                return;
            }
            more = list.n > 0 && memchr(list.p, ',', list.n) != NULL;
            /* "unix" names no client: a trusted hop may be one, a claimed client may not */
            if (!parse_hop(last_element(&list), &hop) ||
                (peer_address_is_unix(&hop) && !networks_contain(trusted, trusted_count, &hop))) {
                return;
            }
            *out = hop;
        }
    }
}

bool client_is_secure(const struct peer_address *peer, const struct http_header *fields,
                      size_t field_count, const struct network *trusted, size_t trusted_count)
{
    for (size_t i = field_count; i-- > 0;) {
        if (slice_is_nocase(fields[i].name, "X-Forwarded-Proto")) {
            struct slice list = fields[i].value;
            return slice_is_nocase(last_element(&list), "https") &&
                   networks_contain(trusted, trusted_count, peer);
        }
    }
    return false;
}
