/* Makes system calls, each in a process of its own. Reads a call a line from stdin, or from the file that is
 * named: number and six arguments. Prints a line for each: the error (0: none), or -SIGNAL when the call ended
 * its process. */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    volatile int *error = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long number;
    unsigned long a[6];
    if (argc > 1 && !freopen(argv[1], "r", stdin))
        return 1;
    while (scanf("%ld %lu %lu %lu %lu %lu %lu", &number, a, a + 1, a + 2, a + 3, a + 4, a + 5) == 7) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            long result = -1;
            errno = 0;
            if (number < 0) /* getpid of 32 bits */
                __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
            else
                result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
            *error = result == -1 ? errno : 0;
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 1;
        printf("%d\n", WIFSIGNALED(status) ? -WTERMSIG(status) : *error);
    }
    return 0;
}
