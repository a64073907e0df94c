/* probes N: two static probes, N times each with arguments of every size and sign.
 *
 * The volatile variables make the compiler describe memory operands as well as constants and registers; the text is
 * written to first, since BPF programs cannot wait for a page to be read from the file. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/sdt.h>

static char text[] = ".ound";

int main(int argc, char **argv)
{
    text[0] = 'r';
    for (int i = 0; i < atoi(argv[1]); i++) {
        volatile int8_t s8 = -1 - i;
        volatile uint8_t u8 = 200 + i;
        volatile int16_t s16 = -300 - i;
        volatile uint16_t u16 = 65000 + i;
        volatile int32_t s32 = -70000 - i;
        volatile uint32_t u32 = 4000000000u + i;
        volatile int64_t s64 = -5000000000 - i;
        volatile uint64_t u64 = 0xfedcba9800000000 + i;
        DTRACE_PROBE8(book, sizes, s8, u8, s16, u16, s32, u32, s64, u64);
        DTRACE_PROBE3(book, words, (char *)text, 42, (long)i * i);
    }
    return 0;
}
