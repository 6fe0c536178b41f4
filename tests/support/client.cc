#include "tests/support/client.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/stat.h>

#include <cstdio>

#include "base/check.h"
#include "base/strings.h"

namespace sbxfs::testing {
namespace {

// A page of unlimited room that remembers the names.
class NamesPage final : public DirectoryPage {
 public:
    NamesPage(std::vector<std::string>& names, std::vector<Ino>& counted, std::uint64_t& next)
        : names_(names), counted_(counted), next_(next) {}
    bool Add(const Listed& listed, std::uint64_t next) override {
        next_ = next;
        if (listed.name != "." && listed.name != "..") names_.push_back(listed.name);
        return true;
    }
    bool AddPlus(const Listed& listed, const Entry& entry, std::uint64_t next) override {
        if (Raw(entry.ino) != 0) counted_.push_back(entry.ino);
        return Add(listed, next);
    }
    std::span<const char> bytes() const override { return {}; }

 private:
    std::vector<std::string>& names_;
    std::vector<Ino>& counted_;
    std::uint64_t& next_;
};

// What tests call requests that the kernel has another name for.
FileOp OpOfPeople(std::string_view name) {
    if (name == "fstat") return FileOp::kGetattr;
    if (name == "truncate" || name == "ftruncate") return FileOp::kSetattr;
    if (name == "open O_TRUNC") return FileOp::kOpen;
    CHECK(name == "change");  // of names
    return FileOp::kRename;
}

}  // namespace

FileOp Client::OpNamed(std::string_view name) {
    for (unsigned op = 0; op < kFileOps; ++op) {
        if (OpName(FileOp{op}) == name) return FileOp{op};
    }
    return OpOfPeople(name);
}

void Client::ExpectListed(Errno answered, FileOp op, const Error& error) {
    EXPECT_EQ(answered, error.code())
        << "fs/errno_table.cc has no row for " << OpName(op) << " with "
        << ErrorWord(static_cast<int>(error.code())) << ": " << error.what();
}

std::string ErrorWord(int code) {
    const char* name = strerrorname_np(code);
    return "<" + (name != nullptr ? std::string(name) : std::to_string(code)) + ">";
}

Answer Client::Finish(const RecordingPtr& recording) {
    mount_.Settle();
    const auto answer = recording->Now();
    if (!answer) {
        for (const std::string& held : {std::string("a request is still unanswered")})
            (void)std::fprintf(stderr, "%s; parked: %zu\n", held.c_str(),
                               mount_.context().lot.Count());
    }
    CHECK(answer.has_value());
    if (answer->kind == "entry" || answer->kind == "created") ++counts_[answer->entry.ino];
    return *answer;
}

void Client::ForgetAll() {
    for (const auto& [ino, count] : std::exchange(counts_, {}))
        mount_.fs().Forget(ino, count);
}

int Client::WalkTo(const std::string& path, Ino& ino) {
    ino = kRootIno;
    for (const std::string& name : Split(path, '/')) {
        if (name.empty()) continue;
        const Answer answer = Finish(StartLookup(ino, name));
        if (answer.error != 0) return answer.error;
        ino = answer.entry.ino;
    }
    return 0;
}

Client::Place Client::Walk(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    CHECK(slash != std::string::npos);
    Ino parent{};
    const int error = WalkTo(path.substr(0, slash), parent);
    if (error != 0) (void)std::fprintf(stderr, "%s: %s\n", path.c_str(), ErrorWord(error).c_str());
    CHECK(error == 0);
    return {parent, path.substr(slash + 1)};
}

int Client::Look(const std::string& path) {
    Ino ignored{};
    return WalkTo(path, ignored);
}

Ino Client::InoOf(const std::string& path) {
    Ino ino{};
    const int error = WalkTo(path, ino);
    if (error != 0) (void)std::fprintf(stderr, "%s: %s\n", path.c_str(), ErrorWord(error).c_str());
    CHECK(error == 0);
    return ino;
}

RecordingPtr Client::StartLookup(Ino parent, const std::string& name) {
    return Ask<EntryReply>("lookup", parent, name,
                           [&](EntryReply reply) { fs().Lookup(parent, name, std::move(reply)); });
}

RecordingPtr Client::StartMkdir(const std::string& path) {
    const Place at = Walk(path);
    return Ask<EntryReply>("mkdir", at.parent, at.name, [&](EntryReply reply) {
        fs().MakeDir(at.parent, at.name, 0755, std::move(reply));
    });
}

RecordingPtr Client::StartRmdir(const std::string& path) {
    const Place at = Walk(path);
    return Ask<EmptyReply>("rmdir", at.parent, at.name, [&](EmptyReply reply) {
        fs().RemoveDir(at.parent, at.name, std::move(reply));
    });
}

RecordingPtr Client::StartUnlink(const std::string& path) {
    const Place at = Walk(path);
    return Ask<EmptyReply>("unlink", at.parent, at.name, [&](EmptyReply reply) {
        fs().Unlink(at.parent, at.name, std::move(reply));
    });
}

RecordingPtr Client::StartRename(const std::string& from, const std::string& to) {
    const Place a = Walk(from);
    const Place b = Walk(to);
    return Ask<EmptyReply>("rename", a.parent, a.name, [&](EmptyReply reply) {
        fs().Rename(a.parent, a.name, b.parent, b.name, 0, std::move(reply));
    });
}

RecordingPtr Client::StartGetAttr(const std::string& path) {
    const Ino ino = InoOf(path);
    return Ask<AttrReply>("getattr", ino, "",
                          [&](AttrReply reply) { fs().GetAttr(ino, Handle{}, std::move(reply)); });
}

RecordingPtr Client::StartOpen(const std::string& path, int flags) {
    const Ino ino = InoOf(path);
    return Ask<OpenReply>("open", ino, "", [&](OpenReply reply) {
        fs().Open(ino, OpenRequest{flags, who()}, std::move(reply));
    });
}

RecordingPtr Client::StartOpenDir(const std::string& path) {
    const Ino ino = InoOf(path);
    return Ask<OpenReply>("opendir", ino, "",
                          [&](OpenReply reply) { fs().OpenDir(ino, std::move(reply)); });
}

RecordingPtr Client::StartCreate(const std::string& path, int flags) {
    const Place at = Walk(path);
    return Ask<CreateReply>("create", at.parent, at.name, [&](CreateReply reply) {
        fs().Create(at.parent, at.name, 0644, OpenRequest{flags, who()}, std::move(reply));
    });
}

int Client::Mkdir(const std::string& path, std::uint32_t mode) {
    const Place at = Walk(path);
    return FinishCode(Ask<EntryReply>("mkdir", at.parent, at.name, [&](EntryReply reply) {
        fs().MakeDir(at.parent, at.name, mode, std::move(reply));
    }));
}

RecordingPtr Client::StartSetAttr(Ino ino, const AttrChange& change) {
    return Ask<AttrReply>("setattr", ino, "", [&](AttrReply reply) {
        fs().SetAttr(ino, change, Handle{}, who(), std::move(reply));
    });
}

int Client::Rmdir(const std::string& path) {
    return FinishCode(StartRmdir(path));
}

int Client::Unlink(const std::string& path) {
    return FinishCode(StartUnlink(path));
}

int Client::Rename(const std::string& from, const std::string& to, unsigned flags) {
    const Place a = Walk(from);
    const Place b = Walk(to);
    return FinishCode(Ask<EmptyReply>("rename", a.parent, a.name, [&](EmptyReply reply) {
        fs().Rename(a.parent, a.name, b.parent, b.name, flags, std::move(reply));
    }));
}

int Client::Symlink(const std::string& target, const std::string& path) {
    const Place at = Walk(path);
    return FinishCode(Ask<EntryReply>("symlink", at.parent, at.name, [&](EntryReply reply) {
        fs().Symlink(at.parent, at.name, target, std::move(reply));
    }));
}

int Client::Link(const std::string& from, const std::string& to) {
    const Ino existing = InoOf(from);
    const Place at = Walk(to);
    return FinishCode(Ask<EntryReply>("link", at.parent, at.name, [&](EntryReply reply) {
        fs().Link(existing, at.parent, at.name, std::move(reply));
    }));
}

int Client::Mknod(const std::string& path, std::uint32_t mode) {
    const Place at = Walk(path);
    return FinishCode(Ask<EntryReply>("mknod", at.parent, at.name, [&](EntryReply reply) {
        fs().MakeNode(at.parent, at.name, mode, std::move(reply));
    }));
}

int Client::Set(const std::string& path, const AttrChange& change) {
    const Ino ino = InoOf(path);
    return FinishCode(Ask<AttrReply>("setattr", ino, "", [&](AttrReply reply) {
        fs().SetAttr(ino, change, Handle{}, who(), std::move(reply));
    }));
}

Attr Client::Stat(const std::string& path) {
    const Answer answer = Finish(StartGetAttr(path));
    if (answer.error != 0)
        (void)std::fprintf(stderr, "%s: %s\n", path.c_str(), ErrorWord(answer.error).c_str());
    CHECK(answer.error == 0);
    return answer.entry.attr;
}

Client::FilePtr Client::Open(const std::string& path, int flags) {
    Ino ino{};
    const int error = WalkTo(path, ino);
    if (error != 0) return std::make_unique<File>(*this, ino, Answer{.error = error});
    return std::make_unique<File>(*this, ino,
                                  Finish(Ask<OpenReply>("open", ino, "", [&](OpenReply reply) {
                                      fs().Open(ino, OpenRequest{flags, who()}, std::move(reply));
                                  })));
}

Client::FilePtr Client::Create(const std::string& path, int flags, std::uint32_t mode) {
    const Place at = Walk(path);
    const Answer answer =
        Finish(Ask<CreateReply>("create", at.parent, at.name, [&](CreateReply reply) {
            fs().Create(at.parent, at.name, mode, OpenRequest{flags, who()}, std::move(reply));
        }));
    return std::make_unique<File>(*this, answer.entry.ino, answer);
}

int Client::Echo(std::string_view text, const std::string& path) {
    FilePtr file = Open(path, O_WRONLY | O_TRUNC);
    if (file->error() == ENOENT) file = Create(path, O_WRONLY | O_TRUNC);
    if (file->error() != 0) return file->error();
    const int empty = file->Flush();
    const int wrote = file->Write(text);
    const int closed = file->Close();
    return empty != 0 ? empty : wrote != 0 ? wrote : closed;
}

std::string Client::Cat(const std::string& path) {
    const FilePtr file = Open(path, O_RDONLY);
    if (file->error() != 0) return ErrorWord(file->error());
    std::string all;
    for (;;) {
        const std::string part = file->Read();
        if (part.starts_with("<E")) return part;
        if (part.empty()) return all;
        all += part;
    }
}

std::string Client::ReadLink(const std::string& path) {
    Ino ino{};
    const int error = WalkTo(path, ino);
    if (error != 0) return ErrorWord(error);
    const Answer answer = Finish(Ask<TextReply>(
        "readlink", ino, "", [&](TextReply reply) { fs().ReadLink(ino, std::move(reply)); }));
    return answer.error != 0 ? ErrorWord(answer.error) : answer.bytes;
}

std::vector<std::string> Client::ListWith(const std::string& path, bool plus) {
    Ino ino{};
    if (const int error = WalkTo(path, ino); error != 0) return {ErrorWord(error)};
    const Answer opened = Finish(Ask<OpenReply>(
        "opendir", ino, "", [&](OpenReply reply) { fs().OpenDir(ino, std::move(reply)); }));
    if (opened.error != 0) return {ErrorWord(opened.error)};
    const File dir(*this, ino, opened);
    std::vector<std::string> names;
    std::vector<Ino> counted;
    std::uint64_t next = 0;
    for (;;) {
        const std::uint64_t from = next;
        const Answer page = Finish(Ask<DataReply>("readdir", ino, "", [&](DataReply reply) {
            fs().ReadDir(opened.opened.handle, from, plus,
                         std::make_unique<NamesPage>(names, counted, next), std::move(reply));
        }));
        if (page.error != 0) return {ErrorWord(page.error)};
        if (next == from) break;
    }
    for (const Ino one : counted)
        ++counts_[one];
    return names;
}

std::vector<std::string> Client::Events(const std::string& box) {
    std::vector<std::string> names = List(box + "/events");
    std::erase(names, "log.jsonl");
    return names;
}

std::vector<std::string> Client::List(const std::string& path) {
    return ListWith(path, false);
}

std::vector<std::string> Client::ListPlus(const std::string& path) {
    return ListWith(path, true);
}

// --- open files

int Client::File::WriteAt(std::uint64_t offset, std::string_view bytes) {
    const Answer answer =
        client_.Finish(client_.Ask<WrittenReply>("write", ino_, "", [&](WrittenReply reply) {
            client_.fs().Write(opened_.handle, offset, {bytes.data(), bytes.size()}, false,
                               std::move(reply));
        }));
    if (answer.error == 0) CHECK(answer.written == bytes.size());
    return answer.error;
}

int Client::File::Write(std::string_view bytes) {
    const int error = WriteAt(position_, bytes);
    if (error == 0) position_ += bytes.size();
    return error;
}

RecordingPtr Client::File::StartWrite(std::string_view bytes) {
    return client_.Ask<WrittenReply>("write", ino_, "", [&](WrittenReply reply) {
        client_.fs().Write(opened_.handle, position_, {bytes.data(), bytes.size()}, false,
                           std::move(reply));
    });
}

RecordingPtr Client::File::StartRead(std::size_t size) {
    return client_.Ask<DataReply>("read", ino_, "", [&](DataReply reply) {
        client_.fs().Read(opened_.handle, position_, size, std::move(reply));
    });
}

std::string Client::File::Read(std::size_t size) {
    const Answer answer = client_.Finish(StartRead(size));
    if (answer.error != 0) return ErrorWord(answer.error);
    position_ += answer.bytes.size();
    return answer.bytes;
}

std::string Client::File::ReadAt(std::uint64_t offset, std::size_t size) {
    const Answer answer =
        client_.Finish(client_.Ask<DataReply>("read", ino_, "", [&](DataReply reply) {
            client_.fs().Read(opened_.handle, offset, size, std::move(reply));
        }));
    return answer.error != 0 ? ErrorWord(answer.error) : answer.bytes;
}

RecordingPtr Client::File::StartFlush(pid_t tid) {
    return client_.Ask<EmptyReply>("flush", ino_, "", [&](EmptyReply reply) {
        client_.fs().Flush(opened_.handle, Caller{1000, 1001, tid}, std::move(reply));
    });
}

int Client::File::FlushAs(pid_t tid) {
    return client_.FinishCode(StartFlush(tid));
}

RecordingPtr Client::File::StartFsync() {
    return client_.Ask<EmptyReply>("fsync", ino_, "", [&](EmptyReply reply) {
        client_.fs().Fsync(opened_.handle, std::move(reply));
    });
}

RecordingPtr Client::File::StartStat() {
    return client_.Ask<AttrReply>("getattr", ino_, "", [&](AttrReply reply) {
        client_.fs().GetAttr(ino_, opened_.handle, std::move(reply));
    });
}

int Client::File::Fsync() {
    return client_.FinishCode(StartFsync());
}

int Client::File::Release() {
    released_ = true;
    return client_.FinishCode(client_.Ask<EmptyReply>("release", ino_, "", [&](EmptyReply reply) {
        client_.fs().Release(opened_.handle, std::move(reply));
    }));
}

int Client::File::Close() {
    const int flushed = Flush();
    (void)Release();
    return flushed;
}

}  // namespace sbxfs::testing
