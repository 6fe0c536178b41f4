#include "fs/cli_config.h"

#include <cstdio>

#include "fs/config.h"

namespace sbxfs {
namespace {

int Fail(const Error& error) {
    (void)std::fprintf(stderr, "sbxfs: %s\n", error.what().c_str());
    return 1;
}

std::string Source(const Config& config) {
    return config.file.empty() ? "built in, for there is no configuration file" : config.file;
}

}  // namespace

int ConfigCheckCommand(const std::string& file) {
    const Result<Config> config = LoadConfig(file);
    if (!config) return Fail(config.error());
    std::string names;
    for (const auto& [name, what] : config->templates)
        names += (names.empty() ? "" : ", ") + name + " (" + what.provider + ")";
    (void)std::printf("fine: %s\ntemplates: %s\n", Source(*config).c_str(), names.c_str());
    return 0;
}

int ConfigShowCommand(const std::string& file) {
    const Result<Config> config = LoadConfig(file);
    if (!config) return Fail(config.error());
    (void)std::printf("# %s\n%s", Source(*config).c_str(), config->Text().c_str());
    return 0;
}

}  // namespace sbxfs
