/* CPU time and memory of the server under test, and CPU time of all processes. */
#ifndef BENCH_MEASURE_BENCH_PROC_H
#define BENCH_MEASURE_BENCH_PROC_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

/* A process and all its descendants. */
struct bench_proc {
    uint64_t cpu_ns;
    uint64_t pss_bytes; /* memory; what is shared counts in proportion */
    unsigned processes;
};

/* 0, or a negative UV_E* when `root` is not there or not ours to look at. Processes that end
 * meanwhile are left out. */
int bench_proc_sample(pid_t root, struct bench_proc *out, struct err *e);
/* Only cpu_ns, of the processes there are now: cheap. */
int bench_proc_sample_cpu(pid_t root, struct bench_proc *out, struct err *e);
/* Busy time of all processors; 0 where the system does not say. */
uint64_t bench_proc_machine_busy_ns(void);
/* Processor time of this process. */
uint64_t bench_proc_own_cpu_ns(void);

#endif
