#include "sandbox/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/strings.h"
#include "sandbox/store_database.h"

namespace sbxfs {
namespace {

// Given up when a commit finds the disk full. Enough for the outcomes of thousands of commands and
// for a WAL that holds the largest script.
constexpr std::uint64_t kReserveBytes = 8U << 20;
// New promises are refused below this much free space beside the reserve, which is already allocated, or has
// been given up and must not be spent on them.
constexpr std::uint64_t kLowWater = 4U << 20;
// The reserve is made again when this much is free.
constexpr std::uint64_t kHighWater = 32U << 20;

std::uint64_t FreeBytes(const std::string& path) {
    struct statvfs space {};
    if (::statvfs(path.c_str(), &space) != 0) return 0;
    return std::uint64_t{space.f_bavail} * space.f_frsize;
}

}  // namespace

Result<std::unique_ptr<Store>> Store::Open(const StateDir& dir) {
    std::unique_ptr<StoreDatabase> database = TRY(StoreDatabase::Open(dir.journal()));
    std::unique_ptr<Store> store(new Store(dir, std::move(database)));
    store->mount_id_ = TRY(store->database_->Meta("mount_id"));
    if (store->mount_id_.empty()) {
        store->mount_id_ = Hex(RandomBytes(8));
        (void)TRY(store->database_->SetMeta("mount_id", store->mount_id_));
    }
    store->last_generation_ = TRY(store->database_->LastGeneration());
    // Seconds since the epoch leave room for a million attaches per second of the clock.
    const auto last = ParseNumber<std::uint64_t>(TRY(store->database_->Meta("epoch"))).value_or(0);
    const auto now = static_cast<std::uint64_t>(EpochMs(RealClock().System()) / 1000) << 20;
    store->first_epoch_ = std::max(last + (std::uint64_t{1} << 20), now);
    (void)TRY(store->database_->SetMeta("epoch", std::to_string(store->first_epoch_)));
    store->RefillReserve();
    return store;
}

Store::Store(const StateDir& dir, std::unique_ptr<StoreDatabase> database)
    : directory_(dir.path()), reserve_(dir.reserve()), database_(std::move(database)) {}

Store::~Store() = default;

Result<std::vector<SandboxRecord>> Store::LoadSandboxes() {
    DCHECK(thread_ == nullptr);
    return database_->Sandboxes();
}

Result<std::vector<CommandRecord>> Store::LoadCommands(Generation generation) {
    DCHECK(thread_ == nullptr);
    return database_->Commands(generation);
}

Result<std::optional<NextRefusal>> Store::LoadRefusal(Generation generation) {
    DCHECK(thread_ == nullptr);
    return database_->Refusal(generation);
}

Result<std::map<std::string, std::optional<Template>>> Store::LoadTemplates() {
    DCHECK(thread_ == nullptr);
    const auto texts = TRY(database_->Templates());
    std::map<std::string, std::optional<Template>> templates;
    for (const auto& [name, text] : texts) {
        std::optional<Template>& what = templates[name];
        if (text) what = TRY(Template::FromJson(Json::Parse(*text).value_or(Json())));
    }
    return templates;
}

void Store::StartThread() {
    database_->FillWal();
    thread_ = std::make_unique<BatchThread<Job>>(
        "store", LockRank::kStore, [this](std::vector<Job>& batch) { CommitBatch(batch); });
}

Status Store::Admit(std::uint64_t bytes) const {
    const std::uint64_t reserve = reserve_there_ ? 0 : kReserveBytes;
    if (FreeBytes(directory_) >= kLowWater + reserve + 2 * bytes)
        return Ok();  // twice: the WAL, then the database
    return Error(Errno{ENOSPC}, "the disk of the state directory " + directory_ +
                                    " is nearly full: free some space, then try again");
}

void Store::Put(const SandboxRecord& record, Done done) {
    Enqueue([record](StoreDatabase& db) { return db.PutSandbox(record); }, std::move(done));
}

void Store::PutCommand(const CommandRecord& record, std::string script, Done done) {
    Enqueue([record, script = std::move(script)](
                StoreDatabase& db) { return db.InsertCommand(record, script); },
            std::move(done));
}

void Store::UpdateCommand(Generation generation, EventNumber n, const EventState& state,
                          Done done) {
    Enqueue([generation, n,
             state](StoreDatabase& db) { return db.UpdateCommand(generation, n, state); },
            std::move(done));
}

void Store::FilesArrived(Generation generation, EventNumber n, Done done) {
    Enqueue([generation, n](StoreDatabase& db) { return db.FilesArrived(generation, n); },
            std::move(done));
}

// In the order of the queue: whatever command is accepted after this is kept after it.
void Store::PutRefusal(Generation generation, const NextRefusal& refusal) {
    Enqueue([generation, refusal](StoreDatabase& db) { return db.PutRefusal(generation, refusal); },
            [](const Status&) {});
}

void Store::DropRefusal(Generation generation) {
    Enqueue([generation](StoreDatabase& db) { return db.DropRefusal(generation); },
            [](const Status&) {});
}

void Store::ForgetCommand(Generation generation, EventNumber n, Done done) {
    Enqueue([generation, n](StoreDatabase& db) { return db.ForgetCommand(generation, n); },
            std::move(done));
}

void Store::Remove(Generation generation, Done done) {
    Enqueue([generation](StoreDatabase& db) { return db.RemoveSandbox(generation); },
            std::move(done));
}

void Store::PutTemplate(const std::string& name, const std::optional<Template>& what, Done done) {
    std::optional<std::string> text;
    if (what) text = what->ToJson().Dump();
    Enqueue(
        [name, text = std::move(text)](StoreDatabase& db) { return db.PutTemplate(name, text); },
        std::move(done));
}

void Store::LoadScript(Generation generation, EventNumber n, ScriptDone done) {
    auto script =
        std::make_shared<Result<std::string>>(Error(Errno{EIO}, "the journal has closed"));
    Enqueue(
        [generation, n, script](StoreDatabase& db) {
            *script = db.Script(generation, n);
            return Ok();
        },
        [script, done = std::move(done)](const Status& status) {
            done(status ? std::move(*script) : Result<std::string>(status.error()));
        });
}

void Store::Flush() {
    thread_->Flush();
}

void Store::Enqueue(Write write, Done done) {
    Job job{std::move(write), std::move(done)};
    if (thread_->Add(job)) return;
    if (job.done) job.done(Error(Errno{EIO}, "the journal has closed", Blame::kBug));
}

void Store::CommitBatch(std::vector<Job>& batch) {
    Status status = TryCommit(batch);
    if (!status && status.error().code() == Errno{ENOSPC} && reserve_there_) {
        // What is in this batch was accepted before the disk filled up. Keep the promise with the
        // reserve.
        Log(LogLevel::kWarning, "state directory is full, using the reserve",
            {{"dir", directory_}});
        (void)::unlink(reserve_.c_str());
        reserve_there_ = false;
        status = TryCommit(batch);
    }
    if (!status && batch.size() > 1) {
        // One record's failure must not break the others' promises: each on its own.
        for (Job& job : batch) {
            std::vector<Job> single;
            single.push_back(std::move(job));
            CommitBatch(single);
        }
        return;
    }
    if (!status) {
        Log(LogLevel::kError, "journal commit failed", {{"why", status.error()}});
        // Whoever is refused now must not be found accepted by the next daemon.
        if (!database_->TakeBack())
            status =
                Error(status.error().code(),
                      status.error().what() +
                          ". Nothing can be written there any more, so it is not known whether "
                          "this was kept: look for it when sbxfs has been started again",
                      status.error().blame());
    }
    for (Job& job : batch) {
        if (job.done) job.done(status);
    }
    if (!reserve_there_) RefillReserve();
}

Status Store::TryCommit(std::vector<Job>& batch) {
    (void)TRY(database_->Begin());
    Status status = Ok();
    for (Job& job : batch) {
        status = job.write(*database_);
        if (!status) break;
    }
    if (status) status = database_->Commit();
    if (!status) database_->Rollback();
    return status;
}

void Store::RefillReserve() {
    Result<UniqueFd> fd = OpenFile(reserve_, O_RDWR | O_CREAT, 0600);
    if (!fd) return;
    // An existing reserve keeps its blocks; only a missing one needs room.
    if (FreeBytes(directory_) < kHighWater &&
        ::lseek(fd->get(), 0, SEEK_END) < off_t{kReserveBytes}) {
        (void)::unlink(reserve_.c_str());
        return;
    }
    if (::posix_fallocate(fd->get(), 0, kReserveBytes) != 0) {
        (void)::unlink(reserve_.c_str());
        return;
    }
    reserve_there_ = true;
}

}  // namespace sbxfs
