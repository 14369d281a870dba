/* Last-Event-ID: an id is what prints back to the same digits, leading zeros aside. */
#include "broker/resume.h"
#include "event/event.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_id(struct slice text, uint64_t id)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, id);
    require(id <= EVENT_ID_MAX && n > 0 && (size_t)n < sizeof digits);
    while (text.n > 1 && *text.p == '0') {
        text = slice_of(text.p + 1, text.n - 1);
    }
    require(slice_is(text, digits));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *)data, size);
    struct resume r = resume_parse_text(text);
    require(r.text.p == text.p && r.text.n == text.n);
    bool digits = size > 0;
    for (size_t i = 0; i < size; i++) {
        digits = digits && data[i] >= '0' && data[i] <= '9';
    }
    switch (r.kind) {
    case RESUME_NOW:
        require(size == 0);
        break;
    case RESUME_EARLIEST:
        require(slice_is(text, "earliest"));
        break;
    case RESUME_AFTER:
        require(digits);
        check_id(text, r.id);
        break;
    case RESUME_UNKNOWN: {
        char copy[64];
        snprintf(copy, sizeof copy, "%.*s", size < 40 ? (int)size : 40, (const char *)data);
        require(size > 0 && !slice_is(text, "earliest"));
        require(!digits || size > 40 || strtoull(copy, NULL, 10) > EVENT_ID_MAX);
        break;
    }
    }
    return 0;
}
