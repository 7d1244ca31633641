#include <stddef.h>

/* Has the Python that this process is import these packages. `found` becomes the names of all modules that came along,
 * and of those that were looked for in vain, one a line. Does not return where a program could tell more of it than
 * that they are there. */
void import_packages(const char *packages, const char **found);

/* In a copy, when its job has come: makes what must differ from copy to copy, if it has packages. */
void begin_packages(void);
