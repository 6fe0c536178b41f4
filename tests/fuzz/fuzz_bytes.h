// What a fuzz target is given, read as decisions: numbers, choices, texts. Past the end everything is zero, so that
// every input is a whole story. A value of one run of one target.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/log.h"

namespace sbxfs::fuzz {

// What the code under test logs of its troubles is not of interest here.
class SilentLog final : public LogSink {
 public:
    void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};
inline void BeSilent() {
    static SilentLog silent;
    SetLogSink(&silent);
}

class FuzzBytes {
 public:
    FuzzBytes(const std::uint8_t* data, std::size_t size)
        : rest_(reinterpret_cast<const char*>(data), size) {
        BeSilent();
    }

    bool empty() const { return rest_.empty(); }
    std::uint8_t U8() { return static_cast<std::uint8_t>(Number(1)); }
    std::uint16_t U16() { return static_cast<std::uint16_t>(Number(2)); }
    std::uint32_t U32() { return static_cast<std::uint32_t>(Number(4)); }
    std::uint64_t U64() { return Number(8); }
    bool Chance() { return (U8() & 1) != 0; }
    // 0 .. limit - 1; one byte of input where that is enough.
    std::size_t Below(std::size_t limit) {
        return limit <= 1 ? 0 : limit <= 256 ? U8() % limit : U32() % limit;
    }
    // Small ones, or any: what a lying number is.
    std::uint64_t Odd() {
        const std::uint8_t how = U8();
        if (how < 128) return how % 16;
        if (how < 160) return std::uint64_t{1} << (how % 64);
        if (how < 192) return (std::uint64_t{1} << (how % 64)) - 1;
        return how < 224 ? U16() : U64();
    }
    // At most `most` bytes, led by their count.
    std::string_view Text(std::size_t most = 255) {
        const std::size_t count = std::min<std::size_t>(most <= 255 ? U8() : U16(), most);
        return Take(count);
    }
    std::string_view Take(std::size_t count) {
        count = std::min(count, rest_.size());
        const std::string_view taken = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return taken;
    }
    std::string_view Rest() { return Take(rest_.size()); }

 private:
    std::uint64_t Number(unsigned size) {
        std::uint64_t value = 0;
        for (const char byte : Take(size))
            value = value << 8 | static_cast<unsigned char>(byte);
        return value;
    }

    std::string_view rest_;
};

}  // namespace sbxfs::fuzz
