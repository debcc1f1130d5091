/* A load generator for WebSocket echo servers: one thread, one epoll loop. It compares every octet.
 *
 * At the end it prints one line of JSON. With --pause it first prints the words "open" and "measured", and waits for a
 * line after each. So the caller can look at the server's memory meanwhile.
 *
 * Knows: the modes, when to measure, what to print. Must never know: frames, sockets.
 */
#include "engine.h"
#include "fail.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* The listeners of Twisted and asyncio queue 50 to 100 connections for accept. Another one would repeat its SYN after a
 * second. */
enum { MOST_OPENING = 32 };

enum { TURN_MILLISECONDS = 20 };

/* In a storm so many connections come back between two looks at those that stay: half a millisecond's work. */
enum { BACK_PER_TURN = 16 };

typedef struct {
    uint64_t at;
    uint64_t own_cpu;
    uint64_t server_cpu;
} Reading;

static Engine engine;
static Options options;
static Connection *connections;
static unsigned total;
static bool measuring;
static bool asking; /* while true, each answer leads to a new message */
static bool reopening;
static clockid_t watched[MAX_WATCHED];

/* --- clocks ------------------------------------------------------------------------------------------------------- */

static uint64_t clock_of(clockid_t id)
{
    struct timespec t = {0};
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void watch_processes(void)
{
    for (unsigned i = 0; i < options.watching; i++) {
        if (clock_getcpuclockid(options.watched[i], &watched[i]) != 0) {
            fail("--watch: no process %d", (int)options.watched[i]);
        }
    }
}

static Reading read_clocks(void)
{
    Reading reading = {.at = engine_clock(), .own_cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID)};
    for (unsigned i = 0; i < options.watching; i++) {
        reading.server_cpu += clock_of(watched[i]);
    }
    return reading;
}

/* --- what is common to the modes ---------------------------------------------------------------------------------- */

static void pause_at(const char *word)
{
    char line[64];
    if (options.pause) {
        printf("%s\n", word);
        fflush(stdout);
        if (fgets(line, sizeof line, stdin) == NULL) {
            fail("no line came on standard input after '%s'", word);
        }
    }
}

/* Runs the loop until `done` holds. Fails with `missing` after the time of patience without progress. */
static void turn_until(bool (*done)(void), uint64_t (*progress)(void), const char *missing)
{
    uint64_t seen = progress();
    uint64_t since = engine_clock();
    while (!done()) {
        engine_turn(&engine, TURN_MILLISECONDS);
        uint64_t now = engine_clock();
        if (progress() != seen) {
            seen = progress();
            since = now;
        } else if ((double)(now - since) > options.patience * 1e9) {
            fail("%s after %g s without progress (open %u, opening %u, unanswered %" PRIu64 ")", missing,
                 options.patience, engine.open,
                 engine.opening, engine.outstanding);
        }
    }
}

static uint64_t opened_so_far(void)
{
    return engine.open;
}

static uint64_t answered_so_far(void)
{
    return engine.answered;
}

static bool nothing_outstanding(void)
{
    return engine.outstanding == 0;
}

static bool nothing_open(void)
{
    return engine.open == 0 && engine.opening == 0;
}

static bool opening_slots_used(void)
{
    static unsigned begun;
    while (begun < total && engine.opening < MOST_OPENING) {
        connection_begin(&engine, &connections[begun], begun * 7);
        begun++;
    }
    return engine.open == total;
}

static void open_all(void)
{
    turn_until(opening_slots_used, opened_so_far, "missing: connections did not open");
}

static void fail_if_stuck(uint64_t *seen, uint64_t *since)
{
    if (engine.answered != *seen || engine.outstanding == 0) {
        *seen = engine.answered;
        *since = engine_clock();
    } else if ((double)(engine_clock() - *since) > options.patience * 1e9) {
        fail("missing message: %" PRIu64 " unanswered for %g s", engine.outstanding, options.patience);
    }
}

/* Runs the loop for a time. Before each turn `step` returns how long the turn may wait. */
static void run_for(double seconds, int (*step)(void))
{
    uint64_t end = engine_clock() + (uint64_t)(seconds * 1e9);
    uint64_t seen = engine.answered;
    uint64_t since = engine_clock();
    while (engine_clock() < end) {
        engine_turn(&engine, step());
        if (options.mode != MODE_OPENS) {
            fail_if_stuck(&seen, &since);
        }
    }
}

static void measure(int (*step)(void), Reading *from, Reading *to)
{
    run_for(options.warmup, step);
    *from = read_clocks();
    measuring = true;
    engine.timing = options.mode != MODE_OPENS;
    run_for(options.seconds, step);
    measuring = engine.timing = false;
    *to = read_clocks();
}

/* Closes every busy connection with a closing handshake, so that surplus octets can't hide behind the last answer. */
static void close_all(void)
{
    for (unsigned i = options.idle; i < total; i++) {
        connection_say_close(&engine, &connections[i]);
    }
    for (unsigned i = 0; i < options.idle; i++) {
        connection_drop(&engine, &connections[i]);
    }
    turn_until(nothing_open, opened_so_far, "missing: the closing handshake did not end");
}

static void print_result(const Reading *from, const Reading *to, double opening_seconds)
{
    double seconds = (double)(to->at - from->at) / 1e9;
    const Histogram *latency = &engine.latency;
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, "
           "\"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"max\": %.2f, "
           "\"cpu_share\": %.4f, \"server_cpu_seconds\": %.6f, "
           "\"packed\": %" PRIu64 ", \"opening_seconds\": %.6f, \"errors\": 0}\n",
           engine.messages, seconds, (double)engine.messages / seconds, histogram_percentile(latency, 0.5),
           histogram_percentile(latency, 0.9), histogram_percentile(latency, 0.99), (double)latency->most / 1e3,
           (double)(to->own_cpu - from->own_cpu) / 1e9 / seconds,
           (double)(to->server_cpu - from->server_cpu) / 1e9, engine.packed, opening_seconds);
}

/* --- echo and latency --------------------------------------------------------------------------------------------- */

static void nothing_on_open(Engine *e, Connection *c)
{
    (void)e, (void)c;
}

static void drop_on_close(Engine *e, Connection *c)
{
    connection_drop(e, c);
}

static void ask_again(Engine *e, Connection *c, unsigned answers)
{
    if (asking) {
        connection_ask(e, c, answers, e->now);
    }
}

static void ask_no_more(Engine *e, Connection *c, unsigned answers)
{
    (void)e, (void)c, (void)answers;
}

static int wait_for_answers(void)
{
    return TURN_MILLISECONDS;
}

static uint64_t due; /* when the next message at the fixed rate is to be sent */
static uint64_t due_until = UINT64_MAX;

/* Sends each due message on the next free connection. A message that is sent late is still timed from its due time. */
static int ask_what_is_due(void)
{
    static unsigned turn;
    uint64_t now = engine_clock();
    now = now < due_until ? now : due_until;
    /* In a storm the connections that stay, the last ones, are paced. Otherwise all busy ones are. */
    unsigned paced = options.mode == MODE_STORM ? options.stay : options.connections;
    due = due == 0 ? now : due;
    for (unsigned tried = 0; due <= now && tried < paced; tried++) {
        Connection *c = &connections[total - paced + turn];
        turn = turn + 1 < paced ? turn + 1 : 0;
        if (c->outstanding < options.in_flight) {
            connection_ask(&engine, c, 1, due);
            due += (uint64_t)(1e9 / options.rate);
            tried = 0;
        }
    }
    return 0; /* no waiting: a timer would take longer than what is measured */
}

static void ping_again(Engine *e, Connection *c, unsigned answers)
{
    (void)answers;
    if (asking) {
        connection_ping(e, c, e->now);
    }
}

static void ask_first(Connection *c)
{
    if (options.mode == MODE_PINGS) {
        connection_ping(&engine, c, engine_clock());
    } else {
        connection_ask(&engine, c, options.in_flight, engine_clock());
    }
}

static void run_echo(void)
{
    Reading from, to;
    bool paced = options.mode == MODE_LATENCY;
    engine.on_open = nothing_on_open;
    engine.on_answers = paced ? ask_no_more : options.mode == MODE_PINGS ? ping_again : ask_again;
    engine.on_close = drop_on_close;
    uint64_t begun = engine_clock();
    open_all();
    double opening_seconds = (double)(engine_clock() - begun) / 1e9;
    pause_at("open");
    asking = true;
    for (unsigned i = options.idle; i < total && !paced; i++) {
        ask_first(&connections[i]);
    }
    measure(paced ? ask_what_is_due : wait_for_answers, &from, &to);
    asking = false;
    pause_at("measured");
    turn_until(nothing_outstanding, answered_so_far, "missing message");
    close_all();
    print_result(&from, &to, opening_seconds);
}

/* --- the server's pings ------------------------------------------------------------------------------------------- */

static void run_pinged(void)
{
    engine.on_open = nothing_on_open;
    engine.on_answers = ask_no_more;
    engine.on_close = drop_on_close;
    open_all();
    pause_at("open");
    run_for(options.warmup, wait_for_answers);
    Reading from = read_clocks();
    uint64_t before = engine.pings;
    run_for(options.seconds, wait_for_answers);
    Reading to = read_clocks();
    engine.messages = engine.pings - before;
    pause_at("measured");
    close_all();
    print_result(&from, &to, 0);
}

/* --- opens -------------------------------------------------------------------------------------------------------- */

static void open_again(Engine *e, Connection *c)
{
    if (measuring) {
        e->messages++;
        histogram_add(&e->latency, engine_clock() - c->opening_since);
    }
    connection_drop(e, c);
    if (reopening) {
        connection_begin(e, c, 0);
    }
}

static void opened_for_one_message(Engine *e, Connection *c)
{
    connection_ask(e, c, 1, e->now);
}

static void close_after_one_message(Engine *e, Connection *c, unsigned answers)
{
    (void)answers;
    connection_say_close(e, c);
}

static void run_opens(void)
{
    Reading from, to;
    engine.on_open = options.echo ? opened_for_one_message : open_again;
    engine.on_answers = close_after_one_message;
    engine.on_close = open_again;
    reopening = true;
    for (unsigned i = 0; i < total; i++) {
        connection_begin(&engine, &connections[i], 0);
    }
    measure(wait_for_answers, &from, &to);
    reopening = false;
    turn_until(nothing_open, answered_so_far, "missing: connections did not end");
    print_result(&from, &to, 0);
}

/* --- hold --------------------------------------------------------------------------------------------------------- */

static void run_hold(void)
{
    engine.on_open = options.echo ? opened_for_one_message : nothing_on_open;
    engine.on_answers = ask_no_more;
    engine.on_close = drop_on_close;
    Reading from = read_clocks();
    open_all();
    turn_until(nothing_outstanding, answered_so_far, "missing message");
    Reading to = read_clocks();
    pause_at("open");
    for (unsigned i = 0; i < total; i++) {
        connection_drop(&engine, &connections[i]);
    }
    print_result(&from, &to, (double)(to.at - from.at) / 1e9);
}

/* --- storm -------------------------------------------------------------------------------------------------------- */

static unsigned served; /* connections that have come back and got their answer */

static void ask_when_back(Engine *e, Connection *c)
{
    if (e->timing && !c->stays) {
        connection_ask(e, c, 1, e->now);
    }
}

static void count_when_back(Engine *e, Connection *c, unsigned answers)
{
    (void)e, (void)answers;
    served += !c->stays;
}

static uint64_t served_so_far(void)
{
    return served;
}

/* Drops some more connections, and opens them anew at once. Sends what is due on those that stay. */
static bool all_served(void)
{
    static unsigned begun;
    for (unsigned i = 0; i < BACK_PER_TURN && begun < options.connections; i++, begun++) {
        connection_drop(&engine, &connections[begun]);
        connection_begin(&engine, &connections[begun], begun * 7);
    }
    ask_what_is_due();
    return served == options.connections;
}

static bool all_due_answered(void)
{
    ask_what_is_due();
    return due > due_until && engine.outstanding == 0;
}

static void run_storm(void)
{
    engine.on_open = ask_when_back;
    engine.on_answers = count_when_back;
    engine.on_close = drop_on_close;
    for (unsigned i = options.connections; i < total; i++) {
        connections[i].stays = true;
    }
    open_all();
    pause_at("open");
    run_for(options.warmup, ask_what_is_due);
    engine.timing = true;
    Reading from = read_clocks();
    turn_until(all_served, served_so_far, "missing: not all connections were served");
    Reading to = read_clocks();
    /* What was due in the storm and has no answer has waited longest, so it counts. */
    due_until = to.at;
    turn_until(all_due_answered, answered_so_far, "missing message");
    engine.timing = false;
    engine.messages = served;
    pause_at("measured");
    close_all();
    print_result(&from, &to, 0);
}

/* ---------------------------------------------------------------------------------------------------------------- */

static void check_files(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < total + 16U) {
        fail("%u connections need more than the %llu files allowed", total, (unsigned long long)limit.rlim_cur);
    }
}

int main(int argc, char **argv)
{
    options = options_parse(argc, argv);
    total = options.idle + options.connections + options.stay;
    signal(SIGPIPE, SIG_IGN);
    check_files();
    watch_processes();
    engine_setup(&engine, &options);
    connections = calloc(total, sizeof *connections);
    if (options.mode == MODE_OPENS) {
        run_opens();
    } else if (options.mode == MODE_HOLD) {
        run_hold();
    } else if (options.mode == MODE_PINGED) {
        run_pinged();
    } else if (options.mode == MODE_STORM) {
        run_storm();
    } else {
        run_echo();
    }
    return 0;
}
