#include "fs/wait_file.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/describe.h"

namespace sbxfs {
namespace {

constexpr Duration kLimitLook = std::chrono::seconds(10);

// One reader of a waiting file. The text is fixed when the wait ends; reads go on from a cursor, whatever
// offset they name, so that a second read is at the end.
class OpenWait final : public OpenHandle, public std::enable_shared_from_this<OpenWait> {
 public:
    explicit OpenWait(const std::shared_ptr<WaitNode>& node)
        : OpenHandle(node), wait_(node), mount_(node->mount()) {}

    void Read(std::uint64_t, std::size_t size, DataReply reply) override {
        if (const auto part = NextPart(size)) return std::move(reply).Bytes(*part);

        auto [parked, id] = mount_.lot.ParkWithId(std::move(reply));
        auto claim = std::make_shared<Parked<DataReply>>(std::move(parked));
        const auto self = shared_from_this();
        const std::uint64_t wait = wait_->When([self, claim, size] { self->Answer(*claim, size); });
        if (wait != 0) {
            mount_.lot.SetOnCancel(id, [node = wait_, wait] { node->Cancel(wait); });
        }
        const WaitLimit limit = ShortestLimit();
        if (wait == 0 || !limit) return;
        // The one that waits for the event keeps both alive; the limit neither.
        const SteadyTime deadline = mount_.clock.Steady() + *limit;
        mount_.timer_loop.Post([weak = weak_from_this(), weak_claim = std::weak_ptr(claim), size,
                                wait,
                                deadline] { LookAtLimit(weak, weak_claim, size, wait, deadline); });
    }

 private:
    using Claim = Parked<DataReply>;
    // Now and then, and not once at the end: that may be days away, and most waits are over long before it. On the
    // timer loop.
    static void LookAtLimit(const std::weak_ptr<OpenWait>& weak,
                            const std::weak_ptr<Claim>& weak_claim, std::size_t size,
                            std::uint64_t wait, SteadyTime deadline) {
        const auto self = weak.lock();
        const auto unanswered = weak_claim.lock();
        if (self == nullptr || unanswered == nullptr) return;
        const Duration left = deadline - self->mount_.clock.Steady();
        if (left <= Duration::zero()) {
            self->wait_->Cancel(wait);
            return self->Answer(*unanswered, size);
        }
        RunLater(self->mount_.timer_loop, std::min(left, kLimitLook),
                 [weak, weak_claim, size, wait, deadline] {
                     LookAtLimit(weak, weak_claim, size, wait, deadline);
                 });
    }
    // What comes next of a text that is known; nothing while it is not.
    std::optional<std::string> NextPart(std::size_t size) {
        const MutexLock lock(mu_);
        if (!text_) return std::nullopt;
        const std::string part = text_->substr(cursor_, size);
        cursor_ += part.size();
        return part;
    }
    WaitLimit ShortestLimit() const {
        const WaitLimit asked = wait_->Limit();
        const Duration longest = mount_.settings.longest_wait;
        if (longest == Duration::zero()) return asked;
        return asked ? std::min(*asked, longest) : longest;
    }
    void Answer(Parked<DataReply>& claim, std::size_t size) {
        auto reply = claim.Take();
        if (!reply) return;  // interrupted, or the limit was faster
        std::string now = wait_->Text();
        {
            const MutexLock lock(mu_);
            if (!text_) text_ = std::move(now);
        }
        std::move(*reply).Bytes(*NextPart(size));
    }

    const std::shared_ptr<WaitNode> wait_;
    MountContext& mount_;
    Mutex mu_{LockRank::kHandle};
    std::optional<std::string> text_ GUARDED_BY(mu_);
    std::size_t cursor_ GUARDED_BY(mu_) = 0;
};

}  // namespace

Attr WaitNode::Stat() const {
    Attr attr;
    attr.mode = S_IFREG | 0444;  // the length is not known before it is read
    attr.atime = attr.mtime = attr.ctime = mount().mounted;
    return attr;
}

void WaitNode::Open(const OpenRequest& request, OpenReply reply) {
    if (const auto refused = RefuseWriting(request, Name())) return std::move(reply).Fail(*refused);
    auto file = std::make_shared<OpenWait>(std::static_pointer_cast<WaitNode>(shared_from_this()));
    AnswerOpen(mount(), std::move(file), Opened{.direct_io = true}, std::move(reply));
}

std::string ReadyFile::Text() const {
    const SandboxSnapshot snapshot = sandbox_->Snapshot();
    if (IsUp(snapshot.status)) return "ready\n";
    std::string text(ToString(snapshot.status));
    if (!snapshot.error.empty()) text += ": " + snapshot.error;
    return text + "\n";
}

std::string EventWaitFile::Text() const {
    const auto view = sandbox_->commands().Find(n_);
    return view ? OutcomeLine(view->record.state) : "";
}

}  // namespace sbxfs
