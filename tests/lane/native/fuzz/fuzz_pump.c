/*
 * The pump on socket pairs. The input says what the clients and the owner do, step by step. The bytes of each lease are
 * compared with what plain loops make of the same bytes.
 *
 * A step is one byte. The lower three bits choose the action: a frame, send, a turn, receive, or one of those that the
 * upper three bits name: recall, make the pump tight or not, end the client's half, ping, or let one of the next
 * allocations fail. Otherwise the upper three bits are an amount. The two bits between choose the lease. This file
 * writes the frames that a client sends: each takes three bytes of the input (kind, size, key), so that most of the
 * stream is frames.
 *
 * The oracle of a lease: the received and the unsent bytes together must be the answers to a prefix of what the client
 * has sent, frame by frame, with the owner's pings where they were sent. The rest of what was read must be given back,
 * with the whole frames of an unfinished message as one frame. Only bytes behind a fault in a large text may be lost,
 * and bytes for which there was no memory.
 *
 * This file includes the pump's files, so that it can make their allocations fail.
 */
#define _GNU_SOURCE
#include "oracle.h"

#include <malloc.h>
#include <sys/ioctl.h>

#include "sizes.h"

/* The number of the next allocation that fails, counted from 1; 0: none fails. */
static int until_failure;
static int was_out_of_memory;

/* Whether an allocation succeeds. An allocation of as many bytes as a header may claim always fails. */
static int can_allocate(size_t size)
{
    if (until_failure != 0 && --until_failure == 0) {
        was_out_of_memory = 1;
        return 0;
    }
    return size <= 1 << 20;
}

/* Bytes that the pump has allocated now, and the number of its large buffers, of which only the pages that take memory
   are accounted for. */
static size_t allocated;
static int large_count;

static void *allocate(void *octets)
{
    size_t size = octets ? malloc_usable_size(octets) : 0;
    allocated += size;
    large_count += size >= MIN_POOLED_SIZE;
    return octets;
}

static void release(void *octets)
{
    size_t size = octets ? malloc_usable_size(octets) : 0;
    allocated -= size;
    large_count -= size >= MIN_POOLED_SIZE;
}

static void *pump_malloc(size_t size)
{
    return can_allocate(size) ? allocate(malloc(size)) : NULL;
}

static void *pump_calloc(size_t count, size_t size)
{
    return can_allocate(count * size) ? allocate(calloc(count, size)) : NULL;
}

static void *pump_realloc(void *octets, size_t size)
{
    if (!can_allocate(size))
        return NULL;
    release(octets);
    return allocate(realloc(octets, size));
}

static void pump_free(void *octets)
{
    release(octets);
    free(octets);
}

#define malloc pump_malloc
#define calloc pump_calloc
#define realloc pump_realloc
#define free pump_free
#include "buffer_pool.c"
#include "lease.c"
#include "send.c"
#include "partial.c"
#include "mixed_read.c"
#include "pump.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

enum { LEASES = 4, LARGEST = 1 << 17, LIMIT = 20000, FRAGMENTS = 5, SMALL_BUFFER = 4608, PINGS = 64 };

/* The most bytes of a message: LIMIT, or more than any buffer here has. */
static size_t limit;

typedef struct {
    echod_lease *lease; /* NULL once it has ended */
    int client, served;
    uint8_t *sent, *received;
    size_t sent_size, received_size, queued; /* queued: bytes of `sent` that the kernel has taken */
    int is_shut;
    /* Where in the lease's output the owner's pings are. */
    size_t pings[PINGS];
    int ping_count;
} actor;

typedef struct {
    const uint8_t *at, *end;
} input;

static uint8_t next_octet(input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

/* Write one frame, header and payload, behind the bytes that the client will send. */
static void write_frame(actor *it, input *in)
{
    static const size_t sizes[] = {0, 1, 5, 100, 125, 126, 1000, 4080, 4089, 5000, 12000, LIMIT, LIMIT + 1};
    uint8_t kind = next_octet(in), size_choice = next_octet(in), key = next_octet(in);
    size_t length = sizes[size_choice % (sizeof sizes / sizeof *sizes)] + (kind >> 6);
    if (it->sent_size + length + 14 > LARGEST)
        return;
    uint8_t *frame = it->sent + it->sent_size;
    int is_claim = size_choice >= 0xC0; /* a header that claims 2^n bytes, or some fewer */
    size_t longer = is_claim ? 8 : length < 126 ? 0 : 2;
    frame[0] = 0x81 + (kind & 1);
    if ((kind & 0x38) == 0x38)
        frame[0] = next_octet(in); /* anything */
    else if (kind & 8)
        frame[0] &= kind & 0x10 ? 0x80 : 0x03; /* the last frame of a message, or the first of several */
    else if (kind & 0x10)
        frame[0] = 0; /* a frame in the middle of a message */
    frame[1] = (uint8_t)(0x80 | (is_claim ? 127 : longer ? 126 : length));
    uint64_t said = is_claim ? ((uint64_t)1 << (size_choice & 0x3F)) - (kind >> 6) * 7 : length;
    for (size_t i = 0; i < longer; i++)
        frame[2 + i] = (uint8_t)(said >> (8 * (longer - 1 - i)));
    uint8_t *keys = frame + 2 + longer;
    memset(keys, key, 4);
    keys[3] ^= 0x5A;
    uint8_t *payload = keys + 4;
    static const uint8_t text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
    for (size_t i = 0; i < length; i++)
        payload[i] = i + 10 <= length - length % 10 ? text[i % 10] : 'x';
    if ((kind & 6) == 6 && length)
        payload[(size_t)next_octet(in) * 79 % length] = next_octet(in); /* perhaps a fault */
    oracle_mask(payload, length, keys, 0);
    it->sent_size += 2 + longer + 4 + length;
}

static void client_sends(actor *it, size_t most)
{
    size_t size = it->sent_size - it->queued;
    if (size > most)
        size = most;
    if (it->is_shut || size == 0)
        return;
    ssize_t n = send(it->client, it->sent + it->queued, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0)
        it->queued += (size_t)n;
}

static void receive_some(actor *it, size_t most)
{
    size_t room = LARGEST - it->received_size;
    ssize_t n = recv(it->client, it->received + it->received_size, most < room ? most : room, MSG_DONTWAIT);
    if (n > 0)
        it->received_size += (size_t)n;
}

static void receive_all(actor *it)
{
    size_t before;
    do {
        before = it->received_size;
        receive_some(it, LARGEST);
    } while (it->received_size != before);
}

/* Read the header of a masked frame at octets[0, len), and its length. Returns the size of the header, or 0 if the
   header is not whole. */
static size_t plain_header(const uint8_t *octets, size_t len, uint64_t *length)
{
    *length = 0;
    if (len < 6 || octets[1] < 0x80)
        return 0;
    size_t longer = octets[1] == 0xFF ? 8 : octets[1] == 0xFE ? 2 : 0;
    if (len < 6 + longer)
        return 0;
    *length = longer ? 0 : octets[1] - 0x80u;
    for (size_t i = 0; i < longer; i++)
        *length = *length << 8 | octets[2 + i];
    return 6 + longer;
}

/* Read one whole frame at octets[0, len) whose payload is at most `most` bytes. Returns the size of the frame, with the
   size of its header, and its unmasked payload at `out`. 0: there is no such frame, or it is wrong after its first
   byte. */
static size_t plain_frame(const uint8_t *octets, size_t len, size_t most, uint8_t *out, size_t *header)
{
    uint64_t length;
    *header = plain_header(octets, len, &length);
    uint64_t least = *header == 14 ? 0x10000 : *header == 8 ? 126 : 0;
    if (*header == 0 || length < least || length > most || len - *header < length)
        return 0;
    memcpy(out, octets + *header, length);
    oracle_mask(out, length, octets + *header - 4, 0);
    return *header + length;
}

/* Write a frame with this first byte. Returns its size. */
static size_t plain_write(uint8_t *out, uint8_t first, const uint8_t *payload, size_t size, int is_masked)
{
    size_t longer = size < 126 ? 0 : size < 0x10000 ? 2 : 8, key = is_masked ? 4 : 0;
    out[0] = first;
    out[1] = (uint8_t)((is_masked ? 0x80 : 0) | (longer == 8 ? 127 : longer ? 126 : size));
    for (size_t i = 0; i < longer; i++)
        out[2 + i] = (uint8_t)(size >> (8 * (longer - 1 - i)));
    memset(out + 2 + longer, 0, key);
    memcpy(out + 2 + longer + key, payload, size);
    return 2 + longer + key + size;
}

/* What a lease has served of some bytes, frame by frame. */
typedef struct {
    size_t at;    /* bytes of the frames that are served */
    uint8_t *end; /* behind their answers */
    /* The message that is under way, if count is not 0: its whole frames, and their payload. */
    size_t count;
    size_t payload_size;
    uint8_t opcode;
    uint8_t payload[LARGEST];
} walk;

static int walk_control(walk *it, const uint8_t *frame, size_t len)
{
    uint8_t payload[125];
    size_t header, size = plain_frame(frame, len, sizeof payload, payload, &header);
    if (size != 0 && frame[0] == 0x89)
        it->end += plain_write(it->end, 0x8A, payload, size - header, 0);
    it->at += size;
    return size != 0;
}

static int walk_data(walk *it, const uint8_t *frame, size_t len)
{
    uint8_t opcode = it->count ? it->opcode : frame[0] & 0x7F;
    if ((frame[0] & 0x7F) != (it->count ? 0 : opcode) || (opcode != 1 && opcode != 2) || it->count == FRAGMENTS)
        return 0;
    size_t header, size = plain_frame(frame, len, limit - it->payload_size, it->payload + it->payload_size, &header);
    if (size == 0)
        return 0;
    size_t payload_size = it->payload_size + size - header;
    int is_last = frame[0] >= 0x80;
    text_verdict verdict = opcode == 1 ? oracle_text(it->payload, payload_size) : TEXT_ENDS;
    if (verdict == NO_TEXT || (verdict == TEXT_GOES_ON && is_last))
        return 0;
    if (is_last)
        it->end += plain_write(it->end, 0x80 | opcode, it->payload, payload_size, 0);
    it->opcode = opcode;
    it->payload_size = is_last ? 0 : payload_size;
    it->count = is_last ? 0 : it->count + 1;
    it->at += size;
    return 1;
}

/* Serve the next frame of octets[0, len). 0: it is not whole, or something else. */
static int walk_on(walk *it, const uint8_t *octets, size_t len)
{
    const uint8_t *frame = octets + it->at;
    if (it->at == len)
        return 0;
    return frame[0] == 0x89 || frame[0] == 0x8A ? walk_control(it, frame, len - it->at) : walk_data(it, frame, len - it->at);
}

/* Whether octets[0, len) begin a large text frame with a fault: the bytes behind it may be left out. */
static int is_faulty_and_large(const uint8_t *octets, size_t len)
{
    if (len < 8 || octets[0] != 0x81 || octets[1] < 0xFE)
        return 0;
    uint64_t length;
    size_t header = plain_header(octets, len, &length);
    if (header == 0)
        return 0;
    uint8_t *payload = exact(octets + header, len - header);
    oracle_mask(payload, len - header, octets + header - 4, 0);
    int is_fault = oracle_text(payload, len - header < length ? len - header : (size_t)length) == NO_TEXT ||
                   (len - header >= length && oracle_text(payload, (size_t)length) != TEXT_ENDS);
    free(payload);
    return length + header > KEEP_SIZE && is_fault;
}

/* Write the bytes that a lease gives back to target, as the client sent them. Returns their number. */
static size_t given_back(echod_lease *lease, uint8_t *target)
{
    if (!lease->large_octets) {
        CHECK(lease->rest_size <= LARGEST);
        if (lease->rest_size != 0)
            memcpy(target, lease->rest, lease->rest_size);
        return lease->rest_size;
    }
    CHECK(lease->rest_size == 0);
    uint8_t *payload = lease->large_octets + ECHOD_LARGE_ROOM;
    size_t header = echod_large_client_header(&lease->large, target), done = (size_t)lease->large.done;
    echod_large_restore(&lease->large, payload);
    memcpy(target + header, payload, done);
    return header + done;
}

/* Octets that the owner of a lease has at its end. */
typedef struct {
    uint8_t rest[LARGEST + 16]; /* given back, as the client sent them */
    size_t rest_size;
    uint8_t unread[LARGEST]; /* still in the kernel */
    size_t unread_size;
} leftover;

/* What there is to be left behind the frames that are served; its size. */
static size_t what_is_left(const walk *served, const actor *it, uint8_t *left)
{
    size_t size = served->count ? plain_write(left, served->opcode, served->payload, served->payload_size, 1) : 0;
    memcpy(left + size, it->sent + served->at, it->queued - served->at);
    return size + it->queued - served->at;
}

/* Whether the rest is what is left. With `is_all`, and what is unread is all that is behind it. */
static int is_left(const walk *served, const actor *it, const leftover *all, int is_all)
{
    static uint8_t left[2 * LARGEST];
    size_t size = what_is_left(served, it, left);
    if (served->count != it->lease->fragments || all->rest_size > size || memcmp(all->rest, left, all->rest_size) != 0)
        return 0;
    return !is_all || (all->rest_size + all->unread_size == size && memcmp(all->unread, left + all->rest_size, all->unread_size) == 0);
}

/* What was sent and not echoed is given back, or is still to be read. Frames without an answer may have been served, too. */
static void judge_rest(walk *served, const actor *it)
{
    static leftover all;
    all.rest_size = given_back(it->lease, all.rest);
    all.unread_size = 0;
    ssize_t n;
    while ((n = recv(it->served, all.unread + all.unread_size, LARGEST - all.unread_size, MSG_DONTWAIT)) > 0)
        all.unread_size += (size_t)n;
    const uint8_t *end = served->end;
    while (!is_left(served, it, &all, 1)) {
        if (walk_on(served, it->sent, it->queued)) {
            CHECK(served->end == end);
            continue;
        }
        CHECK(is_left(served, it, &all, 0));
        CHECK(it->lease->why == ECHOD_END_NOT_ORDINARY && is_faulty_and_large(all.rest, all.rest_size));
        return;
    }
}

/* The lease's output: what has come, and what is unsent. Returns its size without the owner's pings, which stand where they
   were sent. */
static size_t output_of(const actor *it, uint8_t *output)
{
    const echod_lease *lease = it->lease;
    size_t size = it->received_size, first = lease->unsent_first, later = lease->unsent_size - first;
    memcpy(output, it->received, size);
    if (first)
        memcpy(output + size, lease->unsent, first);
    if (later)
        memcpy(output + size + first, lease->later, later);
    size += first + later;
    for (int i = it->ping_count; i-- > 0;) {
        uint8_t *ping = output + it->pings[i];
        size_t end = it->pings[i] + 2;
        if (size < end && lease->why == ECHOD_END_NO_MEMORY) {
            size = it->pings[i] < size ? it->pings[i] : size;
            continue;
        }
        CHECK(size >= end && ping[0] == 0x89 && ping[1] == 0);
        memmove(ping, ping + 2, size - end);
        size -= 2;
    }
    return size;
}

/* Compare a lease that has ended with the oracle, and release it. */
static void judge(actor *it)
{
    echod_lease *lease = it->lease;
    CHECK(lease->held == 0);
    CHECK(lease->rest_size == 0 || lease->rest);
    receive_all(it);
    static uint8_t output[2 * LARGEST];
    static walk served;
    uint8_t *right = malloc(LARGEST);
    CHECK(right != NULL);
    served.end = right;
    served.at = served.count = served.payload_size = 0;
    int is_lost = lease->why == ECHOD_END_NO_MEMORY;
    CHECK(!is_lost || was_out_of_memory);
    size_t size = output_of(it, output);
    while ((size_t)(served.end - right) < size && walk_on(&served, it->sent, it->queued))
        continue;
    CHECK((size_t)(served.end - right) == size || (is_lost && (size_t)(served.end - right) > size));
    CHECK(size == 0 || memcmp(right, output, size) == 0);
    if (!is_lost)
        judge_rest(&served, it);
    if (lease->why == ECHOD_END_CLOSED)
        CHECK(it->is_shut);
    free(right);
    echod_lease_free(lease);
    it->lease = NULL;
}

/* Check that all that the pump has allocated is in an account or in the pool, or is the pump or a lease itself. */
static void judge_accounts(const echod_pump *pump, const actor *all)
{
    size_t held = 0, fixed = malloc_usable_size((void *)pump);
    for (int i = 0; i < LEASES; i++) {
        if (!all[i].lease)
            continue;
        held += all[i].lease->held;
        fixed += malloc_usable_size(all[i].lease);
    }
    CHECK(echod_pump_held(pump) == held);
    size_t known = held + echod_pump_spare(pump) + fixed;
    CHECK(large_count == 0 ? known == allocated : known <= allocated);
}

static void take_turn(echod_pump *pump, actor *all, uint64_t budget)
{
    echod_lease *lease = echod_pump_turn(pump, budget);
    while (lease) {
        echod_lease *following = lease->next;
        CHECK(all[lease->slot].lease == lease);
        judge(&all[lease->slot]);
        lease = following;
    }
    judge_accounts(pump, all);
}

/* The owner sends a ping. It is behind what is in the kernel, and behind what is unsent. */
static void ping(echod_pump *pump, actor *it)
{
    int in_kernel;
    CHECK(ioctl(it->client, FIONREAD, &in_kernel) == 0);
    if (it->ping_count == PINGS || it->received_size + (size_t)in_kernel + it->lease->unsent_size + 2 > LARGEST)
        return;
    it->pings[it->ping_count++] = it->received_size + (size_t)in_kernel + it->lease->unsent_size;
    echod_lease *ended = echod_pump_ping(pump, it->lease);
    if (ended != NULL) {
        CHECK(ended == it->lease && ended->next == NULL);
        judge(it);
    }
}

static void begin_actor(echod_pump *pump, actor *it, uint32_t slot)
{
    int pair[2], small = SMALL_BUFFER;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    *it = (actor){.client = pair[0], .served = pair[1], .sent = malloc(LARGEST), .received = malloc(LARGEST)};
    CHECK(it->sent && it->received);
    do
        it->lease = echod_pump_lend(pump, it->served, slot);
    while (!it->lease && was_out_of_memory);
    CHECK(it->lease);
}

static void finish_actor(echod_pump *pump, actor *it)
{
    if (it->lease) {
        echod_pump_recall(pump, it->lease);
        judge(it);
    }
    close(it->client);
    close(it->served);
    free(it->sent);
    free(it->received);
}

static void step(echod_pump *pump, actor *all, uint8_t what, input *in)
{
    actor *it = &all[what >> 3 & 3];
    static const size_t amounts[] = {1, 3, 7, 100, 4090, 5000, 30000, LARGEST};
    size_t amount = amounts[what >> 5];
    switch (it->lease ? what & 7 : 2) {
    case 0:
        write_frame(it, in);
        break;
    case 1:
        client_sends(it, amount);
        break;
    case 2:
        take_turn(pump, all, what >> 5 < 4 ? 0 : 1000000000);
        break;
    case 3:
        receive_some(it, amount);
        break;
    case 4:
        if (what >> 5 == 0) {
            echod_pump_recall(pump, it->lease);
            judge(it);
        } else if (what >> 5 < 3) {
            echod_pump_set_tight(pump, what >> 5 == 1);
        } else if (what >> 5 == 3) {
            CHECK(shutdown(it->client, SHUT_WR) == 0);
            it->is_shut = 1;
        } else if (what >> 5 == 7) {
            ping(pump, it);
            judge_accounts(pump, all);
        } else {
            until_failure = (what >> 5) - 3;
        }
        break;
    default: /* the most common sequence */
        write_frame(it, in);
        client_sends(it, amount);
        take_turn(pump, all, 1000000000);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    was_out_of_memory = 0;
    until_failure = data[0] >> 2 & 7;
    limit = data[0] & 2 ? LARGEST : LIMIT;
    echod_codec_set_isa(data[0] & 1 ? "scalar" : NULL);
    echod_pump *pump;
    do
        pump = echod_pump_new(data[0] & 2 ? UINT64_MAX : LIMIT, FRAGMENTS);
    while (!pump && was_out_of_memory);
    CHECK(pump && echod_pump_fd(pump) >= 0);
    actor all[LEASES];
    for (uint32_t i = 0; i < LEASES; i++)
        begin_actor(pump, &all[i], i);
    input in = {data + 1, data + size};
    while (in.at < in.end)
        step(pump, all, next_octet(&in), &in);
    for (int i = 0; i < LEASES; i++)
        finish_actor(pump, &all[i]);
    CHECK(echod_pump_held(pump) == 0);
    echod_pump_free(pump);
    CHECK(allocated == 0);
    return 0;
}
