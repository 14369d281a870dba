/* The second opinion of fuzz_http_request: Debian's libhttp-parser behind an interface of ours, as
 * its names clash with net/message/http_request.h. Nothing but the fuzz target links it. */
#ifndef SPEC_HTTP_ORACLE_H
#define SPEC_HTTP_ORACLE_H

#include "base/slice.h"

enum { ORACLE_FIELDS_MAX = 64, ORACLE_TEXT_MAX = 1 << 16 };

struct oracle_text {
    size_t n;
    char bytes[ORACLE_TEXT_MAX];
};

struct oracle {
    bool complete;
    size_t used; /* bytes up to the end of the message */
    const char *method;
    int minor;
    struct oracle_text target, body, names[ORACLE_FIELDS_MAX], values[ORACLE_FIELDS_MAX];
    size_t field_count;
    /* private to http_oracle.c */
    bool in_value, headers_done;
};

/* The first message in `input`. `o` is large: not for the stack. */
void oracle_parse(struct oracle *o, struct slice input);

#endif
