#include "fs/verb_files.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/check.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

class OpenVerbs final : public OpenHandle, public std::enable_shared_from_this<OpenVerbs> {
 public:
    explicit OpenVerbs(const std::shared_ptr<VerbFile>& file)
        : OpenHandle(file), file_(file), list_(Join(file->Verbs(), "\n") + "\n") {}

    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override {
        const std::size_t at = std::min<std::uint64_t>(offset, list_.size());
        std::move(reply).Bytes(std::span(list_).subspan(at, std::min(size, list_.size() - at)));
    }

    void Write(std::uint64_t, std::span<const char> bytes, bool, WrittenReply reply) override {
        std::vector<std::string> verbs = Split({bytes.data(), bytes.size()}, '\n');
        for (std::string& verb : verbs)
            verb = std::string(Trim(verb));
        std::erase(verbs, "");
        const std::vector<std::string> known = file_->Verbs();
        for (const std::string& verb : verbs) {
            if (std::find(known.begin(), known.end(), verb) != known.end()) continue;
            return std::move(reply).Fail(Error(
                Errno{EOPNOTSUPP}, "'" + Printable(verb, 64) + "' is not a verb here; there are: " +
                                       Join(known, ", ") + ". Nothing was done"));
        }
        DoNext(std::move(verbs), bytes.size(), node()->mount().lot.Park(std::move(reply)));
    }

 private:
    // Parked: dropping pages waits for whoever reads them, who may wait for the sandbox.
    void DoNext(std::vector<std::string> verbs, std::size_t size, Parked<WrittenReply> reply) {
        if (verbs.empty()) {
            if (auto still = reply.Take()) std::move(*still).Wrote(size);
            return;
        }
        const std::string verb = verbs.front();
        verbs.erase(verbs.begin());
        file_->Do(verb, [self = shared_from_this(), verbs = std::move(verbs), size,
                         reply = std::move(reply)](const Status& status) mutable {
            if (!status) return reply.Fail(status.error());
            self->DoNext(std::move(verbs), size, std::move(reply));
        });
    }

    const std::shared_ptr<VerbFile> file_;
    const std::string list_;
};

int SignalOf(std::string_view verb) {
    if (verb == "int") return SIGINT;
    if (verb == "term") return SIGTERM;
    if (verb == "kill") return SIGKILL;
    if (verb == "hup") return SIGHUP;
    if (verb == "usr1") return SIGUSR1;
    CHECK(verb == "usr2");
    return SIGUSR2;
}

}  // namespace

Attr VerbFile::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | 0600;
    attr.size = Join(Verbs(), "\n").size() + 1;
    attr.atime = attr.mtime = attr.ctime = Time();
    return attr;
}

void VerbFile::Open(const OpenRequest&, OpenReply reply) {
    auto file = std::make_shared<OpenVerbs>(std::static_pointer_cast<VerbFile>(shared_from_this()));
    AnswerOpen(mount(), std::move(file), Opened{.direct_io = true}, std::move(reply));
}

std::vector<std::string> SandboxCtl::Verbs() const {
    std::vector<std::string> verbs = {"protect", "unprotect", "drop_caches"};
    for (std::string& verb : sandbox_->provider().Verbs())
        verbs.push_back(std::move(verb));
    return verbs;
}

void SandboxCtl::Do(const std::string& verb, Done done) {
    if (verb == "drop_caches") return sandbox_->cached().DropCaches(std::move(done));
    if (verb == "stop") return sandbox_->PowerOff(std::move(done));
    if (verb == "start") return sandbox_->PowerOn(std::move(done));
    sandbox_->SetProtected(verb == "protect", std::move(done));
}

void PastCtl::Do(const std::string&, Done done) {
    sandbox_->Forget(std::move(done));
}

void EventCtl::Do(const std::string& verb, Done done) {
    sandbox_->commands().Signal(n_, SignalOf(verb), std::move(done));
}

SystemTime EventCtl::Time() const {
    const auto view = sandbox_->commands().Find(n_);
    return view ? FromEpochMs(view->record.accepted_ms) : SystemTime{};
}

}  // namespace sbxfs
