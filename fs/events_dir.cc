#include "fs/events_dir.h"

#include <errno.h>
#include <sys/stat.h>

#include <array>

#include "base/strings.h"
#include "fs/describe.h"
#include "fs/follow_file.h"
#include "fs/output_file.h"
#include "fs/report_file.h"
#include "fs/status_file.h"
#include "fs/verb_files.h"
#include "fs/wait_file.h"

namespace sbxfs {
namespace {

constexpr char kLogName[] = "log.jsonl";

// A number as a user would write it: no sign, no leading zeros.
std::optional<EventNumber> ParseEventNumber(std::string_view text) {
    const auto value = ParseNumber<std::uint64_t>(text);
    if (!value || *value == 0 || std::to_string(*value) != text) return std::nullopt;
    return EventNumber{*value};
}

Attr EventDirAttr(SystemTime time) {
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    attr.atime = attr.mtime = attr.ctime = time;
    return attr;
}

}  // namespace

Attr EventsDir::Stat() const {
    SystemTime newest = FromEpochMs(sandbox_->created_ms());
    if (const auto latest = sandbox_->commands().Latest()) {
        if (const auto view = sandbox_->commands().Find(*latest)) {
            newest = FromEpochMs(view->record.accepted_ms);
        }
    }
    return EventDirAttr(newest);
}

std::vector<ControlDir::Name> EventsDir::List() const {
    std::vector<Name> names;
    for (const EventNumber n : sandbox_->commands().Numbers())
        names.push_back({ToString(n), S_IFDIR});
    for (const auto& [name, n] : sandbox_->commands().Names())
        names.push_back({name, S_IFLNK});
    if (sandbox_->commands().Latest()) names.push_back({"latest", S_IFLNK});
    names.push_back({kLogName, S_IFREG});
    return names;
}

std::optional<Child> EventsDir::FindChild(std::string_view name) const {
    Commands& commands = sandbox_->commands();
    if (const auto n = ParseEventNumber(name)) {
        if (!commands.Find(*n)) return std::nullopt;
        return MakeChild<EventDir>(mount(), std::string(name), std::string(name), sandbox_, *n);
    }
    if (name == kLogName) return MakeChild<EventLogFile>(mount(), kLogName, kLogName, sandbox_);
    const auto target = name == "latest" ? commands.Latest() : commands.FindName(std::string(name));
    if (!target) return std::nullopt;
    const auto view = commands.Find(*target);
    if (!view) return std::nullopt;
    return LinkChild(mount(), std::string(name), ToString(*target),
                     FromEpochMs(view->record.accepted_ms));
}

std::string EventsDir::MissingText(std::string_view) const {
    return "";
}

void EventsDir::RemoveDir(std::string_view name, EmptyReply reply) {
    const auto n = ParseEventNumber(name);
    if (!n)
        return std::move(reply).Fail(Error(Errno{ENOTDIR}, "only events/NUMBER can be forgotten"));
    if (mount().removals.EndsAWalk(reply.caller(), Path() + "/" + std::string(name)))
        return RefuseRemoval(name, std::move(reply));
    sandbox_->commands().Forget(
        *n, [reply = mount().lot.Watch(std::move(reply))](const Status& status) mutable {
            std::move(reply).Done(status);
        });
}

Attr EventDir::Stat() const {
    const auto view = sandbox_->commands().Find(n_);
    return EventDirAttr(view ? EventTime(view->record) : FromEpochMs(sandbox_->created_ms()));
}

std::vector<ControlDir::Name> EventDir::List() const {
    std::vector<Name> names;
    for (const char* name : {"cmd", "ctl", "error", "exit_code", "report", "result.json", "signal",
                             "status", "stderr", "stdout"}) {
        names.push_back({name, S_IFREG});
    }
    return names;
}

std::optional<Child> EventDir::FindChild(std::string_view name) const {
    using Describe = std::string (*)(const EventView&);
    static constexpr std::array<std::pair<std::string_view, Describe>, 4> kTexts = {{
        {"error", [](const EventView& view) { return EventErrorText(view.record.state); }},
        {"exit_code",
         [](const EventView& view) {
             const auto& code = view.record.state.exit_code;
             return code ? std::to_string(*code) + "\n" : std::string();
         }},
        {"result.json", [](const EventView& view) { return ResultJson(view); }},
        {"signal",
         [](const EventView& view) {
             const int signal = view.record.state.signal;
             return signal == 0 ? std::string() : std::to_string(signal) + "\n";
         }},
    }};
    for (const auto& [word, describe] : kTexts) {
        if (word != name) continue;
        const auto text = [box = sandbox_, n = n_, describe = describe] {
            const auto view = box->commands().Find(n);
            return view ? describe(*view) : std::string();
        };
        const auto time = [box = sandbox_, n = n_] {
            const auto view = box->commands().Find(n);
            return view ? EventTime(view->record) : SystemTime{};
        };
        return TextChild(mount(), std::string(name), text, time);
    }
    const std::string own(name);
    if (name == "status") return StatusOf();
    if (name == "report") return MakeChild<ReportFile>(mount(), own, own, sandbox_, n_);
    if (name == "follow") return MakeChild<FollowFile>(mount(), own, own, sandbox_, n_);
    if (name == "cmd") return MakeChild<ScriptFile>(mount(), own, own, sandbox_, n_);
    if (name == "ctl") return MakeChild<EventCtl>(mount(), own, own, sandbox_, n_);
    if (name == "stdout") {
        return MakeChild<OutputFile>(mount(), own, own, sandbox_, n_, OutputStream::kStdout);
    }
    if (name == "stderr") {
        return MakeChild<OutputFile>(mount(), own, own, sandbox_, n_, OutputStream::kStderr);
    }
    if (name == "wait") {
        return MakeChild<EventWaitFile>(mount(), own, own, sandbox_, n_, WaitLimit{});
    }
    if (name.starts_with("wait.")) {
        const auto seconds = ParseNumber<std::uint32_t>(name.substr(5));
        if (seconds) {
            return MakeChild<EventWaitFile>(mount(), own, own, sandbox_, n_,
                                            WaitLimit{std::chrono::seconds(*seconds)});
        }
    }
    return std::nullopt;
}

Child EventDir::StatusOf() const {
    const auto find = [box = sandbox_, n = n_] { return box->commands().Find(n); };
    StatusSource source;
    source.text = [find] {
        const auto view = find();
        return view ? std::string(ToString(view->record.state.status)) + "\n" : std::string();
    };
    source.mtime = [find] {
        const auto view = find();
        return view ? EventTime(view->record) : SystemTime{};
    };
    source.is_final = [find] {
        const auto view = find();
        return !view || IsFinished(view->record.state.status);
    };
    source.keeper = sandbox_;
    source.signal = &sandbox_->commands().changes();
    source.key = Raw(n_);
    return StatusChild(mount(), "status", std::move(source));
}

std::string EventDir::MissingText(std::string_view name) const {
    if (!name.starts_with("wait.")) return "";
    return "'" + Printable(name) + "' is not wait.SECONDS with a whole number of seconds";
}

}  // namespace sbxfs
