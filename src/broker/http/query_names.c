#include "broker/http/query_names.h"

#include "base/text/nearest.h"
#include "event/last_event_id.h"

#include <stdio.h>

/* The broker's own, for people: "attr." begins a name. */
static const char *const publish_names[] = {"topic", "type", "key", "expires", "ttl", "attr."};
static const char *const subscribe_names[] = {"topic", "since", "until", "limit"};

struct own_names {
    const char *const *v;
    size_t n;
};

static struct own_names query_names_own(bool publish)
{
    return publish ? (struct own_names){publish_names, sizeof publish_names / sizeof *publish_names}
                   : (struct own_names){subscribe_names,
                                        sizeof subscribe_names / sizeof *subscribe_names};
}

static bool query_names_is(struct slice name, const char *own)
{
    size_t n = strlen(own);
    return own[n - 1] == '.' ? name.n > n && memcmp(name.p, own, n) == 0 : slice_is(name, own);
}

static bool query_names_listed(struct slice name, char *const *list, size_t n)
{
    bool found = false;
    for (size_t i = 0; i < n && !found; i++) {
        found = slice_is(name, list[i]);
    }
    return found;
}

static bool query_names_known(const struct query_names *names, struct slice name, bool publish)
{
    struct own_names own = query_names_own(publish);
    bool known = query_names_listed(name, names->params, names->param_count) ||
                 query_names_listed(name, names->credentials, names->credential_count) ||
                 (!publish && last_event_id_is_name(name));
    for (size_t i = 0; i < own.n && !known; i++) {
        known = query_names_is(name, own.v[i]);
    }
    return known;
}

/* "Topic", "topics", "topic[]", "topic[0]", "attrs.x": one letter is too many, missing or wrong, whatever the case
 * is and what is no letter. */
static bool query_names_near(struct slice name, const char *own)
{
    enum { PLAIN_MAX = 16 };
    char plain[PLAIN_MAX];
    size_t n = 0, own_n = strlen(own);
    bool prefix = own[own_n - 1] == '.';
    const char *dot = prefix ? memchr(name.p, '.', name.n) : NULL;
    size_t end = dot ? (size_t)(dot - name.p) : name.n;
    if (prefix && !dot) {
        return false;
    }
    for (size_t i = 0; i < end; i++) {
        char c = (char)(name.p[i] | 0x20);
        if (c >= 'a' && c <= 'z') {
            if (n == PLAIN_MAX) {
                return false;
            }
            plain[n++] = c;
        }
    }
    own_n -= prefix;
    size_t d = nearest_distance(slice_of(own, own_n), slice_of(plain, n));
    return own_n > 3 ? d <= 1 : d == 0 || (d == 1 && n == own_n + 1 && plain[own_n] == 's');
}

static const char *query_names_meant(const struct query_names *names, struct slice name,
                                     bool publish)
{
    struct own_names own = query_names_own(publish);
    for (size_t i = 0; i < own.n; i++) {
        if (query_names_near(name, own.v[i])) {
            return own.v[i];
        }
    }
    return names->param_count
               ? nearest_name((const char *const *)names->params, names->param_count, name)
               : NULL;
}

bool query_names_bad(const struct query_names *names, const struct http_query *q, bool publish,
                     char *detail, size_t size)
{
    for (size_t i = 0; i < q->count; i++) {
        struct slice name = q->params[i].name;
        if (name.n == 0 || query_names_known(names, name, publish)) {
            continue;
        }
        int shown = name.n < 64 ? (int)name.n : 64;
        const char *meant = query_names_meant(names, name, publish);
        if (meant) {
            snprintf(
                detail, size,
                "the query has \"%.*s\": did you mean \"%s%s\"?%s A name that the policy reads "
                "belongs in http.query_params",
                shown, name.p, meant, strcmp(meant, "attr.") == 0 ? "NAME" : "",
                !publish && strcmp(meant, "topic") == 0 ? " topic= may be there several times."
                                                        : "");
            return true;
        }
        if (names->param_count) {
            snprintf(detail, size,
                     "the query has \"%.*s\", which nobody reads: it is not in http.query_params",
                     shown, name.p);
            return true;
        }
    }
    return false;
}

bool query_names_topic_list(struct slice query, char *detail, size_t size)
{
    static const char name[] = "topic=";
    const size_t n = sizeof name - 1;
    while (query.n) {
        const char *end = memchr(query.p, '&', query.n);
        struct slice pair = slice_of(query.p, end ? (size_t)(end - query.p) : query.n);
        size_t used = pair.n + (end != NULL);
        if (pair.n > n && memcmp(pair.p, name, n) == 0 && memchr(pair.p, ',', pair.n)) {
            snprintf(
                detail, size,
                "%.*s is one topic: write topic=a&topic=b for two topics, and %%2C for a comma "
                "in a name",
                pair.n < 100 ? (int)pair.n : 100, pair.p);
            return true;
        }
        query = slice_of(query.p + used, query.n - used);
    }
    return false;
}
