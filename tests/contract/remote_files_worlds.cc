#include "tests/contract/remote_files_worlds.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/check.h"

namespace sbxfs::testing {
namespace {

constexpr const char* kServer = "/usr/lib/openssh/sftp-server";
constexpr uid_t kNobody = 65534;

// In the child, between fork and exec: only what may be called there.
void BecomeServer(int socket, const ServerSetup& setup, const std::string& root) {
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!setup.mount.empty()) {
        if (::unshare(CLONE_NEWNS) != 0) ::_exit(120);
        ::setenv("ROOT", root.c_str(), 1);
        const std::string script = "set -e; mount --make-rprivate /; " + setup.mount;
        if (::system(script.c_str()) != 0) ::_exit(121);
    }
    if (setup.open_files != 0) {
        const rlimit limit{setup.open_files, setup.open_files};
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::_exit(122);
    }
    if (setup.ordinary_user && ::geteuid() == 0 &&
        (::setgroups(0, nullptr) != 0 || ::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) {
        ::_exit(123);
    }
    if (::dup2(socket, 0) < 0 || ::dup2(socket, 1) < 0) ::_exit(124);
    std::vector<char*> argv{const_cast<char*>(kServer)};
    for (const std::string& argument : setup.arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execv(kServer, argv.data());
    ::_exit(125);
}

}  // namespace

void FilesWorld::GiveUp() {
    (void)std::fprintf(stderr, "an operation was not answered within 30 s\n");
    std::abort();
}

Result<RemoteStat> FilesWorld::Lstat(const std::string& path) {
    return Await<RemoteStat>([&](StatDone done) { files().Lstat(path, std::move(done)); });
}
Result<std::vector<RemoteEntry>> FilesWorld::List(const std::string& path) {
    return Await<std::vector<RemoteEntry>>(
        [&](EntriesDone done) { files().List(path, std::move(done)); });
}
Result<std::string> FilesWorld::ReadLink(const std::string& path) {
    return Await<std::string>([&](TextDone done) { files().ReadLink(path, std::move(done)); });
}
Result<RemoteStat> FilesWorld::SetStat(const std::string& path, const StatChange& change) {
    return Await<RemoteStat>(
        [&](StatDone done) { files().SetStat(path, change, std::move(done)); });
}
Result<RemoteStat> FilesWorld::MakeDir(const std::string& path, std::uint32_t mode) {
    return Await<RemoteStat>([&](StatDone done) { files().MakeDir(path, mode, std::move(done)); });
}
Status FilesWorld::RemoveDir(const std::string& path) {
    return Await<Unit>([&](Done done) { files().RemoveDir(path, std::move(done)); });
}
Status FilesWorld::Unlink(const std::string& path) {
    return Await<Unit>([&](Done done) { files().Unlink(path, std::move(done)); });
}
Result<RemoteStat> FilesWorld::Symlink(const std::string& target, const std::string& path) {
    return Await<RemoteStat>(
        [&](StatDone done) { files().Symlink(target, path, std::move(done)); });
}
Result<RemoteStat> FilesWorld::Link(const std::string& from, const std::string& to) {
    return Await<RemoteStat>([&](StatDone done) { files().Link(from, to, std::move(done)); });
}
Status FilesWorld::Rename(const std::string& from, const std::string& to,
                          RemoteFiles::Replace replace) {
    return Await<Unit>([&](Done done) { files().Rename(from, to, replace, std::move(done)); });
}
Result<RemoteStatfs> FilesWorld::Statfs(const std::string& path) {
    return Await<RemoteStatfs>([&](StatfsDone done) { files().Statfs(path, std::move(done)); });
}
Result<OpenedFile> FilesWorld::Open(const std::string& path, const OpenHow& how) {
    return Await<OpenedFile>([&](OpenDone done) { files().Open(path, how, std::move(done)); });
}
Result<std::string> FilesWorld::Read(const RemoteFilePtr& file, FileRange range) {
    return Await<std::string>([&](BytesDone done) { files().Read(file, range, std::move(done)); });
}
Status FilesWorld::Write(const RemoteFilePtr& file, std::uint64_t offset, std::string bytes) {
    return Await<Unit>(
        [&](Done done) { files().Write(file, offset, std::move(bytes), std::move(done)); });
}
Result<RemoteStat> FilesWorld::FileStat(const RemoteFilePtr& file) {
    return Await<RemoteStat>([&](StatDone done) { files().FileStat(file, std::move(done)); });
}
Result<RemoteStat> FilesWorld::SetFileStat(const RemoteFilePtr& file, const StatChange& change) {
    return Await<RemoteStat>(
        [&](StatDone done) { files().SetFileStat(file, change, std::move(done)); });
}
Result<std::uint64_t> FilesWorld::Copy(const RemoteFilePtr& from, FileRange range,
                                       const RemoteFilePtr& to, std::uint64_t offset) {
    return Await<std::uint64_t>(
        [&](CopiedDone done) { files().Copy(from, range, to, offset, std::move(done)); });
}
Status FilesWorld::Sync(const RemoteFilePtr& file) {
    return Await<Unit>([&](Done done) { files().Sync(file, std::move(done)); });
}
Status FilesWorld::Close(const RemoteFilePtr& file) {
    return Await<Unit>([&](Done done) { files().Close(file, std::move(done)); });
}

void FilesWorld::Put(const std::string& path, const std::string& bytes, std::uint32_t mode) {
    const Result<OpenedFile> opened =
        Open(path, {.write = true, .create = true, .truncate = true, .mode = mode});
    ASSERT_TRUE(opened.has_value()) << opened.error().what();
    EXPECT_TRUE(Write(opened->file, 0, bytes).has_value());
    EXPECT_TRUE(Close(opened->file).has_value());
}

std::string FilesWorld::Get(const std::string& path) {
    const Result<OpenedFile> opened = Open(path, {.read = true});
    if (!opened) return opened.error().what();
    const Result<std::string> bytes = Read(opened->file, {0, 1U << 20});
    return bytes ? *bytes : bytes.error().what();
}

FakeWorld::FakeWorld() : files_(loop_) {
    root_ = "/w";
    files_.PutDir(root_);
}

void FakeWorld::MakeFifo(const std::string& path) {
    files_.PutSpecial(path, S_IFIFO | 0600);
}

SftpWorld::SftpWorld(const ServerSetup& setup) : buffer_(256U << 10, '\0') {
    const char* base = ::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): one thread
    root_ = std::string(base != nullptr ? base : "/tmp") + "/sbxfs-files-XXXXXX";
    CHECK(::mkdtemp(root_.data()) != nullptr);
    CHECK(::chmod(root_.c_str(), 0755) == 0);
    if (setup.ordinary_user && IsRoot()) CHECK(::chown(root_.c_str(), kNobody, kNobody) == 0);
    Spawn(setup);
    client_ = SftpClient::Make(1);
    std::optional<Status> ready;
    client_->Start([&](Status status) { ready = std::move(status); });
    Until([&] { return ready.has_value(); });
    CHECK(ready->has_value());
    files_ = SftpFiles::Make(client_, loop_);
}

SftpWorld::~SftpWorld() {
    KillServer();
    files_.reset();
    client_.reset();
    loop_.Run();
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
}

void SftpWorld::Spawn(const ServerSetup& setup) {
    std::array<int, 2> ends{};
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    socket_.reset(ends[0]);
    const UniqueFd theirs(ends[1]);
    pid_ = ::fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) BecomeServer(theirs.get(), setup, root_);
    CHECK(::fcntl(socket_.get(), F_SETFL, O_NONBLOCK) == 0);
}

void SftpWorld::KillServer() {
    if (pid_ < 0) return;
    (void)::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

void SftpWorld::MakeFifo(const std::string& path) {
    CHECK(::mkfifo(path.c_str(), 0600) == 0);
}

void SftpWorld::Turn() {
    bool moved = loop_.Run() != 0;
    while (!client_->Unsent().empty()) {
        const std::string_view out = client_->Unsent();
        const ssize_t put = ::send(socket_.get(), out.data(), out.size(), MSG_NOSIGNAL);
        if (put <= 0) break;
        client_->Sent(static_cast<std::size_t>(put));
        moved = true;
    }
    const ssize_t got = ::read(socket_.get(), buffer_.data(), buffer_.size());
    if (got > 0) {
        const Status fed =
            client_->Feed(std::string_view(buffer_).substr(0, static_cast<std::size_t>(got)));
        EXPECT_TRUE(fed.has_value()) << fed.error().what();
        moved = true;
    } else if (got == 0) {
        client_->FailAll(Error(Errno{EHOSTUNREACH}, "sftp-server has ended", Blame::kRemote));
        moved = true;
    }
    loop_.Run();
    if (moved) return;
    const short want = client_->Unsent().empty() ? POLLIN : POLLIN | POLLOUT;
    pollfd poll{.fd = socket_.get(), .events = want, .revents = 0};
    (void)::poll(&poll, 1, 100);
}

bool SftpWorld::ServerIsThere() {
    return ::access(kServer, X_OK) == 0;
}

bool SftpWorld::IsRoot() {
    return ::geteuid() == 0;
}

bool SftpWorld::MayMount() {
    const pid_t child = ::fork();
    CHECK(child >= 0);
    if (child == 0) {
        const bool may = ::unshare(CLONE_NEWNS) == 0 &&
                         ::system("mount --make-rprivate / && mount -t tmpfs none /mnt") == 0;
        ::_exit(may ? 0 : 1);
    }
    int status = 0;
    CHECK(::waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace sbxfs::testing
