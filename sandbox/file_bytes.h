// Bytes on their way to a file, put together once: who sends them and who may have to send them again after a cut
// hold the same ones. They do not change once a second holder has them; any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace sbxfs {

class FileBytes {
 public:
    FileBytes() = default;
    // NOLINTNEXTLINE(google-explicit-constructor): a text is what is written.
    FileBytes(std::string bytes) : whole_(std::make_shared<std::string>(std::move(bytes))) {}
    // NOLINTNEXTLINE(google-explicit-constructor): as above.
    FileBytes(const char* bytes) : FileBytes(std::string(bytes)) {}

    std::string_view view() const { return whole_ == nullptr ? std::string_view() : *whole_; }
    std::size_t size() const { return view().size(); }
    bool empty() const { return view().empty(); }

    // Only while nobody else holds them.
    void Append(std::string_view more) {
        if (whole_ == nullptr) whole_ = std::make_shared<std::string>();
        DCHECK(whole_.use_count() == 1);
        *whole_ += more;
    }

 private:
    std::shared_ptr<std::string> whole_;
};

}  // namespace sbxfs
