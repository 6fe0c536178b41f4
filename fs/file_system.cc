#include "fs/file_system.h"

#include <errno.h>
#include <stdio.h>

#include <optional>
#include <utility>

#include "base/log.h"
#include "fs/remote_node.h"
#include "fs/root_dir.h"
#include "fs/snapshots_dir.h"

namespace sbxfs {
namespace {

// The kernel may ask about a number it has just forgotten on another processor.
Error Stale() {
    return {Errno{ESTALE}, ""};
}

Error BadHandle() {
    return {Errno{EBADF}, ""};
}

}  // namespace

FileSystem::FileSystem(Sandboxes& sandboxes, Loop& timer_loop, Clock& clock, MountSettings settings,
                       Config config)
    : context_(sandboxes, timer_loop, clock, std::move(settings), std::move(config)),
      slow_watch_(std::make_shared<SlowWatch>(context_)) {
    context_.inodes.SetRoot(std::make_shared<RootDir>(context_));
    LearnSnapshots(context_);
    slow_watch_->Start();
}

FileSystem::~FileSystem() = default;

void FileSystem::Lookup(Ino parent, std::string_view name, EntryReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->Lookup(name, std::move(reply));
}

void FileSystem::Forget(Ino ino, std::uint64_t count) {
    context_.inodes.Forget(ino, count);
}

void FileSystem::GetAttr(Ino ino, Handle handle, AttrReply reply) {
    const NodePtr node = context_.inodes.Find(ino);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->GetAttr(context_.handles.Find(handle), std::move(reply));
}

void FileSystem::SetAttr(Ino ino, const AttrChange& change, Handle handle, const Caller& who,
                         AttrReply reply) {
    const NodePtr node = context_.inodes.Find(ino);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->SetAttr(change, context_.handles.Find(handle), who, std::move(reply));
}

void FileSystem::ReadLink(Ino ino, TextReply reply) {
    const NodePtr node = context_.inodes.Find(ino);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->ReadLink(std::move(reply));
}

void FileSystem::MakeNode(Ino parent, std::string_view name, std::uint32_t mode, EntryReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->MakeNode(name, mode, std::move(reply));
}

void FileSystem::MakeDir(Ino parent, std::string_view name, std::uint32_t mode, EntryReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->MakeDir(name, mode, std::move(reply));
}

void FileSystem::Unlink(Ino parent, std::string_view name, EmptyReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->Unlink(name, std::move(reply));
}

void FileSystem::RemoveDir(Ino parent, std::string_view name, EmptyReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->RemoveDir(name, std::move(reply));
}

void FileSystem::Symlink(Ino parent, std::string_view name, std::string_view target,
                         EntryReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->Symlink(name, target, std::move(reply));
}

void FileSystem::Rename(Ino parent, std::string_view name, Ino to_parent, std::string_view to_name,
                        unsigned flags, EmptyReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    const NodePtr to = context_.inodes.Find(to_parent);
    if (node == nullptr || to == nullptr) return std::move(reply).Fail(Stale());
    if ((flags & ~static_cast<unsigned>(RENAME_NOREPLACE)) != 0) {
        // EINVAL is what file systems without RENAME_EXCHANGE and RENAME_WHITEOUT say.
        return std::move(reply).Fail(
            Error(Errno{EINVAL},
                  "names cannot be exchanged over SFTP: rename one of them to a third name first"));
    }
    const RenameMode mode = flags == 0 ? RenameMode::kReplace : RenameMode::kNoReplace;
    node->Rename(name, to, to_name, mode, std::move(reply));
}

void FileSystem::Link(Ino ino, Ino to_parent, std::string_view name, EntryReply reply) {
    const NodePtr existing = context_.inodes.Find(ino);
    const NodePtr to = context_.inodes.Find(to_parent);
    if (existing == nullptr || to == nullptr) return std::move(reply).Fail(Stale());
    to->Link(name, existing, std::move(reply));
}

void FileSystem::Open(Ino ino, const OpenRequest& request, OpenReply reply) {
    const NodePtr node = context_.inodes.Find(ino);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->Open(request, std::move(reply));
}

void FileSystem::Create(Ino parent, std::string_view name, std::uint32_t mode,
                        const OpenRequest& request, CreateReply reply) {
    const NodePtr node = context_.inodes.Find(parent);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->Create(name, mode, request, std::move(reply));
}

void FileSystem::Read(Handle handle, std::uint64_t offset, std::size_t size, DataReply reply) {
    const OpenHandlePtr file = context_.handles.Find(handle);
    if (file == nullptr) return std::move(reply).Fail(BadHandle());
    file->Read(offset, size, std::move(reply));
}

void FileSystem::Write(Handle handle, std::uint64_t offset, std::span<const char> bytes,
                       bool from_cache, WrittenReply reply) {
    const OpenHandlePtr file = context_.handles.Find(handle);
    if (file == nullptr) return std::move(reply).Fail(BadHandle());
    file->Write(offset, bytes, from_cache, std::move(reply));
}

void FileSystem::CopyRange(Handle from, FileRange range, Handle to, std::uint64_t offset,
                           WrittenReply reply) {
    const OpenHandlePtr source = context_.handles.Find(from);
    const OpenHandlePtr target = context_.handles.Find(to);
    if (source == nullptr || target == nullptr) return std::move(reply).Fail(BadHandle());
    source->CopyTo(range, target, offset, std::move(reply));
}

void FileSystem::Flush(Handle handle, const Caller& who, EmptyReply reply) {
    const OpenHandlePtr file = context_.handles.Find(handle);
    if (file == nullptr) return std::move(reply).Fail(BadHandle());
    file->Flush(who, std::move(reply));
}

void FileSystem::Fsync(Handle handle, EmptyReply reply) {
    const OpenHandlePtr file = context_.handles.Find(handle);
    if (file == nullptr) return std::move(reply).Fail(BadHandle());
    file->Fsync(std::move(reply));
}

void FileSystem::Release(Handle handle, EmptyReply reply) {
    if (const OpenHandlePtr file = context_.handles.Remove(handle)) file->Release();
    std::move(reply).Ok();
}

void FileSystem::OpenDir(Ino ino, OpenReply reply) {
    const NodePtr node = context_.inodes.Find(ino);
    if (node == nullptr) return std::move(reply).Fail(Stale());
    node->OpenDir(std::move(reply));
}

void FileSystem::ReadDir(Handle handle, std::uint64_t offset, bool plus, PagePtr page,
                         DataReply reply) {
    const OpenHandlePtr file = context_.handles.Find(handle);
    if (file == nullptr) return std::move(reply).Fail(BadHandle());
    file->ReadDir(offset, plus, std::move(page), std::move(reply));
}

void FileSystem::Poll(Handle handle, PollWaker waker, PollReply reply) {
    const OpenHandlePtr file = context_.handles.Find(handle);
    if (file == nullptr) return std::move(reply).Fail(BadHandle());
    file->Poll(std::move(waker), std::move(reply));
}

void FileSystem::Statfs(Ino ino, StatfsReply reply) {
    const NodePtr node = context_.inodes.Find(ino);
    if (node == nullptr) return std::move(reply).Is(StatfsAnswer{});
    node->Statfs(std::move(reply));
}

Errno FileSystem::OnFailure(const RequestFacts& facts, const Error& error) {
    const NodePtr node = context_.inodes.Find(facts.ino);
    const bool remote = std::dynamic_pointer_cast<RemoteNode>(node) != nullptr;
    const Tree tree = remote ? Tree::kFiles : Tree::kControl;
    std::optional<ErrnoMeaning> meaning = MeaningOf(tree, facts.op, error.code());
    // An answer that comes late may be about a node that the kernel has forgotten.
    if (!meaning && node == nullptr) meaning = MeaningOf(Tree::kFiles, facts.op, error.code());
    std::string path = node == nullptr ? "?" : node->Path();
    if (!facts.name.empty()) path += (path == "/" ? "" : "/") + facts.name;
    if (!meaning) {
        Log(LogLevel::kWarning, "unlisted errno",
            {{"op", OpName(facts.op)},
             {"path", path},
             {"errno", static_cast<int>(error.code())},
             {"why", error}});
        context_.refusals.Add(facts.who.tid, path, Error(Errno{EIO}, error.what(), error.blame()));
        return Errno{EIO};
    }
    if (IsOrdinaryAnswer(tree, error.code())) return error.code();
    // Nothing was said where there is nothing to say: a name that is looked for and not there, a copy that the kernel
    // then makes by itself.
    const bool silent = (facts.op == FileOp::kLookup && error.code() == Errno{ENOENT}) ||
                        (facts.op == FileOp::kCopyRange && error.code() == Errno{EOPNOTSUPP});
    if (error.what().empty() && silent) return error.code();
    std::string sentence = error.what();
    if (sentence.empty()) {
        sentence = std::string(meaning->cause) + ": " + std::string(meaning->remedy);
    }
    const Error told(error.code(), std::move(sentence), error.blame());
    const bool crowd = remote && error.code() == Errno{EACCES};
    context_.refusals.Add(facts.who.tid, path, told,
                          crowd ? Refusals::Alike::kOfOneProcess : Refusals::Alike::kTheSame);
    Log(LevelFor(error.blame()), "refused",
        {{"op", OpName(facts.op)},
         {"path", path},
         {"errno", static_cast<int>(error.code())},
         {"why", told}});
    return error.code();
}

void FileSystem::FailParked() {
    context_.lot.FailAll(Error(Errno{ENOTCONN}, "the file system is being unmounted"));
}

}  // namespace sbxfs
