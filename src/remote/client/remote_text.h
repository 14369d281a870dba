/* Figures and names for people. */
#ifndef REMOTE_CLIENT_REMOTE_TEXT_H
#define REMOTE_CLIENT_REMOTE_TEXT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { REMOTE_TEXT_MAX = 32 };

/* "12 s", "3 min", "2 h 5 min", "4 d 7 h" */
const char *remote_duration(double seconds, char out[REMOTE_TEXT_MAX]);
/* "512 B", "1.5 KiB", "3.2 GiB" */
const char *remote_bytes(uint64_t bytes, char out[REMOTE_TEXT_MAX]);
/* "LABEL VERSION" of a policy in a document of the admin service, on stdout. */
void remote_put_policy(const json_t *policy);
/* Columns of the terminal that stdout is, 80 where it does not say; SIZE_MAX: it is none, and nothing need be cut
 * off. */
size_t remote_columns(void);

#endif
