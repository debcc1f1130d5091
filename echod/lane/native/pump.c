/*
 * The pump's turn: what is ready is received, opened if there is TLS, and echoed. And the functions of pump.h.
 *
 * Knows epoll, and how a socket is read. Must never know what is in a frame that the codec leaves. partial.h and
 * mixed_read.h take those on, send.h takes the answers, and lease.h has what a lease keeps until its end. All of these
 * are for Linux; pump_none.c is for other systems.
 */
#define _GNU_SOURCE
#include "pump.h"

#ifdef __linux__

#include <errno.h>
#include <unistd.h>

#include "clock.h"
#include "control.h"
#include "door.h"
#include "lease.h"
#include "mixed_read.h"
#include "partial.h"
#include "send.h"

/* Nanoseconds of a turn for one lease. What it has no time for is put off, so that the others get their turn. */
enum { SHARE = 250 * 1000 };

/* Code that most messages do not need is not inlined, so that the code that they need stays together. */
#define SELDOM static __attribute__((noinline))

/* Serving bytes that were read. */

/* Echo the first `size` bytes of the shared buffer. CONTINUE, PUT_OFF or ENDED. */
FOR_EACH outcome echo(echod_pump *pump, lease_t *lease, size_t size)
{
    echod_echoed echoed = echod_codec_echo(pump->buffer, size, pump->max_message_size, &pump->sums);
    lease->public.messages += echoed.messages;
    lease->public.octets += echoed.octets;
    if (echoed.stop == ECHOD_STOP_NOT_ORDINARY || echoed.stop == ECHOD_STOP_TOO_LARGE)
        return echod_serve_mixed(pump, lease, echoed.produced, echoed.consumed, size);
    if (!answer(lease, pump->buffer, echoed.produced))
        return echod_lease_end_without_memory(pump, lease);
    if (echoed.stop == ECHOD_STOP_BOUNDARY)
        return CONTINUE;
    return echod_partial_keep(pump, lease, pump->buffer + echoed.consumed, size - echoed.consumed, echoed.need);
}

/* Where the next bytes of a message that has a buffer belong. Those of a large frame go there, those of a gathered
   message go through the shared buffer. */
SELDOM uint8_t *target_of_message(echod_pump *pump, lease_t *lease, size_t *room)
{
    if (lease->is_gathered) {
        *room = pump->is_tight ? TIGHT_READ_SIZE : lease->read_size;
        return pump->buffer + lease->partial_size;
    }
    uint64_t missing = lease->large.length - lease->large.done;
    size_t most = piece_size(pump);
    *room = missing < most ? (size_t)missing : most;
    return lease->message + ECHOD_LARGE_ROOM + lease->large.done;
}

/* Where the client's next bytes belong, and how many at most. */
FOR_EACH uint8_t *target_of(echod_pump *pump, lease_t *lease, size_t *room)
{
    if (lease->message)
        return target_of_message(pump, lease, room);
    assert(lease->partial_size <= KEEP_SIZE);
    /* While the pump is tight, an incomplete message goes to the owner: a large piece for each lease would be too
       much. */
    *room = pump->is_tight ? TIGHT_READ_SIZE : lease->read_size;
    return pump->buffer + lease->partial_size;
}

/* Put what was kept in front of `size` bytes that are behind its place in the shared buffer. Returns the size of both. */
FOR_EACH size_t put_kept(echod_pump *pump, lease_t *lease, size_t size)
{
    size_t kept = lease->partial_size;
    assert(kept + size <= SHARED_SIZE);
    if (kept) {
        memcpy(pump->buffer, lease->partial, kept);
        drop_partial(lease);
    }
    return kept + size;
}

/* Serve the next `size` bytes of a message that has a buffer. CONTINUE, PUT_OFF or ENDED. */
SELDOM outcome take_for_message(echod_pump *pump, lease_t *lease, size_t size)
{
    return lease->is_gathered ? echod_serve_mixed(pump, lease, 0, 0, put_kept(pump, lease, size))
                              : echod_partial_feed(pump, lease, NULL, size);
}

/* Serve `size` bytes that are where target_of said. CONTINUE, PUT_OFF or ENDED. */
FOR_EACH outcome take(echod_pump *pump, lease_t *lease, size_t size)
{
    return lease->message ? take_for_message(pump, lease, size) : echo(pump, lease, put_kept(pump, lease, size));
}

/* A client that does not take its answers. */

/* Whether the owner has to judge these bytes at the beginning of a frame. */
static bool is_odd(const echod_pump *pump, const lease_t *lease, uint8_t *octets, size_t size)
{
    echod_sums not_counted = {0};
    if (lease->message)
        return (octets[0] & (uint8_t)~FIN) != 0 && (is_within_deflated(lease) || !echod_control_begins(octets, size));
    echod_echoed echoed = echod_codec_echo(octets, size, pump->max_message_size, &not_counted);
    const uint8_t *next = octets + echoed.consumed; /* what comes before it has been overwritten */
    if (echoed.stop == ECHOD_STOP_NOT_ORDINARY)
        return !echod_gather_is_first(*next, lease->window != NULL) &&
               !echod_control_begins(next, size - echoed.consumed);
    return echoed.stop == ECHOD_STOP_TOO_LARGE;
}

/* Whether the owner has to judge what comes next: a frame, or anything in a TLS session that is not payload. */
static bool is_odd_next(echod_pump *pump, lease_t *lease)
{
    bool is_within_frame = lease->message && !(lease->is_gathered && !echod_gather_is_within_frame(gather_of(lease)));
    if (lease->partial_size || is_within_frame)
        return false;
    uint8_t begin[CLIENT_HEADER];
    ssize_t n = lease->tls ? (ssize_t)echod_tls_peek(lease->tls, begin, sizeof begin)
                           : recv(lease->public.fd, begin, sizeof begin, MSG_PEEK | MSG_DONTWAIT);
    return (n > 0 && is_odd(pump, lease, begin, (size_t)n)) || (lease->tls && lease->tls->is_odd);
}

/* Leave to the owner what comes next. */
static outcome leave_odd(echod_pump *pump, lease_t *lease)
{
    ssize_t n = lease->tls ? 0 : recv(lease->public.fd, pump->buffer, READ_SIZE, MSG_DONTWAIT);
    size_t size = n > 0 ? (size_t)n : 0;
    return echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, pump->buffer, size);
}

/* Decide whether a lease may wait in this state, BLOCKED or PUT_OFF. Returns the state, or ENDED. */
SELDOM outcome wait_or_end(echod_pump *pump, lease_t *lease, outcome state)
{
    if (pump->is_tight)
        return echod_lease_end_in_turn(pump, lease, ECHOD_END_BLOCKED, NULL, 0);
    /* A client that does not take its answers is not read, except for what the owner has to judge: the deadline of a
       close also holds if nobody reads. */
    return is_odd_next(pump, lease) ? leave_odd(pump, lease) : state;
}

/* The end of a service. */

/* Change the state of a lease that goes on, here and nowhere else. Its socket is watched for what the lease waits for:
   bytes from the client, or room in the kernel for answers. A lease with a read that was put off has its next turn as
   soon as there is room for answers. An event that was fetched before is forgotten: what it says was true in the state
   before. A ping of the owner's, for one, may since have taken the room. */
SELDOM void change_state(echod_pump *pump, lease_t *lease, outcome state)
{
    assert(lease->state != ENDED && state != ENDED);
    if ((lease->state == CONTINUE) != (state == CONTINUE)) {
        struct epoll_event event = {.events = state == CONTINUE ? EPOLLIN : EPOLLOUT, .data.ptr = lease};
        epoll_ctl(pump->epoll, EPOLL_CTL_MOD, lease->public.fd, &event);
    }
    echod_pump_forget_events(pump, lease);
    lease->state = state;
}

/* Conclude the service of a lease: change its state, and bring its account up to date. */
FOR_EACH void settle(echod_pump *pump, lease_t *lease, outcome state)
{
    if (state == BLOCKED || state == PUT_OFF)
        state = wait_or_end(pump, lease, state);
    if (state == ENDED)
        return;
    if (state != lease->state)
        change_state(pump, lease, state);
    set_held(pump, lease);
}

/* Send what still waits after a lease was served, if it goes on. */
FOR_EACH outcome flush_after(lease_t *lease, outcome served)
{
    return served == CONTINUE ? flush(lease) : served;
}

/* Reading. */

/* Receive. Returns the number of bytes, or 0: there are none, and the lease may have ended. */
FOR_EACH size_t receive(echod_pump *pump, lease_t *lease, uint8_t *target, size_t room)
{
    ssize_t n = recv(lease->public.fd, target, room, MSG_DONTWAIT);
    if (n > 0) {
        lease->public.reads++;
        lease->public.read_at = pump->now;
        return (size_t)n;
    }
    if (!n || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        echod_lease_end_in_turn(pump, lease, ECHOD_END_CLOSED, NULL, 0);
    return 0;
}

static void read_some(echod_pump *pump, lease_t *lease)
{
    size_t room;
    uint8_t *target = target_of(pump, lease, &room);
    size_t size = receive(pump, lease, target, room);
    if (size)
        settle(pump, lease, flush_after(lease, take(pump, lease, size)));
}

/* Serve what a TLS session has, or gets out of the records that were received for it. */
SELDOM void open_some(echod_pump *pump, lease_t *lease)
{
    size_t room, opened;
    outcome what = CONTINUE;
    do {
        uint8_t *target = target_of(pump, lease, &room);
        opened = echod_tls_open(lease->tls, &pump->sealed, target, room);
        what = flush_after(lease, opened ? take(pump, lease, opened) : CONTINUE);
    } while (opened == room && what == CONTINUE);
    if (what == ENDED)
        return;
    if (lease->tls->is_odd)
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, NULL, 0);
    else if (pump->sealed.size && !(what != CONTINUE && echod_tls_keep(lease->tls, &pump->sealed)))
        echod_lease_end_without_memory(pump, lease);
    else
        settle(pump, lease, what);
}

SELDOM void read_sealed(echod_pump *pump, lease_t *lease)
{
    size_t room = pump->is_tight && !lease->message ? TIGHT_READ_SIZE : lease->read_size;
    size_t size = receive(pump, lease, pump->received, room);
    if (size) {
        assert(!pump->sealed.size);
        pump->sealed = (echod_sealed){pump->received, size};
        open_some(pump, lease);
    }
}

/* Writing. */

/* No answer waits any more: serve what was put off, then what a TLS session has already, of which no event tells. */
static void go_on(echod_pump *pump, lease_t *lease)
{
    outcome what = lease->state == PUT_OFF ? take(pump, lease, 0) : CONTINUE;
    what = flush_after(lease, what);
    if (lease->tls && what == CONTINUE)
        open_some(pump, lease);
    else
        settle(pump, lease, what);
}

/* Serve a lease that is not CONTINUE, because the kernel takes answers again. */
SELDOM void write_some(echod_pump *pump, lease_t *lease)
{
    size_t before = echod_send_waiting(lease);
    echod_send_unsent(pump, lease);
    size_t left = echod_send_waiting(lease);
    if (!left)
        go_on(pump, lease);
    else if (pump->is_tight)
        echod_lease_end_in_turn(pump, lease, ECHOD_END_BLOCKED, NULL, 0);
    else if (left >= before) /* ready, and takes nothing: an error that the owner is to meet */
        echod_lease_end_in_turn(pump, lease, ECHOD_END_CLOSED, NULL, 0);
    else
        set_held(pump, lease);
}

static void serve(echod_pump *pump, lease_t *lease)
{
    if (lease->state != CONTINUE)
        write_some(pump, lease);
    else if (lease->tls)
        read_sealed(pump, lease);
    else
        read_some(pump, lease);
}

void echod_pump_serve_read(echod_pump *pump, lease_t *lease, size_t size)
{
    assert(lease->state == CONTINUE && !lease->tls && !lease->message && !lease->partial_size);
    settle(pump, lease, flush_after(lease, take(pump, lease, size)));
}

/* The functions of pump.h. */

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
    assert(!pump->held);
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
    echod_lease_begin(lease, fd, slot);
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

int echod_pump_take_deflated(echod_pump *pump, echod_lease *public, const echod_terms *terms, const uint8_t *window,
                             size_t size)
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
        void *ready = pump->events[pump->served++].data.ptr;
        if (!ready)
            continue; /* the lease ended after its event was fetched */
        pump->now = now;
        pump->share_end = now + SHARE;
        if (echod_door_has(ready))
            echod_door_serve(pump->door, ready, now);
        else
            serve(pump, ready);
        while (pump->ended && ((lease_t *)pump->ended)->is_guest)
            echod_door_finish(pump->door, now);
    } while (!pump->is_full && (now = now_ns()) < deadline);
    return pump->ended;
}

echod_lease *echod_pump_ping(echod_pump *pump, echod_lease *public)
{
    static const uint8_t ping[] = {FIN | OPCODE_PING, 0};
    lease_t *lease = (lease_t *)public;
    pump->ended = pump->grown = NULL;
    if (is_within_deflated(lease))
        echod_lease_end_in_turn(pump, lease, ECHOD_END_RECALLED, NULL, 0);
    else if (!answer_in_order(lease, ping, sizeof ping))
        echod_lease_end_without_memory(pump, lease);
    else
        settle(pump, lease, flush_after(lease, lease->state));
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
    return pump->pool.size;
}

void echod_pump_trim(echod_pump *pump)
{
    echod_pool_trim(&pump->pool);
}

#endif
