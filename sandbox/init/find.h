/* Prints every file that matches a pattern: the pattern's number, the path, and a mark; a NUL after each. Paths
 * and links mean what they mean to programs. The mark tells where the links of the path lead, and when that file
 * was changed (ns) and how large it is (bytes). Returns the exit status. */
int find(int count, char **patterns);
