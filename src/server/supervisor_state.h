/* Private to supervisor*.c: the state of the supervisor. */
#ifndef SERVER_SUPERVISOR_STATE_H
#define SERVER_SUPERVISOR_STATE_H

#include "config/config.h"
#include "server/admin_process.h"
#include "server/systemd.h"
#include "server/worker.h"

#include <signal.h>
#include <sys/types.h>

/* Child 0 is the admin process, the others are the workers. */
struct child {
    pid_t pid;           /* the newest process; 0: does not run */
    pid_t retiring;      /* the process that it replaces, while that drains; 0: none */
    uint64_t started_ms; /* monotonic */
    uint64_t due_ms;     /* when it is started (again); 0: not planned */
    unsigned backoff_ms;
    bool served; /* some process of this child was ready once */
};

/* One entry of `listen`. */
struct shared_address {
    char *text;                 /* as configured; owned */
    struct listen_socket claim; /* keeps the port; or, if `one`, the socket they all accept on */
    bool one;                   /* a Unix socket, or one that was passed to us */
    /* if not `one`: the socket of each worker, by number - 1. The supervisor holds it as well, so that
     * clients that connect while a worker is replaced wait for its successor */
    struct listen_socket slots[WORKERS_MAX];
};

/* A rolling restart: first `check` of the program on disk, then that program in this process, then
 * one worker after the other. */
enum roll_stage {
    ROLL_IDLE,
    ROLL_CHECK,    /* the program on disk checks the configuration */
    ROLL_NEXT,     /* the worker after `number` comes next */
    ROLL_STARTING, /* its successor starts */
    ROLL_RETIRING, /* it drains */
};

struct roll {
    enum roll_stage stage;
    pid_t check_pid;  /* 0: no check runs */
    int check_output; /* of the check: a memfd that gets what it prints; -1: none */
    unsigned number;  /* of the worker that is being replaced; 0: none yet */
    unsigned before;  /* intended number of workers when the restart was requested */
    uint64_t until_ms;
};

/* SIGHUP was passed on, and the service manager waits for the end. */
struct reload_wait {
    uint64_t until_ms;            /* not longer; 0: nobody waits */
    pid_t pids[WORKERS_MAX];      /* that got it, by number - 1; 0: none */
    unsigned before[WORKERS_MAX]; /* workers_shared.reloads then */
};

/* When a worker's beat was last seen to change. */
struct beat_seen {
    int pid;
    unsigned count;
    uint64_t ms;
};

struct supervisor {
    const struct config *cfg;
    struct systemd_sockets *given; /* borrowed */
    char **argv;
    unsigned count; /* of workers */
    struct shared_address **listen;
    size_t listen_count;
    char *admin_text;
    struct listen_socket admin;                 /* the public one; fd -1: none */
    struct admin_backend backends[WORKERS_MAX]; /* private ones of the workers, by number - 1 */
    int wake_fds[WORKERS_MAX];
    int shared_fd;
    struct workers_shared *shared;
    struct shared_area area; /* in which the workers count */
    struct child children[WORKERS_MAX + 1];
    struct roll roll;
    struct reload_wait reload;
    sigset_t signals, before;
    bool draining;
    bool told_ready;   /* the service manager knows that they answer, or wait for the store */
    bool told_serving; /* and that all of them serve */
    char serving[32];  /* of supervisor_serving() */
    struct beat_seen beats[WORKERS_MAX]; /* by number - 1 */
    uint64_t watchdog_ms;                /* when the next WATCHDOG=1 is due; 0: not at all */
    uint64_t kill_ms;                    /* when the remaining workers are killed; 0: not decided */
    int code;                            /* the worst exit code so far */
    char gave_up[512];                   /* why a worker could not start; empty: none */
};

/* supervisor.c */
uint64_t supervisor_now_ms(void);
/* "2 workers serve", for the service manager. */
const char *supervisor_serving(struct supervisor *s);

/* supervisor_sockets.c */
void sockets_init(struct supervisor *s);
/* Opens the sockets of the configuration that are not open yet, closes those that it no longer has.
 * On failure nothing changes. */
int sockets_open(struct supervisor *s, struct err *e);
/* Opens the sockets of worker `number`, unless they are open. */
int sockets_open_slot(struct supervisor *s, unsigned number, struct err *e);
/* Closes the sockets of a worker that does not run, so that clients get to the other workers. */
void sockets_close_slot(struct supervisor *s, unsigned number);
/* In a child: moves the sockets of worker `number` into `out` (listen_count entries) and closes those
 * of others. 0: the admin process, which keeps the private sockets of all workers. */
void sockets_keep(struct supervisor *s, unsigned number, struct listen_socket *out);
/* From now on connections are refused. */
void sockets_close_public(struct supervisor *s);
/* `last`: in the supervisor, which also removes socket files. */
void sockets_clear(struct supervisor *s, bool last);

/* supervisor_children.c */
/* True in the child, whose exit code is then in `*code`. */
bool child_start(struct supervisor *s, unsigned number, int *code);
void children_signal(const struct supervisor *s, int signum); /* all workers */
unsigned children_running(const struct supervisor *s);        /* workers, retiring ones as well */
void children_reap(struct supervisor *s);
void children_end_admin(struct supervisor *s);
void supervisor_drain(struct supervisor *s);

/* supervisor_restart.c */
void restart_begin(struct supervisor *s);
/* After a takeover: the workers are replaced. */
void restart_continue(struct supervisor *s, const struct err *e);
void restart_check_ended(struct supervisor *s, int status);
/* The newest process of the worker that is being replaced has ended before it served. */
void restart_child_ended(struct supervisor *s, int code);
/* One step, if one is due; true in a new child. */
bool restart_step(struct supervisor *s, int *code);
bool restart_active(const struct supervisor *s);
void restart_stop(struct supervisor *s, const char *why);

/* supervisor_handover.c */
/* Replaces the program of this process by the one on disk. Returns only when that fails. */
int handover_exec(struct supervisor *s, struct err *e);
/* Is this process the new program of a supervisor? */
bool handover_expected(void);
/* Takes its sockets and children over. */
int handover_take(struct supervisor *s, struct err *e);

#endif
