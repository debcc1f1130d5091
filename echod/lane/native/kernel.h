/*
 * A kernel is the two inner loops for one instruction set. One kernel is chosen.
 *
 * Knows which kernels are compiled in, and which of them this processor can run. Must never know a frame.
 *
 * No build is for one machine only: each kernel's functions carry their instruction set as an attribute, and the best
 * kernel that the processor can run is chosen when the module is loaded. AVX-512 was tried and left out. It took 46
 * instead of 83 microseconds for 1 MiB of mixed text, where sending and receiving take about 1,000, and saved nothing
 * for other messages. callgrind can't count its instructions.
 */
#ifndef ECHOD_KERNEL_H
#define ECHOD_KERNEL_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    /* As in unmask.h, len >= BLOCK. The result has high bits if a byte is 0x80 or above. */
    uint64_t (*unmask)(uint8_t *target, const uint8_t *source, size_t len, uint32_t key);
    /* As echod_utf8 in codec.h. */
    uint32_t (*utf8)(uint32_t state, const uint8_t *octets, size_t len);
} echod_kernel;

extern const echod_kernel echod_kernel_scalar;
#if defined(__x86_64__)
extern const echod_kernel echod_kernel_ssse3;
extern const echod_kernel echod_kernel_avx2;
#elif defined(__aarch64__)
extern const echod_kernel echod_kernel_neon;
#endif

/* The kernel in use. */
extern const echod_kernel *echod_kernel_chosen;

#endif
