#include "sandbox/supervisor/spool.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

bool ParseHex(View text, uint64_t* value) {
    if (text.size < 16) return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < 16; ++i) {
        const char c = text[i];
        unsigned digit = 0;
        if (c >= '0' && c <= '9') {
            digit = static_cast<unsigned>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = static_cast<unsigned>(c - 'a' + 10);
        } else {
            return false;
        }
        sum = sum << 4 | digit;
    }
    *value = sum;
    return true;
}

// FNV-1a of the kernel's boot id: a number is enough to tell two boots apart.
uint64_t ReadBoot() {
    Str text;
    ReadFile(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, 64);
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < text.size(); ++i) {
        hash = (hash ^ static_cast<unsigned char>(text.view()[i])) * 0x100000001b3ULL;
    }
    return hash;
}

void AppendName(Str* to, uint64_t n, View name) {
    to->Number(n).append("/").append(name);
}

}  // namespace

long Spool::Open(Fd dir) {
    dir_ = std::move(dir);
    boot_ = ReadBoot();
    if (const long error = sys::ChangeDirFd(dir_.get()); error < 0) return error;
    const long length = sys::CurrentDir(path_.Room(4096), 4096);
    if (length < 0) return length;
    path_.Grown(static_cast<size_t>(length) - 1);  // it counts the NUL
    sys::ChangeDir("/");
    if (const long error = OpenCommands(); error < 0) return error;
    if (const long error = ReadOrMakeId(); error < 0) return error;
    Str epoch;
    if (ReadFile(dir_.get(), "epoch", &epoch, 32) == 0) ParseNumber(epoch.view(), &epoch_);
    return OpenReports();
}

long Spool::OpenCommands() {
    // Others may pass through it, so that commands under another user reach their own output; who they are is
    // decided by the spool's own 0700.
    const long error = sys::MakeDirAt(dir_.get(), "commands", 0711);
    if (error < 0 && error != -EEXIST) return error;
    const long opened = sys::OpenAt(dir_.get(), "commands", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (opened < 0) return opened;
    commands_ = Fd(opened);
    sys::ChangeModeFd(commands_.get(), 0711);
    return 0;
}

long Spool::ReadOrMakeId() {
    Str text;
    if (ReadFile(dir_.get(), "id", &text, 32) == 0 && ParseHex(text.view(), &id_) && id_ != 0) {
        return 0;
    }
    while (id_ == 0) {
        if (sys::GetRandom(&id_, sizeof id_) < 0) id_ = static_cast<uint64_t>(sys::ClockNs(0));
    }
    text.clear();
    text.Hex(id_).append("\n");
    return ReplaceFile(dir_.get(), "id", text.view());
}

long Spool::OpenReports() {
    // A fresh one, so that no report to an earlier supervisor is left in it. Whatever a command has put there.
    RemoveTree(commands_.get(), "report");
    const long error = sys::MakeFifoAt(commands_.get(), "report", 0600);
    if (error < 0) return error;
    // For reading and writing: never at its end, and shells never wait for a reader.
    const long opened = sys::OpenAt(commands_.get(), "report", O_RDWR | O_NONBLOCK | O_NOFOLLOW);
    if (opened < 0) return opened;
    reports_ = Fd(opened);
    sys::ChangeModeFd(reports_.get(), 0622);  // commands under another user report too
    return 0;
}

bool Spool::HasReports() const {
    struct stat ours {};
    struct stat named {};
    return sys::StatFd(reports_.get(), &ours) == 0 &&
           sys::StatAt(commands_.get(), "report", &named) == 0 && ours.st_ino == named.st_ino;
}

void Spool::SetEpoch(uint64_t epoch) {
    if (epoch == epoch_) return;
    epoch_ = epoch;
    Str text;
    text.Number(epoch);
    ReplaceFile(dir_.get(), "epoch", text.view());
}

void Spool::AppendEvent(Str* to, uint64_t n) const {
    to->Hex(id_).append("-").Number(n);
}

long Spool::CreateCommand(uint64_t n, const Account* owner) {
    Str name;
    name.Number(n);
    long error = sys::MakeDirAt(commands_.get(), name.c_str(), 0711);
    // Somebody cleaned up below us.
    if (error == -ENOENT && OpenCommands() == 0) {
        error = sys::MakeDirAt(commands_.get(), name.c_str(), 0711);
    }
    if (error < 0) return error;
    if (owner != nullptr) {
        // The supervisor's umask took these bits away.
        const Fd made(sys::OpenAt(commands_.get(), name.c_str(), O_RDONLY | O_DIRECTORY));
        sys::ChangeModeFd(made.get(), 0711);
    }
    for (const char* file : {"stdout", "stderr"}) {
        const long opened =
            OpenInCommand(n, file, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW);
        if (opened < 0) {
            RemoveCommand(n);
            return opened;
        }
        const Fd made(opened);
        if (owner != nullptr) sys::ChangeOwnerFd(made.get(), owner->uid, owner->gid);
    }
    return 0;
}

void Spool::RemoveCommand(uint64_t n) {
    Str name;
    for (const char* file : {"stdout", "stderr", "run", "outcome", "script"}) {
        name.clear();
        AppendName(&name, n, file);
        sys::UnlinkAt(commands_.get(), name.c_str());
    }
    name.clear();
    name.Number(n);
    if (sys::UnlinkAt(commands_.get(), name.c_str(), AT_REMOVEDIR) < 0) {
        RemoveTree(commands_.get(), name.c_str());
    }
}

long Spool::OpenInCommand(uint64_t n, const char* name, int flags) const {
    Str path;
    AppendName(&path, n, name);
    return sys::OpenAt(commands_.get(), path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK, 0600);
}

long Spool::WriteInCommand(uint64_t n, const char* name, View bytes) const {
    const long opened = OpenInCommand(n, name, O_WRONLY | O_CREAT | O_TRUNC);
    if (opened < 0) return opened;
    const Fd file(opened);
    return WriteAll(file.get(), bytes);
}

long Spool::WriteOutcome(const DoneFields& done) const {
    Str bytes;
    {
        Writer<Str> writer(bytes, Type::kDone);
        PutDoneFields(writer, done);
    }
    Str path;
    AppendName(&path, done.n, "outcome");
    return ReplaceFile(commands_.get(), path.c_str(), bytes.view());
}

bool Spool::ReadOutcome(uint64_t n, Str* storage, DoneFields* done) const {
    Str path;
    AppendName(&path, n, "outcome");
    storage->clear();
    if (ReadFile(commands_.get(), path.c_str(), storage, 64 << 10) < 0) return false;
    constexpr size_t kHeader = 5;  // length and type, as in a frame
    if (storage->size() < kHeader) return false;
    Reader reader(storage->data() + kHeader, storage->size() - kHeader);
    *done = GetDoneFields(reader);
    return reader.at_end() && done->n == n && done->outcome >= Outcome::kExited &&
           done->outcome <= Outcome::kNotStarted;
}

long Spool::WriteRun(uint64_t n, const RunRecord& run) const {
    Str text;
    text.Number(static_cast<uint64_t>(run.lane)).append(" ");
    text.Number(static_cast<uint64_t>(run.session)).append(" ");
    text.Number(run.since).append(" ").Number(run.boot);
    for (const ProcessId& id : run.before) {
        text.append(" ").Number(static_cast<uint64_t>(id.pid)).append(" ").Number(id.start);
    }
    return WriteInCommand(n, "run", text.view());
}

bool Spool::ReadRun(uint64_t n, RunRecord* run, bool* exists) const {
    Str path;
    AppendName(&path, n, "run");
    Str text;
    const long error = ReadFile(commands_.get(), path.c_str(), &text, 64 << 10);
    *exists = error != -ENOENT;
    Vec<uint64_t> numbers;
    for (size_t at = 0; at < text.size();) {
        const size_t end = text.view().Find(' ', at);
        uint64_t number = 0;
        if (!ParseNumber(View(text.data() + at, end - at), &number)) return false;
        numbers.Add(number);
        at = end + 1;
    }
    if (numbers.size() < 4) return false;
    run->lane = numbers[0] == 0 ? Lane::kSerial : Lane::kParallel;
    run->session = static_cast<int>(numbers[1]);
    run->since = numbers[2];
    run->boot = numbers[3];
    for (size_t i = 4; i + 1 < numbers.size(); i += 2) {
        run->before.Add({static_cast<int>(numbers[i]), numbers[i + 1]});
    }
    return true;
}

long Spool::ListCommands(Vec<uint64_t>* to) const {
    const long opened = sys::OpenAt(commands_.get(), ".", O_RDONLY | O_DIRECTORY);
    if (opened < 0) return opened;
    const Fd again(opened);
    return ListNames(again.get(), [to](View name) {
        uint64_t n = 0;
        if (!ParseNumber(name, &n) || n == 0) return;
        size_t at = to->size();
        while (at > 0 && (*to)[at - 1] > n)
            --at;
        to->Insert(at, n);
    });
}

void Spool::RemoveAll() {
    for (const char* name : {"commands", "socket", "id", "epoch", "lock"}) {
        RemoveTree(dir_.get(), name);
    }
    Str path(path_.view());
    sys::UnlinkAt(AT_FDCWD, path.c_str(), AT_REMOVEDIR);
}

}  // namespace sbxfs::supervisor
