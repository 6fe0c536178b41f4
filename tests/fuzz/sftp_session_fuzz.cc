// A whole SFTP session against a server that says what the input says: the truth, a lie of the grammar
// (tests/fakes/lying_server.h), a lie changed once more, or any bytes, in pieces of any size, while operations come and
// go. Each operation is answered once, what is kept of the stream is at most a packet, names that are handed on are names.
#include <cerrno>
#include <deque>

#include "base/check.h"
#include "fs/remote_paths.h"
#include "sandbox/sftp_files.h"
#include "tests/fakes/lying_server.h"
#include "tests/fakes/manual_loop.h"
#include "tests/fuzz/fuzz_bytes.h"

namespace sbxfs::fuzz {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)

class Session {
 public:
    explicit Session(FuzzBytes& in) : in_(in) {
        client_ = SftpClient::Make(1, in_.Chance() ? 1 : ~0U - 3);
        client_->Start([this](const Status& status) {
            CHECK(!told_);
            told_ = true;
            if (status) files_ = SftpFiles::Make(client_, loop_);
        });
        (void)TakeBytes(*client_);
        auto extensions = UsualExtensions();
        extensions.emplace_back("limits@openssh.com", "1");
        for (std::size_t i = in_.Below(4); i > 0; --i)
            extensions.erase(extensions.begin() + static_cast<long>(in_.Below(extensions.size())));
        Feed(in_.Below(16) == 0 ? std::string(in_.Text()) : PeerVersion(extensions));
        if (files_ != nullptr) files_->BoundListings(500, 1 << 16);
    }
    ~Session() {
        client_->FailAll(Error(Errno{EHOSTUNREACH}, "cut"));
        CHECK(told_);
        open_.clear();
        loop_.Run();
        CHECK(answered_ == asked_);
        files_.reset();
        client_.reset();
        loop_.Run();
    }

    void Run() {
        for (int step = 0; step < 300 && !in_.empty() && files_ != nullptr; ++step) {
            switch (in_.Below(4)) {
                case 0:
                    Ask();
                    break;
                case 1:
                    Feed(in_.Text());
                    break;
                default:
                    AnswerOne();
                    break;
            }
            loop_.Run();
            for (PeerRequest& request : TakeRequests(*client_))
                waiting_.push_back(std::move(request));
        }
    }

 private:
    void Feed(std::string_view bytes) {
        const std::size_t step = in_.Below(3) == 0 ? in_.Below(64) + 1 : bytes.size();
        while (!bytes.empty()) {
            const std::string_view piece = bytes.substr(0, step);
            if (!client_->Feed(piece)) return;
            CHECK(client_->HeldBytes() <= kSftpMaxPacket + 4);
            bytes.remove_prefix(piece.size());
        }
    }
    void AnswerOne() {
        if (waiting_.empty()) return;
        const std::size_t which = in_.Below(waiting_.size());
        const PeerRequest request = waiting_[which];
        waiting_.erase(waiting_.begin() + static_cast<long>(which));
        std::string said = server_.Answer(request);
        if (in_.Below(3) == 0) {
            const std::uint32_t other = waiting_.empty() ? request.id + 1 : waiting_.front().id;
            const std::size_t count = LieAbout(said, other, "h0", ~std::size_t{0}).count;
            said = LieAbout(said, other, "h0", in_.U16() % count).told.bytes;
            if (in_.Chance() && !said.empty()) {
                const std::size_t at = in_.Below(said.size());
                said[at] = static_cast<char>(said[at] ^ (1 << in_.Below(8)));
            }
        }
        Feed(said);
    }
    template <class T>
    UniqueFunction<void(Result<T>)> Back() {
        ++asked_;
        return [this](Result<T> value) {
            ++answered_;
            if (!value) {
                CHECK(static_cast<int>(value.error().code()) > 0 && !value.error().what().empty());
            } else {
                Check(*value);
            }
        };
    }
    static void Check(const Unit&) {}
    static void Check(const RemoteStat& stat) { CHECK((stat.mode & S_IFMT) != 0); }
    static void Check(const RemoteStatfs&) {}
    static void Check(std::uint64_t) {}
    static void Check(const std::string& bytes) { CHECK(bytes.size() <= 300000); }
    static void Check(const std::vector<RemoteEntry>& entries) {
        for (const RemoteEntry& entry : entries)
            CHECK(IsComponent(entry.name) && (entry.stat.mode & S_IFMT) != 0);
    }
    void Check(const OpenedFile& opened) {
        CHECK(opened.file != nullptr);
        open_.push_back(opened.file);
    }
    std::string Path() {
        constexpr const char* kPaths[] = {"/", "/a", "/d", "/d/link", "/absent", "/d/fifo"};
        return kPaths[in_.Below(std::size(kPaths))];
    }
    StatChange Change() {
        StatChange change;
        const std::uint8_t what = in_.U8();
        if ((what & 1) != 0) change.size = in_.Odd();
        if ((what & 2) != 0) change.mode = in_.U16();
        if ((what & 4) != 0) change.uid = change.gid = in_.U16();
        if ((what & 8) != 0) change.atime = change.mtime = static_cast<std::int64_t>(in_.Odd());
        return change;
    }
    void Ask() {
        const std::size_t what = in_.Below(20);
        if (what < 12) return AskPath(what);
        if (open_.empty()) {
            OpenHow how;
            const std::uint8_t flags = in_.U8();
            how.read = (flags & 1) != 0;
            how.write = (flags & 2) != 0;
            how.append = (flags & 4) != 0;
            how.create = (flags & 8) != 0;
            how.exclusive = how.create && (flags & 16) != 0;
            how.truncate = how.write && (flags & 32) != 0;
            return files_->Open(Path(), how, Back<OpenedFile>());
        }
        const RemoteFilePtr file = open_[in_.Below(open_.size())];
        switch (what) {
            case 12:
            case 13:
                return files_->Read(file, {in_.Odd(), in_.U16() * std::size_t{4}},
                                    Back<std::string>());
            case 14:
                return files_->Write(file, in_.Odd(), FileBytes(std::string(in_.U16(), 'w')),
                                     Back<Unit>());
            case 15:
                return files_->Copy(file, {in_.U8(), in_.U16()}, open_.front(), in_.U8(),
                                    Back<std::uint64_t>());
            case 16:
                return files_->FileStat(file, Back<RemoteStat>());
            case 17:
                return files_->SetFileStat(file, Change(), Back<RemoteStat>());
            case 18:
                return files_->Sync(file, Back<Unit>());
            default:
                open_.erase(std::find(open_.begin(), open_.end(), file));
                if (in_.Chance()) files_->Close(file, Back<Unit>());
                return;
        }
    }
    void AskPath(std::size_t what) {
        switch (what) {
            case 0:
                return files_->Lstat(Path(), Back<RemoteStat>());
            case 1:
                return files_->List(Path(), Back<std::vector<RemoteEntry>>());
            case 2:
                return files_->ReadLink(Path(), Back<std::string>());
            case 3:
                return files_->SetStat(Path(), Change(), Back<RemoteStat>());
            case 4:
                return files_->MakeDir(Path(), in_.U16() & 07777, Back<RemoteStat>());
            case 5:
                return files_->RemoveDir(Path(), Back<Unit>());
            case 6:
                return files_->Unlink(Path(), Back<Unit>());
            case 7:
                return files_->Symlink(std::string(in_.Text(40)), Path(), Back<RemoteStat>());
            case 8:
                return files_->Link(Path(), Path(), Back<RemoteStat>());
            case 9:
                return files_->Rename(Path(), Path(), RemoteFiles::Replace::kYes, Back<Unit>());
            case 10:
                return files_->Rename(Path(), Path(), RemoteFiles::Replace::kNo, Back<Unit>());
            default:
                return files_->Statfs(Path(), Back<RemoteStatfs>());
        }
    }

    FuzzBytes& in_;
    ManualLoop loop_;
    std::shared_ptr<SftpClient> client_;
    std::shared_ptr<SftpFiles> files_;
    HonestServer server_;
    std::deque<PeerRequest> waiting_;
    std::vector<RemoteFilePtr> open_;
    bool told_ = false;
    int asked_ = 0;
    int answered_ = 0;
};

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sbxfs::fuzz::FuzzBytes in(data, size);
    sbxfs::fuzz::Session(in).Run();
    return 0;
}
