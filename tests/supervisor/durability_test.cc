// At most once, whatever dies: repeated Starts, connections that were thought dead, attaches that
// race, a supervisor that is killed, and output that is read again by offset.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

using std::chrono::seconds;

const StartOptions kParallel = [] {
    StartOptions options;
    options.lane = Lane::kParallel;
    return options;
}();

pid_t SupervisorOf(const SpoolDir& spool) {
    const std::vector<pid_t> holders = HoldersOf(spool.Path() + "/lock");
    EXPECT_EQ(holders.size(), 1U);
    return holders.empty() ? -1 : holders[0];
}

TEST(AtMostOnce, ARepeatedStartIsReportedNotRun) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const std::string script = "echo x >> " + spool.Root() + "/ran";
    client.Start(1, script);
    client.Start(1, script);
    ASSERT_TRUE(client.AwaitDone(1));
    client.Start(1, script);
    ASSERT_TRUE(client.Await([&] { return client.heard[1].done >= 2; }));
    EXPECT_GE(client.heard[1].known, 1);
    EXPECT_EQ(ReadText(spool.Root() + "/ran"), "x\n");
    client.Forget(1);
    client.Start(1, script);
    ASSERT_TRUE(client.Await([&] { return !client.refusals.empty(); }));
    EXPECT_EQ(client.refusals[0].n, 1U);
    EXPECT_EQ(client.refusals[0].error, static_cast<std::uint32_t>(EEXIST));
    EXPECT_EQ(ReadText(spool.Root() + "/ran"), "x\n");
    EXPECT_TRUE(AwaitTrue(
        [&] { return client.Sync() && !std::filesystem::exists(spool.Path() + "/commands/1"); }));
}

TEST(AtMostOnce, ALowerEpochIsRefusedAlsoByTheNextSupervisor) {
    const SpoolDir spool;
    Client newer(spool.Path());
    ASSERT_TRUE(newer.Greet(7));
    Client older(spool.Path());
    ASSERT_TRUE(older.AwaitMagic());
    older.Send(Frame(Type::kHello, [](auto& w) { w.U32(1).U32(1).U64(6); }));
    older.TrySend(Frame(Type::kStart, [](auto& w) {
        PutStartFields(w, StartFields{});
        w.U32(0);
    }));
    ASSERT_TRUE(older.Await([&] { return !older.refusals.empty(); }));
    EXPECT_EQ(older.refusals[0].error, static_cast<std::uint32_t>(ESTALE));
    EXPECT_TRUE(older.AwaitClosed());
    EXPECT_EQ(older.AwaitExit(), 0);
    newer.Number(Type::kPing, 5);
    EXPECT_TRUE(newer.AwaitPong(5)) << "the newer one is not disturbed";
    kill(SupervisorOf(spool), SIGKILL);
    EXPECT_TRUE(newer.AwaitClosed());
    Client late(spool.Path());
    ASSERT_TRUE(late.AwaitMagic());
    late.Send(Frame(Type::kHello, [](auto& w) { w.U32(1).U32(1).U64(6); }));
    ASSERT_TRUE(late.Await([&] { return !late.refusals.empty(); }));
    EXPECT_EQ(late.refusals[0].error, static_cast<std::uint32_t>(ESTALE));
}

TEST(AtMostOnce, AHigherEpochTakesOverAndTheOldOnesFramesDoNothing) {
    const SpoolDir spool;
    Client first(spool.Path());
    ASSERT_TRUE(first.Greet(1));
    first.Start(1, "sleep 60");
    ASSERT_TRUE(first.AwaitStarted(1));
    Client second(spool.Path());
    ASSERT_TRUE(second.Greet(2));
    EXPECT_EQ(second.heard[1].known, 1);
    EXPECT_EQ(second.heard[1].state, State::kRunning);
    EXPECT_EQ(second.heard[1].started, 1);
    StartFields late;
    late.n = 2;
    const std::string script = "echo late > " + spool.Root() + "/late";
    late.script = AsText(script);
    late.lane = Lane::kParallel;
    first.TrySend(Frame(Type::kStart, [&](auto& w) {
        PutStartFields(w, late);
        w.U32(0);
    }));
    EXPECT_TRUE(first.AwaitClosed());
    EXPECT_EQ(first.AwaitExit(), 0) << "its attach ends with it";
    second.last_n = 2;
    EXPECT_EQ(second.Run("echo ok", kParallel).out[0], "ok\n");
    EXPECT_FALSE(std::filesystem::exists(spool.Root() + "/late"));
}

TEST(AtMostOnce, NoCommonProtocolIsASentence) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.AwaitMagic());
    client.Send(Frame(Type::kHello, [](auto& w) { w.U32(kProtocol + 1).U32(99).U64(1); }));
    ASSERT_TRUE(client.Await([&] { return !client.refusals.empty(); }));
    EXPECT_EQ(client.refusals[0].error, static_cast<std::uint32_t>(EPROTONOSUPPORT));
    EXPECT_NE(client.refusals[0].text.find("protocols 1 to 3"), std::string::npos);
    EXPECT_TRUE(client.AwaitClosed());
    Client next(spool.Path());
    EXPECT_TRUE(next.Greet(1));
}

TEST(Attach, ManyAtOnceEndWithOneSupervisor) {
    for (int round = 0; round < 5; ++round) {
        const SpoolDir spool;
        std::vector<std::unique_ptr<Client>> clients;
        for (int i = 0; i < 6; ++i)
            clients.push_back(std::make_unique<Client>(spool.Path()));
        for (auto& client : clients)
            EXPECT_TRUE(client->AwaitMagic());
        EXPECT_EQ(HoldersOf(spool.Path() + "/lock").size(), 1U);
        ASSERT_TRUE(AwaitTrue([&] {
            clients[0]->Send(Frame(Type::kHello, [&](auto& w) { w.U32(1).U32(1).U64(1); }));
            return clients[0]->Await([&] { return clients[0]->known_ends > 0; });
        }));
        EXPECT_EQ(clients[0]->Run("echo ok").out[0], "ok\n");
    }
}

TEST(Attach, ASpoolIsPrivateOrRefused) {
    const SpoolDir spool;
    std::filesystem::create_directory(spool.Path());
    chmod(spool.Path().c_str(), 0777);
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    struct stat stat {};
    ASSERT_EQ(::stat(spool.Path().c_str(), &stat), 0);
    EXPECT_EQ(stat.st_mode & 0777, 0700U);
    // A file, a link, someone else's.
    const std::string file = spool.Root() + "/file";
    fclose(fopen(file.c_str(), "we"));
    Client on_file(file);
    EXPECT_FALSE(on_file.AwaitMagic());
    EXPECT_EQ(on_file.AwaitExit(), 3);
    const std::string link = spool.Root() + "/link";
    std::filesystem::create_symlink(spool.Path(), link);
    Client on_link(link);
    EXPECT_FALSE(on_link.AwaitMagic());
    EXPECT_EQ(on_link.AwaitExit(), 3);
    if (geteuid() == 0) {
        const std::string foreign = spool.Root() + "/foreign";
        std::filesystem::create_directory(foreign);
        ASSERT_EQ(chown(foreign.c_str(), 65534, 65534), 0);
        Client on_foreign(foreign);
        EXPECT_FALSE(on_foreign.AwaitMagic());
        EXPECT_EQ(on_foreign.AwaitExit(), 3);
    }
    Client relative("not/absolute");
    EXPECT_EQ(relative.AwaitExit(), 2);
}

TEST(Attach, ALongPathIsNoProblem) {
    const SpoolDir spool;
    std::string deep = spool.Root();
    for (int i = 0; i < 8; ++i)
        deep += "/" + std::string(60, static_cast<char>('a' + i));
    Client client(deep);
    ASSERT_TRUE(client.Greet(1));
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n");
    EXPECT_TRUE(client.Shutdown(true));
    EXPECT_FALSE(std::filesystem::exists(deep));
}

TEST(Recovery, WhatRanWhenTheSupervisorWasKilledIsLostAndDead) {
    const SpoolDir spool;
    std::uint64_t id = 0;
    std::vector<pid_t> doomed;
    pid_t spared = 0;
    {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        id = client.hello.spool;
        EXPECT_EQ(client.Run("echo before; (exit 5)").end.fields.code, 5U);
        // A background child of a finished command is not ours to kill.
        client.Run("sleep 300 & echo $!");
        spared = std::stoi(client.heard[2].out[0]);
        // One of the shell itself, a subshell that never calls exec, and a daemon with a session of
        // its own.
        client.Start(
            3,
            "(while :; do sleep 300; done) & echo $!; setsid sh -c 'sleep 300 & echo $!; wait' & "
            "sleep 300");
        ASSERT_TRUE(client.Await([&] {
            const std::string& out = client.heard[3].out[0];
            return std::count(out.begin(), out.end(), '\n') == 2;
        }));
        client.Start(4, "sleep 300 & echo $!; sleep 300", kParallel);
        ASSERT_TRUE(client.AwaitOutput(4, 0, "\n"));
        client.Start(5, "echo never");  // waits behind 3
        client.Number(Type::kPing, 1);
        ASSERT_TRUE(client.AwaitPong(1));
        std::istringstream pids(client.heard[3].out[0] + client.heard[4].out[0]);
        for (pid_t pid = 0; pids >> pid;)
            doomed.push_back(pid);
        doomed.push_back(static_cast<pid_t>(client.heard[3].pid));
        ASSERT_EQ(doomed.size(), 4U);
        kill(SupervisorOf(spool), SIGKILL);
        EXPECT_TRUE(client.AwaitClosed());
        EXPECT_EQ(client.AwaitExit(), 0);
        // The shells do not outlive it, also when nobody attaches again.
        for (const std::uint64_t n : {3U, 4U}) {
            const auto shell = static_cast<pid_t>(client.heard[n].pid);
            EXPECT_TRUE(AwaitTrue([&] { return !IsAlive(shell); })) << n;
        }
    }
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(2));
    EXPECT_EQ(client.hello.spool, id);
    for (const pid_t pid : doomed)
        EXPECT_FALSE(IsAlive(pid)) << pid;
    EXPECT_TRUE(IsAlive(spared));
    kill(spared, SIGKILL);
    ASSERT_TRUE(client.AwaitDone(5));
    EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kExited);
    EXPECT_EQ(client.heard[1].end.fields.code, 5U);
    EXPECT_EQ(client.heard[1].known_size[0], 7U);
    EXPECT_EQ(client.heard[3].end.fields.outcome, Outcome::kLost);
    EXPECT_EQ(client.heard[4].end.fields.outcome, Outcome::kLost);
    EXPECT_EQ(client.heard[4].state, State::kDone);
    EXPECT_EQ(client.heard[5].end.fields.outcome, Outcome::kNotStarted) << "it never ran";
    client.Read(1, 2, 0);
    EXPECT_TRUE(client.AwaitOutput(1, 0, "fore\n"));
    client.Start(3, "echo again");
    client.last_n = 5;
    EXPECT_EQ(client.Run("echo ok").out[0], "ok\n");
    EXPECT_EQ(client.heard[3].out[0], "");
}

TEST(Recovery, CutAtAnyMomentACommandRunsAtMostOnce) {
    const SpoolDir spool;
    const std::string ran = spool.Root() + "/ran";
    std::uint64_t epoch = 0;
    std::uint64_t n = 0;
    for (int round = 0; round < 25; ++round) {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(++epoch));
        const pid_t supervisor = SupervisorOf(spool);
        ++n;
        const std::string script = "echo " + std::to_string(n) + " >> " + ran;
        client.Start(n, script, round % 2 == 0 ? StartOptions{} : kParallel);
        // Each round a little later; the pings give it work to be killed in.
        for (int i = 0; i < round; ++i)
            client.Number(Type::kPing, 1);
        if (round > 12) client.AwaitDone(n);
        kill(supervisor, SIGKILL);
        ASSERT_TRUE(AwaitTrue([&] { return !IsAlive(supervisor); }));
        Client again(spool.Path());
        ASSERT_TRUE(again.Greet(++epoch));
        again.Start(n, script);
        ASSERT_TRUE(again.AwaitDone(n));
        const std::string text = "\n" + ReadText(ran);
        const std::string line = "\n" + std::to_string(n) + "\n";
        const std::size_t first = text.find(line);
        EXPECT_TRUE(first == std::string::npos || text.find(line, first + 1) == std::string::npos)
            << "ran twice: " << text;
        if (again.heard[n].end.fields.outcome == Outcome::kExited) {
            EXPECT_NE(first, std::string::npos) << "an outcome for what did not run";
        }
        again.Forget(n);
        again.Sync();
    }
}

TEST(Recovery, ATermEndsCommandsAndWritesItDown) {
    const SpoolDir spool;
    pid_t sleeper = 0;
    {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        client.Start(1, "echo $$; sleep 300", kParallel);
        ASSERT_TRUE(client.AwaitOutput(1, 0, "\n"));
        sleeper = std::stoi(client.heard[1].out[0]);
        kill(SupervisorOf(spool), SIGTERM);
        ASSERT_TRUE(client.AwaitDone(1));
        EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kSignaled);
        EXPECT_TRUE(client.AwaitClosed());
    }
    EXPECT_FALSE(IsAlive(sleeper));
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(2));
    EXPECT_EQ(client.heard[1].end.fields.outcome, Outcome::kSignaled);
}

TEST(Output, GoesOnFromTheOffsetsAfterAReattach) {
    const SpoolDir spool;
    {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        client.Start(
            1, "printf 0123456789; printf err >&2; cat < " + spool.Root() + "/fifo; printf end",
            kParallel);
        ASSERT_TRUE(client.AwaitOutput(1, 1, "err"));
        ASSERT_TRUE(client.AwaitOutput(1, 0, "0123456789"));
        client.CloseChannel();
        EXPECT_EQ(client.AwaitExit(), 0);
    }
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(2));
    EXPECT_EQ(client.heard[1].known, 1);
    // There was no FIFO: cat failed, and the end has come or comes.
    ASSERT_TRUE(client.AwaitDone(1));
    EXPECT_EQ(client.heard[1].out[0], "") << "nothing is pushed before Read";
    client.Read(1, 4, 1);
    ASSERT_TRUE(client.AwaitOutput(1, 0, "456789end"));
    EXPECT_EQ(client.heard[1].out[0], "456789end");
    EXPECT_TRUE(client.heard[1].out[1].starts_with("rr"));
    client.Read(1, 1000, 0);
    ASSERT_TRUE(client.Await([&] { return !client.refusals.empty(); }));
    EXPECT_EQ(client.refusals[0].error, static_cast<std::uint32_t>(EINVAL));
    client.Read(99, 0, 0);
    ASSERT_TRUE(client.Await([&] { return client.refusals.size() == 2; }));
    EXPECT_EQ(client.refusals[1].error, static_cast<std::uint32_t>(ENOENT));
}

TEST(Output, AFloodDelaysNobodyAndTakesNoMoreThanTheCredit) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.keep_output = false;
    client.auto_credit = false;
    constexpr std::uint64_t kEach = 60U << 20;
    const std::string flood = "head -c " + std::to_string(kEach) + " /dev/zero & head -c " +
                              std::to_string(kEach) + " /dev/zero >&2 & wait";
    client.Start(1, flood, kParallel);
    ASSERT_TRUE(client.Await([&] { return client.received == kFirstCredit; }));
    // No credit is left, and still: a Start, its end, answers.
    client.Start(2, "true; exit 3", kParallel);
    ASSERT_TRUE(client.AwaitDone(2, seconds(2)));
    client.Start(3, "echo hidden");
    ASSERT_TRUE(client.AwaitDone(3, seconds(2)));
    EXPECT_EQ(client.heard[3].end.fields.stdout_size, 7U);
    EXPECT_EQ(client.heard[3].size_at_done[0], 0U) << "Done does not wait for credit";
    ASSERT_TRUE(client.AwaitDone(1, seconds(20))) << "the command is not stopped";
    EXPECT_EQ(client.received, kFirstCredit);
    client.auto_credit = true;
    client.Credit(kFirstCredit);
    ASSERT_TRUE(client.Await(
        [&] { return client.heard[1].next[0] == kEach && client.heard[1].next[1] == kEach; },
        seconds(30)));
    EXPECT_EQ(client.heard[1].end.fields.stdout_size, kEach);
    EXPECT_EQ(client.heard[1].end.fields.stderr_size, kEach);
    ASSERT_TRUE(client.Await([&] { return client.heard[3].next[0] == 7; }));
    // Both streams had their turns.
    const std::string& order = client.heard[1].order;
    EXPECT_NE(order.find("oe"), std::string::npos);
    EXPECT_EQ(order.find(std::string(40, 'o')), std::string::npos);
}

TEST(Output, AClientThatDoesNotReadBlocksNobodyElse) {
    const SpoolDir spool;
    Client deaf(spool.Path());
    ASSERT_TRUE(deaf.Greet(1));
    deaf.Start(1, "head -c 50000000 /dev/zero; exit 4", kParallel);
    deaf.Credit(1U << 30);
    // Never reads again. Its supervisor must go on.
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(2));
    ASSERT_TRUE(client.AwaitDone(1, seconds(20)));
    EXPECT_EQ(client.heard[1].end.fields.code, 4U);
    EXPECT_EQ(client.heard[1].end.fields.stdout_size, 50000000U);
}

TEST(Output, OfABackgroundChildIsPushedAfterTheEndAlsoOnceForgotten) {
    const SpoolDir spool;
    for (const Lane lane : {Lane::kSerial, Lane::kParallel}) {
        SpoolDir own;
        Client client(own.Path());
        ASSERT_TRUE(client.Greet(1));
        StartOptions options;
        options.lane = lane;
        const std::string fifo = own.Root() + "/fifo";
        client.Run("mkfifo " + fifo, options);
        client.Run("(cat " + fifo + "; cat " + fifo + "; echo last) & echo first", options);
        Heard& heard = client.heard[2];
        EXPECT_EQ(heard.end.fields.stdout_size, 6U) << "a background child does not delay the end";
        EXPECT_EQ(heard.out[0], "first\n");
        client.Run("echo later > " + fifo, options);
        ASSERT_TRUE(client.AwaitOutput(2, 0, "later\n"));
        client.Forget(2);
        ASSERT_TRUE(client.Sync());
        EXPECT_TRUE(std::filesystem::exists(own.Path() + "/commands/2"));
        client.Run("echo forgotten > " + fifo, options);
        ASSERT_TRUE(client.AwaitOutput(2, 0, "forgotten\nlast\n"));
        EXPECT_TRUE(AwaitTrue([&] {
            client.Sync();
            return !std::filesystem::exists(own.Path() + "/commands/2");
        })) << "removed with its last writer";
    }
}

TEST(Output, AboveTheLimitTheMiddleGoes) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    client.auto_credit = false;
    StartOptions options = kParallel;
    constexpr std::uint64_t kLimit = 4U << 20;
    constexpr std::uint64_t kSize = 40U << 20;
    options.output_limit = kLimit;
    // Numbered lines of 16 bytes, so that what is kept can be told from what is not.
    client.Start(1, "seq -f '%015.0f' 1 " + std::to_string(kSize / 16), options);
    ASSERT_TRUE(client.AwaitDone(1, seconds(20)));
    EXPECT_EQ(client.heard[1].end.fields.stdout_size, kSize);
    struct stat stat {};
    ASSERT_EQ(::stat((spool.Path() + "/commands/1/stdout").c_str(), &stat), 0);
    if (stat.st_blocks * 512 > static_cast<std::int64_t>(kSize) / 2) {
        GTEST_SKIP() << "this file system makes no holes";
    }
    EXPECT_LE(stat.st_blocks * 512, static_cast<std::int64_t>(kLimit + (1U << 20)));
    client.Read(1, 0, 0);
    client.auto_credit = true;
    client.Credit(64U << 20);
    ASSERT_TRUE(client.Await([&] { return client.heard[1].next[0] == kSize; }));
    const Heard& heard = client.heard[1];
    ASSERT_EQ(heard.holes.size(), 1U);
    const auto [stream, from, length] = heard.holes[0];
    EXPECT_EQ(from, 1U << 20);
    const std::string& text = heard.out[0];
    ASSERT_EQ(text.size() + length, kSize);
    EXPECT_GE(text.size(), kLimit);
    EXPECT_LE(text.size(), kLimit + (512U << 10));
    for (std::uint64_t at = 0; at < text.size(); at += 16) {
        const std::uint64_t offset = at < from ? at : at + length;
        ASSERT_EQ(std::stoull(text.substr(at, 15)), offset / 16 + 1) << at;
    }
}

// A finished command whose child prints once more when it is told to, and ends.
class LateChild {
 public:
    LateChild(Client& client, const SpoolDir& spool) : spool_(spool) {
        // What closes `over_` last has closed the output before.
        client.Run("rm -f " + go_ + " " + over_ + "; mkfifo " + go_ + " " + over_ + "; (cat " +
                   go_ + "; echo later; exec >&- 2>&-; echo x > " + over_ + ") & echo now");
        n_ = client.last_n;
    }
    std::uint64_t n() const { return n_; }
    void PrintAndEnd() const {
        std::ofstream(go_).put('x');
        EXPECT_EQ(ReadText(over_), "x\n");
    }
    bool IsRemoved(Client& client) const {
        return AwaitTrue([&] {
            client.Sync();
            return !std::filesystem::exists(spool_.Path() + "/commands/" + std::to_string(n_));
        });
    }

 private:
    const SpoolDir& spool_;
    const std::string go_ = spool_.Root() + "/go";
    const std::string over_ = spool_.Root() + "/over";
    std::uint64_t n_ = 0;
};

// The supervisor is busy while the child prints and ends: it hears of that, and that the command is forgotten, together.
TEST(Output, ThatAChildPrintedJustBeforeForgetIsStillTold) {
    const SpoolDir spool;
    Client client(spool.Path());
    ASSERT_TRUE(client.Greet(1));
    const pid_t supervisor = SupervisorOf(spool);
    for (int turn = 0; turn < 20; ++turn) {
        const LateChild child(client, spool);
        kill(supervisor, SIGSTOP);
        child.PrintAndEnd();
        client.Forget(child.n());
        kill(supervisor, SIGCONT);
        ASSERT_TRUE(client.AwaitOutput(child.n(), 0, "now\nxlater\n"))
            << turn << ": " << client.heard[child.n()].out[0];
        EXPECT_TRUE(child.IsRemoved(client));
    }
}

TEST(Output, ThatAChildPrintedWhileNobodyWasThereIsToldAfterwards) {
    const SpoolDir spool;
    std::optional<LateChild> child;
    {
        Client client(spool.Path());
        ASSERT_TRUE(client.Greet(1));
        child.emplace(client, spool);
        client.Forget(child->n());
        ASSERT_TRUE(client.Sync());
        client.CloseChannel();
        EXPECT_EQ(client.AwaitExit(), 0);
    }
    child->PrintAndEnd();
    Client again(spool.Path());
    ASSERT_TRUE(again.Greet(2));
    ASSERT_EQ(again.heard[child->n()].known, 1);
    again.Read(child->n(), 4, 0);
    ASSERT_TRUE(again.AwaitOutput(child->n(), 0, "xlater\n"));
    EXPECT_TRUE(child->IsRemoved(again));
}

}  // namespace
}  // namespace sbxfs::supervisor
