// wasi:http for C without a bindings generator: the imports of wasi-http.wit as the canonical ABI lowers
// them, and a few helpers over them. Handles are plain integers; what a function takes by value it owns.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"

#define WASI_IMPORT(interface, name)                                                                        \
    __attribute__((import_module("wasi:" interface "@0.2.12"), import_name(name))) extern
#define WASI_EXPORT(name) __attribute__((export_name(name)))

typedef int32_t handle_t;

// What a function that returns more than one value writes: a tag, then its payload.
typedef struct __attribute__((aligned(8))) {
    uint8_t tag;
    union {
        handle_t handle;
        struct { char *start; size_t length; } bytes;
        uint8_t room[60];
    };
} answer_t;

enum { METHOD_GET = 0, METHOD_POST = 2 };
enum { MAX_WRITE = 4096 };  // wasi:io/streams: the most that one blocking-write-and-flush takes

WASI_IMPORT("io/streams", "[method]input-stream.blocking-read")
void input_stream_blocking_read(handle_t stream, uint64_t length, answer_t *answer);
WASI_IMPORT("io/streams", "[method]output-stream.blocking-write-and-flush")
void output_stream_blocking_write_and_flush(handle_t stream, const char *start, size_t length, answer_t *answer);
WASI_IMPORT("io/streams", "[resource-drop]input-stream") void input_stream_drop(handle_t stream);
WASI_IMPORT("io/streams", "[resource-drop]output-stream") void output_stream_drop(handle_t stream);

WASI_IMPORT("http/types", "[constructor]fields") handle_t fields_new(void);
WASI_IMPORT("http/types", "[method]fields.append")
void fields_append(handle_t fields, const char *name, size_t name_length, const char *value,
                   size_t value_length, answer_t *answer);
WASI_IMPORT("http/types", "[method]incoming-request.method")
void incoming_request_method(handle_t request, answer_t *answer);
WASI_IMPORT("http/types", "[method]incoming-request.path-with-query")
void incoming_request_path_with_query(handle_t request, answer_t *answer);
WASI_IMPORT("http/types", "[method]incoming-request.consume")
void incoming_request_consume(handle_t request, answer_t *answer);
WASI_IMPORT("http/types", "[method]incoming-body.stream")
void incoming_body_stream(handle_t body, answer_t *answer);
WASI_IMPORT("http/types", "[resource-drop]incoming-body") void incoming_body_drop(handle_t body);
WASI_IMPORT("http/types", "[constructor]outgoing-response") handle_t outgoing_response_new(handle_t headers);
WASI_IMPORT("http/types", "[method]outgoing-response.set-status-code")
int32_t outgoing_response_set_status_code(handle_t response, int32_t status);
WASI_IMPORT("http/types", "[method]outgoing-response.body")
void outgoing_response_body(handle_t response, answer_t *answer);
WASI_IMPORT("http/types", "[method]outgoing-body.write")
void outgoing_body_write(handle_t body, answer_t *answer);
WASI_IMPORT("http/types", "[static]outgoing-body.finish")
void outgoing_body_finish(handle_t body, int32_t has_trailers, handle_t trailers, answer_t *answer);
WASI_IMPORT("http/types", "[static]response-outparam.set")
void response_outparam_set(handle_t outparam, int32_t is_error, int32_t response_or_code, int32_t, int64_t,
                           int32_t, int32_t, int32_t, int32_t);

// The host puts strings and lists that it returns into memory that it asks for here.
WASI_EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)old_size;
    if (new_size == 0) return (void *)align;
    void *start = realloc(old, new_size);
    if (start == NULL) __builtin_trap();
    return start;
}

// A response whose body is being written.
typedef struct { handle_t body, stream; } writer_t;

// The path and query of a request, to be freed.
static inline char *request_path(handle_t request) {
    answer_t answer;
    incoming_request_path_with_query(request, &answer);
    size_t length = answer.tag ? answer.bytes.length : 0;
    char *path = malloc(length + 1);
    if (path == NULL) __builtin_trap();
    if (length) memcpy(path, answer.bytes.start, length);
    path[length] = 0;
    if (answer.tag) free(answer.bytes.start);
    return path;
}

static inline int request_method(handle_t request) {
    answer_t answer;
    incoming_request_method(request, &answer);
    return answer.tag;
}

// Sends the head of the response; its body is written afterwards.
static inline writer_t respond(handle_t outparam, int status, const char *content_type) {
    answer_t answer;
    handle_t headers = fields_new();
    fields_append(headers, "content-type", 12, content_type, strlen(content_type), &answer);
    handle_t response = outgoing_response_new(headers);
    outgoing_response_set_status_code(response, status);
    outgoing_response_body(response, &answer);
    writer_t writer = {.body = answer.handle};
    outgoing_body_write(writer.body, &answer);
    writer.stream = answer.handle;
    response_outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
    return writer;
}

// False when nobody reads any more.
static inline bool write_bytes(writer_t *writer, const char *start, size_t length) {
    while (length > 0) {
        size_t now = length < MAX_WRITE ? length : MAX_WRITE;
        answer_t answer;
        output_stream_blocking_write_and_flush(writer->stream, start, now, &answer);
        if (answer.tag) return false;
        start += now;
        length -= now;
    }
    return true;
}

static inline bool write_text(writer_t *writer, const char *text) {
    return write_bytes(writer, text, strlen(text));
}

static inline void finish(writer_t *writer) {
    answer_t answer;
    output_stream_drop(writer->stream);
    outgoing_body_finish(writer->body, 0, 0, &answer);
}

// Copies the request's body into the response as it arrives.
static inline void copy_body(handle_t request, writer_t *writer) {
    answer_t body, stream, chunk;
    incoming_request_consume(request, &body);
    incoming_body_stream(body.handle, &stream);
    for (;;) {
        size_t used = arena_used;
        input_stream_blocking_read(stream.handle, 16384, &chunk);
        if (chunk.tag) break;
        bool read_on = write_bytes(writer, chunk.bytes.start, chunk.bytes.length);
        arena_used = used;
        if (!read_on) break;
    }
    input_stream_drop(stream.handle);
    incoming_body_drop(body.handle);
}
