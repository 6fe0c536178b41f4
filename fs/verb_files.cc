#include "fs/verb_files.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/check.h"
#include "base/strings.h"
#include "fs/snapshots_dir.h"
#include "sandbox/cached_files.h"

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
        for (const std::string& line : verbs) {
            const std::string verb = line.substr(0, line.find(' '));
            if (std::find(known.begin(), known.end(), verb) == known.end()) {
                return std::move(reply).Fail(Error(
                    Errno{EOPNOTSUPP}, "'" + Printable(verb, 64) +
                                           "' is not a verb here; there are: " + Join(known, ", ") +
                                           ". Nothing was done"));
            }
            if (const Status good = file_->Check(line); !good)
                return std::move(reply).Fail(good.error());
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
        // Whoever was interrupted wants no more of it; what is under way goes on.
        if (!node()->mount().lot.Holds(reply.id())) return;
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

constexpr std::string_view kSnapshot = "snapshot";

std::string SnapshotName(const std::string& line) {
    const std::size_t space = line.find(' ');
    return space == std::string::npos ? "" : std::string(Trim(line.substr(space)));
}

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

Status VerbFile::Check(const std::string& line) const {
    const std::size_t space = line.find(' ');
    if (space == std::string::npos) return Ok();
    return Error(Errno{EINVAL},
                 "'" + line.substr(0, space) + "' takes nothing after it. Nothing was done");
}

Status SandboxCtl::Check(const std::string& line) const {
    if (line.substr(0, line.find(' ')) != kSnapshot) return VerbFile::Check(line);
    const std::string name = SnapshotName(line);
    const auto parsed = ParseSandboxName(name);
    if (!parsed || !parsed->template_name.empty()) {
        return Error(Errno{EINVAL},
                     (name.empty() ? std::string("a snapshot needs a name")
                                   : "'" + Printable(name, 64) + "' cannot name a snapshot") +
                         ": `snapshot NAME`, with a NAME as of a sandbox, without @. Nothing was "
                         "done");
    }
    if (mount().config.Now()->templates.contains(name)) {
        return Error(Errno{EEXIST}, "there is a template or snapshot '" + name +
                                        "' already: choose another name. Nothing was done");
    }
    return Ok();
}

void SandboxCtl::Do(const std::string& verb, Done done) {
    if (verb.starts_with(kSnapshot)) {
        SnapshotFacts facts;
        facts.name = SnapshotName(verb);
        facts.made_ms = EpochMs(mount().clock.System());
        // The template is there when the order is answered, whoever waits for that.
        return TakeSnapshot(mount().timer_loop, sandbox_, std::move(facts),
                            [&m = mount(), done = std::move(done)](const Status& status) {
                                if (status) LearnSnapshots(m);
                                done(status);
                            });
    }
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
