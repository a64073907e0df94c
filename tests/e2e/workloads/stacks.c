/*
 * Call chains that are known: each mode ends in leaf(), which writes down the stack as libgcc's own unwinder sees it.
 * It then waits to be killed, so that its addresses can be given names. Usage: stacks MODE FILE [LIBRARY]
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sdt.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define F __attribute__((noipa))

static FILE *out;
static volatile long sink;

F long leaf(long n)
{
	void *frames[256];
	int count = backtrace(frames, 256);
	for (int i = 1; i < count; i++)
		fprintf(out, "%lx ", (long)frames[i]);
	fputc('\n', out);
	fflush(out);
	sink += n;
	return n + 1;
}

F long quiet(long n)
{
	sink += n;
	DTRACE_PROBE(stacks, quiet);
	return syscall(SYS_getsid, 0) + n;
}

F long spin(long n)
{
	struct timespec now;
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_nsec >= 0);
	return n;
}

/* frames of 100 bytes, of 90 KB, and of a size that is known only when it runs */
F long third(long (*end)(long), long n) { char b[100]; memset(b, n, sizeof b); long r = end(n); return r + b[n % 100]; }
F long second(long (*end)(long), long n) { char b[90000]; memset(b, n, sizeof b); long r = third(end, n); return r + b[n]; }
F long first(long (*end)(long), long n)
{
	char *b = alloca(n * 16 + 1);
	memset(b, 1, n * 16 + 1);
	long r = second(end, n);
	return r + b[n];
}

/* arguments on the stack and a frame that has to be aligned: the frame's address is kept in memory */
F long aligned(long a, long b, long c, long d, long e, long f, long g, long n)
{
	char room[256] __attribute__((aligned(64)));
	char *more = alloca(n * 16);
	memset(room, n, sizeof room);
	memset(more, n, n * 16);
	long r = first(leaf, n);
	return r + room[n] + more[n] + a + b + c + d + e + f + g;
}

F int compare(const void *x, const void *y) { long r = first(leaf, *(const int *)x); sink += r; return 0; }
F long sorted(long n) { int v[2] = {2, 1}; qsort(v, 2, sizeof *v, compare); return v[0] + n; }

F long deep(long n) { volatile long own = n; long r = n ? deep(n - 1) : leaf(n); return r + own; }

/* the first instruction is the one that fails, so the address on the stack is that of the function itself */
F long faulty(const long *p) { return *p; }
static void on_fault(int number) { sink += first(leaf, number); for (;;) pause(); }

F long fault(long other_stack)
{
	static char stack[200000];
	stack_t where = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_handler = on_fault, .sa_flags = other_stack ? SA_ONSTACK : 0};
	if (other_stack)
		sigaltstack(&where, NULL);
	sigaction(SIGSEGV, &action, NULL);
	return faulty((const long *)8) + 1;
}

static void *thread(void *n) { long r = first(leaf, (long)n); return (void *)(r + 1); }

F long loaded(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);
	if (!library)
		return 1;
	long (*relay)(long (*)(long), long) = (long (*)(long (*)(long), long))dlsym(library, "relay");
	for (;;) {
		sink += relay(leaf, 3);
		usleep(5000);
	}
}

static long run(const char *mode, char **argv)
{
	pthread_t id;
	if (!strcmp(mode, "calls"))
		return first(leaf, 5) + 1;
	if (!strcmp(mode, "aligned"))
		return aligned(1, 2, 3, 4, 5, 6, 7, 8) + 1;
	if (!strcmp(mode, "sorted"))
		return sorted(1) + 1;
	if (!strcmp(mode, "deep"))
		return deep(60) + 1;
	if (!strcmp(mode, "signal"))
		return fault(0) + 1;
	if (!strcmp(mode, "other_stack"))
		return fault(1) + 1;
	if (!strcmp(mode, "loaded"))
		return loaded(argv[3]) + 1;
	if (!strcmp(mode, "quiet"))
		return first(quiet, 5) + 1;
	if (!strcmp(mode, "spin"))
		return first(spin, 5) + 1;
	if (!strcmp(mode, "thread"))
		return pthread_create(&id, NULL, thread, (void *)4);
	return 2;
}

int main(int argc, char **argv)
{
	out = fopen(argv[2], "w");
	sink += run(argv[1], argv);
	for (;;)
		pause();
}
