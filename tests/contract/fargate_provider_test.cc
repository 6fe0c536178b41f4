// Provider fargate on the emulator of AWS: what every provider keeps, then what only this one promises (docs/fargate.md).
// What its sandboxes do is tested with real ones in tests/mount/fargate_test.py.
#include "sandbox/providers/fargate/fargate_provider.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/files.h"
#include "tests/contract/fargate_world.h"
#include "tests/contract/local_world.h"
#include "tests/contract/provider_contract.h"

namespace sbxfs::testing {

INSTANTIATE_TYPED_TEST_SUITE_P(Fargate, ProviderContract, FargateWorld);

class FargateProviderTest : public ::testing::Test {
 protected:
    void SetUp() override {
        const std::string why = FargateWorld::WhySkipped();
        if (!why.empty()) GTEST_SKIP() << why;
        world_ = std::make_unique<FargateWorld>();
    }
    Provider& provider() { return world_->provider(); }
    FargateCloud& cloud() { return world_->cloud(); }
    void DestroyAll(const std::string& token) {
        const Status destroyed = DestroyAndWait(provider(), token);
        EXPECT_TRUE(destroyed) << TextOf(destroyed);
        EXPECT_EQ(world_->LeftOf(token), "");
    }

    std::unique_ptr<FargateWorld> world_;
};

TEST_F(FargateProviderTest, ARestartedDaemonAsksForTheSameTaskAgain) {
    const LaunchSpec spec = world_->Spec(Token("restart"));
    const Result<Launched> first = LaunchAndWait(provider(), spec);
    ASSERT_TRUE(first) << TextOf(first);
    world_->Restart();
    const Result<Launched> second = LaunchAndWait(provider(), spec);
    ASSERT_TRUE(second) << TextOf(second);
    EXPECT_EQ(first->id, second->id);
    EXPECT_EQ(cloud().Living(spec.token).size(), 1U);
    DestroyAll(spec.token);
}

// The record says "intended" when the daemon dies between asking and hearing.
TEST_F(FargateProviderTest, AnIntentThatWasNeverAnsweredIsStopped) {
    const LaunchSpec spec = world_->Spec(Token("unanswered"));
    ASSERT_TRUE(LaunchAndWait(provider(), spec));
    const std::string file = world_->state_dir() + "/fargate/" + spec.token + ".json";
    std::string record = *ReadWholeFile(file);
    const auto replace = [&](const std::string& key, const std::string& value) {
        const std::size_t at = record.find("\"" + key + "\":\"") + key.size() + 4;
        record.replace(at, record.find('"', at) - at, value);
    };
    replace("arn", "");
    replace("stage", "intended");
    ASSERT_TRUE(ReplaceFile(file, record, 0600));
    world_->Restart();
    DestroyAll(spec.token);
}

// A copy of the state directory counts the same generations under the same mount: its launches are its own.
TEST_F(FargateProviderTest, TheSameGenerationOfACopiedStateDirectoryIsAnotherSandbox) {
    const LaunchSpec spec = world_->Spec(Token("copy"));
    const Result<Launched> original = LaunchAndWait(provider(), spec);
    ASSERT_TRUE(original) << TextOf(original);
    FargateProvider& ours = dynamic_cast<FargateProvider&>(provider());

    const std::string directory = world_->state_dir() + "/copy";
    ASSERT_TRUE(MakeDirs(directory, 0700));
    const auto loop = *IoLoop::Start("copy", RealClock());
    auto copy = *FargateProvider::Open(
        *loop, {directory, {"0123456789abcdef", "tester@there"}, FargateCloud::Environment()});
    LaunchSpec again = spec;
    again.client_key = GenerateSshKeyPair()->public_line;
    const Result<Launched> second = LaunchAndWait(*copy, again);
    ASSERT_TRUE(second) << TextOf(second);
    EXPECT_NE(original->id, second->id);
    EXPECT_TRUE(DestroyAndWait(*copy, again.token));
    EXPECT_EQ(cloud().Living(spec.token), std::vector<std::string>{original->id});

    // Looked at by a daemon whose journal has never heard of it: shown, not ended.
    loop->Stop();
    copy.reset();
    const auto later = *IoLoop::Start("later", RealClock());
    copy = *FargateProvider::Open(*later, {directory,
                                           {"0123456789abcdef", "tester@there"},
                                           FargateCloud::Environment(),
                                           {world_->SomeTemplate()}});
    EXPECT_TRUE(Eventually([&] { return !copy->Strangers().empty(); }));
    const std::vector<Stranger> strangers = copy->Strangers();
    ASSERT_EQ(strangers.size(), 1U);
    EXPECT_EQ(strangers[0].id, original->id);
    EXPECT_EQ(strangers[0].name, "box");
    EXPECT_EQ(strangers[0].remove_command,
              "aws ecs stop-task --region us-east-1 --cluster sandboxes --task " + original->id);
    EXPECT_TRUE(ours.Strangers().empty());
    EXPECT_EQ(cloud().Living(spec.token), std::vector<std::string>{original->id});
    later->Stop();
    copy.reset();
    DestroyAll(spec.token);
}

TEST_F(FargateProviderTest, EveryOptionMakesRequestsThatTheServiceModelsKnow) {
    Template full = world_->SomeTemplate();
    full.cpu = 1024;
    full.memory = 2048;
    full.env = {{"LANG", "C.UTF-8"}};
    full.options["assign_public_ip"] = true;
    full.options["ephemeral_storage_gib"] = std::int64_t{30};
    full.options["platform_version"] = std::string("1.4.0");
    full.options["execution_role_arn"] = std::string("arn:aws:iam::123456789012:role/exec");
    full.options["task_role_arn"] = std::string("arn:aws:iam::123456789012:role/task");
    full.options["log_group"] = std::string("/sbxfs");
    full.options["capacity_provider"] = std::string("FARGATE_SPOT");
    full.options["enable_execute_command"] = true;
    full.options["tags"] = std::vector<std::string>{"team=lab"};
    full.options["host_key"] = std::string("shared");
    full.options["host_key_secret"] = std::string("sbxfs/contract");
    const LaunchSpec spec = world_->Spec(Token("full"), full);
    const Result<Launched> launched = LaunchAndWait(provider(), spec);
    ASSERT_TRUE(launched) << TextOf(launched);
    DestroyAll(spec.token);

    Template object = world_->SomeTemplate();
    object.options["execution_role_arn"] = std::string("arn:aws:iam::123456789012:role/exec");
    object.options["host_key"] = std::string("s3");
    object.options["host_key_bucket"] = std::string("sbxfs-bucket");
    const LaunchSpec other = world_->Spec(Token("object"), object);
    const Result<Launched> second = LaunchAndWait(provider(), other);
    ASSERT_TRUE(second) << TextOf(second);
    DestroyAll(other.token);

    // The emulator refuses what botocore's models do not have; each kind of request was among these.
    const auto calls = cloud().Calls();
    for (const char* name : {"ecs:RunTask", "ecs:DescribeTasks", "ecs:StopTask",
                             "ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition",
                             "ec2:DescribeNetworkInterfaces", "secretsmanager:GetSecretValue",
                             "secretsmanager:CreateSecret", "s3:PutObject", "s3:DeleteObject"})
        EXPECT_TRUE(calls.contains(name)) << name;
    const Json errors = cloud().Control("calls").Find("errors").value_or(Json());
    for (const std::string& code : errors.Keys())
        EXPECT_TRUE(code == "ResourceNotFoundException" || code == "ClientException") << code;
}

}  // namespace sbxfs::testing
