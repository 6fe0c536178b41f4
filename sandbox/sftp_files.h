// RemoteFiles over one SFTP session. Holds no cache and waits for nothing: each call is turned into
// pipelined requests of one SftpClient, and refusals into errnos (sftp_errno.h). When the session
// ends everything in flight fails with the session's error; afterwards paths answer with it at
// once, and files opened before with ESTALE. LinkedFiles, above, makes a new SftpFiles for the next
// session.
//
// Made by whoever made the session, shared with the callbacks in flight; it holds the client
// weakly, so the link's owner alone decides when the session ends. Loop thread only, except that
// the last reference to a file may be dropped anywhere. The loop outlives everything here.
//
// Round trips, without what refusals ask for afterwards:
//   1  Lstat, FileStat, ReadLink, RemoveDir, Unlink, Rename, Statfs, Read, Write, Sync, Close, Copy
//   1  SetStat, SetFileStat, Symlink, Link: a change and a look at its result in one flight
//   2  SetStat with a size: truncating follows links, so it looks first
//   1  MakeDir; 2 when the server's umask took bits away
//   1  Open; 2 when the look cannot be trusted, when the server's umask took bits away, or when
//      what shall be created exists already
//   2  List up to 300 entries; 4 for 1,000, 7 for 10,000
//
// SFTP v3 has no O_NOFOLLOW and opens what is there: opening a FIFO would block the whole
// sftp-server until it has a partner. Callers know the type of what they open (the kernel looks
// names up first) and answer ENXIO themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/loop.h"
#include "base/result.h"
#include "sandbox/remote_files.h"
#include "sandbox/sftp_client.h"
#include "sandbox/sftp_errno.h"

namespace sbxfs {

class SftpFiles;
struct SftpLooked;

// A file that is open over one session. What LinkedFiles needs to open it again elsewhere is
// public.
class SftpFile final : public RemoteFile {
 public:
    // Sends CLOSE unless Close() did: from any thread, also when the session or its SftpFiles are
    // gone.
    ~SftpFile() override;
    SftpFile(const SftpFile&) = delete;
    SftpFile& operator=(const SftpFile&) = delete;

    const std::string& path() const { return path_; }  // as opened; renames since are not followed
    const OpenHow& how() const { return how_; }
    const RemoteStat& opened() const { return opened_; }  // as answered by Open
    std::uint64_t link() const { return link_; }          // SftpClient::link() of its session

 private:
    friend class SftpFiles;
    struct Writing;  // one Write whose answers are not all there
    SftpFile() = default;

    Loop* loop_ = nullptr;
    std::weak_ptr<SftpFiles> files_;
    std::uint64_t link_ = 0;
    std::string handle_;
    std::string path_;
    OpenHow how_;
    RemoteStat opened_;
    bool closed_ = false;
    std::list<std::shared_ptr<Writing>> writing_;
};

class SftpFiles final : public RemoteFiles, public std::enable_shared_from_this<SftpFiles> {
 public:
    // `client` has said it is ready.
    static std::shared_ptr<SftpFiles> Make(std::weak_ptr<SftpClient> client, Loop& loop);

    void Lstat(const std::string& path, StatDone done) override;
    void List(const std::string& path, EntriesDone done) override;
    void ReadLink(const std::string& path, TextDone done) override;
    // Never follows links. Times outside 1970..2106 are clamped, as Linux does for file systems
    // that lack them.
    void SetStat(const std::string& path, const StatChange& change, StatDone done) override;
    void MakeDir(const std::string& path, std::uint32_t mode, StatDone done) override;
    void RemoveDir(const std::string& path, Done done) override;
    void Unlink(const std::string& path, Done done) override;
    void Symlink(const std::string& target, const std::string& path, StatDone done) override;
    void Link(const std::string& from, const std::string& to, StatDone done) override;
    // kNo: the server makes it of link(2) and unlink(2) for regular files, which is atomic in what
    // matters. For all else it looks first: a name made in between is replaced, and so is a
    // dangling link by a link.
    void Rename(const std::string& from, const std::string& to, Replace replace,
                Done done) override;
    void Statfs(const std::string& path, StatfsDone done) override;

    void Open(const std::string& path, const OpenHow& how, OpenDone done) override;
    void Read(const RemoteFilePtr& file, FileRange range, BytesDone done) override;
    // Parts of a large append are sent in order without waiting; a server whose disk fills up in
    // the middle may have appended a later part behind a gap. The error says that something went
    // wrong, not how much was kept.
    void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
               Done done) override;
    // At most 16 MiB at once: the server answers nothing else on this session meanwhile.
    void Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
              std::uint64_t offset, CopiedDone done) override;
    void FileStat(const RemoteFilePtr& file, StatDone done) override;
    void SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done) override;
    void Sync(const RemoteFilePtr& file, Done done) override;
    void Close(const RemoteFilePtr& file, Done done) override;

    // Listed entries that were not passed on: hostile names, impossible sizes, no type.
    std::uint64_t DroppedEntries() const { return dropped_entries_; }
    // When a listing is given up as endless; and what all that are under way may take of memory together. One that takes
    // little has its place in any case.
    void BoundListings(std::size_t entries, std::size_t bytes) {
        most_entries_ = entries;
        most_bytes_ = bytes;
    }
    // Handles the server holds for us, or will once it answers.
    std::uint64_t OpenHandles() const { return handles_; }

 private:
    friend class SftpFile;
    class Listing;
    struct Opening;
    struct Reading;
    struct Syncing;
    struct Copying;
    using ClientPtr = std::shared_ptr<SftpClient>;

    SftpFiles(std::weak_ptr<SftpClient> client, Loop& loop)
        : client_(std::move(client)), loop_(loop) {}

    // Answers from the loop's inbox: `done` never runs within the call that brought it.
    template <class Callback, class Value>
    void Later(Callback done, Value value) {
        loop_.Post([done = std::move(done), value = std::move(value)]() mutable {
            done(std::move(value));
        });
    }
    // For Refuse(): hands an error to a callback that takes any Result.
    template <class Callback>
    static UniqueFunction<void(Error)> Failing(Callback done) {
        return [done = std::move(done)](Error error) { done(std::move(error)); };
    }
    // The session, or why there is nothing to ask: it has ended, or a path that must not be sent.
    Result<ClientPtr> Begin(const std::string& path) const;
    Result<ClientPtr> Begin(const std::string& path, const std::string& other) const;
    // The same for an open file of ours.
    Result<ClientPtr> Begin(const SftpFile* file) const;
    // Why nothing can be asked any more.
    Error EndedError() const;
    // Says what a refusal means, after asking what the errno table wants to know.
    void Refuse(SftpCase what, SftpRefusal refusal, const std::string& handle,
                UniqueFunction<void(Error)> done);
    // Callbacks for requests: `done` gets the value, or what the refusal means.
    SftpClient::DoneBack AnswerDone(SftpCase what, Done done);
    SftpClient::AttrsBack AnswerStat(SftpCase what, StatDone done);

    // Ends a change-and-look: `done` gets what was seen, or what the refusal means.
    // A new name, and a look at it. Refused as what exists is, and by the look it was gone, it is tried again: a lock that
    // somebody else has just given back (mount.sides).
    using SendChange = std::function<void(SftpClient&, SftpClient::DoneBack)>;
    static constexpr int kMostAttempts = 4;
    static bool IsGivenBack(const SftpRefusal& refusal, SftpKind seen) {
        return refusal.status == SftpStatus::kFailure && seen == SftpKind::kMissing;
    }
    void MakeName(const ClientPtr& client, const SendChange& send, const SftpCase& what,
                  StatDone done, int attempt = 1);
    UniqueFunction<void(SftpLooked)> FinishMaking(SftpCase what, StatDone done);
    void FixDirMode(const std::string& path, std::uint32_t mode, const RemoteStat& made,
                    StatDone done);
    void Truncate(const std::string& path, const StatChange& change, StatDone done);
    void TruncateRegular(const std::string& path, const StatChange& change, StatDone done);
    void SetAttrs(const ClientPtr& client, const std::string& path, const SftpAttrs& attrs,
                  StatDone done);
    void SetAttrsOfNonLink(const std::string& path, const SftpAttrs& attrs, StatDone done);

    // Whether all but `kept` handles that the server may hold are in use.
    bool HandlesExhausted(const SftpClient& client, std::uint64_t kept) const;
    void TryOpen(const ClientPtr& client, const std::shared_ptr<Opening>& opening);
    void TakeOpening(const std::shared_ptr<Opening>& opening);
    void RetryOrRefuse(const std::shared_ptr<Opening>& opening);
    void TakeLook(const std::shared_ptr<Opening>& opening, const SftpAttrs& attrs);
    void FinishOpening(const std::shared_ptr<Opening>& opening, const SftpAttrs& attrs);
    void FailOpening(const std::shared_ptr<Opening>& opening, SftpRefusal refusal);
    void CloseQuietly(std::uint64_t link, const std::string& handle);

    void ReadPart(const ClientPtr& client, const std::shared_ptr<Reading>& reading,
                  std::size_t index);
    void TakePart(const std::shared_ptr<Reading>& reading, std::size_t index,
                  SftpAnswer<std::string> data);
    void FinishReading(const std::shared_ptr<Reading>& reading);
    void FinishWriting(const std::shared_ptr<SftpFile>& file,
                       const std::shared_ptr<SftpFile::Writing>& writing);

    const std::weak_ptr<SftpClient> client_;
    Loop& loop_;
    std::uint64_t handles_ = 0;
    std::uint64_t dropped_entries_ = 0;
    std::size_t most_entries_ = 2'000'000;
    std::size_t most_bytes_ =
        96U << 20;                  // 200,000 names of any length, or two times as many short ones
    std::size_t listed_bytes_ = 0;  // by the listings under way
};

// Attributes as the rest of sbxfs knows them; an error when they lack a type or cannot be true.
Result<RemoteStat> ToRemoteStat(const SftpAttrs& attrs, const std::string& path);

}  // namespace sbxfs
