#include "tests/fakes/fake_provider.h"

#include <cerrno>

#include "base/check.h"

namespace sbxfs::testing {
namespace {

template <class T>
T TakeFirst(std::deque<T>& queue) {
    CHECK(!queue.empty());  // the test expected a call that did not come
    T first = std::move(queue.front());
    queue.pop_front();
    return first;
}

Error TryLater() {
    return {Errno{EAGAIN}, "the provider asks to slow down", Blame::kRemote};
}

}  // namespace

bool FakeProvider::Throttled() {
    if (throttled_ == 0) return false;
    --throttled_;
    return true;
}

Launched FakeProvider::Make(const LaunchSpec& spec) {
    if (!existing_.contains(spec.token)) {
        existing_[spec.token] = "id-of-" + spec.token;
        ++made_[spec.token];
    }
    Launched launched;
    launched.id = existing_[spec.token];
    launched.connect.address = UnixAddress{spec.token};  // FakeMachines finds the machine by it
    launched.connect.user = "user";
    launched.connect.host_key = spec.host_key.public_line;
    if (!owns_machine_) launched.connect.spool_dir = "/home/user/.sbxfs/" + spec.token;
    launched.facts = Json::Object();
    launched.facts.Set("zone", "a");
    return launched;
}

Health FakeProvider::HealthOf(const std::string& token) const {
    if (stopped_tokens_.contains(token)) return {Liveness::kEnded, "it was stopped"};
    if (existing_.contains(token)) return health_;
    return {Liveness::kVanished, "the provider knows nothing of it"};
}

Status FakeProvider::Check(const Template&) {
    return refusal_ ? Status(*refusal_) : Ok();
}

void FakeProvider::Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) {
    ++launch_calls_;
    if (Throttled()) {
        return loop_.Post([done = std::move(done)] { done(TryLater()); });
    }
    if (launches_ == Answers::kHeld) {
        held_launches_.push_back({spec, std::move(phase), std::move(done)});
        return;
    }
    loop_.Post([done = std::move(done), launched = Make(spec)] { done(launched); });
}

void FakeProvider::Probe(const std::string& token, const std::string&, HealthDone done) {
    ++probe_calls_;
    if (probes_ == Answers::kHeld) {
        held_probes_.push_back(std::move(done));
        return;
    }
    const Health health = Throttled() ? Health{Liveness::kUnknown, "slow down"} : HealthOf(token);
    loop_.Post([done = std::move(done), health] { done(health); });
}

void FakeProvider::Destroy(const std::string& token, const std::string&, Done done) {
    ++destroy_calls_;
    if (Throttled()) {
        return loop_.Post([done = std::move(done)] { done(TryLater()); });
    }
    if (destroys_ == Answers::kHeld) {
        held_destroys_.push_back({token, std::move(done)});
        return;
    }
    existing_.erase(token);
    loop_.Post([done = std::move(done)] { done(Ok()); });
}

void FakeProvider::Stop(const std::string& token, const std::string&, Done done) {
    held_stops_.push_back({token, std::move(done)});
    if (stops_ == Answers::kAtOnce) FinishStop(Throttled() ? Status(TryLater()) : Ok());
}

void FakeProvider::Start(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) {
    held_starts_.push_back({spec, std::move(phase), std::move(done)});
    if (starts_ == Answers::kAtOnce) FinishStart(Throttled() ? Status(TryLater()) : Ok());
}

void FakeProvider::Snapshot(const std::string&, SnapshotFacts facts, Done done) {
    held_snapshots_.push_back({std::move(facts), std::move(done)});
    if (snapshots_answers_ == Answers::kAtOnce) FinishSnapshot();
}

void FakeProvider::FinishSnapshot(const Status& status) {
    HeldSnapshot held = TakeFirst(held_snapshots_);
    held.facts.what.name = held.facts.name;
    held.facts.what.options["snapshot"] = held.facts.name;
    if (status) snapshots_.push_back(held.facts);
    loop_.Post([done = std::move(held.done), status] { done(status); });
}

void FakeProvider::RemoveSnapshot(const std::string& name, Done done) {
    const auto gone = std::erase_if(snapshots_, [&](const auto& one) { return one.name == name; });
    loop_.Post([done = std::move(done), gone] {
        done(gone != 0 ? Ok() : Status(Error(Errno{ENOENT}, "no such snapshot")));
    });
}

void FakeProvider::FinishStop(const Status& status) {
    HeldDestroy held = TakeFirst(held_stops_);
    if (status) stopped_tokens_.insert(held.token);
    loop_.Post([done = std::move(held.done), status] { done(status); });
}

void FakeProvider::FinishStart(const Status& status) {
    HeldLaunch held = TakeFirst(held_starts_);
    if (!status)
        return loop_.Post([done = std::move(held.done), why = status.error()] { done(why); });
    CHECK(existing_.contains(held.spec.token));  // only what was launched can be started
    stopped_tokens_.erase(held.spec.token);
    loop_.Post([done = std::move(held.done), launched = Make(held.spec)] { done(launched); });
}

void FakeProvider::SayPhase(std::string_view phase) {
    CHECK(!held_launches_.empty());
    held_launches_.front().phase(phase);
}

void FakeProvider::FinishLaunch() {
    HeldLaunch held = TakeFirst(held_launches_);
    loop_.Post([done = std::move(held.done), launched = Make(held.spec)] { done(launched); });
}

void FakeProvider::FailLaunch(const Error& why) {
    HeldLaunch held = TakeFirst(held_launches_);
    loop_.Post([done = std::move(held.done), why] { done(why); });
}

void FakeProvider::AnswerProbe(const Health& health) {
    loop_.Post([done = TakeFirst(held_probes_), health] { done(health); });
}

void FakeProvider::FinishDestroy(const Status& status) {
    HeldDestroy held = TakeFirst(held_destroys_);
    if (status) existing_.erase(held.token);
    loop_.Post([done = std::move(held.done), status] { done(status); });
}

void FakeProvider::DropHeld() {
    held_launches_.clear();
    held_probes_.clear();
    held_destroys_.clear();
    held_stops_.clear();
    held_snapshots_.clear();
    held_starts_.clear();
}

std::vector<std::string> FakeProvider::Existing() const {
    std::vector<std::string> tokens;
    for (const auto& [token, id] : existing_)
        tokens.push_back(token);
    return tokens;
}

int FakeProvider::TimesMade(const std::string& token) const {
    const auto it = made_.find(token);
    return it == made_.end() ? 0 : it->second;
}

}  // namespace sbxfs::testing
