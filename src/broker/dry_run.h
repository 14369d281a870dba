/* Trying a policy that is not in force on what has happened lately, without any effect: it is asked
 * about recent connects and the streams that are open, and judges recent events for the audiences
 * there are. What it would say differently is counted; what goes wrong that did not before is what
 * a dry run is for. A few questions a turn, so that nobody waits for it. */
#ifndef BROKER_DRY_RUN_H
#define BROKER_DRY_RUN_H

#include "net/address.h"
#include "policy/policy.h"
#include "policy/saved_request.h"

struct broker;

enum { DRY_RUN_CONNECTS = 200, DRY_RUN_EVENTS = 500 };

struct dry_run_report {
    unsigned connects;                     /* recent ones, asked about again */
    unsigned streams;                      /* open ones that were asked about */
    unsigned same, moved, denied, unknown; /* of `streams`: what would become of them */
    unsigned judgements;                   /* of an event for an audience, or by observe */
    unsigned errors;                       /* of all these, where the one in force makes none */
    char error[512];                       /* the first of them */
};

/* The last connects that were granted. */
struct dry_run_recents;

struct dry_run_recents *dry_run_recents_new(void);
void dry_run_recents_free(struct dry_run_recents *r);
/* Takes a reference of its own. */
void dry_run_recents_add(struct dry_run_recents *r, struct saved_request *saved,
                         const struct peer_address *client);

struct dry_run;

/* `done` comes once, from a later turn. `streams`: most open streams to ask about. The policy is
 * POLICY_DRY_RUN from here on; both stay until `done`, or dry_run_free(). */
struct dry_run *dry_run_start(struct broker *b, struct policy *p, unsigned streams,
                              void (*done)(void *ctx, const struct dry_run_report *r), void *ctx);
/* Before it is done, at the end of everything. */
void dry_run_free(struct dry_run *t);

#endif
