// The heap of a program without libc: powers of two up to 2 KiB from chunks that are kept,
// everything larger from the kernel and back to it, so that one large frame does not stay in the
// resident size. Single-threaded.
#pragma once

#include <stddef.h>

namespace sbxfs::supervisor {

// Never nullptr: when the kernel has no memory left the program ends (exit 70) and its commands end
// with it, which the next attach reports as lost. Blocks are aligned to 16.
void* Allocate(size_t size);
// As realloc(3).
void* Resize(void* block, size_t size);
void Release(void* block);

}  // namespace sbxfs::supervisor
