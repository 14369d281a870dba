/* application/x-www-form-urlencoded pairs of a query string, decoded (URL Standard, 5.1: '+' is a
 * space, %XX a byte; a '%' without two hex digits is refused rather than guessed at). Pure. */
#ifndef NET_MESSAGE_HTTP_QUERY_H
#define NET_MESSAGE_HTTP_QUERY_H

#include "base/slice.h"

struct http_param {
    struct slice name, value;
};

struct http_query {
    struct http_param *params; /* owned, in order of appearance, duplicates kept */
    size_t count;
    char *bytes; /* owned: what the slices point into */
};

enum { HTTP_QUERY_MAX_PARAMS = 256 };

/* 0; UV_EINVAL: a bad escape, or a decoded name or value that is not UTF-8 or holds a NUL;
 * UV_E2BIG: more than HTTP_QUERY_MAX_PARAMS pairs; UV_ENOMEM. On failure nothing is left to clear.
 */
int http_query_parse(struct http_query *q, struct slice query);
void http_query_clear(struct http_query *q);
/* The first value of that name; p == NULL when absent. */
struct slice http_query_get(const struct http_query *q, const char *name);

#endif
