/* Reads that are not all ordinary frames. See serve.h. */
#define _GNU_SOURCE
#ifdef __linux__

#include "serve.h"

#include "clock.h"
#include "cut.h"
#include "send.h"

/* Octets that a gathered message has room for at first, at least. */
enum { GATHER_SIZE = 256 };

/* A read that is not all ordinary frames: buffer[0, produced) are answers that are to be sent, buffer[at, size) is to be looked at. */
typedef struct {
    size_t produced;
    size_t at;
    size_t size;
    uint64_t need; /* of the frame that is cut: as in echod_echoed */
    bool is_late;  /* the lease has had its share of the turn */
} reading;

/* What became of the next octets. */
typedef enum {
    TAKEN,     /* they were echoed or gathered */
    LEFT,      /* they are for Autobahn, as far as they still are in the buffer */
    CUT,       /* they begin an ordinary frame */
    PUT_OFF,   /* there is no time for them now */
    NO_MEMORY, /* they are lost */
} outcome;

/* Send the answers so far. False: there is no memory to keep what is not taken. */
static bool answer_so_far(echod_pump *pump, lease_t *lease, reading *it)
{
    size_t size = it->produced;
    it->produced = 0;
    if (!size)
        return true;
    return lease->unsent_size ? echod_send_later(lease, pump->buffer, size) : answer(lease, pump->buffer, size);
}

/* Put an answer behind those so far, if it fits between them and what is still to be looked at: one send takes them all. */
static bool put_behind(echod_pump *pump, reading *it, const uint8_t *octets, size_t size)
{
    if (it->produced + size > it->at)
        return false;
    memcpy(pump->buffer + it->produced, octets, size);
    it->produced += size;
    return true;
}

/* Send an answer from a buffer that is not the lease's, with room in front for its header. Most fit behind those so far. */
static outcome answer_next(echod_pump *pump, lease_t *lease, reading *it, uint8_t kind, uint8_t *payload, size_t length)
{
    size_t header_size = put_header_before(payload, kind, length), size = header_size + length;
    if (put_behind(pump, it, payload - header_size, size))
        return TAKEN;
    if (!answer_so_far(pump, lease, it))
        return NO_MEMORY;
    uint8_t *frame = payload - header_size;
    bool is_kept = lease->unsent_size ? echod_send_later(lease, frame, size) : answer(lease, frame, size);
    return is_kept ? TAKEN : NO_MEMORY;
}

/* Octets that a deflated message may have when it is inflated. */
static size_t most_inflated(const echod_pump *pump, const lease_t *lease)
{
    size_t most = echod_deflate_largest(&lease->window->terms);
    return pump->max_message_size < most ? (size_t)pump->max_message_size : most;
}

/* Octets that a deflated message may have, as it comes. Incompressible ones become a little more. */
static size_t most_deflated(const echod_pump *pump, const lease_t *lease)
{
    size_t limit = most_inflated(pump, lease);
    return limit + limit / 16 + 1024;
}

/* Inflate a message, and count it. False: it is for Autobahn. */
static bool inflate_message(echod_pump *pump, lease_t *lease, reading *it, uint8_t opcode, const uint8_t *octets, size_t size,
                            echod_inflated *said)
{
    size_t most = most_inflated(pump, lease);
    if (!echod_deflate_take(pump->deflate, lease->window, octets, size, opcode == OPCODE_TEXT, most, said))
        return false;
    /* Asked here alone: of what is not deflated no read is too much. */
    it->is_late = now_ns() >= pump->share_end;
    echod_lease_count(pump, lease, &(echod_large){.length = said->size, .opcode = opcode});
    return true;
}

/* Have room for so many octets of payload more. False: that can't be, or is not to be. */
static bool make_room(echod_pump *pump, lease_t *lease, size_t size)
{
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
    size_t touched;
    uint8_t *message = echod_spares_take(&pump->spares, room, &touched);
    if (!message)
        return false;
    if (lease->message) {
        memcpy(message, lease->message, GATHER_ROOM + done);
        give_buffer(pump, lease->message);
    }
    lease->message = message;
    lease->message_room = room;
    lease->message_touched = touched;
    return true;
}

static void drop_message(echod_pump *pump, lease_t *lease)
{
    give_buffer(pump, lease->message);
    lease->message = NULL;
}

/* Answer a message with what was gathered of it. */
static outcome answer_gathered(echod_pump *pump, lease_t *lease, reading *it, const echod_large *whole)
{
    uint8_t *payload = lease->message + GATHER_ROOM;
    size_t header_size = put_header_before(payload, whole->opcode, whole->length), size = header_size + (size_t)whole->length;
    /* Thousands of small messages fit into a read, and a send takes as long as a hundred of them; to copy a large one costs more. */
    if (size <= KEEP_SIZE && put_behind(pump, it, payload - header_size, size)) {
        drop_message(pump, lease);
        return TAKEN;
    }
    if (!answer_so_far(pump, lease, it))
        return NO_MEMORY;
    if (!lease->unsent_size) {
        echod_send_message(pump, lease, GATHER_ROOM - header_size, size);
        return TAKEN;
    }
    bool is_kept = echod_send_later(lease, payload - header_size, size);
    drop_message(pump, lease);
    return is_kept ? TAKEN : NO_MEMORY;
}

/* Answer a gathered message that is whole. */
static outcome finish_gathered(echod_pump *pump, lease_t *lease, reading *it)
{
    echod_gather *gather = gather_of(lease);
    uint8_t *payload = lease->message + GATHER_ROOM;
    echod_large whole = {.length = echod_gather_size(gather), .opcode = gather->kind};
    if (!echod_gather_is_deflated(gather)) {
        echod_lease_count(pump, lease, &whole);
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
static outcome gather_some(echod_pump *pump, lease_t *lease, reading *it)
{
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

static outcome begin_gathering(echod_pump *pump, lease_t *lease, reading *it)
{
    if (!make_room(pump, lease, it->size - it->at))
        return LEFT;
    bool is_deflated = (pump->buffer[it->at] & RSV1) != 0;
    uint64_t most = is_deflated ? most_deflated(pump, lease) : pump->max_message_size;
    echod_gather_begin(gather_of(lease), pump->buffer[it->at], most, pump->max_fragments);
    lease->is_gathered = true;
    return gather_some(pump, lease, it);
}

/* Answer a deflated message that is in one frame, in place; if that is not all there, gather it. */
static outcome echo_deflated(echod_pump *pump, lease_t *lease, reading *it)
{
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
    put_header_before(target, frame.opcode, frame.length);
    it->produced += answer_header + length;
    return TAKEN;
}

/* Echo ordinary frames behind others. */
static outcome echo_some(echod_pump *pump, lease_t *lease, reading *it)
{
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

static outcome serve_next(echod_pump *pump, lease_t *lease, reading *it)
{
    if (lease->message)
        return gather_some(pump, lease, it);
    if (!echod_gather_is_first(pump->buffer[it->at], lease->window != NULL))
        return echo_some(pump, lease, it);
    if (pump->buffer[it->at] & RSV1)
        return echo_deflated(pump, lease, it);
    return begin_gathering(pump, lease, it);
}

bool echod_serve(echod_pump *pump, lease_t *lease, size_t produced, size_t at, size_t size)
{
    reading it = {.produced = produced, .at = at, .size = size};
    outcome what = TAKEN;
    while (what == TAKEN && it.at < it.size)
        what = it.is_late ? PUT_OFF : serve_next(pump, lease, &it);
    if (!answer_so_far(pump, lease, &it))
        what = NO_MEMORY;
    const uint8_t *rest = pump->buffer + it.at;
    size_t rest_size = it.size - it.at;
    switch (what) {
    case TAKEN:
        return true;
    case CUT:
        return echod_cut_keep(pump, lease, rest, rest_size, it.need);
    case PUT_OFF:
        lease->is_put_off = keep_partial(lease, rest, rest_size);
        if (lease->is_put_off)
            return true;
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
        break;
    case LEFT:
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, rest_size);
        break;
    case NO_MEMORY:
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
        break;
    }
    return false;
}

#endif
