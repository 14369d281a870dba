#include "net/message/request_id.h"

#include <ctype.h>

void request_id_make(const struct hash_key *key, uint64_t stream, struct request_id *out)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t hash = hash_bytes(key, &stream, sizeof stream);
    for (int i = 15; i >= 0; i--) {
        out->text[i] = digits[hash & 15];
        hash >>= 4;
    }
    out->text[16] = '\0';
}

static bool request_id_ok(struct slice id)
{
    for (size_t i = 0; i < id.n; i++) {
        unsigned char c = (unsigned char)id.p[i];
        if (c >= 0x80 || (!isalnum(c) && !strchr("-_.:+/=@", c))) {
            return false;
        }
    }
    return id.n > 0 && id.n <= REQUEST_ID_MAX;
}

struct slice request_id_given(const struct http_request *rq)
{
    struct slice id = http_request_header(rq, "X-Request-Id");
    return id.p && request_id_ok(id) ? id : slice_of(NULL, 0);
}

struct slice request_id_of_fields(struct slice fields)
{
    static const char name[] = REQUEST_ID_FIELD;
    size_t n = sizeof name - 1;
    if (fields.n < n || memcmp(fields.p, name, n) != 0) {
        return slice_of(NULL, 0);
    }
    const char *end = memchr(fields.p, '\r', fields.n);
    return slice_of(fields.p + n, end ? (size_t)(end - fields.p) - n : 0);
}

int request_id_put(const struct http_request *rq, struct strbuf *fields)
{
    struct slice id = rq->request_id;
    return id.n ? strbuf_printf(fields, REQUEST_ID_FIELD "%.*s\r\n", (int)id.n, id.p) : 0;
}
