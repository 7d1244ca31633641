/* The relay: what stands between occd and init where no open file can be passed, as in a container.
 *
 * A part of init's process, so that no program can kill it or open its files, and of its only thread: a thread
 * beside it would have a number of its own, and the policy refuses calls that slow down or limit number 1 alone. So
 * the relay works while init waits (relay_wait). occd talks to it over the container's stdin and stdout, in frames:
 * struct frame, then `size` bytes. The relay talks to init over the socket over which occd talks to init elsewhere
 * (init.c), and holds the ends of the program's pipes or terminal that occd holds there. It sends init one message at
 * a time, and then lets init read: nobody else would.
 *
 * occd -> relay
 *   'F'  a part of a packed box (packed.h) that is unpacked into the box; an empty part ends it. Before 'G' alone.
 *   'G'  struct go with its strings. The job's limits of memory and processes are those of the container.
 *   'H'  a uint64, then as 'G', behind the parts of boxes. Passed over unless all boxes were unpacked, and so many
 *        bytes of memory are enough for what they take: 'U' has told.
 *   'I'  bytes for stdin or the keyboard. At most WINDOW of them are on their way: 'i' tells how many were taken.
 *   'E'  the end of stdin.
 *   'B'  a part of the file of the next order.
 *   'O'  struct order, with its path.
 *   'Z'  struct size: the terminal's window.
 *   'C'  pack the box, when the program has ended.
 *   'K'  occd is there. It says so all the time.
 * relay -> occd
 *   'R'  struct hello, as init sent it.          'U'  struct unpacked.
 *   'o', 'e'  output of stdout (or the terminal) and stderr.
 *   'i'  a uint32: so many bytes of stdin were taken.
 *   'M'  the program has a terminal.            'b'  a part of the file that the next 'W' is about.
 *   'W'  struct answer.                         'X'  struct end, then struct figures. All output has come before.
 *   'D'  a part of the packed box.              'd'  an int32: how packing ended.
 *   't'  a part of the trace, behind 'X'; an empty part ends it. Only when there was a trace.
 *
 * The end of stdin ends the container: occd has died, or needs it no more. So does a long silence: when the engine
 * dies, its helper holds stdin open.
 */
#define _GNU_SOURCE
#include "packed.h"
#include "relay.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct frame {
    uint8_t type;
    uint8_t pad[3];
    uint32_t size;
};

struct size {
    uint16_t rows, cols;
};

struct unpacked {
    int32_t status; /* as from waitpid */
    uint32_t pad;
    uint64_t used; /* bytes of memory; UINT64_MAX: not known */
};

struct figures { /* of the container's control group */
    uint64_t peak, at_start, oom_kills; /* bytes: at most, and before the program started; UINT64_MAX: not known */
};

enum { WINDOW = 1 << 16, CHUNK = 1 << 15, FRAME_MAX = 4 << 20, QUEUE_MAX = 1 << 18, PARTS_MAX = 1 << 25, SILENCE_S = 10 };
enum { FILES_MAX = 5 }; /* stdin, stdout, stderr, what tells the CPU time, the trace */

struct buffer {
    char *bytes;
    size_t size, room;
};

static int from_occd, to_occd, init_side;
static struct buffer came, queue, typed; /* from occd; to occd; for the program */
static int streams[2] = {-1, -1};        /* our ends of stdout and stderr; of the terminal in the first */
static int stdin_side = -1, terminal = -1;
static int stdin_ends;
static int blob = -1;      /* of the next order; then of the order that is being worked on */
static int reads_blob;     /* the order fills it */
static int packing = -1;   /* the packed box */
static pid_t packer;
static int trace = -1; /* the file that the tracer writes */
static off_t trace_told; /* so many bytes of it were told */
static int unpacking = -1;
static pid_t unpacker;
static int unfilled; /* a box was not unpacked */
static uint64_t used = UINT64_MAX; /* as in struct unpacked */
static time_t heard_at; /* seconds: when occd was heard the last time */
static int passed_on; /* a message that init may not have read */
static int over; /* init has told the end, and reads no more */
static int sizer = -1; /* our side of the socket to the process that sets the window's size */
static int has_sizer;  /* it may have ended */
static struct size window;
static int window_is_new; /* it waits until the size before is set */
static int sizing; /* keys wait meanwhile */
static struct figures figures;

static void give_up(const char *what) {
    fprintf(stderr, "occd-init: relay: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static void add(struct buffer *to, const void *bytes, size_t size) {
    if (to->size + size > to->room) {
        to->room = 2 * (to->size + size);
        if (!(to->bytes = realloc(to->bytes, to->room))) give_up("realloc");
    }
    memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void drop(struct buffer *from, size_t size) {
    from->size -= size;
    memmove(from->bytes, from->bytes + size, from->size);
}

static void tell(char type, const void *bytes, size_t size) {
    struct frame frame = {.type = (uint8_t)type, .size = (uint32_t)size};
    add(&queue, &frame, sizeof frame);
    add(&queue, bytes, size);
}

static void close_side(int *side) {
    if (*side >= 0) close(*side);
    *side = -1;
}

/* The control group's figures. A container has its own group at the root of what it sees. */
static const char *const PEAK[] = {"/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes", NULL};
static const char *const NOW[] = {"/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes", NULL};
static const char *const KILLS[] = {"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", NULL};
static const char *const CPU[] = {"/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpuacct/cpuacct.usage", NULL};

static int open_first(const char *const *paths) {
    for (; *paths; paths++) {
        int file = open(*paths, O_RDONLY | O_CLOEXEC);
        if (file >= 0) return file;
    }
    return -1;
}

static uint64_t figure(const char *const *paths, const char *name) {
    char text[4096];
    unsigned long long value;
    int file = open_first(paths);
    if (file < 0) return UINT64_MAX;
    ssize_t n = read(file, text, sizeof text - 1);
    close(file);
    if (n <= 0) return UINT64_MAX;
    text[n] = 0;
    const char *at = name ? strstr(text, name) : text;
    return at && sscanf(at + (name ? strlen(name) : 0), "%llu", &value) == 1 ? value : UINT64_MAX;
}

static int32_t end_of(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) give_up("waitpid");
    return status;
}

/* A process of ours in the box, before the program runs or after. */
static pid_t run_tool(int (*tool)(void), int file, int as) {
    pid_t pid = fork();
    if (pid < 0) give_up("fork");
    if (pid) return pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (dup2(file, as) != as || close_range(3, INT_MAX, 0) != 0) _exit(125);
    be_them();
    chmod("/box", 0755); /* the program may have closed it to us, its own user */
    if (chdir("/box") != 0) _exit(125);
    _exit(tool());
}

static void start_unpacker(void) {
    int ends[2];
    if (unpacking >= 0) return;
    if (pipe2(ends, O_CLOEXEC) != 0) give_up("pipe2");
    unpacker = run_tool(unpack, ends[0], 0);
    close(ends[0]);
    unpacking = ends[1];
}

static int32_t end_unpacker(void) {
    close_side(&unpacking);
    return end_of(unpacker);
}

static void take_files(const char *bytes, size_t size) {
    start_unpacker();
    if (size == 0) {
        struct unpacked unpacked = {.status = end_unpacker(), .used = used = figure(NOW, NULL)};
        if (unpacked.status != 0) unfilled = 1;
        tell('U', &unpacked, sizeof unpacked);
    }
    while (size) {
        ssize_t n = write(unpacking, bytes, size);
        if (n < 0 && errno != EINTR) return; /* its end tells */
        if (n > 0) bytes += n, size -= (size_t)n;
    }
}

static void start_packer(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) give_up("pipe2");
    packer = run_tool(pack, ends[1], 1);
    close(ends[1]);
    packing = ends[0];
}

/* Sends a message to init, with files. */
static void pass_on(const void *bytes, size_t size, const int *files, size_t count) {
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(FILES_MAX * sizeof(int))];
    } extra = {{.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    if (count) memcpy(CMSG_DATA(&extra.aligned), files, count * sizeof(int));
    struct iovec from = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &from, .msg_iovlen = 1, .msg_control = count ? &extra : NULL,
                             .msg_controllen = count ? CMSG_SPACE(count * sizeof(int)) : 0};
    if (sendmsg(init_side, &message, 0) != (ssize_t)size) give_up("sendmsg");
    passed_on = 1;
}

static void make_pipe(int *ours, int *theirs, int they_write) {
    int ends[2];
    begin_theirs(); /* it may open /dev/stdout */
    if (pipe2(ends, O_CLOEXEC) != 0) give_up("pipe2");
    end_theirs();
    *ours = ends[!they_write], *theirs = ends[they_write];
    fcntl(*ours, F_SETFL, O_NONBLOCK);
}

static void begin(const char *bytes, size_t size) {
    int files[FILES_MAX], count = 0;
    struct go *go = size < sizeof *go ? NULL : malloc(size); /* what came lies at any address */
    if (!go) give_up("go");
    memcpy(go, bytes, size);
    if (unpacking >= 0) end_unpacker(); /* there was nothing to unpack */
    if (!go->rows) {
        make_pipe(&stdin_side, &files[0], 0);
        make_pipe(&streams[0], &files[1], 1);
        make_pipe(&streams[1], &files[2], 1);
        count = 3;
    }
    int cpu = open_first(CPU);
    if ((go->told = cpu >= 0)) files[count++] = cpu;
    go->alone = !go->told; /* a container that shows no control group is gVisor's */
    if (go->traced) {
        if ((trace = memfd_create("trace", MFD_CLOEXEC)) < 0) give_up("memfd_create");
        files[count++] = trace;
    }
    figures.at_start = figure(NOW, NULL);
    pass_on(go, size, files, (size_t)count);
    free(go);
    while (count)
        if (files[--count] != trace) close(files[count]);
}

static void begin_filled(const char *bytes, size_t size) {
    uint64_t most;
    if (size < sizeof most) give_up("most");
    memcpy(&most, bytes, sizeof most);
    if (!unfilled && (used == UINT64_MAX || used <= most)) begin(bytes + sizeof most, size - sizeof most);
}

static void order(const char *bytes, size_t size) {
    char type = size ? bytes[0] : 0;
    int works = type == 'P' || type == 'L' || type == 'G';
    if (works && blob < 0 && (blob = memfd_create("occd-files", MFD_CLOEXEC)) < 0) give_up("memfd_create");
    if (works && lseek(blob, 0, SEEK_SET) != 0) give_up("lseek");
    reads_blob = type == 'L' || type == 'G';
    pass_on(bytes, size, &blob, works);
}

static void keep_part(const char *bytes, size_t size) {
    if (blob < 0 && (blob = memfd_create("occd-files", MFD_CLOEXEC)) < 0) give_up("memfd_create");
    if (write(blob, bytes, size) != (ssize_t)size) give_up("write");
}

static void set_size(int file, const struct size *size) {
    struct winsize wanted = {.ws_row = size->rows, .ws_col = size->cols};
    ioctl(file, TIOCSWINSZ, &wanted);
}

void relay_window(int theirs) {
    int sides[2];
    char byte = 0;
    struct size size;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sides) != 0) give_up("socketpair");
    pid_t pid = fork();
    if (pid < 0) give_up("fork");
    if (pid == 0) {
        if (dup2(theirs, 0) != 0 || dup2(sides[1], 1) != 1 || close_range(2, INT_MAX, 0) != 0) _exit(125);
        be_them();
        while (send(1, &byte, 1, MSG_NOSIGNAL) == 1 && recv(1, &size, sizeof size, 0) == sizeof size) set_size(0, &size);
        _exit(0);
    }
    close(sides[1]);
    sizer = sides[0];
    has_sizer = 1;
    if (recv(sizer, &byte, 1, 0) != 1) give_up("the window");
}

static void resize(void) {
    if (!window_is_new || sizing || terminal < 0) return;
    window_is_new = 0;
    if (!has_sizer) set_size(terminal, &window);
    else if (sizer >= 0) sizing = send(sizer, &window, sizeof window, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof window;
}

/* The program may have killed the process, or talk in its place. */
static void hear_sizer(void) {
    char byte;
    if (recv(sizer, &byte, 1, MSG_DONTWAIT) != 1) close_side(&sizer);
    sizing = 0;
    resize();
}

static void obey(char type, char *bytes, size_t size) {
    switch (type) {
    case 'F': take_files(bytes, size); break;
    case 'G': begin(bytes, size); break;
    case 'H': begin_filled(bytes, size); break;
    case 'I': add(&typed, bytes, size); break;
    case 'E': stdin_ends = 1; break;
    case 'B':
        if (!over) keep_part(bytes, size);
        break;
    case 'O':
        if (!over) order(bytes, size); /* else a few hundred would fill the socket, and make us wait */
        break;
    case 'Z':
        if (size != sizeof window) break;
        memcpy(&window, bytes, size);
        window_is_new = 1;
        resize();
        break;
    case 'C': start_packer(); break;
    }
}

/* Whether there was something to read. */
static int take(int file, struct buffer *into, size_t most) {
    char bytes[CHUNK];
    ssize_t n = read(file, bytes, most < sizeof bytes ? most : sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (n <= 0) return 0;
    add(into, bytes, (size_t)n);
    return 1;
}

/* Obeys the frames that have come, until init has something to read. */
static void obey_all(void) {
    size_t at = 0;
    struct frame frame;
    while (!passed_on && came.size - at >= sizeof frame) {
        memcpy(&frame, came.bytes + at, sizeof frame);
        if (frame.size > FRAME_MAX) give_up("a frame is too long");
        if (came.size - at - sizeof frame < frame.size) break;
        obey((char)frame.type, came.bytes + at + sizeof frame, frame.size);
        at += sizeof frame + frame.size;
    }
    drop(&came, at);
}

static void hear_occd(void) {
    if (!take(from_occd, &came, CHUNK)) _exit(0);
    obey_all();
}

/* Output that the program has written. Returns whether there may be more. */
static int take_output(int which) {
    char bytes[CHUNK];
    ssize_t n = read(streams[which], bytes, sizeof bytes);
    if (n > 0) {
        tell(which ? 'e' : 'o', bytes, (size_t)n);
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (streams[which] != terminal) close_side(&streams[which]);
    else streams[which] = -1;
    return 0;
}

static void tell_blob(void) {
    char bytes[CHUNK];
    if (reads_blob)
        for (ssize_t n, at = 0; at < PARTS_MAX && (n = pread(blob, bytes, sizeof bytes, at)) > 0; at += n)
            tell('b', bytes, (size_t)n);
    close_side(&blob);
}

static void hear_init(void) {
    char bytes[256];
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(sizeof(int))];
    } extra;
    struct iovec into = {.iov_base = bytes, .iov_len = sizeof bytes - sizeof figures};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    ssize_t size = recvmsg(init_side, &message, MSG_CMSG_CLOEXEC);
    if (size <= 0) give_up("recvmsg");
    struct cmsghdr *file = CMSG_FIRSTHDR(&message);
    switch (bytes[0]) {
    case 'M':
        if (!file) give_up("a terminal is missing");
        memcpy(&terminal, CMSG_DATA(file), sizeof terminal);
        fcntl(terminal, F_SETFL, O_NONBLOCK);
        if ((stdin_side = fcntl(terminal, F_DUPFD_CLOEXEC, 3)) < 0) give_up("dup");
        streams[0] = terminal;
        break;
    case 'W': tell_blob(); break;
    case 'X':
    case 'F':
        for (int which = 0; which < 2; which++)
            while (streams[which] >= 0 && take_output(which)) continue;
        figures.peak = figure(PEAK, NULL);
        figures.oom_kills = figure(KILLS, "oom_kill ");
        memcpy(bytes + size, &figures, sizeof figures);
        size += (ssize_t)sizeof figures;
        close_side(&stdin_side);
        over = 1;
    }
    tell(bytes[0] == 'F' ? 'f' : bytes[0], bytes, (size_t)size);
}

/* In gVisor a pipe with room is ready, and yet takes a piece of up to a page as a whole or not at all: we would try
 * without end, at nobody's cost, while the program does not read. So we offer less until it is taken. */
static ssize_t offer(const char *bytes, size_t size) {
    ssize_t n = -1;
    for (; size && (n = write(stdin_side, bytes, size)) < 0 && errno == EAGAIN; size /= 2) continue;
    return n;
}

static void type(void) {
    ssize_t n = typed.size ? offer(typed.bytes, typed.size) : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) { /* the program need not read its stdin */
        close_side(&stdin_side);
        n = (ssize_t)typed.size;
    }
    if (n > 0) {
        uint32_t taken = (uint32_t)n;
        drop(&typed, taken);
        tell('i', &taken, sizeof taken);
    }
    if (stdin_ends && !typed.size && terminal < 0) close_side(&stdin_side);
}

static void take_packed(void) {
    char bytes[CHUNK];
    ssize_t n = read(packing, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) return;
    if (n > 0) {
        tell('D', bytes, (size_t)n);
        return;
    }
    close_side(&packing);
    int32_t status = end_of(packer);
    tell('d', &status, sizeof status);
}

/* The program may have got at the file, and have made it longer. */
static void take_trace(void) {
    char bytes[CHUNK];
    off_t left = TRACE_BYTES - trace_told;
    ssize_t n = pread(trace, bytes, left < CHUNK ? (size_t)left : CHUNK, trace_told);
    if (n < 0 && errno == EINTR) return;
    if (n <= 0) close_side(&trace);
    else trace_told += n;
    tell('t', bytes, n > 0 ? (size_t)n : 0);
}

static void send_queue(void) {
    ssize_t n = write(to_occd, queue.bytes, queue.size);
    if (n > 0) drop(&queue, (size_t)n);
    if (n < 0 && errno != EAGAIN && errno != EINTR) _exit(0);
}

static time_t now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

int relay_wait(struct pollfd *theirs, size_t count, const struct timespec *timeout) {
    enum { OURS = 9, THEIRS_MAX = 2 };
    passed_on = 0;
    obey_all();
    int room = queue.size < QUEUE_MAX;
    struct pollfd fds[OURS + THEIRS_MAX] = {
        {.fd = from_occd, .events = POLLIN},
        {.fd = queue.size ? to_occd : -1, .events = POLLOUT},
        {.fd = init_side, .events = POLLIN},
        {.fd = room ? streams[0] : -1, .events = POLLIN},
        {.fd = room ? streams[1] : -1, .events = POLLIN},
        {.fd = stdin_side >= 0 && !sizing && (typed.size || (stdin_ends && terminal < 0)) ? stdin_side : -1, .events = POLLOUT},
        {.fd = room ? packing : -1, .events = POLLIN},
        {.fd = room && over ? trace : -1, .events = POLLIN},
        {.fd = sizer, .events = POLLIN},
    };
    memcpy(fds + OURS, theirs, count * sizeof *theirs);
    time_t silent = now_s() - heard_at;
    struct timespec left = {.tv_sec = passed_on || silent > SILENCE_S ? 0 : SILENCE_S + 1 - silent};
    int ready = ppoll(fds, OURS + count, timeout && timeout->tv_sec < left.tv_sec ? timeout : &left, NULL);
    if (ready < 0) {
        if (errno != EINTR) give_up("poll");
        return 0;
    }
    if (fds[1].revents) send_queue();
    if (fds[2].revents) hear_init();
    if (fds[3].revents && streams[0] >= 0) take_output(0);
    if (fds[4].revents && streams[1] >= 0) take_output(1);
    if (fds[5].revents && stdin_side >= 0 && !sizing) type();
    if (fds[6].revents) take_packed();
    if (fds[7].revents) take_trace();
    if (fds[8].revents) hear_sizer();
    if (fds[0].revents) {
        heard_at = now_s();
        if (!passed_on) hear_occd();
    } else if (now_s() - heard_at > SILENCE_S) _exit(0);
    for (size_t i = 0; i < count; i++) theirs[i].revents = fds[OURS + i].revents;
    return ready;
}

int start_relay(void) {
    int sides[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    from_occd = fcntl(0, F_DUPFD_CLOEXEC, 3);
    to_occd = fcntl(1, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || from_occd < 0 || to_occd < 0 || dup2(null, 0) != 0 || dup2(null, 1) != 1) give_up("stdin and stdout");
    close(null);
    fcntl(to_occd, F_SETFL, O_NONBLOCK);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sides) != 0) give_up("socketpair");
    init_side = sides[0];
    heard_at = now_s();
    start_unpacker(); /* so that it waits for the job: its start takes a tenth of a hello in gVisor */
    return sides[1];
}
