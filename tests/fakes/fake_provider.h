// A cloud in the test's hands. Launch, Probe and Destroy are answered at once, or held until the test
// answers; what exists "there" is counted by token, so that a test can assert that nothing leaks and
// nothing is made twice. Outlives the daemon under test: a restarted one finds what there is.
//
// Loop thread (which is the test's) only.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/provider.h"
#include "sandbox/snapshotter.h"

namespace sbxfs::testing {

class FakeProvider final : public Provider, public Snapshotter {
 public:
    enum class Answers { kAtOnce, kHeld };

    explicit FakeProvider(Loop& loop) : loop_(loop) {}

    // --- the test's hand ---
    void SetLaunches(Answers answers) { launches_ = answers; }
    void SetProbes(Answers answers) { probes_ = answers; }
    void SetDestroys(Answers answers) { destroys_ = answers; }
    void SetStops(Answers answers) { stops_ = answers; }
    void SetStarts(Answers answers) { starts_ = answers; }
    // What Check() says of every template from now on.
    void RefuseAll(std::optional<Error> why) { refusal_ = std::move(why); }
    // It can copy sandboxes; copies are answered at once, or held. None can before.
    void SetSnapshots(Answers answers) {
        copies_files_ = true;
        snapshots_answers_ = answers;
    }
    // The next so many calls of any kind fail with EAGAIN.
    void Throttle(int calls) { throttled_ = calls; }
    // It has no memory of what it made: Probe says "vanished".
    void ForgetEverything() { existing_.clear(); }
    // Sandboxes live on a machine that stays, each with a spool in /home/user/.sbxfs.
    void SetOwnsMachine(bool owns) { owns_machine_ = owns; }
    // What Probe says of a token that exists.
    void SetHealth(Health health) { health_ = std::move(health); }

    // Held calls, oldest first. Finishing a launch makes the sandbox exist.
    std::size_t held_launches() const { return held_launches_.size(); }
    std::size_t held_probes() const { return held_probes_.size(); }
    std::size_t held_destroys() const { return held_destroys_.size(); }
    const LaunchSpec& held_launch() const { return held_launches_.front().spec; }
    void SayPhase(std::string_view phase);
    void FinishLaunch();
    void FailLaunch(const Error& why);
    void AnswerProbe(const Health& health);
    void FinishDestroy(const Status& status = Ok());
    std::size_t held_stops() const { return held_stops_.size(); }
    std::size_t held_starts() const { return held_starts_.size(); }
    const LaunchSpec& held_start() const { return held_starts_.front().spec; }
    void FinishStop(const Status& status = Ok());
    void FinishStart(const Status& status = Ok());
    std::size_t held_snapshots() const { return held_snapshots_.size(); }
    void FinishSnapshot(const Status& status = Ok());
    bool IsStopped(const std::string& token) const { return stopped_tokens_.contains(token); }
    // The process that asked is gone: held calls are never answered.
    void DropHeld();

    // --- what happened ---
    std::size_t launches() const { return launch_calls_; }
    std::size_t destroys() const { return destroy_calls_; }
    std::size_t probes() const { return probe_calls_; }
    // Tokens of what exists there now.
    std::vector<std::string> Existing() const;
    int TimesMade(const std::string& token) const;

    Status Check(const Template& what) override;
    void Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) override;
    void Probe(const std::string& token, const std::string& id, HealthDone done) override;
    void Destroy(const std::string& token, const std::string& id, Done done) override;
    // A stopped one exists, and is not alive.
    void Stop(const std::string& token, const std::string& id, Done done) override;
    void Start(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) override;
    void Snapshot(const std::string& id, SnapshotFacts facts, Done done) override;
    std::vector<SnapshotFacts> Snapshots() const override { return snapshots_; }
    void RemoveSnapshot(const std::string& name, Done done) override;
    Snapshotter* snapshotter() override { return this; }
    std::vector<std::string> Verbs() const override {
        std::vector<std::string> verbs;
        if (owns_machine_) verbs = {"stop", "start"};
        if (copies_files_) verbs.emplace_back("snapshot");
        return verbs;
    }
    bool Paid() const override { return true; }
    bool OwnsMachine() const override { return owns_machine_; }

 private:
    struct HeldLaunch {
        LaunchSpec spec;
        LaunchPhase phase;
        LaunchDone done;
    };
    struct HeldDestroy {
        std::string token;
        Done done;
    };
    bool Throttled();
    Launched Make(const LaunchSpec& spec);
    Health HealthOf(const std::string& token) const;

    Loop& loop_;
    Answers launches_ = Answers::kAtOnce;
    Answers probes_ = Answers::kAtOnce;
    Answers destroys_ = Answers::kAtOnce;
    Answers stops_ = Answers::kAtOnce;
    Answers starts_ = Answers::kAtOnce;
    std::optional<Error> refusal_;
    Health health_{Liveness::kAlive, ""};
    int throttled_ = 0;
    bool owns_machine_ = true;
    std::deque<HeldLaunch> held_launches_;
    std::deque<HealthDone> held_probes_;
    std::deque<HeldDestroy> held_destroys_;
    std::deque<HeldDestroy> held_stops_;
    std::deque<HeldLaunch> held_starts_;
    struct HeldSnapshot {
        SnapshotFacts facts;
        Done done;
    };
    std::deque<HeldSnapshot> held_snapshots_;
    std::vector<SnapshotFacts> snapshots_;
    bool copies_files_ = false;
    Answers snapshots_answers_ = Answers::kAtOnce;
    std::set<std::string> stopped_tokens_;
    std::map<std::string, std::string> existing_;  // token, id
    std::map<std::string, int> made_;
    std::size_t launch_calls_ = 0;
    std::size_t probe_calls_ = 0;
    std::size_t destroy_calls_ = 0;
};

}  // namespace sbxfs::testing
