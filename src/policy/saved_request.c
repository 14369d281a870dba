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

struct saved_request *saved_request_new(struct slice query, struct slice identity)
{
    if (!identity.p) {
        identity = slice_str("{}");
    }
    struct saved_request *k = xmalloc(sizeof *k + query.n + identity.n);
    *k = (struct saved_request){
        .refs = 1, .query_bytes = (uint32_t)query.n, .identity_bytes = (uint32_t)identity.n};
    if (query.n) {
        memcpy(k->bytes, query.p, query.n);
    }
    memcpy(k->bytes + query.n, identity.p, identity.n);
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

/* The texts before the identity. Parameters have two each: an odd number begins with a path. */
static size_t saved_request_count(const struct saved_request *k)
{
    size_t strings = 0;
    for (size_t i = 0; i < k->query_bytes; i++) {
        strings += k->bytes[i] == '\0';
    }
    return strings;
}

struct slice saved_request_path(const struct saved_request *k)
{
    return saved_request_count(k) % 2 ? slice_str(k->bytes) : slice_of(NULL, 0);
}

void saved_request_query(const struct saved_request *k, struct http_query *out)
{
    const char *at = k->bytes;
    size_t strings = saved_request_count(k);
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
