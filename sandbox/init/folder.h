/* Opens the folder `name` in the folder `at` for reading, and follows no link. Returns -1 and sets errno otherwise:
 * ENOTDIR for what is no folder. O_DIRECTORY with O_NOFOLLOW would do it, but gVisor (20221219) follows links then. */
int open_folder(int at, const char *name);
