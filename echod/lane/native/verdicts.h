/*
 * Remembered verdicts: how Python answered a request head, so that the next head of its kind gets the same answer here.
 *
 * A verdict is pure: the same head and the same settings give the same one. Of two heads of one client the key differs, and
 * behind a proxy some values differ on which no verdict depends (a request's number, cookies). So a head is compared
 * *in brief*: as it came, but without its key, and without the values of all fields that nobody judges. What is left, the
 * names of these fields among it, has to be the same octets. So nothing is judged here. A head that is malformed has
 * the same fault in brief, and no such head was ever answered with 101. Only a value that is left out is looked at: its
 * octets must be those that any value may have (RFC 9110 section 5.5).
 *
 * The number of heads is bounded. The one that was not used for longest is forgotten, but it stays in memory while
 * connections refer to it.
 *
 * Knows the lines of a head, and the fields that a verdict depends on by the names it is given. Must never know what a field
 * means, nor a socket.
 */
#ifndef ECHOD_VERDICTS_H
#define ECHOD_VERDICTS_H

#include <stddef.h>
#include <stdint.h>

#include "accept_value.h"
#include "deflate.h"

/* cffi: begin */

typedef struct echod_verdicts echod_verdicts;
typedef struct echod_verdict echod_verdict;

/* What a head has of its own. It points into the octets of the head. */
typedef struct {
    size_t size; /* of the head, with its blank line; frames may come behind it */
    const uint8_t *key;
    /* The value of the field that is kept. NULL: the head has none. */
    const uint8_t *kept;
    size_t kept_size;
} echod_head;

/* Make a memory for verdicts on heads of at most `max_head_size` bytes. `judged`: the names of the fields that a verdict
   depends on, in lower case, with a space between two. `kept`: the one field, or "", that no verdict depends on and whose
   value is wanted all the same. NULL: there is no memory. */
echod_verdicts *echod_verdicts_new(const char *judged, const char *kept, size_t max_head_size);

/* Release it. No connection may refer to a verdict any more. */
void echod_verdicts_free(echod_verdicts *verdicts);

/* Remember that `head` was answered with `answer`, and on which terms its connection takes deflated messages (NULL: on
   none). Returns whether it is remembered now. It is not if it is too long, or has no form that can be found again,
   or if the answer is not the one to its key, or if there is no memory. */
int echod_verdicts_remember(echod_verdicts *verdicts, const uint8_t *head, size_t head_size, const uint8_t *answer,
                            size_t answer_size, const echod_terms *terms);

/* Forget all verdicts, because what they depend on has changed. */
void echod_verdicts_clear(echod_verdicts *verdicts);

/* Find the verdict on the head that octets[0, size) begins with. NULL: the head is not whole, or nobody remembers it. */
echod_verdict *echod_verdicts_find(echod_verdicts *verdicts, const uint8_t *octets, size_t size, echod_head *head);

/* Write the answer to a head with this key, and return its size. With NULL in place of `answer`: only return the size. */
size_t echod_verdict_answer(const echod_verdict *verdict, const uint8_t *key, uint8_t *answer);

/* Write a head with this key and this kept value for which the verdict is the same, and return its size. With NULL in place
   of `head`: only return the size. All other values that were left out are empty. */
size_t echod_verdict_head(const echod_verdict *verdict, const uint8_t *key, const uint8_t *kept, size_t kept_size,
                          uint8_t *head);

/* The terms on which connections take deflated messages. NULL: on none. */
const echod_terms *echod_verdict_terms(const echod_verdict *verdict);

/* Note that one more connection refers to a verdict, or one less. */
void echod_verdict_refer(echod_verdict *verdict);
void echod_verdict_release(echod_verdicts *verdicts, echod_verdict *verdict);

/* The number of verdicts that can be found. */
size_t echod_verdicts_count(const echod_verdicts *verdicts);

/* Bytes of memory of all verdicts, including forgotten ones that connections refer to. */
size_t echod_verdicts_held(const echod_verdicts *verdicts);

/* cffi: end */

#endif
