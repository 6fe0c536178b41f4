#include "fs/new_file.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "base/json.h"
#include "base/strings.h"
#include "fs/caller.h"
#include "fs/new_order.h"

namespace sbxfs {
namespace {

constexpr std::size_t kLongestOrder = 65536;

// What a sandbox without a name of its own gets: the first that is free.
std::string FreeName(const Sandboxes& sandboxes) {
    for (std::size_t i = 1;; ++i) {
        std::string name = "box" + std::to_string(i);
        if (sandboxes.Find(name) == nullptr) return name;
    }
}

class OpenNew final : public OpenHandle, public std::enable_shared_from_this<OpenNew> {
 public:
    OpenNew(NodePtr node, pid_t opener)
        : OpenHandle(std::move(node)), opener_(LookUpCaller(opener).group) {}

    void Write(std::uint64_t, std::span<const char> bytes, bool, WrittenReply reply) override {
        bool whole = false;
        bool too_long = false;
        bool invalid = false;
        {
            const MutexLock lock(mu_);
            if (poisoned_) return std::move(reply).Fail(*poisoned_);
            too_long = text_.size() + bytes.size() > kLongestOrder;
            if (!too_long) text_.append(bytes.data(), bytes.size());
            const std::string_view text = Trim(text_);
            if (text.starts_with('{')) {
                const Json::Text look = Json::Look(text);
                whole = look == Json::Text::kWhole;
                invalid = look == Json::Text::kInvalid;
            } else {
                whole = text_.ends_with('\n');
            }
            if (too_long || invalid) text_.clear();
        }
        if (too_long) {
            return std::move(reply).Fail(Error(
                Errno{EFBIG},
                "the options of a sandbox may have " + std::to_string(kLongestOrder) + " bytes"));
        }
        if (invalid) {
            return std::move(reply).Fail(
                Error(Errno{EINVAL},
                      "that is not a JSON object; nothing was launched. Like this: "
                      "{\"name\": \"b1\", \"template\": \"default\"}"));
        }
        if (!whole) return std::move(reply).Wrote(bytes.size());
        Launch([size = bytes.size(),
                reply = node()->mount().lot.Watch(std::move(reply))](const Status& status) mutable {
            if (!status) return std::move(reply).Fail(status.error());
            std::move(reply).Wrote(size);
        });
    }
    void Flush(const Caller& who, EmptyReply reply) override {
        // As with cmd: a child that inherited the descriptor ends with a flush too, and who was killed in the
        // middle of an order has not given it.
        const CallerFacts caller = LookUpCaller(who.tid);
        if (opener_ == 0 || caller.group != opener_) return std::move(reply).Ok();
        if (caller.killed) {
            Poison(
                Error(Errno{ECANCELED},
                      "the process that was writing was killed before it closed the file; nothing "
                      "was launched of what was still open"));
            return std::move(reply).Ok();
        }
        Launch([reply = node()->mount().lot.Watch(std::move(reply))](const Status& status) mutable {
            std::move(reply).Done(status);
        });
    }
    void Fsync(EmptyReply reply) override {
        Launch([reply = node()->mount().lot.Watch(std::move(reply))](const Status& status) mutable {
            std::move(reply).Done(status);
        });
    }
    void Read(std::uint64_t, std::size_t size, DataReply reply) override {
        Launch([self = shared_from_this(), size,
                reply = node()->mount().lot.Watch(std::move(reply))](const Status& status) mutable {
            if (!status) return std::move(reply).Fail(status.error());
            std::string part;
            {
                const MutexLock lock(self->mu_);
                part = self->names_.substr(self->cursor_, size);
                self->cursor_ += part.size();
            }
            std::move(reply).Bytes(part);
        });
    }
    void Release() override {
        Launch([self = shared_from_this()](const Status& status) {
            // Nobody hears errors of the last close.
            MountContext& mount = self->node()->mount();
            if (!status) mount.refusals.Add(self->opener_, "/.mount/new", status.error());
        });
    }

 private:
    void Poison(const Error& why) {
        bool unsent = false;
        {
            const MutexLock lock(mu_);
            unsent = !Trim(text_).empty();
            text_.clear();
            if (!poisoned_) poisoned_ = why;
        }
        if (unsent) node()->mount().refusals.Add(opener_, "/.mount/new", why);
    }

    // What was written and not acted on yet, if anything.
    void Launch(Done done) {
        std::string text;
        bool named = false;
        {
            const MutexLock lock(mu_);
            text.swap(text_);
            named = named_;
        }
        if (Trim(text).empty()) return done(Ok());
        MountContext& mount = node()->mount();
        Result<NewOrder> order = ParseNewOrder(*mount.config.Now(), text);
        if (!order) return done(std::move(order).error());
        if (order->name.empty() && named) {
            // More likely options of the sandbox above, which is launched already, than an order of its own.
            return done(
                Error(Errno{EINVAL},
                      "options after a sandbox with a name was launched: write all of an order "
                      "in one line, or as one JSON object, and begin the next with name=. "
                      "Nothing more was launched"));
        }
        {
            const MutexLock lock(mu_);
            named_ = named_ || !order->name.empty();
        }
        if (order->name.empty()) order->name = FreeName(mount.sandboxes);
        const Result<SandboxName> name = ParseSandboxName(order->name);
        if (!name) return done(name.error());
        if (order->name == "README.md")
            return done(Error(Errno{EEXIST}, "that name is the mount's own"));
        mount.sandboxes.Create(*name, order->what,
                               [self = shared_from_this(), name = order->name,
                                done = std::move(done)](const Result<SandboxPtr>& created) {
                                   if (!created) return done(created.error());
                                   {
                                       const MutexLock lock(self->mu_);
                                       self->names_ += name + "\n";
                                   }
                                   done(Ok());
                               });
    }

    const pid_t opener_;
    Mutex mu_{LockRank::kHandle};
    std::string text_ GUARDED_BY(mu_);
    std::string names_ GUARDED_BY(mu_);  // of what this handle launched
    std::size_t cursor_ GUARDED_BY(mu_) = 0;
    bool named_ GUARDED_BY(mu_) = false;  // an order on this handle had a name
    std::optional<Error> poisoned_ GUARDED_BY(mu_);
};

}  // namespace

Attr NewFile::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | 0600;
    attr.atime = attr.mtime = attr.ctime = mount().mounted;
    return attr;
}

void NewFile::Open(const OpenRequest& request, OpenReply reply) {
    AnswerOpen(mount(), std::make_shared<OpenNew>(shared_from_this(), request.who.tid),
               Opened{.direct_io = true}, std::move(reply));
}

}  // namespace sbxfs
