/* Orders to erase, and what came of them, as JSON. */
#ifndef ERASE_ERASE_JSON_H
#define ERASE_ERASE_JSON_H

#include "erase/erase.h"

#include <jansson.h>

/* {"topic": "...", "where": "...", "dry_run": true}. The order borrows from *doc, which is to be given back with
 * json_decref() (NULL is fine). UV_EINVAL: `err` says what is wrong. */
int erase_json_order(struct slice body, json_t **doc, struct erase_order *out, struct err *err);
/* A new reference; NULL: memory is short. */
json_t *erase_json_report(const struct erase_report *r);

#endif
