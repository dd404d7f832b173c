// A function as a wasi:http component.
//
//   GET  /any/path   a greeting; NAME in the environment says whom to greet
//   GET  /log        the same, with a line on stderr, which ends up in the function's log
//   POST /events     an Invoke of the function arrives here: answers {"event": <what was sent>}
//   POST /any/path   answers with the body it is sent, while it is being sent
#include <stdio.h>

#include "wasi_http.h"

static void greet(const char *path, handle_t outparam) {
    const char *name = getenv("NAME");
    char line[512];
    int length = snprintf(line, sizeof line, "Hello, %.200s! You asked for %.200s\n", name ? name : "world", path);
    if (strncmp(path, "/log", 4) == 0) fprintf(stderr, "hello-wasm: GET %s\n", path);
    writer_t writer = respond(outparam, 200, "text/plain; charset=utf-8");
    write_bytes(&writer, line, length);
    finish(&writer);
}

static void event(handle_t request, handle_t outparam) {
    writer_t writer = respond(outparam, 200, "application/json");
    write_text(&writer, "{\"event\":");
    copy_body(request, &writer);
    write_text(&writer, "}");
    finish(&writer);
}

static void echo(handle_t request, handle_t outparam) {
    writer_t writer = respond(outparam, 200, "application/octet-stream");
    copy_body(request, &writer);
    finish(&writer);
}

WASI_EXPORT("wasi:http/incoming-handler@0.2.12#handle")
void handle(handle_t request, handle_t outparam) {
    char *path = request_path(request);
    if (request_method(request) != METHOD_POST) {
        greet(path, outparam);
    } else if (strcmp(path, "/events") == 0) {
        event(request, outparam);
    } else {
        echo(request, outparam);
    }
    free(path);
}
