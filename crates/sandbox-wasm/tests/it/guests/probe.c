// A wasi:http handler that misbehaves on request; each path is one thing that a test looks at.
#include <stdio.h>

#include "wasi_http.h"

WASI_IMPORT("http/types", "[constructor]outgoing-request") handle_t outgoing_request_new(handle_t headers);
WASI_IMPORT("http/types", "[method]outgoing-request.set-scheme")
int32_t outgoing_request_set_scheme(handle_t request, int32_t some, int32_t scheme, int32_t, int32_t);
WASI_IMPORT("http/types", "[method]outgoing-request.set-authority")
int32_t outgoing_request_set_authority(handle_t request, int32_t some, const char *start, size_t length);
WASI_IMPORT("http/types", "[method]outgoing-request.set-path-with-query")
int32_t outgoing_request_set_path_with_query(handle_t request, int32_t some, const char *start, size_t length);
WASI_IMPORT("http/outgoing-handler", "handle")
void outgoing_handler_handle(handle_t request, int32_t some, handle_t options, answer_t *answer);
WASI_IMPORT("http/types", "[method]future-incoming-response.subscribe")
handle_t future_incoming_response_subscribe(handle_t future);
WASI_IMPORT("http/types", "[method]future-incoming-response.get")
void future_incoming_response_get(handle_t future, answer_t *answer);
WASI_IMPORT("http/types", "[method]incoming-response.status") int32_t incoming_response_status(handle_t response);
WASI_IMPORT("io/poll", "[method]pollable.block") void pollable_block(handle_t pollable);

static volatile uint32_t sink;

static void spin(void) {
    for (;;) sink++;
}

static bool is(const char *path, const char *name) { return strncmp(path, name, strlen(name)) == 0; }

// Chunks without end; each is awaited, so the guest goes on only while it is read.
static void drip(handle_t outparam) {
    writer_t writer = respond(outparam, 200, "text/plain");
    for (int n = 0;; n++) {
        char chunk[32];
        int length = snprintf(chunk, sizeof chunk, "chunk %d\n", n);
        if (!write_bytes(&writer, chunk, length)) return;
    }
}

// What is read is answered at once, so that a test sees an answer before it has sent everything.
static void echo(handle_t request, handle_t outparam) {
    writer_t writer = respond(outparam, 200, "text/plain");
    copy_body(request, &writer);
    finish(&writer);
}

static void big(handle_t outparam) {
    static char block[MAX_WRITE];
    writer_t writer = respond(outparam, 200, "application/octet-stream");
    for (int n = 0; n < 1024; n++) {
        memset(block, 'a' + n % 26, sizeof block);
        if (!write_bytes(&writer, block, sizeof block)) return;
    }
    finish(&writer);
}

static void file(handle_t outparam) {
    char text[64] = "";
    FILE *in = fopen("/var/task/note.txt", "r");
    if (in == NULL || fgets(text, sizeof text, in) == NULL) strcpy(text, "not readable");
    FILE *out = fopen("/var/task/made.txt", "w");
    writer_t writer = respond(outparam, 200, "text/plain");
    write_text(&writer, text);
    write_text(&writer, out ? ", writable" : ", not writable");
    finish(&writer);
}

static void ok(handle_t outparam, const char *text) {
    writer_t writer = respond(outparam, 200, "text/plain");
    write_text(&writer, text);
    finish(&writer);
}

// Sends GET / to the authority after the slash: `scheme` is 0 for http, 1 for https.
static void fetch(const char *authority, int scheme, handle_t outparam) {
    answer_t answer;
    const uint8_t *bytes = (const uint8_t *)&answer;
    char text[32];
    handle_t request = outgoing_request_new(fields_new());
    outgoing_request_set_scheme(request, 1, scheme, 0, 0);
    outgoing_request_set_authority(request, 1, authority, strlen(authority));
    outgoing_request_set_path_with_query(request, 1, "/", 1);
    outgoing_handler_handle(request, 0, 0, &answer);
    if (answer.tag) __builtin_trap();
    // result<future-incoming-response, error-code>: the code's u64 puts what follows the tag at 8.
    handle_t future = *(const handle_t *)(bytes + 8);
    pollable_block(future_incoming_response_subscribe(future));
    // option<result<result<incoming-response, error-code>>>: tags at 0, 8 and 16, what they lead to at 24.
    future_incoming_response_get(future, &answer);
    if (bytes[16]) {
        snprintf(text, sizeof text, "error %d", bytes[24]);
    } else {
        snprintf(text, sizeof text, "status %d", incoming_response_status(*(const handle_t *)(bytes + 24)));
    }
    ok(outparam, text);
}

WASI_EXPORT("wasi:http/incoming-handler@0.2.12#handle")
void handle(handle_t request, handle_t outparam) {
    static int calls;
    char *path = request_path(request);
    if (is(path, "/trap-late")) {
        writer_t writer = respond(outparam, 200, "text/plain");
        write_text(&writer, "so far so good");
        __builtin_trap();
    } else if (is(path, "/trap")) {
        __builtin_trap();
    } else if (is(path, "/exit")) {
        exit(3);
    } else if (is(path, "/silent")) {
        return;
    } else if (is(path, "/spin-late")) {
        respond(outparam, 200, "text/plain");
        spin();
    } else if (is(path, "/spin")) {
        spin();
    } else if (is(path, "/drip")) {
        drip(outparam);
    } else if (is(path, "/echo")) {
        echo(request, outparam);
    } else if (is(path, "/big")) {
        big(outparam);
    } else if (is(path, "/file")) {
        file(outparam);
    } else if (is(path, "/eat")) {
        while (__builtin_wasm_memory_grow(0, 16) != (size_t)-1) continue;
        __builtin_trap();
    } else if (is(path, "/fetch/")) {
        fetch(path + strlen("/fetch/"), 0, outparam);
    } else if (is(path, "/fetch-tls/")) {
        fetch(path + strlen("/fetch-tls/"), 1, outparam);
    } else if (is(path, "/print")) {
        printf("a line on stdout\nand no end of line");
        fflush(stdout);
        fprintf(stderr, "a line on stderr\n");
        ok(outparam, "printed");
    } else {
        char text[16];
        snprintf(text, sizeof text, "%d", ++calls);
        ok(outparam, text);
    }
    free(path);
}
