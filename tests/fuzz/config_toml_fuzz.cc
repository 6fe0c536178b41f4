// Configuration files, templates, mount options and orders for sandboxes: whatever they say, the answer is a sentence or something that
// can be shown, and what is shown of a template can be read again.
#include <cstdio>

#include "base/check.h"
#include "fs/config.h"
#include "fs/mount_options.h"
#include "fs/new_order.h"
#include "tests/fuzz/fuzz_bytes.h"

namespace sbxfs::fuzz {
namespace {

void ShowAgain(Config config, const Template& what) {
    config.templates[what.name] = what;  // values of env show as <set>, and are taken from there
    const std::string text = TemplateText(what);
    const Result<Template> again = ParseTemplate(config, what.name, text);
    if (!again) (void)std::fprintf(stderr, "%s\n%s\n", text.c_str(), again.error().what().c_str());
    CHECK(again.has_value());
    CHECK(again->workdir == what.workdir && again->fs_root == what.fs_root);
    CHECK(again->cpu == what.cpu && again->max_lifetime_s == what.max_lifetime_s);
    CHECK(Template::FromJson(what.ToJson()).has_value());
}

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sbxfs;
    fuzz::FuzzBytes in(data, size);
    static const Config built_in = BuiltInConfig();
    const std::uint8_t how = in.U8();
    const std::string text(in.Rest());
    switch (how % 5) {
        case 0: {
            const auto config = ParseConfig(
                text, "config.toml", [](const std::string& name) -> std::optional<std::string> {
                    if (name.size() % 2 == 0) return std::nullopt;
                    return "value of " + name;
                });
            if (!config) {
                CHECK(!config.error().what().empty());
                break;
            }
            (void)config->Text();
            for (const auto& [name, what] : config->templates)
                fuzz::ShowAgain(*config, what);
            break;
        }
        case 1: {
            const auto what = ParseTemplate(built_in, "one", text);
            if (what) fuzz::ShowAgain(built_in, *what);
            break;
        }
        case 4:
            (void)ParseMountOptions({text}, (how & 128) != 0);
            break;
        case 2:
            (void)OverrideTemplate(built_in, built_in.templates.begin()->second, text);
            break;
        default: {
            const auto order = ParseNewOrder(built_in, text);
            if (order) fuzz::ShowAgain(built_in, order->what);
            break;
        }
    }
    return 0;
}
