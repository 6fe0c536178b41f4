#include "tests/contract/fargate_world.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "base/check.h"
#include "base/files.h"
#include "base/strings.h"
#include "tests/contract/local_world.h"

namespace sbxfs::testing {
namespace {

std::string Temporary(const std::string& name) {
    return "/tmp/sbxfs-" + name + "-" + Hex(RandomBytes(6));
}

}  // namespace

std::string FargateCloud::WhySkipped() {
    return RunProgram({"python3", "-c", "import botocore"}).exit_code == 0
               ? ""
               : "python3-botocore is missing";
}

FargateCloud::FargateCloud() : directory_(Temporary("cloud")) {
    CHECK(MakeDirs(directory_, 0700).has_value());
    const std::string ready = directory_ + "/ready";
    CHECK(::mkfifo(ready.c_str(), 0600) == 0);
    // Slow enough that a launch can be caught at each of its phases.
    process_ =
        StartProgram({"sh", "-c", "exec python3 \"$0\" --pure --scale 50 --ready-fd 3 3>\"$1\"",
                      std::string(SBXFS_SOURCE_DIR) + "/tests/aws_emulator", ready});
    CHECK(process_ > 0);
    std::ifstream said(ready);
    std::getline(said, url_);
    CHECK(!url_.empty());
}

FargateCloud::~FargateCloud() {
    (void)::kill(process_, SIGTERM);
    int status = 0;
    (void)::waitpid(process_, &status, 0);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

aws::Environment FargateCloud::Environment() {
    return {{"AWS_ACCESS_KEY_ID", "AKIDEMULATOR"},
            {"AWS_SECRET_ACCESS_KEY", "secret"},
            {"AWS_CONFIG_FILE", "/dev/null"},
            {"AWS_SHARED_CREDENTIALS_FILE", "/dev/null"}};
}

Json FargateCloud::Control(const std::string& path, const std::string& body) const {
    constexpr const char* kAsk =
        "import sys, urllib.request as u\n"
        "data = sys.argv[2].encode() or None\n"
        "print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], data).read().decode())\n";
    const Output said = RunProgram({"python3", "-c", kAsk, url_ + "/_control/" + path, body});
    const auto json = Json::Parse(said.out);
    CHECK(json.has_value());
    return *json;
}

std::map<std::string, std::int64_t> FargateCloud::Calls() const {
    std::map<std::string, std::int64_t> calls;
    const auto said = Control("calls").Find("calls").value_or(Json::Object());
    for (const auto& [name, count] : said.Members())
        calls[name] = count.AsNumber().value_or(0);
    return calls;
}

std::vector<std::string> FargateCloud::Living(const std::string& token) const {
    std::vector<std::string> living;
    for (const Json& task : Control("tasks").Elements()) {
        const Json tags = task.Find("tags").value_or(Json::Object());
        const std::string launch = tags.GetString("sbxfs:token").value_or("");
        if (launch.starts_with(token + "-") && task.GetString("status") != "STOPPED")
            living.push_back(task.GetString("arn").value_or("?"));
    }
    return living;
}

FargateWorld::FargateWorld()
    : state_dir_(Temporary("fargate")),
      client_key_(*GenerateSshKeyPair()),
      host_key_(*GenerateSshKeyPair()) {
    CHECK(MakeDirs(state_dir_, 0700).has_value());
    Open();
}

FargateWorld::~FargateWorld() {
    loop_->Stop();
    provider_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(state_dir_, ignored);
}

void FargateWorld::Open() {
    loop_ = *IoLoop::Start("fargate", RealClock());
    provider_ = *FargateProvider::Open(
        *loop_, {state_dir_, {"0123456789abcdef", "tester@here"}, FargateCloud::Environment()});
}

void FargateWorld::Restart() {
    loop_->Stop();
    provider_.reset();
    loop_.reset();
    Open();
}

Template FargateWorld::SomeTemplate() const {
    Template what;
    what.name = "default";
    what.provider = what.backend = "fargate";
    what.image = "sbxfs:latest";
    what.max_lifetime_s = 300;
    what.options["aws_region"] = std::string("us-east-1");
    what.options["aws_endpoint_url"] = cloud_.url();
    what.options["ecs_cluster"] = std::string("sandboxes");
    what.options["subnets"] = std::vector<std::string>{"subnet-1"};
    what.options["security_groups"] = std::vector<std::string>{"sg-1"};
    what.options["assign_public_ip"] = false;
    what.options["host_key"] = std::string("override");
    return what;
}

LaunchSpec FargateWorld::Spec(const std::string& token, const Template& what) const {
    LaunchSpec spec;
    spec.token = token;
    spec.name = SandboxName{"box", ""};
    spec.generation = Generation{1};
    spec.created_ms = 1'800'000'000'000;
    spec.what = what;
    spec.client_key = client_key_.public_line;
    spec.host_key = host_key_;
    return spec;
}

std::string FargateWorld::LeftOf(const std::string& token) const {
    std::string left;
    for (const std::string& arn : cloud_.Living(token))
        left += "task " + arn + "; ";
    const std::string record = state_dir_ + "/fargate/" + token + ".json";
    std::error_code ignored;
    if (std::filesystem::exists(record, ignored)) left += "record " + record + "; ";
    return left;
}

}  // namespace sbxfs::testing
