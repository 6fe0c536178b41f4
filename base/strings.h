// Small pure text functions that the standard library lacks.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sbxfs {

// Decimal, the whole of `text`, no sign for unsigned types, no blanks; nothing when it does not
// fit.
template <std::integral T>
std::optional<T> ParseNumber(std::string_view text) {
    T value{};
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || rest != end || text.empty()) return std::nullopt;
    return value;
}

// "90", "90s", "30m", "4h", "2d" as seconds; nothing for anything else or above ten years.
std::optional<std::int64_t> ParseSeconds(std::string_view text);

std::string_view Trim(std::string_view text);
std::vector<std::string> Split(std::string_view text, char separator);
std::string Join(const std::vector<std::string>& parts, std::string_view separator);

// One line, printable: control bytes and invalid UTF-8 become \xNN. For logs and messages with
// foreign text.
std::string Printable(std::string_view text, std::size_t limit = 256);

// A word a POSIX shell reads back as `text`: single-quoted where it must be.
std::string ShellQuote(std::string_view text);

// The candidate fewest edits away from `word` (at most a third of its length, at least 1), or
// empty.
std::string_view Nearest(std::string_view word, const std::vector<std::string_view>& candidates);

// FNV-1a, 64 bits: stable across runs and machines, for numbers derived from names. Not for
// security.
constexpr std::uint64_t Fnv1a(std::string_view text, std::uint64_t seed = 0xcbf29ce484222325ULL) {
    for (const char c : text) {
        seed ^= static_cast<unsigned char>(c);
        seed *= 0x100000001b3ULL;
    }
    return seed;
}

std::string Hex(std::string_view bytes);

}  // namespace sbxfs
