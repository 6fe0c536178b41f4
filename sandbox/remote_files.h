// One sandbox's tree as operations on paths and open files. Fake: FakeFiles (tests/fakes). Real:
// SftpFiles, one SFTP session; LinkedFiles, which lives as long as the sandbox, waits for the link
// and survives its cuts.
//
// Paths are absolute, normalised ("/a/b", no "..", no trailing '/'), in the sandbox's own
// namespace. `done` runs exactly once on the sandbox's loop, never from within the call. Errors
// carry the errno the caller shall see.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/loop.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/file_bytes.h"

namespace sbxfs {

struct RemoteStat {
    std::uint64_t size = 0;
    std::uint32_t mode = 0;  // type and permission bits, as in st_mode
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t atime = 0;  // seconds since the epoch: SFTP v3 has no finer ones
    std::int64_t mtime = 0;
};

struct RemoteEntry {
    std::string
        name;  // never "", ".", "..", nor with '/' or NUL: such entries are dropped and counted
    RemoteStat stat;  // as lstat(2): of the link itself
};

struct RemoteStatfs {
    std::uint64_t block_size = 4096;
    std::uint64_t blocks = 0;
    std::uint64_t blocks_free = 0;
    std::uint64_t blocks_available = 0;
    std::uint64_t files = 0;
    std::uint64_t files_free = 0;
    std::uint64_t name_max = 255;
};

// What SETSTAT shall change; absent members stay as they are.
struct StatChange {
    std::optional<std::uint64_t> size{};
    std::optional<std::uint32_t> mode{};  // permission bits only
    std::optional<std::uint32_t> uid{};   // with gid
    std::optional<std::uint32_t> gid{};   // with uid
    std::optional<std::int64_t> atime{};  // with mtime
    std::optional<std::int64_t> mtime{};  // with atime
};

struct FileRange {
    std::uint64_t offset = 0;
    std::size_t size = 0;
};

// How a file is opened; from open(2)'s flags.
struct OpenHow {
    bool read = false;
    bool write = false;
    bool append = false;
    bool create = false;
    bool exclusive = false;
    bool truncate = false;
    std::uint32_t mode =
        0644;  // for create: exactly these permission bits, whatever the server's umask
};

// An open file of the sandbox. Owned by the FUSE handle; dropping the last reference closes it
// there.
class RemoteFile {
 public:
    RemoteFile() = default;
    RemoteFile(const RemoteFile&) = delete;
    RemoteFile& operator=(const RemoteFile&) = delete;
    virtual ~RemoteFile() = default;
};
using RemoteFilePtr = std::shared_ptr<RemoteFile>;

struct OpenedFile {
    RemoteFilePtr file;
    RemoteStat stat;  // after the open
};

using StatDone = UniqueFunction<void(Result<RemoteStat>)>;
using EntriesDone = UniqueFunction<void(Result<std::vector<RemoteEntry>>)>;
using OpenDone = UniqueFunction<void(Result<OpenedFile>)>;
using BytesDone =
    UniqueFunction<void(Result<std::string>)>;  // shorter than asked only at the end of the file
using TextDone = UniqueFunction<void(Result<std::string>)>;
using StatfsDone = UniqueFunction<void(Result<RemoteStatfs>)>;
using CopiedDone = UniqueFunction<void(Result<std::uint64_t>)>;  // bytes

class RemoteFiles {
 public:
    RemoteFiles() = default;
    RemoteFiles(const RemoteFiles&) = delete;
    RemoteFiles& operator=(const RemoteFiles&) = delete;
    virtual ~RemoteFiles() = default;

    virtual void Lstat(const std::string& path, StatDone done) = 0;
    virtual void List(const std::string& path, EntriesDone done) = 0;
    virtual void ReadLink(const std::string& path,
                          TextDone done) = 0;  // the target as the server has it
    virtual void SetStat(const std::string& path, const StatChange& change, StatDone done) = 0;
    virtual void MakeDir(const std::string& path, std::uint32_t mode, StatDone done) = 0;
    virtual void RemoveDir(const std::string& path, Done done) = 0;
    virtual void Unlink(const std::string& path, Done done) = 0;
    virtual void Symlink(const std::string& target, const std::string& path, StatDone done) = 0;
    virtual void Link(const std::string& from, const std::string& to, StatDone done) = 0;
    // Atomic. kNoReplace: EEXIST when `to` exists.
    enum class Replace { kYes, kNo };
    virtual void Rename(const std::string& from, const std::string& to, Replace replace,
                        Done done) = 0;
    virtual void Statfs(const std::string& path, StatfsDone done) = 0;

    virtual void Open(const std::string& path, const OpenHow& how, OpenDone done) = 0;
    virtual void Read(const RemoteFilePtr& file, FileRange range, BytesDone done) = 0;
    // All of `bytes`, or the first error. With OpenHow::append the server appends and `offset` is
    // ignored.
    virtual void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                       Done done) = 0;
    // Within the sandbox: the bytes do not travel. `range.size` over 0; what is copied may be less, at
    // the end of the source and where the server would be busy too long: callers go on from there.
    // EOPNOTSUPP where the server does not do this, or not with these two files: read and write then.
    virtual void Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
                      std::uint64_t offset, CopiedDone done) = 0;
    virtual void FileStat(const RemoteFilePtr& file, StatDone done) = 0;
    virtual void SetFileStat(const RemoteFilePtr& file, const StatChange& change,
                             StatDone done) = 0;
    // On the server's disk where it offers that, else acknowledged by the server.
    virtual void Sync(const RemoteFilePtr& file, Done done) = 0;
    // Reports what the server says of CLOSE; the file must not be used afterwards.
    virtual void Close(const RemoteFilePtr& file, Done done) = 0;
};

}  // namespace sbxfs
