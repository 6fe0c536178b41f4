#include "sandbox/content_store.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace sbxfs {
namespace {

std::uint64_t EndOf(FileRange range) {
    const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() - range.offset;
    return range.offset + std::min<std::uint64_t>(range.size, most);
}

}  // namespace

FileContentsPtr ContentStore::Make() {
    return std::make_shared<FileContents>(shared_from_this());
}

void ContentStore::Claim(std::size_t bytes) {
    Doomed doomed;  // dies after the lock
    const MutexLock lock(mu_);
    claimed_ += bytes;
    MakeRoom(doomed);
}

void ContentStore::Unclaim(std::size_t bytes) {
    const MutexLock lock(mu_);
    claimed_ -= std::min(bytes, claimed_);
}

std::size_t ContentStore::Claimed() const {
    const MutexLock lock(mu_);
    return claimed_;
}

std::size_t ContentStore::Bytes() const {
    const MutexLock lock(mu_);
    return bytes_;
}

void ContentStore::MakeRoom(Doomed& doomed) {
    while (bytes_ + claimed_ > most_ && !used_.empty()) {
        Extent* oldest = used_.front();
        used_.pop_front();
        bytes_ -= oldest->bytes->size();
        doomed.push_back(std::move(oldest->bytes));
        oldest->of->extents_.erase(oldest->offset);
    }
    Held();
}

FileContents::~FileContents() {
    Extents doomed;  // dies after the lock
    const MutexLock lock(store_->mu_);
    for (auto& [offset, extent] : extents_) {
        store_->bytes_ -= extent.bytes->size();
        store_->used_.erase(extent.used);
    }
    doomed.swap(extents_);
    store_->Held();
}

FileContents::Extents::const_iterator FileContents::From(std::uint64_t offset) const {
    auto at = extents_.upper_bound(offset);
    if (at == extents_.begin()) return at;
    const auto before = std::prev(at);
    return before->first + before->second.bytes->size() > offset ? before : at;
}

void FileContents::Put(std::uint64_t offset, std::string bytes) {
    if (bytes.empty()) return;
    // Where some of it is here already, only what is between.
    const std::vector<FileRange> missing = Missing({offset, bytes.size()});
    if (missing.size() == 1 && missing.front().size == bytes.size())
        return Add(offset, std::move(bytes));
    for (const FileRange& gap : missing)
        Add(gap.offset, bytes.substr(gap.offset - offset, gap.size));
}

void FileContents::Add(std::uint64_t offset, std::string bytes) {
    auto shared = std::make_shared<const std::string>(std::move(bytes));
    const std::size_t size = shared->size();
    ContentStore::Doomed doomed;  // dies after the lock
    const MutexLock lock(store_->mu_);
    const auto at = From(offset);
    const bool taken = at != extents_.end() && at->first < offset + size;
    if (spoiled_ || taken) return;
    ContentStore::Extent& extent = extents_[offset];
    extent.bytes = std::move(shared);
    extent.of = this;
    extent.offset = offset;
    extent.used = store_->used_.insert(store_->used_.end(), &extent);
    store_->bytes_ += size;
    store_->MakeRoom(doomed);
}

void FileContents::SetEnd(std::uint64_t end) {
    const MutexLock lock(store_->mu_);
    end_ = end;
}

std::optional<ContentSlices> FileContents::Read(FileRange range) const {
    if (spoiled_) return std::nullopt;
    const MutexLock lock(store_->mu_);
    std::uint64_t to = EndOf(range);
    if (end_) to = std::min(to, std::max(*end_, range.offset));
    ContentSlices slices;
    std::uint64_t at = range.offset;
    for (auto it = From(at); at < to; ++it) {
        if (it == extents_.end() || it->first > at) return std::nullopt;
        const ContentStore::Extent& extent = it->second;
        const std::size_t skip = at - it->first;
        const auto size = std::min<std::size_t>(extent.bytes->size() - skip, to - at);
        slices.push_back({extent.bytes, skip, size});
        at += size;
        store_->used_.splice(store_->used_.end(), store_->used_, extent.used);
    }
    return slices;
}

std::vector<FileRange> FileContents::Missing(FileRange range) const {
    std::vector<FileRange> missing;
    const MutexLock lock(store_->mu_);
    std::uint64_t to = EndOf(range);
    if (end_) to = std::min(to, std::max(*end_, range.offset));
    std::uint64_t at = range.offset;
    for (auto it = From(at); at < to; ++it) {
        const std::uint64_t next = it == extents_.end() ? to : std::min(it->first, to);
        if (next > at) missing.push_back({at, static_cast<std::size_t>(next - at)});
        if (it == extents_.end()) break;
        at = std::max(at, it->first + it->second.bytes->size());
    }
    return missing;
}

bool FileContents::IsWhole() const {
    std::uint64_t end = 0;
    {
        const MutexLock lock(store_->mu_);
        if (!end_) return false;
        end = *end_;
    }
    return !spoiled_ && Missing({0, static_cast<std::size_t>(end)}).empty();
}

void FileContents::Spoil() {
    Extents doomed;  // dies after the lock
    const MutexLock lock(store_->mu_);
    spoiled_ = true;
    for (auto& [offset, extent] : extents_) {
        store_->bytes_ -= extent.bytes->size();
        store_->used_.erase(extent.used);
    }
    doomed.swap(extents_);
    store_->Held();
}

}  // namespace sbxfs
