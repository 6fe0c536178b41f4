// What a sandbox does more where its machine was there before and stays (Provider::OwnsMachine): looks
// whether the directories it is about are there, and takes everything of ours away at the end. Members
// of Sandbox, in a file of their own.
#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "sandbox/sandbox.h"
#include "sandbox/spool_place.h"

namespace sbxfs {

// A machine somebody uses has no directory made for us: that one is missing is a mistake in the
// configuration, better said at once than by every command.
void Sandbox::CheckPlaces(RemoteFiles& files) {
    struct Looking {
        std::size_t left = 0;
        std::string wrong;  // with that one
    };
    std::vector<std::string> places = {template_.fs_root};
    if (template_.workdir != template_.fs_root) places.push_back(template_.workdir);
    auto looking = std::make_shared<Looking>();
    looking->left = places.size();
    for (const std::string& place : places) {
        files.Lstat(
            place, [self = shared_from_this(), place, looking](const Result<RemoteStat>& stat) {
                // Lost with the link: asked again over the next one.
                if (!stat && stat.error().code() == Errno{EHOSTUNREACH}) return;
                const std::uint32_t type = stat ? stat->mode & S_IFMT : 0;
                if (type != S_IFDIR && type != S_IFLNK)
                    looking->wrong =
                        place + " cannot be used on that machine (" +
                        (stat ? std::string("it is not a directory") : stat.error().what()) + ")";
                if (--looking->left == 0) self->PlacesChecked(looking->wrong);
            });
    }
}

void Sandbox::PlacesChecked(const std::string& wrong) {
    if (stopped_ || stage() != Stage::kLaunched) return;
    if (wrong.empty()) {
        places_checked_ = true;
        FilesUp();
        return;
    }
    const std::string user = Snapshot().record.connect->user;
    Post([wrong, user](Sandbox& self) {
        self.EndAs(SandboxStatus::kFailed,
                   wrong + ": make it there as " + user +
                       " (sbxfs does not), or name another in workdir and fs_root");
    });
}

void Sandbox::FilesUp() {
    files_up_ = true;
    if (!supervisor_up_) return;
    KeepSpool();  // it may have waited for the places to be checked
    Ready();
}

bool Sandbox::MustDepart() const {
    if (departed_ || provider_.OwnsMachine()) return false;
    const MutexLock lock(mu_);
    return record_.connect.has_value();  // else nobody has ever connected
}

void Sandbox::Depart() {
    AttachRequest request;
    {
        const MutexLock lock(mu_);
        request.connect = *record_.connect;
        request.client_key = record_.client_key.private_pem;
    }
    departure_ = std::make_unique<Departure>(loop_, *services_.attacher, std::move(request),
                                             *services_.next_epoch,
                                             [weak = weak_from_this()](const Status& status) {
                                                 const auto self = weak.lock();
                                                 if (self == nullptr || self->stopped_) return;
                                                 self->departure_.reset();
                                                 self->Departed(status);
                                             });
}

void Sandbox::Departed(const Status& status) {
    const SandboxRecord record = Snapshot().record;
    // Where nobody ever reached the files nothing can be left. One attempt is made all the same: to
    // reach them may have been the last thing an earlier daemon did.
    const bool ever_in = std::any_of(record.phases.begin(), record.phases.end(),
                                     [](const auto& phase) { return phase.first == kFilesPhase; });
    if (status || !ever_in) {
        departed_ = true;
        return TryDestroy();
    }
    const std::string spool = SpoolDirOf(*record.connect);
    Destroyed(Error(status.error().code(),
                    "clearing " + std::string(spool.starts_with('/') ? "" : "~/") + spool + " on " +
                        AddressText(record.connect->address) + ": " + status.error().what() +
                        " (`echo forget > .mount/history/" + name_ + "." + ToString(generation_) +
                        "/ctl` gives that up and leaves it there)",
                    status.error().blame()));
}

bool Sandbox::CanForget() const {
    if (provider_.OwnsMachine()) return false;
    const MutexLock lock(mu_);
    return record_.stage == Stage::kDestroying;
}

void Sandbox::Forget(Done done) {
    Post([done = std::move(done)](Sandbox& self) mutable {
        if (!self.CanForget())
            return done(Error(Errno{EINVAL}, "nothing is being cleared there any more"));
        // Otherwise it is at work on what comes after, by itself.
        if (self.destroy_running_ && !std::exchange(self.departed_, true)) {
            const SandboxRecord record = self.Snapshot().record;
            Log(LogLevel::kWarning, "spool left on its machine, as asked",
                {{"box", self.name_},
                 {"at", record.connect ? AddressText(record.connect->address) : ""},
                 {"spool", record.connect ? SpoolDirOf(*record.connect) : ""}});
            const bool waiting = self.departure_ != nullptr || self.failures_ > 0;
            self.departure_.reset();
            ++self.destroy_try_;  // a pending retry finds itself outdated
            if (waiting) self.TryDestroy();
        }
        done(Ok());
    });
}

}  // namespace sbxfs
