/* Stands before the C library in a program under test. Once the file BREAK exists, whatever listens breaks at its next
 * accept, and no address can be bound any more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int is_broken(void) {
    const char *file = getenv("BREAK");
    return file && access(file, F_OK) == 0;
}

int accept4(int listener, struct sockaddr *peer, socklen_t *length, int flags) {
    int (*next)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    if (is_broken()) shutdown(listener, SHUT_RDWR);
    return next(listener, peer, length, flags);
}

int bind(int socket, const struct sockaddr *address, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    if (!is_broken()) return next(socket, address, length);
    errno = EADDRINUSE;
    return -1;
}
