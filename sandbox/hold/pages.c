/* The memory that an interpreter has written, page by page. Its copies share it until one of them writes to it, and
 * each such page costs a microsecond or more. */
#define _GNU_SOURCE
#include "pages.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANGES = 16384, PAGES = 4096 };

/* What it may write now, as far as the list goes. */
static struct range {
    char *start;
    size_t size;
} written[RANGES];
static size_t ranges;
size_t resident, copied;
static size_t page;
static unsigned char *cold; /* one byte for each page of the list: the trial has shared it to its end */
static size_t colds;
static pid_t tries;

static void add_written(char *start) {
    struct range *last = ranges ? &written[ranges - 1] : NULL;
    if (last && last->start + last->size == start)
        last->size += page;
    else if (ranges < RANGES)
        written[ranges++] = (struct range){start, page};
}

/* The kernel's words for one page each, of proc(5)'s /proc/PID/pagemap. */
static int read_pages(int file, const char *start, uint64_t *into, size_t count) {
    ssize_t size = (ssize_t)(count * sizeof *into);
    return pread(file, into, (size_t)size, (off_t)((uintptr_t)start / page * sizeof *into)) == size;
}

static int is_present(uint64_t told) { return told >> 63 & 1; }
static int is_of_file(uint64_t told) { return told >> 61 & 1; }
static int is_shared(uint64_t told) { return !(told >> 56 & 1); }

void find_written(void) {
    char line[512], rights[5], *start, *end;
    static uint64_t told[PAGES];
    FILE *maps = fopen("/proc/self/maps", "re");
    int pages = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    page = (size_t)sysconf(_SC_PAGESIZE);
    if (!maps || pages < 0) return;
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%p-%p %4s", (void **)&start, (void **)&end, rights) != 3 || rights[3] != 'p') continue;
        for (size_t at = 0; start < end; start += page, at++) {
            if (at % PAGES == 0) {
                size_t left = (size_t)(end - start) / page;
                if (!read_pages(pages, start, told, left < PAGES ? left : PAGES)) break;
            }
            if (is_present(told[at % PAGES]) && !is_of_file(told[at % PAGES])) {
                if (strcmp(rights, "rw-p") == 0) add_written(start);
                resident += page;
            }
        }
    }
    fclose(maps);
    close(pages);
}

/* Calls `found` with each page of the list and its number. */
static void each_page(void (*found)(char *at, size_t number, void *with), void *with) {
    size_t number = 0;
    for (size_t i = 0; i < ranges; i++)
        for (size_t at = 0; at < written[i].size; at += page) found(written[i].start + at, number++, with);
}

pid_t begin_trial(void) {
    for (size_t i = 0; i < ranges; i++) colds += written[i].size / page;
    cold = mmap(NULL, colds, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (cold == MAP_FAILED) return -1;
    pid_t copy = fork();
    if (copy == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0 || dup2(null, 0) != 0 || dup2(null, 1) != 1 || dup2(null, 2) != 2) _exit(125);
        tries = getpid();
    }
    return copy;
}

static void note_cold(char *at, size_t number, void *pages) {
    uint64_t told;
    cold[number] = read_pages(*(int *)pages, at, &told, 1) && is_present(told) && is_shared(told);
}

/* The interpreter has ended but for this. */
__attribute__((destructor)) static void tell_cold(void) {
    if (!tries || tries != getpid()) return;
    int pages = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pages >= 0) each_page(note_cold, &pages);
}

static struct range hot[RANGES];

static void add_hot(char *at, size_t number, void *with) {
    size_t *count = with;
    if (cold[number]) return;
    copied += page;
    if (*count && hot[*count - 1].start + hot[*count - 1].size == at)
        hot[*count - 1].size += page;
    else if (*count < RANGES)
        hot[(*count)++] = (struct range){at, page};
}

void end_trial(pid_t copy) {
    int status;
    size_t count = 0;
    while (waitpid(copy, &status, 0) < 0 && errno == EINTR) continue;
    each_page(add_hot, &count);
    munmap(cold, colds); /* else each copy would find there what an earlier one has written */
    memcpy(written, hot, count * sizeof *hot);
    ranges = count;
}

void copy_written(void) {
    for (size_t i = 0; i < ranges; i++) madvise(written[i].start, written[i].size, 23 /* MADV_POPULATE_WRITE */);
}
