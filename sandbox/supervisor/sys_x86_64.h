// Raw system calls and the entry point on x86_64. Included by sys.h and start.cc only.
#pragma once

namespace sbxfs::supervisor::sys {

// The result is negative errno on failure, as the kernel gives it.
inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = f;
    long result = 0;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

// fork(2): the argument order of clone(2) differs between architectures.
inline long CloneCall(long flags) {
    return Call(56, flags);
}

inline constexpr char kMachine[] = "x86_64";

// The kernel enters with rsp at argc; no return address is there, and the ABI wants the stack
// at 16.
#define SBXFS_START             \
    asm(".globl _start\n"       \
        "_start:\n"             \
        "    xor %ebp, %ebp\n"  \
        "    mov %rsp, %rdi\n"  \
        "    and $-16, %rsp\n"  \
        "    call SbxfsEntry\n" \
        "    hlt\n")

}  // namespace sbxfs::supervisor::sys
