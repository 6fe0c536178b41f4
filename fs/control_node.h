// The nodes of our own tree: always answered now, from memory, whatever the network does. Bases for
// the one-file-per-kind classes: ControlNode (attributes), ControlDir (listing and lookup), TextNode
// (a file whose whole text is known when it is opened), LinkNode (a symlink of ours).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/mount_context.h"
#include "fs/node.h"

namespace sbxfs {

// How old a time of a directory of ours may be shown.
inline constexpr Duration kControlLoan = std::chrono::milliseconds(100);

class ControlNode : public Node {
 public:
    using Node::Node;
    // Mode with type, size and times of now; owner and st_ino are filled in by the caller.
    virtual Attr Stat() const = 0;
    // What the kernel may answer from for a moment. Only of what changes in nothing but times, so that each step of a
    // path is not a question to us: a command's few control files would be fifteen of them.
    virtual Lease Loan() const { return {}; }
    // Stays its owner's whatever umask= says.
    virtual bool IsSecret() const { return false; }

    void GetAttr(const OpenHandlePtr& open, AttrReply reply) final;
    // Accepts what editors and shells do to a file: truncation, times, chmod and chown to what it is.
    void SetAttr(const AttrChange& change, const OpenHandlePtr& open, const Caller& who,
                 AttrReply reply) override;

    Entry ToEntry() const;
    std::optional<Entry> EntryNow() const final { return ToEntry(); }
};

class ControlDir : public ControlNode {
 public:
    using ControlNode::ControlNode;
    // For those that come and go by the kernel's own mkdir and rmdir, or not at all.
    static constexpr Lease kNameToo{.name = kControlLoan, .attributes = kControlLoan};
    void Lookup(std::string_view name, EntryReply reply) final;
    void OpenDir(OpenReply reply) final;
    Lease Loan() const override { return {.attributes = kControlLoan}; }

    // What readdir shows, in order, without . and ..; types are S_IFMT bits.
    struct Name {
        std::string name;
        std::uint32_t type;
    };
    virtual std::vector<Name> List() const = 0;
    // Any name that can be looked up, listed or not.
    virtual std::optional<Child> FindChild(std::string_view name) const = 0;
    // fsync(2) of the directory. `done` runs on any thread.
    virtual void Sync(Done done) { done(Ok()); }
    // A sentence for ENOENT here; empty: an ordinary one that is not worth keeping.
    virtual std::string MissingText(std::string_view name) const;

 protected:
    // Answers with a child, counted; takes the count back when the answer does not arrive.
    void Answer(const Child& child, EntryReply reply);
};

using TextFunction = std::function<std::string()>;
using TimeFunction = std::function<SystemTime()>;

// A regular file of ours. Read-only here; classes derived from it may take writes.
class TextNode final : public ControlNode {
 public:
    TextNode(MountContext& mount, Ino ino, NodePtr parent, std::string name, TextFunction text,
             TimeFunction mtime, std::uint32_t mode, std::function<void()> opened = {})
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          text_(std::move(text)),
          mtime_(std::move(mtime)),
          mode_(mode),
          opened_(std::move(opened)) {}
    Attr Stat() const override;
    bool IsSecret() const override { return (mode_ & 077) == 0; }
    void Open(const OpenRequest& request, OpenReply reply) override;

 private:
    const TextFunction text_;
    const TimeFunction mtime_;
    const std::uint32_t mode_;  // permission bits
    const std::function<void()> opened_;
};

class LinkNode final : public ControlNode {
 public:
    LinkNode(MountContext& mount, Ino ino, NodePtr parent, std::string name, std::string target,
             SystemTime mtime)
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          target_(std::move(target)),
          mtime_(mtime) {}
    Attr Stat() const override;
    void ReadLink(TextReply reply) override;

 private:
    const std::string target_;
    const SystemTime mtime_;
};

// An open control file whose whole content was fixed at open.
class SnapshotFile final : public OpenHandle {
 public:
    SnapshotFile(NodePtr node, std::string text)
        : OpenHandle(std::move(node)), text_(std::move(text)) {}
    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override;

 private:
    const std::string text_;
};

// Children, ready to be returned from FindChild. `T` is constructed with (mount, ino, parent, name,
// args...); `args` are copied into the node when it is made.
template <class T, class... Args>
Child MakeChild(MountContext& mount, std::string name, std::string identity, Args... args) {
    return Child{std::move(identity),
                 [&mount, name = std::move(name), ... args = std::move(args)](
                     Ino ino, const NodePtr& parent) -> NodePtr {
                     return std::make_shared<T>(mount, ino, parent, name, args...);
                 }};
}
Child TextChild(MountContext& mount, std::string name, TextFunction text, TimeFunction mtime);
// The same, and `opened` is called when somebody opens it to read.
Child TextChild(MountContext& mount, std::string name, TextFunction text, TimeFunction mtime,
                std::function<void()> opened);
// The same with mode 0600, as ssh(1) wants its keys.
Child PrivateTextChild(MountContext& mount, std::string name, TextFunction text,
                       TimeFunction mtime);
Child LinkChild(MountContext& mount, std::string name, std::string target, SystemTime mtime);

// For Open of files that must not be written: EACCES with a sentence, also for root, whom the kernel's
// permission check lets through.
std::optional<Error> RefuseWriting(const OpenRequest& request, std::string_view what);
// Registers the open file and answers; takes it back when the answer does not arrive.
void AnswerOpen(MountContext& mount, OpenHandlePtr file, Opened opened, OpenReply reply);

}  // namespace sbxfs
