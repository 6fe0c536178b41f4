// Provider `ssh` against what every provider keeps, and what it finds out before anybody connects. The
// machine is a real sshd's keys; going in is for the mount tests.
#include "sandbox/providers/ssh/ssh_provider.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/ssh_keys.h"
#include "tests/contract/provider_contract.h"
#include "tests/support/private_sshd.h"
#include "tests/support/temp_dir.h"

namespace sbxfs::testing {
namespace {

class SshWorld {
 public:
    static std::string WhySkipped() { return ""; }

    SshWorld() : loop_(*IoLoop::Start("io-test", RealClock())) {
        host_key_ = *ParsePublicLine(sshd_.host_key());
        SetKnownHosts("lab " + host_key_ + "\n");
        Open();
    }
    void Open() {
        provider_.reset();
        provider_ = *SshProvider::Open(*loop_, {dir_.path(), {dir_.path(), "me", false}});
    }
    void SetKnownHosts(const std::string& text) const {
        EXPECT_TRUE(ReplaceFile(dir_ / "known_hosts", text, 0600));
    }
    IoLoop& loop() { return *loop_; }
    Provider& provider() { return *provider_; }
    Template SomeTemplate() const {
        Template what;
        what.backend = "ssh";
        what.workdir = "/";
        what.options = {{"host", std::string("lab")},
                        {"identity_file", sshd_.directory() + "/client"},
                        {"known_hosts_file", dir_ / "known_hosts"}};
        return what;
    }
    LaunchSpec Spec(const std::string& token) const {
        LaunchSpec spec;
        spec.token = token;
        spec.name = SandboxName{"box", ""};
        spec.what = SomeTemplate();
        spec.host_key.public_line = host_key_;  // the machine's: none can be installed there
        return spec;
    }
    std::string LeftOf(const std::string& token) const {
        return std::filesystem::exists(dir_ / "ssh/" + token) ? "the record of " + token : "";
    }
    const std::string& host_key() const { return host_key_; }
    const PrivateSshd& sshd() const { return sshd_; }

 private:
    TempDir dir_;
    PrivateSshd sshd_;
    std::string host_key_;
    std::unique_ptr<IoLoop> loop_;
    std::unique_ptr<SshProvider> provider_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Ssh, ProviderContract, SshWorld);

TEST(SshProvider, AnUnknownHostIsNotLaunched) {
    SshWorld world;
    world.SetKnownHosts("other " + world.host_key() + "\n");
    const auto launched = LaunchAndWait(world.provider(), world.Spec("t-1"));
    ASSERT_FALSE(launched);
    EXPECT_EQ(launched.error().code(), Errno{EACCES});
    EXPECT_NE(launched.error().what().find("ssh-keyscan lab"), std::string::npos)
        << launched.error().what();
    EXPECT_EQ(world.LeftOf("t-1"), "");
}

TEST(SshProvider, AMissingKnownHostsFileThatWasNamedIsAnError) {
    SshWorld world;
    LaunchSpec spec = world.Spec("t-1");
    spec.what.options["known_hosts_file"] = std::string("/no/such/file");
    const auto launched = LaunchAndWait(world.provider(), spec);
    ASSERT_FALSE(launched);
    EXPECT_NE(launched.error().what().find("/no/such/file"), std::string::npos);
}

TEST(SshProvider, WhatOneDaemonLaunchedTheNextOneKnowsWithTheKeysOfThen) {
    SshWorld world;
    const auto first = LaunchAndWait(world.provider(), world.Spec("t-1"));
    ASSERT_TRUE(first) << TextOf(first);
    world.SetKnownHosts("");
    world.Open();
    EXPECT_EQ(ProbeAndWait(world.provider(), "t-1").liveness, Liveness::kAlive);
    const auto again = LaunchAndWait(world.provider(), world.Spec("t-1"));
    ASSERT_TRUE(again) << TextOf(again);
    EXPECT_EQ(again->connect.ToJson().Dump(), first->connect.ToJson().Dump());
}

TEST(SshProvider, AllKeysOfTheMachineArePinnedAndNoSecretIsKept) {
    SshWorld world;
    const std::string second = GenerateSshKeyPair()->public_line;
    world.SetKnownHosts("lab " + world.host_key() + "\nlab " + second + "\n");
    const auto launched = LaunchAndWait(world.provider(), world.Spec("t-1"));
    ASSERT_TRUE(launched) << TextOf(launched);
    EXPECT_EQ(launched->connect.host_key, world.host_key());
    EXPECT_EQ(launched->connect.other_host_keys, std::vector<std::string>{second});
    EXPECT_EQ(launched->connect.spool_dir, ".sbxfs/t-1");
    const std::string text = launched->connect.ToJson().Dump();
    EXPECT_EQ(text.find("PRIVATE"), std::string::npos);
    const auto read = ConnectInfo::FromJson(*Json::Parse(text));
    ASSERT_TRUE(read) << read.error().what();
    EXPECT_EQ(read->ToJson().Dump(), text);
}

TEST(SshProvider, AJumpHostMakesTheConnectionAProgramThatIsKept) {
    SshWorld world;
    LaunchSpec spec = world.Spec("t-1");
    spec.what.options["proxy_jump"] = std::string("gate:2222");
    const auto launched = LaunchAndWait(world.provider(), spec);
    ASSERT_TRUE(launched) << TextOf(launched);
    EXPECT_EQ(AddressText(launched->connect.address), "lab:22 via gate");
    const auto read = ConnectInfo::FromJson(*Json::Parse(launched->connect.ToJson().Dump()));
    ASSERT_TRUE(read) << read.error().what();
    EXPECT_EQ(std::get<ProgramAddress>(read->address).argv,
              std::get<ProgramAddress>(launched->connect.address).argv);
}

TEST(SshProvider, TheMachineIsNotItsOwn) {
    SshWorld world;
    EXPECT_FALSE(world.provider().OwnsMachine());
    EXPECT_FALSE(world.provider().Paid());
    EXPECT_EQ(world.provider().OnExpiry(), ExpiryAction::kEndCommands);
}

}  // namespace
}  // namespace sbxfs::testing
