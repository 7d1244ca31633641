#include <poll.h>
#include <stddef.h>
#include <stdint.h>

struct go {
    uint64_t number;
    uint32_t argc, envc;
    uint32_t groups; /* number of cgroup files with this message */
    uint32_t told; /* 1: without groups, a file with this message gives the CPU time; without both, sample */
    uint32_t processors; /* of the machine: CPU time passes at most this many times faster than the clock */
    uint32_t traced; /* 1: a file for the trace comes with this message */
    uint32_t rows, cols; /* of the program's terminal; 0: it gets none */
    uint32_t alone; /* 1: the kernel serves this jail alone, so its account of memory is the jail's. Without `told` */
    uint32_t boxed; /* 1: the last file is a detached mount, to be the box */
    uint32_t held; /* 1: the program begins with the order 'B' */
    uint64_t file_size, open_files, processes, stack, memory;
    uint64_t cpu_ns, wall_ns, quiet_ns, idle_ns; /* 0: not armed */
};

struct end {
    uint8_t type; /* 'X', or 'F': the program could not be started, which is not its fault */
    uint8_t limit; /* the exceeded limit: 'm' memory, 'c' CPU time, 'w' wall time, 'i' idle time; 0: none */
    uint8_t ended; /* 1: init ended the program for this; 0: the program had ended by itself or by a signal */
    uint8_t traced; /* 0: there was no trace; 'w': the trace is whole; else why not: 'l' it is long enough, 'n' the jail
                     * has no Python 3, 'p' nothing may be traced here, 'd' the tracer died */
    int32_t status; /* as from waitpid */
    uint64_t wall_ns, cpu_ns, peak_bytes;
};

enum { TRACE_BYTES = 8 << 20 }; /* the most that a tracer writes */

/* This process becomes the program's user. */
void be_them(void);

/* Between these two, what init makes belongs to the program's user. No program may run yet. */
void begin_theirs(void);
void end_theirs(void);

/* Makes the relay, and returns init's side of the socket. */
int start_relay(void);

/* The program's side of its terminal. From now on a process of its user sets the window's size, because a program can
 * make whoever sets it wait for seconds: when it asks for the size, the kernel keeps a lock until the answer lies in the
 * program's memory (occd/sandbox/terminal.py). No program may run yet: this process begins as a copy of init, with its
 * files. Later it has nothing that a program that kills it could not have. Without it, as in gVisor, where the lock is
 * not kept for long and this process would count as one of the program's, the relay sets the size. */
void relay_window(int theirs);

/* As ppoll, for at most two files; the relay works meanwhile. It may return with no file ready before the time is up. */
int relay_wait(struct pollfd *files, size_t count, const struct timespec *timeout);
