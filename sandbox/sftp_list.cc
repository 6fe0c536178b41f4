// SftpFiles: listing a directory. OPENDIR, then many READDIRs in flight (a server gives about a
// hundred entries each; what comes behind the end is answered with EOF and costs nothing), CLOSE,
// which nobody waits for.
//
// The listing is hostile: names that are no names are dropped and counted, a name comes once
// however often it is listed, and a directory that never ends is given up. OpenSSH leaves out
// entries that it cannot lstat itself, so a directory that may be read but not searched looks
// empty.
#include <cstddef>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/sftp_files.h"

namespace sbxfs {
namespace {

constexpr std::size_t kFirstWindow =
    4;  // requests in flight: enough for 400 entries in one round trip
constexpr std::size_t kMostInFlight = 32;  // each may bring 256 KiB
constexpr std::size_t kNameMax = 255;

// A listing that takes no more than this part of what all may take is never refused.
constexpr std::size_t kSmallPart = 256;

// What an entry takes until its listing is over: the list has up to twice its size while it grows, a hash is kept, and
// a longer name is a block of its own.
std::size_t CostOf(std::string_view name) {
    constexpr std::size_t kHash = 48;
    constexpr std::size_t kInPlace = 15;
    return 2 * sizeof(RemoteEntry) + kHash + (name.size() > kInPlace ? name.size() + 17 : 0);
}

bool IsName(std::string_view name) {
    return !name.empty() && name.size() <= kNameMax &&
           name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

}  // namespace

// One listing on its way; kept alive by the callbacks of its requests.
class SftpFiles::Listing : public std::enable_shared_from_this<Listing> {
 public:
    Listing(std::shared_ptr<SftpFiles> files, std::string path, EntriesDone done)
        : files_(std::move(files)), path_(std::move(path)), done_(std::move(done)) {}
    ~Listing() { files_->listed_bytes_ -= seen_bytes_; }
    Listing(const Listing&) = delete;
    Listing& operator=(const Listing&) = delete;

    void Start(const ClientPtr& client);

 private:
    void FillWindow();
    void Take(SftpAnswer<std::vector<SftpName>> names);
    void Accept(SftpName& name);
    void GiveUp(SftpFault why);
    void CloseAtEnd();
    void AskTypes();
    void TakeType(std::size_t index, const SftpAnswer<SftpAttrs>& attrs);
    void Finish();

    const std::shared_ptr<SftpFiles> files_;
    const std::string path_;
    EntriesDone done_;
    std::string handle_;
    std::size_t window_ = kFirstWindow;
    std::size_t in_flight_ = 0;
    bool long_ = false;  // the first flight did not reach the end
    bool ended_ = false;
    std::optional<SftpRefusal> refusal_;
    std::optional<SftpFault> given_up_;
    std::size_t seen_entries_ = 0;
    std::size_t seen_bytes_ = 0;  // of files_->listed_bytes_; names that come again count too
    std::vector<RemoteEntry> entries_;
    // Hashes instead of names: half the memory, and with a secret seed nobody makes them collide on
    // purpose. Two names that collide by chance would lose one entry, once in 10^13 entries.
    std::unordered_set<std::uint64_t> known_;
    const std::uint64_t seed_ = RandomNumber();
    std::vector<std::size_t> untyped_;  // entries that came without a file type
    std::size_t next_untyped_ = 0;
};

void SftpFiles::Listing::Start(const ClientPtr& client) {
    ++files_->handles_;
    client->Opendir(path_, [self = shared_from_this()](SftpAnswer<std::string> handle) {
        if (handle) {
            self->handle_ = std::move(*handle);
            self->FillWindow();
            return self->CloseAtEnd();
        }
        SftpFiles& files = *self->files_;
        --files.handles_;
        SftpCase what{.op = SftpOp::kOpendir, .path = self->path_};
        const ClientPtr now = files.client_.lock();
        what.facts.many_handles = now != nullptr && files.HandlesExhausted(*now, 1);
        files.Refuse(std::move(what), std::move(handle).refusal(), {},
                     Failing(std::move(self->done_)));
    });
}

void SftpFiles::Listing::FillWindow() {
    const ClientPtr client = files_->client_.lock();
    if (client == nullptr || !client->Usable()) {
        ended_ = true;
        refusal_ = SftpRefusal::Lost(files_->EndedError());
    }
    while (!ended_ && in_flight_ < window_) {
        ++in_flight_;
        client->Readdir(handle_,
                        [self = shared_from_this()](SftpAnswer<std::vector<SftpName>> names) {
                            self->Take(std::move(names));
                        });
    }
}

void SftpFiles::Listing::Take(SftpAnswer<std::vector<SftpName>> names) {
    --in_flight_;
    if (names && !names->empty()) {
        for (SftpName& name : *names)
            Accept(name);
        const std::size_t most = files_->most_bytes_;
        if (seen_entries_ > files_->most_entries_ || seen_bytes_ > most) {
            GiveUp(SftpFault::kEndlessList);
        } else if (files_->listed_bytes_ > most && seen_bytes_ > most / kSmallPart) {
            GiveUp(SftpFault::kManyLists);
        }
        // The first flight ends most directories, and asking on before it is over would cost them a
        // round trip. Where it does not, each answer lets three requests follow, so that any length
        // takes few round trips.
        if (long_ || in_flight_ == 0) {
            window_ = std::min(long_ ? window_ + 2 : 3 * window_, kMostInFlight);
            long_ = true;
        }
        if (long_) FillWindow();
    } else {
        ended_ = true;
        if (!names && names.refusal().status != SftpStatus::kEof && !refusal_) {
            refusal_ = std::move(names).refusal();
        }
    }
    CloseAtEnd();
}

// What it has is of no use, and makes room for others at once.
void SftpFiles::Listing::GiveUp(SftpFault why) {
    if (given_up_) return;
    given_up_ = why;
    ended_ = true;
    std::vector<RemoteEntry>().swap(entries_);
    std::unordered_set<std::uint64_t>().swap(known_);
    files_->listed_bytes_ -= std::exchange(seen_bytes_, 0);
}

void SftpFiles::Listing::Accept(SftpName& name) {
    if (given_up_) return;
    ++seen_entries_;
    seen_bytes_ += CostOf(name.name);
    files_->listed_bytes_ += CostOf(name.name);
    if (name.name == "." || name.name == "..") return;
    if (!IsName(name.name)) {
        ++files_->dropped_entries_;
        return;
    }
    if (!known_.insert(Fnv1a(name.name, seed_)).second) return;
    if (KindOf(name.attrs) == SftpKind::kUnknown) {
        untyped_.push_back(entries_.size());
        entries_.push_back({std::move(name.name), {}});
        return;
    }
    Result<RemoteStat> stat = ToRemoteStat(name.attrs, path_);
    if (!stat) {
        ++files_->dropped_entries_;
        return;
    }
    entries_.push_back({std::move(name.name), *stat});
}

void SftpFiles::Listing::CloseAtEnd() {
    // Only after the last answer: a server that works out of order must not close what it still
    // reads.
    if (!ended_ || in_flight_ != 0) return;
    if (const ClientPtr client = files_->client_.lock())
        files_->CloseQuietly(client->link(), handle_);
    known_.clear();
    if (given_up_) return done_(SftpFaultError(*given_up_, path_));
    if (refusal_) {
        return files_->Refuse({.op = SftpOp::kReaddir, .path = path_}, *std::move(refusal_), {},
                              Failing(std::move(done_)));
    }
    AskTypes();
}

// OpenSSH always sends types. For servers that do not each entry is asked about, before anyone
// takes a directory for a file.
void SftpFiles::Listing::AskTypes() {
    const ClientPtr client = files_->client_.lock();
    if (client == nullptr || !client->Usable()) {
        next_untyped_ = untyped_.size();
        refusal_ = SftpRefusal::Lost(files_->EndedError());
    }
    while (next_untyped_ < untyped_.size() && in_flight_ < kMostInFlight) {
        const std::size_t index = untyped_[next_untyped_++];
        const std::string path = (path_ == "/" ? "" : path_) + "/" + entries_[index].name;
        if (!CheckSftpPath(path)) {
            TakeType(index, SftpRefusal{});
            continue;
        }
        ++in_flight_;
        client->Lstat(path, [self = shared_from_this(), index](const SftpAnswer<SftpAttrs>& attrs) {
            --self->in_flight_;
            self->TakeType(index, attrs);
            self->AskTypes();
        });
    }
    if (next_untyped_ == untyped_.size() && in_flight_ == 0) Finish();
}

void SftpFiles::Listing::TakeType(std::size_t index, const SftpAnswer<SftpAttrs>& attrs) {
    if (attrs) {
        if (const Result<RemoteStat> stat = ToRemoteStat(*attrs, path_)) {
            entries_[index].stat = *stat;
            return;
        }
    }
    entries_[index].name.clear();  // gone, or beyond description: see Finish
    ++files_->dropped_entries_;
}

void SftpFiles::Listing::Finish() {
    if (refusal_) return done_(*refusal_->lost);
    if (!untyped_.empty()) {
        std::erase_if(entries_, [](const RemoteEntry& entry) { return entry.name.empty(); });
    }
    done_(std::move(entries_));
}

void SftpFiles::List(const std::string& path, EntriesDone done) {
    const Result<ClientPtr> client = Begin(path);
    if (!client) return Later(std::move(done), client.error());
    if (HandlesExhausted(**client, 0)) {
        return Later(std::move(done), SftpFaultError(SftpFault::kNoHandles, path));
    }
    std::make_shared<Listing>(shared_from_this(), path, std::move(done))->Start(*client);
}

}  // namespace sbxfs
