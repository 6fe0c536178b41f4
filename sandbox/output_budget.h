// How much output a mount keeps in all (contract 4: 4 GiB). When it is more, the events that finished first
// lose their output, never their result. Owned by the daemon; any thread; a leaf lock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "base/sync.h"
#include "sandbox/names.h"

namespace sbxfs {

// Whoever holds the output of events.
class OutputOwner {
 public:
    OutputOwner() = default;
    OutputOwner(const OutputOwner&) = delete;
    OutputOwner& operator=(const OutputOwner&) = delete;
    virtual ~OutputOwner() = default;
    // Any thread, without locks held: the output of this finished event is to go.
    virtual void GiveUpOutput(EventNumber n) = 0;
};

class OutputBudget {
 public:
    explicit OutputBudget(std::uint64_t limit) : limit_(limit) {}
    OutputBudget(const OutputBudget&) = delete;
    OutputBudget& operator=(const OutputBudget&) = delete;

    // An event keeps so many bytes now; `finished_ms` 0 while it runs. Its owner may hear GiveUpOutput of
    // this or another event from within.
    void Keeps(Generation generation, EventNumber n, std::int64_t finished_ms, std::uint64_t bytes,
               const std::weak_ptr<OutputOwner>& owner);
    // It keeps none any more.
    void Forget(Generation generation, EventNumber n);

    std::uint64_t used() const;

 private:
    using Key = std::pair<Generation, EventNumber>;
    using Age = std::tuple<std::int64_t, Generation, EventNumber>;
    struct Kept {
        std::uint64_t bytes = 0;
        std::int64_t finished_ms = 0;
        std::weak_ptr<OutputOwner> owner;
    };
    void Drop(const Key& key) REQUIRES(mu_);

    const std::uint64_t limit_;
    mutable Mutex mu_{LockRank::kOutputBudget};
    std::uint64_t used_ GUARDED_BY(mu_) = 0;
    std::map<Key, Kept> kept_ GUARDED_BY(mu_);
    std::map<Age, Key> finished_ GUARDED_BY(mu_);  // oldest first
};

}  // namespace sbxfs
