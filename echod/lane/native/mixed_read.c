/* Reads that are not all ordinary frames. See mixed_read.h. */
#define _GNU_SOURCE
#ifdef __linux__

#include "mixed_read.h"

#include "clock.h"
#include "control.h"
#include "partial.h"
#include "send.h"

/* The read: buffer[0, produced) are answers that are to be sent, buffer[at, size) is still to be served. */
typedef struct {
    size_t produced;
    size_t at;
    size_t size;
    uint64_t need; /* PARTIAL: as in echod_echoed */
    bool is_late;  /* the lease has had its share of the turn */
} reading;

/* What became of the next bytes. */
typedef enum {
    TAKEN,   /* they are echoed, answered or gathered */
    LEFT,    /* Autobahn has to judge them; they are unchanged, in the buffer or in the gathered message */
    PARTIAL, /* they begin an ordinary frame */
    BEGUN,   /* they begin a control frame */
    LATE,    /* the lease has no time for them now */
    LOST,    /* there is no memory for their answer */
} fate;

static void check_reading(const reading *it)
{
    assert(it->produced <= it->at && it->at <= it->size && it->size <= SHARED_SIZE);
    (void)it;
}

/* Answers. */

/* Send the answers so far. False: there is no memory for what the kernel did not take. */
static bool answer_so_far(echod_pump *pump, lease_t *lease, reading *it)
{
    size_t size = it->produced;
    it->produced = 0;
    return !size || answer_in_order(lease, pump->buffer, size);
}

/* Put an answer behind those so far, so that one send takes them all. False: it does not fit in front of what is still
   to be served. */
static bool put_behind(echod_pump *pump, reading *it, const uint8_t *octets, size_t size)
{
    if (it->produced + size > it->at)
        return false;
    memcpy(pump->buffer + it->produced, octets, size);
    it->produced += size;
    return true;
}

/* Answer with a payload that is not in the lease's buffers, and has room for a header in front. Most answers fit behind
   those so far. */
static fate answer_with(echod_pump *pump, lease_t *lease, reading *it, uint8_t kind, uint8_t *payload, size_t length)
{
    size_t header_size = put_header_before(payload, kind, length), size = header_size + length;
    uint8_t *frame = payload - header_size;
    if (put_behind(pump, it, frame, size))
        return TAKEN;
    return answer_so_far(pump, lease, it) && answer_in_order(lease, frame, size) ? TAKEN : LOST;
}

/* Inflating. */

/* The most bytes that a deflated message may inflate to. */
static size_t most_inflated(const echod_pump *pump, const lease_t *lease)
{
    size_t most = echod_deflate_largest(&lease->window->terms);
    return pump->max_message_size < most ? (size_t)pump->max_message_size : most;
}

/* The most bytes of a deflated message as it arrives. A message that can't be compressed is a little longer than its
   content. */
static size_t most_deflated(const echod_pump *pump, const lease_t *lease)
{
    size_t limit = most_inflated(pump, lease);
    return limit + limit / 16 + 1024;
}

/* Inflate a message, count it, and note in is_late whether the lease has had its share of the turn. TAKEN or LEFT. */
static fate inflate_message(echod_pump *pump, lease_t *lease, reading *it, uint8_t opcode, const uint8_t *octets,
                            size_t size, echod_inflated *said)
{
    size_t most = most_inflated(pump, lease);
    if (!echod_deflate_take(pump->deflate, lease->window, octets, size, opcode == OPCODE_TEXT, most, said))
        return LEFT;
    /* Only deflated messages can take long enough to make a read late. */
    it->is_late = now_ns() >= pump->share_end;
    echod_lease_count(pump, lease, &(echod_large){.length = said->size, .opcode = opcode});
    return TAKEN;
}

/* Answer with the content of a message: deflated anew, or plain if it is short. */
static fate answer_anew(echod_pump *pump, lease_t *lease, reading *it, uint8_t opcode, const echod_inflated *said)
{
    assert(said->answer);
    uint8_t kind = said->is_plain ? opcode : opcode | RSV1;
    return answer_with(pump, lease, it, kind, said->answer, said->answer_size);
}

/* Control frames. */

/* Whether a control frame that is served comes next. It may come between two frames of a gathered message, unless that is
   deflated. */
static bool is_control_next(const echod_pump *pump, const lease_t *lease, const reading *it)
{
    if (lease->message && (is_within_deflated(lease) || echod_gather_is_within_frame(gather_of(lease))))
        return false;
    return echod_control_begins(pump->buffer + it->at, it->size - it->at);
}

/* Serve a control frame. Its answer is shorter, so that there is room for it behind the answers so far. */
static fate serve_control(echod_pump *pump, reading *it)
{
    echod_control control;
    uint8_t *answer = pump->buffer + it->produced, *frame = pump->buffer + it->at;
    switch (echod_control_serve(&control, answer, frame, it->size - it->at)) {
    case ECHOD_CONTROL_WHOLE:
        it->at += control.frame_size;
        it->produced += control.answer_size;
        return TAKEN;
    case ECHOD_CONTROL_PARTIAL:
        return BEGUN;
    case ECHOD_CONTROL_ODD:
        break;
    }
    return LEFT;
}

/* Gathered messages. */

/* The room for a message whose payload is to have `payload` bytes. It doubles, so that a growing one is not copied over
   and over. */
static size_t room_for(const lease_t *lease, size_t payload)
{
    size_t room = GATHER_ROOM + (payload < GATHER_SIZE ? GATHER_SIZE : payload);
    return lease->message && room < 2 * lease->message_room ? 2 * lease->message_room : room;
}

/* Make room for `size` more bytes of payload. TAKEN, or LEFT if there is no memory or the pump is tight. */
static fate make_room(echod_pump *pump, lease_t *lease, size_t size)
{
    size_t done = lease->message ? echod_gather_size(gather_of(lease)) : 0;
    if (lease->message && GATHER_ROOM + done + size <= lease->message_room)
        return TAKEN;
    if (pump->is_tight && done + size > KEEP_SIZE)
        return LEFT;
    size_t touched, room = room_for(lease, done + size);
    uint8_t *message = echod_pool_take(&pump->pool, room, &touched);
    if (!message)
        return LEFT;
    if (lease->message) {
        memcpy(message, lease->message, GATHER_ROOM + done);
        give_buffer(pump, lease->message);
    }
    lease->message = message;
    lease->message_room = room;
    lease->message_touched = touched;
    return TAKEN;
}

static void drop_message(echod_pump *pump, lease_t *lease)
{
    give_buffer(pump, lease->message);
    lease->message = NULL;
}

/* Answer with the gathered payload itself. */
static fate answer_gathered(echod_pump *pump, lease_t *lease, reading *it, const echod_large *whole)
{
    uint8_t *payload = lease->message + GATHER_ROOM;
    size_t header_size = put_header_before(payload, whole->opcode, whole->length);
    size_t size = header_size + (size_t)whole->length;
    /* Thousands of small messages fit into a read, and a send costs as much as a hundred of them. Copying a large
       message costs more than a send. */
    if (size <= KEEP_SIZE && put_behind(pump, it, payload - header_size, size)) {
        drop_message(pump, lease);
        return TAKEN;
    }
    if (!answer_so_far(pump, lease, it))
        return LOST;
    if (!lease->unsent_size) {
        echod_send_message(pump, lease, GATHER_ROOM - header_size, size);
        return TAKEN;
    }
    bool is_kept = echod_send_later(lease, payload - header_size, size);
    drop_message(pump, lease);
    return is_kept ? TAKEN : LOST;
}

static fate finish_gathered(echod_pump *pump, lease_t *lease, reading *it)
{
    echod_gather *gather = gather_of(lease);
    echod_large whole = {.length = echod_gather_size(gather), .opcode = gather->kind};
    if (!echod_gather_is_deflated(gather)) {
        echod_lease_count(pump, lease, &whole);
        return answer_gathered(pump, lease, it, &whole);
    }
    uint8_t opcode = echod_gather_opcode(gather);
    echod_inflated said;
    if (inflate_message(pump, lease, it, opcode, lease->message + GATHER_ROOM, (size_t)whole.length, &said) == LEFT)
        return LEFT;
    if (!said.answer)
        return answer_gathered(pump, lease, it, &whole);
    fate what = answer_anew(pump, lease, it, opcode, &said);
    drop_message(pump, lease);
    return what;
}

/* Gather the next bytes of a message. */
static fate gather_some(echod_pump *pump, lease_t *lease, reading *it)
{
    if (make_room(pump, lease, it->size - it->at) == LEFT)
        return LEFT;
    uint8_t *payload = lease->message + GATHER_ROOM;
    switch (echod_gather_feed(gather_of(lease), payload, pump->buffer, it->size, &it->at)) {
    case ECHOD_GATHER_OPEN:
        return TAKEN;
    case ECHOD_GATHER_COMPLETE:
        return finish_gathered(pump, lease, it);
    case ECHOD_GATHER_ODD:
        break;
    }
    return LEFT;
}

static fate begin_gathering(echod_pump *pump, lease_t *lease, reading *it)
{
    if (make_room(pump, lease, it->size - it->at) == LEFT)
        return LEFT;
    lease->is_gathered = true;
    uint8_t first = pump->buffer[it->at];
    uint64_t most = (first & RSV1) ? most_deflated(pump, lease) : pump->max_message_size;
    echod_gather_begin(gather_of(lease), first, most, pump->max_fragments);
    return gather_some(pump, lease, it);
}

/* A deflated message in one whole frame. */

typedef struct {
    echod_large frame;
    uint8_t *begin; /* of the frame */
    size_t header_size;
    uint8_t header[CLIENT_HEADER];
    uint8_t *payload; /* unmasked, at its place in an answer of the same bytes, which is shorter by the key */
} unmasked_frame;

/* Unmask the payload of the next frame, which may overwrite the frame's header. False: the frame is not whole. */
static bool unmask_frame(echod_pump *pump, lease_t *lease, const reading *it, unmasked_frame *whole)
{
    whole->begin = pump->buffer + it->at;
    whole->header_size =
        echod_gather_whole(&whole->frame, whole->begin, it->size - it->at, most_deflated(pump, lease));
    if (!whole->header_size)
        return false;
    memcpy(whole->header, whole->begin, whole->header_size);
    whole->payload = pump->buffer + it->produced + whole->header_size - KEY_SIZE;
    const uint8_t *source = whole->begin + whole->header_size;
    echod_unmask(whole->payload, source, (size_t)whole->frame.length, whole->frame.key);
    return true;
}

/* Restore the frame to the bytes that came. */
static void mask_again(const unmasked_frame *whole)
{
    uint8_t *source = whole->begin + whole->header_size;
    size_t length = (size_t)whole->frame.length;
    memmove(source, whole->payload, length);
    echod_unmask(source, source, length, whole->frame.key);
    memcpy(whole->begin, whole->header, whole->header_size);
}

/* Serve a deflated message. If it is not in one whole frame, gather it. */
static fate serve_deflated(echod_pump *pump, lease_t *lease, reading *it)
{
    unmasked_frame whole;
    echod_inflated said;
    if (!unmask_frame(pump, lease, it, &whole))
        return begin_gathering(pump, lease, it);
    size_t length = (size_t)whole.frame.length;
    uint8_t opcode = whole.frame.opcode & (uint8_t)~RSV1;
    if (inflate_message(pump, lease, it, opcode, whole.payload, length, &said) == LEFT) {
        mask_again(&whole);
        return LEFT;
    }
    it->at += whole.header_size + length;
    if (said.answer)
        return answer_anew(pump, lease, it, opcode, &said);
    it->produced += put_header_before(whole.payload, whole.frame.opcode, length) + length;
    return TAKEN;
}

/* The read. */

/* Echo ordinary frames behind others. */
static fate echo_some(echod_pump *pump, lease_t *lease, reading *it)
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
        return PARTIAL;
    return echoed.messages ? TAKEN : LEFT;
}

static fate serve_data(echod_pump *pump, lease_t *lease, reading *it)
{
    if (lease->message)
        return gather_some(pump, lease, it);
    if (!echod_gather_is_first(pump->buffer[it->at], lease->window != NULL))
        return echo_some(pump, lease, it);
    if (pump->buffer[it->at] & RSV1)
        return serve_deflated(pump, lease, it);
    return begin_gathering(pump, lease, it);
}

static fate serve_next(echod_pump *pump, lease_t *lease, reading *it)
{
    check_reading(it);
    if (it->is_late)
        return LATE;
    fate what = serve_data(pump, lease, it);
    return what == LEFT && is_control_next(pump, lease, it) ? serve_control(pump, it) : what;
}

/* Keep what is not served yet. Returns `state`, or ENDED. */
static outcome keep_rest(echod_pump *pump, lease_t *lease, const uint8_t *rest, size_t rest_size, outcome state)
{
    return copy_partial(lease, rest, rest_size) ? state : echod_lease_end_without_memory(pump, lease);
}

outcome echod_serve_mixed(echod_pump *pump, lease_t *lease, size_t produced, size_t at, size_t size)
{
    reading it = {.produced = produced, .at = at, .size = size};
    fate what = TAKEN;
    while (what == TAKEN && it.at < it.size)
        what = serve_next(pump, lease, &it);
    check_reading(&it);
    if (!answer_so_far(pump, lease, &it))
        what = LOST;
    const uint8_t *rest = pump->buffer + it.at;
    size_t rest_size = it.size - it.at;
    switch (what) {
    case TAKEN:
        break;
    case LEFT:
        return echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, rest_size);
    case PARTIAL:
        return echod_partial_keep(pump, lease, rest, rest_size, it.need);
    case BEGUN:
        return keep_rest(pump, lease, rest, rest_size, CONTINUE);
    case LATE:
        assert(!lease->message);
        return keep_rest(pump, lease, rest, rest_size, PUT_OFF);
    case LOST:
        return echod_lease_end_without_memory(pump, lease);
    }
    return CONTINUE;
}

#endif
