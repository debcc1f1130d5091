/*
 * The door: connections begin in the pump. It accepts, reads the request head, and answers one on which there is a remembered
 * verdict. Everything else goes on to the owner, with what was read.
 *
 *   endpoint   a listening socket of the owner's, known by its number
 *   visitor    a connection that was accepted, and has sent nothing yet
 *   guest      a connection that the door answered: a lease without an owner (pump.h)
 *   leaver     a guest that got a Close frame because the owner wants it to leave. Its lease is over
 *   arrival    a connection for the owner, with what was read of it
 *
 * A visitor becomes a guest or an arrival with its first octets. If a guest ends with nothing left to do, its socket is closed,
 * and a record is left (echod_gone). Otherwise it is put on a list, and the owner makes a connection of it: the head
 * (echod_guest_head) and the lease say all that the connection would know, had it begun there. The same becomes of a leaver:
 * its socket is closed when it replies with a Close frame, and it is put on the list if anything else comes.
 *
 * Knows listening sockets, and verdicts.h. Must never know what a head means, what a limit is for, or why a deadline is.
 */
#ifndef ECHOD_DOOR_H
#define ECHOD_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "farewell.h"
#include "pump.h"
#include "verdicts.h"

/* cffi: begin */

typedef struct echod_door echod_door;

typedef struct echod_arrival {
    int fd;
    uint32_t endpoint;
    /* When it was accepted, in nanoseconds of CLOCK_MONOTONIC. */
    uint64_t since;
    /* Whether there was room for it when it was accepted. If not, the owner may refuse it. */
    bool is_admitted;
    struct echod_arrival *next;
    size_t size;
    uint8_t octets[];
} echod_arrival;

typedef struct echod_guest {
    /* Its public part (pump.h). While the guest lives, nobody but the pump ends it. */
    echod_lease *lease;
    uint32_t endpoint;
    /* When it was answered, and when it had shown its last sign of life at the last look, in nanoseconds of
       CLOCK_MONOTONIC. */
    uint64_t since;
    uint64_t seen;
    /* When it got its Close frame. 0: it got none, it is no leaver. */
    uint64_t left;
    /* The one that was answered after it, or of leavers that left after it; or, once it has ended, that ended before it. */
    struct echod_guest *next;
} echod_guest;

/* A guest that has ended with nothing left to do. Its socket is closed. */
typedef struct {
    uint64_t age;  /* nanoseconds from its answer to its end */
    uint64_t code; /* that of the Close frame with which it ended (farewell.h), or one of these */
} echod_gone;

enum {
    ECHOD_LOST = 0,      /* it ended without a Close frame */
    ECHOD_TIMED_OUT = 1, /* it was reset, because it showed no sign of life after a ping, or because all are reset */
    /* Of leavers: */
    ECHOD_LEFT = 2,           /* it replied */
    ECHOD_LEFT_LOST = 3,      /* it ended without a reply */
    ECHOD_LEFT_TIMED_OUT = 4, /* it was reset, because it did not reply in time */
};

/* What the door has done since it was made, and how many it has. */
typedef struct {
    uint64_t answered;
    uint64_t lost;      /* visitors that left without a word, or for which there was no memory */
    uint64_t timed_out; /* visitors that were reset because they said nothing for too long */
    size_t visitors;
    size_t guests;
    size_t leavers;
    uint64_t news; /* how often a connection came, ended, or went on to the owner: each time there is something to tell */
} echod_door_counts;

/* Give a pump a door. The verdicts are the owner's, and must outlive it. NULL: there is no memory. */
echod_door *echod_door_new(echod_pump *pump, echod_verdicts *verdicts);

/* Release the door. It must have no visitors, no guests and no endpoints any more. */
void echod_door_free(echod_door *door);

/* Accept at a listening, non-blocking socket. 0, or -1 with errno. */
int echod_door_open(echod_door *door, int fd, uint32_t endpoint);

/* Accept there no longer. */
void echod_door_close(echod_door *door, uint32_t endpoint);

/* Set how many visitors, guests, and arrivals and ended guests that nobody has taken there may be. Those beyond become
   arrivals unread. */
void echod_door_set_room(echod_door *door, size_t room);

/* Take the list of arrivals. The caller releases each. Their order is that of a stack. */
echod_arrival *echod_door_arrivals(echod_door *door);
void echod_arrival_free(echod_arrival *arrival);

/* The guests that have gone since the last call: their number. *gone: the first
   of them. It is good until the next turn, or until the next guest is recalled. */
size_t echod_door_gone(echod_door *door, const echod_gone **gone);

/* Take the list of guests that have ended with something left to do. The caller releases each. Their order is that of a stack. */
echod_guest *echod_door_ended(echod_door *door);
void echod_guest_free(echod_door *door, echod_guest *guest);

/* The guest that has been here longest. NULL: there is none. */
echod_guest *echod_door_first(const echod_door *door);

/* End a guest, which is then on the list of those that have ended. */
void echod_door_recall(echod_door *door, echod_guest *guest);

/* Write the head of a guest's request, as verdicts.h says, and return its size. With NULL in place of `head`: only return the
   size. */
size_t echod_guest_head(const echod_guest *guest, uint8_t *head);

/* The terms on which a guest takes deflated messages. NULL: on none. */
const echod_terms *echod_guest_terms(const echod_guest *guest);

/* Reset the visitors that were accepted before `since` (nanoseconds of CLOCK_MONOTONIC). Returns whether there are more of them:
   it takes no longer than a turn may. */
int echod_door_expire(echod_door *door, uint64_t since);

/* Let guests leave with this Close frame, the oldest first: no more of them than a turn has time for. A guest of which
   something waits to be served or sent is recalled. Returns whether guests are left. */
int echod_door_see_off(echod_door *door, uint64_t now, const uint8_t *frame, size_t size);

/* Reset the leavers that got their Close frame before `since`. Returns whether there are more of them. */
int echod_door_close_deadline(echod_door *door, uint64_t since, uint64_t now);

/* Recall the guests whose leases hold anything. Each call goes on where the last one ended, until one returns 0. */
int echod_door_recall_holders(echod_door *door);

/* Reset visitors, guests and leavers: no more of each than a turn has time for. Returns whether some are left. */
int echod_door_reset_all(echod_door *door, uint64_t now);

/* Set keepalive (core/keepalive.py), in nanoseconds: a guest that was silent for the interval gets a ping, and is reset if it is
   silent for the timeout then. Without a timeout (0) it gets a ping after each interval. */
void echod_door_set_keepalive(echod_door *door, uint64_t interval, uint64_t timeout);

/* Look at no more than `most` guests, beginning behind those of the last look: note at `now` (CLOCK_MONOTONIC) whether they have
   shown signs of life, and send the pings that are due. A sign of life counts from the look that finds it. A guest that does not
   take its answers is recalled in place of a ping, because what it takes is a sign of life. Returns how many were looked at,
   which is fewer if it takes long. */
size_t echod_door_look(echod_door *door, uint64_t now, size_t most);

/* Reset the guests that have been silent for the timeout since their ping. Returns whether there are more of them. */
int echod_door_judge(echod_door *door, uint64_t now);

/* One of the door's connections. */
typedef struct {
    int fd;
    uint64_t since;     /* when it was answered, or a visitor was accepted, in nanoseconds of CLOCK_MONOTONIC */
    echod_guest *guest; /* NULL: a visitor */
} echod_listed;

/* List the connections from the `start`-th on, `most` of them: the visitors first, then guests, then leavers, and of each kind
   the oldest first. Returns how many there are. */
size_t echod_door_list(const echod_door *door, size_t start, size_t most, echod_listed *listed);

/* The number of guests whose answers wait. */
size_t echod_door_backpressured(const echod_door *door);

/* Bytes that the leases of all guests hold: the sum of their accounts. */
size_t echod_door_held(const echod_door *door);

/* Make arrivals of `most` visitors. */
void echod_door_turn_out(echod_door *door, size_t most);

const echod_door_counts *echod_door_counted(const echod_door *door);

/* cffi: end */

/* The pump's side. */

/* Whether an event is the door's, by what epoll keeps for its socket. */
static inline bool echod_door_has(const void *ready)
{
    return ((uintptr_t)ready & 3) != 0;
}

/* Serve an event of the door's. */
void echod_door_serve(echod_door *door, void *ready, uint64_t now);

/* Take the guest off the list of ended leases whose lease has just ended. */
void echod_door_finish(echod_door *door, uint64_t now);

#endif
