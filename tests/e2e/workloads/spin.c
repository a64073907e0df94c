/* spin user|kernel: main calls a, a calls b, b calls c, and c computes, or reads /dev/zero, until it is killed.
 * One byte on standard output says that c has been reached. Build with frame pointers and without inlining.
 *
 * c enters the kernel itself: libc's read() has no frame of its own, a stack walk would lose its caller. */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char buffer[1 << 20];
volatile unsigned long turns;
volatile int stop; /* nobody sets it: the compiler shall not know that c never returns */

static inline __attribute__((always_inline)) long enter(long number, long a, void *b, long c)
{
#ifdef __x86_64__
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
#else
    return syscall(number, a, b, c);
#endif
}

__attribute__((noinline)) int c(int kernel)
{
    int zero = open("/dev/zero", O_RDONLY);
    write(1, "c", 1);
    while (!stop)
        if (kernel)
            turns += enter(SYS_read, zero, buffer, sizeof buffer);
        else
            turns++;
    return kernel;
}

__attribute__((noinline)) int b(int kernel)
{
    return c(kernel) + 1;
}

__attribute__((noinline)) int a(int kernel)
{
    return b(kernel) + 1;
}

int main(int argc, char **argv)
{
    return a(!strcmp(argv[1], "kernel"));
}
