// A custom runtime in C, of the C library alone. The event's text picks how a call ends.
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static int connection = -1;
static char data[1 << 16], id[64];
static char *body;

static void reach(void) {
    char name[64], *port;
    struct addrinfo *found;
    snprintf(name, sizeof name, "%s", getenv("AWS_LAMBDA_RUNTIME_API"));
    port = strchr(name, ':');
    *port++ = 0;
    if (getaddrinfo(name, port, 0, &found)) exit(9);
    connection = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(connection, found->ai_addr, found->ai_addrlen)) exit(9);
}

// Sends one request and reads its answer into `data`; `body` is where that one's body begins.
static void ask(const char *method, const char *path, const char *sent) {
    char message[1 << 12];
    size_t have = 0, needed = 0;
    int length = snprintf(message, sizeof message, "%s /2018-06-01/runtime/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                          method, path, strlen(sent), sent);
    if (write(connection, message, length) != length) exit(9);
    for (body = 0; !body || have < needed;) {
        ssize_t more = read(connection, data + have, sizeof data - 1 - have);
        if (more <= 0) exit(9);
        data[have += more] = 0;
        if (!body && (body = strstr(data, "\r\n\r\n"))) {
            char *told = strcasestr(data, "\r\ncontent-length:");
            body += 4;
            needed = (body - data) + (told && told < body ? atol(told + 17) : 0);
        }
    }
}

static int is(const char *word) { return strstr(body, word) != 0; }

int main(void) {
    char path[128], answer[1 << 12];
    reach();
    if (getenv("AT_START")) {
        ask("POST", "init/error", "{\"errorType\": \"NotToday\", \"errorMessage\": \"at start\"}");
        return 1;
    }
    for (;;) {
        char *told;
        ask("GET", "invocation/next", "");
        if (!(told = strcasestr(data, "lambda-runtime-aws-request-id:"))) return 9;
        sscanf(told + 30, " %63[^\r]", id);
        const char *where = "response";
        snprintf(answer, sizeof answer, "{\"event\": %.3000s, \"pid\": %d}", body, getpid());
        if (is("\"sleep\"")) sleep(600);
        if (is("\"exit\"")) return 3;
        if (is("\"crash\"")) abort();
        if (is("\"memory\"")) for (;;) memset(malloc(8 << 20), 1, 8 << 20);
        if (is("\"nap\"")) {
            unsigned char some[8];
            usleep(300000);
            if (getentropy(some, sizeof some)) return 9;
            snprintf(answer, sizeof answer, "\"%02x%02x%02x%02x%02x%02x%02x%02x\"", some[0], some[1], some[2], some[3], some[4],
                     some[5], some[6], some[7]);
        }
        if (is("\"raise\"")) {
            where = "error";
            snprintf(answer, sizeof answer, "{\"errorType\": \"Lost\", \"errorMessage\": \"sorry\", \"stackTrace\": [\"native.c\"]}");
        }
        printf("event of %zu bytes\n", strlen(body));
        fflush(stdout);
        snprintf(path, sizeof path, "invocation/%s/%s", id, where);
        ask("POST", path, answer);
    }
}
