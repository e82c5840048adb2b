// verbatim-verify is static and has no network. OpenSSL's archive refers to the resolver and to the
// loader of plugins, which glibc would open as shared libraries of the machine it runs on; here
// both are absent, and say so to who calls them.
#include <cstddef>

struct addrinfo;
struct hostent;

extern "C" {

// The linker takes this for OpenSSL's dlopen (--wrap): the archive of the C library needs its own
// definition.
void* __wrap_dlopen(const char*, int) { return nullptr; }
void* dlsym(void*, const char*) { return nullptr; }
int dlclose(void*) { return -1; }
int dladdr(const void*, void*) { return 0; }
char* dlerror() {
  static char reason[] = "this program loads no plugins";
  return reason;
}

int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**) { return -4; }  // EAI_FAIL
void freeaddrinfo(addrinfo*) {}
int getnameinfo(const void*, unsigned, char*, unsigned, char*, unsigned, int) { return -4; }
const char* gai_strerror(int) { return "this program has no network"; }
hostent* gethostbyname(const char*) { return nullptr; }

}  // extern "C"
