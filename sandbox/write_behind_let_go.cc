// WriteBehind: a new file that was written and synced is closed in the sandbox along with its fsync(2): editors close it next
// and rename it over the old one, which waits for CLOSE (contract 5). A save is a round trip shorter by that.
//
// Who does something else with the file, finds it opened again, as after a cut of the link (linked_reopen.cc); it is opened
// again, too, before its name may lead elsewhere: ahead of our own change of the name, and of a command.
#include <sys/stat.h>

#include <utility>

#include "sandbox/file_cache.h"
#include "sandbox/write_behind_state.h"

namespace sbxfs {
namespace {

// A program that went on with its file may do so with the next one: at most so often do two round trips more come of it.
constexpr Duration kPause = std::chrono::seconds(1);

}  // namespace

bool WriteBehind::MayLetGo(const BehindFile& file) const {
    const FileState& state = *file.state;
    if (!MayDefer() || file.kept || loop_.clock().Steady() < lets_go_from_) return false;
    // Who reads, too, or appends, keeps a file for longer than a save takes.
    if (!file.how.write || file.how.read || file.how.append) return false;
    if (!state.made || state.path.empty() || state.error || state.open != 1) return false;
    if (state.stat.size > limits_.at_close || (state.stat.mode & S_IWUSR) == 0) return false;
    if (owner_->HasOtherNames(state.path) || !files_->TellsBirths()) return false;
    return file.inner == nullptr || LinkedFiles::OutlivesACut(*file.inner);
}

void WriteBehind::LetGo(const FilePtr& file) {
    std::erase_if(let_go_, [](const std::weak_ptr<BehindFile>& weak) {
        const FilePtr other = weak.lock();
        return other == nullptr || !other->let_go || other->closed;
    });
    file->let_go = file->state->let_go = true;
    let_go_.push_back(file);
    QueueClose(file);
}

// What the sandbox said of it with CLOSE is what whoever renames it asks for next.
bool WriteBehind::HasJustLetGo(const FileState& state) const {
    return state.let_go && mode_ == Mode::kQuiet && state.IsClean() && !state.error &&
           !owner_->HasOtherNames(state.path) &&
           loop_.clock().Steady() - state.seen < FileCache::kQuietLife;
}

// Something is about to be done to it.
void WriteBehind::Keep(const FilePtr& file) {
    const StatePtr& state = file->state;
    state->let_go = false;
    if (!file->let_go || file->closed || state->error) return;
    file->let_go = false;
    file->kept = true;
    lets_go_from_ = loop_.clock().Steady() + kPause;
    if (!file->gone) return;
    if (!std::exchange(file->counted, true)) ++open_files_;
    const ChangePtr change = New({.text = "open " + state->path, .path = {}, .other = {}}, true);
    file->opens_again = change;
    change->send = [this, state, change, file] {
        if (file->inner == nullptr) return DataEnded(state, change, file, Ok());
        // Bounded, and where it is not found that is for whoever uses it next to hear: nothing was lost.
        files_->FileStat(file->inner,
                         [weak = weak_from_this(), state, change, file](const Result<RemoteStat>&) {
                             if (const auto self = weak.lock())
                                 self->DataEnded(state, change, file, Ok());
                         });
    };
    Queue(state, change, file);
}

bool WriteBehind::OpenLetGo() {
    bool any = false;
    for (const std::weak_ptr<BehindFile>& weak : std::exchange(let_go_, {})) {
        const FilePtr file = weak.lock();
        if (file == nullptr || !file->let_go || file->closed) continue;
        any = any || file->gone;
        Keep(file);
    }
    return any;
}

void WriteBehind::OpenLetGo(const std::string& path) {
    const StatePtr state = StateAt(path);
    if (state == nullptr) return;
    state->let_go = false;
    if (state->open != 0) (void)OpenLetGo();
}

}  // namespace sbxfs
