/*
 * Whole frames: the first byte of the input chooses the limit, and the rest is what a client sends.
 *
 * With each kernel that this processor has, the codec must give the oracle's answers, and leave the oracle's rest.
 */
#include "oracle.h"

typedef struct {
    uint8_t *output;
    echod_echoed echoed;
    echod_sums sums;
} expectation;

static void stop_at(expectation *it, echod_stop stop, uint64_t need)
{
    it->echoed.stop = stop;
    it->echoed.need = need;
}

/* Echo one frame at octets[0, len). Returns its size, or 0 with the reason to stop. */
static uint64_t oracle_frame(expectation *it, const uint8_t *octets, size_t len, uint64_t limit)
{
    int text = octets[0] == 0x81;
    if (octets[0] != 0x81 && octets[0] != 0x82)
        return stop_at(it, ECHOD_STOP_NOT_ORDINARY, 0), 0;
    if (len < 2)
        return stop_at(it, ECHOD_STOP_NEED_MORE, 2), 0;
    if (octets[1] < 0x80)
        return stop_at(it, ECHOD_STOP_NOT_ORDINARY, 0), 0;
    uint64_t length = octets[1] - 0x80;
    size_t longer = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (len < 2 + longer)
        return stop_at(it, ECHOD_STOP_NEED_MORE, 2 + longer), 0;
    if (longer != 0) {
        length = 0;
        for (size_t i = 0; i < longer; i++)
            length = length * 256 + octets[2 + i];
        if (length < (longer == 2 ? 126u : 65536u) || length > INT64_MAX)
            return stop_at(it, ECHOD_STOP_NOT_ORDINARY, 0), 0;
    }
    size_t header = 2 + longer + 4;
    if (length > limit)
        return stop_at(it, ECHOD_STOP_TOO_LARGE, header + length), 0;
    if (len < header || len - header < length)
        return stop_at(it, ECHOD_STOP_NEED_MORE, header + length), 0;

    uint8_t *frame = it->output + it->echoed.produced; /* there is room for the client's bytes, which are more */
    memcpy(frame, octets, 2 + longer);
    frame[1] -= 0x80;
    memcpy(frame + 2 + longer, octets + header, length);
    oracle_mask(frame + 2 + longer, length, octets + 2 + longer, 0);
    if (text && oracle_text(frame + 2 + longer, length) != TEXT_ENDS)
        return stop_at(it, ECHOD_STOP_NOT_ORDINARY, 0), 0;
    it->echoed.produced += 2 + longer + length;
    echod_sum *sum = text ? &it->sums.text : &it->sums.binary;
    size_t place = 0;
    while (place < 62 && UINT64_C(1) << place < length)
        place++;
    sum->sizes[length == 0 ? 63 : place]++;
    sum->octets += length;
    it->echoed.messages++;
    it->echoed.octets += length;
    return header + length;
}

static expectation oracle_echo(const uint8_t *octets, size_t len, uint64_t limit)
{
    expectation it = {.output = malloc(len + 1), .echoed = {.stop = ECHOD_STOP_BOUNDARY}};
    CHECK(it.output);
    uint64_t size;
    while (it.echoed.consumed < len &&
           (size = oracle_frame(&it, octets + it.echoed.consumed, len - it.echoed.consumed, limit)) != 0)
        it.echoed.consumed += size;
    return it;
}

static void compare(const uint8_t *octets, size_t len, uint64_t limit, const expectation *right)
{
    uint8_t *buffer = exact(octets, len);
    echod_sums sums = {0};
    echod_echoed said = echod_codec_echo(buffer, len, limit, &sums);
    CHECK(said.consumed == right->echoed.consumed);
    CHECK(said.produced == right->echoed.produced);
    CHECK(said.stop == right->echoed.stop);
    CHECK(said.need == right->echoed.need);
    CHECK(said.messages == right->echoed.messages);
    CHECK(said.octets == right->echoed.octets);
    CHECK(memcmp(&sums, &right->sums, sizeof sums) == 0);
    CHECK(memcmp(buffer, right->output, said.produced) == 0);
    CHECK(len == 0 || memcmp(buffer + said.consumed, octets + said.consumed, len - said.consumed) == 0);
    free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t limits[] = {1 << 24, 0, 16, 125, 126, 1000, 65535, INT64_MAX, UINT64_MAX};
    if (size == 0)
        return 0;
    uint64_t limit = limits[data[0] % (sizeof limits / sizeof *limits)];
    expectation right = oracle_echo(data + 1, size - 1, limit);
    const char *kernel;
    for (size_t i = 0; (kernel = echod_codec_isa_name(i)) != NULL; i++)
        if (echod_codec_set_isa(kernel) == 0)
            compare(data + 1, size - 1, limit, &right);
    free(right.output);
    return 0;
}
