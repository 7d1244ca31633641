#include <stdint.h>
#include <sys/types.h>

/* Where a maker of jails has nsjail's filter of system calls, which nsjail did not load (sandbox/hold/defer.c). */
enum { FILTER_FD = 9 };

/* What came with the packages of a template, for occd: mirrored by occd/sandbox/init.py. */
struct found {
    uint8_t type; /* 'I' */
    uint8_t pad[7];
    uint64_t cpu_ns; /* that the interpreter has taken */
    uint64_t copied; /* the bytes that each copy has of its own when it stands ready */
    char names[16384]; /* one a line, as far as there are some: of modules, and of files in the box that were looked for */
};

/* The first process of the jail of a maker: has one jail after another made, whose user is `user` there. Returns in the
 * first process of each, which has all rights there and has to `furnish` it. */
void make_jails(int control, uid_t user);

/* The first process of a template's jail: starts the interpreter `argv`, which stops at its first look at `file`
 * (sandbox/hold/hold.c), and has it make one jail after another. Returns only an exit code. */
int keep_warm(int control, const char *file, char **argv);

/* Starts the interpreter `argv` as a child that has not become the program yet, and waits until it stops at its first
 * look at `file`. Returns its number and the socket for its job, or 0 when it does not stop. */
pid_t hold_program(const char *file, char **argv, int *gate, uint64_t *resident);

/* Makes the mounts and the rest of a jail that was not made by nsjail. */
void furnish(void);

/* Shows the detached mount as the box. */
void show_box(int mount);
