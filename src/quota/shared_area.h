/* The memory that all processes of a broker count in: a table of quotas and one of rates. It is a memfd, so
 * that the program that takes a supervisor's place can go on with it. */
#ifndef QUOTA_SHARED_AREA_H
#define QUOTA_SHARED_AREA_H

#include "base/err.h"
#include "quota/quota_table.h"
#include "quota/rate_table.h"

struct shared_area {
    int fd;
    void *at; /* NULL: none */
    size_t bytes;
    struct quota_table *quotas;
    struct rate_table *rates;
    uint32_t quota_streams, rate_keys; /* how many it was made for */
};

/* 0, or a negative UV_E*; then it is as shared_area_none() makes it. */
int shared_area_new(struct shared_area *a, uint32_t quota_streams, uint32_t rate_keys,
                    struct err *e);
/* What another program has made and counts in. UV_EINVAL: its layout is not ours. Takes `fd` in any case. */
int shared_area_take(struct shared_area *a, int fd);
void shared_area_none(struct shared_area *a);
/* Of this process; the others go on. None is fine. */
void shared_area_close(struct shared_area *a);

#endif
