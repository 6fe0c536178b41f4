// sandbox/supervisor/heap.h on malloc(3), so that the address sanitizer sees each block. What a process of the machine
// (machine.h) leaves behind goes with it.
#include "tests/fuzz/hosted_heap.h"

#include <cstdlib>
#include <unordered_set>

#include "sandbox/supervisor/heap.h"

namespace sbxfs::fuzz {
namespace {

// On the heap for good: a supervisor's statics may give blocks back after ours are gone.
std::unordered_set<void*>& Tracked() {
    static auto* blocks = new std::unordered_set<void*>();
    return *blocks;
}
bool tracking = false;

}  // namespace

bool TrackBlocks(bool on) {
    const bool before = tracking;
    tracking = on;
    return before;
}

void ReleaseTracked() {
    for (void* block : Tracked())
        std::free(block);
    Tracked().clear();
}

}  // namespace sbxfs::fuzz

namespace sbxfs::supervisor {

using fuzz::Tracked;
using fuzz::tracking;

void* Allocate(size_t size) {
    void* block = std::malloc(size);
    if (tracking) Tracked().insert(block);
    return block;
}
void* Resize(void* block, size_t size) {
    if (block == nullptr) return Allocate(size);
    const bool tracked = Tracked().erase(block) > 0;
    void* grown = std::realloc(block, size);
    if (tracked) Tracked().insert(grown);
    return grown;
}
void Release(void* block) {
    if (block == nullptr) return;
    Tracked().erase(block);
    std::free(block);
}

}  // namespace sbxfs::supervisor
