/*
 * The door, step by step: the input is the room for connections (1 octet) and steps of 1 octet: what to do (the high half) with which of some
 * clients (the low two bits), and how (the other two bits). The first allocation after a step that says so fails. So do all
 * attempts to get a descriptor between two other steps.
 *
 * Each connection is somewhere: with the door as a visitor or a guest, with the owner, or closed. What a client receives begins with the
 * answer, if it does not come from the owner. In the end no descriptor is left open, and nothing is held.
 *
 * This file is compiled with door.c, lease.c and verdicts.c in it, for their allocations.
 */
#define _GNU_SOURCE
#include "oracle.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fails_at;

static int has_memory(void)
{
    return !fails_at || --fails_at;
}

static void *door_malloc(size_t size)
{
    return has_memory() ? malloc(size) : NULL;
}

static void *door_calloc(size_t count, size_t size)
{
    return has_memory() ? calloc(count, size) : NULL;
}

#include "buffer_pool.h"
#include "deflate.h"

#define malloc door_malloc
#define calloc door_calloc
#include "verdicts.c"
#include "lease.c"
#include "door.c"
#undef malloc
#undef calloc

enum { CLIENTS = 4, KNOWN = 0, OTHER = 1, FRAMES = 2, ODD = 3 };

static const char HEAD[] = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nCookie: a\r\n"
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
static const char ANSWER[] = "HTTP/1.1 101\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char CLOSE[] = "\x88\x82\0\0\0\0\x03\xe8";
static const char BAD_CLOSE[] = "\x88\x82\0\0\0\0\x03\xe7";
static const char FRAME[] = "\x81\x85\0\0\0\0Hello";
static const char FIRST[] = "\x01\x85\0\0\0\0Hello";
static const char PING[] = "\x89\x81\0\0\0\0x";
static const char LARGE[] = "\x82\xfe\x40\0\0\0\0\0Hello";
static const uint8_t GOING_AWAY[] = "\x88\x02\x03\xe9";

static echod_door *door;
static echod_pump *pump;
static int clients[CLIENTS], listener;
static struct sockaddr_un address;
static uint64_t over, arrived;
static bool has_no_descriptors;

static void collect(void)
{
    echod_arrival *arrival = echod_door_arrivals(door);
    while (arrival) {
        echod_arrival *next = arrival->next;
        if (arrival->fd >= 0) {
            arrived++;
            close(arrival->fd);
        } else {
            int then = fails_at;
            fails_at = 0;
            CHECK(echod_door_open(door, listener, arrival->endpoint) == 0);
            fails_at = then;
        }
        echod_arrival_free(arrival);
        arrival = next;
    }
    const echod_gone *gone;
    for (size_t count = echod_door_gone(door, &gone); count; count--, gone++) {
        CHECK(gone->code <= ECHOD_LEFT_TIMED_OUT || gone->code == 1000);
        over++;
    }
    echod_guest *guest = echod_door_ended(door);
    while (guest) {
        echod_guest *next = guest->next;
        size_t size = echod_guest_head(guest, NULL);
        uint8_t *head = malloc(size);
        CHECK(head && echod_guest_head(guest, head) == size && memcmp(head + size - 4, "\r\n\r\n", 4) == 0);
        free(head);
        over++;
        close(guest->lease->fd);
        echod_guest_free(door, guest);
        guest = next;
    }
}

static void judge(void)
{
    const echod_door_counts *counts = echod_door_counted(door);
    size_t guests = 0, held = 0, blocked = 0, leavers = 0;
    for (echod_guest *guest = echod_door_first(door); guest; guest = guest->next) {
        guests++;
        held += guest->lease->held;
        blocked += guest->lease->unsent_size > 0;
        CHECK(!guest->left);
    }
    for (guest_t *guest = door->leavers.first; guest; guest = newer_of(guest), leavers++)
        CHECK(guest->public.left && !guest->lease.public.held);
    CHECK(guests == counts->guests && leavers == counts->leavers && counts->answered == over + guests + leavers);
    CHECK(held == echod_door_held(door) && blocked == echod_door_backpressured(door));
    echod_listed listed[300];
    size_t most = sizeof listed / sizeof *listed, count = echod_door_list(door, 0, most, listed);
    CHECK(count == most || count == counts->visitors + guests + leavers);
}

static void limit_descriptors(bool has_none)
{
    static struct rlimit before;
    CHECK(before.rlim_max || getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit limit = {has_none ? 3 : before.rlim_cur, before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    has_no_descriptors = has_none;
}

static void leave_client(int which, int with_reset)
{
    if (clients[which] < 0)
        return;
    if (with_reset)
        reset(clients[which]);
    else
        close(clients[which]);
    clients[which] = -1;
}

static void dial(int which)
{
    leave_client(which, 0);
    clients[which] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (clients[which] < 0 && has_no_descriptors)
        return;
    CHECK(clients[which] >= 0);
    if (connect(clients[which], (struct sockaddr *)&address, sizeof address) != 0)
        leave_client(which, 0);
}

static void say(int which, const char *octets, size_t size)
{
    if (clients[which] >= 0)
        (void)!send(clients[which], octets, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_kind(int which, int kind)
{
    static char both[sizeof HEAD + sizeof FRAME];
    switch (kind) {
    case KNOWN:
        say(which, HEAD, sizeof HEAD - 1);
        break;
    case OTHER:
        say(which, HEAD, sizeof HEAD - 3);
        break;
    case FRAMES:
        memcpy(both, HEAD, sizeof HEAD - 1);
        memcpy(both + sizeof HEAD - 1, FRAME, sizeof FRAME - 1);
        say(which, both, sizeof HEAD + sizeof FRAME - 4);
        break;
    case ODD:
        say(which, FRAME, sizeof FRAME - 1);
        break;
    }
}

/* Send frames until the kernel takes no more of them, or answers wait. */
static void stuff(int which)
{
    static char frames[8 * 1100];
    for (size_t at = 0; at < sizeof frames; at += 11)
        memcpy(frames + at, FRAME, 11);
    for (int i = 0; i < 60; i++) {
        say(which, frames, sizeof frames);
        CHECK(!echod_pump_turn(pump, 100000));
    }
}

static void receive(int which)
{
    char octets[300];
    if (clients[which] >= 0)
        (void)!recv(clients[which], octets, sizeof octets, MSG_DONTWAIT);
}

static void recall(int which)
{
    echod_guest *guest = echod_door_first(door);
    while (guest && which--)
        guest = guest->next;
    if (guest)
        echod_door_recall(door, guest);
}

static void step(uint8_t octet)
{
    int which = octet & 3, how = octet >> 2 & 3;
    switch (octet >> 4) {
    case 0:
        dial(which);
        break;
    case 1:
        say_kind(which, how);
        break;
    case 2:
        if (how & 2 && clients[which] >= 0)
            shutdown(clients[which], how & 1 ? SHUT_WR : SHUT_RDWR);
        else
            leave_client(which, how & 1);
        break;
    case 3:
        CHECK(!echod_pump_turn(pump, how ? 10000000 : 0));
        break;
    case 4:
        if (how == 3)
            say(which, CLOSE, sizeof CLOSE - 1);
        else if (how == 2)
            say(which, BAD_CLOSE, sizeof BAD_CLOSE - 1);
        else
            receive(which);
        break;
    case 5:
        if (how < 2)
            CHECK(!echod_door_expire(door, how ? UINT64_MAX : 0));
        else if (how == 2)
            CHECK(!echod_door_close_deadline(door, which ? UINT64_MAX : 0, UINT64_MAX));
        else if (!which)
            CHECK(!echod_door_reset_all(door, UINT64_MAX));
        break;
    case 6:
        echod_door_set_keepalive(door, 1000, how & 2 ? 1000 : 0);
        echod_door_look(door, UINT64_MAX / 2 + (how & 1 ? 1000 : 0), (size_t)which);
        if (!which)
            echod_door_judge(door, UINT64_MAX / 2 + (how & 1 ? 2000 : 0));
        break;
    case 7:
        recall(which);
        break;
    case 8:
        if (how == 0)
            echod_door_turn_out(door, (size_t)which);
        else if (how == 1)
            echod_door_recall_holders(door);
        else
            echod_door_see_off(door, 1 + (uint64_t)how, GOING_AWAY, sizeof GOING_AWAY - 1);
        break;
    case 9:
        echod_pump_set_tight(pump, how & 1);
        break;
    case 10:
        if (how == 0)
            echod_verdicts_clear(door->verdicts);
        else if (how == 1)
            say(which, FRAME, sizeof FRAME - 3);
        else if (how == 2)
            say(which, FIRST, sizeof FIRST - 1);
        else
            say(which, PING, sizeof PING - 1);
        break;
    case 11:
        if (how == 1)
            say(which, LARGE, sizeof LARGE - 1);
        else if (how == 2)
            stuff(which);
        else
            echod_verdicts_remember(door->verdicts, (const uint8_t *)HEAD, sizeof HEAD - 1, (const uint8_t *)ANSWER,
                                sizeof ANSWER - 1, NULL);
        break;
    case 12: /* the next allocation fails, or one behind it */
        fails_at = 1 + (octet & 15);
        break;
    case 13: /* all at once */
        for (int i = 0; i < CLIENTS; i++)
            dial(i), say_kind(i, how);
        break;
    case 14:
        if (how >= 2)
            limit_descriptors(how == 2);
        echod_door_close(door, 0);
        (void)echod_door_open(door, listener, 0);
        break;
    default:
        echod_door_set_room(door, octet & 15);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 2000)
        return 0;
    static int number;
    int before = dup(0);
    CHECK(before >= 0);
    close(before);
    fails_at = 0;
    over = arrived = 0;
    address = (struct sockaddr_un){.sun_family = AF_UNIX};
    sprintf(address.sun_path + 1, "echod-fuzz-door-%d-%d", (int)getpid(), number++);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 16) == 0);
    memset(clients, -1, sizeof clients);
    pump = echod_pump_new(1 << 16, 16);
    echod_verdicts *verdicts = echod_verdicts_new("host upgrade connection sec-websocket-version", "cookie", 4096);
    door = echod_door_new(pump, verdicts);
    CHECK(pump && verdicts && door && echod_door_open(door, listener, 0) == 0);
    echod_door_set_room(door, data[0]);
    step(0xB0);
    for (size_t i = 1; i < size; i++) {
        step(data[i]);
        collect();
        judge();
    }
    fails_at = 0;
    limit_descriptors(false);
    echod_door_close(door, 0);
    if (data[0] & 1) {
        echod_door_turn_out(door, SIZE_MAX);
        while (echod_door_first(door))
            recall(0);
    }
    CHECK(!echod_door_reset_all(door, UINT64_MAX));
    collect();
    judge();
    CHECK(echod_door_counted(door)->visitors == 0 && echod_pump_held(pump) == 0 && echod_door_held(door) == 0);
    echod_door_free(door);
    echod_verdicts_clear(verdicts);
    CHECK(echod_verdicts_held(verdicts) == 0);
    echod_verdicts_free(verdicts);
    echod_pump_free(pump);
    for (int i = 0; i < CLIENTS; i++)
        leave_client(i, 0);
    close(listener);
    int after = dup(0);
    close(after);
    CHECK(after == before); /* no descriptor is left open */
    return 0;
}
