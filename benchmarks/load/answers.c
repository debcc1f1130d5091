/* Compares frames from the server octet by octet. See answers.h. */
#include "answers.h"

#include "deflate.h"
#include "fail.h"

#include <stdlib.h>
#include <string.h>

enum { FIN = 0x80, RSV1 = 0x40, RSV23 = 0x30, OPCODE = 0x0f, CONTROL = 0x08, MASKED = 0x80 };
enum { OPCODE_CONTINUATION = 0, OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10 };

static bool is_control(const Answers *a)
{
    return (a->first & CONTROL) != 0;
}

static size_t head_size(uint8_t second)
{
    uint8_t len = second & 0x7f;
    return len == 126 ? 4 : len == 127 ? 10 : 2;
}

static uint64_t payload_size(const uint8_t *head)
{
    uint8_t len = head[1] & 0x7f;
    if (len < 126) {
        return len;
    }
    uint64_t size = 0;
    for (size_t i = 2; i < head_size(head[1]); i++) {
        size = size << 8 | head[i];
    }
    if (size < 126 || (len == 127 && size <= 0xffff)) {
        fail("a length of %llu is not in its shortest form", (unsigned long long)size);
    }
    return size;
}

static void check_control_frame(const Answers *a)
{
    uint8_t opcode = a->first & OPCODE;
    if ((a->first & FIN) == 0 || (a->first & RSV1) != 0 || a->remaining > MOST_CONTROL_OCTETS || opcode > OPCODE_PONG) {
        fail("control frame 0x%02x with %llu octets", a->first, (unsigned long long)a->remaining);
    }
}

static void check_data_frame(Answers *a, const Script *script, bool deflate)
{
    uint8_t opcode = a->first & OPCODE;
    uint8_t wanted = a->in_message ? OPCODE_CONTINUATION : script->opcode;
    if (opcode != wanted) {
        fail("wrong opcode: %u instead of %u", opcode, wanted);
    }
    if ((a->first & RSV1) != 0 && (!deflate || a->in_message)) {
        fail("RSV1 where it has no meaning");
    }
    if (!a->in_message) {
        a->in_message = true;
        a->packed = (a->first & RSV1) != 0;
        a->at = 0;
    }
    /* A compressor that makes a message longer adds only a few octets per 16 KiB. More than twice the length is no
     * compression. */
    size_t plain_len = script->entries[a->entry].plain_len;
    size_t most = a->packed ? plain_len * 2 + 1024 : plain_len;
    if (a->remaining > most - a->at) {
        fail("answer too long: more than %zu octets", most);
    }
}

static void begin_frame(Answers *a, const Script *script, bool deflate, const uint8_t *head)
{
    a->first = head[0];
    a->remaining = payload_size(head);
    a->in_frame = true;
    if ((head[1] & MASKED) != 0) {
        fail("the server masked a frame");
    }
    if ((a->first & RSV23) != 0) {
        fail("reserved bits in 0x%02x", a->first);
    }
    if (is_control(a)) {
        a->control_len = 0;
        check_control_frame(a);
    } else {
        check_data_frame(a, script, deflate);
    }
}

/* Takes the frame's header from the octets, or collects it if a read cut it. Returns the number of octets used. */
static size_t feed_head(Answers *a, const Script *script, bool deflate, const uint8_t *octets, size_t len)
{
    if (a->head_len == 0 && len >= 2 && len >= head_size(octets[1])) {
        begin_frame(a, script, deflate, octets);
        return head_size(octets[1]);
    }
    size_t used = 0;
    while (used < len) {
        a->head[a->head_len++] = octets[used++];
        if (a->head_len >= 2 && a->head_len == head_size(a->head[1])) {
            a->head_len = 0;
            begin_frame(a, script, deflate, a->head);
            break;
        }
    }
    return used;
}

static void compare(const Entry *entry, size_t at, const uint8_t *octets, size_t len)
{
    if (memcmp(entry->plain + at, octets, len) != 0) {
        while (*octets == entry->plain[at]) {
            octets++, at++;
        }
        fail("wrong octet: 0x%02x instead of 0x%02x at %zu of %zu", *octets, entry->plain[at], at, entry->plain_len);
    }
}

static void compare_packed(Entry *entry, const uint8_t *packed, size_t len)
{
    if (entry->verified_len == len && memcmp(entry->verified, packed, len) == 0) {
        return; /* the same octets after the same history inflate to the same message */
    }
    if (!deflate_is_message(packed, len, entry->plain - entry->history_len, entry->history_len, entry->plain,
                            entry->plain_len)) {
        fail("wrong octet: a compressed answer of %zu octets does not inflate to the message", len);
    }
    entry->verified = realloc(entry->verified, len + 1);
    memcpy(entry->verified, packed, len);
    entry->verified_len = len;
}

static void gather(Answers *a, const uint8_t *octets, size_t len)
{
    if (a->at + len > a->gathered_room) {
        a->gathered_room = (a->at + len) * 2;
        a->gathered = realloc(a->gathered, a->gathered_room);
    }
    memcpy(a->gathered + a->at, octets, len);
}

static void feed_payload(Answers *a, const Script *script, const uint8_t *octets, size_t len)
{
    if (is_control(a)) {
        memcpy(a->control + a->control_len, octets, len);
        a->control_len += (uint8_t)len;
    } else if (!a->packed) {
        compare(&script->entries[a->entry], a->at, octets, len);
        a->at += len;
    } else if (a->at == 0 && len == a->remaining && (a->first & FIN) != 0) {
        compare_packed(&script->entries[a->entry], octets, len); /* complete, without a copy */
        a->at = len;
    } else {
        gather(a, octets, len);
        a->at += len;
        if (len == a->remaining && (a->first & FIN) != 0) {
            compare_packed(&script->entries[a->entry], a->gathered, a->at);
        }
    }
    a->remaining -= len;
}

static Event end_frame(Answers *a, const Script *script)
{
    a->in_frame = false;
    if (is_control(a)) {
        uint8_t opcode = a->first & OPCODE;
        return opcode == OPCODE_PING ? EVENT_PING : opcode == OPCODE_PONG ? EVENT_PONG : EVENT_CLOSE;
    }
    if ((a->first & FIN) == 0) {
        return EVENT_NONE;
    }
    if (!a->packed && a->at != script->entries[a->entry].plain_len) {
        fail("answer too short: %zu of %zu octets", a->at, script->entries[a->entry].plain_len);
    }
    a->in_message = false;
    a->entry = script_next(script, a->entry);
    return EVENT_MESSAGE;
}

size_t answers_feed(Answers *a, const Script *script, bool deflate, const uint8_t *octets, size_t len, Event *event)
{
    size_t used = 0;
    *event = EVENT_NONE;
    if (!a->in_frame) {
        used = feed_head(a, script, deflate, octets, len);
        if (!a->in_frame) {
            return used;
        }
    }
    size_t take = a->remaining < len - used ? (size_t)a->remaining : len - used;
    if (take > 0 || (a->packed && a->remaining == 0 && !is_control(a))) {
        feed_payload(a, script, octets + used, take);
    }
    if (a->remaining == 0) {
        *event = end_frame(a, script);
    }
    return used + take;
}

void answers_free(Answers *a)
{
    free(a->gathered);
    *a = (Answers){0};
}
