/*
 * Brings leases into each state in which they hold memory, and prints what their accounts and the allocator say of it:
 *
 *     state  held by the leases' accounts  spare in the pool  at rest  allocated
 *
 * `at rest` is what pump and lease take without a message: their structures, the window, and zlib's side of the pump.
 *
 * Knows the pump's files, which are compiled in, so that it can count their allocations and stop their clock. Must
 * never know what is right: test_account.py judges the figures.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static size_t allocated;

static void *counted(void *octets)
{
    if (!octets)
        abort();
    allocated += malloc_usable_size(octets);
    return octets;
}

static void *counted_malloc(size_t size)
{
    return counted(malloc(size));
}

static void *counted_calloc(size_t count, size_t size)
{
    return counted(calloc(count, size));
}

static void *counted_realloc(void *octets, size_t size)
{
    allocated -= octets ? malloc_usable_size(octets) : 0;
    return counted(realloc(octets, size));
}

static void counted_free(void *octets)
{
    allocated -= octets ? malloc_usable_size(octets) : 0;
    free(octets);
}

#define malloc counted_malloc
#define calloc counted_calloc
#define realloc counted_realloc
#define free counted_free
#include "buffer_pool.c"
#include "deflate.c"
#include "lease.c"
#include "mixed_read.c"
#include "partial.c"
#include "pump.c"
#include "send.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

/* Nanoseconds that pass between two looks at the clock. */
static uint64_t step_ns;

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static uint64_t now;
    (void)clock;
    now += step_ns;
    *time = (struct timespec){.tv_sec = (time_t)(now / 1000000000), .tv_nsec = (long)(now % 1000000000)};
    return 0;
}

extern const char *zlibVersion(void);
extern int inflateInit2_(void *, int, const char *, int), inflate(void *, int);
extern int inflateReset(void *), inflateEnd(void *);
extern int inflateSetDictionary(void *, const uint8_t *, unsigned int);
extern int deflateInit2_(void *, int, int, int, int, int, const char *, int);
extern int deflate(void *, int), deflateReset(void *), deflateEnd(void *);

static echod_pump *pump;
static echod_lease *lease;
static int client, served;

static void begin(int takes_deflated)
{
    static const echod_zlib zlib = {zlibVersion,  inflateInit2_, inflate,      inflateReset, inflateSetDictionary,
                                    inflateEnd,   deflateInit2_, deflate,      deflateReset, deflateEnd};
    static const echod_deflate_settings settings = {1, 4, 64};
    static const echod_terms terms = {WINDOW_SIZE, 0};
    static const uint8_t window[1000];
    int pair[2], small = 4608;
    pump = echod_pump_new(1 << 24, 16);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || !pump || echod_pump_set_zlib(pump, &zlib, &settings) != 0)
        abort();
    client = pair[0], served = pair[1];
    setsockopt(served, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    lease = echod_pump_lend(pump, served, 0);
    if (!lease || (takes_deflated && echod_pump_take_deflated(pump, lease, &terms, window, sizeof window) != 0))
        abort();
}

static void end(void)
{
    echod_pump_recall(pump, lease);
    echod_lease_free(lease);
    echod_pump_free(pump);
    close(client);
    close(served);
    if (allocated)
        abort();
}

/* Send the beginning of a frame with this first byte, masked with zeros: its header, and `sent` bytes of a payload of
   `said`. */
static void send_frame(uint8_t first, size_t said, const uint8_t *payload, size_t sent)
{
    static uint8_t frame[1 << 20];
    uint8_t *at = frame;
    size_t longer = said < 126 ? 0 : said < 65536 ? 2 : 8;
    *at++ = first;
    *at++ = (uint8_t)(0x80 | (longer == 0 ? said : longer == 2 ? 126 : 127));
    for (size_t i = longer; i-- > 0;)
        *at++ = (uint8_t)((uint64_t)said >> 8 * i);
    memset(at, 0, 4);
    memcpy(at + 4, payload, sent);
    at += 4 + sent;
    for (uint8_t *from = frame; from < at;) {
        ssize_t n = send(client, from, (size_t)(at - from), MSG_DONTWAIT);
        if (n > 0)
            from += n;
        else if (echod_pump_turn(pump, 0))
            abort();
    }
}

static void turn(void)
{
    if (echod_pump_turn(pump, UINT64_C(1) << 40))
        abort();
}

static void receive_all(void)
{
    static uint8_t received[1 << 16];
    while (recv(client, received, sizeof received, MSG_DONTWAIT) > 0)
        turn();
}

static void show(const char *state)
{
    const lease_t *it = (const lease_t *)lease;
    size_t at_rest = malloc_usable_size(pump) + malloc_usable_size(lease) + malloc_usable_size(pump->deflate);
    if (it->window)
        at_rest += malloc_usable_size(it->window) + malloc_usable_size(it->window->octets);
    printf("%s %zu %zu %zu %zu\n", state, echod_pump_held(pump), echod_pump_spare(pump), at_rest, allocated);
}

enum { BINARY = 0x82, FIRST = 0x02, CONTINUED = 0x00, PING = 0x89, DEFLATED = 0xC2 };

int main(void)
{
    static uint8_t zeros[1 << 19];
    /* A stored block of one byte, without its tail. */
    static const uint8_t stored[] = {0x00, 0x01, 0x00, 0xFE, 0xFF, 'x', 0x00};
    begin(0);
    show("idle");
    send_frame(BINARY, 3000, zeros, 1);
    turn();
    show("partial-small");
    end();

    begin(0);
    send_frame(BINARY, 20000, zeros, 100);
    turn();
    show("partial-large");
    end();

    begin(0);
    send_frame(FIRST, 300, zeros, 300);
    send_frame(CONTINUED, 30000, zeros, 10000);
    turn();
    show("gathered");
    end();

    begin(0);
    send_frame(PING, 125, zeros, 100);
    turn();
    show("partial-ping");
    end();

    begin(0);
    send_frame(FIRST, 300, zeros, 300);
    send_frame(PING, 125, zeros, 100);
    turn();
    show("gathered-ping");
    end();

    begin(1);
    show("window");
    send_frame(DEFLATED, sizeof stored, stored, sizeof stored);
    turn();
    receive_all();
    show("deflated-over");
    send_frame(DEFLATED, 5000, zeros, 2000);
    turn();
    show("deflated");
    end();

    begin(1);
    step_ns = 1000000; /* more than a lease's share of a turn */
    for (int i = 0; i < 3; i++)
        send_frame(DEFLATED, sizeof stored, stored, sizeof stored);
    if (echod_pump_turn(pump, 0) || ((lease_t *)lease)->state != PUT_OFF)
        abort();
    show("put-off");
    step_ns = 0;
    turn();
    receive_all();
    show("put-off-over");
    end();

    begin(0);
    while (!lease->unsent_size) {
        send_frame(BINARY, 1000, zeros, 1000);
        turn();
    }
    show("unsent");
    receive_all();
    show("unsent-over");
    end();

    begin(0);
    while (!lease->unsent_size) {
        send_frame(BINARY, 1000, zeros, 1000);
        turn();
    }
    if (echod_pump_ping(pump, lease) || !((lease_t *)lease)->later)
        abort();
    show("unsent-ping");
    end();

    begin(0);
    send_frame(FIRST, 60000, zeros, 60000);
    while (lease->held < 60000)
        turn();
    send_frame(CONTINUED | 0x80, 10, zeros, 10);
    for (int i = 0; i < 5; i++) {
        send_frame(FIRST, 3000, zeros, 3000);
        send_frame(CONTINUED | 0x80, 3000, zeros, 3000);
    }
    turn();
    if (!((lease_t *)lease)->later)
        abort();
    show("unsent-later");
    receive_all();
    show("unsent-later-over");
    end();

    begin(0);
    send_frame(BINARY, 300000, zeros, 300000);
    turn();
    receive_all();
    show("spare");
    send_frame(BINARY, 300000, zeros, 10);
    turn();
    show("spare-taken");
    end();
    return 0;
}
