// Feeds files to a fuzz target without libFuzzer: `sbxfs_fuzz_corpora TARGET FILE_OR_DIRECTORY...`. What a target
// promises is a CHECK in it, so that a broken promise is an abort here. SBXFS_FUZZ_SECONDS: goes on that long with
// changed ones, blindly, for compilers without libFuzzer; the one that failed is then in SBXFS_FUZZ_KEEP.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#define SBXFS_TARGET(name) extern "C" int Fuzz_##name(const std::uint8_t* data, std::size_t size);
#include "targets.inc"
#undef SBXFS_TARGET

namespace {

struct Target {
    std::string_view name;
    int (*run)(const std::uint8_t*, std::size_t);
};
constexpr Target kTargets[] = {
#define SBXFS_TARGET(name) {#name, &Fuzz_##name},
#include "targets.inc"
#undef SBXFS_TARGET
};

void Feed(const Target& target, const std::vector<std::uint8_t>& bytes) {
    // A copy of exactly that size: reading past it is found.
    const std::vector<std::uint8_t> exact(bytes.begin(), bytes.end());
    (void)target.run(exact.data(), exact.size());
}

// One or two files of the corpus, cut, spliced and changed in a few places.
std::vector<std::uint8_t> Change(const std::vector<std::vector<std::uint8_t>>& corpus,
                                 std::mt19937& random) {
    const auto below = [&](std::size_t limit) {
        return static_cast<std::size_t>(random() % limit);
    };
    std::vector<std::uint8_t> bytes = corpus[below(corpus.size())];
    if (random() % 3 == 0) {
        const auto& other = corpus[below(corpus.size())];
        bytes.resize(bytes.empty() ? 0 : below(bytes.size()));
        bytes.insert(bytes.end(),
                     other.begin() + static_cast<long>(other.empty() ? 0 : below(other.size())),
                     other.end());
    }
    for (std::size_t changes = below(12); changes > 0 && !bytes.empty(); --changes) {
        const std::size_t at = below(bytes.size());
        switch (random() % 4) {
            case 0:
                bytes[at] = static_cast<std::uint8_t>(random());
                break;
            case 1:
                bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ (1U << (random() % 8)));
                break;
            case 2:
                bytes.insert(bytes.begin() + static_cast<long>(at),
                             static_cast<std::uint8_t>(random()));
                break;
            default:
                bytes.erase(bytes.begin() + static_cast<long>(at));
                break;
        }
    }
    return bytes;
}

void GoOn(const Target& target, const std::vector<std::vector<std::uint8_t>>& corpus, int seconds) {
    const char* keep = std::getenv("SBXFS_FUZZ_KEEP");
    std::mt19937 random(std::random_device{}());
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    std::size_t count = 0;
    while (std::chrono::steady_clock::now() < end) {
        const std::vector<std::uint8_t> bytes = Change(corpus, random);
        if (keep != nullptr) {
            std::ofstream(keep, std::ios::binary)
                .write(reinterpret_cast<const char*>(bytes.data()),
                       static_cast<long>(bytes.size()));
        }
        Feed(target, bytes);
        ++count;
    }
    (void)std::printf("%zu changed ones\n", count);
}

}  // namespace

int main(int argc, char** argv) {
    namespace fs = std::filesystem;
    const std::string_view wanted = argc > 1 ? argv[1] : "";
    for (const Target& target : kTargets) {
        if (target.name != wanted) continue;
        std::size_t files = 0;
        std::vector<std::vector<std::uint8_t>> corpus;
        for (int i = 2; i < argc; ++i) {
            std::vector<fs::path> paths;
            if (fs::is_directory(argv[i])) {
                for (const auto& entry : fs::directory_iterator(argv[i]))
                    paths.push_back(entry.path());
            } else {
                paths.emplace_back(argv[i]);
            }
            for (const fs::path& path : paths) {
                std::ifstream file(path, std::ios::binary);
                std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
                (void)std::fprintf(stderr, "%s\n",
                                   path.c_str());  // the last one named is the one that failed
                Feed(target, bytes);
                corpus.push_back(bytes);
                // Cut short it is another story.
                bytes.resize(bytes.size() / 2);
                Feed(target, bytes);
                ++files;
            }
        }
        Feed(target, {});
        const char* seconds = std::getenv("SBXFS_FUZZ_SECONDS");
        if (seconds != nullptr && !corpus.empty()) GoOn(target, corpus, std::atoi(seconds));
        (void)std::printf("%zu files\n", files);
        return files == 0 ? 1 : 0;
    }
    (void)std::fprintf(stderr, "usage: sbxfs_fuzz_corpora TARGET FILE_OR_DIRECTORY...\n");
    return 2;
}
