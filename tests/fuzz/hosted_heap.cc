// sandbox/supervisor/heap.h on malloc(3), so that the address sanitizer sees each block.
#include <cstdlib>

#include "sandbox/supervisor/heap.h"

namespace sbxfs::supervisor {

void* Allocate(size_t size) {
    return std::malloc(size);
}
void* Resize(void* block, size_t size) {
    return std::realloc(block, size);
}
void Release(void* block) {
    std::free(block);
}

}  // namespace sbxfs::supervisor
