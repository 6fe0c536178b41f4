// JSON that users and files give: cmd.json, the journal's records, the letter to a local helper. A document is either
// refused with a sentence or read, written and read again as the same; every beginning of a document is one.
#include "base/check.h"
#include "base/json.h"
#include "fs/command_files.h"
#include "sandbox/names.h"
#include "sandbox/provider.h"
#include "sandbox/providers/fargate/fargate_record.h"
#include "sandbox/providers/local/launch_order.h"
#include "sandbox/sandbox_config.h"
#include "sandbox/template.h"
#include "tests/fuzz/fuzz_bytes.h"

namespace sbxfs::fuzz {
namespace {

template <class T>
void ReadTwice(const Json& json) {
    const Result<T> once = T::FromJson(json);
    if (!once) {
        CHECK(!once.error().what().empty());
        return;
    }
    const Json written = once->ToJson();
    const Result<T> again = T::FromJson(written);
    CHECK(again.has_value());
    CHECK(again->ToJson().Dump() == written.Dump());
}

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sbxfs;
    fuzz::FuzzBytes in(data, size);
    const std::uint8_t how = in.U8();
    const std::string_view text = in.Rest();
    const auto command = ParseJsonCommand(text);
    if (command) {
        CHECK(command->spec.name.empty() || CheckEventName(command->spec.name));
        CHECK(command->script.find('\0') == std::string::npos);
        CHECK(command->spec.timeout_ms >= 0);
    } else {
        CHECK(!command.error().what().empty());
    }
    const auto json = Json::Parse(text);
    const Json::Text looks = Json::Look(text);
    if (json) {
        CHECK(looks == Json::Text::kWhole);
        const auto again = Json::Parse(json->Dump());
        CHECK(again && again->Dump() == json->Dump());
        if (!text.empty())
            CHECK(Json::Look(text.substr(0, how % text.size())) != Json::Text::kInvalid);
        fuzz::ReadTwice<Template>(*json);
        fuzz::ReadTwice<ConnectInfo>(*json);
        fuzz::ReadTwice<FargateRecord>(*json);
        fuzz::ReadTwice<LaunchOrder>(*json);
        fuzz::ReadTwice<StopOrder>(*json);
        fuzz::ReadTwice<SnapshotOrder>(*json);
        fuzz::ReadTwice<DropOrder>(*json);
        fuzz::ReadTwice<DestroyOrder>(*json);
    }
    const SandboxConfig config = SandboxConfig::FromText(text);
    CHECK(SandboxConfig::FromText(config.ToText()).ToText() == config.ToText());
    return 0;
}
