// Where the program begins, and the four functions that the compiler calls behind our back.

#include <stddef.h>
#include <stdint.h>

#include "sandbox/supervisor/main.h"
#include "sandbox/supervisor/sys.h"

SBXFS_START;

extern "C" {

// At `stack`: argc, argv..., nullptr, envp..., nullptr, the auxiliary vector.
[[noreturn, gnu::used]] void SbxfsEntry(long* stack) {
    const auto argc = static_cast<int>(stack[0]);
    auto** argv = reinterpret_cast<char**>(stack + 1);
    sbxfs::supervisor::sys::Exit(sbxfs::supervisor::Main(argc, argv, argv + argc + 1));
}

// This file is compiled without loop idiom recognition, or each of these would call itself.
void* memcpy(void* to, const void* from, size_t size) {
#if defined(__x86_64__)
    void* start = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
#else
    auto* out = static_cast<unsigned char*>(to);
    const auto* in = static_cast<const unsigned char*>(from);
    for (; size >= 8; size -= 8, out += 8, in += 8) {
        uint64_t word = 0;
        __builtin_memcpy(&word, in, 8);
        __builtin_memcpy(out, &word, 8);
    }
    while (size-- > 0)
        *out++ = *in++;
    return to;
#endif
}

void* memset(void* to, int value, size_t size) {
    auto* out = static_cast<unsigned char*>(to);
    while (size-- > 0)
        *out++ = static_cast<unsigned char>(value);
    return to;
}

void* memmove(void* to, const void* from, size_t size) {
    auto* out = static_cast<unsigned char*>(to);
    const auto* in = static_cast<const unsigned char*>(from);
    if (out <= in) return memcpy(to, from, size);  // both copies above run upwards
    while (size-- > 0)
        out[size] = in[size];
    return to;
}

int memcmp(const void* a, const void* b, size_t size) {
    const auto* left = static_cast<const unsigned char*>(a);
    const auto* right = static_cast<const unsigned char*>(b);
    for (size_t i = 0; i < size; ++i) {
        if (left[i] != right[i]) return left[i] < right[i] ? -1 : 1;
    }
    return 0;
}

}  // extern "C"
