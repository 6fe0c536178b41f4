#include "tests/fakes/fake_supervisor.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"

namespace sbxfs::testing {
namespace {

int Plain(EventNumber n) {
    return static_cast<int>(Raw(n));
}

Error NotOffered() {
    return {Errno{EOPNOTSUPP}, "the fake supervisor does not do that", Blame::kRemote};
}

}  // namespace

// One link's end. What it is asked arrives by the loop, as over a wire.
class FakeSupervisor::Port final : public SupervisorPort,
                                   public std::enable_shared_from_this<Port> {
 public:
    explicit Port(FakeSupervisor& supervisor) : supervisor_(supervisor) {}

    void Start(const StartRequest& request) override {
        Send([request](FakeSupervisor& to) { to.HandleStart(request); });
    }
    void Read(EventNumber n, OutputSizes from) override {
        Send([n, from](FakeSupervisor& to) {
            to.reads_.emplace_back(Plain(n), from);
            const auto it = to.spool_.find(n);
            if (it == to.spool_.end()) return;
            it->second.pushing = true;
            it->second.pushed = from;
            to.Push(n, it->second);
        });
    }
    void Credit(std::uint32_t bytes) override {
        Send([bytes](FakeSupervisor& to) { to.credit_ += bytes; });
    }
    void Signal(EventNumber n, int signal) override {
        Send([n, signal](FakeSupervisor& to) { to.signals_.emplace_back(Plain(n), signal); });
    }
    void Forget(EventNumber n) override {
        Send([n](FakeSupervisor& to) {
            to.forgets_.push_back(Plain(n));
            to.spool_.erase(n);
            to.forgotten_.insert(n);
        });
    }
    void Use() override {
        Send([](FakeSupervisor& to) { ++to.uses_; });
    }
    void StatBatch(const std::vector<std::string>& paths,
                   UniqueFunction<void(Result<std::vector<IdentityStat>>)> done) override {
        Ask<std::vector<IdentityStat>>(
            [paths](FakeSupervisor& to) -> Result<std::vector<IdentityStat>> {
                to.looks_.push_back(paths);
                if (!to.look) return NotOffered();
                std::vector<IdentityStat> stats;
                for (const std::string& path : paths)
                    stats.push_back(to.look(path));
                return stats;
            },
            std::move(done));
    }
    void Fetch(const std::vector<std::string>& paths, std::uint32_t most,
               UniqueFunction<void(Result<std::vector<FetchedFile>>)> done) override {
        CHECK(supervisor_.port_.get() == this);  // used after the link it belonged to was gone
        if (supervisor_.holds_fetches) {
            waiting_.push_back([done = std::move(done)] {
                done(Error(Errno{EHOSTUNREACH}, "link lost", Blame::kRemote));
            });
            return;
        }
        Ask<std::vector<FetchedFile>>(
            [paths, most](FakeSupervisor& to) -> Result<std::vector<FetchedFile>> {
                to.fetches_.push_back(paths);
                if (!to.look) return NotOffered();
                std::vector<FetchedFile> files;
                for (const std::string& path : paths) {
                    FetchedFile file{to.look(path), std::nullopt};
                    const bool wanted = file.identity.error == 0 && S_ISREG(file.identity.mode) &&
                                        file.identity.size > 0 && file.identity.size <= most;
                    if (wanted && to.read) file.bytes = to.read(path);
                    files.push_back(std::move(file));
                }
                return files;
            },
            std::move(done));
    }
    void Store(const StoreRequest& request,
               UniqueFunction<void(Result<StoredFile>)> done) override {
        CHECK(supervisor_.hello.stores);  // an older one would end the connection
        const auto end = Once<StoredFile>(std::move(done));
        Send([request, end](FakeSupervisor& to) {
            to.stores_.push_back(request);
            if (!to.store) return end(NotOffered());
            to.held_stores_.push_back({request, [end](StoredFile file) { end(std::move(file)); }});
            if (!to.holds_stores_) to.ReleaseStore(to.held_stores_.size() - 1);
        });
    }
    void Rename(const RenameRequest& request, UniqueFunction<void(Result<int>)> done) override {
        CHECK(supervisor_.hello.stores);
        const auto end = Once<int>(std::move(done));
        Send([request, end](FakeSupervisor& to) {
            to.renames_.push_back(request);
            if (!to.rename) return end(NotOffered());
            to.held_renames_.push_back({request, [end](int error) { end(error); }});
            if (!to.holds_renames_) to.ReleaseRename();
        });
    }
    void Processes(UniqueFunction<void(Result<std::vector<RemoteProcess>>)> done) override {
        Ask<std::vector<RemoteProcess>>(
            [](FakeSupervisor& to) -> Result<std::vector<RemoteProcess>> { return to.others; },
            std::move(done));
    }
    void Environment(UniqueFunction<void(Result<std::vector<std::string>>)> done) override {
        Send([done = std::move(done)](FakeSupervisor&) { done(NotOffered()); });
    }
    void SetTimer(std::int64_t lifetime_ms, std::int64_t idle_ms, ExpiryAction,
                  UniqueFunction<void(Result<TimerState>)> done) override {
        supervisor_.timers_.push_back(std::move(done));
        Send([=](FakeSupervisor& to) {
            to.timer_ = {lifetime_ms, idle_ms};
            ++to.timers_set_;
            if (!to.timers_held_) to.AnswerTimers();
        });
    }
    void Ping(Done done) override {
        Send([done = std::move(done)](FakeSupervisor&) { done(Ok()); });
    }
    void Shutdown(bool clear_spool, Done done) override {
        Send([clear_spool, done = std::move(done)](FakeSupervisor& to) {
            if (clear_spool) ++to.shutdowns_;
            done(Ok());
        });
    }

    // The link ends: whoever waits for an answer hears of it.
    void FailAll() {
        for (const Job& fail : std::exchange(waiting_, {}))
            fail();
    }

 private:
    // Calls `done` once: with the answer, or when the link ends.
    template <class T>
    std::function<void(Result<T>)> Once(UniqueFunction<void(Result<T>)> done) {
        const auto shared = std::make_shared<UniqueFunction<void(Result<T>)>>(std::move(done));
        const std::function<void(Result<T>)> end = [shared](Result<T> result) {
            if (*shared) std::exchange(*shared, {})(std::move(result));
        };
        waiting_.push_back([end] { end(Error(Errno{EHOSTUNREACH}, "link lost", Blame::kRemote)); });
        return end;
    }
    // A question that is answered, or fails with the link.
    template <class T>
    void Ask(UniqueFunction<Result<T>(FakeSupervisor&)> answer,
             UniqueFunction<void(Result<T>)> done) {
        const auto end = Once<T>(std::move(done));
        Send([answer = std::move(answer), end](FakeSupervisor& to) { end(answer(to)); });
    }
    void Send(UniqueFunction<void(FakeSupervisor&)> frame) {
        CHECK(supervisor_.port_.get() == this);  // used after the link it belonged to was gone
        supervisor_.loop_.Post([weak = weak_from_this(), frame = std::move(frame)] {
            const auto self = weak.lock();
            if (self != nullptr) frame(self->supervisor_);
        });
    }
    FakeSupervisor& supervisor_;
    std::vector<Job> waiting_;
};

SupervisorPort& FakeSupervisor::Connect(SupervisorListener& listener) {
    listener_ = &listener;
    port_ = std::make_shared<Port>(*this);
    for (auto& [n, command] : spool_) {
        command.pushing = false;
        command.done_told = false;
    }
    return *port_;
}

void FakeSupervisor::Speak() {
    for (auto& [n, command] : spool_) {
        listener_->OnKnown(n, command.end.has_value(), {command.out.size(), command.err.size()});
        Tell(n, command);
    }
    listener_->OnKnownEnd();
}

void FakeSupervisor::AnswerTimers() {
    timers_held_ = false;
    for (const TimerDone& done : std::exchange(timers_, {}))
        done(TimerState{timer_->first, idle_left_ms.value_or(timer_->second)});
}

std::vector<std::string> FakeSupervisor::HeldStores() const {
    std::vector<std::string> paths;
    for (const HeldStore& held : held_stores_)
        paths.push_back(held.request.path);
    return paths;
}

FakeSupervisor::HeldStore FakeSupervisor::TakeStore(std::size_t index) {
    CHECK(index < held_stores_.size());  // that store did not come: see HeldStores()
    const auto at = held_stores_.begin() + static_cast<std::ptrdiff_t>(index);
    HeldStore taken = std::move(*at);
    held_stores_.erase(at);
    return taken;
}

void FakeSupervisor::ReleaseStore(std::size_t index) {
    const HeldStore taken = TakeStore(index);
    taken.answer(store(taken.request));
}

void FakeSupervisor::LoseStoreAnswer(std::size_t index) {
    (void)store(TakeStore(index).request);
}

FakeSupervisor::HeldRename FakeSupervisor::TakeRename() {
    CHECK(!held_renames_.empty());
    HeldRename taken = std::move(held_renames_.front());
    held_renames_.erase(held_renames_.begin());
    return taken;
}

void FakeSupervisor::ReleaseRename() {
    const HeldRename taken = TakeRename();
    taken.answer(rename(taken.request));
}

void FakeSupervisor::LoseRenameAnswer() {
    (void)rename(TakeRename().request);
}

void FakeSupervisor::Disconnect() {
    held_stores_.clear();
    held_renames_.clear();
    listener_ = nullptr;
    if (const auto port = std::exchange(port_, nullptr)) port->FailAll();
    for (const TimerDone& done : std::exchange(timers_, {}))
        done(Error(Errno{EHOSTUNREACH}, "link cut", Blame::kRemote));
}

SupervisorListener& FakeSupervisor::listener() {
    CHECK(listener_ != nullptr);  // not connected
    return *listener_;
}

FakeSupervisor::Command& FakeSupervisor::Find(int n) {
    const auto it = spool_.find(Number(n));
    CHECK(it != spool_.end());  // that command was never started: see starts()
    return it->second;
}

void FakeSupervisor::HandleStart(const StartRequest& request) {
    starts_.push_back(Plain(request.n));
    const auto known = spool_.find(request.n);
    if (known != spool_.end()) return Tell(request.n, known->second);
    if (forgotten_.contains(request.n)) {
        return listener_->OnCommandError(
            request.n, Error(Errno{EEXIST}, "it ran and was forgotten", Blame::kRemote));
    }
    runs_.push_back(Plain(request.n));
    Command& command = spool_[request.n];
    command.request = request;
    command.pushing = true;
    if (by_itself_) Run(Plain(request.n), request.script);
}

// How far it has come: Started, or Done.
void FakeSupervisor::Tell(EventNumber n, Command& command) {
    if (command.end) {
        command.done_told = true;
        return listener_->OnDone(n, *command.end);
    }
    if (command.started_ms) listener_->OnStarted(n, *command.started_ms);
}

void FakeSupervisor::Push(EventNumber n, Command& command) {
    if (listener_ == nullptr || !command.pushing) return;
    constexpr std::size_t kChunk = 64 << 10;
    const auto push = [&](OutputStream stream, const std::string& all, std::uint64_t& pushed) {
        while (pushed < all.size()) {
            const std::string part = all.substr(pushed, kChunk);
            const std::uint64_t at = pushed;
            pushed += part.size();
            listener_->OnOutput(n, stream, at, part);
        }
    };
    push(OutputStream::kStdout, command.out, command.pushed.out);
    push(OutputStream::kStderr, command.err, command.pushed.err);
}

void FakeSupervisor::Started(int n, std::int64_t at_ms) {
    Command& command = Find(n);
    command.started_ms = at_ms;
    if (listener_ != nullptr) Tell(Number(n), command);
}

void FakeSupervisor::Print(int n, std::string_view bytes, OutputStream stream) {
    Command& command = Find(n);
    (stream == OutputStream::kStdout ? command.out : command.err) += bytes;
    Push(Number(n), command);
}

void FakeSupervisor::End(int n, CommandEnd end) {
    Command& command = Find(n);
    end.sizes = {command.out.size(), command.err.size()};
    end.others = static_cast<std::uint32_t>(others.size());
    command.end = std::move(end);
    if (listener_ != nullptr) Tell(Number(n), command);
}

void FakeSupervisor::Exit(int n, int code) {
    CommandEnd end;
    end.code = code;
    end.started_ms = Find(n).started_ms.value_or(1000);
    end.finished_ms = end.started_ms + 5;
    end.duration_us = 5000;
    End(n, end);
}

void FakeSupervisor::Run(int n, std::string_view out, int code) {
    Started(n);
    if (!out.empty()) Print(n, out);
    Exit(n, code);
}

void FakeSupervisor::NewSpool() {
    spool_.clear();
    forgotten_.clear();
    ++hello.spool_id;
}

void FakeSupervisor::Reboot() {
    ++hello.boot_id;
    for (auto& [n, command] : spool_) {
        if (command.end) continue;
        CommandEnd end;
        end.outcome = CommandOutcome::kLost;
        end.reason = "the machine was restarted";
        end.sizes = {command.out.size(), command.err.size()};
        end.others = static_cast<std::uint32_t>(others.size());
        command.end = end;
    }
}

int FakeSupervisor::TimesRun(int n) const {
    return static_cast<int>(std::count(runs_.begin(), runs_.end(), n));
}

bool FakeSupervisor::Knows(int n) const {
    return spool_.contains(Number(n));
}

const StartRequest& FakeSupervisor::Request(int n) const {
    const auto it = spool_.find(Number(n));
    CHECK(it != spool_.end());
    return it->second.request;
}

}  // namespace sbxfs::testing
