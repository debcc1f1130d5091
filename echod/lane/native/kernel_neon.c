/* The words of kernel_simd.h in AArch64's Advanced SIMD. Knows only instructions. */
#include "kernel.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define KERNEL echod_kernel_neon
#define NAME "neon"
#define TARGET
#define WORD static inline

typedef uint8x16_t vec;

WORD vec v_load(const void *at) { return vld1q_u8(at); }
WORD void v_store(void *at, vec a) { vst1q_u8(at, a); }
WORD vec v_fill(uint8_t octet) { return vdupq_n_u8(octet); }
WORD vec v_fill_32(uint32_t word) { return vreinterpretq_u8_u32(vdupq_n_u32(word)); }
WORD vec v_and(vec a, vec b) { return vandq_u8(a, b); }
WORD vec v_or(vec a, vec b) { return vorrq_u8(a, b); }
WORD vec v_xor(vec a, vec b) { return veorq_u8(a, b); }
WORD vec v_minus(vec a, vec b) { return vqsubq_u8(a, b); }
WORD vec v_high_nibbles(vec a) { return vshrq_n_u8(a, 4); }
WORD vec v_table(const uint8_t *sixteen) { return v_load(sixteen); }
WORD vec v_look(vec table, vec index) { return vqtbl1q_u8(table, index); }
WORD vec v_before_1(vec now, vec before) { return vextq_u8(before, now, 15); }
WORD vec v_before_2(vec now, vec before) { return vextq_u8(before, now, 14); }
WORD vec v_before_3(vec now, vec before) { return vextq_u8(before, now, 13); }
WORD int v_any_high(vec a) { return vmaxvq_u8(a) >= 0x80; }
WORD int v_any(vec a) { return vmaxvq_u8(a) != 0; }

#include "kernel_simd.h"

#endif
