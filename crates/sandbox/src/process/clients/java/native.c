/*
 * What Java cannot do for itself, for a client that was booted before its function was known: read its orders, make
 * them the process's environment, and change its folder. Of Java's native interface it takes four functions, by their
 * places in the table that every version has, so that it is built without Java's headers.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

enum { GET_ARRAY_LENGTH = 171, NEW_BYTE_ARRAY = 176, GET_BYTE_ARRAY_REGION = 200, SET_BYTE_ARRAY_REGION = 208 };
enum { ORDERS = 3 };

typedef void ***Env;

static int length_of(Env env, void *array) {
    return ((int (*)(Env, void *))(*env)[GET_ARRAY_LENGTH])(env, array);
}

/* A copy that lives as long as the process. */
static char *bytes_of(Env env, void *array, int length) {
    char *bytes = malloc((size_t)length + 1);
    if (bytes == NULL) return NULL;
    ((void (*)(Env, void *, int, int, char *))(*env)[GET_BYTE_ARRAY_REGION])(env, array, 0, length, bytes);
    bytes[length] = 0;
    return bytes;
}

void *Java_virga_runtime_Ahead_orders(Env env, void *class) {
    size_t room = 1 << 16, filled = 0;
    char *text = malloc(room);
    (void)class;
    while (text != NULL) {
        ssize_t got = read(ORDERS, text + filled, room - filled);
        if (got <= 0) break;
        filled += (size_t)got;
        if (filled == room) text = realloc(text, room *= 2);
    }
    close(ORDERS);
    if (text == NULL) filled = 0;
    void *array = ((void *(*)(Env, int))(*env)[NEW_BYTE_ARRAY])(env, (int)filled);
    if (array != NULL && filled > 0)
        ((void (*)(Env, void *, int, int, const char *))(*env)[SET_BYTE_ARRAY_REGION])(env, array, 0, (int)filled, text);
    free(text);
    return array;
}

unsigned char Java_virga_runtime_Ahead_become(Env env, void *class, void *environment, void *folder) {
    int length = length_of(env, environment);
    char *text = bytes_of(env, environment, length), *path = bytes_of(env, folder, length_of(env, folder));
    size_t count = 0;
    (void)class;
    if (text == NULL || path == NULL || chdir(path) != 0) return 0;
    for (int i = 0; i < length; i++) count += text[i] == 0;
    char **variables = malloc((count + 1) * sizeof *variables);
    if (variables == NULL) return 0;
    for (size_t i = 0; i < count; i++, text += strlen(text) + 1) variables[i] = text;
    variables[count] = NULL;
    environ = variables;
    free(path);
    return 1;
}
