#include "doctor/doctor_machine.h"

#include "remote/client/remote_text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>
#include <uv.h>

enum {
    OTHER_DESCRIPTORS = 100, /* of the store, listeners, logs, outbound requests */
    SYNCS = 20,
    SLOW_SYNC_US = 20000, /* 50 a second: what a hard disk does */
    FREE_PERCENT = 10,
    FREE_MIN_BYTES = 256 * 1024 * 1024,
    PATH_MAX_BYTES = 4096,
};

static void machine_descriptors(const struct config *cfg, struct doctor_report *r)
{
    struct rlimit limit;
    uint64_t wanted = (uint64_t)cfg->limits.max_connections + OTHER_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit)) {
        doctor_warn(r, "descriptors", NULL, "the limit is unknown: %s", strerror(errno));
    } else if (limit.rlim_max < wanted) {
        doctor_warn(r, "descriptors",
                    "Raise the hard limit where the broker is started: LimitNOFILE= of the unit, "
                    "`ulimit -Hn`, --ulimit of a container; or lower limits.max_connections.",
                    "at most %" PRIu64 ", but limits.max_connections is %" PRId64
                    ": the broker will accept fewer",
                    (uint64_t)limit.rlim_max, cfg->limits.max_connections);
    } else {
        doctor_ok(r, "descriptors", "%" PRIu64 " are allowed, %" PRIu64 " are wanted",
                  (uint64_t)limit.rlim_max, wanted);
    }
}

/* NTP's own view; a container sees that of its host. */
static void machine_clock(struct doctor_report *r)
{
    struct timex t = {.modes = 0};
    int state = adjtimex(&t);
    if (state < 0) {
        doctor_warn(r, "clock", NULL, "whether it is synchronised is unknown: %s", strerror(errno));
    } else if (state == TIME_ERROR || (t.status & STA_UNSYNC)) {
        doctor_warn(
            r, "clock",
            "Run chrony or systemd-timesyncd: tokens expire by the clock, and ids of events "
            "begin with the time.",
            "nothing synchronises it");
    } else {
        doctor_ok(r, "clock", "synchronised, within %.0f ms", (double)t.maxerror / 1000);
    }
}

/* The directory of the store, or the nearest one above that exists. */
static bool machine_store_place(const char *path, char out[PATH_MAX_BYTES])
{
    struct stat st;
    if (snprintf(out, PATH_MAX_BYTES, "%s", path) >= PATH_MAX_BYTES) {
        return false; /* the system takes none that long: not another directory instead */
    }
    while (stat(out, &st) != 0 || !S_ISDIR(st.st_mode)) {
        char *slash = strrchr(out, '/');
        if (!slash || slash == out) {
            return false;
        }
        *slash = '\0';
    }
    return true;
}

static int machine_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The median of some small writes; 0: it cannot be told, errno says why. */
static uint64_t machine_sync_us(const char *dir)
{
    char path[PATH_MAX_BYTES + 32];
    uint64_t times[SYNCS] = {0};
    snprintf(path, sizeof path, "%s/.tidegate-doctor-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    (void)unlink(path);
    size_t n = 0;
    while (n < SYNCS) {
        char block[4096] = {0};
        uint64_t start = uv_hrtime();
        if (pwrite(fd, block, sizeof block, (off_t)(n * sizeof block)) != sizeof block ||
            fdatasync(fd)) {
            break;
        }
        times[n++] = (uv_hrtime() - start) / 1000 + 1;
    }
    int why = errno;
    close(fd);
    errno = why;
    if (n < SYNCS) {
        return 0;
    }
    qsort(times, SYNCS, sizeof *times, machine_compare);
    return times[SYNCS / 2];
}

static void machine_disk(const struct config *cfg, struct doctor_report *r)
{
    char dir[PATH_MAX_BYTES], free_text[REMOTE_TEXT_MAX];
    struct statvfs fs;
    if (!machine_store_place(cfg->store.path, dir)) {
        doctor_fail(r, "store", "Make its directory.", "%s: there is no such directory",
                    cfg->store.path);
        return;
    }
    uint64_t us = machine_sync_us(dir);
    if (us == 0) {
        doctor_fail(r, "store", "Give the directory to the user that runs the broker.",
                    "%s: cannot be written by this user: %s", dir, strerror(errno));
    } else if (us > SLOW_SYNC_US) {
        doctor_warn(r, "disk",
                    "Each commit waits for one. Use a disk that syncs faster, publish in batches, "
                    "or set store.synchronous = \"normal\" if losing the newest events in a power "
                    "failure is acceptable.",
                    "a sync takes %.1f ms in %s", (double)us / 1000, dir);
    } else {
        doctor_ok(r, "disk", "a sync takes %.2f ms in %s", (double)us / 1000, dir);
    }
    if (statvfs(dir, &fs) == 0 && fs.f_blocks > 0) {
        uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        double percent = 100.0 * (double)fs.f_bavail / (double)fs.f_blocks;
        (void)remote_bytes(bytes, free_text);
        if (bytes < FREE_MIN_BYTES) {
            doctor_fail(r, "disk", "Free some space, or lower store.retain_bytes.",
                        "%s free (%.0f %%)", free_text, percent);
        } else if (percent < FREE_PERCENT || bytes < (uint64_t)cfg->store.retain_bytes) {
            doctor_warn(r, "disk", "Free some space, or lower store.retain_bytes.",
                        "%s free (%.0f %%), and the store may grow to %" PRId64 " MiB", free_text,
                        percent, cfg->store.retain_bytes >> 20);
        } else {
            doctor_ok(r, "disk", "%s free (%.0f %%)", free_text, percent);
        }
    }
}

void doctor_machine(const struct config *cfg, struct doctor_report *r)
{
    machine_descriptors(cfg, r);
    machine_clock(r);
    if (!cfg->store.conninfo) {
        machine_disk(cfg, r);
    }
}
