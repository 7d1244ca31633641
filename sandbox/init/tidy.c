/* Prepares the box for being packed, when no process of the program is left (relay.c).
 *
 * Prints the name of each file and folder, with a NUL behind it. The program may have taken the right to read from its
 * own user, who is us; this user gets it back. Modes lose set-uid, set-gid and sticky bits, as in other copies. A
 * socket, which an archive cannot hold, becomes a FIFO, so that it is still told as no file. What only a path of more
 * than PATH_MAX bytes could name is left out: a nest of folders would make a list that is thousands of times as large.
 * So is what names together are too long for, and further names of a file for which an empty box of this size would
 * have no room: in the archive each name of a file is a file of its own.
 */
#define _GNU_SOURCE
#include "tidy.h"
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { NAMES_MAX = 1 << 25, LINKED_MAX = 1 << 16 };

static char path[PATH_MAX + NAME_MAX + 2] = ".";

static size_t names_size;
static uint64_t room; /* bytes of the box that are free for copies */
static ino_t linked[2 * LINKED_MAX];
static size_t linked_count;

/* Whether this is the first name of a file with several. */
static int is_first(ino_t number) {
    size_t at = number % (2 * LINKED_MAX);
    for (; linked[at]; at = (at + 1) % (2 * LINKED_MAX))
        if (linked[at] == number) return 0;
    if (linked_count == LINKED_MAX) return 0;
    linked_count++;
    linked[at] = number;
    return 1;
}

static int has_room(const struct stat *found) {
    uint64_t bytes = (uint64_t)found->st_blocks * 512;
    if (!S_ISREG(found->st_mode) || found->st_nlink == 1 || is_first(found->st_ino)) return 1;
    if (bytes > room) return 0;
    room -= bytes;
    return 1;
}

static void set_mode(const char *name, mode_t old, mode_t new) {
    if ((old & 07777) != new && chmod(name, new) != 0) perror(name);
}

static void tidy_folder(size_t length);

static void tidy_one(const char *name, size_t length) {
    struct stat found;
    size_t size = strlen(name);
    if (length + 1 + size >= PATH_MAX || lstat(name, &found) != 0) return;
    if (names_size + length + 1 + size > NAMES_MAX || !has_room(&found)) return;
    names_size += length + 1 + size;
    path[length] = '/';
    memcpy(path + length + 1, name, size + 1);
    mode_t mode = found.st_mode & 0777;
    switch (found.st_mode & S_IFMT) {
    case S_IFREG: set_mode(name, found.st_mode, mode | S_IRUSR); break;
    case S_IFDIR: set_mode(name, found.st_mode, mode | S_IRWXU); break;
    case S_IFSOCK:
        if (unlink(name) != 0 || mkfifo(name, mode) != 0) perror(name);
    }
    fwrite(path, 1, length + 1 + size + 1, stdout);
    if (S_ISDIR(found.st_mode) && chdir(name) == 0) {
        tidy_folder(length + 1 + size);
        if (chdir("..") != 0) _exit(1);
    }
    path[length] = 0;
}

/* The working folder. Nests may be deeper than there are descriptors, so the folder is closed before its folders. */
static void tidy_folder(size_t length) {
    char *names = NULL;
    size_t size = 0, room = 0;
    DIR *folder = opendir(".");
    if (!folder) return;
    for (struct dirent *e; (e = readdir(folder));) {
        size_t more = strlen(e->d_name) + 1;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (size + more > room && !(names = realloc(names, room = 2 * (size + more)))) _exit(1);
        memcpy(names + size, e->d_name, more);
        size += more;
    }
    closedir(folder);
    for (char *name = names; name < names + size; name += strlen(name) + 1) tidy_one(name, length);
    free(names);
}

int tidy(void) {
    struct statvfs box;
    if (statvfs(".", &box) != 0) return 1;
    room = (uint64_t)box.f_bfree * box.f_frsize;
    tidy_folder(1);
    return fflush(stdout) == 0 ? 0 : 1;
}
