// An in-memory RemoteFiles. In its held mode every answer waits until the test lets it go: what was
// asked has not happened before Release(), never happens with FailWith(), and has happened unheard
// with LoseAnswer(), as when a link is cut on the way back. In its other mode it answers at once
// (that is, from the loop's inbox).
//
// Operations come on the loop's thread; everything the test says may come from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/loop.h"
#include "base/sync.h"
#include "sandbox/remote_files.h"
#include "tests/fakes/fake_tree.h"

namespace sbxfs::testing {

class FakeFiles final : public RemoteFiles {
 public:
    enum class Answers { kAtOnce, kHeld };

    explicit FakeFiles(Loop& loop, Answers answers = Answers::kAtOnce);
    ~FakeFiles() override;

    // --- The test's hand on the answers. Operations are described as in Log(): "lstat /a", "write
    // /a 0+5".

    void SetAnswers(Answers answers);  // of operations to come
    std::vector<std::string> Held();
    // The held operation at `index`, oldest first, takes place and is answered.
    void Release(std::size_t index = 0);
    void ReleaseAll();
    // It does not take place, and the answer is `error`.
    void FailWith(const Error& error, std::size_t index = 0);
    // It takes place, but the answer is `error`.
    void LoseAnswer(const Error& error, std::size_t index = 0);
    // The next operation whose description begins with `beginning` fails, held or not; queued up
    // when called again.
    void FailNext(std::string_view beginning, const Error& error);
    // The link is cut: held operations fail with `error`, and so does all that follows until
    // Mend(). Files opened before stay ESTALE for ever.
    void Cut(const Error& error);
    void Mend();

    // --- What happened.

    std::vector<std::string> Log();  // every operation since the beginning, in order
    std::size_t Count(std::string_view beginning);
    // As SftpClient::RoundTrips(): the longest chain of "an answer came, then something was asked".
    std::uint64_t RoundTrips();
    std::size_t OpenFiles() const { return open_files_->load(); }

    // --- The test as a program of the sandbox; aborts on errors.

    void PutFile(const std::string& path, std::string_view bytes, std::uint32_t mode = 0644);
    void PutDir(const std::string& path, std::uint32_t mode = 0755);  // with those above it
    void PutLink(const std::string& path, const std::string& target);
    void PutSpecial(const std::string& path, std::uint32_t type_and_mode);
    void Remove(const std::string& path);  // whatever is below it, too
    // Another file takes its place, and the file system gives it the number that has become free.
    void ReplaceReusingInode(const std::string& path, std::string_view bytes);
    // The file system does not know when a file was made.
    void ForgetBirth(const std::string& path);
    void Append(const std::string& path, std::string_view bytes);
    void SetTimes(const std::string& path, std::int64_t mtime);
    std::optional<RemoteStat> Stat(const std::string& path);
    IdentityStat Identity(const std::string& path);
    std::string Content(const std::string& path);
    bool Exists(const std::string& path) { return Stat(path).has_value(); }
    // A supervisor makes a file with its bytes: "store /a 5" in the log. FailNext() with that makes none; with
    // "store bytes /a" it is made, without them.
    StoredFile Store(const StoreRequest& request);
    // It renames one: "move /a /b". An errno or 0.
    int RenameApart(const RenameRequest& request);
    void SetCapacity(std::uint64_t bytes);
    void SetReadOnly(bool read_only);

    void Lstat(const std::string& path, StatDone done) override;
    void List(const std::string& path, EntriesDone done) override;
    void ReadLink(const std::string& path, TextDone done) override;
    void SetStat(const std::string& path, const StatChange& change, StatDone done) override;
    void MakeDir(const std::string& path, std::uint32_t mode, StatDone done) override;
    void RemoveDir(const std::string& path, Done done) override;
    void Unlink(const std::string& path, Done done) override;
    void Symlink(const std::string& target, const std::string& path, StatDone done) override;
    void Link(const std::string& from, const std::string& to, StatDone done) override;
    void Rename(const std::string& from, const std::string& to, Replace replace,
                Done done) override;
    void Statfs(const std::string& path, StatfsDone done) override;
    void Open(const std::string& path, const OpenHow& how, OpenDone done) override;
    void Read(const RemoteFilePtr& file, FileRange range, BytesDone done) override;
    void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
               Done done) override;
    void FileStat(const RemoteFilePtr& file, StatDone done) override;
    void SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done) override;
    void Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
              std::uint64_t offset, CopiedDone done) override;
    void Sync(const RemoteFilePtr& file, Done done) override;
    void Close(const RemoteFilePtr& file, Done done) override;

 private:
    class File;
    enum class Fate { kHappens, kFails, kUnheard };
    // Lets it happen or not, and returns the job that answers.
    using Settle = UniqueFunction<Job(FakeTree&, Fate, const std::optional<Error>&)>;
    struct Operation {
        std::string what;
        std::uint64_t trip = 0;
        Settle settle;
    };

    template <class T, class Act>
    void Take(std::string what, Act act, UniqueFunction<void(Result<T>)> done);
    template <class T, class Act>
    void TakeFile(std::string_view verb, const RemoteFilePtr& file, const std::string& detail,
                  Act act, UniqueFunction<void(Result<T>)> done);
    void Arrive(std::string what, std::optional<Error> refused, Settle settle);
    void SettleAt(std::size_t index, Fate fate, const std::optional<Error>& error);
    void PostAnswer(std::uint64_t trip, Job answer);
    std::optional<Error> PlannedFailure(const std::string& what) REQUIRES(mu_);

    Loop& loop_;
    const std::shared_ptr<std::atomic<std::size_t>> open_files_;
    const std::shared_ptr<std::atomic<std::uint64_t>>
        answered_trip_;  // outlives us with posted answers
    // Above all that callers may hold, below the loop's inbox.
    Mutex mu_{LockRank::kKernelQueue};
    FakeTree tree_ GUARDED_BY(mu_);
    Answers answers_ GUARDED_BY(mu_);
    std::deque<Operation> held_ GUARDED_BY(mu_);
    std::vector<std::string> log_ GUARDED_BY(mu_);
    std::vector<std::pair<std::string, Error>> planned_ GUARDED_BY(mu_);
    std::optional<Error> cut_ GUARDED_BY(mu_);
    std::uint64_t link_ GUARDED_BY(mu_) = 1;
    std::uint64_t round_trips_ GUARDED_BY(mu_) = 0;
};

}  // namespace sbxfs::testing
