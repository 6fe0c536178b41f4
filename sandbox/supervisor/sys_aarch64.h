// Raw system calls and the entry point on aarch64. Included by sys.h and start.cc only.
#pragma once

namespace sbxfs::supervisor::sys {

// The result is negative errno on failure, as the kernel gives it.
inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
    register long x8 asm("x8") = number;
    register long x0 asm("x0") = a;
    register long x1 asm("x1") = b;
    register long x2 asm("x2") = c;
    register long x3 asm("x3") = d;
    register long x4 asm("x4") = e;
    register long x5 asm("x5") = f;
    asm volatile("svc 0"
                 : "+r"(x0)
                 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                 : "memory", "cc");
    return x0;
}

// fork(2): the argument order of clone(2) differs between architectures.
inline long CloneCall(long flags) {
    return Call(220, flags);
}

inline constexpr char kMachine[] = "aarch64";

#define SBXFS_START              \
    asm(".globl _start\n"        \
        "_start:\n"              \
        "    mov x29, #0\n"      \
        "    mov x30, #0\n"      \
        "    mov x0, sp\n"       \
        "    and sp, x0, #-16\n" \
        "    bl SbxfsEntry\n"    \
        "    brk #1\n")

}  // namespace sbxfs::supervisor::sys
