// .mount/new and .mount/templates (contract 2 and 3): sandboxes with options of their own, and templates written,
// made and removed in the mount.
#include <fcntl.h>

#include "base/json.h"
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Names = std::vector<std::string>;

class New : public MountTest {
 protected:
    void SetUp() override {
        setup_.templates["py"] = TestTemplate("py");
        setup_.templates["py"].env = {{"A", "1"}};
        MountTest::SetUp();
    }
    int Make(const std::string& text) { return me().Echo(text, "/.mount/new"); }
    const Template& What(const std::string& box) { return mount().Box(box)->what(); }
    std::string Newest() { return LastError().substr(0, LastError().find('\n')); }
};

TEST_F(New, WordsMakeASandboxAndItsNameIsReadBack) {
    const auto file = me().Open("/.mount/new", O_RDWR);
    EXPECT_EQ(file->Write("name=b1 template=py cpu=512 max_lifetime=90s env.B=x=y\n"), 0);
    EXPECT_EQ(file->Read(), "b1\n");
    EXPECT_EQ(file->Read(), "");
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(me().Cat("/b1/status"), "ready\n");
    EXPECT_EQ(What("b1").name, "py");
    EXPECT_EQ(What("b1").cpu, 512);
    EXPECT_EQ(What("b1").max_lifetime_s, 90);
    EXPECT_EQ(What("b1").env, (std::map<std::string, std::string>{{"A", "1"}, {"B", "x=y"}}));
    EXPECT_EQ(Make("name=b2\n"), 0);
    EXPECT_EQ(What("b2").cpu, 0) << "the template stays what it was";
}

TEST_F(New, AJsonObjectMayComeInPieces) {
    const auto file = me().Open("/.mount/new", O_RDWR);
    EXPECT_EQ(file->Write("{\n  \"name\": \"b1@py\",\n"), 0);
    EXPECT_EQ(file->Write("  \"cpu\": 7, \"list_fs\": true,\n  \"env\": {\"C D\": \"a b\"}}"), 0);
    EXPECT_EQ(file->Read(), "b1@py\n");
    EXPECT_EQ(What("b1@py").cpu, 7);
    EXPECT_TRUE(What("b1@py").list_fs);
    EXPECT_EQ(What("b1@py").env.at("C D"), "a b");
}

TEST_F(New, WithoutANameItGetsAFreeOne) {
    ASSERT_EQ(me().Mkdir("/box1"), 0);
    const auto file = me().Open("/.mount/new", O_RDWR);
    EXPECT_EQ(file->Write("template=py"), 0);
    EXPECT_EQ(file->Read(), "box2\n") << "without a newline the read submits";
    EXPECT_EQ(Make("cpu=1"), 0) << "or the close";
    EXPECT_EQ(What("box3").cpu, 1);
}

TEST_F(New, MistakesAreHeardAtTheWriteAndLaunchNothing) {
    struct Case {
        std::string text;
        int code;
        std::string sentence;
    };
    const std::vector<Case> table = {
        {"name=b1 cpus=2\n", EINVAL, "unknown key 'cpus'; did you mean 'cpu'?"},
        {"name=b1 tempate=py\n", EINVAL, "did you mean 'template'?"},
        {"{\"nam\": \"b1\"}", EINVAL, "unknown key 'nam'; did you mean 'name'?"},
        {"name=b1 cpu=many\n", EINVAL, "cpu must be a whole number"},
        {"name=b1 max_lifetime=soon\n", EINVAL, "must be a duration"},
        {"b1\n", EINVAL, "'b1' is not KEY=VALUE; like this: name=b1"},
        {"name=.b1\n", EINVAL, "is not a name for a sandbox"},
        {"name=b1@py template=default\n", EINVAL, "the name asks for template 'py'"},
        {"name=b1 template=none\n", ENOENT, "no template 'none'"},
        {"name=b1 provider=none\n", EINVAL, "there is no [providers.none]"},
        {"name=b1 workdir=relative\n", EINVAL, "absolute path"},
        {"{\"name\": 1}", EINVAL, "\"name\" must be a string"},
        {"{]", EINVAL, "that is not a JSON object"},
        {"name=README.md\n", EEXIST, "the mount's own"},
        {std::string(70000, 'x'), EFBIG, "65536 bytes"},
    };
    for (const Case& one : table) {
        SCOPED_TRACE(one.text.substr(0, 40));
        EXPECT_EQ(Make(one.text), one.code);
        EXPECT_NE(Newest().find(one.sentence), std::string::npos) << Newest();
    }
    EXPECT_EQ(provider().launches(), 0U);
    EXPECT_EQ(Make("name=b1\n"), 0);
    EXPECT_EQ(Make("name=b1\n"), EEXIST);
    EXPECT_EQ(Make(""), 0);
    EXPECT_EQ(Make(" \n"), 0) << "nothing for nothing";
    EXPECT_EQ(provider().launches(), 1U);
}

TEST_F(New, AChildThatInheritedTheHandleOrdersNothing) {
    const auto file = me().Open("/.mount/new", O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Write("name=b1 "), 0);
    EXPECT_EQ(file->FlushAs(1), 0);
    EXPECT_EQ(file->Write("cpu=512\n"), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(provider().launches(), 1U);
    EXPECT_EQ(mount().Box("b1")->what().cpu, 512);
}

TEST_F(New, OptionsInALineOfTheirOwnAreNoSecondSandbox) {
    const auto file = me().Open("/.mount/new", O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Write("name=b1\n"), 0);
    EXPECT_EQ(file->Write("cpu=512\n"), EINVAL);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_NE(Newest().find("write all of an order in one line"), std::string::npos) << Newest();
    EXPECT_EQ(provider().launches(), 1U);
}

TEST_F(New, WhatMayBeTheRestOfASecretIsNotQuoted) {
    EXPECT_EQ(Make("name=b1 env.TOKEN=part1 part2secret\n"), EINVAL);
    EXPECT_EQ(Newest().find("part2secret"), std::string::npos) << Newest();
    EXPECT_EQ(Make("{\"name\": \"b1\", \"env\": {\"A\": \"x\\u0000y\"}}"), EINVAL);
    EXPECT_NE(Newest().find("NUL"), std::string::npos) << Newest();
    EXPECT_EQ(provider().launches(), 0U);
}

class Templates : public New {
 protected:
    std::string File(const std::string& name) { return "/.mount/templates/" + name + ".toml"; }
};

TEST_F(Templates, AnEmptyFileKeepsTheOldOne) {
    // : > py.toml; nobody hears errors of the last close.
    EXPECT_EQ(me().Open(File("py"), O_WRONLY | O_TRUNC)->Close(), 0);
    Settle();
    EXPECT_NE(Newest().find("an empty file is no template"), std::string::npos) << Newest();
    EXPECT_NE(me().Cat(File("py")), "");
    EXPECT_EQ(me().Mkdir("/b1@py"), 0);
}

TEST_F(Templates, ANameWithADotIsWrittenBackAsItIsShown) {
    EXPECT_EQ(me().Echo("cpu = 100\n", File("py3.12")), 0);
    const std::string shown = me().Cat(File("py3.12"));
    EXPECT_EQ(me().Echo(shown, File("py3.12")), 0) << Newest();
    EXPECT_EQ(me().Cat(File("py3.12")), shown);
}

TEST_F(Templates, AreMadeChangedAndRemoved) {
    EXPECT_EQ(me().List("/.mount/templates"), (Names{"default.toml", "py.toml"}));
    EXPECT_EQ(me().Echo("cpu = 100\nworkdir = \"/w\"\n", File("go")), 0);
    EXPECT_EQ(me().Mkdir("/b1@go"), 0);
    EXPECT_EQ(What("b1@go").cpu, 100);
    EXPECT_EQ(me().Echo("[templates.go]\ncpu = 200\n", File("go")), 0);
    EXPECT_EQ(me().Mkdir("/b2@go"), 0);
    EXPECT_EQ(What("b2@go").cpu, 200);
    EXPECT_EQ(What("b1@go").cpu, 100) << "a sandbox keeps what it was made from";
    EXPECT_NE(me().Cat(File("go")).find("cpu = 200\n"), std::string::npos);
    EXPECT_EQ(me().Stat(File("go")).size, me().Cat(File("go")).size());
    EXPECT_NE(me().Cat("/.mount/config.toml").find("[templates.go]\n"), std::string::npos);
    EXPECT_EQ(me().Unlink(File("go")), 0);
    EXPECT_EQ(me().Mkdir("/b3@go"), ENOENT);
    EXPECT_EQ(me().Unlink(File("go")), ENOENT);
    EXPECT_EQ(me().Unlink(File("py")), 0) << "also those of the configuration";
    EXPECT_EQ(me().List("/.mount/templates"), Names{"default.toml"});
    EXPECT_EQ(me().Unlink(File("default")), EBUSY);
    EXPECT_NE(Newest().find("default template"), std::string::npos);
}

TEST_F(Templates, AreCheckedAtCloseAndTheOldOneStays) {
    const auto file = me().Open(File("py"), O_WRONLY | O_TRUNC);
    EXPECT_EQ(file->Write("cpus = 3\n"), 0);
    EXPECT_EQ(file->Close(), EINVAL);
    EXPECT_NE(Newest().find("templates/py.toml:1: unknown key 'cpus' in [templates.py]; did you "
                            "mean 'cpu'?"),
              std::string::npos)
        << Newest();
    EXPECT_EQ(me().Echo("[templates.other]\ncpu = 1\n", File("py")), EINVAL);
    EXPECT_EQ(me().Echo("cpu = ", File("py")), EINVAL);
    EXPECT_EQ(me().Echo("cpu = -1", File("new")), EINVAL);
    Settle();
    EXPECT_EQ(me().List("/.mount/templates"), (Names{"default.toml", "py.toml"}));
    EXPECT_EQ(me().Mkdir("/b1@py"), 0);
    EXPECT_EQ(What("b1@py").env.at("A"), "1");
    EXPECT_EQ(me().Create("/.mount/templates/x.txt", O_WRONLY)->error(), EINVAL);
}

TEST_F(Templates, CanBeEditedAsTheyAreShownAndKeepTheirSecrets) {
    const std::string shown = me().Cat(File("py"));
    EXPECT_NE(shown.find("\"<set>\""), std::string::npos) << shown;
    EXPECT_EQ(me().Echo(shown + "cpu = 9\n", File("py")), 0);
    EXPECT_EQ(me().Mkdir("/b1@py"), 0);
    EXPECT_EQ(What("b1@py").env.at("A"), "1");
    EXPECT_EQ(What("b1@py").cpu, 9);
    const auto file = me().Open(File("py"), O_WRONLY | O_APPEND);
    EXPECT_EQ(file->Write("memory = 77\n"), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(me().Mkdir("/b2@py"), 0);
    EXPECT_EQ(What("b2@py").memory, 77);
    EXPECT_EQ(What("b2@py").cpu, 9);
    EXPECT_EQ(me().Echo("env = { NEW = \"<set>\" }\n", File("py")), EINVAL);
}

TEST_F(Templates, SurviveKillAndRemountAndAReload) {
    EXPECT_EQ(me().Echo("cpu = 100\n", File("go")), 0);
    EXPECT_EQ(me().Unlink(File("py")), 0);
    KillAndStart();
    EXPECT_EQ(me().List("/.mount/templates"), (Names{"default.toml", "go.toml"}));
    Config again;
    again.templates = setup_.templates;
    mount().context().config.Replace(again, mount().context().clock.System());
    EXPECT_EQ(me().List("/.mount/templates"), (Names{"default.toml", "go.toml"}));
    EXPECT_EQ(me().Mkdir("/b1@go"), 0);
    EXPECT_EQ(What("b1@go").cpu, 100);
}

TEST_F(Templates, AJournalThatFailsKeepsTheOldOne) {
    world_.disk.Fail(FaultyDisk::Fault::kFull);
    EXPECT_EQ(me().Echo("cpu = 100\n", File("go")), ENOSPC);
    EXPECT_EQ(me().Unlink(File("py")), ENOSPC);
    world_.disk.Heal();
    Settle();
    EXPECT_EQ(me().List("/.mount/templates"), (Names{"default.toml", "py.toml"}));
}

}  // namespace
}  // namespace sbxfs::testing
