#include "sandbox/providers/fargate/fargate_books.h"

#include <utility>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::size_t kSecretBytes = 32;

Result<Secret> MountSecret(const std::string& path) {
    auto kept = ReadWholeFile(path, 4096);
    if (kept && kept->size() == kSecretBytes) return Secret(*std::move(kept));
    if (kept || kept.error().code() != Errno{ENOENT})
        return Error(Errno{EIO},
                     path +
                         " is damaged; put it back, or remove it when no Fargate sandbox of this "
                         "mount lives",
                     Blame::kBug);
    std::string fresh = RandomBytes(kSecretBytes);
    (void)TRY(ReplaceFile(path, fresh, 0600));
    return Secret(std::move(fresh));
}

}  // namespace

Result<std::unique_ptr<FargateBooks>> FargateBooks::Open(Loop& loop, aws::HttpClient& http,
                                                         aws::Environment environment,
                                                         FargateOwner owner,
                                                         const std::string& dir) {
    FargateRecords disk = TRY(FargateRecords::Open(dir));
    Secret secret = TRY(MountSecret(dir + "/mount-secret"));
    auto records = TRY(disk.Load());
    std::unique_ptr<FargateBooks> books(new FargateBooks(
        loop, http, std::move(environment), std::move(owner), std::move(disk), std::move(secret)));
    books->records_ = std::move(records);
    return books;
}

FargateBooks::FargateBooks(Loop& loop, aws::HttpClient& http, aws::Environment environment,
                           FargateOwner owner, FargateRecords records, Secret mount_secret)
    : loop_(loop),
      http_(http),
      environment_(std::move(environment)),
      owner_(std::move(owner)),
      disk_(std::move(records)),
      mount_secret_(std::move(mount_secret)),
      thread_("fargate-disk", LockRank::kProvider, [](std::vector<Job>& jobs) {
          for (const Job& job : jobs)
              job();
      }) {}

FargateBooks::~FargateBooks() = default;

const FargateRecord* FargateBooks::Find(const std::string& token) const {
    const auto found = records_.find(token);
    return found == records_.end() ? nullptr : &found->second;
}

void FargateBooks::OnDisk(UniqueFunction<Status()> work, Done done) {
    Job job = [&loop = loop_, work = std::move(work), done = std::move(done)]() mutable {
        loop.Post([done = std::move(done), status = work()] { done(status); });
    };
    (void)thread_.Add(job);  // stopped: the answer dies with its asker
}

void FargateBooks::Write(const FargateRecord& record, Done done) {
    records_[record.token] = record;
    OnDisk([this, record] { return disk_.Write(record); }, std::move(done));
}

void FargateBooks::Remove(const std::string& token, Done done) {
    records_.erase(token);
    OnDisk([this, token] { return disk_.Remove(token); }, std::move(done));
}

void FargateBooks::Access(const FargateAccount& account, AccessDone done) {
    if (const auto known = access_.find(account); known != access_.end())
        return loop_.Post([done = std::move(done), access = known->second] { done(access); });
    const auto shared = std::make_shared<aws::SharedConfig>();
    OnDisk(
        [this, shared]() -> Status {
            *shared = TRY(aws::LoadSharedConfig(environment_));
            return Ok();
        },
        [this, account, shared, done = std::move(done)](const Status& read) {
            if (!read) return done(read.error());
            done(MakeAccess(account, *shared));
        });
}

Result<FargateAccess> FargateBooks::MakeAccess(const FargateAccount& account,
                                               const aws::SharedConfig& shared) {
    // Two may have asked at the same time: all sandboxes of an account share one client.
    if (const auto known = access_.find(account); known != access_.end()) return known->second;
    FargateAccess access;
    access.client = TRY(FargateClient::Make(loop_, http_, environment_, shared, account));
    access.host_keys = std::make_shared<HostKeys>(loop_, access.client);
    access_[account] = access;
    return access;
}

}  // namespace sbxfs
