// A wasi:http handler that misbehaves on request; each path is one thing that a test looks at.
#include <stdio.h>

#include "wasi_http.h"

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
        for (;;) {
            char *volatile more = malloc(1 << 20);  // volatile, or the compiler takes all of it away
            if (more == NULL) __builtin_trap();
            memset(more, 1, 1 << 20);
        }
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
