#include "relay.h"

enum { STDIO = 3, FILES_MAX = STDIO + 9 };

/* init's socket to occd. A process that is about to become the program has it, too, to report a failure. */
extern int control;

/* Before the program begins: a failure here is not the program's fault. */
void fail_to_start(const char *what);

void limit(int which, uint64_t value);

/* A soft limit that the program may raise: `ulimit -s unlimited` is the first line of many solutions. */
void begin_with(int which, uint64_t value);

/* The number of files of control groups is `go->groups`. They follow the program's stdin, stdout and stderr. */
void join_groups(const struct go *go, const int *files);

/* What a process does last before it is the program: it joins the groups, takes the limits, and has the first three
 * files as its stdin, stdout and stderr. `others` are processes of its user beside it that count for nobody. */
void begin(const struct go *go, const int *files, uint64_t others);
