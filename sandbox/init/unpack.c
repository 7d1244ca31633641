/* Makes in the box what a stream has (packed.h), before the program starts (relay.c).
 *
 * A file that lies in the box stays, as in other copies (occd/sandbox/tree.py): the files that a run has of its own are
 * there first. A folder that is in both gets the contents of both. We follow no link.
 *
 * A file with several names is made in a folder of ours, whose name nobody could know, and gets its names from there:
 * the path of its first name may be too long for a call.
 */
#define _GNU_SOURCE
#include "folder.h"
#include "packed.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AT_ONCE = 1 << 17, NEW = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC };

/* Each folder that we are in: it is ours, it lay there, or something else lies in its place. */
enum { MADE, THERE, ABSENT };
static char *folders;
static size_t depth, depth_room;

static int box = -1, linked = -1;
static char linked_name[32];
static uint64_t linked_count;
static char buffer[AT_ONCE];

static _Noreturn void fail(const char *what) {
    int full = errno == ENOSPC;
    fprintf(stderr, "occd-init: unpack: %s: %s\n", what, strerror(errno));
    _exit(full ? NO_ROOM : 1);
}

static _Noreturn void refuse(const char *what) {
    fprintf(stderr, "occd-init: unpack: %s\n", what);
    _exit(1);
}

static void take(void *into, size_t size) {
    if (fread(into, 1, size, stdin) != size) refuse("the stream was cut off");
}

static int is_absent(void) { return depth && folders[depth - 1] == ABSENT; }

/* Something that lies at the place of a new file stays. */
static int may_be_there(const char *name) {
    if (errno != EEXIST) fail(name);
    return -1;
}

static void finish(int file, const struct entry *entry) {
    struct timespec times[2] = {
        {.tv_sec = entry->used_ns / 1000000000, .tv_nsec = entry->used_ns % 1000000000},
        {.tv_sec = entry->changed_ns / 1000000000, .tv_nsec = entry->changed_ns % 1000000000},
    };
    for (int i = 0; i < 2; i++)
        if (times[i].tv_nsec < 0) times[i].tv_sec--, times[i].tv_nsec += 1000000000;
    if (fchmod(file, entry->mode & 0777) != 0 || futimens(file, times) != 0) fail("finish");
    close(file);
}

static const char *number_of(const struct entry *entry) {
    static char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)entry->number);
    return number;
}

/* A file that has further names. */
static int make_linked(const struct entry *entry) {
    if (entry->number != linked_count + 1) refuse("a number is wrong");
    if (linked < 0) {
        uint64_t secret;
        if (getrandom(&secret, sizeof secret, 0) != sizeof secret) fail("getrandom");
        snprintf(linked_name, sizeof linked_name, ".occd-%016llx", (unsigned long long)secret);
        if (mkdirat(box, linked_name, 0700) != 0) fail(linked_name);
        if ((linked = open_folder(box, linked_name)) < 0) fail(linked_name);
    }
    int file = openat(linked, number_of(entry), NEW, 0600);
    if (file < 0) fail(linked_name);
    linked_count++;
    return file;
}

static void name_linked(const struct entry *entry, const char *name) {
    if (!entry->number || entry->number > linked_count) refuse("a number is wrong");
    if (!is_absent() && linkat(linked, number_of(entry), AT_FDCWD, name, 0) != 0) may_be_there(name);
}

static void remove_linked(void) {
    for (struct entry each = {.number = 1}; each.number <= linked_count; each.number++)
        if (unlinkat(linked, number_of(&each), 0) != 0) fail(linked_name);
    if (linked >= 0 && unlinkat(box, linked_name, AT_REMOVEDIR) != 0) fail(linked_name);
}

/* -1: the part is passed over. */
static void take_part(int file, const struct part *part) {
    for (uint64_t done = 0; done < part->size;) {
        size_t size = part->size - done < AT_ONCE ? (size_t)(part->size - done) : AT_ONCE;
        take(buffer, size);
        for (size_t written = 0; file >= 0 && written < size;) {
            ssize_t n = pwrite(file, buffer + written, size - written, (off_t)(part->at + done + written));
            if (n < 0 && errno != EINTR) fail("write");
            if (n > 0) written += (size_t)n;
        }
        done += size;
    }
}

static void make_file(const struct entry *entry, const char *name) {
    int file = -1;
    struct part part;
    if (entry->number) file = make_linked(entry);
    else if (!is_absent() && (file = open(name, NEW, 0600)) < 0) may_be_there(name);
    for (take(&part, sizeof part); part.size; take(&part, sizeof part)) take_part(file, &part);
    if (file >= 0) {
        if (ftruncate(file, (off_t)entry->size) != 0) fail(name);
        finish(file, entry);
    }
    if (entry->number) name_linked(entry, name);
}

static void make_link(const struct entry *entry, const char *name) {
    char target[PATH_MAX + 1];
    if (entry->size > PATH_MAX) refuse("a link is too long");
    take(target, entry->size);
    target[entry->size] = 0;
    if (!is_absent() && symlink(target, name) != 0) may_be_there(name);
}

static void make_node(const struct entry *entry, const char *name, mode_t kind) {
    if (is_absent()) return;
    if (mknod(name, kind | 0600, 0) != 0) may_be_there(name);
    else if (chmod(name, entry->mode & 0777) != 0) fail(name);
}

static void enter(const char *name) {
    char kind = ABSENT;
    if (!is_absent()) {
        kind = mkdir(name, 0700) == 0 ? MADE : (char)(may_be_there(name), THERE);
        int folder = open_folder(AT_FDCWD, name);
        if (folder < 0 && kind == MADE) fail(name);
        if (folder < 0) kind = ABSENT;
        else if (fchdir(folder) != 0) fail(name);
        if (folder >= 0) close(folder);
    }
    if (depth == depth_room && !(folders = realloc(folders, depth_room = 2 * depth + 64))) fail("realloc");
    folders[depth++] = kind;
}

static void leave(const struct entry *entry) {
    if (!depth) refuse("it has one folder less than it ends");
    char kind = folders[--depth];
    int folder = -1;
    if (kind == ABSENT) return;
    if (kind == MADE && (folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) fail(".");
    if (chdir("..") != 0) fail(".."); /* before its permissions are set: they may forbid it */
    if (folder >= 0) finish(folder, entry);
}

static void take_name(char *name, size_t size) {
    if (!size || size > NAME_MAX) refuse("a name has a wrong size");
    take(name, size);
    name[size] = 0;
    if (strlen(name) != size || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        refuse("a name is no name");
}

int unpack(void) {
    struct entry entry;
    char name[NAME_MAX + 1];
    setvbuf(stdin, NULL, _IOFBF, PIPE);
    int first = getc(stdin);
    if (first == EOF) return 0; /* there was nothing to unpack */
    ungetc(first, stdin);
    if ((box = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) fail("box");
    for (;;) {
        take(&entry, sizeof entry);
        if (entry.type != UP && entry.type != END) take_name(name, entry.name_size);
        switch (entry.type) {
        case FILE_ENTRY: make_file(&entry, name); break;
        case NAME: name_linked(&entry, name); break;
        case SYMLINK: make_link(&entry, name); break;
        case FIFO: make_node(&entry, name, S_IFIFO); break;
        case SOCKET: make_node(&entry, name, S_IFSOCK); break;
        case DEVICE: break;
        case FOLDER: enter(name); break;
        case UP: leave(&entry); break;
        case END:
            if (depth) refuse("a folder has no end");
            remove_linked();
            return 0;
        default: refuse("an entry is of no known type");
        }
    }
}
