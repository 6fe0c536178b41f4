#include "sandbox/providers/local/snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/process_record.h"
#include "sandbox/providers/local/remover.h"
#include "sandbox/providers/local/root_view.h"
#include "sandbox/providers/local/sshd_config.h"
#include "sandbox/providers/local/tree_copy.h"
#include "sandbox/providers/local/userns.h"

namespace sbxfs {
namespace {

constexpr int kBoxLockLimitMs = 10'000;
constexpr std::size_t kMaxFacts = 1U << 20;

std::string DirOf(const std::string& state_dir) {
    return state_dir + "/snapshots";
}

Result<UniqueFd> OpenDirAt(int parent, const std::string& name) {
    UniqueFd dir(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!dir) return SystemError(errno, "opening " + name, Blame::kCaller);
    return dir;
}

Result<UniqueFd> OpenSnapshots(const std::string& state_dir) {
    (void)TRY(MakeDirs(DirOf(state_dir), 0700));
    return OpenFile(DirOf(state_dir), O_RDONLY | O_DIRECTORY);
}

Status WriteAt(int dir, const std::string& name, std::string_view bytes) {
    const UniqueFd file(::openat(dir, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return SystemError(errno, "creating " + name);
    return WriteAll(file.get(), bytes);
}

std::vector<std::string> Entries(const std::string& path) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path, error))
        names.push_back(entry.path().filename().string());
    return names;
}

// What killed helpers left.
void Sweep(const std::string& state_dir, int snapshots) {
    for (const std::string& name : Entries(DirOf(state_dir))) {
        if (!name.starts_with('.')) continue;
        const Result<UniqueFd> dir = OpenDirAt(snapshots, name);
        if (dir && ::flock(dir->get(), LOCK_EX | LOCK_NB) == 0) (void)RemoveTree(snapshots, name);
    }
}

Error NoSnapshot(const std::string& name) {
    return {Errno{ENOENT},
            "there is no snapshot '" + Printable(name, 64) + "': ls .mount/snapshots shows them"};
}

// Copies as whoever may read all of it: root as itself, a user as root of a namespace of the own files, in a child.
template <class F>
Result<CopyCount> AsOwner(F copy) {
    CopyCount count;
    if (::geteuid() == 0) {
        (void)TRY(copy(count));
        return count;
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    const UniqueFd told(ends[0]);
    UniqueFd tell(ends[1]);
    const pid_t child = PlainFork();
    if (child < 0) return SystemError(errno, "fork");
    if (child == 0) {
        Status status = BecomeRootOfOwnNamespace();
        if (status) status = copy(count);
        Json json = Json::Object();
        json.Set("errno",
                 static_cast<std::int64_t>(status ? 0 : static_cast<int>(status.error().code())));
        json.Set("error", status ? std::string() : status.error().what());
        json.Set("bytes", static_cast<std::int64_t>(count.bytes));
        json.Set("files", static_cast<std::int64_t>(count.files));
        (void)WriteAll(tell.get(), json.Dump());
        ::_exit(0);
    }
    tell.reset();
    std::string text;
    std::array<char, 4096> chunk{};
    for (ssize_t got = 0; (got = ::read(told.get(), chunk.data(), chunk.size())) != 0;) {
        if (got > 0) text.append(chunk.data(), static_cast<std::size_t>(got));
        if (got < 0 && errno != EINTR) break;
    }
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    const auto json = Json::Parse(text);
    if (!json) return Error(Errno{EIO}, "copying the files ended unexpectedly", Blame::kBug);
    if (const auto code = json->GetNumber("errno").value_or(EIO); code != 0) {
        return Error(Errno{static_cast<int>(code)}, json->GetString("error").value_or(""),
                     Blame::kCaller);
    }
    count.bytes = static_cast<std::uint64_t>(json->GetNumber("bytes").value_or(0));
    count.files = static_cast<std::uint64_t>(json->GetNumber("files").value_or(0));
    return count;
}

// Of one run, or of one sandbox: not copied.
std::vector<std::string> Emptied(const std::string& part) {
    if (part == "root") return {"run", std::string(kSpoolDir).substr(1)};
    if (part == "etc") return {std::string(kSshDir).substr(std::string_view("/etc/").size())};
    return {};
}

// Each part of a layer that is there: the root, and the upper layer of each overlay.
Status CopyLayer(int from, int to, const std::string& layer_path, const CopyPlan& ids,
                 CopyCount& count) {
    for (const std::string& part : Entries(layer_path)) {
        CopyPlan plan = ids;
        plan.emptied = Emptied(part);
        if (part == "root") {
            (void)TRY(CopyTree(from, part, to, plan, count));
            continue;
        }
        if (::mkdirat(to, part.c_str(), 0700) != 0) return SystemError(errno, "mkdir " + part);
        const UniqueFd source = TRY(OpenDirAt(from, part));
        const UniqueFd target = TRY(OpenDirAt(to, part));
        (void)TRY(CopyTree(source.get(), "upper", target.get(), plan, count));
    }
    return Ok();
}

std::optional<std::uint32_t> FirstIdIn(const std::optional<std::string>& text) {
    return ParseNumber<std::uint32_t>(Trim(text.value_or("")));
}

// The directory of a new snapshot, taken away again unless it gets its name.
class HalfMade {
 public:
    static Result<HalfMade> Make(const std::string& state_dir, int snapshots) {
        Sweep(state_dir, snapshots);
        std::string name = ".new-" + Hex(RandomBytes(8));
        if (::mkdirat(snapshots, name.c_str(), 0700) != 0)
            return SystemError(errno, "making a snapshot");
        HalfMade made(snapshots, std::move(name), UniqueFd());
        made.dir_ = TRY(OpenDirAt(snapshots, made.name_));
        if (::flock(made.dir_.get(), LOCK_EX | LOCK_NB) != 0)
            return SystemError(errno, "locking a snapshot");
        return made;
    }
    HalfMade(HalfMade&& other) noexcept
        : parent_(other.parent_),
          name_(std::exchange(other.name_, "")),
          dir_(std::move(other.dir_)) {}
    HalfMade(const HalfMade&) = delete;
    HalfMade& operator=(const HalfMade&) = delete;
    HalfMade& operator=(HalfMade&&) = delete;
    ~HalfMade() {
        if (!name_.empty()) (void)RemoveTree(parent_, name_);
    }

    int dir() const { return dir_.get(); }

    Status Name(const std::string& name) {
        // All of it is on the disk before anybody can see it.
        if (::syncfs(dir_.get()) != 0) return SystemError(errno, "writing the snapshot");
        if (::renameat2(parent_, name_.c_str(), parent_, name.c_str(), RENAME_NOREPLACE) != 0) {
            if (errno != EEXIST) return SystemError(errno, "naming the snapshot");
            return Error(Errno{EEXIST}, "there is a snapshot '" + name +
                                            "' already: choose another name, or remove it with rm "
                                            ".mount/snapshots/" +
                                            name + ".json");
        }
        name_.clear();
        (void)::fsync(parent_);
        return Ok();
    }

 private:
    HalfMade(int parent, std::string name, UniqueFd dir)
        : parent_(parent), name_(std::move(name)), dir_(std::move(dir)) {}

    int parent_;
    std::string name_;
    UniqueFd dir_;
};

}  // namespace

Json ToJson(const SnapshotFacts& facts) {
    Json json = Json::Object();
    json.Set("name", facts.name).Set("from", facts.from);
    json.Set("generation", static_cast<std::int64_t>(facts.generation));
    json.Set("made_ms", facts.made_ms);
    json.Set("bytes", static_cast<std::int64_t>(facts.bytes));
    json.Set("files", static_cast<std::int64_t>(facts.files));
    return json.Set("template", facts.what.ToJson());
}

Result<SnapshotFacts> SnapshotFromJson(const Json& json) {
    SnapshotFacts facts;
    const auto what = json.Find("template");
    if (!what) return Error(Errno{EIO}, "a snapshot without a template", Blame::kBug);
    facts.what = TRY(Template::FromJson(*what));
    facts.name = json.GetString("name").value_or("");
    facts.from = json.GetString("from").value_or("");
    facts.generation =
        Generation{static_cast<std::uint64_t>(json.GetNumber("generation").value_or(0))};
    facts.made_ms = json.GetNumber("made_ms").value_or(0);
    facts.bytes = static_cast<std::uint64_t>(json.GetNumber("bytes").value_or(0));
    facts.files = static_cast<std::uint64_t>(json.GetNumber("files").value_or(0));
    return facts;
}

std::vector<SnapshotFacts> ReadSnapshots(const std::string& state_dir) {
    std::vector<SnapshotFacts> found;
    for (const std::string& name : Entries(DirOf(state_dir))) {
        if (name.starts_with('.')) continue;
        const auto text =
            ReadWholeFile(DirOf(state_dir) + "/" + name + "/snapshot.json", kMaxFacts);
        const auto json = text ? Json::Parse(*text) : std::nullopt;
        if (!json) continue;
        auto facts = SnapshotFromJson(*json);
        if (facts && facts->name == name) found.push_back(*std::move(facts));
    }
    return found;
}

bool HasLeftovers(const std::string& state_dir) {
    for (const std::string& name : Entries(DirOf(state_dir))) {
        if (name.starts_with('.')) return true;
    }
    return false;
}

std::vector<std::string> BasesOfSnapshots(const std::string& state_dir) {
    std::vector<std::string> bases;
    for (const std::string& name : Entries(DirOf(state_dir))) {
        const auto base = ReadWholeFile(DirOf(state_dir) + "/" + name + "/base", 256);
        if (base) bases.emplace_back(Trim(*base));
    }
    return bases;
}

Result<SnapshotFacts> TakeSnapshot(const SnapshotOrder& order,
                                   const UniqueFunction<bool()>& wanted) {
    Box box = TRY(Box::Open(order.state_dir, order.token));
    const UniqueFd lock = TRY(box.AwaitLock(kBoxLockLimitMs));
    // A helper that comes late, of a daemon that was killed: something else runs there by now.
    if (!box.Has("launched.json") || Trim(box.Read("pid").value_or("")) != Trim(order.init)) {
        return Error(Errno{ECANCELED},
                     "the sandbox was started anew meanwhile: nothing was copied");
    }
    const UniqueFd snapshots = TRY(OpenSnapshots(order.state_dir));
    HalfMade made = TRY(HalfMade::Make(order.state_dir, snapshots.get()));
    SnapshotFacts facts = order.facts;
    const std::optional<std::uint32_t> first_id = FirstIdIn(box.Read("uid_range"));
    if (first_id) (void)TRY(WriteAt(made.dir(), "first_id", std::to_string(*first_id) + "\n"));
    (void)TRY(WriteAt(made.dir(), "base", std::string(Trim(box.Read("base").value_or(""))) + "\n"));
    if (::mkdirat(made.dir(), "layer", 0700) != 0) return SystemError(errno, "mkdir layer");
    const UniqueFd to = TRY(OpenDirAt(made.dir(), "layer"));
    const UniqueFd from = TRY(OpenDirAt(box.dir(), "layer"));
    const CopyCount count = TRY(AsOwner([&](CopyCount& counted) {
        return CopyLayer(from.get(), to.get(), box.path() + "/layer", CopyPlan{}, counted);
    }));
    facts.bytes = count.bytes;
    facts.files = count.files;
    (void)TRY(WriteAt(made.dir(), "snapshot.json", ToJson(facts).Dump(2) + "\n"));
    // From here on commands may run that change what was copied, when nobody waits for us any more.
    if (!wanted()) return Error(Errno{ECANCELED}, "nobody waits for the snapshot any more");
    if (box.IsDestroyed()) return Error(Errno{ECANCELED}, "the sandbox was destroyed meanwhile");
    (void)TRY(made.Name(facts.name));
    return facts;
}

Status DropSnapshot(const DropOrder& order) {
    const UniqueFd snapshots = TRY(OpenSnapshots(order.state_dir));
    if (!order.name.empty()) {
        const std::string gone = ".gone-" + Hex(RandomBytes(8));
        if (::renameat(snapshots.get(), order.name.c_str(), snapshots.get(), gone.c_str()) != 0) {
            return errno == ENOENT ? NoSnapshot(order.name)
                                   : SystemError(errno, "removing snapshot " + order.name);
        }
        (void)::fsync(snapshots.get());
        const UniqueFd dir = TRY(OpenDirAt(snapshots.get(), gone));
        // A launch that copies from it holds the lock, and goes on.
        while (::flock(dir.get(), LOCK_EX) != 0 && errno == EINTR) {
        }
        (void)TRY(RemoveTree(snapshots.get(), gone));
    }
    Sweep(order.state_dir, snapshots.get());
    return Ok();
}

Status CopySnapshot(const std::string& state_dir, const std::string& name, Box& box,
                    std::optional<std::uint32_t> first_id) {
    const Result<UniqueFd> dir = OpenFile(DirOf(state_dir) + "/" + name, O_RDONLY | O_DIRECTORY);
    if (!dir) return NoSnapshot(name);
    while (::flock(dir->get(), LOCK_SH) != 0 && errno == EINTR) {
    }
    const std::string path = DirOf(state_dir) + "/" + name;
    const auto read = [&path](const char* file) {
        const auto text = ReadWholeFile(path + "/" + file, 256);
        return text ? std::optional<std::string>(*text) : std::nullopt;
    };
    const std::optional<std::string> base = read("base");
    if (!base) return NoSnapshot(name);  // being removed
    (void)TRY(box.Write("base", *base));
    CopyPlan plan;
    const std::optional<std::uint32_t> theirs = FirstIdIn(read("first_id"));
    if (theirs && first_id) plan.ids = IdShift{*theirs, *first_id};
    const UniqueFd from = TRY(OpenDirAt(dir->get(), "layer"));
    if (::mkdirat(box.dir(), "layer", 0700) != 0) return SystemError(errno, "mkdir layer");
    const UniqueFd to = TRY(OpenDirAt(box.dir(), "layer"));
    (void)TRY(AsOwner([&](CopyCount& counted) {
        return CopyLayer(from.get(), to.get(), path + "/layer", plan, counted);
    }));
    return Ok();
}

}  // namespace sbxfs
