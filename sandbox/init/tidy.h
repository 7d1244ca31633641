/* Prints what is in the working folder, and makes it readable. Returns an exit code. */
int tidy(void);
