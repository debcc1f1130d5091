/* The pump. See pump.h. */
#define _GNU_SOURCE
#include "pump.h"

#include <errno.h>

#ifdef __linux__

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "codec.h"
#include "deflate.h"
#include "gather.h"
#include "tls.h"

enum {
    READ_SIZE = 64 * 1024,   /* of one receive into the shared buffer: what Twisted reads, too */
    PIECE_SIZE = 256 * 1024, /* of one receive into a large message's own buffer: it stays in the second-level cache until it is checked */
    ANEW_SIZE = 16 * 1024,   /* of one receive where messages are deflated anew: to make up to eight times as much takes half a turn */
    SEALED_SIZE = 80 * 1024, /* of one receive over TLS: a message of 64 KiB with what its records take besides */
    KEEP_SIZE = 4 * 1024,    /* a smaller frame that is cut is kept and decoded when it is whole: reading it over again costs little */
    SERVER_HEADER = 10,      /* the largest header of a server's frame */
    GATHER_ROOM = sizeof(echod_gather) + SERVER_HEADER, /* in front of a gathered message's payload, in its buffer */
    GATHER_SIZE = 256,       /* octets that a gathered message has room for at first, at least */
    CLIENT_HEADER = 14,      /* and of a client's, */
    KEY_SIZE = 4,            /* of which its key is the end */
    BATCH = 256,             /* events asked for at a time */
    BATCH_SIZE = 2 * 1024 * 1024, /* octets to receive, or to send, for all events of a batch: who is last in it waits for no more */
    MIN_PIECE_SIZE = 16 * 1024,
    SPARES = 8, /* buffers of large messages that are kept for the next ones, */
    SPARE_SIZE = 8 * 1024 * 1024, /* and their octets in all, */
    MIN_SPARE_SIZE = 128 * 1024,  /* each of at least so many: smaller ones malloc keeps by itself */
};

/* What most messages don't need is called, so that what they need stays together. */
#define SELDOM static __attribute__((noinline))

/* In a frame's first octet: its message is deflated. */
enum { RSV1 = 0x40 };

/* What plain sockets and TLS have in common is compiled for each by itself: calls are a fifth of what the pump does for a small message. */
#define FOR_EACH static inline __attribute__((always_inline))

/* A lease with what only the pump sees of it. The public part comes first. */
typedef struct {
    echod_lease public;
    /* The begin of a small frame that is not whole yet. */
    uint8_t *partial;
    size_t partial_size;
    /* A large frame that is not whole yet: SERVER_HEADER octets of room, then the payload so far. Or if it is gathered, an echod_gather,
       SERVER_HEADER octets of room, and the payload so far, in a buffer for so many octets in all. */
    uint8_t *message;
    echod_large large;
    size_t message_room;
    /* What is to be sent is unsent[sent, sent + unsent_size). */
    size_t sent;
    bool is_writing;
    bool is_gathered;
    /* NULL: a plain socket. */
    echod_tls *tls;
    /* Octets of one receive into the shared buffer. */
    size_t read_size;
    /* NULL: deflated messages are not for us. */
    echod_window *window;
} lease_t;

struct echod_pump {
    int epoll;
    uint64_t max_message_size;
    uint32_t max_fragments;
    size_t held;
    bool is_tight;
    echod_sums sums;
    echod_lease *ended;
    /* Events that were fetched and are still to be served: what one turn had no time for comes first in the next. */
    int count;
    int served;
    /* Buffers of large messages that are over: to have the kernel give, and clear, a new one for each doubles what a message of 1 MiB
       costs. */
    uint8_t *spares[SPARES];
    size_t spare_size;
    struct epoll_event events[BATCH];
    uint8_t buffer[KEEP_SIZE + SEALED_SIZE];
    /* For TLS: what was received for the lease that is being served, and has not gone into its session yet. */
    echod_openssl openssl;
    echod_sealed sealed;
    /* NULL: nobody has told of zlib. */
    echod_deflate *deflate;
    uint8_t received[SEALED_SIZE];
};

/* Bookkeeping. */

/* The begin of a gathered message's buffer. */
static echod_gather *gather_of(const lease_t *lease) {
    return (echod_gather *)(void *)lease->message;
}

SELDOM size_t count_message(const lease_t *lease) {
    return lease->is_gathered ? echod_gather_restored_size(gather_of(lease)) : (size_t)lease->large.done;
}

static void set_held(echod_pump *pump, lease_t *lease) {
    size_t held = lease->partial_size + lease->public.unsent_size + (lease->message ? count_message(lease) : 0);
    if (lease->tls) {
        const uint8_t *octets;
        lease->public.sealed_size = echod_tls_unsent(lease->tls, &octets);
        held += lease->public.sealed_size + echod_tls_unopened(lease->tls);
    }
    pump->held += held - lease->public.held;
    lease->public.held = held;
}

static uint8_t *copy(const uint8_t *octets, size_t size) {
    uint8_t *copied = malloc(size);
    if (copied)
        memcpy(copied, octets, size);
    return copied;
}

static void drop_partial(lease_t *lease) {
    free(lease->partial);
    lease->partial = NULL;
    lease->partial_size = 0;
}

/* A buffer of at least `size` octets, and of less than twice as many: else a few could hold more than was reckoned with. */
static uint8_t *take_buffer(echod_pump *pump, size_t size) {
    for (int i = 0; i < SPARES; i++) {
        uint8_t *spare = pump->spares[i];
        size_t spare_size = spare ? malloc_usable_size(spare) : 0;
        if (spare_size >= size && spare_size / 2 < size) {
            pump->spares[i] = NULL;
            pump->spare_size -= spare_size;
            return spare;
        }
    }
    return malloc(size);
}

/* Keep a buffer for later, if there is room, or release it. */
static void give_buffer(echod_pump *pump, uint8_t *buffer) {
    size_t size = malloc_usable_size(buffer);
    if (size >= MIN_SPARE_SIZE && pump->spare_size + size <= SPARE_SIZE && !pump->is_tight)
        for (int i = 0; i < SPARES; i++)
            if (!pump->spares[i]) {
                pump->spares[i] = buffer;
                pump->spare_size += size;
                return;
            }
    free(buffer);
}

static void drop_unsent(echod_pump *pump, lease_t *lease) {
    give_buffer(pump, lease->public.unsent);
    lease->public.unsent = NULL;
    lease->public.unsent_size = lease->sent = 0;
}

/* The end of a lease. */

/* What was received of a large frame, as the client sent it. */
static bool take_back_large(lease_t *lease) {
    uint8_t header[CLIENT_HEADER];
    size_t header_size = echod_large_client_header(&lease->large, header);
    size_t done = (size_t)lease->large.done;
    echod_large_restore(&lease->large, lease->message + SERVER_HEADER);
    uint8_t *rest = malloc(header_size + done);
    if (rest) {
        memcpy(rest, header, header_size);
        memcpy(rest + header_size, lease->message + SERVER_HEADER, done);
    }
    free(lease->message);
    lease->message = NULL;
    lease->public.rest = rest;
    lease->public.rest_size = rest ? header_size + done : 0;
    return rest != NULL;
}

/* What was received of a gathered message, as frames, and the octets behind it. */
static bool take_back_gathered(lease_t *lease, const uint8_t *behind, size_t behind_size) {
    echod_gather *gather = gather_of(lease);
    size_t size = echod_gather_restored_size(gather);
    uint8_t *rest = malloc(size + behind_size);
    if (rest) {
        echod_gather_restore(gather, lease->message + GATHER_ROOM, rest);
        if (behind_size)
            memcpy(rest + size, behind, behind_size);
        lease->public.fragments = gather->fragments;
    }
    free(lease->message);
    lease->message = NULL;
    lease->public.rest = rest;
    lease->public.rest_size = rest ? size + behind_size : 0;
    return rest != NULL;
}

/* Forget a socket; `rest` is what was received behind what the lease itself keeps (which is nothing then). */
static void end(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size) {
    epoll_ctl(pump->epoll, EPOLL_CTL_DEL, lease->public.fd, NULL);
    for (int i = pump->served; i < pump->count; i++)
        if (pump->events[i].data.ptr == lease)
            pump->events[i].data.ptr = NULL;
    bool is_kept = true;
    if (lease->message) {
        is_kept = lease->is_gathered ? take_back_gathered(lease, rest, rest_size) : take_back_large(lease);
    } else if (rest_size) {
        lease->public.rest = copy(rest, rest_size);
        lease->public.rest_size = rest_size;
        is_kept = lease->public.rest != NULL;
    } else {
        lease->public.rest = lease->partial;
        lease->public.rest_size = lease->partial_size;
        lease->partial = NULL;
    }
    drop_partial(lease);
    if (lease->tls && !echod_tls_keep(lease->tls, &pump->sealed)) {
        is_kept = false;
        pump->sealed.size = 0;
    }
    if (lease->public.unsent_size)
        memmove(lease->public.unsent, lease->public.unsent + lease->sent, lease->public.unsent_size);
    if (lease->window)
        lease->public.window_size = echod_window_octets(lease->window, &lease->public.window);
    pump->held -= lease->public.held;
    lease->public.held = 0;
    lease->public.why = is_kept ? why : ECHOD_END_NO_MEMORY;
}

static void end_in_turn(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size) {
    end(pump, lease, why, rest, rest_size);
    lease->public.next = pump->ended;
    pump->ended = &lease->public;
}

/* Writing. */

static void watch(echod_pump *pump, lease_t *lease, bool is_writing) {
    if (lease->is_writing == is_writing)
        return;
    struct epoll_event event = {.events = is_writing ? EPOLLOUT : EPOLLIN, .data.ptr = lease};
    epoll_ctl(pump->epoll, EPOLL_CTL_MOD, lease->public.fd, &event);
    lease->is_writing = is_writing;
}

/* How much may go to or come from one socket, so that those with large messages don't hold up the others that are ready. */
static size_t piece_size(const echod_pump *pump) {
    size_t size = BATCH_SIZE / (size_t)(pump->count ? pump->count : 1);
    return size < MIN_PIECE_SIZE ? MIN_PIECE_SIZE : size > PIECE_SIZE ? PIECE_SIZE : size;
}

/* How much of it the kernel takes. */
FOR_EACH size_t send_octets(int fd, const uint8_t *octets, size_t size) {
    size_t sent = 0;
    while (sent < size) {
        ssize_t n = send(fd, octets + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* would block; or an error, which the next write by the lease's owner meets again */
        sent += (size_t)n;
    }
    return sent;
}

/* Send what a TLS session has to send. False: the kernel doesn't take all of it. */
SELDOM bool flush_sealed(lease_t *lease) {
    const uint8_t *octets;
    size_t size = echod_tls_unsent(lease->tls, &octets);
    size_t sent = send_octets(lease->public.fd, octets, size);
    echod_tls_sent(lease->tls, sent);
    return sent == size;
}

/* How much of it goes out. Over TLS the last records may be in the session, and keep the next answer waiting. */
SELDOM size_t send_sealed(lease_t *lease, const uint8_t *octets, size_t size) {
    size_t sealed = 0;
    while (flush_sealed(lease) && sealed < size && !lease->tls->is_odd)
        sealed += echod_tls_seal(lease->tls, octets + sealed, size - sealed);
    return sealed;
}

FOR_EACH size_t send_some(lease_t *lease, const uint8_t *octets, size_t size) {
    return lease->tls ? send_sealed(lease, octets, size) : send_octets(lease->public.fd, octets, size);
}

/* Whether no answers wait. Over TLS it tries to send first, so that the next who asks may be told otherwise: asked once for each decision. */
FOR_EACH bool try_to_flush(lease_t *lease) {
    return !lease->public.unsent_size && (!lease->tls || flush_sealed(lease));
}

/* How much of a large answer may go to one socket at a time. To seal takes ten times as long as to send. */
static size_t most_to_send(const echod_pump *pump, const lease_t *lease) {
    return (lease->tls ? 1 : 4) * piece_size(pump);
}

/* Let answers wait behind those that wait already. */
SELDOM bool answer_later(lease_t *lease, const uint8_t *octets, size_t size) {
    size_t waiting = lease->public.unsent_size;
    uint8_t *unsent = malloc(waiting + size);
    if (!unsent)
        return false;
    memcpy(unsent, lease->public.unsent + lease->sent, waiting);
    memcpy(unsent + waiting, octets, size);
    free(lease->public.unsent);
    lease->public.unsent = unsent;
    lease->public.unsent_size += size;
    lease->sent = 0;
    return true;
}

/* Send answers from a buffer that is not the lease's; what is not taken is kept. */
FOR_EACH bool answer(lease_t *lease, const uint8_t *octets, size_t size) {
    size_t sent = send_some(lease, octets, size);
    if (sent == size)
        return true;
    lease->public.unsent = copy(octets + sent, size - sent);
    lease->public.unsent_size = lease->public.unsent ? size - sent : 0;
    return lease->public.unsent != NULL;
}

static void open_some(echod_pump *pump, lease_t *lease);

static size_t count_unsent(const lease_t *lease) {
    const uint8_t *octets;
    return lease->public.unsent_size + (lease->tls ? echod_tls_unsent(lease->tls, &octets) : 0);
}

static void flush(echod_pump *pump, lease_t *lease) {
    size_t before = count_unsent(lease);
    size_t most = most_to_send(pump, lease);
    size_t size = lease->public.unsent_size < most ? lease->public.unsent_size : most;
    size_t sent = send_some(lease, lease->public.unsent + lease->sent, size);
    lease->sent += sent;
    lease->public.unsent_size -= sent;
    if (!lease->public.unsent_size)
        drop_unsent(pump, lease);
    size_t left = count_unsent(lease);
    if (!left) {
        watch(pump, lease, false);
        if (lease->tls) {
            /* No event tells of what the session has already. */
            open_some(pump, lease);
            return;
        }
    } else if (left >= before || pump->is_tight) {
        /* Ready and takes nothing: an error that the owner is to meet. */
        end_in_turn(pump, lease, pump->is_tight ? ECHOD_END_BLOCKED : ECHOD_END_CLOSED, NULL, 0);
        return;
    }
    set_held(pump, lease);
}

/* Reading. */

static void count(echod_pump *pump, lease_t *lease, const echod_large *large) {
    lease->public.messages++;
    lease->public.octets += large->length;
    echod_large_sum(large, &pump->sums);
}

/* Write the header of the frame that echoes this one in front of the payload; the answer is its size. */
static size_t write_header(const echod_large *frame, uint8_t *payload) {
    uint8_t header[SERVER_HEADER];
    size_t size = echod_large_server_header(frame, header);
    memcpy(payload - size, header, size);
    return size;
}

/* Send the answer that is in the message's buffer. */
static void answer_message(echod_pump *pump, lease_t *lease, size_t start, size_t size) {
    size_t most = most_to_send(pump, lease);
    size_t sent = send_some(lease, lease->message + start, size < most ? size : most);
    if (sent == size) {
        give_buffer(pump, lease->message);
    } else {
        lease->public.unsent = lease->message;
        lease->public.unsent_size = size - sent;
        lease->sent = start + sent;
    }
    lease->message = NULL;
}

static void finish_large(echod_pump *pump, lease_t *lease) {
    size_t header_size = write_header(&lease->large, lease->message + SERVER_HEADER);
    count(pump, lease, &lease->large);
    answer_message(pump, lease, SERVER_HEADER - header_size, header_size + (size_t)lease->large.length);
}

/* Take octets of a large frame that are where they belong, behind `done`, or elsewhere. False: the lease has ended. */
static bool feed_large(echod_pump *pump, lease_t *lease, const uint8_t *octets, size_t size) {
    uint8_t *target = lease->message + SERVER_HEADER + lease->large.done;
    switch (echod_large_feed(&lease->large, target, octets ? octets : target, size)) {
    case ECHOD_LARGE_COMPLETE:
        finish_large(pump, lease);
        break;
    case ECHOD_LARGE_INVALID:
        end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, NULL, 0);
        return false;
    case ECHOD_LARGE_OPEN:
        break;
    }
    return true;
}

/* Whether the payload of a small frame, so far, can become that of an ordinary one: text is to fail at the first octet that no text
   has there (the testsuite's cases 6.4), not when the frame is whole, which may be never. */
static bool can_be_ordinary(echod_large *large, const uint8_t *payload, size_t size) {
    uint8_t unmasked[KEEP_SIZE];
    return large->opcode != 1 || echod_large_feed(large, unmasked, payload, size) != ECHOD_LARGE_INVALID;
}

/* Keep what begins an ordinary frame that is not whole. False: the lease has ended. */
static bool keep(echod_pump *pump, lease_t *lease, const uint8_t *rest, size_t size, uint64_t need) {
    echod_large *large = &lease->large;
    size_t header_size = echod_large_begin(large, rest, size, pump->max_message_size);
    if (!header_size || need <= KEEP_SIZE) { /* without a header there are no more than 13 octets, however large the frame */
        if (header_size && !can_be_ordinary(large, rest + header_size, size - header_size)) {
            end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, size);
            return false;
        }
        lease->partial = copy(rest, size);
        lease->partial_size = lease->partial ? size : 0;
        if (!lease->partial)
            end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
        return lease->partial != NULL;
    }
    lease->is_gathered = false;
    if (!pump->is_tight)
        /* Not touched until it is filled, so a claim alone takes no memory. */
        lease->message = take_buffer(pump, SERVER_HEADER + (size_t)large->length);
    if (!lease->message) {
        end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, size);
        return false;
    }
    return feed_large(pump, lease, rest + header_size, size - header_size);
}

/* A read that is not all ordinary frames: buffer[0, produced) are answers that are to be sent, buffer[at, size) is to be looked at. */
typedef struct {
    size_t produced;
    size_t at;
    size_t size;
    size_t inflated; /* octets, so far, */
    uint64_t need;   /* of the frame that is cut: as in echod_echoed */
} reading;

/* What became of the next octets. */
typedef enum {
    TAKEN,     /* they were echoed or gathered */
    LEFT,      /* they are for Autobahn, as far as they still are in the buffer */
    CUT,       /* they begin an ordinary frame */
    NO_MEMORY, /* they are lost */
} outcome;

/* Send the answers so far. False: there is no memory to keep what is not taken. */
static bool answer_so_far(echod_pump *pump, lease_t *lease, reading *it) {
    size_t size = it->produced;
    it->produced = 0;
    if (!size)
        return true;
    return lease->public.unsent_size ? answer_later(lease, pump->buffer, size) : answer(lease, pump->buffer, size);
}

/* Put an answer behind those so far, if it fits between them and what is still to be looked at: one send takes them all. */
static bool put_behind(echod_pump *pump, reading *it, const uint8_t *octets, size_t size) {
    if (it->produced + size > it->at)
        return false;
    memcpy(pump->buffer + it->produced, octets, size);
    it->produced += size;
    return true;
}

/* Send an answer from a buffer that is not the lease's, with room in front for its header. Most fit behind those so far. */
static outcome answer_next(echod_pump *pump, lease_t *lease, reading *it, uint8_t kind, uint8_t *payload, size_t length) {
    size_t header_size = write_header(&(echod_large){.length = length, .opcode = kind}, payload), size = header_size + length;
    if (put_behind(pump, it, payload - header_size, size))
        return TAKEN;
    if (!answer_so_far(pump, lease, it))
        return NO_MEMORY;
    bool is_kept = lease->public.unsent_size ? answer_later(lease, payload - header_size, size) : answer(lease, payload - header_size, size);
    return is_kept ? TAKEN : NO_MEMORY;
}

/* Octets that a deflated message may have, as it comes. Incompressible ones become a little more. */
static size_t most_deflated(const echod_pump *pump, const lease_t *lease) {
    size_t most = echod_deflate_largest(&lease->window->terms);
    uint64_t limit = pump->max_message_size;
    return limit < most ? (size_t)(limit + limit / 16 + 1024) : most;
}

/* Inflate a message, and count it. False: it is for Autobahn. */
static bool inflate_message(echod_pump *pump, lease_t *lease, reading *it, uint8_t opcode, const uint8_t *octets, size_t size, echod_inflated *said) {
    size_t most = echod_deflate_largest(&lease->window->terms);
    most = it->inflated < most ? most - it->inflated : 0;
    uint64_t max_size = pump->max_message_size < most ? pump->max_message_size : most;
    if (!echod_deflate_take(pump->deflate, lease->window, octets, size, opcode == 1, max_size, said))
        return false;
    it->inflated += said->size;
    count(pump, lease, &(echod_large){.length = said->size, .opcode = opcode});
    return true;
}

/* Have room for so many octets of payload more. False: that can't be, or is not to be. */
static bool make_room(echod_pump *pump, lease_t *lease, size_t size) {
    size_t done = lease->message ? echod_gather_size(gather_of(lease)) : 0;
    size_t room = GATHER_ROOM + done + size;
    if (lease->message && room <= lease->message_room)
        return true;
    if (pump->is_tight && done + size > KEEP_SIZE)
        return false;
    if (lease->message && room < 2 * lease->message_room)
        room = 2 * lease->message_room;
    if (room < GATHER_ROOM + GATHER_SIZE)
        room = GATHER_ROOM + GATHER_SIZE;
    uint8_t *message = take_buffer(pump, room);
    if (!message)
        return false;
    if (lease->message) {
        memcpy(message, lease->message, GATHER_ROOM + done);
        give_buffer(pump, lease->message);
    }
    lease->message = message;
    lease->message_room = room;
    return true;
}

static void drop_message(echod_pump *pump, lease_t *lease) {
    give_buffer(pump, lease->message);
    lease->message = NULL;
}

/* Answer a message with what was gathered of it. */
static outcome answer_gathered(echod_pump *pump, lease_t *lease, reading *it, const echod_large *whole) {
    uint8_t *payload = lease->message + GATHER_ROOM;
    size_t header_size = write_header(whole, payload), size = header_size + (size_t)whole->length;
    /* Thousands of small messages fit into a read, and a send takes as long as a hundred of them; to copy a large one costs more. */
    if (size <= KEEP_SIZE && put_behind(pump, it, payload - header_size, size)) {
        drop_message(pump, lease);
        return TAKEN;
    }
    if (!answer_so_far(pump, lease, it))
        return NO_MEMORY;
    if (!lease->public.unsent_size) {
        answer_message(pump, lease, GATHER_ROOM - header_size, size);
        return TAKEN;
    }
    bool is_kept = answer_later(lease, payload - header_size, size);
    drop_message(pump, lease);
    return is_kept ? TAKEN : NO_MEMORY;
}

/* Answer a gathered message that is whole. */
static outcome finish_gathered(echod_pump *pump, lease_t *lease, reading *it) {
    echod_gather *gather = gather_of(lease);
    uint8_t *payload = lease->message + GATHER_ROOM;
    echod_large whole = {.length = echod_gather_size(gather), .opcode = gather->kind};
    if (!echod_gather_is_deflated(gather)) {
        count(pump, lease, &whole);
        return answer_gathered(pump, lease, it, &whole);
    }
    uint8_t opcode = echod_gather_opcode(gather);
    echod_inflated said;
    if (!inflate_message(pump, lease, it, opcode, payload, (size_t)whole.length, &said))
        return LEFT;
    if (!said.answer)
        return answer_gathered(pump, lease, it, &whole);
    outcome what = answer_next(pump, lease, it, said.is_plain ? opcode : gather->kind, said.answer, said.answer_size);
    drop_message(pump, lease);
    return what;
}

/* Gather octets of a message. */
static outcome gather_some(echod_pump *pump, lease_t *lease, reading *it) {
    if (!make_room(pump, lease, it->size - it->at))
        return LEFT;
    switch (echod_gather_feed(gather_of(lease), lease->message + GATHER_ROOM, pump->buffer, it->size, &it->at)) {
    case ECHOD_GATHER_OPEN:
        return TAKEN;
    case ECHOD_GATHER_COMPLETE:
        return finish_gathered(pump, lease, it);
    case ECHOD_GATHER_ODD:
        break;
    }
    return LEFT;
}

static outcome begin_gathering(echod_pump *pump, lease_t *lease, reading *it) {
    if (!make_room(pump, lease, it->size - it->at))
        return LEFT;
    bool is_deflated = (pump->buffer[it->at] & RSV1) != 0;
    uint64_t most = is_deflated ? most_deflated(pump, lease) : pump->max_message_size;
    echod_gather_begin(gather_of(lease), pump->buffer[it->at], most, pump->max_fragments);
    lease->is_gathered = true;
    return gather_some(pump, lease, it);
}

/* Answer a deflated message that is in one frame, in place; if that is not all there, gather it. */
static outcome echo_deflated(echod_pump *pump, lease_t *lease, reading *it) {
    uint8_t *octets = pump->buffer + it->at;
    echod_large frame;
    size_t header_size = echod_gather_whole(&frame, octets, it->size - it->at, most_deflated(pump, lease));
    if (!header_size)
        return begin_gathering(pump, lease, it);
    /* An answer of the same octets is shorter by the key. What it overwrites of the header is put back, if it comes to that. */
    uint8_t header[CLIENT_HEADER];
    memcpy(header, octets, header_size);
    size_t length = (size_t)frame.length, answer_header = header_size - KEY_SIZE;
    uint8_t *target = pump->buffer + it->produced + answer_header, *source = octets + header_size;
    echod_unmask(target, source, length, frame.key);
    uint8_t opcode = frame.opcode & (uint8_t)~RSV1;
    echod_inflated said;
    if (!inflate_message(pump, lease, it, opcode, target, length, &said)) {
        memmove(source, target, length);
        echod_unmask(source, source, length, frame.key);
        memcpy(octets, header, header_size);
        return LEFT;
    }
    it->at += header_size + length;
    if (said.answer)
        return answer_next(pump, lease, it, said.is_plain ? opcode : frame.opcode, said.answer, said.answer_size);
    write_header(&frame, target);
    it->produced += answer_header + length;
    return TAKEN;
}

/* Echo ordinary frames behind others. */
static outcome echo_some(echod_pump *pump, lease_t *lease, reading *it) {
    uint8_t *octets = pump->buffer + it->at;
    echod_echoed echoed = echod_codec_echo(octets, it->size - it->at, pump->max_message_size, &pump->sums);
    lease->public.messages += echoed.messages;
    lease->public.octets += echoed.octets;
    memmove(pump->buffer + it->produced, octets, echoed.produced);
    it->produced += echoed.produced;
    it->at += echoed.consumed;
    it->need = echoed.need;
    if (echoed.stop == ECHOD_STOP_NEED_MORE)
        return CUT;
    return echoed.messages ? TAKEN : LEFT;
}

static outcome serve_next(echod_pump *pump, lease_t *lease, reading *it) {
    if (lease->message)
        return gather_some(pump, lease, it);
    if (!echod_gather_is_first(pump->buffer[it->at], lease->window != NULL))
        return echo_some(pump, lease, it);
    if (pump->buffer[it->at] & RSV1)
        return echo_deflated(pump, lease, it);
    return begin_gathering(pump, lease, it);
}

/* Serve what has been read, of which the first octets are not ordinary, or belong to a message that is gathered. False: the lease has
   ended. */
SELDOM bool serve(echod_pump *pump, lease_t *lease, size_t produced, size_t at, size_t size) {
    reading it = {.produced = produced, .at = at, .size = size};
    outcome what = TAKEN;
    while (what == TAKEN && it.at < it.size)
        what = serve_next(pump, lease, &it);
    if (!answer_so_far(pump, lease, &it))
        what = NO_MEMORY;
    const uint8_t *rest = pump->buffer + it.at;
    size_t rest_size = it.size - it.at;
    switch (what) {
    case TAKEN:
        return true;
    case CUT:
        return keep(pump, lease, rest, rest_size, it.need);
    case LEFT:
        end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, rest_size);
        break;
    case NO_MEMORY:
        end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
        break;
    }
    return false;
}

/* Echo what is in the shared buffer's first `size` octets. False: the lease has ended. */
FOR_EACH bool echo(echod_pump *pump, lease_t *lease, size_t size) {
    echod_echoed echoed = echod_codec_echo(pump->buffer, size, pump->max_message_size, &pump->sums);
    lease->public.messages += echoed.messages;
    lease->public.octets += echoed.octets;
    if (echoed.stop == ECHOD_STOP_NOT_ORDINARY || echoed.stop == ECHOD_STOP_TOO_LARGE)
        return serve(pump, lease, echoed.produced, echoed.consumed, size);
    if (!answer(lease, pump->buffer, echoed.produced)) {
        end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
        return false;
    }
    if (echoed.stop == ECHOD_STOP_BOUNDARY)
        return true;
    return keep(pump, lease, pump->buffer + echoed.consumed, size - echoed.consumed, echoed.need);
}

/* Whether these octets, at a frame's begin, are the owner's to judge. */
static bool is_odd(const echod_pump *pump, const lease_t *lease, uint8_t *octets, size_t size) {
    echod_sums not_counted = {0};
    if (lease->message)
        return (octets[0] & 0x7F) != 0;
    echod_echoed echoed = echod_codec_echo(octets, size, pump->max_message_size, &not_counted);
    if (echoed.stop == ECHOD_STOP_NOT_ORDINARY) /* what comes before it has been overwritten */
        return !echod_gather_is_first(octets[echoed.consumed], lease->window != NULL);
    return echoed.stop == ECHOD_STOP_TOO_LARGE;
}

/* Whether a frame is to begin, and none that is ours, or over TLS something else. */
SELDOM bool is_odd_next(echod_pump *pump, lease_t *lease) {
    if (lease->partial_size || (lease->message && !(lease->is_gathered && !gather_of(lease)->header_size)))
        return false;
    uint8_t begin[CLIENT_HEADER];
    ssize_t n = lease->tls ? (ssize_t)echod_tls_peek(lease->tls, begin, sizeof begin)
                           : recv(lease->public.fd, begin, sizeof begin, MSG_PEEK | MSG_DONTWAIT);
    return (n > 0 && is_odd(pump, lease, begin, (size_t)n)) || (lease->tls && lease->tls->is_odd);
}

/* Of a message that has a buffer: a large frame's octets go there, those that are gathered through the shared one. */
SELDOM uint8_t *target_of_message(echod_pump *pump, lease_t *lease, size_t *room) {
    if (lease->is_gathered) {
        *room = pump->is_tight ? KEEP_SIZE : lease->read_size;
        return pump->buffer;
    }
    uint64_t missing = lease->large.length - lease->large.done;
    size_t most = piece_size(pump);
    *room = missing < most ? (size_t)missing : most;
    return lease->message + SERVER_HEADER + lease->large.done;
}

/* Where the next octets of the client's belong, and how many at most. */
FOR_EACH uint8_t *target_of(echod_pump *pump, lease_t *lease, size_t *room) {
    if (lease->message)
        return target_of_message(pump, lease, room);
    /* When it is tight, what is read ends up with the owner if it is not whole: a large piece for each would be too much. */
    *room = pump->is_tight ? KEEP_SIZE : lease->read_size;
    return pump->buffer + lease->partial_size;
}

/* Take octets that are where target_of said. False: the lease has ended. */
FOR_EACH bool take(echod_pump *pump, lease_t *lease, size_t size) {
    if (lease->message)
        return lease->is_gathered ? serve(pump, lease, 0, 0, size) : feed_large(pump, lease, NULL, size);
    size_t kept = lease->partial_size;
    if (kept) {
        memcpy(pump->buffer, lease->partial, kept);
        drop_partial(lease);
    }
    return echo(pump, lease, kept + size);
}

/* What remains to be done for a lease that has been served and goes on. */
FOR_EACH void settle(echod_pump *pump, lease_t *lease, bool is_blocked) {
    if (is_blocked) {
        if (pump->is_tight) {
            end_in_turn(pump, lease, ECHOD_END_BLOCKED, NULL, 0);
            return;
        }
        /* Who doesn't take its answers isn't read, but for what the owner is to judge: a close has its deadline also where nobody reads. */
        if (is_odd_next(pump, lease)) {
            ssize_t n = lease->tls ? 0 : recv(lease->public.fd, pump->buffer, READ_SIZE, MSG_DONTWAIT);
            end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, pump->buffer, n > 0 ? (size_t)n : 0);
            return;
        }
        watch(pump, lease, true);
    }
    set_held(pump, lease);
}

/* Serve what a TLS session has, or gets from what was received for it. */
SELDOM void open_some(echod_pump *pump, lease_t *lease) {
    size_t room, opened;
    bool is_blocked;
    do {
        uint8_t *target = target_of(pump, lease, &room);
        opened = echod_tls_open(lease->tls, &pump->sealed, target, room);
        if (opened && !take(pump, lease, opened))
            return;
        is_blocked = !try_to_flush(lease);
    } while (opened == room && !is_blocked);
    if (lease->tls->is_odd)
        end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, NULL, 0);
    else if (pump->sealed.size && !(is_blocked && echod_tls_keep(lease->tls, &pump->sealed)))
        end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
    else
        settle(pump, lease, is_blocked);
}

/* Octets received, or 0: there are none, and the lease may have ended. */
FOR_EACH size_t receive(echod_pump *pump, lease_t *lease, uint8_t *target, size_t room) {
    ssize_t n = recv(lease->public.fd, target, room, MSG_DONTWAIT);
    if (n > 0) {
        lease->public.reads++;
        return (size_t)n;
    }
    if (!n || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        end_in_turn(pump, lease, ECHOD_END_CLOSED, NULL, 0);
    return 0;
}

static void read_sealed(echod_pump *pump, lease_t *lease) {
    size_t room = pump->is_tight && !lease->message ? KEEP_SIZE : lease->read_size;
    size_t size = receive(pump, lease, pump->received, room);
    if (size) {
        pump->sealed = (echod_sealed){pump->received, size};
        open_some(pump, lease);
    }
}

static void read_some(echod_pump *pump, lease_t *lease) {
    size_t room;
    uint8_t *target = target_of(pump, lease, &room);
    size_t size = receive(pump, lease, target, room);
    if (size && take(pump, lease, size))
        settle(pump, lease, !try_to_flush(lease));
}

/* The public part. */

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

echod_pump *echod_pump_new(uint64_t max_message_size, uint32_t max_fragments) {
    echod_pump *pump = calloc(1, sizeof *pump);
    if (!pump)
        return NULL;
    pump->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (pump->epoll < 0) {
        free(pump);
        return NULL;
    }
    pump->max_message_size = max_message_size;
    pump->max_fragments = max_fragments;
    return pump;
}

void echod_pump_free(echod_pump *pump) {
    echod_pump_trim(pump);
    if (pump->deflate)
        echod_deflate_free(pump->deflate);
    close(pump->epoll);
    free(pump);
}

int echod_pump_fd(const echod_pump *pump) {
    return pump->epoll;
}

echod_lease *echod_pump_lend(echod_pump *pump, int fd, uint32_t slot) {
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

echod_lease *echod_pump_lend_tls(echod_pump *pump, int fd, uint32_t slot, void *ssl, void *in, void *out) {
    const uint8_t *octets;
    echod_tls *tls = malloc(sizeof *tls);
    if (!tls)
        return NULL;
    *tls = (echod_tls){.openssl = &pump->openssl, .ssl = ssl, .in = in, .out = out};
    lease_t *lease = echod_tls_unsent(tls, &octets) ? NULL : (lease_t *)echod_pump_lend(pump, fd, slot);
    if (!lease) {
        free(tls);
        return NULL;
    }
    lease->tls = tls;
    lease->read_size = SEALED_SIZE;
    return &lease->public;
}

int echod_pump_set_zlib(echod_pump *pump, const echod_zlib *zlib, const echod_deflate_settings *settings) {
    pump->deflate = echod_deflate_new(zlib, settings);
    return pump->deflate ? 0 : -1;
}

int echod_pump_take_deflated(echod_pump *pump, echod_lease *public, const echod_terms *terms, const uint8_t *window, size_t size) {
    lease_t *lease = (lease_t *)public;
    lease->window = calloc(1, sizeof *lease->window);
    if (!lease->window || !echod_window_begin(lease->window, pump->deflate, terms, window, size))
        return -1;
    if (terms->window_bits)
        lease->read_size = ANEW_SIZE;
    return 0;
}

void echod_pump_set_openssl(echod_pump *pump, const echod_openssl *openssl) {
    pump->openssl = *openssl;
}

echod_lease *echod_pump_turn(echod_pump *pump, uint64_t budget_ns) {
    uint64_t deadline = now_ns() + budget_ns;
    pump->ended = NULL;
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
        if (lease->is_writing)
            flush(pump, lease);
        else if (lease->tls)
            read_sealed(pump, lease);
        else
            read_some(pump, lease);
    } while (now_ns() < deadline);
    return pump->ended;
}

void echod_pump_recall(echod_pump *pump, echod_lease *lease) {
    end(pump, (lease_t *)lease, ECHOD_END_RECALLED, NULL, 0);
}

void echod_lease_free(echod_lease *lease) {
    free(lease->rest);
    free(lease->unsent);
    free(((lease_t *)lease)->tls);
    if (((lease_t *)lease)->window)
        free(((lease_t *)lease)->window->octets);
    free(((lease_t *)lease)->window);
    free(lease);
}

size_t echod_pump_held(const echod_pump *pump) {
    return pump->held;
}

const echod_sums *echod_pump_sums(const echod_pump *pump) {
    return &pump->sums;
}

void echod_pump_set_tight(echod_pump *pump, int is_tight) {
    pump->is_tight = is_tight != 0;
    if (is_tight)
        echod_pump_trim(pump);
}

size_t echod_pump_spare(const echod_pump *pump) {
    return pump->spare_size;
}

void echod_pump_trim(echod_pump *pump) {
    for (int i = 0; i < SPARES; i++) {
        free(pump->spares[i]);
        pump->spares[i] = NULL;
    }
    pump->spare_size = 0;
}

#else

echod_pump *echod_pump_new(uint64_t max_message_size, uint32_t max_fragments) {
    (void)max_message_size, (void)max_fragments;
    errno = ENOSYS;
    return NULL;
}

void echod_pump_free(echod_pump *pump) {
    (void)pump;
}

int echod_pump_fd(const echod_pump *pump) {
    (void)pump;
    return -1;
}

echod_lease *echod_pump_lend(echod_pump *pump, int fd, uint32_t slot) {
    (void)pump, (void)fd, (void)slot;
    return NULL;
}

echod_lease *echod_pump_lend_tls(echod_pump *pump, int fd, uint32_t slot, void *ssl, void *in, void *out) {
    (void)pump, (void)fd, (void)slot, (void)ssl, (void)in, (void)out;
    return NULL;
}

void echod_pump_set_openssl(echod_pump *pump, const echod_openssl *openssl) {
    (void)pump, (void)openssl;
}

int echod_pump_set_zlib(echod_pump *pump, const echod_zlib *zlib, const echod_deflate_settings *settings) {
    (void)pump, (void)zlib, (void)settings;
    return -1;
}

int echod_pump_take_deflated(echod_pump *pump, echod_lease *lease, const echod_terms *terms, const uint8_t *window, size_t size) {
    (void)pump, (void)lease, (void)terms, (void)window, (void)size;
    return -1;
}

echod_lease *echod_pump_turn(echod_pump *pump, uint64_t budget_ns) {
    (void)pump, (void)budget_ns;
    return NULL;
}

void echod_pump_recall(echod_pump *pump, echod_lease *lease) {
    (void)pump, (void)lease;
}

void echod_lease_free(echod_lease *lease) {
    (void)lease;
}

size_t echod_pump_held(const echod_pump *pump) {
    (void)pump;
    return 0;
}

const echod_sums *echod_pump_sums(const echod_pump *pump) {
    (void)pump;
    return NULL;
}

void echod_pump_set_tight(echod_pump *pump, int is_tight) {
    (void)pump, (void)is_tight;
}

size_t echod_pump_spare(const echod_pump *pump) {
    (void)pump;
    return 0;
}

void echod_pump_trim(echod_pump *pump) {
    (void)pump;
}

#endif
