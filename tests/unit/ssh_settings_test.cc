#include "sandbox/providers/ssh/ssh_settings.h"

#include <gtest/gtest.h>

#include <string>

#include "sandbox/providers/ssh/proxy_jump.h"
#include "sandbox/spool_place.h"

namespace sbxfs {
namespace {

const SshSelf kSelf{"/home/me", "me", false};

Template With(Options options) {
    Template what;
    what.options = std::move(options);
    return what;
}

std::string SshRefusal(Options options) {
    const auto settings = ReadSshSettings(With(std::move(options)), kSelf);
    if (settings) return "";
    EXPECT_EQ(settings.error().code(), Errno{EINVAL});
    return settings.error().what();
}

TEST(SshSettings, WhatIsNotSaidIsAsSshHasIt) {
    const auto settings =
        ReadSshSettings(With({{"host", std::string("lab")}}), {"/home/me", "me", true});
    ASSERT_TRUE(settings) << settings.error().what();
    EXPECT_EQ(settings->address.host, "lab");
    EXPECT_EQ(settings->address.port, 22);
    EXPECT_EQ(settings->user, "me");
    ASSERT_EQ(settings->auth.size(), 1U);
    EXPECT_EQ(std::get<Agent>(settings->auth[0]).socket, "");
    EXPECT_EQ(settings->known_hosts_files,
              (std::vector<std::string>{"/home/me/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"}));
}

TEST(SshSettings, AnIdentityFileComesBeforeTheAgent) {
    const auto settings = ReadSshSettings(With({{"host", std::string("192.0.2.7")},
                                                {"port", std::int64_t{2222}},
                                                {"user", std::string("dev")},
                                                {"identity_file", std::string("~/.ssh/id")},
                                                {"agent", std::string("/run/agent")},
                                                {"spool_dir", std::string("/scratch/")}}),
                                          kSelf);
    ASSERT_TRUE(settings) << settings.error().what();
    ASSERT_EQ(settings->auth.size(), 2U);
    EXPECT_EQ(std::get<IdentityFile>(settings->auth[0]).path, "/home/me/.ssh/id");
    EXPECT_EQ(std::get<Agent>(settings->auth[1]).socket, "/run/agent");
    EXPECT_EQ(settings->spool_base, "/scratch");
}

TEST(SshSettings, WhatIsWrongIsNamed) {
    const std::string host = "lab";
    const std::pair<Options, std::string> cases[] = {
        {{}, "`host` is missing"},
        {{{"host", std::string("-oProxyCommand=x")}}, "`host` must be"},
        {{{"host", std::string("a b")}}, "`host` must be"},
        {{{"host", host}, {"prt", std::int64_t{1}}}, "did you mean `port`?"},
        {{{"host", host}, {"port", std::int64_t{0}}}, "`port` must be"},
        {{{"host", host}, {"port", std::string("22")}}, "`port` must be"},
        {{{"host", host}}, "no way to log in"},
        {{{"host", host}, {"identity_file", std::string("id")}}, "`identity_file` must be"},
        {{{"host", host}, {"agent", std::int64_t{1}}}, "`agent` must be"},
        {{{"host", host}, {"agent", true}, {"host_key", std::string("ssh-ed25519 x")}},
         "`host_key`"},
        {{{"host", host}, {"agent", true}, {"proxy_jump", std::string("a,,b")}}, "`proxy_jump`"},
    };
    for (const auto& [options, words] : cases) {
        const std::string said = SshRefusal(options);
        EXPECT_NE(said.find(words), std::string::npos) << words << " in: " << said;
    }
    Template image = With({{"host", host}, {"agent", true}});
    image.image = "python:3.12";
    EXPECT_FALSE(ReadSshSettings(image, kSelf));
}

TEST(SshSettings, JumpsAreReadAsSshReadsThem) {
    const auto jumps = ParseJumps("gate, dev@[2001:db8::1]:2222,10.0.0.1:22");
    ASSERT_TRUE(jumps) << jumps.error().what();
    ASSERT_EQ(jumps->size(), 3U);
    EXPECT_EQ((*jumps)[0].host, "gate");
    EXPECT_EQ((*jumps)[0].port, 0);
    EXPECT_EQ((*jumps)[1].user, "dev");
    EXPECT_EQ((*jumps)[1].host, "2001:db8::1");
    EXPECT_EQ((*jumps)[1].port, 2222);
    EXPECT_EQ((*jumps)[2].port, 22);
    for (const char* bad : {"-oX", "a:", "a:0", "a:70000", "[a", "[a]b", "@a", "a b", "a;b"})
        EXPECT_FALSE(ParseJumps(bad)) << bad;
}

TEST(ProxyJump, EachHopIsTheProxyCommandOfTheNext) {
    SshSettings settings;
    settings.address = {"target", 22};
    settings.auth = {IdentityFile{"/k%y"}};
    settings.jumps = *ParseJumps("a@one:1,two");
    const ProgramAddress way = ThroughJumps(settings);
    EXPECT_EQ(way.shown, "target:22 via one, two");
    EXPECT_EQ(way.argv.front(), "ssh");
    EXPECT_EQ(way.argv.back(), "two");
    std::string proxy;
    for (const std::string& word : way.argv) {
        if (word.starts_with("ProxyCommand=")) proxy = word;
    }
    EXPECT_NE(proxy.find("'[two]:22'"), std::string::npos) << proxy;
    EXPECT_NE(proxy.find("-p 1 -l a"), std::string::npos) << proxy;
    // Once for the hop itself, once more because it is inside a ProxyCommand.
    EXPECT_NE(proxy.find("/k%%%%y"), std::string::npos) << proxy;
}

TEST(SpoolPlace, OnlyADirectoryForSpoolsIsTheirParent) {
    EXPECT_EQ(SpoolParentOf(".sbxfs/t-1"), ".sbxfs");
    EXPECT_EQ(SpoolParentOf("/scratch/.sbxfs/t-1"), "/scratch/.sbxfs");
    EXPECT_EQ(SpoolParentOf(".sbxfs"), "");
    EXPECT_EQ(SpoolParentOf("/var/lib/sbxfs"), "");
    EXPECT_EQ(SpoolParentOf(""), "");
}

}  // namespace
}  // namespace sbxfs
