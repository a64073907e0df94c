/* files FOLDER READS WRITES: waits for SIGUSR1, then makes a known number of calls on files of FOLDER, then writes one
 * byte to standard output and waits to be killed.
 *
 *   vfs_open    1 (one file opened)
 *   vfs_create  1 (mknod; open(2) with O_CREAT asks the file system itself)
 *   vfs_write   WRITES, and 1 for the byte
 *   vfs_read    READS
 *   fsync(2)    2
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char byte = 'x';
    int signal;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (chdir(argv[1]) || write(1, "r", 1) != 1 || sigwait(&set, &signal))
        return 1;
    mknod("file", S_IFREG | 0600, 0);
    int file = open("file", O_RDWR);
    for (int i = 0; i < atoi(argv[3]); i++)
        if (pwrite(file, &byte, 1, i) != 1)
            return 2;
    for (int i = 0; i < atoi(argv[2]); i++)
        if (pread(file, &byte, 1, i) < 0)
            return 3;
    fsync(file);
    fsync(file);
    if (write(1, "d", 1) != 1)
        return 4;
    for (;;)
        pause();
}
