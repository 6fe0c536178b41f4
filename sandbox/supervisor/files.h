// Whole small files, names in a directory, what an errno means: the few steps over sys.h that many
// need.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

// Closes its descriptor when it dies.
class Fd {
 public:
    Fd() = default;
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    explicit Fd(long fd) : fd_(fd < 0 ? -1 : static_cast<int>(fd)) {}
    Fd(Fd&& other) noexcept : fd_(other.release()) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~Fd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset(int fd = -1);

 private:
    int fd_ = -1;
};

// Every descriptor of this process, except the first three and these.
void CloseAllBut(const int* kept, size_t count);

// Appends what is in the file, at most `limit` bytes of it. The result is negative errno, or 0.
long ReadFile(int dir, const char* path, Str* to, size_t limit);
// All of it, through interruptions and short writes; for files and blocking descriptors.
long WriteAll(int fd, View bytes);
// Makes or replaces a file with these bytes, in place.
long WriteFile(int dir, const char* path, View bytes);
// As above, but under another name first, so that the file is never seen in part.
long ReplaceFile(int dir, const char* path, View bytes);

// Calls `each(name, inode)` for all but "." and "..".
template <class Each>
long ListEntries(int dir, Each each);
// Calls `each(name)` likewise.
template <class Each>
long ListNames(int dir, Each each);

// Removes a directory and everything in it, following no links. Commands may have made the tree: how deep it is costs
// neither stack nor descriptors.
long RemoveTree(int dir, const char* name);

// strerror(3), for the errnos a user may meet; else "error N".
void AppendErrno(Str* to, long error);

// The record of getdents64(2).
struct DirEntry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[1];
};

long ReadEntries(int dir, void* to, size_t size);

template <class Each>
long ListEntries(int dir, Each each) {
    alignas(8) char page[2048];
    for (;;) {
        const long got = ReadEntries(dir, page, sizeof page);
        if (got <= 0) return got;
        for (long at = 0; at < got;) {
            auto* entry = reinterpret_cast<DirEntry*>(page + at);
            const View name(static_cast<const char*>(entry->name));
            if (!(name == ".") && !(name == "..")) each(name, entry->inode);
            at += entry->length;
        }
    }
}

template <class Each>
long ListNames(int dir, Each each) {
    return ListEntries(dir, [&](View name, uint64_t) { each(name); });
}

}  // namespace sbxfs::supervisor
