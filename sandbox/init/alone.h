/* Refuses this process, and all that it becomes and starts, every call that makes or enters a namespace, or makes a
 * device. Returns 0, or -1 with errno.
 *
 * For containers with a kernel in user space: the policy for the machine's kernel does not reach it. There a program
 * would be root of a user namespace of its own, and its limit of processes would not count there. gVisor lets
 * everybody make devices, and open them: its own network tunnels and FUSE. */
int stay_alone(void);
