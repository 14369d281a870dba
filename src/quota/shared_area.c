#include "quota/shared_area.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* Changes with each change of what is in the memory. */
static const char layout[16] = "tidegate quota 1";

enum { PLACE_BYTES = 64 }; /* tables begin at multiples of it */

struct shared_area_head {
    char layout[16];
    uint64_t bytes;
    uint32_t quota_streams, rate_keys;
};

static size_t shared_area_round(size_t n)
{
    return (n + PLACE_BYTES - 1) / PLACE_BYTES * PLACE_BYTES;
}

static size_t shared_area_bytes(uint32_t quota_streams, uint32_t rate_keys)
{
    return shared_area_round(sizeof(struct shared_area_head)) +
           shared_area_round(quota_table_bytes(quota_streams)) + rate_table_bytes(rate_keys);
}

/* Where the tables are. */
static void shared_area_place(struct shared_area *a)
{
    const struct shared_area_head *head = a->at;
    char *quotas = (char *)a->at + shared_area_round(sizeof *head);
    char *rates = quotas + shared_area_round(quota_table_bytes(head->quota_streams));
    a->quota_streams = head->quota_streams;
    a->rate_keys = head->rate_keys;
    a->quotas = (struct quota_table *)(void *)quotas;
    a->rates = (struct rate_table *)(void *)rates;
}

void shared_area_none(struct shared_area *a)
{
    *a = (struct shared_area){.fd = -1};
}

void shared_area_close(struct shared_area *a)
{
    if (a->at) {
        (void)munmap(a->at, a->bytes);
    }
    if (a->fd >= 0) {
        close(a->fd);
    }
    shared_area_none(a);
}

static int shared_area_map(struct shared_area *a)
{
    void *at = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    a->at = at == MAP_FAILED ? NULL : at;
    return a->at ? 0 : -errno;
}

int shared_area_new(struct shared_area *a, uint32_t quota_streams, uint32_t rate_keys,
                    struct err *e)
{
    shared_area_none(a);
    a->bytes = shared_area_bytes(quota_streams, rate_keys);
    a->fd = memfd_create("tidegate-quotas", MFD_CLOEXEC);
    int rc = a->fd < 0 || ftruncate(a->fd, (off_t)a->bytes) ? -errno : shared_area_map(a);
    if (rc == 0) {
        struct shared_area_head *head = a->at;
        memcpy(head->layout, layout, sizeof layout);
        head->bytes = a->bytes;
        head->quota_streams = quota_streams;
        head->rate_keys = rate_keys;
        shared_area_place(a);
        rc = quota_table_init(a->quotas, quota_streams);
        rc = rc ? rc : rate_table_init(a->rates, rate_keys);
    }
    if (rc) {
        shared_area_close(a);
        return err_set(e, rc, "no memory for quotas and rates: %s", uv_strerror(rc));
    }
    return 0;
}

int shared_area_take(struct shared_area *a, int fd)
{
    struct stat st;
    shared_area_none(a);
    a->fd = fd;
    int rc = fd < 0 || fstat(fd, &st) ? UV_EBADF : 0;
    if (rc == 0 && st.st_size < (off_t)sizeof(struct shared_area_head)) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        a->bytes = (size_t)st.st_size;
        rc = shared_area_map(a);
    }
    if (rc == 0) {
        const struct shared_area_head *head = a->at;
        bool ours = memcmp(head->layout, layout, sizeof layout) == 0 && head->bytes == a->bytes &&
                    shared_area_bytes(head->quota_streams, head->rate_keys) == a->bytes;
        rc = ours ? 0 : UV_EINVAL;
    }
    if (rc) {
        shared_area_close(a);
        return rc;
    }
    shared_area_place(a);
    return 0;
}
