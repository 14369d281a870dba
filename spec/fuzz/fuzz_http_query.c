/* Any bytes as a query string. Property: what was decoded, encoded again, decodes to the same. */
#include "base/strbuf.h"
#include "base/text/json_text.h"
#include "base/utf8.h"
#include "net/message/http_query.h"
#include "net/message/http_response.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x) ((x) ? (void)0 : abort())

static void encode(struct strbuf *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        MUST(strbuf_printf(out, "%%%02x", (unsigned char)s.p[i]) == 0);
    }
}

static void check_again(const struct http_query *q)
{
    struct strbuf text;
    struct http_query again;
    strbuf_init(&text, 1 << 24);
    for (size_t i = 0; i < q->count; i++) {
        struct http_param *param = &q->params[i];
        MUST(utf8_ok(param->name) && utf8_ok(param->value));
        encode(&text, param->name);
        MUST(strbuf_append_str(&text, "=") == 0);
        encode(&text, param->value);
        MUST(strbuf_append_str(&text, "&") == 0);
    }
    MUST(http_query_parse(&again, strbuf_slice(&text)) == 0 && again.count == q->count);
    for (size_t i = 0; i < q->count; i++) {
        MUST(slice_eq(again.params[i].name, q->params[i].name));
        MUST(slice_eq(again.params[i].value, q->params[i].value));
    }
    http_query_clear(&again);
    strbuf_clear(&text);
}

/* What json_text_quote() makes of any bytes is one JSON string, and of UTF-8 that same text. */
static void check_json(struct slice input)
{
    struct strbuf json;
    strbuf_init(&json, 1 << 24);
    MUST(json_text_quote(&json, input) == 0);
    json_t *back = json_loadb(json.data, json.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    MUST(json_is_string(back));
    if (utf8_ok(input)) {
        MUST(slice_eq(input, slice_of(json_string_value(back), json_string_length(back))));
    }
    json_decref(back);
    strbuf_clear(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of((const char *)data, size);
    struct http_query q;
    if (http_query_parse(&q, input) == 0) {
        MUST(q.count <= HTTP_QUERY_MAX_PARAMS);
        check_again(&q);
        for (size_t i = 0; i < q.count; i++) {
            if (strlen("a") == q.params[i].name.n && q.params[i].name.p[0] == 'a') {
                MUST(http_query_get(&q, "a").p != NULL);
            }
        }
        http_query_clear(&q);
    }
    check_json(input);
    return 0;
}
