#include "fs/command_files.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/did_you_mean.h"
#include "base/json.h"
#include "base/strings.h"
#include "fs/open_command.h"
#include "sandbox/scoped_script.h"

namespace sbxfs {
namespace {

// `touch run/t; echo make > run/t`: what the first has closed without a word is free again when the kernel tells
// us so, a moment after close(2) has returned.
constexpr Duration kCreatePause = std::chrono::milliseconds(2);
constexpr int kCreateAttempts = 50;

// When the newest command was accepted.
SystemTime LastUsed(Sandbox& sandbox) {
    if (const auto latest = sandbox.commands().Latest()) {
        if (const auto view = sandbox.commands().Find(*latest)) {
            return FromEpochMs(view->record.accepted_ms);
        }
    }
    return FromEpochMs(sandbox.created_ms());
}

Error BadMember(std::string_view member, std::string_view rule) {
    return {Errno{EINVAL}, "cmd.json: \"" + Printable(member, 64) + "\" " + std::string(rule) +
                               "; nothing was submitted"};
}

// run/NAME while it is open: afterwards its name is in events/.
class RunFile final : public ControlNode {
 public:
    using ControlNode::ControlNode;
    Attr Stat() const override {
        Attr attr;
        attr.mode = S_IFREG | 0600;
        attr.atime = attr.mtime = attr.ctime = mount().clock.System();
        return attr;
    }
    Lease Loan() const override { return {.attributes = kControlLoan}; }
    // cp -p and editors set modes and times of what they write; here they mean nothing.
    void SetAttr(const AttrChange&, const OpenHandlePtr&, const Caller&, AttrReply reply) override {
        std::move(reply).Is(ToEntry());
    }
};

Status ReadEnvironment(const Json& json, CommandSpec& spec) {
    const auto env = json.Find("env");
    if (!env) return Ok();
    if (!env->IsObject()) return BadMember("env", "must be an object of strings");
    for (const auto& [key, given] : env->Members()) {
        const auto value = given.AsString();
        if (!value) return BadMember("env", "must be an object of strings");
        const bool name_ok =
            !key.empty() && key.find_first_of(std::string("=\0", 2)) == std::string::npos;
        if (!name_ok || value->find('\0') != std::string::npos) {
            return BadMember("env", "holds a name or value that no environment can hold");
        }
        spec.env[key] = *value;
    }
    return Ok();
}

}  // namespace

Result<JsonCommand> ParseJsonCommand(std::string_view text) {
    static const std::vector<std::string_view> kMembers = {"cmd", "id",      "cwd",
                                                           "env", "timeout", "parallel"};
    const std::optional<Json> json = Json::Parse(text);
    if (!json || !json->IsObject()) {
        return Error(Errno{EINVAL},
                     "cmd.json takes one JSON object; nothing was submitted. Like this: "
                     "{\"cmd\": \"make\", \"timeout\": 60}");
    }
    for (const std::string& key : json->Keys()) {
        if (std::find(kMembers.begin(), kMembers.end(), key) != kMembers.end()) continue;
        return BadMember(key, "is not known" + DidYouMean(key, kMembers, "", '"'));
    }
    JsonCommand command;
    const auto script = json->GetString("cmd");
    if (!script || Trim(*script).empty()) return BadMember("cmd", "must be there and be a script");
    if (script->find('\0') != std::string::npos) return BadMember("cmd", "must not contain NUL");
    command.script = *script;
    if (const auto id = json->Find("id")) {
        command.spec.name = id->AsString().value_or("");
        if (!CheckEventName(command.spec.name))
            return BadMember("id", "must be a name as for run/NAME");
    }
    if (const auto cwd = json->Find("cwd")) {
        command.spec.cwd = cwd->AsString().value_or("");
        const std::string& path = command.spec.cwd;
        if (!path.starts_with('/') || path.find('\0') != std::string::npos)
            return BadMember("cwd", "must be an absolute path");
    }
    if (const auto timeout = json->Find("timeout")) {
        const double seconds = timeout->AsReal().value_or(-1);
        if (!(seconds > 0 && seconds <= 1e9))
            return BadMember("timeout", "must be seconds above 0");
        command.spec.timeout_ms = std::max<std::int64_t>(1, std::llround(seconds * 1000));
    }
    if (const auto parallel = json->Find("parallel")) {
        if (!parallel->AsBool()) return BadMember("parallel", "must be true or false");
        if (*parallel->AsBool()) command.spec.lane = CommandLane::kParallel;
    }
    (void)TRY(ReadEnvironment(*json, command.spec));
    for (const auto& [name, value] : command.spec.env) {
        // A parallel command's go to execve(2), which takes any name.
        if (command.spec.lane == CommandLane::kSerial && !IsShellName(name)) {
            return BadMember("env",
                             "holds a name that no shell variable can have; only a command "
                             "with \"parallel\": true can be given it");
        }
    }
    return command;
}

Attr CmdFile::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | 0600;
    attr.atime = attr.mtime = attr.ctime = LastUsed(*sandbox_);
    return attr;
}

void CmdFile::Open(const OpenRequest& request, OpenReply reply) {
    if (request.Writes()) {
        if (const auto closed = sandbox_->commands().Closed())
            return std::move(reply).Fail(*closed);
    }
    auto file = std::make_shared<OpenCommand>(shared_from_this(), sandbox_, format_, request.who,
                                              CommandSpec{}, Commands::Slot{});
    // Seekable, though offsets mean nothing: Python's open(path, 'r+') wants that.
    AnswerOpen(mount(), std::move(file), Opened{.direct_io = true}, std::move(reply));
}

Attr RunDir::Stat() const {
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    attr.atime = attr.mtime = attr.ctime = LastUsed(*sandbox_);
    return attr;
}

void RunDir::Create(std::string_view name, std::uint32_t, const OpenRequest& request,
                    CreateReply reply) {
    if (const Status fits = CheckEventName(name); !fits) return std::move(reply).Fail(fits.error());
    CreateOnce(std::string(name), request, std::move(reply), kCreateAttempts);
}

void RunDir::CreateOnce(const std::string& name, const OpenRequest& request, CreateReply reply,
                        int attempts) {
    CommandSpec spec;
    spec.name = name;
    spec.lane = CommandLane::kParallel;
    Result<Commands::Slot> slot = sandbox_->commands().Reserve(spec.name);
    if (!slot && attempts > 1 && sandbox_->commands().MayBeFreeSoon(name)) {
        Loop& loop = mount().timer_loop;
        const auto self = std::static_pointer_cast<RunDir>(shared_from_this());
        return loop.Post(
            [self, &loop, name, request, attempts, reply = std::move(reply)]() mutable {
                RunLater(loop, kCreatePause,
                         [self, name, request, attempts, reply = std::move(reply)]() mutable {
                             self->CreateOnce(name, request, std::move(reply), attempts - 1);
                         });
            });
    }
    if (!slot) return std::move(reply).Fail(slot.error());

    const NodePtr node =
        mount().inodes.Enter(shared_from_this(), MakeChild<RunFile>(mount(), spec.name, spec.name));
    auto file = std::make_shared<OpenCommand>(node, sandbox_, CmdFile::Format::kScript, request.who,
                                              spec, std::move(*slot));
    Opened opened{.handle = mount().handles.Add(std::move(file)), .direct_io = true};
    if (std::move(reply).Created(*node->EntryNow(), opened) == Delivery::kDelivered) return;
    mount().inodes.Forget(node->ino(), 1);
    (void)mount().handles.Remove(opened.handle);  // its slot and name are given back
}

}  // namespace sbxfs
