// What a sandbox shows of itself while its link comes and goes (contract 2 and 5).
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

class Link : public MountTest {
 protected:
    std::string Status() { return me().Cat("/box/status"); }
};

TEST_F(Link, IsReadyOnlyWhenTheFilesCanBeUsedAlsoIfTheSupervisorIsFaster) {
    MakeBox();
    files().PutFile("/work/a", "text");
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    machine().Cut();  // the attempt that follows at once, so that files refuse
    Advance(std::chrono::seconds(1));
    EXPECT_EQ(me().Look("/box/fs/work/a"), EHOSTUNREACH);
    machine().ConnectSupervisor();
    EXPECT_EQ(Status(), "unreachable\n");
    machine().ConnectFiles();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "text");
}

// The next daemon never started anything there: its first attach had told it of the supervisor before the files.
TEST_F(Link, ARestartedDaemonRunsCommandsAlsoIfTheSupervisorIsFaster) {
    MakeBox();
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    KillAndStart();
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    machine().ConnectSupervisor();
    Settle();
    EXPECT_EQ(supervisor().starts().size(), 1U);
    machine().ConnectFiles();
    EXPECT_EQ(Status(), "ready\n");
    EXPECT_EQ(me().Echo("true", "/box/run/second"), 0);
    Settle();
    EXPECT_EQ(supervisor().starts().size(), 2U);
}

TEST_F(Link, CommandsNeedNotWaitForTheFilesChannel) {
    MakeBox();
    machine().SetAttaches(FakeMachine::Answers::kHeld);
    machine().Cut();
    Settle();
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    machine().ConnectSupervisor();
    Settle();
    EXPECT_EQ(supervisor().starts().size(), 1U);
    machine().ConnectFiles();
}

}  // namespace
}  // namespace sbxfs::testing
