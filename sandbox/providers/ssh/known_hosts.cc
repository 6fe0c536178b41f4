#include "sandbox/providers/ssh/known_hosts.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/strings.h"
#include "sandbox/ssh_keys.h"

namespace sbxfs {
namespace {

struct Line {
    std::string_view marker;  // with its @; mostly empty
    std::string_view names;
    std::string_view type;
    std::string_view base64;
};

// The next word; blanks and tabs separate.
std::string_view TakeWord(std::string_view& text) {
    text = Trim(text);
    const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end);
    return word;
}

Line ParseLine(std::string_view text) {
    Line line;
    if (text.starts_with('@')) line.marker = TakeWord(text);
    line.names = TakeWord(text);
    line.type = TakeWord(text);
    line.base64 = TakeWord(text);
    return line;
}

// Shell-like: * and ? only. Backs up to the last star, so it takes no more than length x length.
bool MatchesPattern(std::string_view name, std::string_view pattern) {
    std::size_t at = 0;
    std::size_t star = std::string_view::npos;
    std::size_t resume = 0;
    std::size_t p = 0;
    while (at < name.size()) {
        if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            resume = at;
        } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[at])) {
            ++p;
            ++at;
        } else if (star != std::string_view::npos) {
            p = star + 1;
            at = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*')
        ++p;
    return p == pattern.size();
}

// "a,b*,!c": any of them, and none of those after a '!'.
bool MatchesNames(const std::string& name, std::string_view names) {
    if (names.starts_with('|')) return MatchesHashedName(names, name);
    bool matches = false;
    for (const std::string& one : Split(names, ',')) {
        const bool negated = one.starts_with('!');
        std::string pattern = negated ? one.substr(1) : one;
        std::transform(pattern.begin(), pattern.end(), pattern.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        if (!MatchesPattern(name, pattern)) continue;
        if (negated) return false;
        matches = true;
    }
    return matches;
}

void AddOnce(std::vector<std::string>& list, std::string text) {
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(std::move(text));
}

void ReadFor(std::string_view text, const std::string& name, KnownHost& known) {
    for (const std::string& whole : Split(text, '\n')) {
        const std::string_view trimmed = Trim(whole);
        if (trimmed.empty() || trimmed.starts_with('#')) continue;
        const Line line = ParseLine(trimmed);
        if (line.base64.empty() || !MatchesNames(name, line.names)) continue;
        if (line.marker == "@cert-authority") {
            known.by_authority = true;
            continue;
        }
        const Result<std::string> key =
            ParsePublicLine(std::string(line.type) + " " + std::string(line.base64));
        if (!key || !IsHostKeyType(line.type)) {
            AddOnce(known.unusable, Printable(line.type, 64));
        } else if (line.marker == "@revoked") {
            AddOnce(known.revoked, *key);
        } else if (line.marker.empty()) {
            AddOnce(known.keys, *key);
        }
    }
}

std::string NameOf(std::string_view host, std::uint16_t port) {
    std::string name(host);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return port == 22 ? name : "[" + name + "]:" + std::to_string(port);
}

}  // namespace

void ReadKnownHosts(std::string_view text, std::string_view host, std::uint16_t port,
                    KnownHost& known) {
    const bool had_keys = !known.keys.empty();
    ReadFor(text, NameOf(host, port), known);
    if (port == 22 || had_keys || !known.keys.empty()) {
        // A key revoked for the host is revoked at each of its ports.
        KnownHost plain;
        if (port != 22) ReadFor(text, NameOf(host, 22), plain);
        for (std::string& key : plain.revoked)
            AddOnce(known.revoked, std::move(key));
        return;
    }
    ReadFor(text, NameOf(host, 22), known);
}

Result<std::vector<std::string>> KeysToPin(const KnownHost& known, const std::string& host,
                                           std::uint16_t port, const std::string& files) {
    std::vector<std::string> keys;
    for (const std::string& key : known.keys) {
        if (std::find(known.revoked.begin(), known.revoked.end(), key) == known.revoked.end())
            keys.push_back(key);
    }
    if (!keys.empty()) return keys;
    const std::string name = Printable(NameOf(host, port));
    if (!known.keys.empty() || !known.revoked.empty()) {
        return Error(Errno{EACCES},
                     "the host key of " + name + " is marked @revoked in " + files +
                         ": it must not be trusted any more. Give the machine a new one, and write "
                         "that down");
    }
    if (known.by_authority) {
        return Error(Errno{EACCES},
                     name + " is known in " + files +
                         " only by a certificate authority (@cert-authority), which sbxfs cannot "
                         "check: pin its key with host_key = \"TYPE BASE64\", or add it as a line "
                         "of its own");
    }
    if (!known.unusable.empty()) {
        return Error(Errno{EACCES}, "the host keys of " + name + " in " + files +
                                        " are of types sbxfs cannot check (" +
                                        Join(known.unusable, ", ") +
                                        "): add one of ed25519, ecdsa or rsa");
    }
    return Error(Errno{EACCES},
                 "the host key of " + name + " is not known: it is not in " + files +
                     ". Compare `ssh-keyscan" + (port == 22 ? "" : " -p " + std::to_string(port)) +
                     " " + Printable(host) +
                     "` with what the machine itself says (ssh-keygen -lf "
                     "/etc/ssh/ssh_host_ed25519_key.pub), append it to that file, or pin it with "
                     "host_key = \"TYPE BASE64\"; then make the sandbox anew");
}

}  // namespace sbxfs
