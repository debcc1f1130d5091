/* The value of Sec-WebSocket-Accept. See accept_value.h. */
#include "accept_value.h"

#include <string.h>

/* RFC 6455 section 1.3. */
static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

enum {
    BLOCK_WORDS = 16,
    BLOCK_SIZE = 4 * BLOCK_WORDS,
    STATE_WORDS = 5,
    DIGEST_SIZE = 4 * STATE_WORDS,
    GUID_SIZE = sizeof GUID - 1,
    HASHED_SIZE = (int)ECHOD_HANDSHAKE_KEY + GUID_SIZE,
};

_Static_assert(HASHED_SIZE < BLOCK_SIZE && HASHED_SIZE + 1 + 8 > BLOCK_SIZE, "the length is in a second block");

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int is_base64(uint8_t c)
{
    uint8_t letter = c | 0x20;
    return (letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

int echod_is_key(const uint8_t *octets, size_t size)
{
    if (size != ECHOD_HANDSHAKE_KEY || octets[size - 1] != '=' || octets[size - 2] != '=')
        return 0;
    int is_key = 1;
    for (size_t i = 0; i < ECHOD_HANDSHAKE_KEY - 2; i++)
        is_key &= is_base64(octets[i]);
    return is_key;
}

static inline uint32_t rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

static inline uint32_t read_word(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* One of the 80 steps of a block (RFC 3174 section 6.1). `f` and `k` are its function and its constant. */
#define STEP(f, k)                                                                                                          \
    do {                                                                                                                    \
        if (t >= BLOCK_WORDS)                                                                                               \
            w[t % 16] = rotate(w[(t + 13) % 16] ^ w[(t + 8) % 16] ^ w[(t + 2) % 16] ^ w[t % 16], 1);                       \
        uint32_t next = rotate(a, 5) + (f) + e + w[t % 16] + (k);                                                           \
        e = d, d = c, c = rotate(b, 30), b = a, a = next;                                                                   \
    } while (0)

static void hash_block(uint32_t *state, const uint8_t *block)
{
    uint32_t w[BLOCK_WORDS];
    for (int t = 0; t < BLOCK_WORDS; t++)
        w[t] = read_word(block + 4 * t);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    int t = 0;
    for (; t < 20; t++)
        STEP((b & c) | (~b & d), 0x5A827999U);
    for (; t < 40; t++)
        STEP(b ^ c ^ d, 0x6ED9EBA1U);
    for (; t < 60; t++)
        STEP((b & c) | (b & d) | (c & d), 0x8F1BBCDCU);
    for (; t < 80; t++)
        STEP(b ^ c ^ d, 0xCA62C1D6U);
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* Write three bytes as four characters. */
static void put_base64(const uint8_t *octets, uint8_t *text)
{
    uint32_t bits = (uint32_t)octets[0] << 16 | (uint32_t)octets[1] << 8 | octets[2];
    for (int i = 0; i < 4; i++)
        text[i] = (uint8_t)BASE64[bits >> (18 - 6 * i) & 0x3F];
}

void echod_accept_value(const uint8_t *key, uint8_t *value)
{
    uint32_t state[STATE_WORDS] = {0x67452301U, 0xEFCDAB89U, 0x98BADCFEU, 0x10325476U, 0xC3D2E1F0U};
    uint8_t block[BLOCK_SIZE] = {0};
    memcpy(block, key, ECHOD_HANDSHAKE_KEY);
    memcpy(block + ECHOD_HANDSHAKE_KEY, GUID, GUID_SIZE);
    block[HASHED_SIZE] = 0x80;
    hash_block(state, block);
    memset(block, 0, BLOCK_SIZE);
    block[BLOCK_SIZE - 2] = HASHED_SIZE * 8 >> 8; /* the length in bits */
    block[BLOCK_SIZE - 1] = HASHED_SIZE * 8 & 0xFF;
    hash_block(state, block);

    uint8_t digest[DIGEST_SIZE + 1]; /* one byte more makes it a multiple of three */
    for (int i = 0; i < DIGEST_SIZE; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
    digest[DIGEST_SIZE] = 0;
    for (int i = 0; i <= DIGEST_SIZE / 3; i++)
        put_base64(digest + 3 * i, value + 4 * i);
    value[ECHOD_ACCEPT_VALUE - 1] = '=';
}
