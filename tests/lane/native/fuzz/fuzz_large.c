/*
 * One message in pieces. The input is opcode and way of moving (1 byte), key (4), number of pieces (1), their sizes (1
 * each), payload.
 *
 * After each piece, each kernel must have unmasked the piece, given the oracle's verdict, and written nothing else. The
 * restored payload must be what was sent.
 */
#include "oracle.h"

typedef struct {
    uint8_t opcode;
    uint8_t back; /* bytes from the target to the source behind it */
    const uint8_t *key;
    const uint8_t *sizes; /* of the pieces; one more piece takes the rest */
    size_t pieces;
    const uint8_t *payload;
    size_t length;
} message;

static echod_large_state oracle_state(const message *it, size_t done)
{
    text_verdict verdict = it->opcode == 1 ? oracle_text(it->payload, done) : TEXT_ENDS;
    if (verdict == NO_TEXT || (done == it->length && verdict == TEXT_GOES_ON))
        return ECHOD_LARGE_INVALID;
    return done == it->length ? ECHOD_LARGE_COMPLETE : ECHOD_LARGE_OPEN;
}

/* Read the header, write it in both forms, and compare. Returns the message, ready to be fed. */
static echod_large begin(const message *it)
{
    uint8_t sent[14] = {0x80 | it->opcode};
    size_t size = it->length < 126 ? 0 : it->length < 65536 ? 2 : 8;
    sent[1] = (uint8_t)(0x80 | (size == 0 ? it->length : size == 2 ? 126 : 127));
    for (size_t i = 0; i < size; i++)
        sent[2 + i] = (uint8_t)((uint64_t)it->length >> 8 * (size - 1 - i));
    memcpy(sent + 2 + size, it->key, 4);

    uint8_t *header = exact(sent, 6 + size);
    echod_large large;
    CHECK(echod_large_begin(&large, header, 5 + size, it->length) == 0);
    CHECK(echod_large_begin(&large, header, 6 + size, it->length) == 6 + size);
    memset(header, 0, 6 + size);
    CHECK(echod_large_client_header(&large, header) == 6 + size);
    CHECK(memcmp(header, sent, 6 + size) == 0);
    free(header);

    sent[1] ^= 0x80;
    header = exact(sent, 2 + size);
    memset(header, 0, 2 + size);
    CHECK(echod_large_server_header(&large, header) == 2 + size);
    CHECK(memcmp(header, sent, 2 + size) == 0);
    free(header);
    return large;
}

static void feed(const message *it, const uint8_t *masked)
{
    echod_large large = begin(it);
    size_t whole = it->back + it->length, done = 0;
    uint8_t *block = malloc(whole);
    CHECK(block || whole == 0);
    if (whole != 0) {
        memset(block, 0xA5, it->back);
        memcpy(block + it->back, masked, it->length);
    }
    echod_large_state state = ECHOD_LARGE_OPEN;
    for (size_t piece = 0; state == ECHOD_LARGE_OPEN; piece++) {
        size_t size = piece < it->pieces ? it->sizes[piece] : it->length - done;
        if (size > it->length - done)
            size = it->length - done;
        state = echod_large_feed(&large, block + done, block + done + it->back, size);
        CHECK(state == oracle_state(it, done + size));
        CHECK(large.done == done + size || (state == ECHOD_LARGE_INVALID && large.done < done + size));
        done = large.done;
        CHECK(done == 0 || memcmp(block, it->payload, done) == 0);
        CHECK(done == it->length || memcmp(block + done + it->back, masked + done, it->length - done) == 0);
    }
    echod_large_restore(&large, block);
    CHECK(done == 0 || memcmp(block, masked, done) == 0);
    free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t ways[] = {0, 1, 4, 14};
    if (size < 6 || size - 6 < data[5])
        return 0;
    const uint8_t *payload = data + 6 + data[5];
    size_t payload_size = size - 6 - data[5];
    message it = {1 + (data[0] & 1), ways[data[0] >> 1 & 3], data + 1, data + 6, data[5], payload, payload_size};
    uint8_t *masked = exact(it.payload, it.length);
    oracle_mask(masked, it.length, it.key, 0);
    const char *kernel;
    for (size_t i = 0; (kernel = echod_codec_isa_name(i)) != NULL; i++)
        if (echod_codec_set_isa(kernel) == 0)
            feed(&it, masked);
    free(masked);
    return 0;
}
