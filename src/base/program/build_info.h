/* Which program this is. The build asks git; src/base/program/build_info.cmake writes the text. */
#ifndef BASE_PROGRAM_BUILD_INFO_H
#define BASE_PROGRAM_BUILD_INFO_H

struct build_info {
    const char *version; /* "0.1.0"; between two tags "0.1.0-12-g0123abc" */
    const char *commit;  /* 12 hexadecimal digits, "-dirty" where files had changed; "unknown" */
    const char *date;    /* of that commit: "2026-11-30"; "unknown" */
};

extern const struct build_info build_info;

#endif
