// Files of ours that hold a value and take a new one: config/*, ttl, templates/NAME.toml. They accept what shells
// and editors do to a file: O_TRUNC, O_APPEND, truncate(2), several writes, utimens, chmod to the same mode.
//
// What is written to a handle is buffered and becomes the value at the first of: a flush with new bytes by the process
// that opened it, fsync, the last close. Refusals come as early as they can be known, at the write, since shells ignore errors of close. A
// handle whose write was refused changes nothing any more, and neither does one whose process is killed before
// it has closed. An O_TRUNC with nothing written counts only at the last close: every shell redirection begins
// with one and an empty FLUSH.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

class ValueFile : public ControlNode {
 public:
    using ControlNode::ControlNode;
    Attr Stat() const final;
    void Open(const OpenRequest& request, OpenReply reply) final;
    // truncate(2) to nothing empties the value, through a handle it empties what was written so far.
    void SetAttr(const AttrChange& change, const OpenHandlePtr& open, const Caller& who,
                 AttrReply reply) final;

    // kWhole: what a handle writes replaces the value, however it was opened, as with files of sysfs. kEdited: an
    // ordinary file, which can be appended to.
    enum class Writes { kWhole, kEdited };
    enum class Part { kBeginning, kWhole };
    // kAtWrite: a whole line is kept before its write is answered, for values whose refusal only the sandbox can give.
    enum class Keeps { kAtClose, kAtWrite };

    // What reading shows.
    virtual std::string Text() const = 0;
    virtual SystemTime Time() const = 0;
    virtual std::uint32_t Permissions() const { return 0600; }
    virtual Writes HowWritten() const { return Writes::kWhole; }
    virtual Keeps WhenKept() const { return Keeps::kAtClose; }
    virtual std::size_t Limit() const { return 4096; }
    // Why it cannot be written at all now.
    virtual std::optional<Error> Closed() const { return std::nullopt; }
    // kBeginning: whether a good text can begin so. Cheap: asked at every write.
    virtual Status Check(std::string_view text, Part part) const = 0;
    // `text` passed Check. `done` runs once, on any thread, when the value is kept.
    virtual void Commit(std::string text, Done done) = 0;
};

// One open handle. Several processes may hold it: the state is behind mu_, answers are given outside.
class OpenValue final : public OpenHandle, public std::enable_shared_from_this<OpenValue> {
 public:
    enum class Begins { kAsItIs, kEmptied };  // kEmptied: O_TRUNC, or just created
    OpenValue(const std::shared_ptr<ValueFile>& file, const OpenRequest& request, Begins begins);
    ~OpenValue() override;

    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override;
    void Write(std::uint64_t offset, std::span<const char> bytes, bool from_cache,
               WrittenReply reply) override;
    void Flush(const Caller& who, EmptyReply reply) override;
    void Fsync(EmptyReply reply) override;
    void Release() override;
    Status Truncate(std::uint64_t size);

 private:
    Status Take(std::uint64_t offset, std::span<const char> bytes);
    Status Fits(std::uint64_t size) const;
    void Poison(const Error& why);
    void Keep(bool at_last, Done done);
    void KeepAndAnswer(EmptyReply reply);
    void Wipe() REQUIRES(mu_);

    const std::shared_ptr<ValueFile> file_;
    const bool appends_;
    const pid_t opener_;
    Mutex mu_{LockRank::kHandle};
    std::string text_ GUARDED_BY(mu_);
    bool shows_value_ GUARDED_BY(
        mu_);  // nothing was written or emptied: reading shows the value of the opening
    bool written_ GUARDED_BY(mu_) = false;  // bytes that are not kept yet
    bool emptied_ GUARDED_BY(mu_) = false;  // and only that, so far
    bool kept_ GUARDED_BY(mu_) = false;  // text_ was kept: with kWhole the next write begins anew
    std::optional<Error> poisoned_ GUARDED_BY(mu_);
};

}  // namespace sbxfs
