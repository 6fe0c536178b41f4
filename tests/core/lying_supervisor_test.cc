// A supervisor that lies about commands, as far as its frames can be frames (tests/unit/supervisor_lies_test.cc tells the
// others): every message about every number in every state of a command. Whatever it says, events are those that were
// accepted, their files can be read and end, disk and memory are bounded, and the next honest command runs.
#include <cerrno>
#include <iostream>
#include <map>
#include <set>

#include "base/strings.h"
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

class LyingSupervisorTest : public MountTest {
 protected:
    // Everything it can say of command `n`.
    std::vector<std::pair<std::string, std::function<void(SupervisorListener&)>>> LiesAbout(
        EventNumber n) {
        std::vector<std::pair<std::string, std::function<void(SupervisorListener&)>>> lies;
        const std::vector<std::uint64_t> numbers = {0,
                                                    1,
                                                    7,
                                                    1U << 20,
                                                    std::uint64_t{1} << 32,
                                                    std::uint64_t{1} << 62,
                                                    std::uint64_t{1} << 63,
                                                    ~std::uint64_t{0} - 10};
        for (const bool done : {false, true}) {
            for (const std::uint64_t a : numbers)
                lies.emplace_back("Known", [=](SupervisorListener& to) {
                    to.OnKnown(n, done, {a, 5});
                });
        }
        lies.emplace_back("KnownEnd", [](SupervisorListener& to) { to.OnKnownEnd(); });
        for (const std::uint64_t a : numbers)
            lies.emplace_back("Started", [=](SupervisorListener& to) {
                to.OnStarted(n, static_cast<std::int64_t>(a >> 12));
            });
        for (const OutputStream stream : {OutputStream::kStdout, OutputStream::kStderr}) {
            for (const std::uint64_t a : numbers) {
                lies.emplace_back(
                    "Output", [=](SupervisorListener& to) { to.OnOutput(n, stream, a, "lies"); });
                lies.emplace_back("Output", [=](SupervisorListener& to) {
                    to.OnOutput(n, stream, a, a == 0 ? std::string(65536, 'l') : "");
                });
                for (const std::uint64_t b : numbers)
                    if (a + b >= a) {
                        lies.emplace_back(
                            "Hole", [=](SupervisorListener& to) { to.OnHole(n, stream, a, b); });
                    }
            }
        }
        for (const CommandOutcome outcome :
             {CommandOutcome::kExited, CommandOutcome::kSignaled, CommandOutcome::kTimedOut,
              CommandOutcome::kLost, CommandOutcome::kNotStarted}) {
            for (const int code : {0, 1, 9, 124, 255, 256, 4096}) {
                for (const std::uint64_t a : numbers) {
                    CommandEnd end;
                    end.outcome = outcome;
                    end.code = code;
                    end.sizes = {a, 3};
                    end.started_ms = static_cast<std::int64_t>(a >> 12);
                    end.finished_ms = 5;
                    end.duration_us = static_cast<std::int64_t>(a >> 1);
                    end.cwd = "../../..\n";
                    lies.emplace_back("Done", [=](SupervisorListener& to) { to.OnDone(n, end); });
                }
            }
        }
        for (const int code : {EEXIST, ESTALE, EINVAL, 4095})
            lies.emplace_back("Error", [=](SupervisorListener& to) {
                to.OnCommandError(n, Error(Errno{code}, "it says", Blame::kRemote));
            });
        return lies;
    }
    // Three commands: one that is done, one that runs, one that waits; what each has come to is `state` of number 2.
    void Prepare() {
        MakeBox();
        for (int i = 0; i < 3; ++i)
            ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
        Settle();
        supervisor().Run(1, "first\n");
        Settle();
        ASSERT_EQ(me().Cat("/box/events/1/status"), "exited\n");
        supervisor().Started(2);
        Settle();
    }
    void ExpectSane() {
        static const std::set<std::string> kStates = {
            "queued\n", "running\n", "exited\n", "timed_out\n", "killed\n", "lost\n", "refused\n"};
        std::vector<std::string> events = me().Events("/box");
        std::erase(events, "latest");
        EXPECT_EQ(events, (std::vector<std::string>{"1", "2", "3"}));
        for (const std::string& event : events) {
            const std::string at = "/box/events/" + event;
            EXPECT_TRUE(kStates.contains(me().Cat(at + "/status"))) << me().Cat(at + "/status");
            for (const char* file :
                 {"/exit_code", "/signal", "/report", "/result.json", "/error"}) {
                const std::string text = me().Cat(at + file);
                EXPECT_LE(text.size(), 64U << 10) << at << file;
                EXPECT_FALSE(text.starts_with("<E")) << at << file << text;
            }
            for (const char* file : {"/stdout", "/stderr"}) {
                const auto open = me().Open(at + file, 0);
                ASSERT_EQ(open->error(), 0);
                // Not to the end that is claimed: to where something is.
                EXPECT_FALSE(open->Read(65536).starts_with("<E"));
            }
        }
        // What was told of the first one, which was done, is what it was.
        EXPECT_EQ(me().Cat("/box/events/1/status"), "exited\n");
        EXPECT_EQ(me().Cat("/box/events/1/exit_code"), "0\n");
        EXPECT_EQ(me().Open("/box/events/1/stdout", 0)->Read(6), "first\n");
    }
    std::uint64_t BytesOnDisk() {
        std::uint64_t bytes = 0;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(world_.dir.path())) {
            struct stat stat {};
            if (::lstat(entry.path().c_str(), &stat) == 0)
                bytes += static_cast<std::uint64_t>(stat.st_blocks) * 512;
        }
        return bytes;
    }
};

TEST_F(LyingSupervisorTest, NothingItSaysOfAnyCommandBreaksTheOthersOrFillsTheDisk) {
    Prepare();
    std::size_t told = 0;
    const std::vector<EventNumber> numbers = {EventNumber{0}, EventNumber{1},  EventNumber{3},
                                              EventNumber{4}, EventNumber{99}, EventNumber{~0ULL},
                                              EventNumber{2}};
    for (const EventNumber n : numbers) {
        for (const auto& [what, tell] : LiesAbout(n)) {
            SCOPED_TRACE(what + " of " + ToString(n));
            if (!supervisor().connected()) Settle();
            ASSERT_TRUE(supervisor().connected());
            tell(supervisor().listener());
            ++told;
            if (told % 40 == 0) Settle();
        }
        Settle();
        ExpectSane();
        if (HasFailure()) return;
    }
    std::cout << told << " lies told\n";
    EXPECT_LE(BytesOnDisk(), 16U << 20);
    // What it says ends with it: another supervisor over an empty spool, and an honest command.
    machine().supervisor().NewSpool();
    machine().Cut();
    Advance(std::chrono::seconds(2));
    ASSERT_TRUE(supervisor().connected());
    ASSERT_EQ(me().Echo("y", "/box/cmd"), 0);
    Settle();
    // Its number is above what was claimed to be known there.
    const int n = supervisor().starts().back();
    ASSERT_GT(n, 3);
    ASSERT_TRUE(supervisor().Knows(n));
    supervisor().Run(n, "honest\n");
    Settle();
    const std::string at = "/box/events/" + std::to_string(n);
    EXPECT_EQ(me().Cat(at + "/stdout"), "honest\n");
    EXPECT_EQ(me().Cat(at + "/wait"), "exited 0\n");
}

// Each lie alone, about a command that runs: it ends, goes on and ends honestly, or waits for output that was promised
// and does not exist. That ends with the spool it was promised from.
TEST_F(LyingSupervisorTest, EachLieAboutARunningCommandLeavesAnOutcomeThatIsOne) {
    MakeBox();
    std::size_t told = 0;
    const std::size_t count = LiesAbout(EventNumber{1}).size();
    for (std::size_t which = 0; which < count; ++which) {
        const std::string at = "/box/run/r" + std::to_string(which);
        ASSERT_EQ(me().Echo("x", at), 0);
        Settle();
        const int n = static_cast<int>(which) + 1;
        ASSERT_TRUE(supervisor().Knows(n));
        supervisor().Started(n);
        const auto lies = LiesAbout(EventNumber{static_cast<std::uint64_t>(n)});
        SCOPED_TRACE(lies[which].first);
        lies[which].second(supervisor().listener());
        Settle();
        ++told;
        if (!supervisor().connected()) {
            Advance(std::chrono::seconds(2));
            ASSERT_TRUE(supervisor().connected());
        }
        if (supervisor().Knows(n)) supervisor().Exit(n);
        Settle();
        std::string status = me().Cat("/box/events/" + std::to_string(n) + "/status");
        if (status == "running\n" && lies[which].first == "Done") {
            supervisor().LoseRecord(n);
            machine().Cut();
            Advance(std::chrono::seconds(2));
            status = me().Cat("/box/events/" + std::to_string(n) + "/status");
        }
        EXPECT_TRUE(status == "exited\n" || status == "timed_out\n" || status == "killed\n" ||
                    status == "lost\n" || status == "refused\n")
            << status;
        if (HasFailure()) return;
    }
    std::cout << told << " lies told\n";
}

}  // namespace
}  // namespace sbxfs::testing
