// The words of the domain as types, checked once where they enter, so that two numbers or two
// strings cannot be swapped: Generation, EventNumber, and the grammars of sandbox and event names
// (contract 3 and 4). Pure values and functions.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sbxfs {

// One launch of one sandbox. Never reused within a state directory: name + generation is the
// identity, the generation alone is already unique. Starts at 1.
enum class Generation : std::uint64_t {};

// One accepted command of one sandbox. Starts at 1, never reused (contract 4).
enum class EventNumber : std::uint64_t {};

constexpr std::uint64_t Raw(Generation g) {
    return static_cast<std::uint64_t>(g);
}
constexpr std::uint64_t Raw(EventNumber n) {
    return static_cast<std::uint64_t>(n);
}
inline std::string ToString(Generation g) {
    return std::to_string(Raw(g));
}
inline std::string ToString(EventNumber n) {
    return std::to_string(Raw(n));
}

// `NAME` or `NAME@TEMPLATE`; the suffix stays part of the name.
struct SandboxName {
    std::string full;           // as given to mkdir
    std::string template_name;  // what follows '@', or empty

    auto operator<=>(const SandboxName&) const = default;
};

// [A-Za-z0-9][A-Za-z0-9._-]{0,62}, optionally @ and the same again. EINVAL with the rule otherwise.
Result<SandboxName> ParseSandboxName(std::string_view text);

// Names for run/NAME: the sandbox grammar, but not all digits, not `latest`, not ending in `~` or
// `.swp`.
Status CheckEventName(std::string_view text);

}  // namespace sbxfs
