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

bool echod_send_later(lease_t *lease, const uint8_t *octets, size_t size)
{
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

void echod_send_message(echod_pump *pump, lease_t *lease, size_t start, size_t size)
{
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

static void drop_unsent(echod_pump *pump, lease_t *lease)
{
    give_buffer(pump, lease->public.unsent);
    lease->public.unsent = NULL;
    lease->public.unsent_size = lease->sent = 0;
}

void echod_send_unsent(echod_pump *pump, lease_t *lease)
{
    size_t most = most_to_send(pump, lease);
    size_t size = lease->public.unsent_size < most ? lease->public.unsent_size : most;
    size_t sent = send_some(lease, lease->public.unsent + lease->sent, size);
    lease->sent += sent;
    lease->public.unsent_size -= sent;
    if (!lease->public.unsent_size)
        drop_unsent(pump, lease);
}

size_t echod_send_waiting(const lease_t *lease)
{
    const uint8_t *octets;
    return lease->public.unsent_size + (lease->tls ? echod_tls_unsent(lease->tls, &octets) : 0);
}

#endif
