#include "fs/open_command.h"

#include <errno.h>

#include "base/json.h"
#include "base/strings.h"
#include "fs/caller.h"

namespace sbxfs {

OpenCommand::OpenCommand(NodePtr node, SandboxPtr sandbox, CmdFile::Format format,
                         const Caller& opener, CommandSpec spec, Commands::Slot slot)
    : OpenHandle(std::move(node)),
      sandbox_(std::move(sandbox)),
      format_(format),
      spec_(std::move(spec)),
      opener_(LookUpCaller(opener.tid).group),
      slot_(std::move(slot)) {}

void OpenCommand::Write(std::uint64_t, std::span<const char> bytes, bool, WrittenReply reply) {
    // The offset is ignored: every write continues the script.
    const Status taken = Take(bytes);
    if (!taken) {
        Poison(taken.error());  // a handle whose write was refused submits nothing at all
        return std::move(reply).Fail(taken.error());
    }
    std::move(reply).Wrote(bytes.size());
}

// From the first byte on there is a place in the queue and in the journal, so that what comes when
// nobody hears errors any more cannot be refused. Bytes and place come and go together: another process
// with this handle may submit at any moment.
Status OpenCommand::Take(std::span<const char> bytes) {
    Commands::Slot made;  // dies after the lock
    for (;;) {
        {
            const MutexLock lock(mu_);
            if (poisoned_) return *poisoned_;
            if (!slot_) std::swap(slot_, made);
            if (slot_) {
                text_.append(bytes.data(), bytes.size());
                break;
            }
        }
        made = TRY(sandbox_->commands().Reserve(spec_.name));
    }
    return CheckGrown(bytes);
}

Status OpenCommand::CheckGrown(std::span<const char> part) {
    std::string text;
    std::size_t size = 0;
    {
        const MutexLock lock(mu_);
        size = text_.size();
        if (format_ == CmdFile::Format::kJson) text = text_;
    }
    (void)TRY(sandbox_->commands().CheckScript(size, {part.data(), part.size()}));
    if (format_ == CmdFile::Format::kScript) return Ok();
    switch (Json::Look(text)) {
        case Json::Text::kBeginning:
            return Ok();
        case Json::Text::kInvalid:
            return Error(Errno{EINVAL},
                         "that is not a JSON object; nothing was submitted. Like this: "
                         "{\"cmd\": \"make\", \"timeout\": 60}");
        case Json::Text::kWhole:
            break;
    }
    const JsonCommand command = TRY(ParseJsonCommand(text));
    return NameCommand(command.spec.name);  // EEXIST is heard here, not at close
}

Status OpenCommand::NameCommand(const std::string& name) {
    const MutexLock lock(mu_);
    return slot_ ? sandbox_->commands().Rename(slot_, name) : Ok();
}

void OpenCommand::Flush(const Caller& who, EmptyReply reply) {
    const CallerFacts caller = LookUpCaller(who.tid);
    if (opener_ == 0 || caller.group != opener_) return std::move(reply).Ok();
    if (caller.killed) {
        bool unsent = false;
        {
            const MutexLock lock(mu_);
            unsent = !poisoned_ && !Trim(text_).empty();
        }
        const Error why(Errno{ECANCELED},
                        "the process that was writing this command was killed "
                        "before it closed the file; nothing was submitted");
        Poison(why);
        if (unsent) Refuse(opener_, why);
        return std::move(reply).Ok();
    }
    Submit([reply = node()->mount().lot.Watch(std::move(reply))](const Status& status) mutable {
        std::move(reply).Done(status);
    });
}

void OpenCommand::Fsync(EmptyReply reply) {
    if (const auto poisoned = Poisoned()) return std::move(reply).Fail(*poisoned);
    Submit([reply = node()->mount().lot.Watch(std::move(reply))](const Status& status) mutable {
        std::move(reply).Done(status);
    });
}

void OpenCommand::Release() {
    Submit([self = shared_from_this()](const Status& status) {
        if (!status)
            self->Refuse(self->opener_, status.error());  // nobody hears errors of the last close
    });
}

void OpenCommand::Read(std::uint64_t, std::size_t size, DataReply reply) {
    if (const auto poisoned = Poisoned()) return std::move(reply).Fail(*poisoned);
    Submit([self = shared_from_this(), size,
            reply = node()->mount().lot.Watch(std::move(reply))](const Status& status) mutable {
        if (!status) return std::move(reply).Fail(status.error());
        std::string part;
        {
            const MutexLock lock(self->mu_);
            part = self->answer_.substr(self->cursor_, size);
            self->cursor_ += part.size();
        }
        std::move(reply).Bytes(part);
    });
}

// From now on the handle refuses everything, and what it had is given up.
void OpenCommand::Poison(const Error& why) {
    Commands::Slot given_back;  // after the lock
    const MutexLock lock(mu_);
    if (!poisoned_) poisoned_ = why;
    text_.clear();
    std::swap(given_back, slot_);
}

std::optional<Error> OpenCommand::Poisoned() const {
    const MutexLock lock(mu_);
    return poisoned_;
}

// Turns what was written since the last time into a command. Nothing for nothing, or only blanks.
void OpenCommand::Submit(Submitted done) {
    JsonCommand command;
    Commands::Slot slot;
    std::string text;
    bool blank = false;
    {
        // In one step: another thread may be writing, and its bytes keep the place they came with.
        const MutexLock lock(mu_);
        blank = Trim(text_).empty();
        text.swap(text_);
        if (!blank) std::swap(slot, slot_);
        // The name of a run/NAME that is still open stays reserved for it.
        if (blank && slot_) sandbox_->commands().MayBeClosed(slot_);
    }
    if (blank) return done(Ok());
    if (format_ == CmdFile::Format::kJson) {
        Result<JsonCommand> parsed = ParseJsonCommand(text);
        if (!parsed) {
            Poison(parsed.error());
            return done(std::move(parsed).error());
        }
        command = std::move(*parsed);
    } else {
        command.spec = spec_;
        command.script = std::move(text);
    }
    sandbox_->commands().Submit(
        std::move(slot), std::move(command.spec), std::move(command.script),
        [self = shared_from_this(), done = std::move(done)](Result<EventNumber> n) {
            if (!n) return done(std::move(n).error());
            {
                const MutexLock lock(self->mu_);
                self->answer_ += ToString(*n) + "\n";
            }
            done(Ok());
        });
}

void OpenCommand::Refuse(pid_t pid, const Error& why) const {
    node()->mount().refusals.Add(pid, node()->Path(), why);
}

}  // namespace sbxfs
