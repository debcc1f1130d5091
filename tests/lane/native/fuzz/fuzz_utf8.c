/*
 * The validator over plain bytes, and unmasking. The input is a place to cut (1 byte), a key (4), and the bytes.
 *
 * At the cut and at the end, each kernel must be in the same state as the scalar kernel, and the state must agree with
 * the oracle.
 */
#include "oracle.h"

static uint32_t walk(uint32_t state, const uint8_t *octets, size_t len)
{
    uint8_t *block = exact(octets, len);
    state = echod_utf8(state, block, len);
    free(block);
    return state;
}

static void judge(uint32_t state, text_verdict right)
{
    CHECK((state == ECHOD_UTF8_ACCEPT) == (right == TEXT_ENDS));
    CHECK((state == ECHOD_UTF8_REJECT) == (right == NO_TEXT));
}

static void unmask(const uint8_t *octets, size_t len, const uint8_t *key, size_t phase)
{
    uint32_t word;
    memcpy(&word, key, sizeof word);
    uint8_t *source = exact(octets, len), *target = exact(octets, len), *right = exact(octets, len);
    oracle_mask(right, len, key, phase);
    int high = 0;
    for (size_t i = 0; i < len; i++)
        high |= right[i] >= 0x80;
    CHECK((echod_unmask(target, source, len, echod_key_at(word, phase)) != 0) == high);
    CHECK(len == 0 || memcmp(target, right, len) == 0);
    CHECK(len == 0 || memcmp(source, octets, len) == 0);
    echod_unmask(source, source, len, echod_key_at(word, phase));
    CHECK(len == 0 || memcmp(source, right, len) == 0);
    free(source);
    free(target);
    free(right);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5)
        return 0;
    const uint8_t *octets = data + 5;
    size_t len = size - 5, cut = data[0] < len ? data[0] : len;
    text_verdict whole = oracle_text(octets, len), begun = oracle_text(octets, cut);
    uint32_t scalar = 0;
    const char *kernel;
    for (size_t i = 0; (kernel = echod_codec_isa_name(i)) != NULL; i++) {
        if (echod_codec_set_isa(kernel) != 0)
            continue;
        uint32_t at_once = walk(ECHOD_UTF8_ACCEPT, octets, len), first = walk(ECHOD_UTF8_ACCEPT, octets, cut);
        judge(at_once, whole);
        judge(first, begun);
        CHECK(walk(first, octets + cut, len - cut) == at_once);
        if (i == 0)
            scalar = at_once;
        CHECK(at_once == scalar);
        unmask(octets, len, data + 1, data[0] & 3);
    }
    return 0;
}
