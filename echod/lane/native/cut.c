/* Ordinary frames that are cut. See cut.h. */
#ifdef __linux__

#include "cut.h"

#include "send.h"

static void finish_large(echod_pump *pump, lease_t *lease)
{
    size_t header_size = put_header_before(lease->message + ECHOD_LARGE_ROOM, lease->large.opcode, lease->large.length);
    echod_lease_count(pump, lease, &lease->large);
    echod_send_message(pump, lease, ECHOD_LARGE_ROOM - header_size, header_size + (size_t)lease->large.length);
}

bool echod_cut_feed(echod_pump *pump, lease_t *lease, const uint8_t *octets, size_t size)
{
    uint8_t *target = lease->message + ECHOD_LARGE_ROOM + lease->large.done;
    switch (echod_large_feed(&lease->large, target, octets ? octets : target, size)) {
    case ECHOD_LARGE_COMPLETE:
        finish_large(pump, lease);
        break;
    case ECHOD_LARGE_INVALID:
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, NULL, 0);
        return false;
    case ECHOD_LARGE_OPEN:
        break;
    }
    return true;
}

/* Whether the payload of a small frame, so far, can become that of an ordinary one: text is to fail at the first octet that no text
   has there (the testsuite's cases 6.4), not when the frame is whole, which may be never. */
static bool can_be_ordinary(echod_large *large, const uint8_t *payload, size_t size)
{
    uint8_t unmasked[KEEP_SIZE];
    return large->opcode != OPCODE_TEXT || echod_large_feed(large, unmasked, payload, size) != ECHOD_LARGE_INVALID;
}

bool echod_cut_keep(echod_pump *pump, lease_t *lease, const uint8_t *rest, size_t size, uint64_t need)
{
    echod_large *large = &lease->large;
    size_t header_size = echod_large_begin(large, rest, size, pump->max_message_size);
    if (!header_size || need <= KEEP_SIZE) { /* without a header there are no more than 13 octets, however large the frame */
        if (header_size && !can_be_ordinary(large, rest + header_size, size - header_size)) {
            echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, size);
            return false;
        }
        if (keep_partial(lease, rest, size))
            return true;
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
        return false;
    }
    lease->is_gathered = false;
    lease->message_room = ECHOD_LARGE_ROOM + (size_t)large->length;
    if (!pump->is_tight)
        /* Not touched until it is filled, so a claim alone takes no memory but what is touched already. */
        lease->message = echod_spares_take(&pump->spares, lease->message_room, &lease->message_touched);
    if (!lease->message) {
        echod_lease_end_in_turn(pump, lease, ECHOD_END_NOT_ORDINARY, rest, size);
        return false;
    }
    return echod_cut_feed(pump, lease, rest + header_size, size - header_size);
}

#endif
