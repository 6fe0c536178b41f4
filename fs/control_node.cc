#include "fs/control_node.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/check.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

// A listing being read: the names as they were at opendir, so that offsets stay true while entries
// come and go.
class ControlDirFile final : public OpenHandle {
 public:
    explicit ControlDirFile(const std::shared_ptr<ControlDir>& dir)
        : OpenHandle(dir), dir_(dir), names_(dir->List()) {}

    void ReadDir(std::uint64_t offset, bool plus, PagePtr page, DataReply reply) override {
        for (std::uint64_t at = offset; at < names_.size() + 2; ++at) {
            if (!(plus ? AddPlus(at, *page) : Add(at, *page))) break;
        }
        std::move(reply).Bytes(page->bytes());
    }
    void Fsync(EmptyReply reply) override {
        dir_->Sync(
            [parked = node()->mount().lot.Park(std::move(reply))](const Status& status) mutable {
                if (auto taken = parked.Take()) std::move(*taken).Done(status);
            });
    }

 private:
    Listed Dots(std::uint64_t at) const {
        const NodePtr parent = at == 0 ? nullptr : node()->Parent();
        return {at == 0 ? "." : "..", S_IFDIR,
                parent != nullptr ? parent->StableIno() : node()->StableIno()};
    }
    bool Add(std::uint64_t at, DirectoryPage& page) const {
        if (at < 2) return page.Add(Dots(at), at + 1);
        const ControlDir::Name& name = names_[at - 2];
        const std::string path = node()->Path();
        const std::uint64_t ino = Fnv1a((path == "/" ? "" : path) + "/" + name.name);
        return page.Add({name.name, name.type, ino}, at + 1);
    }
    bool AddPlus(std::uint64_t at, DirectoryPage& page) const {
        if (at < 2) return page.AddPlus(Dots(at), Entry{}, at + 1);  // never counted
        const ControlDir::Name& name = names_[at - 2];
        const std::optional<Child> child = dir_->FindChild(name.name);
        if (!child) return true;  // gone since opendir
        MountContext& mount = node()->mount();
        // Counted first, taken back if it did not fit: FORGET may come before this returns.
        const NodePtr entered = mount.inodes.Enter(node(), *child);
        const std::optional<Entry> entry = entered->EntryNow();
        const Listed listed{name.name, name.type, entered->StableIno()};
        const bool counted = entry.has_value();
        const bool fits = page.AddPlus(listed, entry.value_or(Entry{}), at + 1);
        if (!fits || !counted) mount.inodes.Forget(entered->ino(), 1);
        return fits;
    }

    const std::shared_ptr<ControlDir> dir_;
    const std::vector<ControlDir::Name> names_;
};

// umask= lets others have what the owner has: the bits of group and others that it leaves.
std::uint32_t OfOthers(std::uint32_t mode, mode_t umask) {
    const std::uint32_t owner = (mode >> 6) & 07;
    return (owner << 3 | owner) & ~static_cast<std::uint32_t>(umask);
}

}  // namespace

Entry ControlNode::ToEntry() const {
    Entry entry{ino(), Stat(), Loan()};
    entry.attr.st_ino = StableIno();
    entry.attr.uid = mount().settings.uid;
    entry.attr.gid = mount().settings.gid;
    if (!IsSecret()) entry.attr.mode |= OfOthers(entry.attr.mode, mount().settings.umask);
    return entry;
}

void ControlNode::GetAttr(const OpenHandlePtr&, AttrReply reply) {
    std::move(reply).Is(ToEntry());
}

void ControlNode::SetAttr(const AttrChange& change, const OpenHandlePtr&, const Caller&,
                          AttrReply reply) {
    const Entry entry = ToEntry();
    const bool same_mode = !change.mode || (*change.mode & 07777) == (entry.attr.mode & 07777);
    const bool same_owner = (!change.uid || *change.uid == entry.attr.uid) &&
                            (!change.gid || *change.gid == entry.attr.gid);
    if (!same_mode || !same_owner) {
        return std::move(reply).Fail(
            Error(Errno{EPERM}, "mode and owner of control entries are fixed"));
    }
    std::move(reply).Is(entry);
}

std::string ControlDir::MissingText(std::string_view) const {
    return "";
}

void ControlDir::Answer(const Child& child, EntryReply reply) {
    const NodePtr node = mount().inodes.Enter(shared_from_this(), child);
    const std::optional<Entry> entry = node->EntryNow();
    CHECK(entry.has_value());  // FindChild gives only what can be told at once
    if (std::move(reply).Found(*entry) == Delivery::kUndelivered) {
        mount().inodes.Forget(node->ino(), 1);
    }
}

void ControlDir::Lookup(std::string_view name, EntryReply reply) {
    const std::optional<Child> child = FindChild(name);
    if (!child) return std::move(reply).Fail(Error(Errno{ENOENT}, MissingText(name)));
    Answer(*child, std::move(reply));
}

void ControlDir::OpenDir(OpenReply reply) {
    auto file =
        std::make_shared<ControlDirFile>(std::static_pointer_cast<ControlDir>(shared_from_this()));
    AnswerOpen(mount(), std::move(file), Opened{}, std::move(reply));
}

Attr TextNode::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | mode_;
    attr.size = text_().size();
    attr.atime = attr.mtime = attr.ctime = mtime_();
    return attr;
}

void TextNode::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    AnswerOpen(mount(), std::make_shared<SnapshotFile>(shared_from_this(), text_()),
               Opened{.direct_io = true}, std::move(reply));
    if (opened_) opened_();
}

Attr LinkNode::Stat() const {
    Attr attr;
    attr.mode = S_IFLNK | 0777;
    attr.size = target_.size();
    attr.atime = attr.mtime = attr.ctime = mtime_;
    return attr;
}

void LinkNode::ReadLink(TextReply reply) {
    std::move(reply).Text(target_);
}

void SnapshotFile::Read(std::uint64_t offset, std::size_t size, DataReply reply) {
    const std::size_t at = std::min<std::uint64_t>(offset, text_.size());
    std::move(reply).Bytes(std::span(text_).subspan(at, std::min(size, text_.size() - at)));
}

Child TextChild(MountContext& mount, std::string name, TextFunction text, TimeFunction mtime) {
    const std::string identity = name;
    return MakeChild<TextNode>(mount, std::move(name), identity, std::move(text), std::move(mtime),
                               std::uint32_t{0444});
}

Child TextChild(MountContext& mount, std::string name, TextFunction text, TimeFunction mtime,
                std::function<void()> opened) {
    const std::string identity = name;
    return MakeChild<TextNode>(mount, std::move(name), identity, std::move(text), std::move(mtime),
                               std::uint32_t{0444}, std::move(opened));
}

Child PrivateTextChild(MountContext& mount, std::string name, TextFunction text,
                       TimeFunction mtime) {
    const std::string identity = name;
    return MakeChild<TextNode>(mount, std::move(name), identity, std::move(text), std::move(mtime),
                               std::uint32_t{0600});
}

Child LinkChild(MountContext& mount, std::string name, std::string target, SystemTime mtime) {
    // A link that points elsewhere is another node: the kernel may cache what readlink said.
    const std::string identity = name + " -> " + target;
    return MakeChild<LinkNode>(mount, std::move(name), identity, std::move(target), mtime);
}

std::optional<Error> RefuseWriting(const OpenRequest& request, std::string_view what) {
    if (!request.Writes() && (request.flags & O_TRUNC) == 0) return std::nullopt;
    return Error(Errno{EACCES}, "'" + std::string(what) + "' can only be read");
}

void AnswerOpen(MountContext& mount, OpenHandlePtr file, Opened opened, OpenReply reply) {
    opened.handle = mount.handles.Add(std::move(file));
    if (std::move(reply).Open(opened) == Delivery::kDelivered) return;
    if (const OpenHandlePtr undone = mount.handles.Remove(opened.handle)) undone->Release();
}

}  // namespace sbxfs
