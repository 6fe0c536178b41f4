// One operation on the files of a sandbox as LinkedFiles keeps it: how it is sent, how it is told after a cut of the link
// whether it has been made, and who has its answer. Private to linked_*.cc and file_operations.cc; loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "sandbox/clean_path.h"
#include "sandbox/linked_files.h"

namespace sbxfs {

// One request of a caller, from Submit to its answer.
struct FileOperations::Operation {
    explicit Operation(Kind k) : kind(k) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    virtual ~Operation() = default;
    virtual void Run(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) = 0;
    virtual bool CanCheck() const = 0;
    virtual void Check(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) = 0;
    virtual void Fail(const Error& error) = 0;
    bool Unwanted() const { return wanted && !wanted(); }
    // Nobody knows yet whether what was at `path` is somewhere else by now.
    bool MayHaveMoved(const std::string& path) const {
        return !moves.empty() && (may_be_made || sent) && IsWithin(path, moves);
    }

    const Kind kind;
    std::function<bool()> wanted;  // empty: in any case
    LinkedFilePtr file;            // must be open on the present link before this is sent
    std::string moves;             // of a rename: what
    SteadyTime deadline{};
    bool patient = false;
    bool sent = false;              // on the present link
    bool may_be_made = false;       // a change that was sent and never answered
    bool doubtful = false;          // to be checked before it is sent again
    Alone alone = Alone::kNo;       // when it was sent
    Takes takes = Takes::kNothing;  // if it is made
    SteadyTime sent_at{};
};

template <class T>
struct FileOperations::TypedOperation final : Operation {
    TypedOperation(Kind k, FileOperations::Run<T> r, FileOperations::Check<T> c,
                   UniqueFunction<void(Result<T>)> d)
        : Operation(k), run(std::move(r)), check(std::move(c)), done(std::move(d)) {}

    void Run(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) override {
        run(files, target,
            [weak = files.weak_from_this(), id, link = files.link_](Result<T> result) {
                const auto self = weak.lock();
                if (self == nullptr) return;
                // An answer of a link that is gone, or the news that it is: the operation has moved on.
                if (self->link_ != link || self->target_ == nullptr) return self->Lost(id);
                const std::unique_ptr<Operation> operation = self->Take(id);
                if (operation == nullptr) return;  // its caller stopped waiting
                // Of what is never answered here.
                constexpr bool kAsks =
                    std::is_same_v<T, RemoteStat> || std::is_same_v<T, OpenedFile>;
                if (kAsks && result) {
                    const Duration trip = self->loop_.clock().Steady() - operation->sent_at;
                    self->trip_ = std::min(self->trip_, trip);
                }
                static_cast<TypedOperation&>(*operation).done(std::move(result));
            });
    }
    bool CanCheck() const override { return static_cast<bool>(check); }
    void Check(LinkedFiles& files, std::uint64_t id, RemoteFiles& target) override {
        check(files, target, alone,
              [weak = files.weak_from_this(), id, link = files.link_](Verdict<T> verdict) {
                  const auto self = weak.lock();
                  if (self == nullptr) return;
                  if (self->link_ != link || self->target_ == nullptr) return self->Lost(id);
                  const auto it = self->operations_.find(id);
                  if (it == self->operations_.end()) return;
                  switch (verdict.what()) {
                      case Verdict<T>::What::kRepeat:
                          it->second->doubtful = it->second->may_be_made = false;
                          it->second->sent = false;
                          return self->Start(id);
                      case Verdict<T>::What::kFinished: {
                          const std::unique_ptr<Operation> operation = self->Take(id);
                          return static_cast<TypedOperation&>(*operation)
                              .done(std::move(verdict.result()));
                      }
                      case Verdict<T>::What::kUnknown:
                          return self->GiveUp(self->Take(id), LinkedFiles::UnknownOutcome());
                  }
              });
    }
    void Fail(const Error& error) override { done(error); }

    FileOperations::Run<T> run;
    FileOperations::Check<T> check;
    UniqueFunction<void(Result<T>)> done;
};

}  // namespace sbxfs
