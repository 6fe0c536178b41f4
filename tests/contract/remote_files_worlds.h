// Worlds in which a RemoteFiles is tried out: each has a loop, a RemoteFiles, and an empty
// directory to play in. The test's thread is the loop's: Await() starts an operation and turns the
// world until it is done.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "sandbox/remote_files.h"
#include "sandbox/sftp_files.h"
#include "tests/fakes/fake_files.h"
#include "tests/fakes/manual_loop.h"

namespace sbxfs::testing {

class FilesWorld {
 public:
    FilesWorld() = default;
    FilesWorld(const FilesWorld&) = delete;
    FilesWorld& operator=(const FilesWorld&) = delete;
    virtual ~FilesWorld() = default;

    virtual RemoteFiles& files() = 0;
    const std::string& root() const { return root_; }
    std::string operator/(const std::string& name) const { return root_ + "/" + name; }
    ManualLoop& loop() { return loop_; }
    virtual void MakeFifo(const std::string& path) = 0;
    // Runs what can run, and moves what can be moved; waits a moment when there is nothing.
    virtual void Turn() { loop_.Run(); }

    // Turns until `condition` holds; aborts after a generous while.
    template <class Condition>
    void Until(Condition condition) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!condition()) {
            Turn();
            if (std::chrono::steady_clock::now() > deadline) GiveUp();
        }
    }
    template <class T, class Start>
    Result<T> Await(Start start) {
        const auto result = std::make_shared<std::optional<Result<T>>>();
        start(UniqueFunction<void(Result<T>)>(
            [result](Result<T> value) { *result = std::move(value); }));
        Until([&] { return result->has_value(); });
        return std::move(**result);
    }

    // The operations, awaited.
    Result<RemoteStat> Lstat(const std::string& path);
    Result<std::vector<RemoteEntry>> List(const std::string& path);
    Result<std::string> ReadLink(const std::string& path);
    Result<RemoteStat> SetStat(const std::string& path, const StatChange& change);
    Result<RemoteStat> MakeDir(const std::string& path, std::uint32_t mode = 0755);
    Status RemoveDir(const std::string& path);
    Status Unlink(const std::string& path);
    Result<RemoteStat> Symlink(const std::string& target, const std::string& path);
    Result<RemoteStat> Link(const std::string& from, const std::string& to);
    Status Rename(const std::string& from, const std::string& to,
                  RemoteFiles::Replace replace = RemoteFiles::Replace::kYes);
    Result<RemoteStatfs> Statfs(const std::string& path);
    Result<OpenedFile> Open(const std::string& path, const OpenHow& how);
    Result<std::string> Read(const RemoteFilePtr& file, FileRange range);
    Status Write(const RemoteFilePtr& file, std::uint64_t offset, std::string bytes);
    Result<RemoteStat> FileStat(const RemoteFilePtr& file);
    Result<RemoteStat> SetFileStat(const RemoteFilePtr& file, const StatChange& change);
    Result<std::uint64_t> Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
                               std::uint64_t offset);
    Status Sync(const RemoteFilePtr& file);
    Status Close(const RemoteFilePtr& file);

    // A whole file at once; the test fails when it cannot be.
    void Put(const std::string& path, const std::string& bytes, std::uint32_t mode = 0644);
    std::string Get(const std::string& path);

 protected:
    [[noreturn]] static void GiveUp();
    ManualLoop loop_;
    std::string root_;
};

// FakeFiles.
class FakeWorld final : public FilesWorld {
 public:
    FakeWorld();
    RemoteFiles& files() override { return files_; }
    void MakeFifo(const std::string& path) override;

 private:
    FakeFiles files_;
};

// What the server process is started with.
struct ServerSetup {
    std::vector<std::string> arguments{};  // of sftp-server
    bool ordinary_user = false;            // nobody, when we are root
    std::string mount{};  // a shell script that mounts things, in a namespace of its own; $ROOT
    std::uint64_t open_files = 0;  // RLIMIT_NOFILE
};

// SftpFiles over a real sftp-server on a socketpair, in a directory of its own.
class SftpWorld final : public FilesWorld {
 public:
    explicit SftpWorld(const ServerSetup& setup = {});
    ~SftpWorld() override;

    RemoteFiles& files() override { return *files_; }
    SftpFiles& sftp_files() { return *files_; }
    SftpClient& client() { return *client_; }
    void MakeFifo(const std::string& path) override;
    void Turn() override;
    void KillServer();

    static bool ServerIsThere();
    // Whether this process may mount file systems in a namespace of its own.
    static bool MayMount();
    static bool IsRoot();

 private:
    void Spawn(const ServerSetup& setup);

    pid_t pid_ = -1;
    UniqueFd socket_;
    std::shared_ptr<SftpClient> client_;
    std::shared_ptr<SftpFiles> files_;
    std::string buffer_;
};

}  // namespace sbxfs::testing
