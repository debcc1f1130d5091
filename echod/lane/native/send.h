/*
 * Sends answers, over TLS in records. Answers that the kernel does not take wait.
 *
 * Knows how a socket is written, and what tls.h says of TLS. Must never know to what an answer belongs, or when there
 * is one.
 */
#ifndef ECHOD_SEND_H
#define ECHOD_SEND_H

#include <errno.h>
#include <sys/socket.h>

#include "lease.h"

/* Send to a lease's socket. Returns how many bytes the kernel took. */
FOR_EACH size_t send_octets(const lease_t *lease, const uint8_t *octets, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        ssize_t n = send(lease->public.fd, octets + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* it would block; or there is an error, which the owner's next write meets again */
        sent += (size_t)n;
    }
    return sent;
}

/* Send the records that a TLS session has. BLOCKED: the kernel does not take all of them. Otherwise CONTINUE. */
outcome echod_send_records(lease_t *lease);

/* Seal and send. Returns how many of the bytes went into records. The last records may still be in the session; then
   the next answer waits. */
size_t echod_send_sealed(lease_t *lease, const uint8_t *octets, size_t size);

/* Send over either kind of connection. Returns how many bytes are no longer the caller's to send. */
FOR_EACH size_t send_some(lease_t *lease, const uint8_t *octets, size_t size)
{
    return lease->tls ? echod_send_sealed(lease, octets, size) : send_octets(lease, octets, size);
}

/* Send the records that wait. BLOCKED if anything waits then, otherwise CONTINUE. */
FOR_EACH outcome flush(lease_t *lease)
{
    if (lease->unsent_size)
        return BLOCKED;
    return lease->tls ? echod_send_records(lease) : CONTINUE;
}

/* Keep a copy of answers that the kernel did not take. No answer may be waiting. False: there is no memory. */
bool echod_send_keep(lease_t *lease, const uint8_t *octets, size_t size);

/* Keep a copy of answers behind those that wait. False: there is no memory. */
bool echod_send_later(lease_t *lease, const uint8_t *octets, size_t size);

/* Send answers from a buffer that is not the lease's. No answer may be waiting. False: there is no memory for what the
   kernel did not take. */
FOR_EACH bool answer(lease_t *lease, const uint8_t *octets, size_t size)
{
    size_t sent = send_some(lease, octets, size);
    return sent == size || echod_send_keep(lease, octets + sent, size - sent);
}

/* Send answers now, or behind those that wait. False: there is no memory for what the kernel did not take. */
static inline bool answer_in_order(lease_t *lease, const uint8_t *octets, size_t size)
{
    return lease->unsent_size ? echod_send_later(lease, octets, size) : answer(lease, octets, size);
}

/* Send the answer message[start, start + size). The lease has no message then: its buffer goes to the pool, or waits
   with what the kernel did not take. No answer may be waiting. */
void echod_send_message(echod_pump *pump, lease_t *lease, size_t start, size_t size);

/* Send the answers that wait, but no more bytes than one socket may send at a time. */
void echod_send_unsent(echod_pump *pump, lease_t *lease);

/* Bytes that wait, including the records in a TLS session. */
size_t echod_send_waiting(const lease_t *lease);

#endif
