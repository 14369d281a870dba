/* What the machine gives a broker: descriptors, the disk of its store, the clock. */
#ifndef DOCTOR_DOCTOR_MACHINE_H
#define DOCTOR_DOCTOR_MACHINE_H

#include "config/config.h"
#include "doctor/doctor_report.h"

void doctor_machine(const struct config *cfg, struct doctor_report *r);

#endif
