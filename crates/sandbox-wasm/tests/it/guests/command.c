// A preview-1 command: answers with its event, its argument and a variable, and logs a line.
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments) {
    static char event[1 << 16];
    size_t length = fread(event, 1, sizeof event, stdin);
    const char *name = getenv("NAME");
    fprintf(stderr, "%zu bytes on stdin\n", length);
    printf("{\"event\":%.*s,\"handler\":\"%s\",\"name\":\"%s\"}", (int)length, event,
           count > 0 ? arguments[0] : "", name ? name : "");
    return 0;
}
