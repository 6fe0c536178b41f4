// What is known of a sandbox's files without asking: attributes, names that are not there, listings,
// targets of links (contract 5, "Consistency"). Pure bookkeeping, shared by FUSE threads and the
// sandbox's loop; CachedFiles asks and fills. docs/CACHES.md has the whole design.
//
// An *era* is a stretch in which one thing holds for the whole sandbox: either it is quiet, nobody but
// this mount changes files, or it is not. A command's start and its end, a link that comes or goes,
// a process found there: each begins another era, and nothing seen in an earlier one is served any
// more. What was seen in a quiet era may be looked at by the supervisor as that era ends (its baseline);
// if it looks the same later it is taken over into the present era, many paths in one question.
//
// An answer that was on its way while we changed what it speaks of is not kept: see Ask().
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/sync.h"
#include "sandbox/content_store.h"
#include "sandbox/file_identity.h"
#include "sandbox/remote_files.h"
#include "sandbox/sandbox_metrics.h"

namespace sbxfs {

class FileCache {
 public:
    enum class Quiet { kNo, kYes };
    enum class Question : std::uint64_t {};
    using Era = std::uint64_t;
    // How long what was seen is served.
    static constexpr Duration kQuietLife = std::chrono::seconds(20);
    static constexpr Duration kSharedLife = std::chrono::seconds(1);

    struct Limits {
        std::size_t entries = 100'000;
        std::size_t texts = 32U << 20;  // bytes of paths and of what links lead to
    };
    explicit FileCache(Clock& clock) : FileCache(clock, Limits{}) {}
    FileCache(Clock& clock, Limits limits) : clock_(clock), limits_(limits) {}

    // --- What is known now.

    // Nothing when the sandbox must be asked. ENOENT when the name is known not to be there.
    std::optional<Result<RemoteStat>> Stat(const std::string& path) const;
    std::optional<std::string> Target(const std::string& path) const;
    struct Name {
        std::string name;
        std::uint32_t type = 0;  // S_IFMT bits
    };
    std::optional<std::vector<Name>> List(const std::string& directory) const;
    // The names, and the attributes of each of them.
    bool KnowsWholly(const std::string& directory) const;
    bool IsQuiet() const;
    Era era() const;
    // The identity that `path` had throughout that era, if anybody looked.
    std::optional<IdentityStat> Baseline(const std::string& path, Era era) const;
    // A file with several names: its attributes change when another name is written to.
    bool HasOtherNames(const std::string& path) const;

    // --- Contents. They are told only in a quiet era, and end with what is known of the path: at a change of
    // ours, with an era that nobody takes them over from, when other attributes are seen.

    struct Held {
        FileContentsPtr contents;
        RemoteStat stat;
        std::optional<IdentityStat> identity;
    };
    // Of a file that is known to have one name only: nobody changes it behind its path. Its contents may be
    // parts; nothing where there are none, or its attributes are not known.
    std::optional<Held> Contents(const std::string& path) const;
    // Those of the file that was just opened there with these attributes, in `era`; begun where there are
    // none. Nothing where they could not be shared by all who open it.
    FileContentsPtr ShareContents(const std::string& path, const RemoteStat& stat, Era era,
                                  ContentStore& store);
    // All of a file that was found, or written, with these attributes. kOne: it was made by us just now, and
    // cannot have another name.
    enum class Names { kUnknown, kOne };
    void PutContents(Question question, const RemoteStat& stat, FileContentsPtr contents,
                     Names names);
    // Whether somebody has looked how many names the file has.
    bool IsSingle(const std::string& path) const;
    struct Small {
        std::string path;
        RemoteStat stat;
    };
    // Regular files of a known listing up to that size, by name, whose contents are not here.
    std::vector<Small> SmallFiles(const std::string& directory, std::uint64_t largest) const;

    // --- Questions. Every Ask or Change is followed by one Put or Drop.

    Question Ask(const std::string& path);
    // For PutList().
    Question AskList(const std::string& directory);
    void PutStat(Question question, const Result<RemoteStat>& stat);
    void PutList(Question question, const Result<std::vector<RemoteEntry>>& entries);
    void PutTarget(Question question, const Result<std::string>& target);
    void Drop(Question question);

    // --- Changes of ours, told before they are sent and again when they have been answered. What is
    // known of the path, and below it, is dropped; answers that were asked for before are not kept.

    // Content or attributes.
    void Changed(const std::string& path);
    // The name: something may come, go or be replaced there.
    Question ChangingName(const std::string& path);
    // What a directory looks like after changes of names in it: asked right behind them, so that an answer that comes
    // after theirs is of the time after them.
    Question AskBehind(const std::string& directory, std::vector<Question> changes);
    // kForget: a lock may have been taken by it, and what was seen of the directory before is of no use.
    enum class Directory { kKeep, kForget };
    // `contents`: all or parts of what has arrived there by a rename, which has no other name.
    void Made(Question question, const Result<RemoteStat>& stat,
              Directory directory = Directory::kKeep, FileContentsPtr contents = {});
    // Whether nothing else was changed there meanwhile.
    bool Gone(Question question, const Status& status, Directory directory = Directory::kKeep);
    // Several names lead to the file from now on.
    void Linked(const std::string& path);
    // Files below that are known to have other names, for who moves the directory.
    std::vector<std::string> LinkedBelow(const std::string& directory) const;

    // --- Eras.

    void BeginEra(Quiet quiet);
    // All but which files have several names.
    void ForgetAll();

    // --- Identities.

    // What is known in this era and nobody has looked at yet.
    std::vector<std::string> WithoutBaseline(std::size_t most) const;
    // `stats` was read by the supervisor at the end of `era`, a quiet one, at `read_at_ns` there.
    void SetBaselines(Era era, const std::vector<std::string>& paths,
                      const std::vector<IdentityStat>& stats, std::int64_t read_at_ns);
    // What may be looked at again so that `path` can be served: `path` itself first, then what lies
    // behind it; empty when that will not do.
    std::vector<std::string> Marked(const std::string& path, std::size_t most) const;
    // `stats` was asked for in `era`: what has not changed is known in this era, the rest is dropped.
    void Recheck(Era era, const std::vector<std::string>& paths,
                 const std::vector<IdentityStat>& stats);

    std::size_t Count() const;

 private:
    struct Fact {
        SteadyTime seen{};
        bool known = false;
    };
    struct Entry {
        Era era = 0;
        Fact stat_fact;
        std::optional<RemoteStat> stat;  // none: nothing is there
        Fact target_fact;
        std::string target;
        Fact names_fact;
        std::map<std::string, std::uint32_t, std::less<>> names;  // with S_IFMT bits
        std::optional<IdentityStat> baseline;
        Era baseline_from = 0;  // the first era it is true of
        bool single = false;    // it was seen to have no other name
        FileContentsPtr contents;
    };
    struct Asked {
        std::string path;
        Era era;
        bool spoiled = false;
        std::vector<Question> behind{};  // the changes it was asked behind
        // Of a listing: what has changed since it was asked for. What it says of the rest is true.
        bool lists = false;
        bool other_names = false;
        std::set<std::string, std::less<>> changed{};
    };
    using Entries = std::map<std::string, Entry, std::less<>>;

    static void DropContents(Entry& entry);
    bool MayHold(std::string_view path, const Entry& entry) const REQUIRES(mu_);
    bool Fresh(const Entry& entry, const Fact& fact) const REQUIRES(mu_);
    const Entry* Find(std::string_view path) const REQUIRES(mu_);
    const Entry* FindNames(std::string_view directory) const REQUIRES(mu_);
    // The entry for something seen now; what is known of another era is dropped.
    Entry& Present(const std::string& path) REQUIRES(mu_);
    void Keep(const std::string& path, std::optional<RemoteStat> stat) REQUIRES(mu_);
    enum class Of { kContent, kName };
    void Spoil(std::string_view path, Of of, std::optional<Question> by = std::nullopt)
        REQUIRES(mu_);
    void ForgetDirectory(std::string_view directory, Question by) REQUIRES(mu_);
    bool IsLinked(std::string_view path) const REQUIRES(mu_);
    void AddLinked(const std::string& path) REQUIRES(mu_);
    void ForgetStatOf(std::string_view directory) REQUIRES(mu_);
    void MakeRoom() REQUIRES(mu_);
    std::size_t Texts() const REQUIRES(mu_);
    void Counted() REQUIRES(mu_) { count_.Set(static_cast<std::int64_t>(entries_.size())); }
    // The question, if its answer may be kept.
    std::optional<Asked> Answered(Question question) REQUIRES(mu_);

    Clock& clock_;
    const Limits limits_;
    mutable Mutex mu_{LockRank::kFileCache};
    Entries entries_ GUARDED_BY(mu_);
    std::size_t texts_ GUARDED_BY(mu_) = 0;  // at least what Texts() says
    GaugeShare count_ GUARDED_BY(mu_){sandbox_metrics.cache_entries};
    // Files with several names. Not an entry's: what is forgotten of a file does not make it one of one name.
    std::set<std::string, std::less<>> linked_ GUARDED_BY(mu_);
    bool linked_everywhere_ GUARDED_BY(mu_) = false;  // too many to know them apart
    std::map<Question, Asked> asked_ GUARDED_BY(mu_);
    std::uint64_t next_question_ GUARDED_BY(mu_) = 1;
    Era era_ GUARDED_BY(mu_) = 1;
    bool quiet_ GUARDED_BY(mu_) = false;
};

}  // namespace sbxfs
