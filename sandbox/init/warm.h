#include <stdint.h>
#include <sys/types.h>

/* Where a template's jail has nsjail's filter of system calls, which nsjail did not load (sandbox/hold/defer.c). */
enum { FILTER_FD = 9 };

/* The first process of a template's jail: starts the interpreter `argv`, which stops at its first look at `file`
 * (sandbox/hold/hold.c), and has it make one jail after another. Returns only an exit code. */
int keep_warm(int control, const char *file, char **argv);

/* Starts the interpreter `argv` as a child that has not become the program yet, and waits until it stops at its first
 * look at `file`. Returns its number and the socket for its job, or 0 when it does not stop. */
pid_t hold_program(const char *file, char **argv, int *gate, uint64_t *resident);

/* Makes the mounts and the rest of a jail that an interpreter was forked into. */
void furnish(void);

/* Shows the detached mount as the box. */
void show_box(int mount);
