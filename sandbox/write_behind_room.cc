// WriteBehind: how much may be told ahead, by the room of the file system, by what the link carries, by memory.
#include <algorithm>
#include <utility>

#include "sandbox/clean_path.h"
#include "sandbox/write_behind_state.h"

namespace sbxfs {
namespace {

// Of which room a file system must have beyond what is on its way: it may be used by others, and by what
// sbxfs does not see.
constexpr std::uint64_t kSpareRoom = 64U << 20;
// How old a file system's numbers may be.
constexpr Duration kRoomLife = std::chrono::seconds(5);
// What may be unacknowledged before the link was measured, and where the way is short; and on the slowest link.
constexpr std::uint64_t kFirstBound = 8U << 20;
constexpr std::uint64_t kLeastBound = 1U << 20;
constexpr double kBoundSeconds = 2;  // contract 5
constexpr Duration kMeasured = std::chrono::milliseconds(100);

}  // namespace

VolumePtr WriteBehind::VolumeOf(const std::string& path) {
    const TrustedDirs::Directory* parent = dirs_.Find(ParentOf(path));
    if (parent != nullptr) return parent->volume;
    if (!view_) {
        AskForView(path);
        return nullptr;
    }
    const std::string& mount = view_->MountOf(path).path;
    VolumePtr& volume = volumes_[mount];
    if (volume == nullptr) {
        volume = std::make_shared<Volume>();
        volume->path = mount;
        (void)HasRoom(volume, 0);
    }
    return volume;
}

void WriteBehind::FindVolume(FileState& state) {
    if (state.volume == nullptr && !state.path.empty()) state.volume = VolumeOf(state.path);
}

bool WriteBehind::HasRoom(const VolumePtr& volume, std::uint64_t bytes) {
    if (volume == nullptr) return false;
    const SteadyTime now = loop_.clock().Steady();
    const bool stale = now - volume->asked > kRoomLife || volume->used > volume->available / 8;
    if (stale && !std::exchange(volume->asking, true)) {
        files_->Statfs(volume->path, [volume, before = volume->used,
                                      &clock = loop_.clock()](const Result<RemoteStatfs>& space) {
            volume->asking = false;
            if (!space) return;
            volume->available = space->blocks_available * space->block_size;
            volume->used -= std::min(volume->used, before);
            volume->asked = clock.Steady();
        });
    }
    return volume->available > volume->used + dirty_ + bytes + kSpareRoom;
}

bool WriteBehind::MayDefer(const FileState& state, std::uint64_t bytes) {
    return mode_ != Mode::kOff && !lost_ && files_->IsUp() && pending_.size() < limits_.changes &&
           HasRoom(state.volume, bytes) && !owner_->HasOtherNames(state.path);
}

std::uint64_t WriteBehind::DirtyBound() const {
    // Something of each sandbox is always on its way: who waits for room is let go by its own answers.
    const std::uint64_t memory =
        owner_ == nullptr ? limits_.dirty : std::max(owner_->RoomForDirty(), kLeastBound);
    const std::uint64_t first = std::min({limits_.dirty, kFirstBound, memory});
    if (rate_ <= 0) return first;
    const auto carried = static_cast<std::uint64_t>(rate_ * kBoundSeconds);
    // Over a short way the server is as fast as the writer, or the one to wait for.
    const std::uint64_t most = window_.IsNear() ? first : std::min(limits_.dirty, memory);
    return std::clamp(carried, std::min(kLeastBound, most), most);
}

// The rate counts only while somebody waits for room: else it is the writer who is measured.
void WriteBehind::Measure(const Change& change) {
    const SteadyTime now = loop_.clock().Steady();
    const std::uint64_t acknowledged = change.bytes;
    if (change.sent_at != SteadyTime{})
        window_.Answered(change.bytes, now - change.sent_at, !stalled_.empty());
    if (room_.empty()) {
        rate_from_ = SteadyTime{};
        return;
    }
    if (rate_from_ == SteadyTime{}) {
        rate_from_ = now;
        rate_bytes_ = 0;
        return;
    }
    rate_bytes_ += acknowledged;
    const std::chrono::duration<double> took = now - rate_from_;
    if (took < kMeasured) return;
    const double rate = static_cast<double>(rate_bytes_) / took.count();
    rate_ = rate_ <= 0 ? rate : (rate_ + rate) / 2;
    rate_from_ = now;
    rate_bytes_ = 0;
}

void WriteBehind::LetRoom() {
    while (!room_.empty() && (dirty_ < DirtyBound() || lost_)) {
        const Done go = std::move(room_.front().go);
        room_.pop_front();
        go(Ok());
    }
}

void WriteBehind::SetDirty(std::uint64_t bytes) {
    dirty_ = bytes;
    dirty_bytes_.Set(static_cast<std::int64_t>(bytes));
    if (owner_ != nullptr) owner_->OnDirty(bytes);
}

}  // namespace sbxfs
