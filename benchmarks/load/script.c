/* The messages. See script.h. */
#include "script.h"

#include "deflate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPCODE_TEXT = 1, OPCODE_BINARY = 2, FIN = 0x80, RSV1 = 0x40, MASKED = 0x80 };

/* All messages of a cycle together nearly fit into a second-level cache, so that the generator does not wait for
 * memory. */
enum { MOST_MESSAGES = 509, CYCLE_OCTETS = 1 << 20, FEWEST_MESSAGES = 4 };

typedef struct {
    uint8_t *octets;
    size_t len;
    size_t room;
} Buffer;

static uint32_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 16);
}

static void append(Buffer *buffer, const void *octets, size_t len)
{
    if (buffer->len + len > buffer->room) {
        buffer->room = (buffer->len + len) * 2;
        buffer->octets = realloc(buffer->octets, buffer->room);
    }
    memcpy(buffer->octets + buffer->len, octets, len);
    buffer->len += len;
}

/* Plain English words, as a compressor meets them in practice. They shrink to about a quarter. */
static void fill_ascii(uint8_t *out, size_t len, uint64_t *state)
{
    static const char *const words[] = {
        "connection ", "message ", "the ",     "server ", "of ",   "and ",       "payload ", "frame ",
        "a ",          "client ",  "in ",      "is ",     "opening ", "closing ", "to ",      "that ",
        "handshake ",  "octet ",   "with ",    "value ",  "from ", "which ",
    };
    size_t at = 0;
    while (at < len) {
        const char *word = words[next_random(state) % (sizeof words / sizeof *words)];
        size_t take = strlen(word) < len - at ? strlen(word) : len - at;
        memcpy(out + at, word, take);
        at += take;
    }
}

static size_t put_character(uint8_t *out, uint32_t point, size_t width)
{
    static const uint8_t lead[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    for (size_t i = width - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    out[0] = (uint8_t)(lead[width] | point);
    return width;
}

/* Equal numbers of characters of one to four octets, so that no decoder can stay on one branch. */
static void fill_multibyte(uint8_t *out, size_t len, uint64_t *state)
{
    static const uint32_t base[] = {0, 0x61, 0x430, 0x4e00, 0x1f600}; /* Latin, Cyrillic, Han, emoji */
    static const uint32_t span[] = {1, 26, 32, 1024, 64};
    size_t at = 0;
    while (at < len) {
        size_t width = 1 + next_random(state) % 4;
        width = width <= len - at ? width : 1;
        at += put_character(out + at, base[width] + next_random(state) % span[width], width);
    }
}

static void fill_binary(uint8_t *out, size_t len, uint64_t *state)
{
    for (size_t at = 0; at < len; at++) {
        out[at] = (uint8_t)next_random(state);
    }
}

static void fill(uint8_t *out, size_t len, Kind kind, unsigned number)
{
    static void (*const fillers[])(uint8_t *, size_t, uint64_t *) = {fill_ascii, fill_multibyte, fill_binary};
    uint64_t state = 0x9e3779b97f4a7c15ULL * (number + 1);
    char serial[9];
    snprintf(serial, sizeof serial, "%08x", number * 2654435761U); /* begin with what distinguishes this message */
    size_t head = len < 8 ? len : 8;
    memcpy(out, serial, head);
    fillers[kind](out + head, len - head, &state);
}

/* Writes one client frame (RFC 6455 section 5.2), masked with a key of its own (5.3). */
static void append_frame(Buffer *wire, uint8_t first, const uint8_t *payload, size_t len, uint64_t *state)
{
    uint8_t head[14] = {first};
    size_t head_len = 2;
    if (len < 126) {
        head[1] = (uint8_t)(MASKED | len);
    } else {
        size_t width = len <= 0xffff ? 2 : 8;
        head[1] = (uint8_t)(MASKED | (width == 2 ? 126 : 127));
        for (size_t i = 0; i < width; i++) {
            head[2 + i] = (uint8_t)(len >> (8 * (width - 1 - i)));
        }
        head_len += width;
    }
    uint8_t *mask = head + head_len;
    for (int i = 0; i < 4; i++) {
        mask[i] = (uint8_t)(1 + next_random(state) % 255);
    }
    append(wire, head, head_len + 4);
    append(wire, payload, len);
    uint8_t *masked = wire->octets + wire->len - len;
    for (size_t i = 0; i < len; i++) {
        masked[i] ^= mask[i & 3];
    }
}

static void append_message(Buffer *wire, uint8_t opcode, bool packed, const uint8_t *payload, size_t len,
                           unsigned fragments, uint64_t *state)
{
    size_t at = 0;
    for (unsigned i = 0; i < fragments; i++) {
        size_t end = len * (i + 1) / fragments;
        uint8_t first = i == 0 ? (uint8_t)(opcode | (packed ? RSV1 : 0)) : 0;
        first |= i + 1 == fragments ? FIN : 0;
        append_frame(wire, first, payload + at, end - at, state);
        at = end;
    }
}

static unsigned messages_in_cycle(const Options *o)
{
    size_t size = o->size > 0 ? o->size : 1;
    size_t messages = CYCLE_OCTETS / size;
    messages = messages < MOST_MESSAGES ? messages : MOST_MESSAGES;
    messages = messages > FEWEST_MESSAGES ? messages : FEWEST_MESSAGES;
    /* One flight never holds the same message twice. */
    messages = messages > o->in_flight ? messages : o->in_flight + 1;
    if (o->deflate == DEFLATE_TAKEOVER && messages * size < DEFLATE_WINDOW) {
        messages = DEFLATE_WINDOW / size + 1;
    }
    return (unsigned)messages;
}

static Entry make_entry(const Options *o, const uint8_t *image, size_t at, uint8_t opcode, Buffer *wire,
                        uint64_t *state)
{
    Entry entry = {.plain = image + at, .plain_len = o->size, .wire_at = wire->len};
    if (o->deflate == DEFLATE_OFF) {
        append_message(wire, opcode, false, entry.plain, entry.plain_len, o->fragments, state);
    } else {
        uint8_t *packed;
        size_t len = deflate_message(entry.plain, entry.plain_len, o->deflate != DEFLATE_TAKEOVER, &packed);
        append_message(wire, opcode, true, packed, len, o->fragments, state);
        free(packed);
    }
    if (o->deflate == DEFLATE_TAKEOVER) {
        entry.history_len = at < DEFLATE_WINDOW ? at : DEFLATE_WINDOW;
    }
    entry.wire_len = wire->len - entry.wire_at;
    return entry;
}

Script script_make(const Options *o)
{
    unsigned messages = messages_in_cycle(o);
    unsigned count = o->deflate == DEFLATE_TAKEOVER ? 2 * messages : messages;
    uint8_t opcode = o->kind == KIND_BINARY ? OPCODE_BINARY : OPCODE_TEXT;
    uint8_t *image = malloc(count * o->size + 1);
    Entry *entries = calloc(count, sizeof *entries);
    Buffer wire = {0};
    uint64_t state = 0x2545f4914f6cdd1dULL;
    for (unsigned i = 0; i < count; i++) {
        fill(image + i * o->size, o->size, o->kind, i % messages);
        entries[i] = make_entry(o, image, i * o->size, opcode, &wire, &state);
    }
    return (Script){
        .entries = entries, .count = count, .steady = count - messages, .wire = wire.octets, .opcode = opcode};
}
