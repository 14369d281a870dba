/* Answers of the admin services. */
#ifndef ADMIN_ADMIN_REPLY_H
#define ADMIN_ADMIN_REPLY_H

#include "base/strbuf.h"
#include "net/http/stream.h"

void admin_answer(struct stream *s, int status, const char *type, struct slice body);
/* A problem document. `allow`: of a 405, else NULL. */
void admin_refuse(struct stream *s, int status, struct slice detail, const char *allow);
/* Answers 200 with `body`, or 503 if `rc` is an error. Clears `body`. */
void admin_answer_built(struct stream *s, int rc, const char *type, struct strbuf *body);

#endif
