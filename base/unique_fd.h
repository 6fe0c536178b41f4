// The one owner of a file descriptor; closes it when it dies. Value type, no thread rules.
#pragma once

#include <unistd.h>

#include <utility>

namespace sbxfs {

class UniqueFd {
 public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~UniqueFd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset(int fd = -1) {
        // close(2) is not repeated on EINTR: Linux has freed the number by then.
        if (fd_ >= 0) (void)::close(fd_);
        fd_ = fd;
    }

 private:
    int fd_ = -1;
};

}  // namespace sbxfs
