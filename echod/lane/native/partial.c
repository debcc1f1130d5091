/* Ordinary frames of which only the beginning has come. See partial.h. */
#ifdef __linux__

#include "partial.h"

#include "send.h"

static void answer_large(echod_pump *pump, lease_t *lease)
{
    size_t header_size = put_header_before(lease->message + ECHOD_LARGE_ROOM, lease->large.opcode, lease->large.length);
    echod_lease_count(pump, lease, &lease->large);
    echod_send_message(pump, lease, ECHOD_LARGE_ROOM - header_size, header_size + (size_t)lease->large.length);
}

outcome echod_partial_feed(echod_pump *pump, lease_t *lease, const uint8_t *octets, size_t size)
{
    assert(lease->message && !lease->is_gathered && size <= lease->large.length - lease->large.done);
    uint8_t *target = lease->message + ECHOD_LARGE_ROOM + lease->large.done;
    switch (echod_large_feed(&lease->large, target, octets ? octets : target, size)) {
    case ECHOD_LARGE_OPEN:
        break;
    case ECHOD_LARGE_COMPLETE:
        answer_large(pump, lease);
        break;
    case ECHOD_LARGE_INVALID:
        return echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, NULL, 0);
    }
    return CONTINUE;
}

/* Whether a small frame can still become an ordinary one, by the payload so far. A text has to fail at the first byte
   that can't continue it (cases 6.4 of the Autobahn testsuite), not when the frame is whole, which may be never. */
static bool can_be_ordinary(echod_large *large, const uint8_t *payload, size_t size)
{
    uint8_t unmasked[KEEP_SIZE];
    assert(size <= sizeof unmasked);
    return large->opcode != OPCODE_TEXT || echod_large_feed(large, unmasked, payload, size) != ECHOD_LARGE_INVALID;
}

/* Keep a small frame as it came. Without a whole header these are 13 bytes at most, however large the frame is. */
static outcome keep_small(echod_pump *pump, lease_t *lease, const uint8_t *rest, size_t size, size_t header_size)
{
    if (header_size && !can_be_ordinary(&lease->large, rest + header_size, size - header_size))
        return echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, size);
    return copy_partial(lease, rest, size) ? CONTINUE : echod_lease_end_without_memory(pump, lease);
}

/* Make the buffer of a large frame. False: the pump is tight, or there is no memory. */
static bool make_message(echod_pump *pump, lease_t *lease)
{
    if (pump->is_tight)
        return false;
    lease->is_gathered = false;
    lease->message_room = ECHOD_LARGE_ROOM + (size_t)lease->large.length;
    /* Nothing is written to the buffer until payload arrives: a header alone takes no new memory. */
    lease->message = echod_pool_take(&pump->pool, lease->message_room, &lease->message_touched);
    return lease->message != NULL;
}

outcome echod_partial_keep(echod_pump *pump, lease_t *lease, const uint8_t *rest, size_t size, uint64_t need)
{
    assert(!lease->message && size && size < need);
    size_t header_size = echod_large_begin(&lease->large, rest, size, pump->max_message_size);
    if (!header_size || need <= KEEP_SIZE)
        return keep_small(pump, lease, rest, size, header_size);
    if (!make_message(pump, lease))
        return echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, size);
    return echod_partial_feed(pump, lease, rest + header_size, size - header_size);
}

#endif
