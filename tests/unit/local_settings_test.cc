// The options of local sandboxes, and the letter a helper gets.
#include "sandbox/providers/local/local_settings.h"

#include <gtest/gtest.h>

#include "sandbox/providers/local/launch_order.h"
#include "sandbox/providers/local/local_provider.h"

namespace sbxfs {
namespace {

std::string Refusal(const Template& what) {
    const auto settings = ReadLocalSettings(what, {"/state", "/mnt/boxes"});
    if (settings) return "accepted";
    EXPECT_EQ(settings.error().code(), Errno{EINVAL});
    return settings.error().what();
}

std::string Refusal(const std::string& key, const OptionValue& value) {
    Template what;
    what.options[key] = value;
    return Refusal(what);
}

std::string BindRefusal(const std::string& bind) {
    return Refusal("binds", std::vector<std::string>{bind});
}

TEST(LocalSettings, DefaultsAreSharedNetworkAndNoBinds) {
    const auto settings = ReadLocalSettings(Template(), {});
    ASSERT_TRUE(settings);
    EXPECT_FALSE(settings->own_network);
    EXPECT_EQ(settings->pids, 4096);
    EXPECT_TRUE(settings->binds.empty());
}

TEST(LocalSettings, WhatIsGivenIsRead) {
    Template what;
    what.options = {{"network", std::string("none")},
                    {"pids", std::int64_t{100}},
                    {"binds", std::vector<std::string>{"/a:/b", "/c/:/d/e/:rw", "/f:/g:ro"}}};
    const auto settings = ReadLocalSettings(what, {"/state"});
    ASSERT_TRUE(settings) << settings.error().what();
    EXPECT_TRUE(settings->own_network);
    EXPECT_EQ(settings->pids, 100);
    const std::vector<HostBind> expected = {
        {"/a", "/b", false}, {"/c", "/d/e", true}, {"/f", "/g", false}};
    EXPECT_EQ(settings->binds, expected);
}

TEST(LocalSettings, AnUnknownOptionNamesTheNearest) {
    EXPECT_NE(Refusal("netwrok", std::string("none")).find("did you mean `network`?"),
              std::string::npos);
    EXPECT_NE(Refusal("zzzzzzzz", true).find("there are: network, binds, pids"), std::string::npos);
}

TEST(LocalSettings, WrongValuesAreRefused) {
    EXPECT_NE(Refusal("network", std::string("host")), "accepted");
    EXPECT_NE(Refusal("network", true), "accepted");
    EXPECT_NE(Refusal("pids", std::string("many")), "accepted");
    EXPECT_NE(Refusal("pids", std::int64_t{1}), "accepted");
    EXPECT_NE(Refusal("binds", std::string("/a:/b")), "accepted");
    Template what;
    what.image = "python";
    EXPECT_NE(Refusal(what).find("image"), std::string::npos);
    what = Template();
    what.memory = 8;
    EXPECT_NE(Refusal(what).find("memory"), std::string::npos);
    what = Template();
    what.cpu = -1;
    EXPECT_NE(Refusal(what).find("cpu"), std::string::npos);
    for (const char* workdir : {"", "work", "/a/../b", "/proc/x", "/dev", "//", "/a//b"}) {
        what = Template();
        what.workdir = workdir;
        if (std::string(workdir) == "//") continue;  // is "/"
        EXPECT_NE(Refusal(what), "accepted") << workdir;
    }
}

TEST(LocalSettings, BindsThatCannotBeAreRefused) {
    for (const char* bind : {"", "/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:rw:x", "/a:/", "/:/b",
                             "/a:/proc/x", "/a:/dev", "/a/../b:/c", "/a:/b/./c", "/state:/x",
                             "/state/boxes/y:/x", "/mnt:/x", "/mnt/boxes/z:/x"}) {
        EXPECT_NE(BindRefusal(bind), "accepted") << bind;
    }
    // Only whole names count.
    EXPECT_EQ(BindRefusal("/statex:/x"), "accepted");
    EXPECT_EQ(BindRefusal("/mnt/boxesx:/x"), "accepted");
    EXPECT_EQ(BindRefusal("/a:/proceedings"), "accepted");
}

TEST(LaunchOrder, ComesBackWithItsSecretsAndItsRecordHasNone) {
    LaunchOrder order;
    order.token = "m1-7";
    order.state_dir = "/state";
    order.hostname = "b1";
    order.workdir = "/w";
    order.client_key = "ssh-ed25519 CLIENT";
    order.host_key = {"ssh-ed25519 HOST", Secret("PRIVATE")};
    order.cpu = 1;
    order.memory = 64;
    order.lifetime_ms = 5;
    order.settings = {true, 77, {{"/a", "/b", true}}, "base"};
    order.forbidden = {"/state", "/mnt"};
    const auto read = LaunchOrder::FromJson(order.ToJson());
    ASSERT_TRUE(read) << read.error().what();
    EXPECT_EQ(read->ToJson().Dump(), order.ToJson().Dump());
    EXPECT_EQ(read->host_key.private_pem.Reveal(), "PRIVATE");
    EXPECT_EQ(order.ToRecord().Dump().find("PRIVATE"), std::string::npos);
}

TEST(LaunchOrder, ATokenThatIsNoFileNameIsRefused) {
    for (const char* token :
         {"", "..", "a/b", "A", "a b",
          "0123456789012345678901234567890123456789012345678901234567890123x"}) {
        EXPECT_FALSE(DestroyOrder::FromJson(DestroyOrder{token, "/state"}.ToJson())) << token;
    }
    EXPECT_TRUE(DestroyOrder::FromJson(DestroyOrder{"ab-9", "/state"}.ToJson()));
}

TEST(LaunchOrder, HostNamesAreOnesProgramsTake) {
    EXPECT_EQ(HostnameFor("box_1@py"), "box-1-py");
    EXPECT_EQ(HostnameFor("a.b-C"), "a.b-C");
    EXPECT_EQ(HostnameFor(std::string(100, 'x')).size(), 63U);
}

}  // namespace
}  // namespace sbxfs
