// Bytes that must not be seen: keys, tokens, passwords. No operator<<, no LogField, no comparison
// that leaks; whoever needs the bytes says Reveal() and can be found by searching for it. Wiped
// when it dies. Value type.
#pragma once

#include <string.h>

#include <string>
#include <string_view>
#include <utility>

namespace sbxfs {

class Secret {
 public:
    Secret() = default;
    explicit Secret(std::string bytes) : bytes_(std::move(bytes)) {}
    Secret(const Secret&) = default;
    Secret(Secret&& other) noexcept : bytes_(other.bytes_) { other.Wipe(); }
    Secret& operator=(const Secret& other) {
        if (this != &other) {
            Wipe();
            bytes_ = other.bytes_;
        }
        return *this;
    }
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            Wipe();
            bytes_ = other.bytes_;
            other.Wipe();
        }
        return *this;
    }
    ~Secret() { Wipe(); }

    bool empty() const { return bytes_.empty(); }
    std::string_view Reveal() const { return bytes_; }

 private:
    // The moves above copy and wipe: a moved-from short string would keep its bytes.
    void Wipe() noexcept {
        explicit_bzero(bytes_.data(), bytes_.size());
        bytes_.clear();
    }
    std::string bytes_;
};

}  // namespace sbxfs
