/* Sending and sealing. See send.h. */
#ifdef __linux__

#include "send.h"

bool echod_send_rest(lease_t *lease)
{
    const uint8_t *octets;
    size_t size = echod_tls_unsent(lease->tls, &octets);
    size_t sent = send_octets(lease, octets, size);
    echod_tls_sent(lease->tls, sent);
    return sent == size;
}

size_t echod_send_sealed(lease_t *lease, const uint8_t *octets, size_t size)
{
    size_t sealed = 0;
    while (echod_send_rest(lease) && sealed < size && !lease->tls->is_odd)
        sealed += echod_tls_seal(lease->tls, octets + sealed, size - sealed);
    return sealed;
}

/* How much of a large answer may go to one socket at a time. To seal takes ten times as long as to send. */
static size_t most_to_send(const echod_pump *pump, const lease_t *lease)
{
    return (lease->tls ? 1 : 4) * piece_size(pump);
}

/* Have the octets [start, start + size) of a buffer wait, so many of which take memory. */
static void wait_in(lease_t *lease, uint8_t *buffer, size_t start, size_t size, size_t room)
{
    lease->unsent = buffer;
    lease->sent = start;
    lease->unsent_size = size;
    lease->unsent_room = room;
}

bool echod_send_keep(lease_t *lease, const uint8_t *octets, size_t size)
{
    uint8_t *copied = copy_octets(octets, size);
    if (copied)
        wait_in(lease, copied, 0, size, size);
    return copied != NULL;
}

bool echod_send_later(lease_t *lease, const uint8_t *octets, size_t size)
{
    size_t whole = lease->later_size + size;
    if (whole > lease->later_room) {
        /* Twice as much each time, so that many small answers are not copied over and over. */
        size_t room = whole < 2 * lease->later_room ? 2 * lease->later_room : whole;
        uint8_t *larger = realloc(lease->later, room);
        if (!larger)
            return false;
        lease->later = larger;
        lease->later_room = room;
    }
    memcpy(lease->later + lease->later_size, octets, size);
    lease->later_size = whole;
    return true;
}

void echod_send_message(echod_pump *pump, lease_t *lease, size_t start, size_t size)
{
    size_t most = most_to_send(pump, lease);
    size_t sent = send_some(lease, lease->message + start, size < most ? size : most);
    if (sent == size)
        give_buffer(pump, lease->message);
    else
        wait_in(lease, lease->message, start + sent, size - sent, echod_lease_message_held(lease));
    lease->message = NULL;
}

/* What waits first has been sent: what came behind it is next. */
static void drop_unsent(echod_pump *pump, lease_t *lease)
{
    give_buffer(pump, lease->unsent);
    wait_in(lease, lease->later, 0, lease->later_size, lease->later_room);
    lease->later = NULL;
    lease->later_size = lease->later_room = 0;
}

void echod_send_unsent(echod_pump *pump, lease_t *lease)
{
    size_t most = most_to_send(pump, lease);
    size_t size = lease->unsent_size < most ? lease->unsent_size : most;
    /* Perhaps nothing waits but records in the session, or what was put off. */
    const uint8_t *octets = size ? lease->unsent + lease->sent : NULL;
    size_t sent = send_some(lease, octets, size);
    lease->sent += sent;
    lease->unsent_size -= sent;
    if (!lease->unsent_size)
        drop_unsent(pump, lease);
}

size_t echod_send_waiting(const lease_t *lease)
{
    const uint8_t *octets;
    return lease->unsent_size + lease->later_size + (lease->tls ? echod_tls_unsent(lease->tls, &octets) : 0);
}

#endif
