/* The try-out page (scripts/page/index.html), which is carried inside the binary. */
#ifndef BROKER_HTTP_PAGE_H
#define BROKER_HTTP_PAGE_H

#include "net/http/stream.h"

struct broker;

/* Answers with the page: 200, HTML. */
void page_answer(const struct broker *b, struct stream *s);

#endif
