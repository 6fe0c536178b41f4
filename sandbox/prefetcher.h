// Fetches ahead of programs that walk a sandbox's tree: listings of directories (find, ls -R, git
// status), and, while the sandbox is quiet, small files (grep -r, cp -r, git). Nothing is fetched
// before a walk shows: a directory is listed whose parent or sibling has just been listed; a file is
// opened whose neighbour has just been opened. What is fetched goes into FileCache; how much may be
// unused at a time is AheadWindow's to say.
//
// Owned by CachedFiles. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/loop.h"
#include "sandbox/ahead_window.h"
#include "sandbox/file_cache.h"
#include "sandbox/file_identity.h"

namespace sbxfs {

class CachedFiles;

// Lists and not deques: a deque has half a kilobyte of its own while it is empty, and so they are in all sandboxes but
// a few, also in those that are history.
class Prefetcher : public std::enable_shared_from_this<Prefetcher> {
 public:
    explicit Prefetcher(CachedFiles& owner);
    // The owner goes; what is on its way is let go.
    void Stop() { owner_ = nullptr; }

    // A program has opened the directory.
    void Listed(const std::string& directory);
    // A listing of it has come.
    void Arrived(const std::string& directory);
    // A name in the directory was asked for and not known.
    void Looked(const std::string& directory);
    // A program has opened the file for reading.
    void Opened(const std::string& path);
    // Another era.
    void Restart();

    // Runs `job` when the listing has come that is being fetched ahead, or cannot. False: it is not.
    bool WhenListed(const std::string& directory, Job job);
    // Runs `job` when the file that is being fetched is here, or cannot be. False: it is not being fetched.
    bool WhenFetched(const std::string& path, Job job);

    const AheadWindow::Counters& listings() const { return lists_.counters(); }
    const AheadWindow::Counters& files() const { return files_.counters(); }

 private:
    struct Recent {
        std::string directory;
        SteadyTime when{};
    };
    using RecentList = std::list<Recent>;
    using File = FileCache::Small;
    struct Fetching {
        bool read = false;
        bool looked = false;
        std::vector<Job> waiting;
    };

    static bool IsNear(const RecentList& recent, const std::string& directory, SteadyTime now);
    void Note(RecentList& recent, const std::string& directory, SteadyTime now) const;
    void ListNext(const std::string& directory);
    void QueueChildren(const std::string& directory);
    void PumpLists();
    void AskList(const std::string& directory);
    void Measure(const std::string& directory, SteadyTime started);
    // Its listing had changed before it was there, as of one that is being filled: not fetched ahead again at once.
    bool IsSpoiled(const std::string& directory) const;
    bool IsHuge(const std::string& directory) const;
    bool IsListing(const std::string& directory) const;
    void PumpFiles();
    void PumpLater();
    // The next candidates, from the walk's next directory; false when there is none now.
    bool NextDirectory();
    void Take(const std::string& directory);
    void StartWalk(const std::string& directory, const std::string& path);
    std::vector<std::string> Directories(const std::string& parent) const;
    void Fetch(const File& file);
    void FetchMany(std::vector<File> files);
    // Whoever waits for it may look now.
    void Finish(const std::string& path);
    void FinishIfHere(const std::string& path);
    void LookAt(std::vector<std::string> paths);

    CachedFiles* owner_;
    RecentList recent_lists_;
    RecentList recent_opens_;
    std::list<std::string> last_opened_;  // the newest last: programs have them
    RecentList recent_looks_;
    std::set<std::string> walked_;              // listings that a walk waits for
    std::map<std::string, SteadyTime> queued_;  // whose children have been put in the queue, when
    std::list<std::string> to_list_;
    std::map<std::string, std::vector<Job>> listing_;  // on their way, and who waits
    std::set<std::string> theirs_;                     // on their way because a program asked
    std::map<std::string, SteadyTime> spoiled_;        // not fetched ahead again before that
    AheadWindow lists_;
    AheadWindow files_;
    std::list<File> to_fetch_;
    std::map<std::string, Fetching> fetching_;
    std::size_t handles_ = 0;     // of them, those that are opened there
    std::size_t many_bytes_ = 0;  // of them, those that the supervisor reads
    // Where the walk through files is: its topmost directory, the one whose files were taken last, and those that
    // come next, in the order of a program that goes by name.
    std::string top_;
    std::string at_;
    std::list<std::string> to_walk_;
    std::set<std::string> walked_through_;  // directories below the top whose files were taken
};

}  // namespace sbxfs
