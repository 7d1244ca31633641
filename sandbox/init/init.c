/* The first process of every jail: starts one program, reaps, and reports its exact end.
 *
 * A program that is PID 1 of its namespace misses the default actions of signals: abort() ends as
 * SIGSEGV, and the program survives kill(getpid(), SIGTERM). And nsjail's exit code cannot tell "killed by
 * SIGSEGV" from "return 139". So this process is PID 1, and the program is its child.
 *
 * init talks to occd over one SOCK_SEQPACKET socket, whose number is argv[1]:
 *   init -> occd  struct hello  the jail stands; occd reads our host pid from the credentials.
 *   occd -> init  struct go, then argc + envc strings, each NUL-terminated. argv may be unknown
 *                 until then: a jail is prepared before its job is known. Open files come with the
 *                 message: the program's stdin, stdout and stderr, unless the program gets a terminal; then those
 *                 of the job's cgroups. The child joins these before it executes the program: a thread that moves itself by v1's
 *                 `tasks` waits for nobody, while a move from outside costs an RCU grace period (7 ms).
 *                 With cgroups the last file gives the CPU time that the job has used. Behind it comes the file for
 *                 the trace, if there shall be one.
 *   init -> occd  struct master the program gets a terminal; the other side of it comes with the message.
 *   occd -> init  struct order  while the program runs: a signal for the program, a change of its limits, or work
 *                 with its files.
 *   init -> occd  struct answer work with files is done.
 *   init -> occd  struct end    the first process ended, or a guard (below) ended it, and no other
 *                 process of the jail is left; then init exits.
 *
 * The guards: init holds wall time, CPU time and idle time, so that a busy daemon changes no verdict. `go` arms
 * them at the program's start. An order arms one anew, counted from then, or disarms it. Without cgroups init
 * sums memory and CPU time of the namespace every 10 ms, and holds the memory, too.
 *
 * A program is idle while it waits for somebody: for a time it used less than 1/200 of a processor, and occd told
 * of no input and no output. Not only zero counts, because a waiting Java machine uses 1/1000 of a processor. There
 * is a longest time, too, which activity does not prolong.
 *
 * A terminal comes from the jail's own devpts, which gives one. init takes it before any program runs, and keeps
 * it: a program that types into a terminal of its own makes the kernel's workers edit lines and echo, and nobody
 * pays for this. The program leads the session of the terminal, and the terminal is its stdin, stdout and stderr.
 * init keeps the program's side open, so that the other side never has an error while init lives, whatever the
 * program closes. The terminal is not init's: init leads a session too, and opens it with O_NOCTTY. The program's
 * group is orphaned, because init is not of its session; so Ctrl-Z stops no program that nobody could continue.
 *
 * One jail is made after another (warm.h), and all their inits talk over the same socket. So `go` repeats the
 * number of this init's hello: init ignores a message for an init that died.
 * End of file on the socket means that occd died: init exits, and the kernel kills the namespace.
 *
 * Work with files (put, list, get) is for a clerk: a child of init, outside of the job's control groups. The program
 * has the same user, so it can stop or kill the clerk, and a file system can make the clerk wait; init goes on, and
 * ends a clerk that takes too long. A clerk goes from the box part by part, follows no link, and opens regular files
 * only. Contents and lists go through an open file, which came with the order and is in no folder. The clerk closes
 * init's other files first, and this one before it ends: PR_SET_DUMPABLE does not protect the files of a process that
 * is just ending, and the program can kill the clerk at any moment.
 *
 * A trace of the program's system calls is made by a tracer (sandbox/shown/trace/tracer.py): a child of init, in the
 * program's control groups, whose limits the tracer uses up with it. The program's process says over a socket that it
 * can be traced, and waits there before it executes the program, until the tracer has attached, or has ended. The
 * program may kill the tracer, and goes on untraced then. init tells how the tracer ended, which the program cannot
 * forge: the kernel gives the end of a traced process to the tracer first, so a tracer that is there at the program's
 * end has seen all of it.
 *
 * Called as `occd-init tether PID UID PROGRAM ARGS...`, outside of any jail, this process becomes PROGRAM.
 * PROGRAM is killed when its parent PID, occd, dies. PROGRAM and its jails leave no core dump, and the kernel
 * counts the things that it keeps for their users to the account of UID.
 *
 * Called as `occd-init prove`, as a program in a jail, it prints the facts of the jail for occd to check; as
 * `occd-init find PATTERN...`, the files that programs see there (find.h).
 *
 * init runs as the jail's user, so the program could ptrace init or open its files; PR_SET_DUMPABLE 0 forbids
 * both. All files of init are close-on-exec. init asks for the time: a timer could be disarmed.
 * The program has a session of its own, hence a share of the processors apart from init's (autogroup).
 */
#define _GNU_SOURCE
#include "alone.h"
#include "begin.h"
#include "drop.h"
#include "find.h"
#include "folder.h"
#include "warm.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct hello { /* all seven are mirrored by occd/sandbox/init.py */
    uint8_t type; /* 'R' */
    uint8_t pad[7];
    uint64_t number;
    uint64_t resident; /* the memory that the program has already, which its groups do not count */
};

struct master {
    uint8_t type; /* 'M' */
};

struct order {
    uint8_t type; /* 'B': begin, 'S': send a signal, 'A': arm a limit or disarm it, 'T': the program talks, it is not idle;
                   * 'P', 'L', 'G': put, list, get, with an open file. The path in the box follows the struct. */
    uint8_t what; /* the number of the signal, or the letter of the limit as in struct end */
    uint8_t pad[6];
    uint64_t first; /* 'A': the limit in ns, for idle time without activity, 0: disarm; 'P': the mode of the file;
                     * 'L': the most entries; 'G': the most bytes */
    uint64_t second; /* 'A': idle time, with activity or without */
};

struct answer {
    uint8_t type; /* 'W' */
    uint8_t pad[3];
    int32_t error; /* 0, or an errno */
};

struct entry { /* of a list; the name follows */
    uint64_t size;
    int64_t changed_ns; /* since the epoch */
    uint32_t mode, name_size;
};

struct usage {
    uint64_t memory, cpu_ns;
    uint64_t mapped_files; /* of the process that maps most files */
};

struct guards { /* the limits that init holds */
    uint64_t wall_ends; /* NEVER: not armed; the same for the others */
    uint64_t cpu_ends; /* of the job's CPU time */
    uint64_t quiet_ns, quiet_from, quiet_cpu_ns; /* the time without activity: its limit (0: not armed), its start, the
                                                  * CPU time at its start */
    uint64_t idle_ends;
};

struct run { /* the program that runs, and what is known of it */
    const struct go *go;
    pid_t program;
    pid_t clerk; /* the process that works with files; 0: none */
    uint64_t clerk_ends;
    pid_t tracer; /* 0: none, or it has ended */
    int cpu_file; /* tells the CPU time; -1 without cgroups */
    uint64_t look; /* the time for the next look at the usage */
    struct guards guards;
    struct usage most;
    struct end end;
};

enum { SAMPLE_NS = 10000000, LOOK_NS = 2000000, PAUSE_NS = 1000000, REAPED_MAX = 256 };
enum { ACTIVE_SHARE = 200, QUIET_LOOKS = 16 };
enum { NO_PYTHON = 127, TRACER_FILES = 64 }; /* the first of what tracer_ended() knows */
enum { PATH_BYTES = 4096, PUT_BYTES = 1 << 30, CLERK_NS = 2000000000 };
#define NEVER UINT64_MAX

static void fail(const char *what) {
    fprintf(stderr, "occd-init: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static int relayed; /* occd talks to the relay, which works while we wait */
static int master; /* of the jail's terminal; -1: the machine has no terminal left */
static uid_t their_user; /* 0: theirs and ours are one */
static struct { /* a process that is to become the program; 0: the program is to be started */
    pid_t pid;
    int gate;
} adopted;

void be_them(void) {
    static const int ours[] = {CAP_SETUID, CAP_SETGID, CAP_KILL, CAP_SETPCAP};
    uid_t id = their_user;
    if (!id) return;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (prctl(PR_CAPBSET_DROP, ours[i], 0, 0, 0) != 0) _exit(125);
    if (setgroups(0, NULL) != 0 || setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0) _exit(125);
}

void begin_theirs(void) {
    if (their_user && seteuid(their_user) != 0) fail("seteuid");
}

void end_theirs(void) {
    if (their_user && seteuid(0) != 0) fail("seteuid");
}

/* May return early. */
static void wait_for(struct pollfd *files, size_t count, const struct timespec *timeout) {
    if (relayed)
        relay_wait(files, count, timeout);
    else
        ppoll(files, count, timeout, NULL);
}

/* The number of files that come with the message. */
static size_t files_of(const struct go *go) {
    return (go->rows ? 0 : STDIO) + go->groups + (go->told ? 1 : 0) + (go->traced ? 1 : 0) + (go->boxed ? 1 : 0);
}

/* Waits for the job of this init: the message, its strings behind it, and the files that came with it. The first
 * three of `files` are the program's stdin, stdout and stderr, which are not set for a terminal. */
static struct go *receive_go(uint64_t number, int files[FILES_MAX]) {
    for (;;) {
        struct pollfd mail = {.fd = control, .events = POLLIN};
        wait_for(&mail, 1, NULL);
        if (!mail.revents) continue;
        ssize_t size = recv(control, NULL, 0, MSG_PEEK | MSG_TRUNC);
        if (size == 0) _exit(0); /* occd died, or discards this jail */
        if (size < 0 && errno == EINTR) continue;
        struct go *go = size < 0 ? NULL : malloc((size_t)size + 1);
        if (!go) fail("cannot receive");
        union {
            struct cmsghdr aligned;
            char bytes[CMSG_SPACE(FILES_MAX * sizeof(int))];
        } extra;
        struct iovec into = {.iov_base = go, .iov_len = (size_t)size};
        struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
        if (recvmsg(control, &message, MSG_CMSG_CLOEXEC) != size) fail("recvmsg");
        ((char *)go)[size] = 0; /* so that the last string ends, whatever the message holds */
        struct cmsghdr *came = CMSG_FIRSTHDR(&message);
        size_t count = came ? (came->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
        if (count) memcpy(files, CMSG_DATA(came), count * sizeof(int));
        if ((size_t)size >= sizeof *go && go->number == number && count == files_of(go)) {
            if (go->rows) memmove(files + STDIO, files, count * sizeof(int));
            return go;
        }
        for (size_t i = 0; i < count; i++) close(files[i]); /* the message was for an init that died */
        free(go);
    }
}

static uint64_t earlier(uint64_t one, uint64_t other) {
    return one < other ? one : other;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int send_master(void) {
    struct master text = {.type = 'M'};
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(sizeof master)];
    } extra = {{.cmsg_len = CMSG_LEN(sizeof master), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&extra.aligned), &master, sizeof master);
    struct iovec from = {.iov_base = &text, .iov_len = sizeof text};
    struct msghdr message = {.msg_iov = &from, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    return sendmsg(control, &message, 0) == sizeof text;
}

/* gVisor knows no TIOCGPTPEER. No program runs yet. */
static int open_their_side(void) {
    int number, theirs = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    char path[32];
    if (theirs >= 0 || errno != ENOTTY || ioctl(master, TIOCGPTN, &number) != 0) return theirs;
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    begin_theirs();
    theirs = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    end_theirs();
    return theirs;
}

/* Returns the program's side of the terminal. */
static int open_terminal(const struct go *go) {
    int unlocked = 0;
    if (ioctl(master, TIOCSPTLCK, &unlocked) != 0) fail_to_start("cannot have a terminal");
    int theirs = open_their_side();
    struct termios settings;
    struct winsize window = {.ws_row = (unsigned short)go->rows, .ws_col = (unsigned short)go->cols};
    if (theirs < 0 || tcgetattr(theirs, &settings) != 0) fail_to_start("cannot open a terminal");
    settings.c_iflag |= IUTF8; /* so that the key to erase erases a character, not a byte */
    if (tcsetattr(theirs, TCSANOW, &settings) != 0 || ioctl(theirs, TIOCSWINSZ, &window) != 0)
        fail_to_start("cannot set up a terminal");
    return theirs;
}

/* Waits until the tracer has attached, or has ended. Nobody else is in the jail who could trace this process: it may
 * be traced now, as a copy of init, and needs it to be. */
static void await_tracer(const int gate[2]) {
    char byte = 0;
    close(gate[1]);
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* where Yama lets only ancestors trace */
    send(gate[0], &byte, 1, MSG_NOSIGNAL); /* the tracer may have ended */
    while (read(gate[0], &byte, 1) < 0 && errno == EINTR) continue;
}

/* Becomes the tracer of the program. `out` gets the trace, `gate` lets the program begin. */
static void start_tracer(const struct go *go, const int *files, pid_t program, int out, int gate) {
    static const char *const pythons[] = {"/usr/bin/python3", "/usr/local/bin/python3"};
    static char *const environment[] = {"LANG=C.UTF-8", NULL};
    char numbers[3][16];
    int given[3] = {program, out, gate};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    join_groups(go, files);
    limit(RLIMIT_FSIZE, TRACE_BYTES);
    limit(RLIMIT_NOFILE, TRACER_FILES);
    for (int i = 0; i < 3; i++) snprintf(numbers[i], sizeof numbers[i], "%d", given[i]);
    if (dup2(0, 1) != 1 || dup2(0, 2) != 2 || fcntl(out, F_SETFD, 0) != 0 || fcntl(gate, F_SETFD, 0) != 0) _exit(1);
    be_them();
    for (size_t i = 0; i < sizeof pythons / sizeof *pythons; i++) {
        char *argv[] = {(char *)pythons[i], "-I", "-S", "-B", "/opt/occd/trace/tracer.py", numbers[0], numbers[1],
                        numbers[2], NULL};
        execve(argv[0], argv, environment);
    }
    _exit(NO_PYTHON);
}

/* What struct end tells of it. */
static uint8_t tracer_ended(int status) {
    switch (WIFEXITED(status) ? WEXITSTATUS(status) : -1) { /* the numbers are the tracer's */
    case 0: return 'l';
    case 3: return 'p';
    case 4: return 'w';
    case NO_PYTHON: return 'n';
    default: return 'd';
    }
}

static void start(const struct go *go, const int *files, char **argv, char **envp, const int gate[2]) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    /* First the session, then the master: else Ctrl-C could be typed and reach nobody. */
    if (go->rows && (ioctl(files[0], TIOCSCTTY, 0) != 0 || !send_master())) fail_to_start("cannot enter a terminal");
    /* init is of another user, if there is one. gVisor counts this process to the user that it began with. */
    begin(go, files, their_user ? 2 : 0);
    be_them();
    if (their_user && stay_alone() != 0) fail_to_start("cannot refuse namespaces");
    environ = envp;
    if (go->traced) await_tracer(gate);
    execvp(argv[0], argv);
    fprintf(stderr, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

/* Has the adopted process become the program. Returns 0 where there is none, or it has ended while it waited. */
static pid_t release(const struct go *go, const int *files) {
    if (!adopted.pid) return 0;
    size_t size = (STDIO + go->groups) * sizeof *files;
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(FILES_MAX * sizeof(int))];
    } extra = {{.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&extra.aligned), files, size);
    struct iovec from = {.iov_base = (void *)go, .iov_len = sizeof *go};
    struct msghdr message = {
        .msg_iov = &from, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = CMSG_SPACE(size)};
    int sent = sendmsg(adopted.gate, &message, MSG_NOSIGNAL) == sizeof *go;
    close(adopted.gate);
    return sent ? adopted.pid : 0;
}

static uint64_t nanoseconds(struct timeval t) {
    return ((uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec) * 1000u;
}

static uint64_t reaped_cpu_ns(struct rusage *usage) {
    getrusage(RUSAGE_CHILDREN, usage);
    return nanoseconds(usage->ru_utime) + nanoseconds(usage->ru_stime);
}

static int read_proc(const char *pid, const char *name, char *into, size_t size) {
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, into, size - 1);
    close(fd);
    if (n <= 0) return 0;
    into[n] = 0;
    return 1;
}

static uint64_t used_bytes(const char *mount) {
    struct statvfs s;
    return statvfs(mount, &s) == 0 ? (uint64_t)(s.f_blocks - s.f_bfree) * s.f_frsize : 0;
}

/* The value behind `name`, in bytes, from a text of the kernel that counts kilobytes. */
static uint64_t kilobytes(const char *text, const char *name) {
    const char *line = strstr(text, name);
    unsigned long long value;
    return line && sscanf(line + strlen(name), "%llu", &value) == 1 ? value * 1024u : 0;
}

static int has_memory(const char *task, char *status, size_t size) {
    return read_proc(task, "status", status, size) && strstr(status, "\nVmRSS:");
}

/* The status of a process that has memory, and the name under /proc of a thread that shows this memory. The first
 * thread may have ended before the others, and shows nothing then. Threads come and go while we look. */
static int find_memory(const char *pid, char *task, size_t task_size, char *status, size_t size) {
    snprintf(task, task_size, "%.20s", pid);
    if (has_memory(task, status, size)) return 1;
    char folder[64];
    snprintf(folder, sizeof folder, "/proc/%.20s/task", pid);
    int found = 0;
    for (int pass = 0; pass < 8 && !found; pass++) {
        DIR *threads = opendir(folder);
        if (!threads) return 0;
        int others = 0;
        for (struct dirent *e; !found && (e = readdir(threads));) {
            if (e->d_name[0] == '.' || strcmp(e->d_name, pid) == 0) continue;
            others++;
            snprintf(task, task_size, "%.20s/task/%.20s", pid, e->d_name);
            found = has_memory(task, status, size);
        }
        closedir(threads);
        if (!others) return found; /* a zombie */
    }
    return found;
}

/* Shared memory that a process has touched: its share, or all of it where the kernel gives no share. */
static uint64_t shared_bytes(const char *task, const char *status) {
    char text[4096];
    uint64_t all = kilobytes(status, "\nRssShmem:");
    if (all < 1u << 20 || !read_proc(task, "smaps_rollup", text, sizeof text)) return all;
    return strstr(text, "\nPss_Shmem:") ? kilobytes(text, "\nPss_Shmem:") : all;
}

static struct usage before; /* what the jail had used before its program started, where it is counted with the program's */
static uint64_t started_ns; /* the time of its start */

/* Memory by the account of a kernel that serves this jail alone. */
static struct usage all_memory(void) {
    char text[4096];
    if (!read_proc(".", "meminfo", text, sizeof text)) fail("cannot read the memory");
    uint64_t mapped = kilobytes(text, "\nMapped:");
    return (struct usage){
        .memory = kilobytes(text, "MemTotal:") - kilobytes(text, "\nMemFree:") - mapped,
        .mapped_files = mapped,
    };
}

/* gVisor counts a process that is ready as if it ran: 256 of them used 54 s in one second. */
static uint64_t possible_cpu_ns(const struct go *go, uint64_t cpu_ns) {
    if (!go->alone) return cpu_ns;
    return earlier(cpu_ns, (now_ns() - started_ns) * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
}

/* Memory and CPU time of every process but init and its clerk, with page tables, and memory of the writable file systems.
 * Mapped files of these file systems would count twice, hence the larger of the two. */
static struct usage sample(const struct go *go, pid_t clerk) {
    struct rusage reaped;
    struct usage usage = go->alone ? all_memory() : (struct usage){0};
    char status[4096], text[1024], task[64];
    uint64_t tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK), shared = 0;
    uint64_t files = go->alone ? 0 : used_bytes("/box") + used_bytes("/tmp") + used_bytes("/dev/shm");
    usage.cpu_ns = reaped_cpu_ns(&reaped);
    DIR *proc = opendir("/proc");
    if (!proc) fail("opendir /proc"); /* a guard that sees nothing must not let the program run */
    for (struct dirent *e; (e = readdir(proc));) {
        unsigned long long user, system, of_children[2];
        if (e->d_name[0] < '1' || e->d_name[0] > '9' || strcmp(e->d_name, "1") == 0) continue;
        if (atoi(e->d_name) == clerk) continue;
        if (!go->alone && find_memory(e->d_name, task, sizeof task, status, sizeof status)) {
            usage.memory += kilobytes(status, "\nRssAnon:") + kilobytes(status, "\nVmPTE:") + kilobytes(status, "\nVmSwap:");
            shared += shared_bytes(task, status);
            uint64_t mapped = kilobytes(status, "\nRssFile:");
            if (mapped > usage.mapped_files) usage.mapped_files = mapped;
        }
        char *rest;
        if (read_proc(e->d_name, "stat", text, sizeof text) && (rest = strrchr(text, ')')) &&
            sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &user, &system,
                   &of_children[0], &of_children[1]) == 4)
            usage.cpu_ns += (user + system + of_children[0] + of_children[1]) * tick;
    }
    closedir(proc);
    usage.memory += shared > files ? shared : files;
    usage.memory -= earlier(usage.memory, before.memory);
    usage.cpu_ns = possible_cpu_ns(go, usage.cpu_ns - earlier(usage.cpu_ns, before.cpu_ns));
    return usage;
}

/* The CPU time in `file`: v1's cpuacct.usage is a number of nanoseconds, v2's cpu.stat has a line with it. */
static uint64_t told_cpu_ns(int file) {
    char text[1024];
    unsigned long long value;
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    if (n <= 0) fail("cannot read the CPU time");
    text[n] = 0;
    if (sscanf(text, "usage_usec %llu", &value) == 1)
        value *= 1000u;
    else if (sscanf(text, "%llu", &value) != 1)
        fail("cannot understand the CPU time");
    return value - before.cpu_ns;
}

static void answer(int error) {
    struct answer answer = {.type = 'W', .error = error};
    if (write(control, &answer, sizeof answer) != sizeof answer) fprintf(stderr, "occd-init: an answer is lost\n");
}

static void dismiss_clerk(struct run *run, int status) {
    run->clerk = 0;
    run->clerk_ends = NEVER;
    answer(WIFEXITED(status) ? WEXITSTATUS(status) : ETIMEDOUT);
}

static void dismiss_tracer(struct run *run, int status) {
    run->tracer = 0;
    run->end.traced = tracer_ended(status);
}

/* At the program's end. One that gave up before it attached may be about to end, and a kill does not change how. */
static void end_tracer(struct run *run) {
    int status;
    if (!run->tracer) return;
    if (waitpid(run->tracer, &status, WNOHANG) == 0) {
        kill(run->tracer, SIGKILL);
        while (waitpid(run->tracer, &status, 0) < 0 && errno == EINTR) continue;
        if (WIFSIGNALED(status)) return; /* until now it was well */
    }
    dismiss_tracer(run, status);
}

/* Returns the number of reaped processes. The number is bounded, to leave time to look at the limits. */
static int reap(struct run *run, int *ended) {
    int count = 0, status;
    for (pid_t pid; count < REAPED_MAX && (pid = waitpid(-1, &status, WNOHANG)) > 0; count++) {
        if (pid == run->program) {
            run->end.status = status;
            *ended = 1;
        }
        if (pid == run->clerk) dismiss_clerk(run, status);
        if (pid == run->tracer) dismiss_tracer(run, status);
    }
    return count;
}

/* To the program's group, as a terminal would. The program leads its session, so it cannot leave the group; gVisor
 * lets it. Before its setsid() the group is not there, and the program is alone. */
static void send_signal(pid_t program, int number) {
    if (kill(-program, number) != 0 || getpgid(program) != program) kill(program, number);
}

static uint64_t used_cpu_ns(const struct run *run) {
    return run->cpu_file < 0 ? run->end.cpu_ns : told_cpu_ns(run->cpu_file);
}

static void begin_quiet_time(struct run *run) {
    run->guards.quiet_from = now_ns();
    run->guards.quiet_cpu_ns = used_cpu_ns(run);
}

static uint64_t after(uint64_t start, uint64_t limit_ns) {
    return limit_ns ? start + limit_ns : NEVER;
}

static void arm(struct run *run, uint8_t which, uint64_t limit_ns, uint64_t idle_ns) {
    struct guards *guards = &run->guards;
    switch (which) {
    case 'w': guards->wall_ends = after(now_ns(), limit_ns); break;
    case 'c': guards->cpu_ends = after(used_cpu_ns(run), limit_ns); break;
    case 'i':
        guards->quiet_ns = limit_ns;
        guards->idle_ends = after(now_ns(), idle_ns);
        begin_quiet_time(run);
    }
    if (run->cpu_file >= 0) run->look = 0; /* a sample is near anyway */
}

/* Ends the clerk. It tells its error by its exit code. */
static void done(int file, int error) {
    close(file);
    _exit(error);
}

/* The folder `name` in `folder`, which is closed. */
static int enter(int folder, const char *name, int make) {
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) _exit(EINVAL);
    if (make && mkdirat(folder, name, 0755) != 0 && errno != EEXIST) _exit(errno);
    int next = open_folder(folder, name);
    if (next < 0) _exit(errno);
    close(folder);
    return next;
}

/* The folder in which the last part of the path lies. Moves the path to this part. */
static int enter_all(char **path, int make) {
    int folder = open("/box", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) _exit(errno);
    for (char *slash; (slash = strchr(*path, '/')); *path = slash + 1) {
        *slash = 0;
        folder = enter(folder, *path, make);
    }
    return folder;
}

/* Returns an errno. */
static int copy(int from, int to, uint64_t most) {
    for (uint64_t left = most + 1; left;) {
        ssize_t n = sendfile(to, from, NULL, left < 1 << 20 ? left : 1 << 20);
        if (n < 0) return errno;
        if (n == 0) return 0;
        left -= (uint64_t)n;
    }
    return EFBIG; /* it grew while it was read */
}

static void put(char *path, int content, mode_t mode) {
    char name[64];
    int folder = enter_all(&path, 1);
    snprintf(name, sizeof name, ".occd-%d", getpid());
    int new = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (new < 0) _exit(errno);
    int error = copy(content, new, PUT_BYTES);
    /* Renamed, the file is there as a whole, and what had its name was neither opened nor followed. */
    if (!error && (fchmod(new, mode & 0777) != 0 || renameat(folder, name, folder, path) != 0)) error = errno;
    if (error) unlinkat(folder, name, 0);
    done(content, error);
}

static void get(char *path, int into, uint64_t most) {
    int folder = enter_all(&path, 0);
    int file = openat(folder, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat found;
    if (file < 0 || fstat(file, &found) != 0) _exit(errno);
    if (!S_ISREG(found.st_mode)) _exit(S_ISDIR(found.st_mode) ? EISDIR : EINVAL);
    if ((uint64_t)found.st_size > most) _exit(EFBIG);
    done(into, copy(file, into, most));
}

static void list(char *path, int into, uint64_t most) {
    int folder = enter_all(&path, 0);
    if (*path) folder = enter(folder, path, 0); /* else the box itself */
    DIR *entries = fdopendir(folder);
    FILE *out = fdopen(into, "w");
    if (!entries || !out) _exit(errno);
    for (struct dirent *e; most && (e = readdir(entries));) {
        struct stat found;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (fstatat(folder, e->d_name, &found, AT_SYMLINK_NOFOLLOW) != 0) continue; /* it has just gone */
        struct entry entry = {
            .size = (uint64_t)found.st_size,
            .changed_ns = found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec,
            .mode = found.st_mode,
            .name_size = (uint32_t)strlen(e->d_name),
        };
        fwrite(&entry, sizeof entry, 1, out);
        fwrite(e->d_name, entry.name_size, 1, out);
        most--;
    }
    _exit(fclose(out) == 0 ? 0 : errno);
}

static void send_clerk(struct run *run, const struct order *order, char *path, int file) {
    pid_t clerk = file < 0 ? (errno = EMFILE, -1) : run->clerk ? (errno = EBUSY, -1) : fork();
    if (clerk == 0) {
        if (file != 0 && dup2(file, 0) != 0) _exit(errno);
        file = 0;
        if (close_range(1, INT_MAX, 0) != 0) _exit(errno);
        be_them();
        switch (order->type) {
        case 'P': put(path, file, (mode_t)order->first); break;
        case 'L': list(path, file, order->first); break;
        case 'G': get(path, file, order->first);
        }
        _exit(EINVAL);
    }
    if (clerk < 0) {
        answer(errno);
        return;
    }
    run->clerk = clerk;
    run->clerk_ends = now_ns() + CLERK_NS;
}

static void obey(struct run *run) {
    struct order order;
    char path[PATH_BYTES];
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(sizeof(int))];
    } extra;
    struct iovec into[2] = {{.iov_base = &order, .iov_len = sizeof order}, {.iov_base = path, .iov_len = sizeof path - 1}};
    struct msghdr message = {.msg_iov = into, .msg_iovlen = 2, .msg_control = &extra, .msg_controllen = sizeof extra};
    ssize_t size = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    if (size == 0 || (size < 0 && errno != EINTR)) _exit(0);
    if (size < (ssize_t)sizeof order) return;
    path[size - (ssize_t)sizeof order] = 0;
    struct cmsghdr *came = CMSG_FIRSTHDR(&message);
    int file = -1;
    if (came && came->cmsg_len == CMSG_LEN(sizeof file)) memcpy(&file, CMSG_DATA(came), sizeof file);
    switch (order.type) {
    case 'S': send_signal(run->program, order.what); break;
    case 'A': arm(run, order.what, order.first, order.second); break;
    case 'T': begin_quiet_time(run); break;
    default: send_clerk(run, &order, path, file);
    }
    if (file >= 0) close(file);
}

/* Whether the idle time is over. Sets the latest time for the next look. */
static int idle(struct run *run, uint64_t now, uint64_t cpu_ns) {
    struct guards *guards = &run->guards;
    if (guards->quiet_ns) {
        if (cpu_ns - guards->quiet_cpu_ns >= guards->quiet_ns / ACTIVE_SHARE) begin_quiet_time(run);
        uint64_t part = guards->quiet_ns / QUIET_LOOKS, quiet_ends = guards->quiet_from + guards->quiet_ns;
        run->look = earlier(run->look, earlier(quiet_ends, now + (part > SAMPLE_NS ? part : SAMPLE_NS)));
        if (now >= quiet_ends) return 1;
    }
    run->look = earlier(run->look, guards->idle_ends);
    return now >= guards->idle_ends;
}

/* Looks at the usage. Returns the limit that the program exceeds, and sets the time for the next look. */
static uint8_t guard(struct run *run, uint64_t now) {
    const struct go *go = run->go;
    struct end *end = &run->end;
    if (run->cpu_file < 0) {
        struct usage used = sample(go, run->clerk), *most = &run->most;
        if (used.mapped_files > most->mapped_files) most->mapped_files = used.mapped_files;
        if (used.memory > end->peak_bytes) end->peak_bytes = used.memory;
        if (used.cpu_ns > end->cpu_ns) end->cpu_ns = used.cpu_ns;
        run->look = now_ns() + SAMPLE_NS;
        if (used.memory > go->memory) return 'm';
    } else {
        end->cpu_ns = told_cpu_ns(run->cpu_file);
        uint64_t ends = run->guards.cpu_ends, left = end->cpu_ns < ends ? (ends - end->cpu_ns) / go->processors : 0;
        run->look = ends == NEVER ? NEVER : now + (left > LOOK_NS ? left : LOOK_NS);
    }
    if (end->cpu_ns > run->guards.cpu_ends) return 'c';
    return idle(run, now, end->cpu_ns) ? 'i' : 0;
}

static void wait_until(uint64_t then, struct pollfd fds[2]) {
    uint64_t now = now_ns(), left = then > now ? then - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
    fds[0].revents = fds[1].revents = 0;
    wait_for(fds, 2, then == NEVER ? NULL : &timeout);
}

/* Returns the time at which the program ended, by itself or by a guard. */
static uint64_t supervise(struct run *run, int signals) {
    struct pollfd fds[2] = {{.fd = control, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    int ended = 0, reaped = 0;
    for (;;) {
        uint64_t next = earlier(earlier(run->look, run->guards.wall_ends), run->clerk_ends);
        wait_until(reaped == REAPED_MAX ? 0 : next, fds);
        if (fds[0].revents) obey(run);
        if (fds[1].revents || reaped == REAPED_MAX) {
            struct signalfd_siginfo info[2]; /* all that can wait; the program could hold us in a loop here */
            if (read(signals, info, sizeof info) < 0 && errno != EAGAIN) fail("cannot read signals");
            reaped = reap(run, &ended);
            if (ended) return now_ns();
            /* The program sent the signal. Pause, because no job pays for the CPU time that init spends on it. */
            if (!reaped) nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        }
        uint64_t now = now_ns();
        if (now >= run->clerk_ends) {
            kill(run->clerk, SIGKILL);
            run->clerk_ends = NEVER;
        }
        if (now >= run->look) run->end.limit = guard(run, now);
        if (!run->end.limit && now >= run->guards.wall_ends) run->end.limit = 'w';
        if (run->end.limit) {
            run->end.ended = 1;
            return now;
        }
    }
}

/* After the return no process of the program is left. In gVisor a fork bomb outlived one kill of all, perhaps because
 * what is forked meanwhile is missed. Whoever forked it was killed, so that its end is seen here. So after each end all
 * are killed again before we wait: else those who were missed would live, and nobody would end.
 * Whoever is left is our child or a child's, as orphans become ours. The kernel looks at all processes of the machine to
 * kill ours, so nobody is killed where we have no child. */
static void end_all(void) {
    while (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) {
        int reaped = 0;
        kill(-1, SIGKILL);
        while (waitpid(-1, NULL, WNOHANG) > 0) reaped = 1;
        if (!reaped) waitpid(-1, NULL, 0);
    }
}

/* The peak that sampling may have missed. The kernel counts mapped files too, which are not the program's
 * memory. A program that ended before the first sample hardly had time to exceed its limit. */
static uint64_t unsampled_peak(uint64_t resident, const struct usage *most, uint64_t limit) {
    if (most->mapped_files == 0) return resident < limit ? resident : limit;
    return resident > most->mapped_files ? resident - most->mapped_files : 0;
}

/* The usage when no process of the program is left. Usage beyond a limit is this limit's, whoever ended the program. */
static void conclude(struct run *run, uint64_t started, uint64_t stopped) {
    struct end *end = &run->end;
    struct rusage reaped;
    uint64_t cpu_ns = possible_cpu_ns(run->go, reaped_cpu_ns(&reaped) - before.cpu_ns), peak = (uint64_t)reaped.ru_maxrss * 1024u;
    if (run->cpu_file >= 0) {
        end->cpu_ns = told_cpu_ns(run->cpu_file);
    } else {
        if (cpu_ns > end->cpu_ns) end->cpu_ns = cpu_ns;
        peak = unsampled_peak(peak, &run->most, run->go->memory);
    }
    if (peak > end->peak_bytes) end->peak_bytes = peak;
    end->wall_ns = stopped - started;
    if (!end->limit && end->cpu_ns > run->guards.cpu_ends) end->limit = 'c';
    if (!end->limit && stopped > run->guards.wall_ends) end->limit = 'w';
}

/* All is ready for the program, which another one keeps waiting. */
static void await_turn(void) {
    struct order order = {0};
    for (ssize_t size; order.type != 'B';) {
        size = recv(control, &order, sizeof order, 0);
        if (size == 0 || (size < 0 && errno != EINTR)) _exit(0); /* occd died */
    }
}

static struct end run(const struct go *go, int *files) {
    char *text = (char *)(go + 1), **words = calloc(go->argc + go->envc + 2, sizeof *words);
    if (!words) fail("calloc");
    char **envp = words + go->argc + 1;
    for (uint32_t i = 0; i < go->argc + go->envc; i++, text += strlen(text) + 1)
        words[i < go->argc ? i : i + 1] = text;

    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) fail("signalfd");
    if (go->rows) files[0] = files[1] = files[2] = open_terminal(go);
    if (go->rows && relayed && !go->alone) relay_window(files[0]);
    int cpu_file = go->told ? files[STDIO + go->groups] : -1;
    if (go->told) before.cpu_ns = told_cpu_ns(cpu_file);
    if (go->alone) before = sample(go, 0);
    int trace = go->traced ? files[STDIO + go->groups + (go->told ? 1 : 0)] : -1, gate[2];
    if (go->traced && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gate) != 0) fail("socketpair");
    if (go->held) await_turn();
    uint64_t started = started_ns = now_ns();
    pid_t program = release(go, files), tracer = 0;
    if (!program && (program = fork()) < 0) fail("fork");
    if (program == 0) {
        signal(SIGPIPE, SIG_DFL);
        start(go, files, words, envp, gate);
    }
    if (go->traced) {
        if ((tracer = fork()) < 0) fail("fork");
        if (tracer == 0) start_tracer(go, files, program, trace, gate[1]);
        close(gate[0]);
        close(gate[1]);
        close(trace);
    }
    /* Only the program keeps these open; a terminal stays open here, too. */
    for (uint32_t i = go->rows ? STDIO : 0; i < STDIO + go->groups; i++) close(files[i]);

    struct run run = {
        .go = go,
        .program = program,
        .clerk_ends = NEVER,
        .tracer = tracer,
        .cpu_file = cpu_file,
        .look = started + (!go->told ? SAMPLE_NS : go->quiet_ns ? 0 : go->cpu_ns / go->processors),
        .guards = {
            .wall_ends = after(started, go->wall_ns),
            .cpu_ends = go->cpu_ns ? go->cpu_ns : NEVER,
            .quiet_ns = go->quiet_ns,
            .quiet_from = started,
            .idle_ends = after(started, go->idle_ns),
        },
        .end = {.type = 'X', .traced = tracer ? 'w' : 0, .status = SIGKILL},
    };
    uint64_t stopped = supervise(&run, signals);
    end_tracer(&run);
    end_all();
    conclude(&run, started, stopped);
    return run.end;
}

/* Maps each of our ids to itself. */
static void map_ids(pid_t pid, const char *name) {
    char path[64], text[8192];
    size_t size = 0;
    unsigned inside, count;
    snprintf(path, sizeof path, "/proc/self/%s", name);
    FILE *ours = fopen(path, "re");
    if (!ours) fail(path);
    while (size < sizeof text - 64 && fscanf(ours, "%u %*u %u", &inside, &count) == 2)
        size += (size_t)sprintf(text + size, "%u %u %u\n", inside, inside, count);
    fclose(ours);
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int theirs = open(path, O_WRONLY | O_CLOEXEC);
    if (theirs < 0 || write(theirs, text, size) != (ssize_t)size) fail(path);
}

/* Where the settings are read-only, as in containers, the machine's bound stays. */
static void bound(const char *setting, const char *value) {
    int fd = open(setting, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, value, strlen(value)) < 0) fprintf(stderr, "occd-init: %s: %s\n", setting, strerror(errno));
    close(fd);
}

static void lower(int which, rlim_t value) {
    struct rlimit now;
    if (getrlimit(which, &now) != 0 || (now.rlim_max != RLIM_INFINITY && now.rlim_max <= value)) return;
    now.rlim_cur = now.rlim_max = value;
    setrlimit(which, &now);
}

/* Enters a user namespace that `uid` makes. The kernel counts signals, timers, message queues and inotify to a
 * process's user, to the maker of its namespace, and so on outwards. Otherwise root would pay for every jail, and
 * run out. */
static void enter_account(uid_t uid) {
    int entered[2], status;
    if (pipe2(entered, O_CLOEXEC) != 0) fail("pipe2");
    pid_t helper = fork(); /* maps ids from outside, where this is allowed */
    if (helper < 0) fail("fork");
    if (helper == 0) {
        char byte;
        close(entered[1]);
        if (read(entered[0], &byte, 1) != 1) _exit(1);
        map_ids(getppid(), "uid_map");
        map_ids(getppid(), "gid_map");
        _exit(0);
    }
    if (setegid(uid) != 0 || seteuid(uid) != 0 || unshare(CLONE_NEWUSER) != 0) fail("cannot make a user namespace");
    if (write(entered[1], "", 1) != 1 || waitpid(helper, &status, 0) != helper || status != 0) fail("cannot map ids");
    close(entered[0]);
    close(entered[1]);
    if (seteuid(0) != 0 || setegid(0) != 0) fail("cannot be root in a user namespace");
    /* Only after the unshare: the limits at the unshare bound the maker in all of its namespaces together. */
    lower(RLIMIT_SIGPENDING, 256);
    lower(RLIMIT_MSGQUEUE, 192 << 10);
    lower(RLIMIT_MEMLOCK, 8 << 20);
    bound("/proc/sys/user/max_inotify_instances", "16");
    bound("/proc/sys/user/max_inotify_watches", "4096");
}

static int tether(pid_t occd, uid_t uid, char **argv) {
    /* The stack may grow up to the memory limit, if we have the right to allow this. */
    struct rlimit stack;
    if (getrlimit(RLIMIT_STACK, &stack) == 0) {
        stack.rlim_max = RLIM_INFINITY;
        setrlimit(RLIMIT_STACK, &stack);
    }
    enter_account(uid);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user would have undone it */
    /* No core files and no handler of core dumps: a handler would run outside of the jail, as root, without a
     * time limit. The kernel starts no handler at a limit of 1, but does at 0. A normal user with a hard limit
     * of 0 cannot set 1. */
    struct rlimit one = {1, 1};
    setrlimit(RLIMIT_CORE, &one);
    if (getppid() != occd) return 125; /* occd died before the prctl */
    execv(argv[0], argv);
    fprintf(stderr, "cannot start %s: %s\n", argv[0], strerror(errno));
    return 125;
}

/* Whether there is a way to another machine. Nothing is sent. */
static int has_network(void) {
    struct sockaddr_in other = {.sin_family = AF_INET, .sin_port = 1, .sin_addr.s_addr = inet_addr("192.0.2.1")};
    int file = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return file < 0 || connect(file, (struct sockaddr *)&other, sizeof other) == 0 || errno != ENETUNREACH;
}

/* Prints what the machine's files call this process's user, and where they say that it is at home. */
static void prove_user(void) {
    FILE *users = fopen("/etc/passwd", "re");
    for (struct passwd *each; users && (each = fgetpwent(users));)
        if (each->pw_uid == getuid()) {
            printf("called: %s %s\n", each->pw_name, each->pw_dir);
            break;
        }
    if (users) fclose(users);
}

static int prove(void) {
    static const char *const namespaces[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
    char path[64], text[8192];
    /* Without the policy the first call would fail with EFAULT or EACCES, and the second would succeed. */
    int refused = prctl(PR_SET_SECCOMP, 2, NULL) != 0 && errno == EPERM;
    refused = refused && socket(AF_NETLINK, SOCK_RAW, 15) < 0 && errno == EPERM;
    printf("refused: %s\n", refused ? "yes" : "no");
    /* init has the jail's one terminal; its own files are not for programs. */
    int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    printf("terminals: %s\n", terminal < 0 && errno == ENOSPC ? "none" : "more");
    printf("init: %s\n", opendir("/proc/1/fd") ? "open" : "closed");
    struct statvfs root;
    printf("root: %s\n", statvfs("/", &root) == 0 && root.f_flag & ST_RDONLY ? "read-only" : "writable");
    printf("network: %s\n", has_network() ? "some" : "none");
    prove_user();
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        snprintf(path, sizeof path, "/proc/self/ns/%s", namespaces[i]);
        ssize_t size = readlink(path, text, sizeof text - 1);
        if (size > 0) printf("%s: %.*s\n", namespaces[i], (int)size, text);
    }
    if (read_proc("self", "uid_map", text, sizeof text)) printf("uid_map: %s\n", text);
    if (read_proc("self", "status", text, sizeof text)) printf("%s\n", text);
    /* The last: it would change what stands above. */
    printf("spaces: %s\n", unshare(CLONE_NEWUSER) != 0 && errno == EPERM ? "refused" : "made");
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc > 4 && strcmp(argv[1], "tether") == 0)
        return tether(atoi(argv[2]), (uid_t)strtoul(argv[3], NULL, 10), argv + 4);
    if (argc == 2 && strcmp(argv[1], "prove") == 0) return prove();
    if (argc > 1 && strcmp(argv[1], "find") == 0) return find(argc - 2, argv + 2);
    if (argc > 4 && strcmp(argv[1], "warm") == 0) return keep_warm(atoi(argv[2]), argv[3], argv + 4);
    uint64_t resident = 0;
    int adopts = argc == 7 && strcmp(argv[1], "adopt") == 0, filter = -1;
    int makes = argc == 4 && strcmp(argv[1], "make") == 0;
    int holds = argc > 4 && strcmp(argv[1], "hold") == 0;
    if (argc != 2 && argc != 3 && !adopts && !makes && !holds) return 125;
    if (argc == 3) their_user = (uid_t)strtoul(argv[2], NULL, 10);
    prctl(PR_SET_DUMPABLE, 0);
    relayed = strcmp(argv[1], "relay") == 0;
    if (adopts) {
        control = atoi(argv[2]);
        filter = atoi(argv[3]);
        adopted.gate = atoi(argv[4]);
        adopted.pid = atoi(argv[5]);
        fcntl(filter, F_SETFD, FD_CLOEXEC);
        fcntl(adopted.gate, F_SETFD, FD_CLOEXEC);
        resident = strtoull(argv[6], NULL, 10);
        furnish();
    } else if (makes) {
        filter = FILTER_FD;
        make_jails(atoi(argv[2]), (uid_t)strtoul(argv[3], NULL, 10));
        fcntl(filter, F_SETFD, FD_CLOEXEC);
        furnish();
    } else {
        control = relayed ? start_relay() : atoi(argv[holds ? 2 : 1]);
    }
    fcntl(control, F_SETFD, FD_CLOEXEC);
    /* The jail's own: a program that catches a clerk as it begins could open the machine's, and change its times. */
    close(0);
    if (open("/dev/null", O_RDWR | O_CLOEXEC) != 0) fail("/dev/null");
    begin_theirs();
    master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    end_theirs();
    signal(SIGPIPE, SIG_IGN);
    if (holds) adopted.pid = hold_program(argv[3], argv + 4, &adopted.gate, &resident);
    struct hello hello = {.type = 'R', .resident = resident};
    if (getrandom(&hello.number, sizeof hello.number, 0) != sizeof hello.number) fail("getrandom");
    if (write(control, &hello, sizeof hello) != sizeof hello) fail("write");

    int files[FILES_MAX];
    struct go *go = receive_go(hello.number, files);
    if (go->boxed) show_box(files[files_of(go) - 1 + (go->rows ? STDIO : 0)]);
    if (filter >= 0 && drop_privileges(filter) != 0) fail("cannot drop privileges");
    struct end end = run(go, files);
    if (write(control, &end, sizeof end) != sizeof end) return 125;
    while (relayed) wait_for(NULL, 0, NULL); /* the relay ends this process when occd needs the container no more */
    return 0;
}
