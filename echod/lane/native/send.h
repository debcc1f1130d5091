/*
 * Answers go out, as they are or sealed, and those that the kernel doesn't take wait.
 *
 * Knows how a socket is written, and of TLS what tls.h tells. Must never know what an answer answers, nor when there is one.
 */
#ifndef ECHOD_SEND_H
#define ECHOD_SEND_H

#include <errno.h>
#include <sys/socket.h>

#include "lease.h"

/* Send to a lease's socket; the answer is how much the kernel takes. */
FOR_EACH size_t send_octets(const lease_t *lease, const uint8_t *octets, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        ssize_t n = send(lease->public.fd, octets + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* would block; or an error, which the next write by the lease's owner meets again */
        sent += (size_t)n;
    }
    return sent;
}

/* Send what a TLS session has to send. False: the kernel doesn't take all of it. */
bool echod_send_rest(lease_t *lease);

/* How much of it goes out. Over TLS the last records may be in the session, and keep the next answer waiting. */
size_t echod_send_sealed(lease_t *lease, const uint8_t *octets, size_t size);

FOR_EACH size_t send_some(lease_t *lease, const uint8_t *octets, size_t size)
{
    return lease->tls ? echod_send_sealed(lease, octets, size) : send_octets(lease, octets, size);
}

/* Whether no answers wait. Over TLS it tries to send first, so that the next who asks may be told otherwise: asked once for each
   decision. */
FOR_EACH bool try_to_flush(lease_t *lease)
{
    return !lease->unsent_size && (!lease->tls || echod_send_rest(lease));
}

/* Keep a copy of answers that are not taken, where none wait. False: there is no memory. */
bool echod_send_keep(lease_t *lease, const uint8_t *octets, size_t size);

/* Let answers wait behind those that wait already. False: there is no memory. */
bool echod_send_later(lease_t *lease, const uint8_t *octets, size_t size);

/* Send answers from a buffer that is not the lease's, where none wait; what is not taken is kept. False: there is no memory for it. */
FOR_EACH bool answer(lease_t *lease, const uint8_t *octets, size_t size)
{
    size_t sent = send_some(lease, octets, size);
    return sent == size || echod_send_keep(lease, octets + sent, size - sent);
}

/* Send the answer that is in the message's buffer, which is over then, or holds what waits. */
void echod_send_message(echod_pump *pump, lease_t *lease, size_t start, size_t size);

/* Send what waits, but no more than goes to one socket at a time. */
void echod_send_unsent(echod_pump *pump, lease_t *lease);

/* Octets that wait, those in a TLS session included. */
size_t echod_send_waiting(const lease_t *lease);

#endif
