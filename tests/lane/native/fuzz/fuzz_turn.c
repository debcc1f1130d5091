/*
 * How long the pump serves one lease. The input is terms (1 byte) and bytes that a client repeats until it has sent 160
 * KiB (some reads of the pump), or until its lease has ended. In each turn the pump serves this one lease. Other
 * targets compare the answers.
 */
#define _GNU_SOURCE
#include "oracle.h"

#include <sys/socket.h>
#include <unistd.h>

#include "cpu.h"
#include "pump.h"

extern const char *zlibVersion(void);
extern int inflateInit2_(void *, int, const char *, int), inflate(void *, int);
extern int inflateReset(void *), inflateEnd(void *);
extern int inflateSetDictionary(void *, const uint8_t *, unsigned int);
extern int deflateInit2_(void *, int, int, int, int, int, const char *, int);
extern int deflate(void *, int), deflateReset(void *), deflateEnd(void *);

enum { WINDOW = 1 << 15, SENT = 160 * 1024, IDLE = 4 };

static void take_turn(echod_pump *pump, echod_lease **lease)
{
    uint64_t began = cpu_ns();
    echod_lease *ended = echod_pump_turn(pump, 0);
    CHECK(cpu_ns() - began < MOST_TIME);
    if (ended) {
        CHECK(ended == *lease && !ended->next);
        echod_lease_free(ended);
        *lease = NULL;
    }
}

/* Send what the kernel takes. Returns the number of bytes. */
static size_t send_some(int client, const uint8_t *octets, size_t size, size_t sent)
{
    ssize_t n = send(client, octets + sent % size, size - sent % size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n > 0 ? (size_t)n : 0;
}

static void receive_all(int client)
{
    static uint8_t received[1 << 16];
    while (recv(client, received, sizeof received, MSG_DONTWAIT) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    static const uint8_t window[WINDOW] = {1};
    echod_zlib zlib = {zlibVersion, inflateInit2_, inflate, inflateReset, inflateSetDictionary, inflateEnd,
                       deflateInit2_, deflate, deflateReset, deflateEnd};
    echod_deflate_settings settings = {1, 4, 64};
    echod_terms terms = {data[0] & 1 ? WINDOW : 0, data[0] & 2 ? 12 : 0};
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    echod_pump *pump = echod_pump_new(1 << 24, 1 << 17);
    CHECK(pump && echod_pump_set_zlib(pump, &zlib, &settings) == 0);
    echod_lease *lease = echod_pump_lend(pump, pair[1], 0);
    CHECK(lease && echod_pump_take_deflated(pump, lease, &terms, window, terms.window_size) == 0);
    size_t sent = 0;
    for (int idle = 0; lease && idle < IDLE; idle++) {
        size_t before = sent;
        uint64_t messages = lease->messages;
        size_t some;
        while (sent < SENT && (some = send_some(pair[0], data + 1, size - 1, sent)) != 0)
            sent += some;
        take_turn(pump, &lease);
        receive_all(pair[0]);
        if (sent != before || (lease && lease->messages != messages))
            idle = 0;
    }
    if (lease) {
        echod_pump_recall(pump, lease);
        echod_lease_free(lease);
    }
    echod_pump_free(pump);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
