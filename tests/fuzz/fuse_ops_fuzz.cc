// The whole file system without libfuse: requests in any order, signals, a provider, files and a supervisor that answer
// when and what the input says, cuts, and time. Each request is answered once, look-ups are counted right, and at the end
// no node, no handle, no waiting request and no open file is left.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <map>

#include "base/check.h"
#include "fs/file_system.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fuzz/fuzz_bytes.h"
#include "tests/support/test_mount.h"

namespace sbxfs::fuzz {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)

// A page with room for some names, which counts what it hands out.
class Page final : public DirectoryPage {
 public:
    Page(std::map<Ino, std::uint64_t>& counts, std::vector<Ino>& nodes, std::uint64_t& next,
         std::size_t room)
        : counts_(counts), nodes_(nodes), next_(next), room_(room) {}
    bool Add(const Listed& listed, std::uint64_t next) override {
        if (room_ == 0) return false;
        --room_;
        next_ = next;
        CHECK(!listed.name.empty() && listed.name.find('/') == std::string::npos);
        return true;
    }
    bool AddPlus(const Listed& listed, const Entry& entry, std::uint64_t next) override {
        if (!Add(listed, next)) return false;
        const bool dots = listed.name == "." || listed.name == "..";
        if (!dots && Raw(entry.ino) != 0) {
            ++counts_[entry.ino];
            nodes_.push_back(entry.ino);
        }
        return true;
    }
    std::span<const char> bytes() const override { return {}; }

 private:
    std::map<Ino, std::uint64_t>& counts_;
    std::vector<Ino>& nodes_;
    std::uint64_t& next_;
    std::size_t room_;
};

struct OpenOne {
    Ino ino{};
    Handle handle{};
    bool directory = false;
};

struct Request {
    RecordingPtr recording;
    bool directory = false;  // of OPENDIR
    Ino ino{};               // of OPEN
    bool undelivered = false;
};

class Story {
 public:
    explicit Story(FuzzBytes& in) : in_(in) {
        world_.machines.furnish = [this](FakeMachine& machine) {
            machine.files().PutDir("/work");
            machine.files().PutFile("/work/a", "content of a file");
            machine.files().PutDir("/work/d");
            machine.files().PutLink("/work/link", "../../etc/passwd");
            machine.files().PutFile("/proc/self/status", "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n");
            machine.files().PutFile("/proc/self/mountinfo",
                                    "21 1 0:1 / / rw,relatime - ext4 /dev/root rw\n");
            machines_.push_back(&machine);
        };
        setup_ = DefaultSetup();
        setup_.write_behind = in_.Chance();
        mount_ = std::make_unique<TestMount>(world_, setup_);
        mount_->Settle();
        nodes_.push_back(kRootIno);
        // A sandbox to begin with: most stories are about one.
        about_name_ = "box";
        Ask<EntryReply>(FileOp::kMkdir, [&](EntryReply reply) {
            fs().MakeDir(kRootIno, "box", 0755, std::move(reply));
        });
        Settle();
    }
    ~Story() {
        for (FakeMachine* machine : machines_) {
            machine->files().SetAnswers(FakeFiles::Answers::kAtOnce);
            machine->files().ReleaseAll();
        }
        fs().FailParked();
        Settle();
        CHECK(requests_.empty());  // never answered
        // Late answers may have handed out more.
        while (!open_.empty()) {
            for (const OpenOne& open : std::exchange(open_, {})) {
                about_ = open.ino;
                Release(open.handle);
            }
            Settle();
        }
        for (const auto& [ino, count] : counts_)
            if (count > 0) fs().Forget(ino, count);
        Settle();
        CHECK(mount_->context().inodes.Count() == 1);
        CHECK(mount_->context().handles.Count() == 0);
        CHECK(mount_->context().lot.Count() == 0);
        mount_->Unmount();
        mount_.reset();
        for (FakeMachine* machine : machines_)
            CHECK(machine->files().OpenFiles() == 0);
    }

    void Run() {
        for (int step = 0; step < 120 && !in_.empty(); ++step) {
            const std::size_t what = in_.Below(48);
            if (what < 34) {
                Send(what);
            } else {
                Happen(what - 34);
            }
            if (in_.Below(4) != 0) Settle();
        }
    }

 private:
    FileSystem& fs() { return mount_->fs(); }

    void Settle() {
        mount_->Settle();
        for (std::size_t i = 0; i < requests_.size();) {
            Request& request = requests_[i];
            const auto answer = request.recording->Now();
            if (!answer) {
                ++i;
                continue;
            }
            Take(request, *answer);
            requests_.erase(requests_.begin() + static_cast<long>(i));
        }
    }
    void Take(const Request& request, const Answer& answer) {
        if (answer.error != 0 || request.undelivered) return;
        if (answer.kind == "entry" || answer.kind == "created") {
            CHECK(Raw(answer.entry.ino) != 0);
            ++counts_[answer.entry.ino];
            nodes_.push_back(answer.entry.ino);
        }
        if (answer.kind == "opened" || answer.kind == "created") {
            open_.push_back({answer.kind == "created" ? answer.entry.ino : request.ino,
                             answer.opened.handle, request.directory});
        }
    }
    template <class R>
    void Ask(FileOp op, const std::function<void(R)>& request, Ino ino = {},
             bool directory = false) {
        Request sent{std::make_shared<Recording>(), directory, ino};
        // Now and then the kernel is not there any more for the answer: a signal was faster.
        const bool lost = !in_.empty() && in_.U8() >= 250;
        sent.undelivered = lost;
        auto sink = std::make_unique<RecordingSink>(
            sent.recording, lost ? Delivery::kUndelivered : Delivery::kDelivered, ::getpid());
        sink->on_error = [this,
                          facts = RequestFacts{op, about_, about_name_, who_}](const Error& error) {
            // An errno that fs/errno_table.cc has no row for becomes EIO.
            const Errno answered = fs().OnFailure(facts, error);
            if (answered != error.code()) (void)std::fprintf(stderr, "%s\n", error.what().c_str());
            CHECK(answered == error.code());
        };
        requests_.push_back(sent);
        request(R(std::move(sink)));
    }
    void Release(Handle handle) {
        Ask<EmptyReply>(FileOp::kRelease,
                        [&](EmptyReply reply) { fs().Release(handle, std::move(reply)); });
    }
    Ino Node() {
        // The kernel asks only about what it has looked up and not forgotten.
        for (std::size_t tries = 0; tries < 4; ++tries) {
            const Ino ino = nodes_[in_.Below(nodes_.size())];
            if (ino == kRootIno || counts_[ino] > 0) return ino;
        }
        return kRootIno;
    }
    std::string Name() {
        constexpr const char* kNames[] = {
            "box",         "b2",        "fs",          "work",      "a",       "d",
            "link",        "x",         "cmd",         "run",       "events",  "1",
            "2",           "latest",    "status",      "ctl",       "ttl",     "config",
            "env",         "KEY",       "cwd",         "timeout",   "stdout",  "wait",
            "follow",      "report",    "result.json", "cmd.json",  ".mount",  "new",
            "templates",   "t.toml",    "last_error",  "log",       "history", "ready",
            "error",       "info.json", "ssh",         "key",       "wait.1",  "exit_code",
            "..",          ".",         "bin",         "README.md", "t1",      "log.jsonl",
            "box@default", "-x"};
        const std::size_t which = in_.Below(std::size(kNames) + 2);
        if (which < std::size(kNames)) return kNames[which];
        std::string name(in_.Text(which == std::size(kNames) ? 8 : 255));
        std::erase(name, '/');
        std::erase(name, '\0');
        return name.empty() ? "n" : name;
    }
    int Flags() {
        constexpr int kFlags[] = {O_RDONLY,
                                  O_WRONLY,
                                  O_RDWR,
                                  O_WRONLY | O_TRUNC,
                                  O_WRONLY | O_APPEND,
                                  O_RDWR | O_CREAT,
                                  O_WRONLY | O_CREAT | O_EXCL,
                                  O_RDWR | O_TRUNC};
        return kFlags[in_.Below(std::size(kFlags))];
    }
    std::string Content() {
        constexpr const char* kTexts[] = {"echo x\n",
                                          "true",
                                          "{\"cmd\":\"x\"}",
                                          "stop\n",
                                          "start\n",
                                          "drop_caches\n",
                                          "+60\n",
                                          "60",
                                          "name=b3\n",
                                          "int\n",
                                          "[templates.t]\nprovider = \"local\"\n",
                                          "protect\n"};
        const std::size_t which = in_.Below(std::size(kTexts) + 1);
        return which < std::size(kTexts) ? kTexts[which] : std::string(in_.Text(200));
    }
    void Send(std::size_t what) {
        if (what >= 20 && what < 30 && open_.empty()) what = in_.Below(16);
        if (what >= 20 && what < 30) return SendOpen(what, in_.Below(open_.size()));
        const Ino ino = about_ = Node();
        const std::string name = about_name_ = Name();
        switch (what) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
            case 5:
                return Ask<EntryReply>(FileOp::kLookup,
                                       [&](EntryReply r) { fs().Lookup(ino, name, std::move(r)); });
            case 6:
                return Ask<AttrReply>(FileOp::kGetattr, [&](AttrReply r) {
                    fs().GetAttr(ino, Handle{}, std::move(r));
                });
            case 7: {
                AttrChange change;
                const std::uint8_t bits = in_.U8();
                if ((bits & 1) != 0) change.size = in_.Odd();
                if ((bits & 2) != 0) change.mode = in_.U16();
                if ((bits & 4) != 0) change.uid = in_.U16();
                if ((bits & 8) != 0) change.gid = in_.U16();
                change.atime_now = (bits & 16) != 0;
                change.mtime_now = (bits & 32) != 0;
                return Ask<AttrReply>(FileOp::kSetattr, [&](AttrReply r) {
                    fs().SetAttr(ino, change, Handle{}, who_, std::move(r));
                });
            }
            case 8:
                return Ask<TextReply>(FileOp::kReadlink,
                                      [&](TextReply r) { fs().ReadLink(ino, std::move(r)); });
            case 9:
                return Ask<EntryReply>(FileOp::kMknod, [&](EntryReply r) {
                    fs().MakeNode(ino, name, S_IFREG | 0644, std::move(r));
                });
            case 10:
                return Ask<EntryReply>(FileOp::kMkdir, [&](EntryReply r) {
                    fs().MakeDir(ino, name, 0755, std::move(r));
                });
            case 11:
                return Ask<EmptyReply>(FileOp::kUnlink,
                                       [&](EmptyReply r) { fs().Unlink(ino, name, std::move(r)); });
            case 12:
                return Ask<EmptyReply>(
                    FileOp::kRmdir, [&](EmptyReply r) { fs().RemoveDir(ino, name, std::move(r)); });
            case 13:
                return Ask<EntryReply>(FileOp::kSymlink, [&](EntryReply r) {
                    fs().Symlink(ino, name, in_.Text(40), std::move(r));
                });
            case 14: {
                const Ino to = Node();
                const std::string to_name = Name();
                return Ask<EmptyReply>(FileOp::kRename, [&](EmptyReply r) {
                    fs().Rename(ino, name, to, to_name, static_cast<unsigned>(in_.Below(4)),
                                std::move(r));
                });
            }
            case 15: {
                const Ino to = about_ = Node();
                return Ask<EntryReply>(
                    FileOp::kLink, [&](EntryReply r) { fs().Link(ino, to, name, std::move(r)); });
            }
            case 16:
            case 17:
            case 18: {
                const OpenRequest request{Flags(), who_};
                return Ask<OpenReply>(
                    FileOp::kOpen, [&](OpenReply r) { fs().Open(ino, request, std::move(r)); },
                    ino);
            }
            case 19: {
                const OpenRequest request{Flags(), who_};
                return Ask<CreateReply>(FileOp::kCreate, [&](CreateReply r) {
                    fs().Create(ino, name, 0644, request, std::move(r));
                });
            }
            case 30:
            case 31:
                return Ask<OpenReply>(
                    FileOp::kOpendir, [&](OpenReply r) { fs().OpenDir(ino, std::move(r)); }, ino,
                    true);
            case 32:
                return Ask<StatfsReply>(FileOp::kStatfs,
                                        [&](StatfsReply r) { fs().Statfs(ino, std::move(r)); });
            default:
                if (ino == kRootIno || counts_[ino] == 0) return;
                const std::uint64_t some = in_.Below(counts_[ino]) + 1;
                counts_[ino] -= some;
                return fs().Forget(ino, some);
        }
    }
    void SendOpen(std::size_t what, std::size_t which) {
        const OpenOne open = open_[which];
        about_ = open.ino;
        about_name_.clear();
        if (open.directory && what != 28 && what != 20) what = 29;
        switch (what) {
            case 20: {  // no request of this handle is under way when the kernel releases it
                Settle();
                if (!requests_.empty()) return;
                open_.erase(open_.begin() + static_cast<long>(which));
                return Release(open.handle);
            }
            case 21:
            case 22:
                return Ask<DataReply>(FileOp::kRead, [&](DataReply r) {
                    fs().Read(open.handle, in_.Below(3) == 0 ? in_.Odd() & INT64_MAX : 0,
                              in_.U16() + 1, std::move(r));
                });
            case 23:
            case 24: {
                const std::string bytes = Content();
                return Ask<WrittenReply>(FileOp::kWrite, [&](WrittenReply r) {
                    fs().Write(open.handle, in_.Below(3) == 0 ? in_.Odd() & (INT64_MAX >> 1) : 0,
                               bytes, in_.Chance(), std::move(r));
                });
            }
            case 25:
                return Ask<EmptyReply>(FileOp::kFlush, [&](EmptyReply r) {
                    fs().Flush(open.handle, who_, std::move(r));
                });
            case 26:
                return Ask<EmptyReply>(
                    FileOp::kFsync, [&](EmptyReply r) { fs().Fsync(open.handle, std::move(r)); });
            case 27: {
                const OpenOne& to = open_[in_.Below(open_.size())];
                if (to.directory) return;
                return Ask<WrittenReply>(FileOp::kCopyRange, [&](WrittenReply r) {
                    fs().CopyRange(open.handle, {in_.U8(), in_.U16()}, to.handle, in_.U8(),
                                   std::move(r));
                });
            }
            case 28:
                return Ask<AttrReply>(FileOp::kGetattr, [&](AttrReply r) {
                    fs().GetAttr(open.ino, open.handle, std::move(r));
                });
            default: {
                if (!open.directory) return;
                const bool plus = in_.Chance();
                std::uint64_t& next = offsets_[open.handle];
                const std::uint64_t from = in_.Chance() ? 0 : next;
                return Ask<DataReply>(FileOp::kReaddir, [&](DataReply r) {
                    fs().ReadDir(open.handle, from, plus,
                                 std::make_unique<Page>(counts_, nodes_, next, in_.Below(20) + 1),
                                 std::move(r));
                });
            }
        }
    }
    // What is not the kernel's doing.
    void Happen(std::size_t what) {
        switch (what) {
            case 0:
                return mount_->Advance(
                    std::chrono::milliseconds(std::min(1 << in_.Below(13), 5000)));
            case 1: {  // a signal
                std::vector<std::uint64_t> parked;
                for (const Request& request : requests_) {
                    if (const std::uint64_t id = request.recording->interrupt())
                        parked.push_back(id);
                }
                if (!parked.empty())
                    (void)mount_->context().lot.Cancel(parked[in_.Below(parked.size())]);
                return;
            }
            case 2:
                return world_.provider.SetLaunches(in_.Chance() ? FakeProvider::Answers::kHeld
                                                                : FakeProvider::Answers::kAtOnce);
            case 3:
                if (world_.provider.held_launches() == 0) return;
                if (in_.Chance()) return world_.provider.FinishLaunch();
                return world_.provider.FailLaunch(Error(Errno{EACCES}, "no", Blame::kRemote));
            case 4:
                return world_.provider.Throttle(static_cast<int>(in_.Below(3)));
            default:
                break;
        }
        if (machines_.empty()) return;
        FakeMachine& machine = *machines_[in_.Below(machines_.size())];
        switch (what) {
            case 5:
                if (machine.attached()) machine.Cut();
                return;
            case 6:
                return machine.files().SetAnswers(in_.Chance() ? FakeFiles::Answers::kHeld
                                                               : FakeFiles::Answers::kAtOnce);
            case 7:
                if (!machine.files().Held().empty())
                    machine.files().Release(in_.Below(machine.files().Held().size()));
                return;
            case 8:
                if (!machine.files().Held().empty()) {
                    constexpr int kErrors[] = {EIO, ENOENT, EACCES, ENOSPC, EEXIST, ESTALE};
                    machine.files().FailWith(Error(Errno{kErrors[in_.Below(std::size(kErrors))]},
                                                   "it said so", Blame::kRemote));
                }
                return;
            case 9:
                return machine.files().ReleaseAll();
            case 10: {
                if (!machine.supervisor().connected() || machine.supervisor().starts().empty())
                    return;
                const auto& starts = machine.supervisor().starts();
                const int n = starts[in_.Below(starts.size())];
                if (!machine.supervisor().Knows(n)) return;
                switch (in_.Below(3)) {
                    case 0:
                        return machine.supervisor().Started(n);
                    case 1:
                        return machine.supervisor().Print(n, in_.Text(100));
                    default:
                        return machine.supervisor().Exit(n, static_cast<int>(in_.Below(256)));
                }
            }
            case 11:
                return machine.supervisor().RunByItself(in_.Chance());
            case 12:
                return Lie(machine);
            default:
                if (machine.attached() && machine.supervisor().connected()) machine.CutSupervisor();
                return;
        }
    }
    // What no honest supervisor says.
    void Lie(FakeMachine& machine) {
        if (!machine.supervisor().connected()) return;
        SupervisorListener& listener = machine.supervisor().listener();
        const EventNumber n{in_.Odd()};
        const auto stream = in_.Chance() ? OutputStream::kStdout : OutputStream::kStderr;
        switch (in_.Below(7)) {
            case 0:
                return listener.OnKnown(n, in_.Chance(), {in_.Odd(), in_.Odd()});
            case 1:
                return listener.OnKnownEnd();
            case 2:
                return listener.OnStarted(n, static_cast<std::int64_t>(in_.Odd() >> 1));
            case 3: {
                const std::string bytes(in_.Text(100));
                const std::uint64_t offset = in_.Odd();
                if (offset + bytes.size() < offset) return;  // SupervisorClient lets none through
                return listener.OnOutput(n, stream, offset, bytes);
            }
            case 4: {
                const std::uint64_t offset = in_.Odd();
                const std::uint64_t length = in_.Odd();
                if (offset + length < offset) return;
                return listener.OnHole(n, stream, offset, length);
            }
            case 5: {
                CommandEnd end;
                end.outcome = static_cast<CommandOutcome>(in_.Below(5));
                end.code = static_cast<int>(in_.Below(4097));
                end.sizes = {in_.Odd(), in_.Odd()};
                end.started_ms = static_cast<std::int64_t>(in_.Odd() >> 12);
                end.finished_ms = static_cast<std::int64_t>(in_.Odd() >> 12);
                end.duration_us = static_cast<std::int64_t>(in_.Odd() >> 1);
                end.others = in_.U8();
                end.cwd = in_.Text(20);
                return listener.OnDone(n, end);
            }
            default:
                return listener.OnCommandError(n, Error(Errno{EEXIST}, "it says", Blame::kRemote));
        }
    }

    FuzzBytes& in_;
    World world_;
    MountSetup setup_;
    std::vector<FakeMachine*> machines_;
    std::unique_ptr<TestMount> mount_;
    const Caller who_{1000, 1001, ::getpid()};
    Ino about_ = kRootIno;  // what the next request is about
    std::string about_name_;
    std::vector<Request> requests_;
    std::vector<Ino> nodes_;
    std::map<Ino, std::uint64_t> counts_;
    std::vector<OpenOne> open_;
    std::map<Handle, std::uint64_t> offsets_;
};

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sbxfs::fuzz::FuzzBytes in(data, size);
    sbxfs::fuzz::Story(in).Run();
    return 0;
}
