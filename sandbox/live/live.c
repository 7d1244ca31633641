/* Output of C's stdio, seen soon after it was written although stdout is a pipe.
 *
 * The build makes one object of each PART, since a program may have functions of these names of its own. The
 * objects are the archive that C and C++ are linked with (live.specs), and the library that interpreters
 * written in C load before the C library (LD_PRELOAD). Each function writes as its namesake in the C library does, and then
 * flushes stdout if there is credit. A flush costs some 20 times a write into the buffer, so credit is
 * bounded: what a person can follow is flushed at once, and a flood only now and then.
 *
 * No thread and no signal: a thread would race with putchar_unlocked, and make malloc slower; a signal would
 * end sleep() early. No dlsym: there is none in a static program. Only functions that the C libraries of all
 * years have, because the machine that builds this need not be the one that links it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#undef putc
#undef putchar

extern __attribute__((visibility("hidden"))) int occd_credit;
__attribute__((visibility("hidden"))) int occd_earned(void);
__attribute__((visibility("hidden"))) void occd_flush(void);
extern char __libc_single_threaded __attribute__((weak));

/* Threads share the credit without a lock: a flush too many does no harm. */
static inline void wrote(FILE *stream) {
    if (stream == stdout && (occd_credit > 0 || occd_earned())) occd_flush();
}

/* Some programs write a line in many parts. When the credit is spent, only the end of a line looks at the clock. */
static inline void wrote_until(FILE *stream, char last) {
    if (last == '\n' || occd_credit != 0) wrote(stream);
}

/* While there is one thread, the C library takes no lock either. */
static inline int lock(FILE *stream) {
    if (&__libc_single_threaded && __libc_single_threaded) return 0;
    flockfile(stream);
    return 1;
}

static inline void unlock(FILE *stream, int locked) {
    if (locked) funlockfile(stream);
}

/* Not strlen: a program that is an exercise may have a strlen of its own, and the C library does not call this. */
void *__rawmemchr(const void *text, int character);
static inline size_t length_of(const char *text) { return (size_t)((const char *)__rawmemchr(text, 0) - text); }

static inline int write_character(int character, FILE *stream) {
    int locked = lock(stream);
    int written = putc_unlocked(character, stream);
    unlock(stream, locked);
    wrote_until(stream, character);
    return written;
}

__attribute__((visibility("hidden"))) void occd_settle(void);

#ifdef PART_credit
enum { MOST = 512, EARNED_IN_NS = 200000, USUAL_BUFFER = 4096 };

int occd_credit = -1; /* so that the first byte looks at the clock */
static long long earned_until;

/* Whether stdout is a pipe or socket with the buffer that it has by itself. A buffer that the program chose, a
 * file and a terminal stay as they are. */
static int is_ours(void) {
    return !__flbf(stdout) && __fbufsize(stdout) <= USUAL_BUFFER && lseek(fileno(stdout), 0, SEEK_CUR) < 0 &&
           errno == ESPIPE;
}

int occd_earned(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    long long now = time.tv_sec * 1000000000LL + time.tv_nsec;
    long long earned = (now - earned_until) / EARNED_IN_NS;
    if (earned <= 0) return 0;
    earned_until = now;
    int before = errno;
    occd_credit = !is_ours() ? 0 : earned < MOST ? (int)earned : MOST;
    errno = before;
    return occd_credit > 0;
}

/* A flush that fails leaves the bytes in the buffer, and the next write or the end of the program tells. */
void occd_flush(void) {
    int before = errno;
    occd_credit--;
    fflush(stdout);
    errno = before;
}

/* The end of a flood need not wait for the end of a sleep. With threads, another one may be in putchar_unlocked. */
void occd_settle(void) {
    int before = errno;
    if (stdout && &__libc_single_threaded && __libc_single_threaded && __fpending(stdout) > 0 && is_ours()) fflush(stdout);
    errno = before;
}
#endif

#ifdef PART_printf
int printf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = vfprintf(stdout, format, arguments);
    va_end(arguments);
    wrote(stdout);
    return written;
}
#endif

#ifdef PART_vprintf
int vprintf(const char *format, va_list arguments) {
    int written = vfprintf(stdout, format, arguments);
    wrote(stdout);
    return written;
}
#endif

#ifdef PART_fprintf
int fprintf(FILE *stream, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = vfprintf(stream, format, arguments);
    va_end(arguments);
    wrote(stream);
    return written;
}
#endif

/* What the three are with _FORTIFY_SOURCE. */
int __vfprintf_chk(FILE *stream, int flag, const char *format, va_list arguments);

#ifdef PART_printf_chk
int __printf_chk(int flag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = __vfprintf_chk(stdout, flag, format, arguments);
    va_end(arguments);
    wrote(stdout);
    return written;
}
#endif

#ifdef PART_vprintf_chk
int __vprintf_chk(int flag, const char *format, va_list arguments) {
    int written = __vfprintf_chk(stdout, flag, format, arguments);
    wrote(stdout);
    return written;
}
#endif

#ifdef PART_fprintf_chk
int __fprintf_chk(FILE *stream, int flag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = __vfprintf_chk(stream, flag, format, arguments);
    va_end(arguments);
    wrote(stream);
    return written;
}
#endif

#ifdef PART_puts
int puts(const char *text) {
    size_t length = length_of(text);
    int locked = lock(stdout);
    int written = fwrite_unlocked(text, 1, length, stdout) == length && putc_unlocked('\n', stdout) == '\n';
    unlock(stdout, locked);
    wrote(stdout);
    return written ? 1 : EOF;
}
#endif

#ifdef PART_fputs
int fputs(const char *text, FILE *stream) {
    size_t length = length_of(text);
    int locked = lock(stream);
    int written = fwrite_unlocked(text, 1, length, stream) == length;
    unlock(stream, locked);
    if (length > 0) wrote_until(stream, text[length - 1]);
    return written ? 1 : EOF;
}
#endif

#ifdef PART_fwrite
size_t fwrite(const void *items, size_t size, size_t count, FILE *stream) {
    int locked = lock(stream);
    size_t written = fwrite_unlocked(items, size, count, stream);
    unlock(stream, locked);
    if (written > 0) wrote_until(stream, ((const char *)items)[size * written - 1]);
    return written;
}
#endif

#ifdef PART_putchar
int putchar(int character) { return write_character(character, stdout); }
#endif

#ifdef PART_putc
int putc(int character, FILE *stream) { return write_character(character, stream); }
#endif

#ifdef PART_fputc
int fputc(int character, FILE *stream) { return write_character(character, stream); }
#endif

#ifdef PART_nanosleep
int nanosleep(const struct timespec *asked, struct timespec *left) {
    occd_settle();
    int error = clock_nanosleep(CLOCK_REALTIME, 0, asked, left);
    if (error) errno = error;
    return error ? -1 : 0;
}
#endif

#ifdef PART_usleep
int usleep(useconds_t microseconds) {
    struct timespec asked = {microseconds / 1000000, microseconds % 1000000 * 1000};
    return nanosleep(&asked, NULL);
}
#endif

#ifdef PART_sleep
unsigned sleep(unsigned seconds) {
    struct timespec left = {seconds, 0};
    return nanosleep(&left, &left) ? (unsigned)left.tv_sec : 0;
}
#endif

/* In the library only. What the interpreter starts must not load it. */
#ifdef PART_preloaded
__attribute__((constructor)) static void preloaded(void) { unsetenv("LD_PRELOAD"); }
#endif
