/* Sending and sealing. See send.h. */
#ifdef __linux__

#include "send.h"

outcome echod_send_records(lease_t *lease)
{
    const uint8_t *octets;
    size_t size = echod_tls_unsent(lease->tls, &octets);
    size_t sent = send_octets(lease, octets, size);
    echod_tls_sent(lease->tls, sent);
    return sent == size ? CONTINUE : BLOCKED;
}

size_t echod_send_sealed(lease_t *lease, const uint8_t *octets, size_t size)
{
    size_t sealed = 0;
    while (echod_send_records(lease) == CONTINUE && sealed < size && !lease->tls->is_odd)
        sealed += echod_tls_seal(lease->tls, octets + sealed, size - sealed);
    return sealed;
}

/* How much of a large answer to send now. To seal takes ten times as long as to send. */
static size_t size_to_send(const echod_pump *pump, const lease_t *lease, size_t size)
{
    return send_piece(size, (lease->tls ? 1 : 4) * piece_size(pump));
}

/* Let buffer[start, start + size) wait. `held` bytes of the buffer take memory. */
static void wait_in(lease_t *lease, uint8_t *buffer, size_t start, size_t size, size_t held)
{
    assert(!lease->unsent && !lease->unsent_size && size);
    lease->unsent = buffer;
    lease->sent = start;
    lease->unsent_size = size;
    lease->unsent_held = held;
}

bool echod_send_keep(lease_t *lease, const uint8_t *octets, size_t size)
{
    uint8_t *copied = copy_octets(octets, size);
    if (copied)
        wait_in(lease, copied, 0, size, allocated_size(copied));
    return copied != NULL;
}

bool echod_send_later(lease_t *lease, const uint8_t *octets, size_t size)
{
    assert(lease->unsent_size);
    size_t whole = lease->later_size + size;
    if (whole > lease->later_room) {
        /* Twice as much each time, so that many small answers are not copied over and over. */
        size_t room = whole < 2 * lease->later_room ? 2 * lease->later_room : whole;
        uint8_t *larger = realloc(lease->later, room);
        if (!larger)
            return false;
        lease->later = larger;
        lease->later_room = room;
        lease->later_held = allocated_size(larger);
    }
    memcpy(lease->later + lease->later_size, octets, size);
    lease->later_size = whole;
    return true;
}

void echod_send_message(echod_pump *pump, lease_t *lease, size_t start, size_t size)
{
    size_t sent = send_some(lease, lease->message + start, size_to_send(pump, lease, size));
    if (sent == size)
        give_buffer(pump, lease->message);
    else
        wait_in(lease, lease->message, start + sent, size - sent, echod_lease_message_held(lease));
    lease->message = NULL;
}

/* The first buffer is sent: the answers behind it are next. */
static void next_unsent(echod_pump *pump, lease_t *lease)
{
    give_buffer(pump, lease->unsent);
    lease->unsent = NULL;
    lease->unsent_held = 0;
    if (lease->later)
        wait_in(lease, lease->later, 0, lease->later_size, lease->later_held);
    lease->later = NULL;
    lease->later_size = lease->later_room = lease->later_held = 0;
}

void echod_send_unsent(echod_pump *pump, lease_t *lease)
{
    size_t size = size_to_send(pump, lease, lease->unsent_size);
    /* Perhaps only records in the session wait, or a read that was put off. */
    const uint8_t *octets = size ? lease->unsent + lease->sent : NULL;
    size_t sent = send_some(lease, octets, size);
    lease->sent += sent;
    lease->unsent_size -= sent;
    if (lease->unsent && !lease->unsent_size)
        next_unsent(pump, lease);
}

size_t echod_send_waiting(const lease_t *lease)
{
    const uint8_t *octets;
    return lease->unsent_size + lease->later_size + (lease->tls ? echod_tls_unsent(lease->tls, &octets) : 0);
}

#endif
