/* The PostgreSQL database of a store: rights, schema, settings, clock. */
#ifndef DOCTOR_DOCTOR_DATABASE_H
#define DOCTOR_DOCTOR_DATABASE_H

#include "config/config.h"
#include "doctor/doctor_report.h"

void doctor_database(const struct config *cfg, struct doctor_report *r);

#endif
