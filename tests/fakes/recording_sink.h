// What became of a request: RecordingSink keeps the answer, Recording lets the test look at it, also
// from another thread and before it is there. Its mutex has the lowest rank of all, so that a debug
// build aborts when somebody answers with a lock held.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/sync.h"
#include "fs/reply.h"

namespace sbxfs::testing {

struct Answer {
    std::string
        kind{};     // "entry", "created", "opened", "attr", "bytes", "written", "text", "statfs",
                    // "poll", "ok", "error"
    int error = 0;  // errno
    std::string why{};
    Entry entry{};
    Opened opened{};
    std::string bytes{};  // also of readlink
    std::size_t written = 0;
    StatfsAnswer statfs{};
};

inline std::ostream& operator<<(std::ostream& out, const Answer& answer) {
    out << answer.kind;
    if (answer.kind == "error") out << " " << answer.error << " (" << answer.why << ")";
    if (!answer.bytes.empty()) out << " '" << answer.bytes << "'";
    return out;
}

class Recording {
 public:
    bool answered() const { return Now().has_value(); }
    std::optional<Answer> Now() const {
        const MutexLock lock(mu_);
        return answer_;
    }
    // The answer; waits for another thread to give it. Aborts after a generous while.
    Answer Await() const {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        const MutexLock lock(mu_);
        while (!answer_) {
            CHECK(std::chrono::steady_clock::now() < deadline);  // the request was never answered
            (void)changed_.WaitFor(mu_, std::chrono::milliseconds(200));
        }
        return *answer_;
    }
    // What PostInterrupt or Cancel takes; 0 when the request was never parked.
    std::uint64_t interrupt() const {
        const MutexLock lock(mu_);
        return interrupt_;
    }

    // For the sink.
    void Keep(Answer answer) {
        const MutexLock lock(mu_);
        CHECK(!answer_);  // answered twice
        answer_ = std::move(answer);
        changed_.NotifyAll();
    }
    void KeepInterrupt(std::uint64_t id) {
        const MutexLock lock(mu_);
        interrupt_ = id;
    }

 private:
    mutable Mutex mu_{LockRank{1}};
    mutable CondVar changed_;
    std::optional<Answer> answer_ GUARDED_BY(mu_);
    std::uint64_t interrupt_ GUARDED_BY(mu_) = 0;
};
using RecordingPtr = std::shared_ptr<Recording>;

class RecordingSink final : public ReplySink {
 public:
    explicit RecordingSink(RecordingPtr to, Delivery delivery = Delivery::kDelivered,
                           pid_t caller = -1)
        : to_(std::move(to)), delivery_(delivery), caller_(caller) {}

    // Heard before an error is answered, as FuseSink does for last_error.
    UniqueFunction<void(const Error&)> on_error;
    // Runs within OnInterrupt(), as libfuse does when the signal was faster.
    UniqueFunction<void(std::uint64_t)> on_registered;

    Delivery SendEntry(const Entry& entry) override {
        Keep({.kind = "entry", .entry = entry});
        return delivery_;
    }
    Delivery SendCreated(const Entry& entry, const Opened& opened) override {
        Keep({.kind = "created", .entry = entry, .opened = opened});
        return delivery_;
    }
    Delivery SendOpened(const Opened& opened) override {
        Keep({.kind = "opened", .opened = opened});
        return delivery_;
    }
    void SendAttr(const Entry& entry) override { Keep({.kind = "attr", .entry = entry}); }
    void SendBytes(std::span<const char> bytes) override {
        Keep({.kind = "bytes", .bytes = {bytes.data(), bytes.size()}});
    }
    void SendWritten(std::size_t count) override { Keep({.kind = "written", .written = count}); }
    void SendText(const std::string& text) override { Keep({.kind = "text", .bytes = text}); }
    void SendStatfs(const StatfsAnswer& answer) override {
        Keep({.kind = "statfs", .statfs = answer});
    }
    void SendPoll(std::uint32_t) override { Keep({.kind = "poll"}); }
    void SendOk() override { Keep({.kind = "ok"}); }
    void SendError(const Error& error) override {
        if (on_error) on_error(error);
        Keep({.kind = "error", .error = static_cast<int>(error.code()), .why = error.what()});
    }
    pid_t caller() const override { return caller_; }
    void OnInterrupt(std::uint64_t id) override {
        to_->KeepInterrupt(id);
        if (on_registered) on_registered(id);
    }

 private:
    void Keep(Answer answer) { to_->Keep(std::move(answer)); }

    const RecordingPtr to_;
    const Delivery delivery_;
    const pid_t caller_;
};

// A reply of type R whose answer is recorded in `to`.
template <class R>
R RecordedReply(const RecordingPtr& to, Delivery delivery = Delivery::kDelivered) {
    return R(std::make_unique<RecordingSink>(to, delivery));
}

}  // namespace sbxfs::testing
