#include "sandbox/names.h"

#include <algorithm>

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::size_t kLongestName = 63;

bool IsAlnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool IsWord(std::string_view text) {
    return !text.empty() && text.size() <= kLongestName && IsAlnum(text[0]) &&
           std::all_of(text.begin(), text.end(),
                       [](char c) { return IsAlnum(c) || c == '.' || c == '_' || c == '-'; });
}

Error BadName(std::string_view kind, std::string_view text, std::string_view rule) {
    return {Errno{EINVAL}, "'" + Printable(text) + "' is not a name for " + std::string(kind) +
                               ": use " + std::string(rule)};
}

constexpr std::string_view kWordRule =
    "a letter or digit, then letters, digits, '.', '_' or '-', at most 63 in all";

}  // namespace

Result<SandboxName> ParseSandboxName(std::string_view text) {
    const std::size_t at = text.find('@');
    const std::string_view name = text.substr(0, at);
    const bool with_template = at != std::string_view::npos;
    if (!IsWord(name) || (with_template && !IsWord(text.substr(at + 1)))) {
        return BadName("a sandbox", text,
                       std::string(kWordRule) + ", optionally '@' and a template's name");
    }
    return SandboxName{std::string(text), with_template ? std::string(text.substr(at + 1)) : ""};
}

Status CheckEventName(std::string_view text) {
    if (!IsWord(text)) return BadName("a command", text, kWordRule);
    const bool digits =
        std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits || text == "latest" || text == "log.jsonl") {
        return BadName("a command", text,
                       "a word; numbers, 'latest' and 'log.jsonl' are taken by events/");
    }
    if (text.ends_with(".swp")) {
        return BadName("a command", text,
                       "another ending: editors make such files beside the one they edit");
    }
    return Ok();
}

}  // namespace sbxfs
