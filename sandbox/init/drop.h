/* This process has no privilege any more, and can get none: no capability, and the filter of system calls in the file
 * `filter`, an array of struct sock_filter. Returns 0, or -1 with errno. */
int drop_privileges(int filter);
