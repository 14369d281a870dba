/* The readers of `tidegate-bench`: however a response is cut into pieces, what is found in it is
 * the same, and a mark that was written is read back. Input: a byte of choices, then a response. */
#include "bench/measure/bench_order.h"
#include "bench/wire/bench_http.h"
#include "bench/wire/bench_sse.h"

#include <stdlib.h>

struct sum {
    uint64_t heads, ends, bad, body_bytes, events, data_bytes, seqs, wholes, gaps, status;
};

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void read_events(struct bench_sse *sse, struct slice body, struct sum *sum)
{
    struct bench_sse_event ev;
    while (bench_sse_next(sse, &body, &ev)) {
        sum->events++;
        sum->data_bytes += ev.data_bytes;
        sum->seqs = sum->seqs * 31 + (ev.marked ? ev.mark.seq + ev.mark.run : 7);
        sum->wholes += ev.whole;
        sum->gaps += ev.gap;
        require(ev.marked || !ev.whole);
    }
    require(body.n == 0);
}

/* `step` 0: in one piece. */
static void read_all(struct slice in, size_t step, struct sum *sum)
{
    struct bench_http http = {0};
    struct bench_sse sse = {0};
    while (in.n) {
        struct slice piece = slice_of(in.p, step && step < in.n ? step : in.n), body = {NULL, 0};
        /* a copy, so that a reader beyond the end is seen */
        char *copy = malloc(piece.n);
        require(copy != NULL);
        memcpy(copy, piece.p, piece.n);
        struct slice rest = slice_of(copy, piece.n);
        enum bench_http_found found = BENCH_HTTP_HEAD;
        while (found != BENCH_HTTP_MORE && found != BENCH_HTTP_BAD) {
            found = bench_http_next(&http, &rest, &body);
            sum->heads += found == BENCH_HTTP_HEAD;
            sum->ends += found == BENCH_HTTP_END;
            if (found == BENCH_HTTP_HEAD) {
                sum->status = sum->status * 31 + (uint64_t)http.status;
            } else if (found == BENCH_HTTP_BODY) {
                require(body.n > 0);
                sum->body_bytes += body.n;
                read_events(&sse, body, sum);
            }
        }
        free(copy);
        if (found == BENCH_HTTP_BAD) {
            sum->bad = 1;
            return;
        }
        require(rest.n == 0);
        in = slice_of(in.p + piece.n, in.n - piece.n);
    }
}

static void check_mark(const uint8_t *data, size_t size)
{
    struct bench_mark m = {0}, back;
    char text[BENCH_MARK_MAX];
    size_t at = 1;
    memcpy(&m, data, size < sizeof m ? size : sizeof m);
    m.seq >>= 1; /* below 10^19 */
    m.sent_ns >>= 1;
    size_t n = bench_mark_write(text, &m);
    require(n <= sizeof text && bench_mark_find(slice_of(text, n), &back, &at) && at == 0);
    require(back.run == m.run && back.topic == m.topic && back.seq == m.seq &&
            back.sent_ns == m.sent_ns);
}

/* Every byte is a sequence number: the count of kinds must agree with a plain set. */
static void check_order(const uint8_t *data, size_t size)
{
    struct bench_order o = {0};
    bool seen[256] = {false};
    uint64_t distinct = 0;
    for (size_t i = 0; i < size; i++) {
        enum bench_order_kind kind = bench_order_take(&o, data[i]);
        require((kind == BENCH_ORDER_DOUBLED) == seen[data[i]]);
        distinct += !seen[data[i]];
        seen[data[i]] = true;
        require(bench_order_missing(&o, 256) == 256 - distinct);
    }
    bench_order_clear(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct slice in = slice_of((const char *)data + 1, size - 1);
    struct sum whole = {0}, pieces = {0};
    read_all(in, 0, &whole);
    read_all(in, 1 + data[0] % 17, &pieces);
    require(memcmp(&whole, &pieces, sizeof whole) == 0);
    check_mark(data + 1, size - 1);
    check_order(data + 1, size - 1);
    return 0;
}
