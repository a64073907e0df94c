/* Starts `count` processes one after the other; each calls probed() through called() and ends at once.
 *
 * shortlived COUNT direct        a fork and an exec of this program for each
 * shortlived COUNT forked        a fork for each
 * shortlived COUNT chain         each executes this program twice
 * shortlived COUNT libc          each calls probed() through lfind() of the C library
 * shortlived COUNT library PATH  each loads PATH and calls its function `plugin`, which calls probed()
 */
#include <dlfcn.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) int probed(int x) {
    __asm__ volatile("" ::: "memory");
    return x + 1;
}

/* At the entry of probed() its caller is not yet to be found by frame pointers; this is what is missing then. */
__attribute__((noinline)) int skipped(int x) { return probed(x) + 1; }

__attribute__((noinline)) int called(int x) { return skipped(x) + 1; }

static int compare(const void *a, const void *b) { return skipped(a == b) == 0; }

static int once(char **arguments) {
    if (!strcmp(arguments[2], "library")) {
        void *library = dlopen(arguments[3], RTLD_NOW);
        int (*plugin)(int (*)(int), int) = (int (*)(int (*)(int), int))dlsym(library, "plugin");
        return plugin(skipped, 1) == 0;
    }
    if (!strcmp(arguments[2], "libc"))
        return lfind(arguments, arguments, &(size_t){1}, sizeof(char *), compare) == NULL;
    return called(1) == 0;
}

static void execute(char **arguments, char *mode) {
    execl("/proc/self/exe", arguments[0], "0", mode, arguments[3], NULL);
    _exit(1);
}

int main(int count, char **arguments) {
    int processes = atoi(arguments[1]);
    if (!strcmp(arguments[2], "chain") && !processes)
        execute(arguments, "direct");
    if (!processes)
        return once(arguments);
    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (!child) {
            if (!strcmp(arguments[2], "forked"))
                _exit(once(arguments));
            execute(arguments, arguments[2]);
        }
        waitpid(child, NULL, 0);
    }
    return 0;
}
