// The statuses of sandboxes and of commands (contract 2 and 4): every edge of the tables in sandbox/records.cc is
// walked here and seen through the files; an edge outside them fails, here and as a DCHECK everywhere.
#include <fcntl.h>

#include <set>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Answers = FakeProvider::Answers;
using Words = std::pair<std::string, std::string>;

template <class Edges>
std::set<Words> InWords(const Edges& edges) {
    std::set<Words> words;
    for (const auto& [from, to] : edges)
        words.emplace(ToString(from), ToString(to));
    return words;
}

// Edges that were seen, by what a status file said before and after.
class Walked {
 public:
    void See(const std::string& what, const std::string& text) {
        const std::string now = text.substr(0, text.find('\n'));
        const std::string before = std::exchange(last_[what], now);
        if (!before.empty() && before != now) seen_.emplace(before, now);
    }
    const std::set<Words>& seen() const { return seen_; }

 private:
    std::map<std::string, std::string> last_;
    std::set<Words> seen_;
};

class SandboxStates : public MountTest {
 protected:
    void SetUp() override {
        setup_.templates["default"].max_lifetime_s = 0;
        setup_.templates["default"].idle_timeout_s = 600;
        MountTest::SetUp();
        provider().SetDestroys(Answers::kHeld);
    }
    // Made and seen from its first moment on.
    void Begin(const std::string& name) {
        provider().SetLaunches(Answers::kHeld);
        name_ = name;
        ++generation_;
        ASSERT_EQ(me().Mkdir("/" + name), 0);
        See();
    }
    void BeginReady(const std::string& name) {
        Begin(name);
        provider().FinishLaunch();
        See();
    }
    void BeginUnreachable(const std::string& name) {
        BeginReady(name);
        machine(name_).SetAttaches(FakeMachine::Answers::kHeld);
        machine(name_).Cut();
        See();
    }
    void Expire() {
        Advance(std::chrono::minutes(10) - std::chrono::seconds(30));
        See();
    }
    void Verb(const std::string& verb) {
        EXPECT_EQ(me().Echo(verb + "\n", "/" + name_ + "/ctl"), 0);
        See();
    }
    // The second attempt fails too, and the provider is asked.
    void ProbeSays(Liveness liveness) {
        provider().SetHealth({liveness, "as the test has it"});
        machine(name_).Cut();
        See();
        provider().SetHealth({Liveness::kAlive, ""});
    }
    void Remove() {
        const std::string past =
            "/.mount/history/" + name_ + "." + std::to_string(generation_) + "/status";
        ASSERT_EQ(me().Rmdir("/" + name_), 0);
        walked_.See(name_, me().Cat(past));
        Settle();
        while (provider().held_destroys() > 0)
            provider().FinishDestroy();
        Settle();
        walked_.See(name_, me().Cat(past));
    }
    void See() {
        Settle();
        walked_.See(name_, me().Cat("/" + name_ + "/status"));
    }
    Walked walked_;
    std::string name_;
    int generation_ = 0;
};

TEST_F(SandboxStates, EveryEdgeIsWalkedAndThereAreNoOthers) {
    BeginReady("whole");
    Expire();
    EXPECT_EQ(me().Echo("3600\n", "/whole/ttl"), 0);
    See();
    Remove();

    Begin("refused");
    provider().FailLaunch(Error(Errno{EACCES}, "no such image"));
    See();
    Remove();

    Begin("given-up");
    Remove();
    provider().FailLaunch(Error(Errno{ECANCELED}, "it was destroyed meanwhile"));

    Begin("late");
    world_.machines.furnish = [](FakeMachine& machine) {
        machine.files().PutDir("/work");
        machine.SetAttaches(FakeMachine::Answers::kHeld);
    };
    provider().FinishLaunch();
    See();
    ProbeSays(Liveness::kExpired);
    Remove();
    world_.machines.furnish = [](FakeMachine& machine) { machine.files().PutDir("/work"); };

    BeginUnreachable("back");
    machine("back").Connect();
    See();
    Remove();

    BeginUnreachable("dead");
    ProbeSays(Liveness::kEnded);
    Remove();

    BeginUnreachable("expired");
    ProbeSays(Liveness::kExpired);
    Remove();

    BeginUnreachable("lost");
    provider().ForgetEverything();
    machine(name_).Cut();
    See();
    EXPECT_NE(me().Cat("/lost/error").find("knows nothing of it"), std::string::npos);
    Remove();

    Begin("lost-early");
    world_.machines.furnish = [](FakeMachine& machine) {
        machine.files().PutDir("/work");
        machine.SetAttaches(FakeMachine::Answers::kHeld);
    };
    provider().FinishLaunch();
    See();
    ProbeSays(Liveness::kVanished);
    Remove();
    world_.machines.furnish = [](FakeMachine& machine) { machine.files().PutDir("/work"); };

    BeginUnreachable("removed");
    Remove();

    BeginReady("cut");
    Expire();
    machine("cut").SetAttaches(FakeMachine::Answers::kHeld);
    machine("cut").Cut();
    See();
    Remove();

    BeginReady("at-its-end");
    Expire();
    Remove();

    BeginReady("short");
    Remove();

    provider().SetStops(Answers::kHeld);
    provider().SetStarts(Answers::kHeld);
    BeginReady("stopped");
    Verb("stop");
    provider().FinishStop();
    See();
    Verb("start");
    provider().FinishStart(Error(Errno{ENOSPC}, "the disk is full"));
    See();
    Remove();

    EXPECT_EQ(walked_.seen(), InWords(SandboxEdges()));
}

class EventStates : public MountTest {
 protected:
    // A command that waits for what the test makes of it, started there and not yet told of.
    std::string Begin() {
        const std::string box = "b" + std::to_string(++boxes_);
        MakeBox(box);
        EXPECT_EQ(me().Echo("true", "/" + box + "/cmd"), 0);
        See(box);
        return box;
    }
    std::string BeginRunning() {
        std::string box = Begin();
        supervisor(box).Started(1);
        See(box);
        return box;
    }
    void End(const std::string& box, CommandOutcome outcome, int code) {
        CommandEnd end;
        end.outcome = outcome;
        end.code = code;
        supervisor(box).End(1, end);
        See(box);
    }
    void See(const std::string& box) {
        Settle();
        walked_.See(box, me().Cat("/" + box + "/events/1/status"));
    }
    Walked walked_;
    int boxes_ = 0;
};

TEST_F(EventStates, EveryEdgeIsWalkedAndThereAreNoOthers) {
    for (const auto& [outcome, code] :
         std::vector<std::pair<CommandOutcome, int>>{{CommandOutcome::kExited, 3},
                                                     {CommandOutcome::kSignaled, 9},
                                                     {CommandOutcome::kTimedOut, 124},
                                                     {CommandOutcome::kLost, 0}}) {
        End(Begin(), outcome, code);
        End(BeginRunning(), outcome, code);
    }
    End(Begin(), CommandOutcome::kNotStarted, ENOENT);

    const std::string taken_over = Begin();
    KillAndStart();
    See(taken_over);
    End(taken_over, CommandOutcome::kNotStarted, ECANCELED);

    const std::string perhaps = Begin();
    supervisor(perhaps).NewSpool();
    KillAndStart();
    See(perhaps);

    EXPECT_EQ(walked_.seen(), InWords(EventEdges()));
}

}  // namespace
}  // namespace sbxfs::testing
