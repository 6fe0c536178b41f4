// ~/.aws/config and credentials, and the command lines in them.
#include "aws/process_credentials.h"
#include "aws/shared_config.h"
#include "base/check.h"
#include "tests/fuzz/fuzz_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sbxfs;
    fuzz::FuzzBytes in(data, size);
    if (in.Chance()) {
        const auto words = aws::SplitCommandLine(in.Rest());
        if (!words) CHECK(!words.error().what().empty());
        return 0;
    }
    const std::string_view config = in.Take(in.U16() % 4096);
    const aws::SharedConfig shared = aws::ParseSharedConfig(config, in.Rest());
    for (const auto& [name, profile] : shared.profiles) {
        CHECK(shared.Find(name) == &profile);
        for (const auto& [key, value] : profile.settings) {
            CHECK(key.find('\n') == std::string::npos && value.find('\n') == std::string::npos);
            CHECK(profile.Get(key) == value);
        }
    }
    return 0;
}
