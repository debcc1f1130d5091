/*
 * The pump's turn: what is ready is received, opened where there is TLS, and echoed. And what pump.h offers.
 *
 * Knows epoll, and how a socket is read. Must never know what is in a frame that the codec leaves: cut.h and serve.h take those on, send.h
 * the answers, and lease.h what a lease keeps until its end. All of these are for Linux; pump_none.c is for others.
 */
#define _GNU_SOURCE
#include "pump.h"

#ifdef __linux__

#include <errno.h>
#include <unistd.h>

#include "clock.h"
#include "cut.h"
#include "lease.h"
#include "send.h"
#include "serve.h"

enum {
    READ_SIZE = 64 * 1024, /* of one receive into the shared buffer: what Twisted reads, too */
};

/* What most messages don't need is called, so that what they need stays together. */
#define SELDOM static __attribute__((noinline))

/* Echo what is in the shared buffer's first `size` octets. False: the lease has ended. */
FOR_EACH bool echo(echod_pump *pump, lease_t *lease, size_t size)
{
    echod_echoed echoed = echod_codec_echo(pump->buffer, size, pump->max_message_size, &pump->sums);
    lease->public.messages += echoed.messages;
    lease->public.octets += echoed.octets;
    if (echoed.stop == ECHOD_STOP_NOT_ORDINARY || echoed.stop == ECHOD_STOP_TOO_LARGE)
        return echod_serve(pump, lease, echoed.produced, echoed.consumed, size);
    if (!answer(lease, pump->buffer, echoed.produced)) {
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
        return false;
    }
    if (echoed.stop == ECHOD_STOP_BOUNDARY)
        return true;
    return echod_cut_keep(pump, lease, pump->buffer + echoed.consumed, size - echoed.consumed, echoed.need);
}

/* Whether these octets, at a frame's begin, are the owner's to judge. */
static bool is_odd(const echod_pump *pump, const lease_t *lease, uint8_t *octets, size_t size)
{
    echod_sums not_counted = {0};
    if (lease->message)
        return (octets[0] & (uint8_t)~FIN) != 0;
    echod_echoed echoed = echod_codec_echo(octets, size, pump->max_message_size, &not_counted);
    if (echoed.stop == ECHOD_STOP_NOT_ORDINARY) /* what comes before it has been overwritten */
        return !echod_gather_is_first(octets[echoed.consumed], lease->window != NULL);
    return echoed.stop == ECHOD_STOP_TOO_LARGE;
}

/* Whether a frame is to begin, and none that is ours, or over TLS something else. */
SELDOM bool is_odd_next(echod_pump *pump, lease_t *lease)
{
    if (lease->partial_size || (lease->message && !(lease->is_gathered && !gather_of(lease)->header_size)))
        return false;
    uint8_t begin[CLIENT_HEADER];
    ssize_t n = lease->tls ? (ssize_t)echod_tls_peek(lease->tls, begin, sizeof begin)
                           : recv(lease->public.fd, begin, sizeof begin, MSG_PEEK | MSG_DONTWAIT);
    return (n > 0 && is_odd(pump, lease, begin, (size_t)n)) || (lease->tls && lease->tls->is_odd);
}

/* Of a message that has a buffer: a large frame's octets go there, those that are gathered through the shared one. */
SELDOM uint8_t *target_of_message(echod_pump *pump, lease_t *lease, size_t *room)
{
    if (lease->is_gathered) {
        *room = pump->is_tight ? KEEP_SIZE : lease->read_size;
        return pump->buffer;
    }
    uint64_t missing = lease->large.length - lease->large.done;
    size_t most = piece_size(pump);
    *room = missing < most ? (size_t)missing : most;
    return lease->message + ECHOD_LARGE_ROOM + lease->large.done;
}

/* Where the next octets of the client's belong, and how many at most. */
FOR_EACH uint8_t *target_of(echod_pump *pump, lease_t *lease, size_t *room)
{
    if (lease->message)
        return target_of_message(pump, lease, room);
    /* When it is tight, what is read ends up with the owner if it is not whole: a large piece for each would be too much. */
    *room = pump->is_tight ? KEEP_SIZE : lease->read_size;
    return pump->buffer + lease->partial_size;
}

/* Take octets that are where target_of said. False: the lease has ended. */
FOR_EACH bool take(echod_pump *pump, lease_t *lease, size_t size)
{
    if (lease->message)
        return lease->is_gathered ? echod_serve(pump, lease, 0, 0, size) : echod_cut_feed(pump, lease, NULL, size);
    size_t kept = lease->partial_size;
    if (kept) {
        memcpy(pump->buffer, lease->partial, kept);
        drop_partial(lease);
    }
    return echo(pump, lease, kept + size);
}

static void watch(echod_pump *pump, lease_t *lease, bool is_writing)
{
    if (lease->is_writing == is_writing)
        return;
    struct epoll_event event = {.events = is_writing ? EPOLLOUT : EPOLLIN, .data.ptr = lease};
    epoll_ctl(pump->epoll, EPOLL_CTL_MOD, lease->public.fd, &event);
    lease->is_writing = is_writing;
}

/* Whether a lease that has been served is to be read on: nothing of its last read is put off, and no answers wait. */
FOR_EACH bool is_free(lease_t *lease)
{
    return !lease->is_put_off && try_to_flush(lease);
}

/* What remains to be done for a lease that has been served and goes on. */
FOR_EACH void settle(echod_pump *pump, lease_t *lease, bool is_blocked)
{
    if (is_blocked) {
        if (pump->is_tight) {
            echod_lease_end_in_turn(pump, lease, ECHOD_END_BLOCKED, NULL, 0);
            return;
        }
        /* Who doesn't take its answers isn't read, but for what the owner is to judge: a close has its deadline also where nobody reads. */
        if (is_odd_next(pump, lease)) {
            ssize_t n = lease->tls ? 0 : recv(lease->public.fd, pump->buffer, READ_SIZE, MSG_DONTWAIT);
            echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, pump->buffer, n > 0 ? (size_t)n : 0);
            return;
        }
    }
    watch(pump, lease, is_blocked);
    set_held(pump, lease);
}

/* Serve what a TLS session has, or gets from what was received for it. */
SELDOM void open_some(echod_pump *pump, lease_t *lease)
{
    size_t room, opened;
    bool is_blocked;
    do {
        uint8_t *target = target_of(pump, lease, &room);
        opened = echod_tls_open(lease->tls, &pump->sealed, target, room);
        if (opened && !take(pump, lease, opened))
            return;
        is_blocked = !is_free(lease);
    } while (opened == room && !is_blocked);
    if (lease->tls->is_odd)
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, NULL, 0);
    else if (pump->sealed.size && !(is_blocked && echod_tls_keep(lease->tls, &pump->sealed)))
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
    else
        settle(pump, lease, is_blocked);
}

/* Octets received, or 0: there are none, and the lease may have ended. */
FOR_EACH size_t receive(echod_pump *pump, lease_t *lease, uint8_t *target, size_t room)
{
    ssize_t n = recv(lease->public.fd, target, room, MSG_DONTWAIT);
    if (n > 0) {
        lease->public.reads++;
        return (size_t)n;
    }
    if (!n || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        echod_lease_end_in_turn(pump, lease, ECHOD_END_CLOSED, NULL, 0);
    return 0;
}

static void read_sealed(echod_pump *pump, lease_t *lease)
{
    size_t room = pump->is_tight && !lease->message ? KEEP_SIZE : lease->read_size;
    size_t size = receive(pump, lease, pump->received, room);
    if (size) {
        pump->sealed = (echod_sealed){pump->received, size};
        open_some(pump, lease);
    }
}

static void read_some(echod_pump *pump, lease_t *lease)
{
    size_t room;
    uint8_t *target = target_of(pump, lease, &room);
    size_t size = receive(pump, lease, target, room);
    if (size && take(pump, lease, size))
        settle(pump, lease, !is_free(lease));
}

/* Go on with what was put off; false: the lease has ended. */
static bool take_put_off(echod_pump *pump, lease_t *lease)
{
    lease->is_put_off = false;
    return take(pump, lease, 0);
}

/* Serve a lease whose answers wait, or what was put off, as the kernel takes some again. */
static void flush(echod_pump *pump, lease_t *lease)
{
    size_t before = echod_send_waiting(lease);
    echod_send_unsent(pump, lease);
    size_t left = echod_send_waiting(lease);
    if (!left) {
        if (lease->is_put_off && !take_put_off(pump, lease))
            return;
        bool is_blocked = !is_free(lease);
        if (lease->tls && !is_blocked)
            open_some(pump, lease); /* no event tells of what the session has already */
        else
            settle(pump, lease, is_blocked);
    } else if (left >= before || pump->is_tight) {
        /* Ready and takes nothing: an error that the owner is to meet. */
        echod_lease_end_in_turn(pump, lease, pump->is_tight ? ECHOD_END_BLOCKED : ECHOD_END_CLOSED, NULL, 0);
    } else {
        set_held(pump, lease);
    }
}

/* The public part. */

echod_pump *echod_pump_new(uint64_t max_message_size, uint32_t max_fragments)
{
    echod_pump *pump = calloc(1, sizeof *pump);
    if (!pump)
        return NULL;
    pump->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (pump->epoll < 0) {
        free(pump);
        return NULL;
    }
    pump->max_message_size = max_message_size < LARGEST_MESSAGE ? max_message_size : LARGEST_MESSAGE;
    pump->max_fragments = max_fragments;
    return pump;
}

void echod_pump_free(echod_pump *pump)
{
    echod_pump_trim(pump);
    if (pump->deflate)
        echod_deflate_free(pump->deflate);
    close(pump->epoll);
    free(pump);
}

int echod_pump_fd(const echod_pump *pump)
{
    return pump->epoll;
}

echod_lease *echod_pump_lend(echod_pump *pump, int fd, uint32_t slot)
{
    lease_t *lease = calloc(1, sizeof *lease);
    if (!lease)
        return NULL;
    lease->public.fd = fd;
    lease->public.slot = slot;
    lease->read_size = READ_SIZE;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = lease};
    if (epoll_ctl(pump->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(lease);
        return NULL;
    }
    return &lease->public;
}

echod_lease *echod_pump_lend_tls(echod_pump *pump, int fd, uint32_t slot, void *ssl, void *in, void *out)
{
    const uint8_t *octets;
    echod_tls *tls = malloc(sizeof *tls);
    if (!tls)
        return NULL;
    *tls = (echod_tls){.openssl = &pump->openssl, .ssl = ssl, .in = in, .out = out};
    tls->most_in = echod_tls_unopened(tls);
    lease_t *lease = echod_tls_unsent(tls, &octets) ? NULL : (lease_t *)echod_pump_lend(pump, fd, slot);
    if (!lease) {
        free(tls);
        return NULL;
    }
    lease->tls = tls;
    lease->read_size = SEALED_SIZE;
    return &lease->public;
}

int echod_pump_set_zlib(echod_pump *pump, const echod_zlib *zlib, const echod_deflate_settings *settings)
{
    pump->deflate = echod_deflate_new(zlib, settings);
    return pump->deflate ? 0 : -1;
}

int echod_pump_take_deflated(echod_pump *pump, echod_lease *public, const echod_terms *terms, const uint8_t *window, size_t size)
{
    lease_t *lease = (lease_t *)public;
    lease->window = calloc(1, sizeof *lease->window);
    if (!lease->window || !echod_window_begin(lease->window, pump->deflate, terms, window, size))
        return -1;
    return 0;
}

void echod_pump_set_openssl(echod_pump *pump, const echod_openssl *openssl)
{
    pump->openssl = *openssl;
}

echod_lease *echod_pump_turn(echod_pump *pump, uint64_t budget_ns)
{
    uint64_t now = now_ns(), deadline = now + budget_ns;
    pump->ended = pump->grown = NULL;
    do {
        if (pump->served == pump->count) {
            pump->served = 0;
            pump->count = epoll_wait(pump->epoll, pump->events, BATCH, 0);
            if (pump->count <= 0) {
                pump->count = 0;
                break;
            }
        }
        lease_t *lease = pump->events[pump->served++].data.ptr;
        if (!lease)
            continue; /* it ended since the event was fetched */
        pump->share_end = now + SHARE;
        if (lease->is_writing)
            flush(pump, lease);
        else if (lease->tls)
            read_sealed(pump, lease);
        else
            read_some(pump, lease);
    } while ((now = now_ns()) < deadline);
    return pump->ended;
}

void echod_pump_recall(echod_pump *pump, echod_lease *lease)
{
    echod_lease_end(pump, (lease_t *)lease, ECHOD_END_RECALLED, NULL, 0);
}

echod_lease *echod_pump_grown(const echod_pump *pump)
{
    return pump->grown;
}

size_t echod_pump_held(const echod_pump *pump)
{
    return pump->held;
}

const echod_sums *echod_pump_sums(const echod_pump *pump)
{
    return &pump->sums;
}

void echod_pump_set_tight(echod_pump *pump, int is_tight)
{
    pump->is_tight = is_tight != 0;
    if (is_tight)
        echod_pump_trim(pump);
}

size_t echod_pump_spare(const echod_pump *pump)
{
    return pump->spares.size;
}

void echod_pump_trim(echod_pump *pump)
{
    echod_spares_trim(&pump->spares);
}

#endif
