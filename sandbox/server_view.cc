#include "sandbox/server_view.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::size_t kMostText = 256U << 10;
constexpr std::size_t kMostMounts = 4096;

std::vector<std::string_view> Words(std::string_view line) {
    std::vector<std::string_view> words;
    while (!line.empty()) {
        const std::size_t from = line.find_first_not_of(" \t");
        if (from == std::string_view::npos) break;
        const std::size_t to = std::min(line.find_first_of(" \t", from), line.size());
        words.push_back(line.substr(from, to - from));
        line.remove_prefix(to);
    }
    return words;
}

// "\040" and the like, as in /proc/self/mountinfo.
std::string Unescaped(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto digit = [&](std::size_t at) {
            return at < text.size() && text[at] >= '0' && text[at] <= '7' ? text[at] - '0' : -1;
        };
        if (text[i] == '\\' && digit(i + 1) >= 0 && digit(i + 2) >= 0 && digit(i + 3) >= 0) {
            plain += static_cast<char>(digit(i + 1) * 64 + digit(i + 2) * 8 + digit(i + 3));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

bool HasOption(std::string_view options, std::string_view wanted) {
    while (!options.empty()) {
        const std::size_t comma = std::min(options.find(','), options.size());
        if (options.substr(0, comma) == wanted) return true;
        options.remove_prefix(std::min(comma + 1, options.size()));
    }
    return false;
}

template <class F>
void ForEachLine(std::string_view text, F f) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        f(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

// The number new files get: the last of "Uid:\treal effective saved file-system".
std::optional<std::uint32_t> FileId(std::string_view status, std::string_view key) {
    std::optional<std::uint32_t> id;
    ForEachLine(status, [&](std::string_view line) {
        const std::vector<std::string_view> words = Words(line);
        if (words.size() == 5 && words[0] == key) id = ParseNumber<std::uint32_t>(words[4]);
    });
    return id;
}

void ReadText(RemoteFiles& files, const std::string& path, UniqueFunction<void(std::string)> done) {
    files.Open(
        path, {.read = true}, [&files, done = std::move(done)](Result<OpenedFile> opened) mutable {
            if (!opened) return done("");
            files.Read(
                opened->file, {0, kMostText},
                [&files, file = opened->file, done = std::move(done)](Result<std::string> text) {
                    files.Close(file, [](const Status&) {});
                    done(text ? std::move(*text) : std::string());
                });
        });
}

}  // namespace

const ServerView::Mount& ServerView::MountOf(const std::string& path) const {
    for (std::string at = path; at.size() > 1; at.resize(at.rfind('/'))) {
        const auto it = mounts.find(at);
        if (it != mounts.end()) return it->second;
    }
    return mounts.at("/");
}

std::optional<ServerView> ServerView::Parse(std::string_view status, std::string_view mountinfo) {
    ServerView view;
    const auto uid = FileId(status, "Uid:");
    const auto gid = FileId(status, "Gid:");
    if (!uid || !gid) return std::nullopt;
    view.uid = *uid;
    view.gid = *gid;
    ForEachLine(mountinfo, [&](std::string_view line) {
        // id parent major:minor root mount-point options [optional...] - type source super-options
        const std::vector<std::string_view> words = Words(line);
        const auto dash = std::find(words.begin(), words.end(), "-");
        if (words.size() < 10 || dash == words.end() || words.end() - dash < 4) return;
        if (view.mounts.size() >= kMostMounts) return;
        const std::string path = Unescaped(words[4]);
        if (path.empty() || path.front() != '/') return;
        // A later line lies over an earlier one.
        view.mounts[path] = {path, HasOption(words[5], "rw") && HasOption(dash[3], "rw")};
    });
    if (!view.mounts.contains("/")) return std::nullopt;
    return view;
}

void ServerView::Ask(RemoteFiles& files, UniqueFunction<void(std::optional<ServerView>)> done) {
    struct Both {
        std::array<std::optional<std::string>, 2> texts;
        UniqueFunction<void(std::optional<ServerView>)> done;
    };
    const auto both = std::make_shared<Both>();
    both->done = std::move(done);
    const std::array<std::string, 2> paths = {"/proc/self/status", "/proc/self/mountinfo"};
    for (std::size_t i = 0; i < paths.size(); ++i) {
        ReadText(files, paths.at(i), [both, i](std::string text) {
            both->texts.at(i) = std::move(text);
            if (both->texts[0] && both->texts[1])
                both->done(Parse(*both->texts[0], *both->texts[1]));
        });
    }
}

}  // namespace sbxfs
