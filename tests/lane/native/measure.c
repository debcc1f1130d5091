/*
 * Runs the codec, and the pump on socket pairs, over fixed inputs, to count instructions (instructions.py, under
 * callgrind) or to measure the codec's time. (The pump's time is mostly the operating system's: a benchmark over TCP
 * measures it.)
 *
 *     measure                       prints the name of each case, with its messages and the bytes of their payloads
 *     measure KERNEL CASE           runs the case once
 *     measure KERNEL CASE SECONDS   repeats the case, and prints ns per message and GB of payload per second
 *
 * Knows the interfaces of codec and pump, and how to mask. Must never know the expected results.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "codec.h"
#include "pump.h"

typedef enum { ASCII, MIXED, CJK, BINARY, PINGS } content;

typedef struct {
    const char *name;
    content content;
    size_t payload; /* bytes of each message */
    size_t frames;
    size_t pieces;  /* 0: whole frames through echod_codec_echo; otherwise echod_large_feed, in these pieces */
    size_t clients; /* 0: no pump; otherwise the number of clients that send these frames to the pump */
    size_t fragments; /* 0 or 1: each frame is a message; otherwise the frames of a message */
    int deflate;      /* 0: plain; 1: deflated and mirrored; otherwise the bits of the window for deflating anew */
} measured;

enum { BLOCK = 5, MOST_CLIENTS = 64, SOCKET_BUFFER = 100000 };

static const measured CASES[] = {
    {"empty-text-32", ASCII, 0, 32, 0, 0, 0, 0},
    {"16B-text-32", ASCII, 16, 32, 0, 0, 0, 0},
    {"16B-mixed-32", MIXED, 16, 32, 0, 0, 0, 0},
    {"16B-binary-32", BINARY, 16, 32, 0, 0, 0, 0},
    {"100B-text-32", ASCII, 100, 32, 0, 0, 0, 0},
    {"1KiB-text-32", ASCII, 1024, 32, 0, 0, 0, 0},
    {"1KiB-mixed-32", MIXED, 1024, 32, 0, 0, 0, 0},
    {"1KiB-binary-32", BINARY, 1024, 32, 0, 0, 0, 0},
    {"64KiB-text", ASCII, 65536, 1, 0, 0, 0, 0},
    {"64KiB-mixed", MIXED, 65536, 1, 0, 0, 0, 0},
    {"64KiB-binary", BINARY, 65536, 1, 0, 0, 0, 0},
    {"1MiB-text", ASCII, 1048576, 1, 0, 0, 0, 0},
    {"1MiB-mixed", MIXED, 1048576, 1, 0, 0, 0, 0},
    {"1MiB-cjk", CJK, 1048576, 1, 0, 0, 0, 0},
    {"1MiB-binary", BINARY, 1048576, 1, 0, 0, 0, 0},
    {"1MiB-text-pieces", ASCII, 1048576, 1, 65000, 0, 0, 0},
    {"1MiB-mixed-pieces", MIXED, 1048576, 1, 65000, 0, 0, 0},
    {"1MiB-binary-pieces", BINARY, 1048576, 1, 65000, 0, 0, 0},
    {"pump-16B-text-64-clients", ASCII, 16, 1, 0, 64, 0, 0},
    {"pump-1KiB-text-64-clients", ASCII, 1024, 1, 0, 64, 0, 0},
    {"pump-16B-text-32", ASCII, 16, 32, 0, 1, 0, 0},
    {"pump-ping-32", PINGS, 4, 32, 0, 1, 0, 0},
    {"pump-64KiB-binary", BINARY, 65536, 1, 0, 1, 0, 0},
    {"pump-1MiB-text", ASCII, 1048576, 1, 0, 1, 0, 0},
    {"pump-16x1KiB-text", ASCII, 1024, 16, 0, 1, 16, 0},
    {"pump-16x64KiB-binary", BINARY, 65536, 16, 0, 1, 16, 0},
    {"pump-1KiB-text-mirrored-32", ASCII, 1024, 32, 0, 1, 0, 1},
    {"pump-1KiB-text-deflated-32", ASCII, 1024, 32, 0, 1, 0, 12},
    {"pump-64KiB-text-mirrored", ASCII, 65000, 1, 0, 1, 0, 1},
    {"pump-64KiB-text-deflated", ASCII, 65536, 1, 0, 1, 0, 12},
};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

/* 32-bit xorshift: the same bytes on every machine. */
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Write the bytes of the next character, at most `room`. */
static const char *next_character(content content, uint32_t *random, size_t room)
{
    static const char *const mixed[] = {"e", "n", "i", " ", "\xC3\xA9", "\xD0\xB6", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    static const char *const cjk[] = {"\xE4\xB8\xAD", "\xE6\x96\x87", "\xE3\x81\x82", "\xED\x95\x9C"};
    static const char *const ascii[] = {"e", "n", "i", " ", "t", "a", "o", "s"};
    const char *next = content == MIXED ? mixed[next_random(random) % 8] : content == CJK ? cjk[next_random(random) % 4]
                                                                                       : ascii[next_random(random) % 8];
    return strlen(next) <= room ? next : "-";
}

static void fill(uint8_t *payload, size_t len, content content, uint32_t *random)
{
    for (size_t at = 0; at < len;) {
        if (content == BINARY) {
            payload[at++] = (uint8_t)next_random(random);
            continue;
        }
        const char *next = next_character(content, random, len - at);
        memcpy(payload + at, next, strlen(next));
        at += strlen(next);
    }
}

/* Write all of the client's frames. Returns their size. */
static size_t write_frames(uint8_t *frames, const measured *it)
{
    uint32_t random = 2463534242;
    uint8_t *end = frames;
    for (size_t frame = 0; frame < it->frames; frame++) {
        size_t place = it->fragments > 1 ? frame % it->fragments : 0;
        uint8_t fin = it->fragments < 2 || place == it->fragments - 1 ? 0x80 : 0;
        uint8_t opcode = it->content == PINGS ? 9 : it->content == BINARY ? 2 : 1;
        *end++ = (uint8_t)(fin | (place != 0 ? 0 : opcode) | (it->deflate ? 0x40 : 0));
        size_t payload = it->payload + (it->deflate ? BLOCK : 0);
        size_t size = payload < 126 ? 0 : payload < 65536 ? 2 : 8;
        *end++ = (uint8_t)(0x80 | (size == 0 ? payload : size == 2 ? 126 : 127));
        for (size_t i = size; i-- > 0;)
            *end++ = (uint8_t)((uint64_t)payload >> 8 * i);
        uint32_t key = next_random(&random);
        memcpy(end, &key, 4);
        end += 4;
        fill(end, it->payload, it->content, &random);
        if (it->deflate)
            memset(end + it->payload, 0, BLOCK);
        for (size_t i = 0; i < payload; i++)
            end[i] ^= ((uint8_t *)&key)[i % 4];
        end += payload;
    }
    return (size_t)(end - frames);
}

/* Bytes of the answers. */
static size_t answers_size(const measured *it)
{
    size_t in_one = it->fragments > 1 ? it->fragments : 1, size = it->payload * in_one + (it->deflate ? BLOCK : 0);
    return it->frames / in_one * (size + (size < 126 ? 2 : size < 65536 ? 4 : 10));
}

/* A fake takes the place of zlib, whose instructions differ between machines and are not counted. A deflated message is
   its content with BLOCK bytes behind it; the last one begins the empty block. */

typedef struct {
    const uint8_t *next_in;
    unsigned int avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned int avail_out;
    unsigned long total_out;
    void *others[5];
    int data_type;
} z_stream;

static const char *version(void)
{
    return "1";
}

static int begin_stream(void *stream)
{
    z_stream *it = stream;
    it->total_in = it->total_out = 0;
    return 0;
}

static int begin_inflater(void *stream, int bits, const char *name, int size)
{
    (void)bits, (void)name, (void)size;
    return begin_stream(stream);
}

static int begin_deflater(void *stream, int level, int method, int bits, int memory, int strategy, const char *name,
                          int size)
{
    (void)level, (void)method, (void)bits, (void)memory, (void)strategy, (void)name, (void)size;
    return begin_stream(stream);
}

static int take_window(void *stream, const uint8_t *octets, unsigned int size)
{
    (void)stream, (void)octets, (void)size;
    return 0;
}

static void copy_some(z_stream *it, size_t size)
{
    memcpy(it->next_out, it->next_in, size);
    it->next_in += size;
    it->avail_in -= (unsigned int)size;
    it->next_out += size;
    it->avail_out -= (unsigned int)size;
    it->total_out += size;
}

static int inflate_some(void *stream, int flush)
{
    (void)flush;
    z_stream *it = stream;
    if (it->avail_in > BLOCK)
        copy_some(it, it->avail_in - BLOCK < it->avail_out ? it->avail_in - BLOCK : it->avail_out);
    bool is_whole = it->avail_in <= BLOCK;
    if (is_whole) {
        it->next_in += it->avail_in - 1;
        it->avail_in = 1;
    }
    it->data_type = is_whole ? 128 : 0;
    return 0;
}

static int deflate_some(void *stream, int flush)
{
    z_stream *it = stream;
    static const uint8_t end[BLOCK + 4];
    copy_some(it, it->avail_in);
    if (flush != 0) {
        it->next_in = end;
        it->avail_in = sizeof end;
        copy_some(it, sizeof end);
    }
    return 0;
}

static void take_deflated(echod_pump *pump, echod_lease *lease, int bits)
{
    static const echod_zlib zlib = {version, begin_inflater, inflate_some, begin_stream, take_window, begin_stream,
                                    begin_deflater, deflate_some, begin_stream, begin_stream};
    static const echod_deflate_settings settings = {1, 4, 64};
    echod_terms terms = {1 << 15, bits == 1 ? 0 : bits};
    if (echod_pump_set_zlib(pump, &zlib, &settings) != 0 || echod_pump_take_deflated(pump, lease, &terms, NULL, 0) != 0)
        abort();
}

/* Send the clients' frames through the pump, and receive the answers. */
static void run_pump(const measured *it, const uint8_t *octets, size_t len)
{
    static uint8_t received[1 << 16];
    int pairs[MOST_CLIENTS][2], size = SOCKET_BUFFER;
    size_t sent[MOST_CLIENTS] = {0}, left = it->clients * answers_size(it);
    echod_pump *pump = echod_pump_new(1 << 24, 64);
    echod_lease *leases[MOST_CLIENTS];
    for (uint32_t i = 0; i < it->clients; i++) {
        if (!pump || socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]) != 0)
            abort();
        for (int end = 0; end < 2; end++)
            setsockopt(pairs[i][end], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        if ((leases[i] = echod_pump_lend(pump, pairs[i][1], i)) == NULL)
            abort();
        if (it->deflate)
            take_deflated(pump, leases[i], it->deflate);
    }
    while (left > 0) {
        ssize_t n;
        for (size_t i = 0; i < it->clients; i++)
            if ((n = send(pairs[i][0], octets + sent[i], len - sent[i], MSG_DONTWAIT)) > 0)
                sent[i] += (size_t)n;
        if (echod_pump_turn(pump, UINT64_C(1) << 40) != NULL)
            abort();
        for (size_t i = 0; i < it->clients; i++)
            while ((n = recv(pairs[i][0], received, sizeof received, MSG_DONTWAIT)) > 0) {
                if ((size_t)n > left)
                    abort();
                left -= (size_t)n;
            }
    }
    for (size_t i = 0; i < it->clients; i++) {
        echod_pump_recall(pump, leases[i]);
        echod_lease_free(leases[i]);
        close(pairs[i][0]);
        close(pairs[i][1]);
    }
    echod_pump_free(pump);
}

/* Run a case once, and check that everything is echoed. */
static void run(const measured *it, uint8_t *octets, size_t len)
{
    if (it->clients != 0) {
        run_pump(it, octets, len);
        return;
    }
    static echod_sums sums;
    if (it->pieces == 0) {
        if (echod_codec_echo(octets, len, 1 << 24, &sums).consumed != len)
            abort();
        return;
    }
    echod_large large;
    size_t at = echod_large_begin(&large, octets, len, 1 << 24);
    echod_large_state state = ECHOD_LARGE_OPEN;
    while (state == ECHOD_LARGE_OPEN && at < len) {
        size_t piece = len - at < it->pieces ? len - at : it->pieces;
        state = echod_large_feed(&large, octets + at, octets + at, piece);
        at += piece;
    }
    if (state != ECHOD_LARGE_COMPLETE)
        abort();
}

/* Replaces the C library's function: for the codec and the pump no time passes. Otherwise the pump would put work off
   under callgrind, where everything takes fifty times as long. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    (void)clock;
    *time = (struct timespec){0};
    return 0;
}

static double now(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds of each round: a copy of the input and, with `codec`, a run. The codec's own time is the difference. */
static double seconds_per_round(const measured *it, uint8_t *octets, const uint8_t *frames, size_t len, double seconds,
                                int codec)
{
    size_t rounds = 0, batch = 1 + 1000000 / (len + 100);
    double begin = now(), end;
    do {
        for (size_t i = 0; i < batch; i++) {
            memcpy(octets, frames, len);
            __asm__ volatile("" : : "r"(octets) : "memory"); /* the compiler would remove a copy that nothing reads */
            if (codec)
                run(it, octets, len);
        }
        rounds += batch;
        end = now();
    } while (end - begin < seconds);
    return (end - begin) / (double)rounds;
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        for (size_t i = 0; i < CASE_COUNT; i++) {
            size_t frames = CASES[i].frames * (CASES[i].clients != 0 ? CASES[i].clients : 1);
            size_t in_one = CASES[i].fragments > 1 ? CASES[i].fragments : 1;
            printf("%s %zu %zu\n", CASES[i].name, frames / in_one, frames * CASES[i].payload);
        }
        return 0;
    }
    const measured *it = NULL;
    for (size_t i = 0; argc >= 3 && i < CASE_COUNT; i++)
        if (strcmp(CASES[i].name, argv[2]) == 0)
            it = &CASES[i];
    if (argc > 3 && it && it->clients != 0)
        it = NULL;
    if (!it || echod_codec_set_isa(argv[1]) != 0) {
        fprintf(stderr, "measure: no such case, or no such kernel on this processor\n");
        return 2;
    }
    uint8_t *frames = malloc(it->frames * (it->payload + 14 + BLOCK) + 1);
    if (!frames)
        return 1;
    size_t len = write_frames(frames, it);
    uint8_t *octets = malloc(len);
    if (!octets)
        return 1;
    memcpy(octets, frames, len);
    if (argc == 3) {
        run(it, octets, len);
    } else {
        double seconds = strtod(argv[3], NULL);
        double all = seconds_per_round(it, octets, frames, len, seconds, 1);
        double copy = seconds_per_round(it, octets, frames, len, seconds, 0);
        printf("%-8s %-20s %10.1f ns/message %7.2f GB/s\n", argv[1], it->name, (all - copy) / (double)it->frames * 1e9,
               (double)(it->frames * it->payload) / (all - copy) * 1e-9);
    }
    free(octets);
    free(frames);
    return 0;
}
