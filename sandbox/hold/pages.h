#include <stddef.h>
#include <sys/types.h>

/* The bytes of memory that the interpreter has written, also those that it may not write any more, as the loader's
 * tables; and those of them that `copy_written` copies. */
extern size_t resident, copied;

/* Finds them. */
void find_written(void);

/* Tries, in a copy, which of the pages a program needs that does nothing: its number, 0 in the copy. The copy goes on
 * and ends; then `end_trial`. */
pid_t begin_trial(void);
void end_trial(pid_t copy);

/* In a copy: has pages of its own now, and not when its program is waited for. After a trial those that it found. */
void copy_written(void);
