#include "sandbox/supervisor/heap.h"

#include <stdint.h>

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kChunk = 4 * kPage;
constexpr unsigned kSmallest = 5;  // 32 bytes, header included
constexpr unsigned kLargest = 11;  // 2 KiB

struct Header {
    size_t size;  // of the whole block, header included
    size_t pad;   // keeps what follows aligned to 16
};

struct Free {
    Free* next;
};

Free* free_blocks[kLargest + 1];
char* chunk_at = nullptr;
size_t chunk_left = 0;

unsigned ClassOf(size_t size) {
    unsigned bits = kSmallest;
    while ((size_t{1} << bits) < size)
        ++bits;
    return bits;
}

void* FromKernel(size_t size) {
    void* block = sys::Map(size);
    if (block == nullptr) sys::Exit(70);
    return block;
}

Header* HeaderOf(void* block) {
    return static_cast<Header*>(block) - 1;
}

void* TakeSmall(unsigned bits) {
    if (Free* found = free_blocks[bits]) {
        free_blocks[bits] = found->next;
        return found;
    }
    const size_t size = size_t{1} << bits;
    if (chunk_left < size) {
        // What is left of the old chunk is less than one block of this size: at most 2 KiB in 16.
        chunk_at = static_cast<char*>(FromKernel(kChunk));
        chunk_left = kChunk;
    }
    void* taken = chunk_at;
    chunk_at += size;
    chunk_left -= size;
    return taken;
}

}  // namespace

void* Allocate(size_t size) {
    size += sizeof(Header);
    const bool small = size <= (size_t{1} << kLargest);
    const size_t whole = small ? size_t{1} << ClassOf(size) : (size + kPage - 1) & ~(kPage - 1);
    auto* header = static_cast<Header*>(small ? TakeSmall(ClassOf(size)) : FromKernel(whole));
    header->size = whole;
    return header + 1;
}

void* Resize(void* block, size_t size) {
    if (block == nullptr) return Allocate(size);
    Header* old = HeaderOf(block);
    if (size + sizeof(Header) <= old->size) return block;
    if (old->size > (size_t{1} << kLargest)) {
        const size_t whole = (size + sizeof(Header) + kPage - 1) & ~(kPage - 1);
        auto* moved = static_cast<Header*>(sys::Remap(old, old->size, whole));
        if (moved == nullptr) sys::Exit(70);
        moved->size = whole;
        return moved + 1;
    }
    void* grown = Allocate(size);
    __builtin_memcpy(grown, block, old->size - sizeof(Header));
    Release(block);
    return grown;
}

void Release(void* block) {
    if (block == nullptr) return;
    Header* header = HeaderOf(block);
    if (header->size > (size_t{1} << kLargest)) {
        sys::Unmap(header, header->size);
        return;
    }
    const unsigned bits = ClassOf(header->size);
    auto* freed = reinterpret_cast<Free*>(header);
    freed->next = free_blocks[bits];
    free_blocks[bits] = freed;
}

}  // namespace sbxfs::supervisor
