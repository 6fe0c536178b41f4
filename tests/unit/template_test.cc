// Templates and connect info survive the journal, and what is wrong there is named.
#include "sandbox/template.h"

#include <gtest/gtest.h>

#include "sandbox/provider.h"
#include "sandbox/strict_json.h"

namespace sbxfs {
namespace {

Template Full() {
    Template what;
    what.name = "py";
    what.provider = "here";
    what.backend = "local";
    what.workdir = "/w";
    what.fs_root = "/srv";
    what.image = "python:3.12";
    what.cpu = 512;
    what.memory = 2048;
    what.max_lifetime_s = 7;
    what.idle_timeout_s = 8;
    what.exclusive = false;
    what.list_fs = true;
    what.max_parallel = 3;
    what.shell = "/bin/zsh";
    what.login_shell = true;
    what.env = {{"A", "1"}, {"B", "x\ny"}};
    what.options = {{"network", std::string("none")},
                    {"pids", std::int64_t{99}},
                    {"flag", true},
                    {"binds", std::vector<std::string>{"/a:/b", "/c:/d:rw"}}};
    return what;
}

std::string ErrorOf(const std::string& text) {
    const auto read = Template::FromJson(*Json::Parse(text));
    return read ? "accepted" : read.error().what();
}

TEST(Template, ComesBackFromJsonAsItWas) {
    const auto read = Template::FromJson(Full().ToJson());
    ASSERT_TRUE(read) << read.error().what();
    EXPECT_EQ(read->ToJson().Dump(), Full().ToJson().Dump());
    EXPECT_EQ(read->options, Full().options);
    EXPECT_EQ(read->env, Full().env);
    EXPECT_FALSE(read->exclusive);
    EXPECT_TRUE(read->login_shell);
}

TEST(Template, WhatIsLeftOutIsTheDefault) {
    const auto read = Template::FromJson(*Json::Parse("{}"));
    ASSERT_TRUE(read);
    EXPECT_EQ(read->ToJson().Dump(), Template().ToJson().Dump());
}

TEST(Template, AnUnknownOrWronglyTypedMemberIsNamed) {
    EXPECT_EQ(ErrorOf("{\"cpus\": 1}"), "template: unknown member `cpus`");
    EXPECT_EQ(ErrorOf("{\"cpu\": \"1\"}"), "template: member `cpu` must be an integer");
    EXPECT_EQ(ErrorOf("{\"cpu\": 1.5}"), "template: member `cpu` must be an integer");
    EXPECT_EQ(ErrorOf("{\"shell\": null}"), "template: member `shell` must be a string");
    EXPECT_EQ(ErrorOf("{\"list_fs\": 1}"), "template: member `list_fs` must be true or false");
    EXPECT_EQ(ErrorOf("{\"env\": {\"A\": 1}}"),
              "template: member `env` must be an object of strings");
    EXPECT_EQ(ErrorOf("{\"options\": {\"x\": {}}}"),
              "template: member `options.x` must be a string, an integer, true or false, or a list "
              "of strings");
    EXPECT_EQ(ErrorOf("{\"options\": [1]}"), "template: member `options` must be an object");
    EXPECT_EQ(ErrorOf("[]"), "template: not a JSON object");
}

TEST(ConnectInfo, BothKindsOfAddressComeBack) {
    ConnectInfo info;
    info.user = "root";
    info.host_key = "ssh-ed25519 AAAA";
    info.spool_dir = "/var/lib/sbxfs";
    info.address = UnixAddress{"/state/boxes/x/ssh.sock"};
    auto read = ConnectInfo::FromJson(info.ToJson());
    ASSERT_TRUE(read) << read.error().what();
    EXPECT_EQ(std::get_if<UnixAddress>(&read->address)->path, "/state/boxes/x/ssh.sock");
    EXPECT_EQ(read->spool_dir, info.spool_dir);

    info.address = TcpAddress{"192.0.2.7", 2222};
    read = ConnectInfo::FromJson(info.ToJson());
    ASSERT_TRUE(read) << read.error().what();
    EXPECT_EQ(std::get_if<TcpAddress>(&read->address)->host, "192.0.2.7");
    EXPECT_EQ(std::get_if<TcpAddress>(&read->address)->port, 2222);
}

TEST(ConnectInfo, NothingHalfIsAccepted) {
    const auto error = [](const std::string& text) {
        const auto read = ConnectInfo::FromJson(*Json::Parse(text));
        return read ? "accepted" : read.error().what();
    };
    EXPECT_EQ(error("{\"user\": \"a\", \"host_key\": \"k\"}"),
              "connect info: member `address` is missing");
    EXPECT_EQ(
        error(
            "{\"address\": {\"host\": \"h\", \"port\": 0}, \"user\": \"a\", \"host_key\": \"k\"}"),
        "address: member `port` must be 1 to 65535");
    EXPECT_EQ(error("{\"address\": {\"port\": 1}, \"user\": \"a\", \"host_key\": \"k\"}"),
              "address: member `host` is missing");
    EXPECT_EQ(
        error(
            "{\"address\": {\"unix\": \"/a\", \"port\": 1}, \"user\": \"a\", \"host_key\": \"k\"}"),
        "address: unknown member `port`");
    EXPECT_EQ(error("{\"address\": \"x\", \"user\": \"a\", \"host_key\": \"k\"}"),
              "address: not a JSON object");
}

}  // namespace
}  // namespace sbxfs
