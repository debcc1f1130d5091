/* The words of kernel_simd.h in SSSE3: any x86-64 since 2006 has it. SSE2, which all have, lacks the table look-up.
   Knows only instructions. */
#include "kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define KERNEL echod_kernel_ssse3
#define NAME "ssse3"
#define TARGET __attribute__((target("ssse3")))
#define WORD TARGET static inline

typedef __m128i vec;

WORD vec v_load(const void *at) { return _mm_loadu_si128(at); }
WORD void v_store(void *at, vec a) { _mm_storeu_si128(at, a); }
WORD vec v_fill(uint8_t octet) { return _mm_set1_epi8((char)octet); }
WORD vec v_fill_32(uint32_t word) { return _mm_set1_epi32((int)word); }
WORD vec v_and(vec a, vec b) { return _mm_and_si128(a, b); }
WORD vec v_or(vec a, vec b) { return _mm_or_si128(a, b); }
WORD vec v_xor(vec a, vec b) { return _mm_xor_si128(a, b); }
WORD vec v_minus(vec a, vec b) { return _mm_subs_epu8(a, b); }
WORD vec v_high_nibbles(vec a) { return _mm_and_si128(_mm_srli_epi16(a, 4), v_fill(0x0F)); }
WORD vec v_table(const uint8_t *sixteen) { return v_load(sixteen); }
WORD vec v_look(vec table, vec index) { return _mm_shuffle_epi8(table, index); }
WORD vec v_before_1(vec now, vec before) { return _mm_alignr_epi8(now, before, 15); }
WORD vec v_before_2(vec now, vec before) { return _mm_alignr_epi8(now, before, 14); }
WORD vec v_before_3(vec now, vec before) { return _mm_alignr_epi8(now, before, 13); }
WORD int v_any_high(vec a) { return _mm_movemask_epi8(a); }
WORD int v_any(vec a) { return _mm_movemask_epi8(_mm_cmpeq_epi8(a, v_fill(0))) != 0xFFFF; }

#include "kernel_simd.h"

#endif
