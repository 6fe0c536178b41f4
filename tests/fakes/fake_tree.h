// A file tree in memory that behaves as Linux does for one privileged user: links are followed
// where the kernel follows them, unlinked files live on while they are open, errors are the
// kernel's. What FakeFiles is made of; tests also play the sandbox's own programs with it. No
// thread rules of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "sandbox/file_identity.h"
#include "sandbox/remote_files.h"
#include "sandbox/supervisor_port.h"

namespace sbxfs::testing {

inline StatChange SizeChange(std::uint64_t size) {
    StatChange change;
    change.size = size;
    return change;
}
inline StatChange ModeChange(std::uint32_t mode) {
    StatChange change;
    change.mode = mode;
    return change;
}
inline StatChange TimesChange(std::int64_t atime, std::int64_t mtime) {
    StatChange change;
    change.atime = atime;
    change.mtime = mtime;
    return change;
}

class FakeTree {
 public:
    struct Node;
    using NodePtr = std::shared_ptr<Node>;
    struct Node {
        RemoteStat stat;      // size of directories: 4096
        std::string content;  // of a file, or a link's target
        std::map<std::string, NodePtr> children;
        std::uint64_t ino = 0;
        std::uint32_t nlink = 1;
        std::int64_t ctime_ns = 0;
        std::int64_t birth_ns = 0;
    };
    enum class Follow { kYes, kNo };

    explicit FakeTree(Clock& clock);

    Result<NodePtr> Find(const std::string& path, Follow last);
    Result<RemoteStat> Lstat(const std::string& path);
    // What a supervisor there sees of it.
    IdentityStat Identity(const std::string& path);
    Result<std::vector<RemoteEntry>> List(const std::string& path);
    Result<std::string> ReadLink(const std::string& path);
    Result<RemoteStat> SetStat(const std::string& path, const StatChange& change);
    Result<RemoteStat> MakeDir(const std::string& path, std::uint32_t mode);
    Status RemoveDir(const std::string& path);
    Status Unlink(const std::string& path);
    Result<RemoteStat> Symlink(const std::string& target, const std::string& path);
    Result<RemoteStat> Link(const std::string& from, const std::string& to);
    Status Rename(const std::string& from, const std::string& to, RemoteFiles::Replace replace);
    RemoteStatfs Statfs() const;
    Result<NodePtr> Open(const std::string& path, const OpenHow& how);
    Result<std::string> Read(const Node& node, FileRange range);
    Status Write(Node& node, std::uint64_t offset, std::string_view bytes);
    Result<RemoteStat> Change(Node& node, const StatChange& change);
    // As a supervisor makes a file with its bytes. With `torn` only the file is made, and that is why.
    StoredFile Store(const StoreRequest& request, std::optional<int> torn);
    // FIFOs, devices, sockets.
    Result<RemoteStat> MakeSpecial(const std::string& path, std::uint32_t type_and_mode);

    // Once every byte is used up writes fail with ENOSPC.
    void SetCapacity(std::uint64_t bytes) { capacity_ = bytes; }
    void SetReadOnly(bool read_only) { read_only_ = read_only; }

 private:
    struct Place {  // where a path's last name is, or would be
        NodePtr directory;
        std::string name;
        NodePtr node;  // null when nothing is there
    };
    Result<Place> Walk(const std::string& path, Follow last, unsigned& links);
    Result<Place> PlaceOf(const std::string& path, Follow last);
    Result<Place> EmptyPlace(const std::string& path);  // EEXIST when taken, EROFS
    NodePtr Make(const Place& place, std::uint32_t mode, std::string content);
    Status Resize(Node& node, std::uint64_t size);
    Status Writable() const;
    void Remove(const Place& place);
    std::int64_t Now() const;
    // Its content, attributes or names changed: no two changes leave the same ctime.
    void Touch(Node& node);

    Clock& clock_;
    NodePtr root_;
    std::uint64_t capacity_ = 1ULL << 30;
    std::uint64_t used_ = 0;
    bool read_only_ = false;
    std::uint64_t last_ino_ = 1;
    std::int64_t changes_ = 0;
};

}  // namespace sbxfs::testing
