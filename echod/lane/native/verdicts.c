/* Remembered verdicts. See verdicts.h. */
#include "verdicts.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "unaligned.h"

enum { MOST_JUDGED = 31 }; /* names, and characters of one */

_Static_assert(BRIEF_SIZE <= UINT16_MAX && ANSWER_SIZE <= UINT16_MAX, "a verdict has the sizes in 16 bits");

typedef struct {
    const char *octets;
    size_t size;
} name;

struct echod_verdict {
    /* Those that were used just before and just after it, and the next one with such a hash. */
    echod_verdict *older, *newer, *next;
    uint64_t hash;
    uint32_t references;
    bool is_forgotten;
    bool takes_deflated;
    echod_terms terms;
    /* Where the key and the kept value belong in the head in brief; 0: it has no kept value. */
    uint16_t key_at, kept_at;
    uint16_t head_size;
    /* Where the accept value belongs in the answer without it. */
    uint16_t accept_at;
    uint16_t answer_size;
    /* The head in brief, then the answer without the accept value. */
    uint8_t octets[];
};

struct echod_verdicts {
    name judged[MOST_JUDGED];
    size_t judged_count;
    /* Bit n: one of the judged names has n characters. */
    uint32_t judged_sizes;
    name key, kept;
    size_t max_head_size;
    size_t count, held;
    echod_verdict *oldest, *newest;
    echod_verdict *buckets[MOST_VERDICTS];
    /* The head that was read last, in brief. */
    uint8_t brief[BRIEF_SIZE];
    char names[];
};

static const char KEY_NAME[] = "sec-websocket-key";

/* Reading a head. */

typedef struct {
    const uint8_t *line;   /* the next line */
    const uint8_t *end;    /* of what there is */
    uint8_t *brief;        /* where the next octets of the head in brief go */
    size_t room;           /* for these */
    size_t key_at, kept_at; /* as in a verdict */
    echod_head *head;
} reading;

static bool is_name(const name *known, const uint8_t *octets, size_t size)
{
    if (known->size != size)
        return false;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = octets[i];
        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != (uint8_t)known->octets[i])
            return false;
    }
    return true;
}

static bool is_judged(const echod_verdicts *verdicts, const uint8_t *octets, size_t size)
{
    if (size > MOST_JUDGED || !(verdicts->judged_sizes >> size & 1))
        return false;
    for (size_t i = 0; i < verdicts->judged_count; i++)
        if (is_name(&verdicts->judged[i], octets, size))
            return true;
    return false;
}

/* Whether a value has only octets that any value may have: HTAB, and all but control characters. */
static bool is_value(const uint8_t *octets, size_t size)
{
    bool is_good = true;
    for (size_t i = 0; i < size; i++)
        is_good &= (octets[i] >= ' ' && octets[i] != 0x7F) || octets[i] == '\t';
    return is_good;
}

static bool is_blank(uint8_t octet)
{
    return octet == ' ' || octet == '\t';
}

/* Put octets into the head in brief. False: it gets too long. */
static bool put_brief(reading *it, const uint8_t *octets, size_t size)
{
    if (size > it->room)
        return false;
    memcpy(it->brief, octets, size);
    it->brief += size;
    it->room -= size;
    return true;
}

static size_t brief_size(const reading *it)
{
    return BRIEF_SIZE - it->room;
}

/* Take the value of the key's field, without the blanks around it. False: it is no key, or not the only one. */
static bool take_key(reading *it, const uint8_t *value, size_t size)
{
    while (size && is_blank(value[0]))
        value++, size--;
    while (size && is_blank(value[size - 1]))
        size--;
    if (it->head->key || !echod_is_key(value, size))
        return false;
    it->head->key = value;
    it->key_at = brief_size(it);
    return true;
}

/* Take the value of the kept field. False: it is too long, or not the only one. */
static bool take_kept(reading *it, const uint8_t *value, size_t size)
{
    if (it->head->kept || size > KEPT_SIZE)
        return false;
    it->head->kept = value;
    it->head->kept_size = size;
    it->kept_at = brief_size(it);
    return true;
}

/* Read a header line without its CR LF. False: there can't be a verdict on this head. */
static bool read_field(const echod_verdicts *verdicts, reading *it, const uint8_t *line, size_t size)
{
    const uint8_t *colon = memchr(line, ':', size);
    size_t name_size = colon ? (size_t)(colon - line) : size;
    bool is_key = is_name(&verdicts->key, line, name_size);
    if (!colon || (!is_key && is_judged(verdicts, line, name_size)))
        return put_brief(it, line, size);
    const uint8_t *value = colon + 1;
    size_t value_size = size - name_size - 1;
    if (!put_brief(it, line, name_size + 1) || !is_value(value, value_size))
        return false;
    if (is_key)
        return take_key(it, value, value_size);
    return !is_name(&verdicts->kept, line, name_size) || take_kept(it, value, value_size);
}

/* Read the next line. NULL: there can't be a verdict on this head. Otherwise the line, and its size without CR LF. */
static const uint8_t *read_line(reading *it, size_t *size)
{
    const uint8_t *line = it->line;
    const uint8_t *feed = memchr(line, '\n', (size_t)(it->end - line));
    if (!feed || feed == line || feed[-1] != '\r')
        return NULL;
    it->line = feed + 1;
    *size = (size_t)(feed - 1 - line);
    return line;
}

/* Read the head at octets[0, size) into verdicts->brief. False: it is not whole, or there can't be a verdict on it. */
static bool read_head(echod_verdicts *verdicts, const uint8_t *octets, size_t size, reading *it, echod_head *head)
{
    *head = (echod_head){0};
    if (size > verdicts->max_head_size)
        size = verdicts->max_head_size;
    *it = (reading){.line = octets, .end = octets + size, .brief = verdicts->brief, .room = BRIEF_SIZE, .head = head};
    size_t line_size;
    const uint8_t *line = read_line(it, &line_size); /* the request line */
    bool is_good = line && put_brief(it, line, line_size) && put_brief(it, (const uint8_t *)"\n", 1);
    while (is_good && (line = read_line(it, &line_size)) && line_size)
        is_good = read_field(verdicts, it, line, line_size) && put_brief(it, (const uint8_t *)"\n", 1);
    if (!is_good || !line || !head->key)
        return false;
    head->size = (size_t)(it->line - octets);
    return true;
}

/* Finding. */

static uint64_t hash_of(const uint8_t *octets, size_t size)
{
    uint64_t hash = size;
    uint8_t last[8] = {0};
    for (; size >= sizeof last; octets += sizeof last, size -= sizeof last)
        hash = (hash ^ load_64(octets)) * UINT64_C(0x9E3779B97F4A7C15), hash ^= hash >> 29;
    memcpy(last, octets, size);
    hash = (hash ^ load_64(last)) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

static echod_verdict **bucket_of(echod_verdicts *verdicts, uint64_t hash)
{
    return &verdicts->buckets[hash % MOST_VERDICTS];
}

/* Put a verdict at the end of the list by use. */
static void append(echod_verdicts *verdicts, echod_verdict *verdict)
{
    verdict->older = verdicts->newest;
    verdict->newer = NULL;
    *(verdicts->newest ? &verdicts->newest->newer : &verdicts->oldest) = verdict;
    verdicts->newest = verdict;
}

static void take_out(echod_verdicts *verdicts, echod_verdict *verdict)
{
    *(verdict->older ? &verdict->older->newer : &verdicts->oldest) = verdict->newer;
    *(verdict->newer ? &verdict->newer->older : &verdicts->newest) = verdict->older;
}

/* The verdict on the head in verdicts->brief, or NULL. It is the newest then. */
static echod_verdict *look_up(echod_verdicts *verdicts, size_t size, uint64_t hash)
{
    echod_verdict *verdict = *bucket_of(verdicts, hash);
    while (verdict && !(verdict->hash == hash && verdict->head_size == size &&
                        memcmp(verdict->octets, verdicts->brief, size) == 0))
        verdict = verdict->next;
    if (verdict && verdict != verdicts->newest) {
        take_out(verdicts, verdict);
        append(verdicts, verdict);
    }
    return verdict;
}

echod_verdict *echod_verdicts_find(echod_verdicts *verdicts, const uint8_t *octets, size_t size, echod_head *head)
{
    reading it;
    if (!read_head(verdicts, octets, size, &it, head))
        return NULL;
    return look_up(verdicts, brief_size(&it), hash_of(verdicts->brief, brief_size(&it)));
}

/* Remembering and forgetting. */

static size_t allocated(const echod_verdict *verdict)
{
    return sizeof *verdict + verdict->head_size + verdict->answer_size;
}

static void release(echod_verdicts *verdicts, echod_verdict *verdict)
{
    assert(verdict->is_forgotten && !verdict->references);
    verdicts->held -= allocated(verdict);
    free(verdict);
}

static void forget(echod_verdicts *verdicts, echod_verdict *verdict)
{
    echod_verdict **at = bucket_of(verdicts, verdict->hash);
    while (*at != verdict)
        at = &(*at)->next;
    *at = verdict->next;
    take_out(verdicts, verdict);
    verdicts->count--;
    verdict->is_forgotten = true;
    if (!verdict->references)
        release(verdicts, verdict);
}

/* The only place of the accept value in an answer. False: there is none, or more than one. */
static bool find_accept(const uint8_t *answer, size_t size, const uint8_t *key, size_t *place)
{
    uint8_t value[ECHOD_ACCEPT_VALUE];
    echod_accept_value(key, value);
    size_t found = 0;
    for (size_t at = 0; at + sizeof value <= size; at++)
        if (memcmp(answer + at, value, sizeof value) == 0)
            found++, *place = at;
    return found == 1;
}

int echod_verdicts_remember(echod_verdicts *verdicts, const uint8_t *octets, size_t size, const uint8_t *answer,
                            size_t answer_size, const echod_terms *terms)
{
    reading it;
    echod_head head;
    size_t accept_at = 0;
    if (!read_head(verdicts, octets, size, &it, &head) || head.size != size)
        return 0;
    size_t head_size = brief_size(&it);
    uint64_t hash = hash_of(verdicts->brief, head_size);
    if (look_up(verdicts, head_size, hash))
        return 1;
    if (answer_size > ANSWER_SIZE || !find_accept(answer, answer_size, head.key, &accept_at))
        return 0;
    size_t behind = accept_at + ECHOD_ACCEPT_VALUE, kept_size = answer_size - ECHOD_ACCEPT_VALUE;
    echod_verdict *verdict = malloc(sizeof *verdict + head_size + kept_size);
    if (!verdict)
        return 0;
    if (verdicts->count == MOST_VERDICTS)
        forget(verdicts, verdicts->oldest);
    echod_verdict **bucket = bucket_of(verdicts, hash);
    *verdict = (echod_verdict){
        .next = *bucket,
        .hash = hash,
        .takes_deflated = terms != NULL,
        .key_at = (uint16_t)it.key_at,
        .kept_at = (uint16_t)it.kept_at,
        .head_size = (uint16_t)head_size,
        .accept_at = (uint16_t)accept_at,
        .answer_size = (uint16_t)kept_size,
    };
    if (terms)
        verdict->terms = *terms;
    memcpy(verdict->octets, verdicts->brief, head_size);
    memcpy(verdict->octets + head_size, answer, accept_at);
    memcpy(verdict->octets + head_size + accept_at, answer + behind, answer_size - behind);
    *bucket = verdict;
    append(verdicts, verdict);
    verdicts->count++;
    verdicts->held += allocated(verdict);
    return 1;
}

void echod_verdicts_clear(echod_verdicts *verdicts)
{
    while (verdicts->oldest)
        forget(verdicts, verdicts->oldest);
}

/* What a verdict says. */

static uint8_t *put(uint8_t *target, const uint8_t *octets, size_t size)
{
    if (size)
        memcpy(target, octets, size);
    return target + size;
}

size_t echod_verdict_answer(const echod_verdict *verdict, const uint8_t *key, uint8_t *answer)
{
    const uint8_t *octets = verdict->octets + verdict->head_size;
    if (answer) {
        answer = put(answer, octets, verdict->accept_at);
        echod_accept_value(key, answer);
        put(answer + ECHOD_ACCEPT_VALUE, octets + verdict->accept_at, (size_t)verdict->answer_size - verdict->accept_at);
    }
    return (size_t)verdict->answer_size + ECHOD_ACCEPT_VALUE;
}

size_t echod_verdict_head(const echod_verdict *verdict, const uint8_t *key, const uint8_t *kept, size_t kept_size,
                          uint8_t *head)
{
    /* The head in brief ends its lines with LF alone. */
    size_t size = ECHOD_HANDSHAKE_KEY + (verdict->kept_at ? kept_size : 0) + 2;
    for (size_t at = 0; at < verdict->head_size; at++) {
        bool is_end = verdict->octets[at] == '\n';
        size += is_end ? 2 : 1;
        if (!head)
            continue;
        if (at == verdict->key_at)
            head = put(head, key, ECHOD_HANDSHAKE_KEY);
        if (at == verdict->kept_at && at)
            head = put(head, kept, kept_size);
        if (is_end)
            *head++ = '\r';
        *head++ = verdict->octets[at];
    }
    if (head)
        put(head, (const uint8_t *)"\r\n", 2);
    return size;
}

const echod_terms *echod_verdict_terms(const echod_verdict *verdict)
{
    return verdict->takes_deflated ? &verdict->terms : NULL;
}

void echod_verdict_refer(echod_verdict *verdict)
{
    verdict->references++;
}

void echod_verdict_release(echod_verdicts *verdicts, echod_verdict *verdict)
{
    assert(verdict->references);
    if (--verdict->references == 0 && verdict->is_forgotten)
        release(verdicts, verdict);
}

/* The memory for verdicts. */

static void set_judged(echod_verdicts *verdicts, const char *names)
{
    while (*names) {
        size_t size = strcspn(names, " ");
        assert(size && size <= MOST_JUDGED && verdicts->judged_count < MOST_JUDGED);
        verdicts->judged[verdicts->judged_count++] = (name){names, size};
        verdicts->judged_sizes |= UINT32_C(1) << size;
        names += size;
        names += *names == ' ';
    }
}

echod_verdicts *echod_verdicts_new(const char *judged, const char *kept, size_t max_head_size)
{
    size_t judged_size = strlen(judged) + 1, kept_size = strlen(kept) + 1;
    echod_verdicts *verdicts = calloc(1, sizeof *verdicts + judged_size + kept_size);
    if (!verdicts)
        return NULL;
    memcpy(verdicts->names, judged, judged_size);
    memcpy(verdicts->names + judged_size, kept, kept_size);
    set_judged(verdicts, verdicts->names);
    verdicts->key = (name){KEY_NAME, sizeof KEY_NAME - 1};
    verdicts->kept = (name){verdicts->names + judged_size, kept_size - 1};
    verdicts->max_head_size = max_head_size;
    return verdicts;
}

void echod_verdicts_free(echod_verdicts *verdicts)
{
    echod_verdicts_clear(verdicts);
    assert(!verdicts->held);
    free(verdicts);
}

size_t echod_verdicts_count(const echod_verdicts *verdicts)
{
    return verdicts->count;
}

size_t echod_verdicts_held(const echod_verdicts *verdicts)
{
    return verdicts->held;
}
