// leaf() is called while an exception is on its way (by a destructor), and where it is caught.
#include <execinfo.h>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <unistd.h>

#define F __attribute__((noipa))

static FILE *out;

F long leaf(long n)
{
    void *frames[256];
    int count = backtrace(frames, 256);
    for (int i = 1; i < count; i++)
        std::fprintf(out, "%lx ", (long)frames[i]);
    std::fputc('\n', out);
    std::fflush(out);
    return n + 1;
}

struct Witness {
    std::string name;
    F ~Witness() { leaf(name.size()); }
};

F long thrower(long n) { if (n > 1) throw std::runtime_error("thrown"); return n; }
F long witness(long n) { Witness w{std::string(n, 'x')}; return thrower(n) + 1; }
F long catcher(long n)
{
    try {
        return witness(n) + 1;
    } catch (const std::exception &e) {
        return leaf(std::string(e.what()).size()) + 1;
    }
}

int main(int argc, char **argv)
{
    out = std::fopen(argv[1], "w");
    volatile long sink = catcher(argc * 40);
    for (;;)
        pause();
}
