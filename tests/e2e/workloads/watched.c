/* watched N [thread]: writes a variable N times, reads it 2 N times, calls a function 3 N times; in another thread if
 * asked for. Not relocatable, so that nm knows the addresses. */
#include <pthread.h>
#include <stdlib.h>

/* not zero: the kernel itself clears .bss when it loads the program, byte by byte */
volatile long counted = -1;
volatile short halves[4] = {-1};

__attribute__((noinline)) void watched_function(void)
{
    __asm__ volatile("" : : : "memory");
}

static void *work(void *argument)
{
    long n = atoi(argument);
    for (long i = 0; i < n; i++) {
        counted = i;
        halves[1] = i;
        (void)counted;
        (void)counted;
        for (int j = 0; j < 3; j++)
            watched_function();
    }
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc < 3) {
        work(argv[1]);
        return 0;
    }
    if (pthread_create(&thread, 0, work, argv[1]))
        return 1;
    return pthread_join(thread, 0);
}
