/* The words of kernel_simd.h in AVX2 (x86-64 from Haswell and Zen on). Knows only instructions. */
#include "kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define KERNEL echod_kernel_avx2
#define NAME "avx2"
#define TARGET __attribute__((target("avx2")))
#define WORD TARGET static inline

typedef __m256i vec;

WORD vec v_load(const void *at) { return _mm256_loadu_si256(at); }
WORD void v_store(void *at, vec a) { _mm256_storeu_si256(at, a); }
WORD vec v_fill(uint8_t octet) { return _mm256_set1_epi8((char)octet); }
WORD vec v_fill_32(uint32_t word) { return _mm256_set1_epi32((int)word); }
WORD vec v_and(vec a, vec b) { return _mm256_and_si256(a, b); }
WORD vec v_or(vec a, vec b) { return _mm256_or_si256(a, b); }
WORD vec v_xor(vec a, vec b) { return _mm256_xor_si256(a, b); }
WORD vec v_minus(vec a, vec b) { return _mm256_subs_epu8(a, b); }
WORD vec v_high_nibbles(vec a) { return _mm256_and_si256(_mm256_srli_epi16(a, 4), v_fill(0x0F)); }
WORD vec v_table(const uint8_t *sixteen) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)sixteen)); }
WORD vec v_look(vec table, vec index) { return _mm256_shuffle_epi8(table, index); }
/* The upper half of `before` and the lower half of `now`, because alignr works within halves. */
WORD vec v_between(vec now, vec before) { return _mm256_permute2x128_si256(before, now, 0x21); }
WORD vec v_before_1(vec now, vec before) { return _mm256_alignr_epi8(now, v_between(now, before), 15); }
WORD vec v_before_2(vec now, vec before) { return _mm256_alignr_epi8(now, v_between(now, before), 14); }
WORD vec v_before_3(vec now, vec before) { return _mm256_alignr_epi8(now, v_between(now, before), 13); }
WORD int v_any_high(vec a) { return _mm256_movemask_epi8(a); }
WORD int v_any(vec a) { return !_mm256_testz_si256(a, a); }

#include "kernel_simd.h"

#endif
