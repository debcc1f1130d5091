/*
 * The kernel for any vector instruction set: a template, included once by each kernel_*.c, which says before it
 *
 *   KERNEL            its name, and NAME the same as a string
 *   TARGET            the attribute of every function in it
 *   vec               a vector of sizeof(vec) octets, a divisor of BLOCK
 *   v_load, v_store   from and to any address
 *   v_fill            all octets alike; v_fill_32 all words of four octets alike
 *   v_and v_or v_xor
 *   v_minus           octet by octet, not below 0
 *   v_high_nibbles    octet by octet, shifted right by four
 *   v_table, v_look   a table of 16 octets, and what it holds for octets below 16
 *   v_before_1 .._3   (now, before): each octet's neighbour one, two, three places to the left, `before` standing left of `now`
 *   v_any_high        nonzero if an octet is 0x80 or above; v_any nonzero if an octet is not 0
 *
 * Knows UTF-8 and masking. Must never know an instruction.
 *
 * The text check is the lookup algorithm of J. Keiser and D. Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte",
 * Software: Practice and Experience 51 (2021): of every octet and the one before it, three tables of 16 entries (the left octet's halves
 * and the right octet's upper half) each say which faults are still possible; what all three allow is a fault. Whether an octet ought to
 * be the third or fourth of its character is seen from the ones two and three places to the left.
 */
#include "unmask.h"
#include "utf8.h"

enum { VECS = BLOCK / sizeof(vec) };

TARGET static uint64_t unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key)
{
    vec keys = v_fill_32(key), last_keys = v_fill_32(key_at(key, len)), seen = v_fill(0), last[VECS];
    /* The end is read before the loop may write over it, and written after it. */
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

/* The faults that two neighbours can show. */
enum {
    TOO_SHORT = 1 << 0,   /* a lead octet, and no tail behind it */
    TOO_LONG = 1 << 1,    /* ASCII, and a tail behind it */
    OVERLONG_2 = 1 << 2,  /* C0..C1 and a tail */
    OVERLONG_3 = 1 << 3,  /* E0 80..9F */
    SURROGATE = 1 << 4,   /* ED A0..BF */
    TOO_LARGE = 1 << 5,   /* F4 90..BF, F5..FF 90..BF */
    OUTSIDE_8 = 1 << 6,   /* F0 80..8F (overlong), F5..FF 80..8F (too large): one bit serves both */
    TWO_TAILS = 1 << 7,   /* a tail and a tail: a fault unless it is a third or fourth octet; the top bit, as `must` below sets it */
    LOW_ANY = TOO_SHORT | TOO_LONG | TWO_TAILS, /* faults that do not depend on the left octet's lower half */
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

/* Nonzero where `now` shows a fault, `before` standing left of it. */
TARGET static inline vec faults(vec now, vec before)
{
    vec left = v_before_1(now, before);
    vec shown = v_and(v_and(v_look(v_table(left_high), v_high_nibbles(left)), v_look(v_table(left_low), v_and(left, v_fill(0x0F)))),
                      v_look(v_table(right_high), v_high_nibbles(now)));
    /* 0x80 or more where the octet two places to the left begins three or four octets, or the one three places to the left four. */
    vec must = v_or(v_minus(v_before_2(now, before), v_fill(0xE0 - 0x80)), v_minus(v_before_3(now, before), v_fill(0xF0 - 0x80)));
    return v_xor(v_and(must, v_fill(0x80)), shown);
}

/* Nonzero if a character that begins in `now` is to end behind it. */
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

/* 1 if no octet shows a fault: they begin with a character, and may end within one. len is a multiple of BLOCK. */
TARGET static int blocks_valid(const uint8_t *octets, size_t len)
{
    walk it = {v_fill(0), v_fill(0)};
    for (size_t at = 0; at < len; at += BLOCK)
        it = walk_block(it, octets + at);
    return !v_any(it.found);
}

/* The state behind valid octets, len >= 3: it depends on no more than the character that they do not end. */
static uint32_t state_behind(const uint8_t *octets, size_t len)
{
    static const uint8_t leads[] = {0, 0xC0, 0xE0, 0xF0}; /* of more than 1, 2, 3 octets */
    for (size_t back = 1; back <= 3; back++)
        if (octets[len - back] >= leads[back])
            return utf8_walk(UTF8_ACCEPT, octets + len - back, back);
    return UTF8_ACCEPT;
}

/* Whole blocks from a character's begin on are for the vectors, the rest for the table: copied to a block of its own, with zeros behind
   it, less than a block takes twice the time. */
TARGET static uint32_t utf8(uint32_t state, const uint8_t *octets, size_t len)
{
    size_t at = 0;
    while (at < len && state != UTF8_ACCEPT && state != UTF8_REJECT)
        state = utf8_step(state, octets[at++]);
    size_t blocks = (len - at) / BLOCK * BLOCK;
    if (state == UTF8_ACCEPT && blocks != 0) {
        if (!blocks_valid(octets + at, blocks))
            return UTF8_REJECT;
        state = state_behind(octets + at, blocks);
        at += blocks;
    }
    return utf8_walk(state, octets + at, len - at);
}

const echod_kernel KERNEL = {NAME, unmask, utf8};
