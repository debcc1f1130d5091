/* Leased connections over TLS. See tls.h. */
#include "tls.h"

enum {
    RECORD = 16 * 1024, /* octets that a record holds at most (RFC 8446 section 5.1) */
    /* Octets put into a session at a time: a memory BIO never gives back what it once grew to. */
    PIECE = RECORD,
    /* Octets sealed at a time, likewise; but each piece is a system call. */
    SEAL = 4 * RECORD,
    GROWN = 4 * 1024, /* octets in a BIO from which on it is worth the trouble to give back what it takes */
};

static void note_most(size_t *most, size_t size)
{
    if (*most < size)
        *most = size;
}

/* Octets of memory of a BIO that has had so many in it (OpenSSL, BUF_MEM_grow_clean). */
static size_t room_of(size_t most)
{
    return (most + 3) / 3 * 4;
}

/* Whether the session waits for more of what the peer sends. What else there is to be met, the owner meets again: an error's reason stays
   behind in the queue of this thread, and the next who asks about another session would take it for that one's. */
static bool wants_more(echod_tls *tls, int result)
{
    if (tls->openssl->SSL_get_error(tls->ssl, result) == tls->openssl->SSL_ERROR_WANT_READ)
        return true;
    tls->openssl->ERR_clear_error();
    tls->is_odd = true;
    return false;
}

static bool put(echod_tls *tls, echod_sealed *sealed, size_t size)
{
    int n = tls->openssl->BIO_write(tls->in, sealed->octets, (int)size);
    if (n <= 0)
        return false;
    note_most(&tls->most_in, echod_tls_unopened(tls));
    sealed->octets += n;
    sealed->size -= (size_t)n;
    return true;
}

size_t echod_tls_open(echod_tls *tls, echod_sealed *sealed, uint8_t *target, size_t room)
{
    size_t opened = 0;
    while (opened < room) {
        int n = tls->openssl->SSL_read(tls->ssl, target + opened, (int)(room - opened));
        if (n > 0)
            opened += (size_t)n;
        else if (!wants_more(tls, n) || !sealed->size || !put(tls, sealed, sealed->size < PIECE ? sealed->size : PIECE))
            break;
    }
    return opened;
}

size_t echod_tls_peek(echod_tls *tls, uint8_t *target, size_t room)
{
    int n = tls->openssl->SSL_peek(tls->ssl, target, (int)room);
    if (n <= 0)
        wants_more(tls, n);
    return n > 0 ? (size_t)n : 0;
}

bool echod_tls_keep(echod_tls *tls, echod_sealed *sealed)
{
    while (sealed->size)
        if (!put(tls, sealed, sealed->size))
            return false;
    return true;
}

size_t echod_tls_seal(echod_tls *tls, const uint8_t *octets, size_t size)
{
    size_t most = size < SEAL ? size : SEAL, sealed = 0;
    while (sealed < most && !tls->is_odd) {
        /* One record at a time, whatever the session's mode. */
        size_t piece = most - sealed < RECORD ? most - sealed : RECORD;
        int n = tls->openssl->SSL_write(tls->ssl, octets + sealed, (int)piece);
        if (n > 0) {
            sealed += (size_t)n;
        } else {
            tls->openssl->ERR_clear_error();
            tls->is_odd = true;
        }
    }
    const uint8_t *unsent;
    note_most(&tls->most_out, echod_tls_unsent(tls, &unsent));
    return sealed;
}

size_t echod_tls_unsent(const echod_tls *tls, const uint8_t **octets)
{
    char *begin = NULL;
    long size = tls->openssl->BIO_get_mem_data(tls->out, &begin);
    *octets = (const uint8_t *)begin;
    return size > 0 ? (size_t)size : 0;
}

void echod_tls_sent(echod_tls *tls, size_t size)
{
    uint8_t forgotten[RECORD];
    while (size) {
        int n = tls->openssl->BIO_read(tls->out, forgotten, (int)(size < sizeof forgotten ? size : sizeof forgotten));
        if (n <= 0)
            break;
        size -= (size_t)n;
    }
}

size_t echod_tls_unopened(const echod_tls *tls)
{
    char *begin = NULL;
    long size = tls->openssl->BIO_get_mem_data(tls->in, &begin);
    return size > 0 ? (size_t)size : 0;
}

size_t echod_tls_held(const echod_tls *tls)
{
    const uint8_t *octets;
    bool is_in_use = echod_tls_unsent(tls, &octets) || echod_tls_unopened(tls);
    return is_in_use ? room_of(tls->most_in) + room_of(tls->most_out) : 0;
}

bool echod_tls_has_grown(const echod_tls *tls)
{
    return tls->most_in > GROWN || tls->most_out > GROWN;
}
