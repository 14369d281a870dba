#include "bench/measure/bench_proc.h"

#include "base/alloc.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { PROCESSES_MAX = 65536, NS_PER_S = 1000000000 };

struct process {
    pid_t pid, parent;
    bool ours;
};

/* First line(s) of a file of /proc into `text`; false when it cannot be read. */
static bool bench_proc_read_text(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return false;
    }
    size_t n = fread(text, 1, size - 1, f);
    (void)fclose(f); /* opened for reading */
    text[n] = '\0';
    return n > 0;
}

/* Fields of /proc/PID/stat stand behind the name, which may hold anything, ")" too: proc(5). */
static bool read_parent(pid_t pid, pid_t *parent)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!bench_proc_read_text(path, text, sizeof text)) {
        return false;
    }
    const char *close = strrchr(text, ')');
    if (!close || strlen(close) < 5) {
        return false;
    }
    *parent = (pid_t)strtol(close + 4, NULL, 10);
    return true;
}

static size_t list_processes(struct process *all, size_t max)
{
    size_t n = 0;
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    while (dir && n < max && (entry = readdir(dir)) != NULL) {
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid > 0 && read_parent((pid_t)pid, &all[n].parent)) {
            all[n].pid = (pid_t)pid;
            all[n].ours = false;
            n++;
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
    return n;
}

/* Marks `root` and its descendants. */
static void mark_tree(struct process *all, size_t n, pid_t root)
{
    bool again = true;
    while (again) {
        again = false;
        for (size_t i = 0; i < n; i++) {
            bool ours = all[i].pid == root;
            for (size_t j = 0; j < n && !ours; j++) {
                ours = all[j].ours && all[j].pid == all[i].parent;
            }
            again |= ours && !all[i].ours;
            all[i].ours |= ours;
        }
    }
}

static uint64_t timespec_ns(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * NS_PER_S + (uint64_t)t->tv_nsec;
}

/* To the nanosecond, where /proc/PID/stat has ticks of 10 ms. */
static bool read_cpu(pid_t pid, uint64_t *ns)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) {
        return false;
    }
    *ns = timespec_ns(&t);
    return true;
}

static bool read_pss(pid_t pid, uint64_t *bytes)
{
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    if (!bench_proc_read_text(path, text, sizeof text)) {
        return false;
    }
    const char *pss = strstr(text, "\nPss:");
    *bytes = pss ? strtoull(pss + 5, NULL, 10) * 1024 : 0;
    return pss != NULL;
}

static int bench_proc_do_sample(pid_t root, bool memory, struct bench_proc *out, struct err *e)
{
    struct process *all = xcalloc(PROCESSES_MAX, sizeof *all);
    size_t n = list_processes(all, PROCESSES_MAX);
    bool seen = false;
    *out = (struct bench_proc){.processes = 0};
    mark_tree(all, n, root);
    for (size_t i = 0; i < n; i++) {
        uint64_t cpu = 0, pss = 0;
        if (all[i].ours && read_cpu(all[i].pid, &cpu) && (!memory || read_pss(all[i].pid, &pss))) {
            out->cpu_ns += cpu;
            out->pss_bytes += pss;
            out->processes++;
            seen |= all[i].pid == root;
        }
    }
    free(all);
    return seen ? 0
                : err_set(e, UV_ESRCH, "--pid %d: no such process, or its %s may not be read",
                          (int)root, memory ? "memory" : "processor time");
}

int bench_proc_sample(pid_t root, struct bench_proc *out, struct err *e)
{
    return bench_proc_do_sample(root, true, out, e);
}

int bench_proc_sample_cpu(pid_t root, struct bench_proc *out, struct err *e)
{
    return bench_proc_do_sample(root, false, out, e);
}

/* The first line of /proc/stat: user nice system idle iowait irq softirq steal. */
uint64_t bench_proc_machine_busy_ns(void)
{
    char text[512];
    uint64_t ticks[8] = {0}, busy = 0;
    long hz = sysconf(_SC_CLK_TCK);
    if (!bench_proc_read_text("/proc/stat", text, sizeof text) || strncmp(text, "cpu ", 4) != 0 ||
        hz <= 0) {
        return 0;
    }
    char *p = text + 4;
    for (unsigned i = 0; i < 8; i++) {
        ticks[i] = strtoull(p, &p, 10);
        busy += i == 3 || i == 4 ? 0 : ticks[i];
    }
    return busy * (NS_PER_S / (uint64_t)hz);
}

uint64_t bench_proc_own_cpu_ns(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID,
                        &t); /* fails only for a clock that is not there */
    return timespec_ns(&t);
}
