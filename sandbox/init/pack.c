/* Packs the box (packed.h), when no process of the program is left (relay.c).
 *
 * The program may have taken the right to read from its own user, who is us. This user gets it back, and the stream has
 * what the program left. Nothing is passed over: what cannot be packed is an error. Nests may be deeper than there are
 * descriptors, than a path is long and than our stack, so we go from folder to folder and keep what is still to do.
 */
#define _GNU_SOURCE
#include "packed.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AT_ONCE = 1 << 20, PAGE = 4096, LONG_LINK = 128 }; /* at once: in gVisor a call is dear, and holes are read */

/* A folder that we are in, or in a folder of. */
struct folder {
    char *names;
    size_t size, at;
    struct entry up;
};

static struct folder *folders;
static size_t depth, depth_room;

/* The files with several names, by inode: an open hash table whose size is a power of two. */
struct known {
    ino_t inode; /* 0: none */
    uint64_t number;
};
static struct known *known;
static size_t known_room;
static uint64_t known_count;

static uint64_t entries, bytes;
static uint64_t zeros; /* bytes that may be holes */
static const uint64_t ZEROS_MAX = (uint64_t)1 << 30; /* seconds of work that the program does not pay for */
static int tells_holes;
static char buffer[AT_ONCE];

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "occd-init: pack: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void put(const void *from, size_t size) {
    if (fwrite(from, 1, size, stdout) != size) fail("stdout");
}

static void put_entry(const struct entry *entry, const char *name) {
    put(entry, sizeof *entry);
    put(name, entry->name_size);
    entries++;
}

/* Files and long links lie in whole pages. */
static void count(uint64_t size) { bytes += (size + PAGE - 1) / PAGE * PAGE; }

static struct known *place_of(ino_t inode) {
    size_t at = inode & (known_room - 1);
    while (known[at].inode && known[at].inode != inode) at = (at + 1) & (known_room - 1);
    return &known[at];
}

static void make_room(void) {
    struct known *old = known;
    size_t old_room = known_room;
    known_room = old_room ? 2 * old_room : 1024;
    if (!(known = calloc(known_room, sizeof *known))) fail("calloc");
    for (size_t i = 0; i < old_room; i++)
        if (old[i].inode) *place_of(old[i].inode) = old[i];
    free(old);
}

/* Whether this is the first name of the file. */
static int is_new(ino_t inode, uint64_t *number) {
    if (2 * known_count >= known_room) make_room();
    struct known *place = place_of(inode);
    int first = !place->inode;
    if (first) *place = (struct known){inode, ++known_count};
    *number = place->number;
    return first;
}

static void allow(const char *name, mode_t mode, mode_t needed) {
    if ((mode & needed) != needed && chmod(name, (mode & 0777) | needed) != 0) fail(name);
}

/* The next bytes of a file that are no hole, from *at on. Returns where they end. */
static off_t find_data(int file, off_t *at, off_t size) {
    off_t data = lseek(file, *at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return *at = size;
    off_t hole = data < 0 ? -1 : lseek(file, *at = data, SEEK_HOLE);
    tells_holes = hole >= 0; /* gVisor does not */
    return tells_holes ? hole : size;
}

static void put_part(const char *from, off_t at, size_t size) {
    struct part part = {.at = (uint64_t)at, .size = size};
    put(&part, sizeof part);
    put(from, size);
    count(size);
}

/* Zeros may be a hole. */
static void put_pages(const char *from, off_t at, size_t size) {
    static const char hole[PAGE];
    for (size_t page = 0; page < size; page += PAGE) {
        size_t n = size - page < PAGE ? size - page : PAGE;
        if (memcmp(from + page, hole, n) != 0) put_part(from + page, at + (off_t)page, n);
        else zeros += n;
    }
    if (zeros > ZEROS_MAX) {
        fprintf(stderr, "occd-init: pack: the files of the box are too large\n");
        _exit(TOO_LARGE);
    }
}

static void put_parts(const char *name, off_t size) {
    int file = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) fail(name);
    for (off_t at = 0; at < size;) {
        for (off_t end = find_data(file, &at, size); at < end;) {
            size_t most = end - at < AT_ONCE ? (size_t)(end - at) : AT_ONCE;
            ssize_t n = pread(file, buffer, most, at);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail(name);
            if (tells_holes) put_part(buffer, at, (size_t)n);
            else put_pages(buffer, at, (size_t)n);
            at += n;
        }
    }
    close(file);
}

static void pack_file(struct entry *entry, const char *name, const struct stat *found) {
    entry->type = FILE_ENTRY;
    if (found->st_nlink > 1 && !is_new(found->st_ino, &entry->number)) {
        entry->type = NAME;
        put_entry(entry, name);
        return;
    }
    entry->size = (uint64_t)found->st_size;
    put_entry(entry, name);
    allow(name, found->st_mode, S_IRUSR);
    if (found->st_blocks) put_parts(name, found->st_size); /* else it is one hole */
    put(&(struct part){0}, sizeof(struct part));
}

static void pack_link(struct entry *entry, const char *name) {
    ssize_t size = readlink(name, buffer, PATH_MAX);
    if (size < 0) fail(name);
    entry->type = SYMLINK;
    entry->size = (uint64_t)size;
    put_entry(entry, name);
    put(buffer, entry->size);
    if (size >= LONG_LINK) count(entry->size);
}

/* The working folder is to be packed. `up` ends it. */
static void enter(struct entry up) {
    struct folder new = {.up = up};
    size_t room = 0;
    DIR *folder = opendir(".");
    if (!folder) fail("opendir");
    for (struct dirent *e; (e = readdir(folder));) {
        size_t more = strlen(e->d_name) + 1;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (new.size + more > room && !(new.names = realloc(new.names, room = 2 * (new.size + more)))) fail("realloc");
        memcpy(new.names + new.size, e->d_name, more);
        new.size += more;
    }
    closedir(folder);
    if (depth == depth_room) depth_room = 2 * depth + 64;
    if (!(folders = realloc(folders, depth_room * sizeof *folders))) fail("realloc");
    folders[depth++] = new;
}

static void pack_folder(struct entry *entry, const char *name, mode_t mode) {
    allow(name, mode, S_IRWXU);
    entry->type = FOLDER;
    put_entry(entry, name);
    if (chdir(name) != 0) fail(name);
    entry->type = UP;
    entry->name_size = 0;
    enter(*entry);
}

static int64_t in_ns(struct timespec time) { return time.tv_sec * 1000000000 + time.tv_nsec; }

static void pack_one(const char *name) {
    struct stat found;
    if (lstat(name, &found) != 0) fail(name);
    struct entry entry = {
        .name_size = (uint16_t)strlen(name),
        .mode = found.st_mode & 0777,
        .used_ns = in_ns(found.st_atim),
        .changed_ns = in_ns(found.st_mtim),
    };
    switch (found.st_mode & S_IFMT) {
    case S_IFREG: pack_file(&entry, name, &found); return;
    case S_IFDIR: pack_folder(&entry, name, found.st_mode); return;
    case S_IFLNK: pack_link(&entry, name); return;
    case S_IFIFO: entry.type = FIFO; break;
    case S_IFSOCK: entry.type = SOCKET; break;
    default: entry.type = DEVICE;
    }
    put_entry(&entry, name);
}

int pack(void) {
    setvbuf(stdout, NULL, _IOFBF, PIPE);
    enter((struct entry){0});
    while (depth) {
        struct folder *folder = &folders[depth - 1];
        if (folder->at < folder->size) {
            const char *name = folder->names + folder->at;
            folder->at += strlen(name) + 1;
            pack_one(name);
            continue;
        }
        free(folder->names);
        if (--depth == 0) break;
        if (chdir("..") != 0) fail("..");
        put(&folder->up, sizeof folder->up);
    }
    put(&(struct entry){.type = END, .number = entries, .size = bytes}, sizeof(struct entry));
    if (fflush(stdout) != 0) fail("stdout");
    return 0;
}
