// run/NAME and cmd.json: names that are used once, and what a structured command may say (contract 4).
#include <fcntl.h>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Names = std::vector<std::string>;

class RunDirectory : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
    }
    int Run(const std::string& name, std::string_view script = "true") {
        return me().Echo(script, "/box/run/" + name);
    }
    Names Events() { return me().Events("/box"); }
};

TEST_F(RunDirectory, CreatingTheFileSubmitsItUnderItsName) {
    EXPECT_EQ(Run("t1", "pytest -q"), 0);
    EXPECT_EQ(Events(), (Names{"1", "t1", "latest"}));
    EXPECT_EQ(me().ReadLink("/box/events/t1"), "1");
    EXPECT_EQ(me().Cat("/box/events/1/cmd"), "pytest -q");
    Settle();
    EXPECT_TRUE(supervisor().Request(1).parallel);
    EXPECT_EQ(supervisor().Request(1).cwd, "/work");
}

TEST_F(RunDirectory, ANameIsUsedOnceSoThatARetryCannotRunTwice) {
    EXPECT_EQ(Run("t1"), 0);
    EXPECT_EQ(Run("t1"), EEXIST);
    Settle();
    supervisor().Run(1);
    EXPECT_EQ(Run("t1"), EEXIST);
    EXPECT_EQ(me().Rmdir("/box/events/1"), 0);
    EXPECT_EQ(Events(), Names{});
    EXPECT_EQ(Run("t1"), EEXIST);
    KillAndStart();
    EXPECT_EQ(Run("t1"), EEXIST);
    EXPECT_NE(LastError().find("A name is used once"), std::string::npos);
    EXPECT_EQ(supervisor().TimesRun(1), 1);
}

TEST_F(RunDirectory, ANameIsTakenWhileItsFileIsOpen) {
    const auto open = me().Create("/box/run/t1", O_WRONLY);
    EXPECT_EQ(Run("t1"), EEXIST);
    EXPECT_EQ(me().Echo("{\"cmd\": \"true\", \"id\": \"t1\"}", "/box/cmd.json"), EEXIST);
    EXPECT_EQ(open->Write("true"), 0);
    EXPECT_EQ(open->Close(), 0);
    EXPECT_EQ(Events(), (Names{"1", "t1", "latest"}));
}

TEST_F(RunDirectory, NothingWrittenIsNoCommandAndLeavesTheNameFree) {
    EXPECT_EQ(Run("t1", ""), 0);
    EXPECT_EQ(Run("t1", " \n"), 0);
    EXPECT_EQ(Run("t1", "true"), 0);
    EXPECT_EQ(Events(), (Names{"1", "t1", "latest"}));
}

TEST_F(RunDirectory, ARefusedScriptLeavesTheNameFree) {
    EXPECT_EQ(Run("t1", std::string_view("a\0b", 3)), EINVAL);
    EXPECT_EQ(Run("t1", "true"), 0);
}

TEST_F(RunDirectory, ASecondCommandOnTheSameHandleIsEexist) {
    const auto file = me().Create("/box/run/t1", O_RDWR);
    EXPECT_EQ(file->Write("true"), 0);
    EXPECT_EQ(file->Read(), "1\n");
    EXPECT_EQ(file->Write("false"), EEXIST);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), (Names{"1", "t1", "latest"}));
}

TEST_F(RunDirectory, NamesFollowTheGrammar) {
    for (const char* name : {"a", "0a", "A.b_c-9", "latest2", "t.swp2", "1-2"})
        EXPECT_EQ(Run(name), 0) << name;
    for (const char* name : {"1", "007", "latest", "a~", ".a.swp", "a.swp", "_a", "a b", "a@b"})
        EXPECT_EQ(Run(name), EINVAL) << name;
    EXPECT_EQ(Run(std::string(64, 'a')), EINVAL);
}

TEST_F(RunDirectory, NothingIsListedOrFoundThere) {
    EXPECT_EQ(Run("t1"), 0);
    EXPECT_EQ(me().List("/box/run"), Names{});
    EXPECT_EQ(me().Look("/box/run/t1"), ENOENT);
    EXPECT_EQ(me().Mkdir("/box/run/t2"), EPERM);
    EXPECT_EQ(me().Mknod("/box/run/t2", 0100600), EPERM);
}

TEST_F(RunDirectory, TheFileCanBeChangedAsCpAndEditorsDo) {
    const auto file = me().Create("/box/run/t1", O_WRONLY);
    AttrChange change;
    change.mode = 0100755;
    change.mtime_now = true;
    change.size = 0;
    const auto set = me().Ask<AttrReply>("setattr", file->ino(), "", [&](AttrReply reply) {
        me().fs().SetAttr(file->ino(), change, file->opened().handle, me().who(), std::move(reply));
    });
    EXPECT_EQ(me().FinishCode(set), 0);
    EXPECT_EQ(file->Write("true"), 0);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), (Names{"1", "t1", "latest"}));
}

TEST_F(RunDirectory, AnAnswerThatNobodyTookGivesTheNameAndThePlaceBack) {
    const Ino run = me().InoOf("/box/run");
    const auto lost = me().Ask<CreateReply>(
        "create", run, "t1",
        [&](CreateReply reply) {
            me().fs().Create(run, "t1", 0600, OpenRequest{O_WRONLY, me().who()}, std::move(reply));
        },
        Delivery::kUndelivered);
    EXPECT_EQ(lost->Await().kind, "created");
    EXPECT_EQ(mount().context().handles.Count(), 0U);
    EXPECT_EQ(Run("t1"), 0);
}

TEST_F(RunDirectory, AShebangAndOddBytesArriveAsTheyAre) {
    const std::string script = "#!/usr/bin/env python3\nprint('\xff\x01')\n";
    EXPECT_EQ(Run("py", script), 0);
    Settle();
    EXPECT_EQ(supervisor().Request(1).script, script);
}

class CmdJson : public RunDirectory {
 protected:
    int Json(std::string_view text) { return me().Echo(text, "/box/cmd.json"); }
};

TEST_F(CmdJson, SaysAllThereIsToSay) {
    EXPECT_EQ(Json(R"({"cmd": "make -j4", "id": "build", "cwd": "/src", "env": {"A": "1"},
                       "timeout": 1.5, "parallel": true})"),
              0);
    Settle();
    const StartRequest& start = supervisor().Request(1);
    EXPECT_EQ(start.script, "make -j4");
    EXPECT_EQ(start.cwd, "/src");
    EXPECT_EQ(start.timeout_ms, 1500);
    EXPECT_TRUE(start.parallel);
    EXPECT_EQ(start.env.at("A"), "1");
    EXPECT_EQ(start.env.at("CI"), "1");
    EXPECT_EQ(me().ReadLink("/box/events/build"), "1");
}

TEST_F(CmdJson, WithoutParallelItIsOfTheSerialLane) {
    EXPECT_EQ(Json("{\"cmd\": \"a\"}"), 0);
    EXPECT_EQ(Json("{\"cmd\": \"b\", \"parallel\": false}"), 0);
    Settle();
    EXPECT_EQ(supervisor().starts(), std::vector<int>{1});
    EXPECT_FALSE(supervisor().Request(1).parallel);
    EXPECT_EQ(supervisor().Request(1).timeout_ms, 0);
}

TEST_F(CmdJson, WhatIsWrongIsHeardAtTheWriteWithTheMemberNamed) {
    const std::vector<std::pair<std::string, std::string>> table = {
        {"[]", "takes one JSON object"},
        {"\"make\"", "takes one JSON object"},
        {"{]", "that is not a JSON object"},
        {"make", "that is not a JSON object"},
        {"{\"cmd\": \"a\"} {\"cmd\": \"b\"}", "that is not a JSON object"},
        {"{}", "\"cmd\" must be there"},
        {"{\"cmd\": \" \"}", "\"cmd\" must be there"},
        {"{\"cmd\": 5}", "\"cmd\" must be there"},
        {"{\"cmd\": \"a\\u0000b\"}", "\"cmd\" must not contain NUL"},
        {"{\"cmd\": \"a\", \"timout\": 5}", "\"timout\" is not known; did you mean \"timeout\"?"},
        {"{\"cmd\": \"a\", \"zzzzzzz\": 5}", "\"zzzzzzz\" is not known;"},
        {"{\"cmd\": \"a\", \"id\": \"7\"}", "\"id\" must be a name"},
        {"{\"cmd\": \"a\", \"id\": 7}", "\"id\" must be a name"},
        {"{\"cmd\": \"a\", \"cwd\": \"src\"}", "\"cwd\" must be an absolute path"},
        {"{\"cmd\": \"a\", \"cwd\": \"/a\\u0000b\"}", "\"cwd\" must"},
        {"{\"cmd\": \"a\", \"timeout\": 0}", "\"timeout\" must be seconds above 0"},
        {"{\"cmd\": \"a\", \"timeout\": -1}", "\"timeout\" must be seconds above 0"},
        {"{\"cmd\": \"a\", \"timeout\": \"5\"}", "\"timeout\" must be seconds above 0"},
        {"{\"cmd\": \"a\", \"parallel\": 1}", "\"parallel\" must be true or false"},
        {"{\"cmd\": \"a\", \"env\": []}", "\"env\" must be an object of strings"},
        {"{\"cmd\": \"a\", \"env\": {\"A\": 1}}", "\"env\" must be an object of strings"},
        {"{\"cmd\": \"a\", \"env\": {\"A=B\": \"\"}}", "\"env\" holds a name"},
        {"{\"cmd\": \"a\", \"env\": {\"A\": \"\\u0000\"}}", "\"env\" holds a name"},
    };
    for (const auto& [text, sentence] : table) {
        EXPECT_EQ(Json(text), EINVAL) << text;
        EXPECT_NE(LastError().substr(0, LastError().find('\n')).find(sentence), std::string::npos)
            << text << "\n"
            << LastError();
    }
    EXPECT_EQ(Events(), Names{});
}

TEST_F(CmdJson, ADuplicateIdIsEexistAtTheWriteThatCompletesTheObject) {
    EXPECT_EQ(Json("{\"cmd\": \"a\", \"id\": \"t1\"}"), 0);
    const auto file = me().Open("/box/cmd.json", O_WRONLY);
    EXPECT_EQ(file->Write("{\"cmd\": \"a\", "), 0);
    EXPECT_EQ(file->Write("\"id\": \"t1\"}"), EEXIST);
    EXPECT_EQ(file->Close(), 0);
    EXPECT_EQ(Events(), (Names{"1", "t1", "latest"}));
}

TEST_F(CmdJson, CanBeWrittenInPiecesAtAnyByte) {
    const std::string text =
        "{\"cmd\": \"echo \xc3\xa4\", \"timeout\": 10.25, \"parallel\": true}\n";
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
        const auto file = me().Open("/box/cmd.json", O_WRONLY);
        EXPECT_EQ(file->Write(std::string_view(text).substr(0, cut)), 0) << cut;
        EXPECT_EQ(file->Write(std::string_view(text).substr(cut)), 0) << cut;
        EXPECT_EQ(file->Close(), 0) << cut;
    }
    EXPECT_EQ(Events().size(), text.size());  // and `latest`
}

TEST_F(CmdJson, HalfAnObjectAtCloseIsEinvalThereAndInLastError) {
    EXPECT_EQ(Json("{\"cmd\": \"make\""), EINVAL);
    EXPECT_NE(LastError().find("takes one JSON object"), std::string::npos);
    const auto file = me().Open("/box/cmd.json", O_WRONLY);
    EXPECT_EQ(file->Write("{\"cmd\": \"m"), 0);
    EXPECT_EQ(file->Release(), 0);
    EXPECT_NE(LastError().find("(2 times)"), std::string::npos) << LastError();
    EXPECT_EQ(Events(), Names{});
}

TEST_F(CmdJson, TheNumberIsReadBack) {
    const auto file = me().Open("/box/cmd.json", O_RDWR);
    EXPECT_EQ(file->Write("{\"cmd\": \"make\"}"), 0);
    EXPECT_EQ(file->Read(), "1\n");
    EXPECT_EQ(file->Write("{\"cmd\": \"make\"}"), 0);
    EXPECT_EQ(file->Read(), "2\n");
}

TEST_F(CmdJson, BlankIsNothing) {
    EXPECT_EQ(Json(" \n "), 0);
    EXPECT_EQ(Events(), Names{});
}

TEST_F(CmdJson, AnObjectOfAMebibyteNestedToItsEndIsRefusedAndTheDaemonLivesOn) {
    const std::size_t depth = 500'000;
    EXPECT_EQ(Json("{\"cmd\": \"a\", \"env\": " + std::string(depth, '[') +
                   std::string(depth, ']') + "}"),
              EINVAL);
    EXPECT_EQ(Json("{\"cmd\": \"a\", \"env\": " + std::string(depth, '[')), EINVAL);
    EXPECT_EQ(Json("{\"cmd\": \"a\"}"), 0);
}

TEST_F(CmdJson, AnObjectOfManyMembersIsReadInNoTime) {
    std::string env;
    for (int i = 0; env.size() < 900'000; ++i)
        env += (i == 0 ? "\"v" : ",\"v") + std::to_string(i) + "\":\"\"";
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Json("{\"cmd\": \"a\", \"env\": {" + env + "}, \"parallel\": true}"), 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
    Settle();
    EXPECT_GT(supervisor().Request(1).env.size(), 60'000U);
}

}  // namespace
}  // namespace sbxfs::testing
