/* Leased connections over TLS. See tls.h. */
#include "tls.h"

#include <assert.h>

#include "sizes.h"

static void note_most(size_t *most, size_t size)
{
    if (*most < size)
        *most = size;
}

/* Bytes of memory of a BIO that has had so many in it (OpenSSL, BUF_MEM_grow_clean). */
static size_t room_of(size_t most)
{
    return (most + 3) / 3 * 4;
}

/* Ask why the session gave nothing. True: it waits for more from the peer. False: it is odd, and the owner will meet
   the reason again. That is removed from this thread's queue of errors, where the next call for another session would
   find it. */
static bool wants_more(echod_tls *tls, int result)
{
    if (tls->openssl->SSL_get_error(tls->ssl, result) == tls->openssl->SSL_ERROR_WANT_READ)
        return true;
    tls->openssl->ERR_clear_error();
    tls->is_odd = true;
    return false;
}

/* Put received records into the session. False: there is no memory. */
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

/* Put as much as fits into the BIO without growing it further. False: there is no memory. */
static bool put_piece(echod_tls *tls, echod_sealed *sealed)
{
    return put(tls, sealed, sealed->size < PUT_SIZE ? sealed->size : PUT_SIZE);
}

size_t echod_tls_open(echod_tls *tls, echod_sealed *sealed, uint8_t *target, size_t room)
{
    size_t opened = 0;
    while (opened < room) {
        int n = tls->openssl->SSL_read(tls->ssl, target + opened, (int)(room - opened));
        if (n > 0)
            opened += (size_t)n;
        else if (!wants_more(tls, n) || !sealed->size || !put_piece(tls, sealed))
            break;
    }
    assert(opened <= room);
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
    size_t most = send_piece(size, SEAL_SIZE), sealed = 0;
    while (sealed < most && !tls->is_odd) {
        /* One record at a time: a session's mode may let SSL_write stop behind any of them. */
        size_t piece = most - sealed < RECORD_SIZE ? most - sealed : RECORD_SIZE;
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
    uint8_t forgotten[RECORD_SIZE];
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
    return tls->most_in > GROWN_SIZE || tls->most_out > GROWN_SIZE;
}
