/* A uWebSockets echo server, through its C API: the speed of its C++ without another language above it.
 *
 * The library is the one that PyPI's package socketify brings. It runs its event loop on libuv, where uWebSockets by
 * itself would use epoll. The declarations below are those parts of the library's interface that an echo needs.
 *
 * Usage: uwebsockets PORT [-deflate] [-tls CERT KEY] [-pings SECONDS]. It pings a connection that has been silent for
 * half of its idle time-out. The limits are those of the largest column.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct uws_app_s uws_app_t;
typedef struct uws_websocket_s uws_websocket_t;
typedef struct us_listen_socket_t us_listen_socket_t;

struct us_socket_context_options_t {
    const char *key_file_name;
    const char *cert_file_name;
    const char *passphrase;
    const char *dh_params_file_name;
    const char *ca_file_name;
    const char *ssl_ciphers;
    int ssl_prefer_low_memory_usage;
};

typedef struct {
    int port;
    const char *host;
    int options;
} uws_app_listen_config_t;

typedef void (*message_handler)(uws_websocket_t *, const char *message, size_t length, int opcode, void *data);

typedef struct {
    int compression;
    unsigned maxPayloadLength;
    unsigned short idleTimeout; /* in seconds, from 8 on */
    unsigned maxBackpressure;   /* 0: none */
    bool closeOnBackpressureLimit;
    bool resetIdleTimeoutOnSend;
    bool sendPingsAutomatically;
    unsigned short maxLifetime;
    void (*upgrade)(void);
    void (*open)(void);
    message_handler message;
    void (*drain)(void);
    void (*ping)(void);
    void (*pong)(void);
    void (*close)(void);
    void (*subscription)(void);
} uws_socket_behavior_t;

enum { SHARED_COMPRESSOR = 1, SHARED_DECOMPRESSOR = 1 << 8 };

uws_app_t *uws_create_app(int ssl, struct us_socket_context_options_t options);
void uws_ws(int ssl, uws_app_t *, const char *pattern, uws_socket_behavior_t, void *data);
int uws_ws_send_with_options(int ssl, uws_websocket_t *, const char *message, size_t length, int opcode, bool compress,
                             bool fin);
void uws_app_listen_with_config(int ssl, uws_app_t *, uws_app_listen_config_t,
                                void (*handler)(us_listen_socket_t *, uws_app_listen_config_t, void *), void *data);
void uws_app_run(int ssl, uws_app_t *);

static int ssl;
static bool deflate;

static void echo(uws_websocket_t *ws, const char *message, size_t length, int opcode, void *data)
{
    (void)data;
    uws_ws_send_with_options(ssl, ws, message, length, opcode, deflate, true);
}

static void check_listening(us_listen_socket_t *listener, uws_app_listen_config_t config, void *data)
{
    (void)data;
    if (listener == NULL) {
        fprintf(stderr, "uwebsockets: can't listen on port %d\n", config.port);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct us_socket_context_options_t tls = {0};
    unsigned short idle = 120;
    if (argc < 2) {
        fprintf(stderr, "usage: uwebsockets PORT [-deflate] [-tls CERT KEY] [-pings SECONDS]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "-deflate") == 0) {
            deflate = true;
        } else if (strcmp(argv[i], "-tls") == 0 && i + 2 < argc) {
            ssl = 1;
            tls.cert_file_name = argv[++i];
            tls.key_file_name = argv[++i];
        } else if (strcmp(argv[i], "-pings") == 0 && i + 1 < argc) {
            idle = (unsigned short)(2 * atoi(argv[++i]));
        }
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    uws_app_t *app = uws_create_app(ssl, tls);
    uws_socket_behavior_t behavior = {
        .compression = deflate ? SHARED_COMPRESSOR | SHARED_DECOMPRESSOR : 0,
        .maxPayloadLength = 16 * 1024 * 1024,
        .idleTimeout = idle,
        .sendPingsAutomatically = true,
        .message = echo,
    };
    uws_ws(ssl, app, "/*", behavior, NULL);
    uws_app_listen_config_t config = {.port = atoi(argv[1]), .host = "127.0.0.1"};
    uws_app_listen_with_config(ssl, app, config, check_listening, NULL);
    uws_app_run(ssl, app);
    return 1;
}
