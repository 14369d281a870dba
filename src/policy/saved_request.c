#include "policy/saved_request.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

bool saved_request_is_credential(const struct saved_request_rules *rules, struct slice name)
{
    for (size_t i = 0; i < rules->count; i++) {
        if (slice_is(name, rules->credential_params[i])) {
            return true;
        }
    }
    return false;
}

static int pack(struct strbuf *out, struct slice s)
{
    int rc = s.n ? strbuf_append(out, s.p, s.n) : 0;
    return rc ? rc : strbuf_append(out, "", 1);
}

int saved_request_pack(struct strbuf *out, struct slice path, const struct http_query *query,
                       const struct saved_request_rules *rules)
{
    int rc = path.p ? pack(out, path) : 0; /* holds no NUL: the parser of heads refuses it */
    for (size_t i = 0; i < query->count && rc == 0; i++) {
        const struct http_param *p = &query->params[i]; /* holds no NUL: http_query_parse() */
        if (!saved_request_is_credential(rules, p->name)) {
            rc = pack(out, p->name);
            rc = rc ? rc : pack(out, p->value);
        }
    }
    return rc;
}

static char *saved_request_put(char *at, struct slice s)
{
    if (s.n) {
        memcpy(at, s.p, s.n);
    }
    return at + s.n;
}

/* JSON, and marks, hold no NUL. */
static char *saved_request_put_text(char *at, struct slice s)
{
    at = saved_request_put(at, s);
    *at = '\0';
    return at + 1;
}

struct saved_request *saved_request_new(struct slice query, struct slice identity,
                                        struct slice published, struct slice mark)
{
    if (!identity.p) {
        identity = slice_str("{}");
    }
    size_t before = (published.p ? published.n + 1 : 0) + (mark.p ? mark.n + 1 : 0);
    struct saved_request *k = xmalloc(sizeof *k + before + query.n + identity.n);
    *k = (struct saved_request){.refs = 1,
                                .query_bytes = (uint32_t)(before + query.n) & (INT32_MAX >> 1),
                                .identity_bytes = (uint32_t)identity.n,
                                .published = published.p != NULL,
                                .mark = mark.p != NULL};
    char *at = published.p ? saved_request_put_text(k->bytes, published) : k->bytes;
    at = mark.p ? saved_request_put_text(at, mark) : at;
    at = saved_request_put(at, query);
    (void)saved_request_put(at, identity);
    return k;
}

struct saved_request *saved_request_ref(struct saved_request *k)
{
    k->refs++;
    return k;
}

void saved_request_unref(struct saved_request *k)
{
    if (k && --k->refs == 0) {
        free(k);
    }
}

struct slice saved_request_identity(const struct saved_request *k)
{
    return slice_of(k->bytes + k->query_bytes, k->identity_bytes);
}

struct slice saved_request_published(const struct saved_request *k)
{
    return k->published ? slice_str(k->bytes) : slice_of(NULL, 0);
}

struct slice saved_request_mark(const struct saved_request *k)
{
    const char *at = k->bytes + (k->published ? strlen(k->bytes) + 1 : 0);
    return k->mark ? slice_str(at) : slice_of(NULL, 0);
}

/* Where path and query are, and how many texts they have. Parameters have two each: an odd number begins with a
 * path. */
static const char *saved_request_texts(const struct saved_request *k, size_t *strings)
{
    const char *from = k->bytes + (k->published ? strlen(k->bytes) + 1 : 0);
    from += k->mark ? strlen(from) + 1 : 0;
    *strings = 0;
    for (const char *at = from; at < k->bytes + k->query_bytes; at++) {
        *strings += *at == '\0';
    }
    return from;
}

struct slice saved_request_path(const struct saved_request *k)
{
    size_t strings;
    const char *at = saved_request_texts(k, &strings);
    return strings % 2 ? slice_str(at) : slice_of(NULL, 0);
}

void saved_request_query(const struct saved_request *k, struct http_query *out)
{
    size_t strings;
    const char *at = saved_request_texts(k, &strings);
    at += strings % 2 ? strlen(at) + 1 : 0;
    *out = (struct http_query){.params = xcalloc(strings / 2 + 1, sizeof *out->params),
                               .count = strings / 2};
    for (size_t i = 0; i < out->count; i++) {
        out->params[i].name = slice_str(at);
        at += out->params[i].name.n + 1;
        out->params[i].value = slice_str(at);
        at += out->params[i].value.n + 1;
    }
}
