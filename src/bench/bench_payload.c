#include "bench/bench_payload.h"

#include <stdio.h>
#include <string.h>

enum { ORDER_MAX = 1024 };

/* The next of a row of numbers that look like any (xorshift64*). */
static uint32_t bench_payload_any(uint64_t *state, uint32_t below)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545f4914f6cdd1dU) >> 32) % below;
}

/* An order of a shop, as applications publish them: the same keys, a few words out of small sets, numbers that never
 * come again. The same mark gives the same order. */
static size_t bench_payload_order(const struct bench_mark *m, char out[ORDER_MAX])
{
    static const char *const states[] = {"created", "paid", "packed", "shipped", "delivered"};
    static const char *const cities[] = {"Berlin", "Lyon", "Porto", "Gdansk", "Malmo", "Graz"};
    static const char *const goods[] = {"Desk lamp", "Walnut shelf", "Wool blanket", "Enamel mug",
                                        "Floor mat"};
    uint64_t r = (((uint64_t)m->run << 32 | m->topic) ^ (m->seq + 1) * 0x9e3779b97f4a7c15U) | 1;
    char mark[BENCH_MARK_MAX];
    int n = (int)bench_mark_write(mark, m);
    uint32_t quantity = 1 + bench_payload_any(&r, 4), price = 499 + bench_payload_any(&r, 9000);
    n = snprintf(
        out, ORDER_MAX,
        "{\"ref\":\"%.*s\",\"order_id\":\"ord_%08x%08x\",\"status\":\"%s\",\"customer\":"
        "{\"id\":%u,\"email\":\"user%u@example.com\",\"country\":\"DE\"},\"items\":[{\"sku\":"
        "\"SKU-%05u\",\"name\":\"%s\",\"quantity\":%u,\"unit_price\":%u}],\"total\":%u,"
        "\"currency\":\"EUR\",\"shipping\":{\"method\":\"standard\",\"city\":\"%s\",\"zip\":"
        "\"%05u\"},\"created_at\":\"2026-05-%02uT%02u:%02u:%02u.%03uZ\"}",
        n, mark, bench_payload_any(&r, UINT32_MAX), bench_payload_any(&r, UINT32_MAX),
        states[bench_payload_any(&r, 5)], bench_payload_any(&r, 1000000),
        bench_payload_any(&r, 1000000), bench_payload_any(&r, 100000),
        goods[bench_payload_any(&r, 5)], quantity, price, quantity * price,
        cities[bench_payload_any(&r, 6)], bench_payload_any(&r, 100000),
        1 + bench_payload_any(&r, 28), bench_payload_any(&r, 24), bench_payload_any(&r, 60),
        bench_payload_any(&r, 60), bench_payload_any(&r, 1000));
    return (size_t)n;
}

size_t bench_payload_size(const struct bench_options *o, const struct bench_mark *m)
{
    char order[ORDER_MAX];
    return o->orders ? bench_payload_order(m, order) : o->size;
}

int bench_payload_append(const struct bench_options *o, struct strbuf *out,
                         const struct bench_mark *m)
{
    if (o->orders) {
        char order[ORDER_MAX];
        return strbuf_append(out, order, bench_payload_order(m, order));
    }
    int rc = strbuf_reserve(out, o->size);
    if (rc == 0) {
        char *p = out->data + out->len;
        size_t n = bench_mark_write(p, m); /* there is room: BENCH_SIZE_MIN */
        memset(p + n, 'x', o->size - n);
        out->len += o->size;
    }
    return rc;
}
