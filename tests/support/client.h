// A program on this machine together with the part of the kernel between it and FileSystem: walks
// paths by look-ups, counts them, and forgets them in the end. Every call sends what the kernel would
// send, lets the mount settle and returns what the program would see; Start...() calls return while
// the answer may still be out.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/file_system.h"
#include "tests/fakes/recording_sink.h"
#include "tests/support/test_mount.h"

namespace sbxfs::testing {

// "<ENOENT>", as Cat() and the like return it in place of a content.
std::string ErrorWord(int code);

class Client {
 public:
    // `tid`: a thread of the process it is; 0: one that cannot be seen.
    explicit Client(TestMount& mount, pid_t tid = ::getpid()) : mount_(mount), tid_(tid) {}
    // Gives back every look-up.
    ~Client() { ForgetAll(); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    class File;
    using FilePtr = std::unique_ptr<File>;

    // --- whole calls; 0 or an errno ---
    int Mkdir(const std::string& path, std::uint32_t mode = 0755);
    int Rmdir(const std::string& path);
    int Unlink(const std::string& path);
    int Rename(const std::string& from, const std::string& to, unsigned flags = 0);
    int Symlink(const std::string& target, const std::string& path);
    int Link(const std::string& from, const std::string& to);
    // chmod(2) and its like, which come by the inode.
    RecordingPtr StartSetAttr(Ino ino, const AttrChange& change);
    int SetAttr(Ino ino, const AttrChange& change) { return FinishCode(StartSetAttr(ino, change)); }
    int Mknod(const std::string& path, std::uint32_t mode);
    int Set(const std::string& path, const AttrChange& change);
    // As a shell redirection: OPEN(O_TRUNC), or CREATE where there is nothing, FLUSH without data,
    // WRITE, FLUSH, RELEASE. The first errno of them.
    int Echo(std::string_view text, const std::string& path);

    // --- content, or "<ENOENT>" ---
    std::string Cat(const std::string& path);
    std::string ReadLink(const std::string& path);
    std::vector<std::string> List(const std::string& path);  // by READDIR, without . and ..
    // What events/ of a sandbox lists of events: all but log.jsonl, which is always there.
    std::vector<std::string> Events(const std::string& box);
    std::vector<std::string> ListPlus(const std::string& path);
    // Aborts when it is not there.
    Attr Stat(const std::string& path);
    // 0 or an errno; the path's node is known afterwards.
    int Look(const std::string& path);
    Ino InoOf(const std::string& path);

    // Never null; ask error().
    FilePtr Open(const std::string& path, int flags);
    FilePtr Create(const std::string& path, int flags, std::uint32_t mode = 0644);

    // --- requests whose answer may be late ---
    RecordingPtr StartLookup(Ino parent, const std::string& name);
    RecordingPtr StartMkdir(const std::string& path);
    RecordingPtr StartRmdir(const std::string& path);
    RecordingPtr StartUnlink(const std::string& path);
    RecordingPtr StartRename(const std::string& from, const std::string& to);
    RecordingPtr StartGetAttr(const std::string& path);
    RecordingPtr StartOpen(const std::string& path, int flags);
    RecordingPtr StartCreate(const std::string& path, int flags);
    RecordingPtr StartOpenDir(const std::string& path);

    // One request of any kind, named as in fs/errno_table.h or as people do; counts what the answer hands out. An
    // errno that the table lacks for it fails the test.
    template <class R>
    RecordingPtr Ask(const char* op, Ino ino, const std::string& name,
                     const std::function<void(R)>& request,
                     Delivery delivery = Delivery::kDelivered) {
        const auto recording = std::make_shared<Recording>();
        auto sink = std::make_unique<RecordingSink>(recording, delivery, tid_);
        const RequestFacts facts{OpNamed(op), ino, name, who()};
        sink->on_error = [&fs = mount_.fs(), facts](const Error& error) {
            ExpectListed(fs.OnFailure(facts, error), facts.op, error);
        };
        request(R(std::move(sink)));
        return recording;
    }
    // Settles, takes over what the answer handed out, returns it. Aborts when there is none yet.
    Answer Finish(const RecordingPtr& recording);
    // The errno of it, 0 for none.
    int FinishCode(const RecordingPtr& recording) { return Finish(recording).error; }

    Caller who() const { return {1000, 1001, tid_}; }
    void ForgetAll();
    // The daemon was restarted: what it knew of us is gone.
    void ForgetNothing() { counts_.clear(); }
    FileSystem& fs() { return mount_.fs(); }
    TestMount& mount() { return mount_; }

 private:
    static FileOp OpNamed(std::string_view name);
    static void ExpectListed(Errno answered, FileOp op, const Error& error);
    struct Place {
        Ino parent;
        std::string name;
    };
    // Walks to the parent; aborts when that is not there.
    Place Walk(const std::string& path);
    int WalkTo(const std::string& path, Ino& ino);
    std::vector<std::string> ListWith(const std::string& path, bool plus);

    TestMount& mount_;
    const pid_t tid_;
    std::map<Ino, std::uint64_t> counts_;
};

// An open file. Released when it dies.
class Client::File {
 public:
    File(Client& client, Ino ino, const Answer& answer)
        : client_(client),
          ino_(ino),
          error_(answer.error),
          opened_(answer.opened),
          released_(answer.error != 0) {}
    ~File() {
        if (!released_) (void)Release();
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    int error() const { return error_; }
    const Opened& opened() const { return opened_; }
    Ino ino() const { return ino_; }

    int Write(std::string_view bytes);  // at the file position, which moves on
    int WriteAt(std::uint64_t offset, std::string_view bytes);
    std::string Read(std::size_t size = 65536);  // content or "<ENOENT>"
    std::string ReadAt(std::uint64_t offset, std::size_t size);
    int Flush() { return FlushAs(client_.who().tid); }
    int FlushAs(pid_t tid);
    int Fsync();
    int Release();
    // close(2) of the last descriptor.
    int Close();

    RecordingPtr StartRead(std::size_t size = 65536);
    RecordingPtr StartWrite(std::string_view bytes);
    RecordingPtr StartFlush(pid_t tid);
    RecordingPtr StartFsync();
    RecordingPtr StartStat();

 private:
    Client& client_;
    const Ino ino_;
    const int error_;
    const Opened opened_;
    bool released_;
    std::uint64_t position_ = 0;
};

}  // namespace sbxfs::testing
