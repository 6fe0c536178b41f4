// The program for the other machine, under qemu's user emulation: the same conversation. The shells it starts are
// native ones, since execve is the host kernel's. Skipped where there is no qemu.

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

AttachOptions Emulated() {
#if defined(__aarch64__)
    const std::string emulator = "/usr/bin/qemu-x86_64";
    const std::string program = SBXFS_SUPERVISOR_DIR "/sbxfs-supervisor-amd64";
#else
    const std::string emulator = "/usr/bin/qemu-aarch64";
    const std::string program = SBXFS_SUPERVISOR_DIR "/sbxfs-supervisor-arm64";
#endif
    AttachOptions options;
    options.prefix = {emulator};
    options.program = program;
    return options;
}

class OtherMachine : public testing::Test {
 protected:
    void SetUp() override {
        if (access(Emulated().prefix[0].c_str(), X_OK) != 0) {
            GTEST_SKIP() << "no " << Emulated().prefix[0] << ": apt-get install qemu-user";
        }
    }
};

TEST_F(OtherMachine, RunsCommandsInBothLanes) {
    const SpoolDir spool;
    Client client(spool.Path(), Emulated());
    ASSERT_TRUE(client.Greet(1));
    EXPECT_NE(AsString(client.hello.machine), "");
    EXPECT_EQ(client.Run("true").end.fields.code, 0U);
    const Heard& serial = client.Run("echo out; echo err >&2; cd /usr; x=1; (exit 7)");
    EXPECT_EQ(serial.out[0], "out\n");
    EXPECT_EQ(serial.out[1], "err\n");
    EXPECT_EQ(serial.end.fields.code, 7U);
    EXPECT_EQ(serial.end.cwd, "/usr");
    EXPECT_EQ(client.Run("pwd; echo $x; exit 3").out[0], "/usr\n1\n");
    EXPECT_EQ(client.Run("pwd; echo \"[$x]\"").out[0], "/usr\n[]\n");
    StartOptions parallel;
    parallel.lane = Lane::kParallel;
    const Heard& lane = client.Run("echo hi; exit 9", parallel);
    EXPECT_EQ(lane.out[0], "hi\n");
    EXPECT_EQ(lane.end.fields.code, 9U);
    EXPECT_EQ(client.Run("kill -9 $$", parallel).end.fields.outcome, Outcome::kSignaled);
    parallel.timeout_ms = 300;
    EXPECT_EQ(client.Run("setsid sleep 300 & sleep 300", parallel).end.fields.outcome,
              Outcome::kTimedOut);
    client.keep_output = false;
    parallel.timeout_ms = 0;
    const Heard& flood = client.Run("head -c 20000000 /dev/zero", parallel);
    EXPECT_EQ(flood.end.fields.stdout_size, 20000000U);
    EXPECT_TRUE(client.Await([&] { return client.heard[client.last_n].next[0] == 20000000U; }));
    const Heard& missing = client.Run("#!/no/such/interpreter\n", parallel);
    EXPECT_EQ(missing.end.fields.outcome, Outcome::kNotStarted);
    EXPECT_TRUE(client.Shutdown(true));
}

TEST_F(OtherMachine, RecoversFromItsDeath) {
    const SpoolDir spool;
    {
        Client client(spool.Path(), Emulated());
        ASSERT_TRUE(client.Greet(1));
        client.Run("echo kept; (exit 5)");
        client.Start(2, "sleep 300 & echo $!; sleep 300");
        ASSERT_TRUE(client.AwaitOutput(2, 0, "\n"));
        for (const pid_t pid : HoldersOf(spool.Path() + "/lock"))
            kill(pid, SIGKILL);
        EXPECT_TRUE(client.AwaitClosed());
        const pid_t sleeper = std::stoi(client.heard[2].out[0]);
        Client again(spool.Path(), Emulated());
        ASSERT_TRUE(again.Greet(2));
        EXPECT_EQ(again.heard[1].end.fields.code, 5U);
        EXPECT_EQ(again.heard[2].end.fields.outcome, Outcome::kLost);
        EXPECT_FALSE(IsAlive(sleeper));
    }
}

}  // namespace
}  // namespace sbxfs::supervisor
