/* The door. See door.h. */
#define _GNU_SOURCE
#include "door.h"

#ifdef __linux__

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lease.h"
#include "send.h"

/* A listening socket. */
typedef struct endpoint {
    int fd;
    uint32_t number;
    struct endpoint *next;
} endpoint_t;

typedef struct visitor {
    int fd;
    uint32_t endpoint;
    uint64_t since;
    struct visitor *older, *newer;
} visitor_t;

typedef struct guest {
    lease_t lease; /* comes first, so that an event's pointer is that of a lease, and echod_lease_free releases it all */
    echod_guest public;
    struct guest *older;
    echod_verdict *verdict;
    /* When it got a ping that is not answered, and the guests that got theirs just before and after it; 0: there is none. */
    uint64_t pinged;
    struct guest *pinged_before, *pinged_after;
    /* The lease's reads at the last look: their last digits, since there are some hundreds of looks in an hour. */
    uint32_t reads;
    uint16_t kept_size;
    bool has_kept;
    uint8_t key[ECHOD_HANDSHAKE_KEY];
    uint8_t kept[];
} guest_t;

_Static_assert(KEPT_SIZE <= UINT16_MAX, "a guest has the size of its kept value in 16 bits");

/* Guests in their order. */
typedef struct {
    guest_t *first, *last;
} line;

struct echod_door {
    echod_pump *pump;
    echod_verdicts *verdicts;
    size_t room;
    endpoint_t *endpoints;
    visitor_t *oldest, *newest;
    /* Guests by their `since`, and leavers by their `left`. */
    line guests, leavers;
    /* The guests with which the next look begins, and the next search for those that hold anything. NULL: with the first. */
    guest_t *next_look, *next_held;
    /* Guests that got a ping, in that order. Nanoseconds of keepalive. */
    guest_t *first_pinged, *last_pinged;
    uint64_t interval, timeout;
    echod_arrival *arrivals;
    size_t arrival_count;
    echod_guest *ended;
    size_t ended_count;
    /* Guests that are over are put on the list of those that ended if there is no room here. */
    size_t gone_count;
    echod_gone gone[MOST_GONE];
    echod_door_counts counts;
};

/* What epoll keeps for a socket tells whose it is. A lease's pointer has no tag. */
enum { TAG_ENDPOINT = 1, TAG_VISITOR = 2, TAG_LEAVER = 3, TAGS = 3 };

static void *tagged(void *thing, int tag)
{
    return (uint8_t *)thing + tag;
}

static uint64_t elapsed(uint64_t then, uint64_t now)
{
    return now > then ? now - then : 0;
}

static guest_t *guest_of(const echod_guest *public)
{
    return (guest_t *)(void *)((uint8_t *)public - offsetof(guest_t, public));
}

static bool watch(echod_door *door, int operation, int fd, void *ready)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ready};
    return epoll_ctl(door->pump->epoll, operation, fd, &event) == 0;
}

/* Close a socket whose peer gets a reset. */
static void reset(int fd)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fd);
}

/* End the turn soon if there is much to tell the owner. */
static void note_told(echod_door *door)
{
    door->pump->is_full = door->arrival_count + door->ended_count >= MOST_TOLD;
}

/* Arrivals. */

/* A connection that the door has accepted, with or without a visitor's structure. */
typedef struct {
    int fd;
    uint32_t endpoint;
    uint64_t since;
    visitor_t *visitor;
    bool is_admitted; /* whether there was room for it */
} stranger;

/* Put an arrival on the list. False: there is no memory. */
static bool arrive(echod_door *door, const stranger *it, const uint8_t *octets, size_t size)
{
    echod_arrival *arrival = malloc(sizeof *arrival + size);
    if (!arrival)
        return false;
    *arrival = (echod_arrival){it->fd, it->endpoint, it->since, it->is_admitted, door->arrivals, size};
    if (size)
        memcpy(arrival->octets, octets, size);
    door->arrivals = arrival;
    door->arrival_count++;
    door->counts.news++;
    note_told(door);
    return true;
}

/* Visitors. */

static void leave_queue(echod_door *door, visitor_t *visitor)
{
    *(visitor->older ? &visitor->older->newer : &door->oldest) = visitor->newer;
    *(visitor->newer ? &visitor->newer->older : &door->newest) = visitor->older;
    door->counts.visitors--;
    door->counts.news++;
}

/* Forget a visitor, and leave its socket alone. */
static void forget_visitor(echod_door *door, visitor_t *visitor)
{
    leave_queue(door, visitor);
    free(visitor);
}

/* Give a stranger to the owner. It is no visitor any more. */
static void hand_on(echod_door *door, stranger *it, const uint8_t *octets, size_t size)
{
    if (it->visitor) {
        echod_pump_unwatch(door->pump, it->fd, tagged(it->visitor, TAG_VISITOR));
        forget_visitor(door, it->visitor);
        it->visitor = NULL;
    }
    if (!arrive(door, it, octets, size)) {
        door->counts.lost++;
        door->counts.news++;
        reset(it->fd);
    }
}

/* Let a stranger wait for its first octets. False: there is no memory. */
static bool let_wait(echod_door *door, stranger *it)
{
    visitor_t *visitor = malloc(sizeof *visitor);
    if (!visitor)
        return false;
    if (!watch(door, EPOLL_CTL_ADD, it->fd, tagged(visitor, TAG_VISITOR))) {
        free(visitor);
        return false;
    }
    *visitor = (visitor_t){it->fd, it->endpoint, it->since, door->newest, NULL};
    *(door->newest ? &door->newest->newer : &door->oldest) = visitor;
    door->newest = visitor;
    door->counts.visitors++;
    door->counts.news++;
    return true;
}

/* A visitor has left. */
static void say_goodbye(echod_door *door, const stranger *it)
{
    if (it->visitor) {
        echod_pump_unwatch(door->pump, it->fd, tagged(it->visitor, TAG_VISITOR));
        forget_visitor(door, it->visitor);
    }
    close(it->fd);
    door->counts.lost++;
    door->counts.news++;
}

/* Guests. */

static guest_t *newer_of(const guest_t *guest)
{
    return guest->public.next ? guest_of(guest->public.next) : NULL;
}

/* Put a guest at the end of a line. */
static void stand_in(line *it, guest_t *guest)
{
    guest->older = it->last;
    guest->public.next = NULL;
    if (it->last)
        it->last->public.next = &guest->public;
    else
        it->first = guest;
    it->last = guest;
}

static void step_out(line *it, guest_t *guest)
{
    guest_t *newer = newer_of(guest);
    if (guest->older)
        guest->older->public.next = guest->public.next;
    else
        it->first = newer;
    *(newer ? &newer->older : &it->last) = guest->older;
}

static void join(echod_door *door, guest_t *guest)
{
    stand_in(&door->guests, guest);
    door->counts.guests++;
    door->counts.answered++;
    door->counts.news++;
}

/* Take a guest out of the queue of those that wait for a pong. */
static void forget_ping(echod_door *door, guest_t *guest)
{
    if (!guest->pinged)
        return;
    *(guest->pinged_before ? &guest->pinged_before->pinged_after : &door->first_pinged) = guest->pinged_after;
    *(guest->pinged_after ? &guest->pinged_after->pinged_before : &door->last_pinged) = guest->pinged_before;
    guest->pinged = 0;
}

static void leave(echod_door *door, guest_t *guest)
{
    if (door->next_look == guest)
        door->next_look = newer_of(guest);
    if (door->next_held == guest)
        door->next_held = newer_of(guest);
    forget_ping(door, guest);
    step_out(&door->guests, guest);
    door->counts.guests--;
}

/* Make a guest of a stranger. NULL: there is no memory. */
static guest_t *admit(echod_door *door, stranger *it, echod_verdict *verdict, const echod_head *head)
{
    guest_t *guest = calloc(1, sizeof *guest + head->kept_size);
    if (!guest)
        return NULL;
    lease_t *lease = &guest->lease;
    echod_lease_begin(lease, it->fd, it->endpoint);
    lease->is_guest = true;
    const echod_terms *terms = echod_verdict_terms(verdict);
    bool is_good = !terms || echod_pump_take_deflated(door->pump, &lease->public, terms, NULL, 0) == 0;
    if (!is_good || !watch(door, it->visitor ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, it->fd, lease)) {
        echod_lease_free(&lease->public);
        return NULL;
    }
    if (it->visitor)
        forget_visitor(door, it->visitor);
    it->visitor = NULL;
    guest->public = (echod_guest){.lease = &lease->public, .endpoint = it->endpoint};
    guest->verdict = verdict;
    echod_verdict_refer(verdict);
    memcpy(guest->key, head->key, sizeof guest->key);
    guest->kept_size = (uint16_t)head->kept_size;
    guest->has_kept = head->kept != NULL;
    if (head->kept_size)
        memcpy(guest->kept, head->kept, head->kept_size);
    join(door, guest);
    return guest;
}

/* Answer a guest, and serve what it has sent behind its head, which is in the shared buffer. */
static void welcome(echod_door *door, guest_t *guest, size_t head_size, size_t size)
{
    uint8_t octets[ANSWER_SIZE];
    echod_pump *pump = door->pump;
    lease_t *lease = &guest->lease;
    size_t answer_size = echod_verdict_answer(guest->verdict, guest->key, octets), rest_size = size - head_size;
    guest->reads = (uint32_t)++lease->public.reads;
    if (!answer(lease, octets, answer_size))
        echod_lease_end_without_memory(pump, lease);
    else if (lease->unsent_size) /* a kernel that takes nothing of a new connection: it is broken */
        echod_lease_end_in_turn(pump, lease, ECHOD_END_CLOSED, pump->buffer + head_size, rest_size);
    else if (rest_size) {
        memmove(pump->buffer, pump->buffer + head_size, rest_size);
        echod_pump_serve_read(pump, lease, rest_size);
    }
}

/* Take the first octets of a stranger, which are in the shared buffer. */
static void hear(echod_door *door, stranger *it, size_t size, uint64_t now)
{
    echod_head head;
    echod_verdict *verdict =
        door->room ? echod_verdicts_find(door->verdicts, door->pump->buffer, size, &head) : NULL;
    guest_t *guest = verdict ? admit(door, it, verdict, &head) : NULL;
    if (!guest) {
        hand_on(door, it, door->pump->buffer, size);
        return;
    }
    guest->public.since = guest->public.seen = now;
    welcome(door, guest, head.size, size);
}

static bool is_nothing(ssize_t received)
{
    return received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* Read the first octets of a stranger, if there are any. */
static void listen_to(echod_door *door, stranger *it, uint64_t now)
{
    ssize_t n = recv(it->fd, door->pump->buffer, READ_SIZE, MSG_DONTWAIT);
    if (n > 0)
        hear(door, it, (size_t)n, now);
    else if (!is_nothing(n))
        say_goodbye(door, it);
    else if (!it->visitor && !let_wait(door, it))
        hand_on(door, it, NULL, 0);
}

/* Accepting. */

static bool is_passing(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ECONNABORTED || error == EPERM ||
           error == EPROTO;
}

static void accept_some(echod_door *door, endpoint_t *endpoint, uint64_t now)
{
    for (int i = 0; i < ACCEPTS; i++) {
        stranger it = {.endpoint = endpoint->number, .since = now};
        it.fd = accept4(endpoint->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (it.fd < 0) {
            /* Want of descriptors or of memory: the owner has to accept there, and open the door again. */
            if (!is_passing(errno) && arrive(door, &it, NULL, 0))
                echod_door_close(door, endpoint->number);
            return;
        }
        it.is_admitted =
            door->counts.visitors + door->counts.guests + door->arrival_count + door->ended_count < door->room;
        if (it.is_admitted)
            listen_to(door, &it, now);
        else
            hand_on(door, &it, NULL, 0);
    }
}

/* The end of guests. */

/* Whether there are answers that the peer's end has not taken. */
static bool has_pending(const guest_t *guest)
{
    return echod_lease_pending(&guest->lease.public) > 0;
}

/* Send the reply if a valid Close frame ended a lease, with nothing behind it, and return its code. Then the socket may
   be closed at once (RFC 6455 section 7.1.1). 0: the owner goes on, which also meets an error. It has a deadline for a
   peer that has not taken its answers; and a peer that sends more must get no reset, which would cost it the reply. */
static uint16_t part(guest_t *guest)
{
    const echod_lease *lease = &guest->lease.public;
    uint8_t reply[ECHOD_LARGEST_REPLY];
    uint16_t code;
    size_t size = echod_farewell(lease->rest, lease->rest_size, reply, &code);
    bool is_last = size && lease->rest_size == size + KEY_SIZE && !has_pending(guest);
    return is_last && send_octets(&guest->lease, reply, size) ? code : 0;
}

/* Whether nothing is left to do for a guest whose lease has ended. *code: as in echod_gone. */
static bool is_done(guest_t *guest, uint16_t *code)
{
    const echod_lease *lease = &guest->lease.public;
    *code = 0;
    if (lease->unsent_size)
        return false;
    if (lease->why == ECHOD_END_CLOSED)
        return !lease->rest_size;
    return lease->why == ECHOD_END_NOT_ORDINARY && !lease->fragments && (*code = part(guest)) != 0;
}

/* Leave a guest or leaver to the owner. It is in no line any more. */
static void pass_on(echod_door *door, guest_t *guest)
{
    epoll_ctl(door->pump->epoll, EPOLL_CTL_DEL, guest->lease.public.fd, NULL);
    guest->public.next = door->ended;
    door->ended = &guest->public;
    door->ended_count++;
    door->counts.news++;
    note_told(door);
}

/* Conclude the end of a guest whose lease has ended. */
static void finish(echod_door *door, guest_t *guest, uint64_t now)
{
    int fd = guest->lease.public.fd;
    uint16_t code;
    leave(door, guest);
    if (door->gone_count < MOST_GONE && is_done(guest, &code)) {
        door->gone[door->gone_count++] = (echod_gone){now - guest->public.since, code};
        door->counts.news++;
        echod_guest_free(door, &guest->public);
        close(fd);
        return;
    }
    pass_on(door, guest);
}

void echod_door_finish(echod_door *door, uint64_t now)
{
    guest_t *guest = (guest_t *)door->pump->ended;
    door->pump->ended = guest->lease.public.next;
    finish(door, guest, now);
}

size_t echod_door_gone(echod_door *door, const echod_gone **gone)
{
    size_t count = door->gone_count;
    *gone = door->gone;
    door->gone_count = 0;
    return count;
}

void echod_door_recall(echod_door *door, echod_guest *public)
{
    echod_pump_recall(door->pump, public->lease);
    finish(door, guest_of(public), 0);
}

/* Leavers. */

/* Take a leaver out of their line. */
static void depart(echod_door *door, guest_t *guest)
{
    echod_pump_forget_events(door->pump, tagged(guest, TAG_LEAVER));
    step_out(&door->leavers, guest);
    door->counts.leavers--;
}

/* Forget a guest or leaver with this record. Its socket is the caller's to close. */
static void record(echod_door *door, guest_t *guest, uint64_t code, uint64_t now)
{
    door->gone[door->gone_count++] = (echod_gone){elapsed(guest->public.since, now), code};
    door->counts.news++;
    echod_guest_free(door, &guest->public);
}

/* Whether everything that a guest has sent was served, and it has taken its answers. */
static bool is_idle(const guest_t *guest)
{
    const lease_t *lease = &guest->lease;
    int unread = 0;
    bool is_between = lease->state == CONTINUE && !lease->partial && !lease->message;
    return is_between && ioctl(lease->public.fd, FIONREAD, &unread) == 0 && !unread && !has_pending(guest);
}

/* Let a guest leave. False: the owner has to. */
static bool see_off(echod_door *door, guest_t *guest, uint64_t now, const uint8_t *frame, size_t size)
{
    if (!is_idle(guest) || send_octets(&guest->lease, frame, size) != size)
        return false;
    echod_pump_recall(door->pump, &guest->lease.public);
    leave(door, guest);
    guest->public.left = now;
    if (watch(door, EPOLL_CTL_MOD, guest->lease.public.fd, tagged(guest, TAG_LEAVER))) {
        stand_in(&door->leavers, guest);
        door->counts.leavers++;
    } else
        pass_on(door, guest);
    return true;
}

int echod_door_see_off(echod_door *door, uint64_t now, const uint8_t *frame, size_t size)
{
    for (size_t cost = 0; door->guests.first && cost < MOST_PINGS; cost++)
        if (!see_off(door, door->guests.first, now, frame, size)) {
            echod_door_recall(door, &door->guests.first->public);
            cost += RECALL_COST - 1;
        }
    return door->guests.first != NULL;
}

/* Let the owner go on with a leaver that has sent the first `size` octets of the shared buffer. */
static void pass_on_with(echod_door *door, guest_t *guest, size_t size)
{
    echod_lease *lease = &guest->lease.public;
    lease->rest = lease->rest_buffer = copy_octets(door->pump->buffer, size);
    lease->rest_size = lease->rest ? size : 0;
    lease->why = lease->rest ? ECHOD_END_NOT_ORDINARY : ECHOD_END_NO_MEMORY;
    depart(door, guest);
    pass_on(door, guest);
}

/* Hear what a leaver says. If there is no room for its record, its event comes again. */
static void hear_leaver(echod_door *door, guest_t *guest, uint64_t now)
{
    int fd = guest->lease.public.fd;
    uint8_t reply[ECHOD_LARGEST_REPLY];
    uint16_t code;
    if (door->gone_count == MOST_GONE)
        return;
    ssize_t n = recv(fd, door->pump->buffer, READ_SIZE, MSG_DONTWAIT);
    if (is_nothing(n))
        return;
    size_t size = n > 0 ? echod_farewell(door->pump->buffer, (size_t)n, reply, &code) : 0;
    if (n > 0 && !(size && (size_t)n == size + KEY_SIZE)) {
        pass_on_with(door, guest, (size_t)n);
        return;
    }
    depart(door, guest);
    record(door, guest, size ? ECHOD_LEFT : ECHOD_LEFT_LOST, now);
    close(fd);
}

static void reset_leaver(echod_door *door, guest_t *guest, uint64_t now)
{
    int fd = guest->lease.public.fd;
    depart(door, guest);
    record(door, guest, ECHOD_LEFT_TIMED_OUT, now);
    reset(fd);
}

int echod_door_close_deadline(echod_door *door, uint64_t since, uint64_t now)
{
    while (door->leavers.first && door->leavers.first->public.left < since) {
        if (door->gone_count == MOST_GONE)
            return 1;
        reset_leaver(door, door->leavers.first, now);
    }
    return 0;
}

/* Events. */

void echod_door_serve(echod_door *door, void *ready, uint64_t now)
{
    int tag = (int)((uintptr_t)ready & TAGS);
    void *thing = (uint8_t *)ready - tag;
    visitor_t *visitor = thing;
    if (tag == TAG_ENDPOINT)
        accept_some(door, thing, now);
    else if (tag == TAG_LEAVER)
        hear_leaver(door, thing, now);
    else
        listen_to(door, &(stranger){visitor->fd, visitor->endpoint, visitor->since, visitor, true}, now);
}

/* Looks. */

static void reset_visitor(echod_door *door, visitor_t *visitor)
{
    int fd = visitor->fd;
    echod_pump_unwatch(door->pump, fd, tagged(visitor, TAG_VISITOR));
    forget_visitor(door, visitor);
    door->counts.timed_out++;
    reset(fd);
}

int echod_door_expire(echod_door *door, uint64_t since)
{
    for (int i = 0; door->oldest && door->oldest->since < since; i++) {
        if (i == MOST_EXPIRED)
            return 1;
        reset_visitor(door, door->oldest);
    }
    return 0;
}

int echod_door_recall_holders(echod_door *door)
{
    guest_t *guest = door->next_held ? door->next_held : door->guests.first;
    size_t cost = 0;
    for (int i = 0; guest && door->pump->guests_held && cost < MOST_PINGS && i < MOST_WALKED; i++) {
        guest_t *next = newer_of(guest);
        if (guest->lease.public.held) {
            echod_door_recall(door, &guest->public);
            cost += RECALL_COST;
        }
        guest = next;
    }
    door->next_held = door->pump->guests_held ? guest : NULL;
    return door->next_held != NULL;
}

/* Keepalive. */

void echod_door_set_keepalive(echod_door *door, uint64_t interval, uint64_t timeout)
{
    door->interval = interval;
    door->timeout = timeout;
}

static void note_life(guest_t *guest, uint64_t now)
{
    uint32_t reads = (uint32_t)guest->lease.public.reads;
    if (reads == guest->reads)
        return;
    guest->reads = reads;
    guest->public.seen = now;
}

/* Send a ping. False: the owner has to. So it is within a deflated message (lease.h). */
static bool ping(echod_door *door, guest_t *guest, uint64_t now)
{
    static const uint8_t frame[] = {FIN | OPCODE_PING, 0};
    if (is_within_deflated(&guest->lease) || has_pending(guest))
        return false;
    if (send_octets(&guest->lease, frame, sizeof frame) != sizeof frame)
        return false;
    guest->pinged = now;
    guest->pinged_before = door->last_pinged;
    guest->pinged_after = NULL;
    *(door->last_pinged ? &door->last_pinged->pinged_after : &door->first_pinged) = guest;
    door->last_pinged = guest;
    return true;
}

size_t echod_door_look(echod_door *door, uint64_t now, size_t most)
{
    size_t looks = 0, cost = 0;
    if (most > door->counts.guests)
        most = door->counts.guests;
    for (; looks < most && cost < MOST_PINGS; looks++) {
        guest_t *guest = door->next_look ? door->next_look : door->guests.first;
        door->next_look = newer_of(guest);
        note_life(guest, now);
        if (elapsed(guest->public.seen, now) < door->interval)
            forget_ping(door, guest);
        else if (!guest->pinged && ping(door, guest, now))
            cost++;
        else if (!guest->pinged) {
            echod_door_recall(door, &guest->public);
            cost += RECALL_COST;
        }
    }
    return looks;
}

/* Reset a guest that is dead. */
static void give_up(echod_door *door, guest_t *guest, uint64_t now)
{
    int fd = guest->lease.public.fd;
    echod_pump_recall(door->pump, &guest->lease.public);
    leave(door, guest);
    record(door, guest, ECHOD_TIMED_OUT, now);
    reset(fd);
}

int echod_door_judge(echod_door *door, uint64_t now)
{
    uint64_t wait = door->timeout ? door->timeout : door->interval;
    while (door->first_pinged && elapsed(door->first_pinged->pinged, now) >= wait) {
        guest_t *guest = door->first_pinged;
        if (door->gone_count == MOST_GONE)
            return 1;
        note_life(guest, now);
        forget_ping(door, guest);
        if (door->timeout && elapsed(guest->public.seen, now) >= door->timeout)
            give_up(door, guest, now);
    }
    return 0;
}

int echod_door_reset_all(echod_door *door, uint64_t now)
{
    for (int i = 0; door->oldest && i < MOST_EXPIRED; i++)
        reset_visitor(door, door->oldest);
    while (door->gone_count < MOST_GONE && door->guests.first)
        give_up(door, door->guests.first, now);
    while (door->gone_count < MOST_GONE && door->leavers.first)
        reset_leaver(door, door->leavers.first, now);
    return door->oldest || door->guests.first || door->leavers.first;
}

void echod_door_turn_out(echod_door *door, size_t most)
{
    while (door->oldest && most--) {
        visitor_t *visitor = door->oldest;
        stranger it = {visitor->fd, visitor->endpoint, visitor->since, visitor, true};
        hand_on(door, &it, NULL, 0);
    }
}

/* Endpoints. */

int echod_door_open(echod_door *door, int fd, uint32_t number)
{
    endpoint_t *endpoint = malloc(sizeof *endpoint);
    if (!endpoint)
        return -1;
    *endpoint = (endpoint_t){fd, number, door->endpoints};
    if (!watch(door, EPOLL_CTL_ADD, fd, tagged(endpoint, TAG_ENDPOINT))) {
        free(endpoint);
        return -1;
    }
    door->endpoints = endpoint;
    return 0;
}

void echod_door_close(echod_door *door, uint32_t number)
{
    endpoint_t **at = &door->endpoints, *endpoint;
    while ((endpoint = *at) && endpoint->number != number)
        at = &endpoint->next;
    if (!endpoint)
        return;
    *at = endpoint->next;
    echod_pump_unwatch(door->pump, endpoint->fd, tagged(endpoint, TAG_ENDPOINT));
    free(endpoint);
}

/* The rest of door.h. */

echod_door *echod_door_new(echod_pump *pump, echod_verdicts *verdicts)
{
    assert(!pump->door);
    echod_door *door = calloc(1, sizeof *door);
    if (!door)
        return NULL;
    door->pump = pump;
    door->verdicts = verdicts;
    pump->door = door;
    return door;
}

void echod_door_free(echod_door *door)
{
    assert(!door->counts.visitors && !door->counts.guests && !door->counts.leavers && !door->endpoints && !door->arrivals && !door->ended);
    door->pump->door = NULL;
    free(door);
}

void echod_door_set_room(echod_door *door, size_t room)
{
    door->room = room;
}

echod_arrival *echod_door_arrivals(echod_door *door)
{
    echod_arrival *arrivals = door->arrivals;
    door->arrivals = NULL;
    door->arrival_count = 0;
    note_told(door);
    return arrivals;
}

void echod_arrival_free(echod_arrival *arrival)
{
    free(arrival);
}

echod_guest *echod_door_ended(echod_door *door)
{
    echod_guest *ended = door->ended;
    door->ended = NULL;
    door->ended_count = 0;
    note_told(door);
    return ended;
}

void echod_guest_free(echod_door *door, echod_guest *public)
{
    guest_t *guest = guest_of(public);
    echod_verdict_release(door->verdicts, guest->verdict);
    echod_lease_free(&guest->lease.public);
}

echod_guest *echod_door_first(const echod_door *door)
{
    return door->guests.first ? &door->guests.first->public : NULL;
}

size_t echod_guest_head(const echod_guest *public, uint8_t *head)
{
    const guest_t *guest = guest_of(public);
    return echod_verdict_head(guest->verdict, guest->key, guest->has_kept ? guest->kept : NULL, guest->kept_size, head);
}

const echod_terms *echod_guest_terms(const echod_guest *public)
{
    return echod_verdict_terms(guest_of(public)->verdict);
}

size_t echod_door_list(const echod_door *door, size_t start, size_t most, echod_listed *listed)
{
    size_t count = 0, place = 0;
    for (visitor_t *it = door->oldest; it && count < most; it = it->newer)
        if (place++ >= start)
            listed[count++] = (echod_listed){it->fd, it->since, NULL};
    const line *const lines[] = {&door->guests, &door->leavers};
    for (int i = 0; i < 2; i++)
        for (guest_t *it = lines[i]->first; it && count < most; it = newer_of(it))
            if (place++ >= start)
                listed[count++] = (echod_listed){it->lease.public.fd, it->public.since, &it->public};
    return count;
}

size_t echod_door_backpressured(const echod_door *door)
{
    return door->pump->guests_blocked;
}

size_t echod_door_held(const echod_door *door)
{
    return door->pump->guests_held;
}

const echod_door_counts *echod_door_counted(const echod_door *door)
{
    return &door->counts;
}

#endif
