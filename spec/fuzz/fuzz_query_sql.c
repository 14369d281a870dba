/* Any bytes as the text of a query. Properties: what is accepted is one look-up whose parameters
 * are $1 to $n, each of them somewhere in the text; a comment behind it changes nothing. */
#include "base/strbuf.h"
#include "lookup/query_sql.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x) ((x) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strbuf text;
    struct err e = {0};
    strbuf_init(&text, 1 << 20);
    if (size > QUERY_SQL_MAX_BYTES / 2 || strbuf_append(&text, (const char *)data, size)) {
        strbuf_clear(&text);
        return 0;
    }
    int n = query_sql_parameters(slice_of((const char *)data, size), &e);
    MUST(n <= QUERY_PARAMETERS_MAX && (n >= 0 || e.text[0]));
    for (int i = 1; i <= n; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "%d", i); /* "$01" is $1 */
        MUST(strstr(text.data, name));
    }
    if (n >= 0) {
        MUST(strbuf_append_str(&text, "\n-- $32 ' /*") == 0);
        MUST(query_sql_parameters(strbuf_slice(&text), &e) == n);
    }
    strbuf_clear(&text);
    return 0;
}
