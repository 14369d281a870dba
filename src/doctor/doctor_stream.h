/* What a stream is like for clients, through whatever is in front of the broker: time to the first byte,
 * buffering, heartbeats, compression, HTTP/2. */
#ifndef DOCTOR_DOCTOR_STREAM_H
#define DOCTOR_DOCTOR_STREAM_H

#include "doctor/doctor_report.h"
#include "remote/client/remote_target.h"

/* Subscribes to `topic`, publishes two events on it, and waits for a heartbeat; for each of these `wait_s` at most. */
void doctor_stream(const struct remote_target *t, const char *topic, double wait_s,
                   struct doctor_report *r);

#endif
