/* Templates: an interpreter that has started already, and is forked for each program.
 *
 * A template's jail is a jail as others, made by nsjail, whose processes keep the capabilities of its user namespace and
 * are not filtered. No byte of a user's comes there. Its first process, the keeper, starts the interpreter, which stops
 * before it reads a file that is not there yet. For each program the interpreter makes two processes in namespaces of
 * their own: the first becomes init, which furnishes the jail, and is its PID 1; the second is the interpreter's copy,
 * which has dropped every privilege, waits for its job at a socket of init, and goes on as the program. When init has
 * ended, the kernel has ended all of its namespace, and the keeper has the next jail made.
 *
 * The interpreter makes the processes for its parent (CLONE_PARENT), so it never has a child.
 *
 * An interpreter with threads cannot be forked. It is started in the jail that stands ready, as init's child, with the
 * jail's filter and without a privilege, as any program; there it stops, and goes on itself when the job has come. */
#define _GNU_SOURCE
#include "begin.h"
#include "warm.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOLD "/opt/occd/hold/hold.so"
#define COVERED "/opt/occd/hold/covered"

enum { HIGH = 200, TEMPLATE_STACK = 1 << 30, STARTS_MS = 20000 }; /* the program's files get the numbers that they get elsewhere */

static void fail(const char *what) {
    fprintf(stderr, "occd-init: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static int high(int file) {
    int moved = fcntl(file, F_DUPFD, HIGH);
    if (moved < 0) fail("cannot move a file");
    close(file);
    return moved;
}

/* Becomes the interpreter. `filter` is -1 for one that is not forked and goes on itself. */
static void start_interpreter(int socket, int filter, const char *file, char **argv) {
    char told[256], preloaded[4096];
    const char *more = getenv("LD_PRELOAD");
    int in[2], out[2];
    /* What stdin and stdout are decides how they are buffered. */
    if (pipe(in) != 0 || pipe(out) != 0) fail("pipe");
    if (dup2(in[0], 0) != 0 || dup2(out[1], 1) != 1) fail("dup2");
    if (filter >= 0) filter = high(filter);
    socket = high(socket);
    control = high(control);
    close_range(3, HIGH - 1, 0);
    snprintf(told, sizeof told, "%d,%d,%d,%s", control, socket, filter, file);
    snprintf(preloaded, sizeof preloaded, HOLD "%s%s", more ? ":" : "", more ? more : "");
    if (setenv("LD_PRELOAD", preloaded, 1) != 0 || setenv("OCCD_HOLD", told, 1) != 0) fail("setenv");
    begin_with(RLIMIT_STACK, TEMPLATE_STACK);
    execvp(argv[0], argv);
    fail(argv[0]);
}

static int occd_left(void) {
    struct pollfd occd = {.fd = control, .events = POLLRDHUP};
    return poll(&occd, 1, 0) != 0 && occd.revents & (POLLHUP | POLLRDHUP);
}

static void mounted(const char *kind, const char *target, const char *options) {
    if (mount("none", target, kind, 0, options) != 0) fail(target);
}

/* While packages are imported, the folders are there that a program can write to. */
static const char *const folders[] = {"/box", "/tmp", "/dev/shm"};

static void lend_folders(void) {
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) mounted("tmpfs", folders[i], "size=67108864,mode=1777");
    if (chdir("/box") != 0) fail("/box");
}

static void take_folders(void) {
    if (chdir("/") != 0) fail("/");
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (umount2(folders[i], MNT_DETACH) != 0) fail(folders[i]);
}

int keep_warm(int to_occd, const char *file, char **argv) {
    int pair[2], status;
    control = to_occd;
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a jail outlives an nsjail that was killed */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) fail("socketpair");
    int imports = getenv("OCCD_PACKAGES") != NULL;
    if (imports) lend_folders();
    pid_t template = fork();
    if (template < 0) fail("fork");
    if (template == 0) start_interpreter(pair[1], FILTER_FD, file, argv);
    close(pair[1]);
    char byte;
    if (recv(pair[0], &byte, 1, 0) != 1) fail("the interpreter does not look at its file");
    if (imports) take_folders();
    for (;;) {
        if (occd_left()) return 0;
        if (send(pair[0], "", 1, MSG_NOSIGNAL) != 1) fail("the interpreter has ended");
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == template) { /* a copy of it may run, and would end with this process */
            waitpid(-1, &status, 0);
            return 125;
        }
        /* occd may kill an init that does not answer. An init that failed would fail again. */
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0) return 125;
    }
}

enum { JAIL = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET };

static void tell_kernel(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text)) fail(path);
    close(file);
}

static void map_id(const char *path, uid_t inside, uid_t outside) {
    char text[64];
    snprintf(text, sizeof text, "%u %u 1", inside, outside);
    tell_kernel(path, text);
}

void make_jails(int to_occd, uid_t user) {
    uid_t uid = getuid();
    gid_t gid = getgid();
    int status;
    control = to_occd;
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a jail outlives an nsjail that was killed */
    for (;;) {
        if (occd_left()) _exit(0);
        long init = syscall(SYS_clone, JAIL | SIGCHLD, NULL, NULL, NULL, NULL);
        if (init < 0) fail("clone");
        if (init == 0) break;
        while (waitpid((pid_t)init, &status, 0) < 0 && errno == EINTR) continue;
        /* occd may kill an init that does not answer. An init that failed would fail again. */
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0) _exit(125);
    }
    prctl(PR_SET_DUMPABLE, 1); /* else these files are not its own; nobody else is in the jail */
    tell_kernel("/proc/self/setgroups", "deny");
    map_id("/proc/self/uid_map", user, uid);
    map_id("/proc/self/gid_map", user, gid);
    prctl(PR_SET_DUMPABLE, 0);
    setsid();
}

pid_t hold_program(const char *file, char **argv, int *gate, uint64_t *resident) {
    int pair[2], status;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) fail("socketpair");
    pid_t program = fork();
    if (program < 0) fail("fork");
    if (program == 0) {
        signal(SIGPIPE, SIG_DFL);
        start_interpreter(pair[1], -1, file, argv);
    }
    close(pair[1]);
    struct pollfd news[2] = {{.fd = pair[0], .events = POLLIN}, {.fd = control, .events = POLLRDHUP}};
    int came = poll(news, 2, STARTS_MS);
    if (news[1].revents & (POLLHUP | POLLRDHUP)) _exit(0); /* occd died */
    if (came > 0 && recv(pair[0], resident, sizeof *resident, 0) == sizeof *resident) {
        *gate = pair[0];
        return program;
    }
    kill(program, SIGKILL);
    while (waitpid(program, &status, 0) < 0 && errno == EINTR) continue;
    close(pair[0]);
    *resident = 0;
    return 0;
}

static void cover(const char *path, const char *with) {
    if (mount(with, path, NULL, MS_BIND | MS_REC, NULL) != 0) fail(path);
    if (mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0) fail(path);
}

/* The old /proc shows the template's processes, and goes. The kernel gives a new one only to whom one is shown. */
static void mount_proc(void) {
    int kind = (int)syscall(SYS_fsopen, "proc", 1 /* FSOPEN_CLOEXEC */);
    if (kind < 0) fail("fsopen");
    if (syscall(SYS_fsconfig, kind, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) != 0) fail("proc");
    int proc = (int)syscall(SYS_fsmount, kind, 1, 0);
    if (proc < 0) fail("cannot mount proc");
    if (umount2("/proc", MNT_DETACH) != 0 && errno != EINVAL) fail("/proc"); /* another user namespace's stays below */
    if (syscall(SYS_move_mount, proc, "", AT_FDCWD, "/proc", 4 /* MOVE_MOUNT_F_EMPTY_PATH */) != 0) fail("/proc");
    close(proc);
    close(kind);
    cover("/proc/sys", "/proc/sys");
    char line[256];
    FILE *covered = fopen(COVERED, "re");
    if (!covered) fail(COVERED);
    while (fgets(line, sizeof line, covered)) {
        line[strcspn(line, "\n")] = 0;
        char *with = strchr(line, ' ');
        if (!with) continue;
        *with++ = 0;
        cover(line, with);
    }
    fclose(covered);
}

static void raise_loopback(void) {
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int file = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (file < 0 || ioctl(file, SIOCSIFFLAGS, &lo) != 0) fail("lo");
    close(file);
}

void furnish(void) {
    mounted("tmpfs", "/tmp", "size=67108864,nr_inodes=65536,mode=1777");
    mounted("tmpfs", "/dev/shm", "size=67108864,nr_inodes=65536,mode=1777");
    mounted("devpts", "/dev/pts", "newinstance,max=1,ptmxmode=0666,mode=0620");
    mount_proc();
    raise_loopback();
}

void show_box(int box) {
    if (syscall(SYS_move_mount, box, "", AT_FDCWD, "/box", 4 /* MOVE_MOUNT_F_EMPTY_PATH */) != 0) fail("/box");
    if (chdir("/box") != 0) fail("/box"); /* from the folder below it */
    close(box);
}
