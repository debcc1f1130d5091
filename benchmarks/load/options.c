/* The command line of the load generator. See options.h. */
#include "options.h"

#include "fail.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static double number(const char *name, const char *text, double least, double most)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        fail("--%s: %s is not a number from %g to %g", name, text, least, most);
    }
    return value;
}

static int choice(const char *name, const char *text, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            return i;
        }
    }
    fail("--%s: %s is not one of its values", name, text);
}

static void check_host(const char *host)
{
    struct in_addr address;
    if (inet_pton(AF_INET, host, &address) != 1 || (ntohl(address.s_addr) >> 24) != 127) {
        fail("--host: %s is not a dotted address in 127.0.0.0/8", host);
    }
}

static void check_together(const Options *o)
{
    if (o->port == 0) {
        fail("--port is needed");
    }
    if ((o->mode == MODE_LATENCY || o->mode == MODE_STORM) && o->rate <= 0) {
        fail("--mode latency and --mode storm need --rate");
    }
    if ((o->mode == MODE_STORM) != (o->stay > 0)) {
        fail("--mode storm needs --stay, and no other mode has it");
    }
    if (o->mode == MODE_STORM && o->idle > 0) {
        fail("--mode storm has no --idle: its connections are idle until they come back");
    }
    if (o->mode == MODE_PINGS && (o->size > MOST_CONTROL_OCTETS || o->in_flight > 1)) {
        fail("--mode pings: at most %d octets, one ping in flight", MOST_CONTROL_OCTETS);
    }
    if (o->deflate == DEFLATE_BROWSER && o->mode != MODE_OPENS && o->mode != MODE_HOLD) {
        fail("--deflate browser: only with --mode opens or hold, which send one message on a connection");
    }
    if (o->fragments > o->size && o->fragments > 1) {
        fail("--fragments: more than octets");
    }
#ifndef WITH_DEFLATE
    if (o->deflate != DEFLATE_OFF) {
        fail("--deflate: built without WITH_DEFLATE");
    }
#endif
#ifndef WITH_TLS
    if (o->tls) {
        fail("--tls: built without WITH_TLS");
    }
#endif
    if (o->tls && o->ca == NULL) {
        fail("--tls needs --ca");
    }
}

Options options_parse(int argc, char **argv)
{
    static const char *const modes[] = {"echo", "latency", "opens", "hold", "pings", "pinged", "storm", NULL};
    static const char *const kinds[] = {"ascii", "multibyte", "binary", NULL};
    static const char *const deflates[] = {"off", "no-takeover", "takeover", "browser", NULL};
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},        {"port", required_argument, NULL, 'p'},
        {"path", required_argument, NULL, 'u'},        {"mode", required_argument, NULL, 'm'},
        {"kind", required_argument, NULL, 'k'},        {"size", required_argument, NULL, 's'},
        {"connections", required_argument, NULL, 'c'}, {"in-flight", required_argument, NULL, 'd'},
        {"idle", required_argument, NULL, 'i'},        {"fragments", required_argument, NULL, 'f'},
        {"deflate", required_argument, NULL, 'z'},     {"tls", no_argument, NULL, 't'},
        {"ca", required_argument, NULL, 'a'},          {"seconds", required_argument, NULL, 'S'},
        {"warmup", required_argument, NULL, 'W'},      {"rate", required_argument, NULL, 'r'},
        {"patience", required_argument, NULL, 'P'},    {"echo", no_argument, NULL, 'e'},
        {"pause", no_argument, NULL, 'l'},             {"watch", required_argument, NULL, 'w'},
        {"stay", required_argument, NULL, 'y'},        {"proxied", no_argument, NULL, 'x'},
        {NULL, 0, NULL, 0},
    };
    Options o = {
        .host = "127.0.0.1", .path = "/", .connections = 1, .in_flight = 1, .fragments = 1, .size = 16,
        .seconds = 1, .warmup = 0.2, .patience = 5,
    };
    int letter;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (letter) {
        case 'h': check_host(optarg); o.host = optarg; break;
        case 'p': o.port = (uint16_t)number("port", optarg, 1, 65535); break;
        case 'u': o.path = optarg; break;
        case 'm': o.mode = (Mode)choice("mode", optarg, modes); break;
        case 'k': o.kind = (Kind)choice("kind", optarg, kinds); break;
        case 's': o.size = (size_t)number("size", optarg, 0, 1 << 26); break;
        case 'c': o.connections = (unsigned)number("connections", optarg, 1, 100000); break;
        case 'd': o.in_flight = (unsigned)number("in-flight", optarg, 1, 1024); break;
        case 'i': o.idle = (unsigned)number("idle", optarg, 0, 100000); break;
        case 'x': o.proxied = true; break;
        case 'y': o.stay = (unsigned)number("stay", optarg, 0, 10000); break;
        case 'f': o.fragments = (unsigned)number("fragments", optarg, 1, 65536); break;
        case 'z': o.deflate = (Deflate)choice("deflate", optarg, deflates); break;
        case 't': o.tls = true; break;
        case 'a': o.ca = optarg; break;
        case 'S': o.seconds = number("seconds", optarg, 0.01, 600); break;
        case 'W': o.warmup = number("warmup", optarg, 0, 600); break;
        case 'r': o.rate = number("rate", optarg, 1, 1e7); break;
        case 'P': o.patience = number("patience", optarg, 0.1, 600); break;
        case 'e': o.echo = true; break;
        case 'l': o.pause = true; break;
        case 'w':
            if (o.watching == MAX_WATCHED) {
                fail("--watch: too many");
            }
            o.watched[o.watching++] = (pid_t)number("watch", optarg, 1, 1 << 30);
            break;
        default: fail("unknown option");
        }
    }
    check_together(&o);
    return o;
}
