// The disk of the state directory fails at each of the operations that a session makes on it, with ENOSPC and with EIO, once
// or from then on; the daemon goes on with a disk that is well again, or is killed and the next one has it. Each time: what
// was refused never ran and says why, what was accepted ran once and its result is what the machine returned, an outcome that
// was read never changes, what was removed stays away, and everything works again (contracts 1, 2 and 4).
//
// SBXFS_DISK_STRIDE=1 tries every operation; the tier tries each 7th, beginning with another one for each kind of fault.
#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>

#include "base/json.h"
#include "base/strings.h"
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Fault = FaultyDisk::Fault;
using Lasting = FaultyDisk::Lasting;

enum class Then { kGoesOn, kIsKilled };

struct Trial {
    Fault fault;
    Lasting lasting;
    Then then;
};

std::string Describe(const Trial& trial) {
    return std::string(trial.fault == Fault::kFull ? "full" : "broken") +
           (trial.lasting == Lasting::kOn ? " from " : " at ");
}

std::uint64_t Stride() {
    const char* said = std::getenv("SBXFS_DISK_STRIDE");
    return said == nullptr ? 7 : ParseNumber<std::uint64_t>(said).value_or(7);
}

// One session from an empty state directory to its last check.
class Session {
 public:
    explicit Session(const Trial& trial) : trial_(trial) {
        world_.machines.furnish = [](FakeMachine& machine) {
            machine.files().PutDir("/work");
            machine.supervisor().RunByItself(true);
        };
        Start();
        EXPECT_EQ(me_->Mkdir("/box"), 0);
        mount_->Settle();
        box_ = &mount_->Machine("box");
    }
    ~Session() {
        if (mount_ == nullptr) return;
        me_->ForgetAll();
        me_.reset();
        mount_->Unmount();
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // How many operations there were: the fault was seen when it is more than `at`.
    std::uint64_t Run(std::uint64_t at) {
        world_.disk.FailAt(at, trial_.fault, trial_.lasting);
        Work();
        const std::uint64_t operations = world_.disk.operations();
        if (trial_.then == Then::kGoesOn) {
            world_.disk.Heal();
        } else {
            me_->ForgetNothing();
            me_.reset();
            mount_->Kill();
            mount_.reset();
            Start();
        }
        mount_->Advance(std::chrono::seconds(5));
        Check();
        // With a disk that is well.
        Submit("/box/cmd", "one more");
        EXPECT_EQ(refused_.count("one more"), 0U);
        EXPECT_EQ(me_->Mkdir("/third"), 0);
        mount_->Advance(std::chrono::seconds(5));
        Check();
        return operations;
    }

 private:
    void Start() {
        mount_ = std::make_unique<TestMount>(world_, DefaultSetup());
        me_ = std::make_unique<Client>(*mount_);
        mount_->Settle();
    }

    void Work() {
        Submit("/box/cmd", "first");
        Submit("/box/cmd", std::string(100'000, '#'));  // read back from the journal to be started
        Submit("/box/run/named", "by name");
        Look();
        Expect(me_->Mkdir("/second"), "mkdir", [this] { there_.insert("second"); });
        Submit("/second/cmd", "over there", there_.contains("second"));
        Look();
        if (me_->Cat("/box/events/1/status") == "exited\n") {
            Expect(me_->Rmdir("/box/events/1"), "forget", [this] { forgotten_ = true; });
        }
        Expect(me_->Echo("user", "/box/config/user"), "config", [this] { user_set_ = true; });
        if (there_.contains("second")) {
            Expect(me_->Rmdir("/second"), "rmdir", [this] {
                there_.erase("second");
                gone_ = true;
            });
        }
        Submit("/box/cmd", "last");
        // What is tried again while the disk is what it is.
        mount_->Advance(std::chrono::seconds(3));
        Look();
    }

    // The call succeeded, or was refused for what the disk has, with a sentence. One who could not even say that it was not
    // made says so; nothing else is asked of that.
    template <class OnSuccess>
    void Expect(int code, const std::string& what, OnSuccess on_success) {
        mount_->Settle();
        if (code == 0) return on_success();
        EXPECT_EQ(code, trial_.fault == Fault::kFull ? ENOSPC : EIO) << what;
        const std::string why = me_->Cat("/.mount/last_error");
        EXPECT_NE(why, "") << what;
        if (why.find("not known whether") == std::string::npos) return;
        EXPECT_EQ(trial_.lasting, Lasting::kOn) << what;
        if (trial_.then == Then::kIsKilled) unknown_.insert(what);
    }

    void Submit(const std::string& path, const std::string& script, bool there = true) {
        if (!there) return;
        const int code = me_->Echo(script, path);
        Expect(code, script, [&] { accepted_.insert(script); });
        if (code != 0) refused_.insert(script);
    }

    // What a reader sees now must be seen for ever.
    void Look() {
        for (const auto& [n, script] : Scripts()) {
            const std::string outcome = Outcome(n);
            if (outcome.empty()) continue;
            const auto [known, is_new] = outcomes_.emplace(n, outcome);
            EXPECT_EQ(known->second, outcome) << "event " << n;
        }
    }

    // Of the events of box, by number.
    std::map<std::string, std::string> Scripts() {
        std::map<std::string, std::string> scripts;
        for (const std::string& name : me_->Events("/box")) {
            if (!ParseNumber<int>(name)) continue;
            const std::string script = me_->Cat("/box/events/" + name + "/cmd");
            // A full or broken disk may refuse to be read only where a test says so; ours never does.
            scripts[name] = script;
        }
        return scripts;
    }
    // Empty while there is none.
    std::string Outcome(const std::string& n) {
        const std::string at = "/box/events/" + n + "/";
        const std::string status = me_->Cat(at + "status");
        if (status == "queued\n" || status == "running\n") return "";
        return status + me_->Cat(at + "exit_code") + me_->Cat(at + "error") +
               me_->Cat(at + "result.json") + me_->Cat(at + "stdout");
    }

    void Check() {
        Look();
        const auto scripts = Scripts();
        std::map<std::string, int> runs;
        for (const int n : box_->supervisor().runs()) {
            EXPECT_EQ(box_->supervisor().TimesRun(n), 1) << "event " << n << " ran twice";
            const auto known = scripts.find(std::to_string(n));
            if (known != scripts.end()) {
                ++runs[known->second];
            } else {
                EXPECT_TRUE((forgotten_ || unknown_.contains("forget")) && n == 1)
                    << "event " << n << " ran, and is not there";
            }
        }
        std::map<std::string, int> listed;
        for (const auto& [n, script] : scripts) {
            ++listed[script];
            EXPECT_TRUE(accepted_.contains(script) || unknown_.contains(script))
                << "event " << n << " was not accepted: " << script.substr(0, 20);
            const std::string at = "/box/events/" + n + "/";
            const std::string status = me_->Cat(at + "status");
            if (status == "refused\n") {
                EXPECT_NE(me_->Cat(at + "error"), "");
                EXPECT_EQ(runs[script], 0);
                continue;
            }
            EXPECT_EQ(status, "exited\n") << "event " << n;
            EXPECT_EQ(me_->Cat(at + "exit_code"), "0\n") << "event " << n;
            EXPECT_EQ(runs[script], 1) << "event " << n;
            EXPECT_TRUE(me_->Cat(at + "stdout") == script) << "event " << n;
            EXPECT_FALSE(box_->supervisor().Knows(std::stoi(n)))
                << "event " << n << " is still in the spool";
        }
        for (const std::string& script : accepted_) {
            if (script == "over there") continue;
            if (script == "first" && unknown_.contains("forget")) continue;
            const bool forgotten = forgotten_ && script == "first";
            EXPECT_EQ(listed[script], forgotten ? 0 : 1) << script.substr(0, 20);
        }
        CheckLog(scripts);
        const std::vector<std::string> boxes = me_->List("/");
        const auto is_there = [&](const std::string& name) {
            return std::find(boxes.begin(), boxes.end(), name) != boxes.end();
        };
        EXPECT_TRUE(is_there("box"));
        if (!unknown_.contains("mkdir") && !unknown_.contains("rmdir")) {
            EXPECT_EQ(is_there("second"), there_.contains("second"));
        }
        EXPECT_EQ(world_.provider.Existing().size(), boxes.size() - 2) << "README.md and .mount";
        if (gone_) {
            EXPECT_EQ(me_->Cat("/.mount/history/second.2/status"), "stopped\n");
        }
        if (user_set_) {
            EXPECT_EQ(me_->Cat("/box/config/user"), "user\n");
        }
    }

    // Whole lines, one for each that has finished.
    void CheckLog(const std::map<std::string, std::string>& scripts) {
        const std::string log = me_->Cat("/box/events/log.jsonl");
        std::map<std::string, int> lines;
        EXPECT_TRUE(log.empty() || log.back() == '\n');
        for (const std::string& line : Split(log, '\n')) {
            if (line.empty()) continue;
            const auto json = Json::Parse(line);
            ASSERT_TRUE(json.has_value()) << line.substr(0, 200);
            ++lines[std::to_string(json->GetNumber("n").value_or(0))];
        }
        for (const auto& [n, count] : lines)
            EXPECT_EQ(count, 1) << "lines of event " << n;
        for (const auto& [n, script] : scripts)
            EXPECT_EQ(lines.count(n), 1U) << "event " << n << " in log.jsonl";
    }

    const Trial trial_;
    World world_;
    std::unique_ptr<TestMount> mount_;
    std::unique_ptr<Client> me_;
    FakeMachine* box_ = nullptr;
    std::set<std::string> accepted_;
    std::set<std::string> refused_;
    std::set<std::string> unknown_;  // of what was refused
    std::set<std::string> there_;
    std::map<std::string, std::string> outcomes_;
    bool forgotten_ = false;
    bool user_set_ = false;
    bool gone_ = false;
};

class StateDisk : public ::testing::TestWithParam<Trial> {};

TEST_P(StateDisk, FailsAtAnyOperationAndNothingIsLostDoubledOrInvented) {
    const Trial trial = GetParam();
    std::uint64_t tried = 0;
    const auto kind = static_cast<std::uint64_t>(trial.fault) * 4 +
                      static_cast<std::uint64_t>(trial.lasting) * 2 +
                      static_cast<std::uint64_t>(trial.then);
    for (std::uint64_t at = kind % Stride();; at += Stride()) {
        SCOPED_TRACE(Describe(trial) + "operation " + std::to_string(at));
        if (Session(trial).Run(at) <= at) break;
        ++tried;
        if (HasFailure()) break;
    }
    RecordProperty("operations", static_cast<int>(tried));
    EXPECT_GT(tried, 0U);
}

class StateDiskMount : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
    }
};

TEST_F(StateDiskMount, ARemovedSandboxIsSaidToBeGoneWhenThatCanBeKeptAgain) {
    provider().SetDestroys(FakeProvider::Answers::kHeld);
    EXPECT_EQ(me().Rmdir("/box"), 0);
    Settle();
    world_.disk.Fail(Fault::kFull);
    provider().FinishDestroy();
    Advance(std::chrono::seconds(2));
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopping\n");
    world_.disk.Heal();
    Advance(std::chrono::seconds(2));
    EXPECT_EQ(me().Cat("/.mount/history/box.1/status"), "stopped\n");
}

TEST_F(StateDiskMount, OutputOfWhichNobodyKnowsWhetherItIsOnTheDiskIsFetchedAgain) {
    for (int n = 1;; ++n) {
        SCOPED_TRACE(n);
        EXPECT_EQ(me().Echo("x", "/box/cmd"), 0);
        Settle();
        supervisor().Started(n);
        supervisor().Print(n, "all of it");
        supervisor().Print(n, "and more", OutputStream::kStderr);
        Settle();
        world_.disk.FailAt(static_cast<std::uint64_t>(n - 1), Fault::kBroken, Lasting::kOnce);
        supervisor().Exit(n);
        Settle();
        const bool over = world_.disk.operations() < static_cast<std::uint64_t>(n);
        world_.disk.Heal();
        Advance(std::chrono::seconds(3));
        const std::string at = "/box/events/" + std::to_string(n) + "/";
        EXPECT_EQ(me().Cat(at + "status"), "exited\n");
        EXPECT_EQ(me().Cat(at + "stdout") + me().Cat(at + "stderr"), "all of itand more");
        EXPECT_FALSE(supervisor().Knows(n)) << "it is kept there for ever";
        if (over || HasFailure()) return;
    }
}

// 16 MiB are the history of some 43,000 commands.
TEST_F(StateDiskMount, ALogOfMoreThan16MiBIsReadBackAndNotWrittenAnew) {
    Command([] {});
    const std::string log = world_.dir / "state/events/1/log.jsonl";
    const std::string first = me().Cat("/box/events/log.jsonl");
    Unmount();
    std::string lines;
    while (lines.size() < (17U << 20))
        lines += "{\"n\":2,\"reason\":\"" + std::string(1000, 'x') + "\"}\n";
    std::ofstream(log, std::ios::app) << lines << "{\"n\":3,\"torn";
    Start();
    EXPECT_EQ(me().Stat("/box/events/log.jsonl").size, first.size() + lines.size());
    EXPECT_EQ(me().Open("/box/events/log.jsonl", O_RDONLY)->ReadAt(0, first.size()), first);
}

INSTANTIATE_TEST_SUITE_P(Faults, StateDisk,
                         ::testing::Values(Trial{Fault::kFull, Lasting::kOnce, Then::kGoesOn},
                                           Trial{Fault::kFull, Lasting::kOn, Then::kGoesOn},
                                           Trial{Fault::kFull, Lasting::kOnce, Then::kIsKilled},
                                           Trial{Fault::kFull, Lasting::kOn, Then::kIsKilled},
                                           Trial{Fault::kBroken, Lasting::kOnce, Then::kGoesOn},
                                           Trial{Fault::kBroken, Lasting::kOn, Then::kGoesOn},
                                           Trial{Fault::kBroken, Lasting::kOnce, Then::kIsKilled},
                                           Trial{Fault::kBroken, Lasting::kOn, Then::kIsKilled}),
                         [](const auto& of) {
                             return std::string(of.param.fault == Fault::kFull ? "Full"
                                                                               : "Broken") +
                                    (of.param.lasting == Lasting::kOn ? "FromThenOn" : "Once") +
                                    (of.param.then == Then::kGoesOn ? "GoesOn" : "IsKilled");
                         });

}  // namespace
}  // namespace sbxfs::testing
