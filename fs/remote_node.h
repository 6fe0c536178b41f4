// A file or directory of the sandbox itself, below fs/. What is known of it is answered at once; all else
// becomes an operation on the sandbox's files (CachedFiles), its reply parked until the answer comes.
// remote_node.cc looks and opens, remote_names.cc makes, moves and removes. What may be cached where,
// and for how long, is told in docs/CACHES.md.
//
// The path is made of the names on the way from fs/ at the moment of the request; RENAME moves nodes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fs/mount_context.h"
#include "fs/node.h"
#include "sandbox/cached_files.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class RemoteOpenFile;

// st_mode as shown. FIFOs, devices and sockets are shown as sockets: the kernel then refuses open with
// ENXIO, and nobody blocks in the sandbox on a FIFO without a partner.
std::uint32_t ShownMode(std::uint32_t mode);
// From open(2)'s flags.
OpenHow HowToOpen(int flags);
// Such a handle bypasses the kernel's pages: with them the kernel cuts a write(2) that crosses a page it does not have
// into two requests, and a line of somebody in the sandbox could come between them. Who reads through the same handle
// keeps the pages, which mmap(2) needs.
bool AppendsOnly(int flags);

class RemoteNode final : public Node {
 public:
    // `type`: S_IFMT bits as shown. Another type is another node: the kernel must not see a number
    // change its type.
    RemoteNode(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
               std::uint32_t type)
        : Node(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          type_(type) {}

    const SandboxPtr& sandbox() const { return sandbox_; }
    // The path in the sandbox's own namespace.
    std::string RemotePath() const;

    std::optional<Entry> EntryNow() const override;
    void GetAttr(const OpenHandlePtr& open, AttrReply reply) override;
    void SetAttr(const AttrChange& change, const OpenHandlePtr& open, const Caller& who,
                 AttrReply reply) override;
    void Lookup(std::string_view name, EntryReply reply) override;
    void ReadLink(TextReply reply) override;
    void Open(const OpenRequest& request, OpenReply reply) override;
    void OpenDir(OpenReply reply) override;
    void Create(std::string_view name, std::uint32_t mode, const OpenRequest& request,
                CreateReply reply) override;
    void MakeNode(std::string_view name, std::uint32_t mode, EntryReply reply) override;
    void MakeDir(std::string_view name, std::uint32_t mode, EntryReply reply) override;
    void Symlink(std::string_view name, std::string_view target, EntryReply reply) override;
    void Link(std::string_view name, const NodePtr& existing, EntryReply reply) override;
    void Unlink(std::string_view name, EmptyReply reply) override;
    void RemoveDir(std::string_view name, EmptyReply reply) override;
    void Rename(std::string_view name, const NodePtr& to_parent, std::string_view to_name,
                RenameMode mode, EmptyReply reply) override;
    void Statfs(StatfsReply reply) override;

    // For listings and answers: a child with what the server said of it.
    Child ChildNode(std::string_view name, std::uint32_t type) const;
    Entry ToEntry(const Node& node, const RemoteStat& stat) const;
    CachedFiles& files() const { return sandbox_->cached(); }
    // The sandbox's files for the asker of a parked request: what an interrupt ended is not sent any more.
    CachedFiles::Asker FilesFor(std::uint64_t parked) const;

    // For open files: content or attributes are about to be changed through this node, or have been.
    void Changed();
    std::uint64_t changes() const { return changes_; }
    // Of them, those of times, mode and owner, which leave its bytes as they are.
    std::uint64_t sets() const { return sets_; }
    // The file's own attributes after this mount's last write to it: the pages of that time are known
    // to be theirs.
    void WroteAll(FileCache::Era era, const RemoteStat& stat);
    // Something was written past the kernel's pages.
    void ForgetPages();
    bool HasLostItsName() const;
    // The content was changed through this node: what the kernel has of it under another of its names is
    // dropped, soon. Not waited for: dropping a page may write it back first, which waits for us.
    void DropTwins();

 private:
    std::shared_ptr<RemoteNode> Self();
    // Checks a name and gives the path of the child: EINVAL, ENAMETOOLONG, or ENOENT and EPERM for what
    // is hidden.
    Result<std::string> ChildPath(std::string_view name) const;
    void MakeFile(std::string_view name, std::uint32_t mode, EntryReply reply);
    void AnswerChild(const std::string& name, const RemoteStat& stat, EntryReply reply);
    void AnswerLinked(const std::string& name, const RemoteNode& twin, const RemoteStat& stat,
                      EntryReply reply);
    void AnswerOpened(const CachedFiles::Opened& opened, std::uint64_t changes, int flags,
                      OpenReply reply);
    // The kernel asks at once for a second time when a name that it knew was not answered for; who waits for it has waited
    // for his bound already.
    std::optional<Error> Unanswered(std::string_view name, pid_t caller);
    Result<Entry> ToAttr(const RemoteStat& stat) const;
    void Vanished(const std::string& name);
    std::shared_ptr<RemoteOpenFile> AnyOpenFile() const;
    // RemoteOpenFile's, of any that is open.
    std::optional<RemoteStat> KnownToWriter() const;
    StatDone AnswerAttr(Parked<AttrReply> parked);
    // A link's target as it is shown; `path`: the link's.
    std::string Contained(const std::string& target, const std::string& path) const;
    // An open file of this node keeps it reachable after its name is gone.
    // `changes`: of this node, before it was opened.
    std::shared_ptr<RemoteOpenFile> MakeOpen(const CachedFiles::Opened& opened,
                                             std::uint64_t changes, int flags);
    CachedFiles::Asker::Verify MustVerify() const;
    // Whether what the kernel has cached of an earlier open is true of this one. From now on it counts
    // as cached at this one.
    bool MayKeepPages(const CachedFiles::Opened& opened);

    struct Wait {
        std::string name;
        pid_t caller = 0;
        SteadyTime until{};
        Error error;
    };

    const SandboxPtr sandbox_;
    const std::uint32_t type_;
    std::atomic<std::uint64_t> changes_{0};
    std::atomic<std::uint64_t> sets_{0};
    mutable Mutex open_mu_{LockRank::kHandle};
    std::vector<std::weak_ptr<RemoteOpenFile>> open_ GUARDED_BY(open_mu_);
    bool unlinked_ GUARDED_BY(open_mu_) = false;
    std::vector<Wait> unanswered_ GUARDED_BY(open_mu_);  // look-ups that have just timed out
    // What the file was like before the kernel could read the pages it has.
    struct Pages {
        FileCache::Era era = 0;
        RemoteStat stat;
        bool recent = true;
        std::optional<IdentityStat> identity;  // where it says something
    };
    std::optional<Pages> pages_ GUARDED_BY(open_mu_);
};

}  // namespace sbxfs
