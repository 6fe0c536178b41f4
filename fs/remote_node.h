// A file or directory of the sandbox itself, below fs/. Every operation becomes one on the sandbox's
// files (RemoteFiles), its reply parked until the answer comes. Nothing is cached here: what the kernel
// may keep is decided by the timeouts that fuse_reply.cc gives, which are zero.
//
// The path is made of the names on the way from fs/ at the moment of the request; RENAME moves nodes.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fs/mount_context.h"
#include "fs/node.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class RemoteOpenFile;

// st_mode as shown. FIFOs, devices and sockets are shown as sockets: the kernel then refuses open with
// ENXIO, and nobody blocks in the sandbox on a FIFO without a partner.
std::uint32_t ShownMode(std::uint32_t mode);

class RemoteNode final : public Node {
 public:
    RemoteNode(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : Node(mount, ino, std::move(parent), std::move(name)), sandbox_(std::move(sandbox)) {}

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
    // The sandbox's files for the asker of a parked request: what an interrupt ended is not sent any more.
    LinkedFiles::ForAsker FilesFor(std::uint64_t parked) const;
    // An open file of this node keeps it reachable after its name is gone.
    void Opened(const std::shared_ptr<RemoteOpenFile>& file);

 private:
    std::shared_ptr<RemoteNode> Self();
    // Checks a name and gives the path of the child: EINVAL, ENAMETOOLONG, or ENOENT and EPERM for what
    // is hidden.
    Result<std::string> ChildPath(std::string_view name) const;
    void MakeFile(std::string_view name, std::uint32_t mode, EntryReply reply);
    void AnswerChild(const std::string& name, const RemoteStat& stat, EntryReply reply);
    void Vanished(const std::string& name);
    RemoteFilePtr AnyOpenFile() const;
    StatDone AnswerAttr(Parked<AttrReply> parked);

    const SandboxPtr sandbox_;
    mutable Mutex open_mu_{LockRank::kHandle};
    std::vector<std::weak_ptr<RemoteOpenFile>> open_ GUARDED_BY(open_mu_);
    bool unlinked_ GUARDED_BY(open_mu_) = false;
};

}  // namespace sbxfs
