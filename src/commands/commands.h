/* The command line: `tidegate COMMAND ...`. */
#ifndef COMMANDS_COMMANDS_H
#define COMMANDS_COMMANDS_H

/* Runs the command of argv[1]; answers the exit code (sysexits.h: 0, 64 wrong usage, 70 internal
 * error, 74 output failed, 78 wrong configuration or policy; of serve: server_run()'s). */
int commands_run(int argc, char **argv);

#endif
