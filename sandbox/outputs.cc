#include "sandbox/outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <system_error>

#include "base/files.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace sbxfs {
namespace {

Status WriteAt(int fd, std::uint64_t offset, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return SystemError(errno, "writing a copy of output");
        bytes.remove_prefix(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
    return Ok();
}

Result<std::string> ReadAt(int fd, FileRange range) {
    std::string bytes(range.size, '\0');
    std::size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t got = ::pread(fd, bytes.data() + have, bytes.size() - have,
                                    static_cast<off_t>(range.offset + have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return SystemError(errno, "reading a copy of output");
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    bytes.resize(have);
    return bytes;
}

Status SyncFile(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return errno == ENOENT ? Ok() : Status(SystemError(errno, "open " + path));
    if (::fdatasync(fd.get()) != 0) return SystemError(errno, "fdatasync " + path);
    return Ok();
}

}  // namespace

Result<std::unique_ptr<Outputs>> Outputs::Open(std::string directory) {
    (void)TRY(MakeDirs(directory, 0700));
    return std::unique_ptr<Outputs>(new Outputs(std::move(directory)));
}

void Outputs::StartThread() {
    thread_ = std::make_unique<BatchThread<Job>>(
        "outputs", LockRank::kOutputs, [](std::vector<Job>& batch) {
            for (Job& job : batch) {
                job();
                job = Job();  // what it owned dies before the next one runs
            }
        });
}

std::string Outputs::PathOf(Generation generation) const {
    return directory_ + "/" + ToString(generation);
}

std::string Outputs::PathOf(Generation generation, EventNumber n, OutputStream stream) const {
    return PathOf(generation) + "/" + ToString(n) +
           (stream == OutputStream::kStdout ? ".out" : ".err");
}

Outputs::Found Outputs::FindNow(Generation generation, EventNumber n) const {
    const auto look = [&](OutputStream stream, std::uint64_t& size, std::int64_t& ms) {
        struct stat found {};
        if (::stat(PathOf(generation, n, stream).c_str(), &found) != 0) return;
        size = static_cast<std::uint64_t>(found.st_size);
        ms = std::int64_t{found.st_mtim.tv_sec} * 1000 + found.st_mtim.tv_nsec / 1'000'000;
    };
    Found found;
    look(OutputStream::kStdout, found.sizes.out, found.times.out_ms);
    look(OutputStream::kStderr, found.sizes.err, found.times.err_ms);
    return found;
}

OutputHoles Outputs::HolesNow(Generation generation, EventNumber n, OutputStream stream) const {
    OutputHoles holes;
    const UniqueFd fd(::open(PathOf(generation, n, stream).c_str(), O_RDONLY | O_CLOEXEC));
    struct stat found {};
    if (!fd || ::fstat(fd.get(), &found) != 0) return holes;
    for (off_t at = 0; at < found.st_size;) {
        const off_t hole = ::lseek(fd.get(), at, SEEK_HOLE);
        if (hole < 0 || hole >= found.st_size) break;
        const off_t data = ::lseek(fd.get(), hole, SEEK_DATA);
        at = data < 0 ? found.st_size : data;  // ENXIO: nothing but a hole up to the end
        AddHole(holes, {static_cast<std::uint64_t>(hole), static_cast<std::uint64_t>(at)});
    }
    return holes;
}

std::string Outputs::LogNow(Generation generation) const {
    const std::string path = LogPath(generation);
    Result<std::string> text = ReadWholeFile(path, std::numeric_limits<std::size_t>::max());
    if (!text) {
        if (text.error().code() == Errno{ENOENT}) return "";
        Log(LogLevel::kWarning, "log.jsonl is written anew", {{"why", text.error()}});
        text = std::string();
    }
    const std::size_t end = text->rfind('\n');
    text->resize(end == std::string::npos ? 0 : end + 1);
    if (::truncate(path.c_str(), static_cast<off_t>(text->size())) != 0)
        Log(LogLevel::kWarning, "log.jsonl not cut", {{"why", SystemError(errno, path)}});
    return *std::move(text);
}

Result<UniqueFd> Outputs::OpenForWriting(Generation generation, const std::string& path) const {
    constexpr int kFlags = O_WRONLY | O_CREAT;
    Result<UniqueFd> fd = OpenFile(path, kFlags, 0600);
    if (fd || fd.error().code() != Errno{ENOENT}) return fd;
    (void)::mkdir(PathOf(generation).c_str(), 0700);
    return OpenFile(path, kFlags, 0600);
}

void Outputs::Write(Generation generation, EventNumber n, OutputStream stream, std::uint64_t offset,
                    std::string bytes, Done done) {
    Enqueue(
        [this, generation, n, stream, offset, bytes = std::move(bytes), done = std::move(done)] {
            Result<UniqueFd> fd = OpenForWriting(generation, PathOf(generation, n, stream));
            done(fd ? WriteAt(fd->get(), offset, bytes) : Status(std::move(fd).error()));
        });
}

void Outputs::Skip(Generation generation, EventNumber n, OutputStream stream, std::uint64_t size,
                   Done done) {
    Enqueue([this, generation, n, stream, size, done = std::move(done)] {
        Result<UniqueFd> fd = OpenForWriting(generation, PathOf(generation, n, stream));
        if (!fd) return done(std::move(fd).error());
        struct stat found {};
        if (::fstat(fd->get(), &found) != 0)
            return done(SystemError(errno, "looking at a copy of output"));
        // Longer already where all of it has come once more.
        if (static_cast<std::uint64_t>(found.st_size) < size &&
            ::ftruncate(fd->get(), static_cast<off_t>(size)) != 0)
            return done(SystemError(errno, "extending a copy of output"));
        done(Ok());
    });
}

void Outputs::Punch(Generation generation, EventNumber n, OutputStream stream, OutputHole hole) {
    Enqueue([this, generation, n, stream, hole] {
        const UniqueFd fd(::open(PathOf(generation, n, stream).c_str(), O_WRONLY | O_CLOEXEC));
        // Where the file system cannot make holes the bytes stay, and nobody shows them.
        if (fd) {
            (void)::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(hole.from),
                              static_cast<off_t>(hole.to - hole.from));
        }
    });
}

void Outputs::GiveUp(Generation generation, EventNumber n) {
    Enqueue([this, generation, n] {
        for (const OutputStream stream : {OutputStream::kStdout, OutputStream::kStderr}) {
            const std::string path = PathOf(generation, n, stream);
            struct stat found {};
            if (::stat(path.c_str(), &found) != 0) continue;
            if (::truncate(path.c_str(), 0) != 0 || ::truncate(path.c_str(), found.st_size) != 0)
                Log(LogLevel::kWarning, "output not given up", {{"why", SystemError(errno, path)}});
        }
    });
}

void Outputs::WriteLog(Generation generation, std::uint64_t offset, std::string lines, Done done) {
    Enqueue([this, generation, offset, lines = std::move(lines), done = std::move(done)] {
        Result<UniqueFd> fd = OpenForWriting(generation, LogPath(generation));
        done(fd ? WriteAt(fd->get(), offset, lines) : Status(std::move(fd).error()));
    });
}

void Outputs::ReadLog(Generation generation, FileRange range, BytesDone done) {
    Enqueue([this, generation, range, done = std::move(done)] {
        const UniqueFd fd(::open(LogPath(generation).c_str(), O_RDONLY | O_CLOEXEC));
        if (fd) return done(ReadAt(fd.get(), range));
        if (errno == ENOENT) return done(std::string());
        done(SystemError(errno, "opening log.jsonl"));
    });
}

void Outputs::Read(Generation generation, EventNumber n, OutputStream stream, FileRange range,
                   BytesDone done) {
    Enqueue([this, generation, n, stream, range, done = std::move(done)] {
        const UniqueFd fd(::open(PathOf(generation, n, stream).c_str(), O_RDONLY | O_CLOEXEC));
        if (fd) return done(ReadAt(fd.get(), range));
        if (errno == ENOENT) return done(std::string());
        done(SystemError(errno, "opening a copy of output"));
    });
}

void Outputs::Sync(Generation generation, EventNumber n, Done done) {
    Enqueue([this, generation, n, done = std::move(done)] {
        Status status = SyncFile(PathOf(generation, n, OutputStream::kStdout));
        if (status) status = SyncFile(PathOf(generation, n, OutputStream::kStderr));
        done(std::move(status));
    });
}

void Outputs::Remove(Generation generation, EventNumber n) {
    Enqueue([this, generation, n] {
        (void)::unlink(PathOf(generation, n, OutputStream::kStdout).c_str());
        (void)::unlink(PathOf(generation, n, OutputStream::kStderr).c_str());
    });
}

void Outputs::RemoveAll(Generation generation) {
    Enqueue([this, generation] {
        std::error_code error;
        (void)std::filesystem::remove_all(PathOf(generation), error);
        if (error) Log(LogLevel::kWarning, "output left behind", {{"why", error.message()}});
    });
}

void Outputs::Flush() {
    thread_->Flush();
}

void Outputs::Enqueue(Job job) {
    (void)thread_->Add(
        job);  // refused only while stopping: then `job` and the reply it owns die here
}

}  // namespace sbxfs
