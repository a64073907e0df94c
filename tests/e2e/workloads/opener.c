/* opener open|openat NAME...: opens these files in order, by that system call; opens nothing else (link it
 * statically: the loader would open libraries). */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
#ifdef SYS_open
        if (!strcmp(argv[1], "open")) {
            syscall(SYS_open, argv[i], O_RDONLY);
            continue;
        }
#endif
        syscall(SYS_openat, AT_FDCWD, argv[i], O_RDONLY);
    }
    return 0;
}
