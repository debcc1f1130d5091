/*
 * The kernel for any vector instruction set. This is a template, which each kernel_*.c includes once. Before that it
 * defines
 *
 *   KERNEL            the name of the kernel, and NAME the same as a string
 *   TARGET            the attribute of every function
 *   vec               a vector of sizeof(vec) bytes, a divisor of BLOCK
 *   v_load, v_store   from and to any address
 *   v_fill            all bytes alike; v_fill_32 all words of four bytes alike
 *   v_and v_or v_xor
 *   v_minus           byte by byte, not below 0
 *   v_high_nibbles    byte by byte, shifted right by four
 *   v_table, v_look   a table of 16 bytes, and its entries for bytes below 16
 *   v_before_1 .._3   (now, before): for each byte the one 1, 2, 3 places to its left; `before` is left of `now`
 *   v_any_high        nonzero if a byte is 0x80 or above; v_any nonzero if a byte is not 0
 *
 * Knows UTF-8 and masking. Must never know an instruction.
 *
 * The text check is the lookup algorithm of J. Keiser and D. Lemire, "Validating UTF-8 In Less Than One Instruction Per
 * Byte", Software: Practice and Experience 51 (2021). It looks at every byte and the one to its left. Three tables of
 * 16 entries, for the two halves of the left byte and the upper half of the right one, say which faults are still
 * possible. A fault that all three allow is there. Whether a byte has to be the third or fourth of its character shows
 * in the bytes two and three places to the left.
 */
#include "unmask.h"
#include "utf8.h"

enum { VECS = BLOCK / sizeof(vec) };

TARGET static uint64_t unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key)
{
    vec keys = v_fill_32(key), last_keys = v_fill_32(key_at(key, len)), seen = v_fill(0), last[VECS];
    /* The end is read before the loop may overwrite it, and is written after the loop. */
    for (size_t i = 0; i < VECS; i++)
        seen = v_or(seen, last[i] = v_xor(v_load(source + len - BLOCK + i * sizeof(vec)), last_keys));
    for (size_t at = 0; at + BLOCK <= len; at += BLOCK) {
        vec now[VECS];
        for (size_t i = 0; i < VECS; i++)
            seen = v_or(seen, now[i] = v_xor(v_load(source + at + i * sizeof(vec)), keys));
        for (size_t i = 0; i < VECS; i++)
            v_store(target + at + i * sizeof(vec), now[i]);
    }
    for (size_t i = 0; i < VECS; i++)
        v_store(target + len - BLOCK + i * sizeof(vec), last[i]);
    return v_any_high(seen) ? HIGH_BITS : 0;
}

/* The faults that two neighbouring bytes can show. */
enum {
    TOO_SHORT = 1 << 0,   /* a lead byte, and no tail behind it */
    TOO_LONG = 1 << 1,    /* ASCII, and a tail behind it */
    OVERLONG_2 = 1 << 2,  /* C0..C1 and a tail */
    OVERLONG_3 = 1 << 3,  /* E0 80..9F */
    SURROGATE = 1 << 4,   /* ED A0..BF */
    TOO_LARGE = 1 << 5,   /* F4 90..BF, F5..FF 90..BF */
    OUTSIDE_8 = 1 << 6,   /* F0 80..8F (overlong), F5..FF 80..8F (too large): one bit serves both */
    TWO_TAILS = 1 << 7,   /* two tails: a fault unless it is a third or fourth byte; `must` below sets this bit */
    LOW_ANY = TOO_SHORT | TOO_LONG | TWO_TAILS, /* faults that do not depend on the left byte's lower half */
    LOW_F5 = LOW_ANY | TOO_LARGE | OUTSIDE_8,
    TAIL_ANY = TOO_LONG | OVERLONG_2 | TWO_TAILS, /* faults with any tail on the right */
};

static const uint8_t left_high[16] = {
    TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, /* ASCII */
    TWO_TAILS, TWO_TAILS, TWO_TAILS, TWO_TAILS,                                     /* 8. to B. */
    TOO_SHORT | OVERLONG_2,                                                         /* C. */
    TOO_SHORT,                                                                      /* D. */
    TOO_SHORT | OVERLONG_3 | SURROGATE,                                             /* E. */
    TOO_SHORT | TOO_LARGE | OUTSIDE_8,                                              /* F. */
};

static const uint8_t left_low[16] = {
    LOW_ANY | OVERLONG_2 | OVERLONG_3 | OUTSIDE_8, /* C0, E0, F0 */
    LOW_ANY | OVERLONG_2,                          /* C1 */
    LOW_ANY, LOW_ANY,
    LOW_ANY | TOO_LARGE,                           /* F4 */
    LOW_F5, LOW_F5, LOW_F5, LOW_F5, LOW_F5, LOW_F5, LOW_F5, LOW_F5,
    LOW_F5 | SURROGATE,                            /* ED, FD */
    LOW_F5, LOW_F5,
};

static const uint8_t right_high[16] = {
    TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, /* ASCII */
    TAIL_ANY | OVERLONG_3 | OUTSIDE_8,                                                      /* 8. */
    TAIL_ANY | OVERLONG_3 | TOO_LARGE,                                                      /* 9. */
    TAIL_ANY | SURROGATE | TOO_LARGE, TAIL_ANY | SURROGATE | TOO_LARGE,                     /* A., B. */
    TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,                                             /* a lead */
};

/* Nonzero where `now` shows a fault. `before` is left of it. */
TARGET static inline vec faults(vec now, vec before)
{
    vec left = v_before_1(now, before);
    vec by_left_high = v_look(v_table(left_high), v_high_nibbles(left));
    vec by_left_low = v_look(v_table(left_low), v_and(left, v_fill(0x0F)));
    vec shown = v_and(v_and(by_left_high, by_left_low), v_look(v_table(right_high), v_high_nibbles(now)));
    /* 0x80 or more where a character of three or four bytes begins two places to the left, or one of four three
       places. */
    vec is_third = v_minus(v_before_2(now, before), v_fill(0xE0 - 0x80));
    vec is_fourth = v_minus(v_before_3(now, before), v_fill(0xF0 - 0x80));
    vec must = v_or(is_third, is_fourth);
    return v_xor(v_and(must, v_fill(0x80)), shown);
}

/* Nonzero if a character that begins in `now` ends behind it. */
TARGET static inline vec unfinished(vec now)
{
    uint8_t limits[sizeof(vec)];
    memset(limits, 0xFF, sizeof limits);
    limits[sizeof limits - 3] = 0xF0 - 1;
    limits[sizeof limits - 2] = 0xE0 - 1;
    limits[sizeof limits - 1] = 0xC0 - 1;
    return v_minus(now, v_load(limits));
}

typedef struct {
    vec before; /* the vector before the next block */
    vec found;  /* the faults so far */
} walk;

TARGET static inline walk walk_block(walk it, const uint8_t *octets)
{
    vec now[VECS], all = v_fill(0);
    for (size_t i = 0; i < VECS; i++)
        all = v_or(all, now[i] = v_load(octets + i * sizeof(vec)));
    if (!v_any_high(all)) {
        it.found = v_or(it.found, unfinished(it.before));
    } else {
        it.found = v_or(it.found, faults(now[0], it.before));
        for (size_t i = 1; i < VECS; i++)
            it.found = v_or(it.found, faults(now[i], now[i - 1]));
    }
    it.before = now[VECS - 1];
    return it;
}

/* 1 if no byte shows a fault. The bytes begin with a character, and may end within one. len is a multiple of BLOCK. */
TARGET static int blocks_valid(const uint8_t *octets, size_t len)
{
    walk it = {v_fill(0), v_fill(0)};
    for (size_t at = 0; at < len; at += BLOCK)
        it = walk_block(it, octets + at);
    return !v_any(it.found);
}

/* The state behind valid bytes, len >= 3. It depends only on an unfinished character at their end. */
static uint32_t state_behind(const uint8_t *octets, size_t len)
{
    static const uint8_t leads[] = {0, 0xC0, 0xE0, 0xF0}; /* of more than 1, 2, 3 bytes */
    for (size_t back = 1; back <= 3; back++)
        if (octets[len - back] >= leads[back])
            return utf8_walk(UTF8_ACCEPT, octets + len - back, back);
    return UTF8_ACCEPT;
}

/* The vectors check whole blocks, from the beginning of a character on. The table checks the rest: to copy that to a
   block of its own, with zeros behind it, takes twice the time. */
TARGET static uint32_t utf8(uint32_t state, const uint8_t *octets, size_t len)
{
    size_t at = 0;
    while (at < len && state != UTF8_ACCEPT && state != UTF8_REJECT)
        state = utf8_step(state, octets[at++]);
    size_t blocks = (len - at) / BLOCK * BLOCK;
    if (state == UTF8_ACCEPT && blocks) {
        if (!blocks_valid(octets + at, blocks))
            return UTF8_REJECT;
        state = state_behind(octets + at, blocks);
        at += blocks;
    }
    return utf8_walk(state, octets + at, len - at);
}

const echod_kernel KERNEL = {NAME, unmask, utf8};
