#include "sandbox/providers/ssh/ssh_doctor.h"

#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/departure.h"
#include "sandbox/io_loop.h"
#include "sandbox/no_commands.h"
#include "sandbox/providers/ssh/ssh_provider.h"
#include "sandbox/ssh_agent.h"
#include "sandbox/ssh_attachment.h"
#include "sandbox/ssh_auth.h"

namespace sbxfs {
namespace {

constexpr std::chrono::seconds kPatience{60};

// Commands of which it knows none.
// One attach, up to the supervisor and the directories. Everything but the future is the loop's.
class Visit final : public AttachmentListener {
 public:
    struct Result {
        std::vector<std::string> phases;
        std::string machine;
        std::optional<Error> error;
        std::vector<std::pair<std::string, Status>> places;
    };

    explicit Visit(std::vector<std::string> places) : places_(std::move(places)) {}
    std::future<Result> Ended() { return ended_.get_future(); }
    void Begin(IoLoop& loop, const AttachRequest& request) {
        attachment_ = attacher_.Attach(loop, request, *this, nothing_);
    }
    void End() { attachment_.reset(); }

    void OnAttachPhase(std::string_view phase) override { result_.phases.emplace_back(phase); }
    void OnFiles(RemoteFiles& files) override {
        left_ = places_.size() + 1;
        for (const std::string& place : places_) {
            files.Lstat(place, [this, place](const sbxfs::Result<RemoteStat>& stat) {
                result_.places.emplace_back(place, stat ? Ok() : Status(stat.error()));
                OneLess();
            });
        }
    }
    void OnSupervisor(SupervisorPort&, const SupervisorHello& hello, const std::string&) override {
        result_.machine = hello.machine;
        OneLess();
    }
    void OnSupervisorLost(const Error&) override {}
    void OnDetached(const Error& why) override {
        result_.error = why;
        Tell();
    }

 private:
    // The supervisor may be there before the files.
    void OneLess() {
        if (left_ == 0) {
            early_ = true;
            return;
        }
        if (--left_ == (early_ ? 1U : 0U)) Tell();
    }
    void Tell() {
        if (std::exchange(told_, true)) return;
        ended_.set_value(std::move(result_));
    }

    const std::vector<std::string> places_;
    SshAttacher attacher_;
    NoCommands nothing_;
    Result result_;
    std::size_t left_ = 0;
    bool early_ = false;
    bool told_ = false;
    std::promise<Result> ended_;
    std::unique_ptr<Attachment> attachment_;
};

bool Reached(const Visit::Result& visit, std::string_view phase) {
    for (const std::string& one : visit.phases) {
        if (one == phase) return true;
    }
    return false;
}

// The steps of an attach, in order; the error belongs to the first that was not reached.
void TellVisit(const Visit::Result& visit, const ConnectInfo& connect, const Tell& tell) {
    struct Step {
        std::string_view phase;
        const char* check;
        std::string text;
    };
    const std::vector<Step> steps = {
        {"connected", "connect", AddressText(connect.address)},
        {"logged_in", "login", "as " + connect.user + ", host key as pinned"},
        {"sftp", "sftp", "the files can be reached"},
        {"supervisor", "supervisor", "runs there (" + visit.machine + ")"},
    };
    for (const Step& step : steps) {
        const bool reached = Reached(visit, step.phase);
        if (!reached && !visit.error) return;
        tell({reached, step.check, reached ? step.text : visit.error->what()});
        if (!reached) return;
    }
    for (const auto& [place, status] : visit.places) {
        tell({status.has_value(), "directory",
              status ? place + " is there"
                     : place + ": " + status.error().what() + ": make it there as " + connect.user +
                           ", or name another in workdir and fs_root"});
    }
}

Status Leave(IoLoop& loop, const AttachRequest& request, std::atomic<std::uint64_t>& epoch) {
    auto done = std::make_shared<std::promise<Status>>();
    std::future<Status> ended = done->get_future();
    std::unique_ptr<Departure> departure;  // the loop's
    SshAttacher attacher;
    loop.Post([&] {
        departure =
            std::make_unique<Departure>(loop, attacher, request, epoch,
                                        [done](const Status& status) { done->set_value(status); });
    });
    const bool in_time = ended.wait_for(2 * kPatience) == std::future_status::ready;
    std::promise<void> over;
    loop.Post([&] {
        departure.reset();
        over.set_value();
    });
    over.get_future().wait();
    if (in_time) return ended.get();
    return Error(Errno{ETIMEDOUT}, "the machine did not answer in time");
}

void ExamineLink(const ConnectInfo& connect, std::vector<std::string> places, const Tell& tell) {
    auto loop = IoLoop::Start("io-doctor", RealClock());
    if (!loop) return tell({false, "connect", loop.error().what()});
    std::atomic<std::uint64_t> epoch{1};
    AttachRequest request;
    request.connect = connect;
    request.epoch = epoch.fetch_add(1);
    Visit visit(std::move(places));
    std::future<Visit::Result> ended = visit.Ended();
    (*loop)->Post([&] { visit.Begin(**loop, request); });
    const bool in_time = ended.wait_for(kPatience) == std::future_status::ready;
    std::promise<void> over;
    (*loop)->Post([&] {
        visit.End();
        over.set_value();
    });
    over.get_future().wait();
    if (!in_time) return tell({false, "connect", "no answer within a minute"});
    const Visit::Result result = ended.get();
    TellVisit(result, connect, tell);
    if (!Reached(result, "logged_in")) return;
    (void)TellStatus(tell, "clean up", Leave(**loop, request, epoch),
                     "nothing of sbxfs is left there");
}

Finding ExamineWay(const ClientAuth& way) {
    if (const auto* file = std::get_if<IdentityFile>(&way)) {
        const Status usable = CheckIdentityFile(file->path);
        return {usable.has_value(), "identity file", usable ? file->path : usable.error().what()};
    }
    const auto keys = CountAgentKeys(std::get_if<Agent>(&way)->socket);
    if (!keys) return {false, "agent", keys.error().what()};
    const bool some = *keys > 0;
    return {some, "agent", std::to_string(*keys) + " keys" + (some ? "" : ": ssh-add one")};
}

}  // namespace

void ExamineSsh(const Template& what, const SshSelf& self, const Tell& tell) {
    const auto settings = ReadSshSettings(what, self);
    if (!settings) return tell({false, "settings", settings.error().what()});
    tell({true, "settings", settings->user + "@" + AddressText(settings->address)});
    // One way in is enough: what is wrong with the other is said all the same.
    std::vector<Finding> ways;
    bool any_way = false;
    for (const ClientAuth& way : settings->auth) {
        ways.push_back(ExamineWay(way));
        any_way |= ways.back().good;
    }
    for (Finding& finding : ways) {
        finding.good = any_way;
        tell(finding);
    }
    if (!any_way) return;
    const auto connect = ResolveSsh(*settings, "doctor-" + Hex(RandomBytes(6)));
    if (!connect) return tell({false, "host key", connect.error().what()});
    tell({true, "host key", std::to_string(1 + connect->other_host_keys.size()) + " pinned"});
    std::vector<std::string> places;
    if (!what.workdir.empty()) places.push_back(what.workdir);
    if (what.fs_root != what.workdir) places.push_back(what.fs_root);
    ExamineLink(*connect, std::move(places), tell);
}

}  // namespace sbxfs
