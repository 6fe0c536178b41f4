// Unanswered requests. A reply is move-only; answering consumes it, dropping it answers EIO: so
// each request is answered exactly once, and answering twice needs a visible second std::move. They
// wrap a ReplySink: FuseSink (fuse_reply.cc) in production, RecordingSink in tests.
//
// Take no lock into an answer: the kernel may FORGET the node on another thread before the call
// returns.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fs/errno_table.h"
#include "fs/types.h"

namespace sbxfs {

// Whether the kernel took the answer. kUndelivered: the caller was interrupted and the kernel never
// saw it; what the answer handed out (a lookup, a handle) must be taken back, because FORGET or
// RELEASE will not come.
enum class Delivery { kDelivered, kUndelivered };

// What a request is about, for those who hear of its failure, or of how long it has waited.
struct RequestFacts {
    FileOp op{};
    Ino ino{};
    std::string name{};
    Caller who{};
    bool only_reads = false;  // an opening that cannot write
    SteadyTime since{};       // when it came
};

class ReplySink {
 public:
    ReplySink() = default;
    ReplySink(const ReplySink&) = delete;
    ReplySink& operator=(const ReplySink&) = delete;
    virtual ~ReplySink() = default;

    virtual Delivery SendEntry(const Entry& entry) = 0;
    virtual Delivery SendCreated(const Entry& entry, const Opened& opened) = 0;
    virtual Delivery SendOpened(const Opened& opened) = 0;
    virtual void SendAttr(const Entry& entry) = 0;
    virtual void SendBytes(std::span<const char> bytes) = 0;
    virtual void SendWritten(std::size_t count) = 0;
    virtual void SendText(const std::string& text) = 0;  // of readlink
    virtual void SendStatfs(const StatfsAnswer& answer) = 0;
    virtual void SendPoll(std::uint32_t events) = 0;
    virtual void SendOk() = 0;
    virtual void SendError(const Error& error) = 0;

    // The thread that asks, as fuse_ctx has it: 0 from a foreign pid namespace; negative: not known.
    virtual pid_t caller() const { return -1; }
    // They stay as they are. Nothing: not known.
    virtual const RequestFacts* facts() const { return nullptr; }
    // Asks for ParkingLot::PostInterrupt(id) when the caller gets a signal: from any thread, possibly from
    // within. A number and not a pointer: the interrupt may come while somebody answers.
    virtual void OnInterrupt(std::uint64_t id) = 0;
};
using SinkPtr = std::unique_ptr<ReplySink>;

class [[nodiscard]] Reply {
 public:
    explicit Reply(SinkPtr sink) : sink_(std::move(sink)) {}
    Reply(Reply&&) noexcept = default;
    Reply& operator=(Reply&&) = delete;
    Reply(const Reply&) = delete;
    Reply& operator=(const Reply&) = delete;
    ~Reply() {
        if (sink_ == nullptr) return;
        Take()->SendError(
            Error(Errno{EIO}, "the request was dropped without an answer", Blame::kBug));
    }
    void Fail(const Error& error) && { Take()->SendError(error); }
    pid_t caller() const { return sink_->caller(); }

 protected:
    friend class ParkingLot;
    SinkPtr Take() { return std::exchange(sink_, nullptr); }

 private:
    SinkPtr sink_;
};

class [[nodiscard]] EmptyReply : public Reply {
 public:
    using Reply::Reply;
    void Ok() && { Take()->SendOk(); }
    void Done(const Status& status) && {
        if (status) return std::move(*this).Ok();
        std::move(*this).Fail(status.error());
    }
};

class [[nodiscard]] EntryReply : public Reply {
 public:
    using Reply::Reply;
    Delivery Found(const Entry& entry) && { return Take()->SendEntry(entry); }
};

class [[nodiscard]] CreateReply : public Reply {
 public:
    using Reply::Reply;
    Delivery Created(const Entry& entry, const Opened& opened) && {
        return Take()->SendCreated(entry, opened);
    }
};

class [[nodiscard]] OpenReply : public Reply {
 public:
    using Reply::Reply;
    Delivery Open(const Opened& opened) && { return Take()->SendOpened(opened); }
};

class [[nodiscard]] AttrReply : public Reply {
 public:
    using Reply::Reply;
    void Is(const Entry& entry) && { Take()->SendAttr(entry); }
};

class [[nodiscard]] DataReply : public Reply {
 public:
    using Reply::Reply;
    void Bytes(std::span<const char> bytes) && { Take()->SendBytes(bytes); }
    void End() && { Take()->SendBytes({}); }
};

class [[nodiscard]] WrittenReply : public Reply {
 public:
    using Reply::Reply;
    void Wrote(std::size_t count) && { Take()->SendWritten(count); }
};

class [[nodiscard]] TextReply : public Reply {
 public:
    using Reply::Reply;
    void Text(const std::string& text) && { Take()->SendText(text); }
};

class [[nodiscard]] StatfsReply : public Reply {
 public:
    using Reply::Reply;
    void Is(const StatfsAnswer& answer) && { Take()->SendStatfs(answer); }
};

class [[nodiscard]] PollReply : public Reply {
 public:
    using Reply::Reply;
    void Ready(std::uint32_t events) && { Take()->SendPoll(events); }
};

// A page of a directory listing being filled for the kernel; see Node::ReadDir.
class DirectoryPage {
 public:
    DirectoryPage() = default;
    DirectoryPage(const DirectoryPage&) = delete;
    DirectoryPage& operator=(const DirectoryPage&) = delete;
    virtual ~DirectoryPage() = default;
    // False when it does not fit: then it was not told. `next` is the offset that continues behind
    // it.
    virtual bool Add(const Listed& listed, std::uint64_t next) = 0;
    virtual bool AddPlus(const Listed& listed, const Entry& entry, std::uint64_t next) = 0;
    virtual std::span<const char> bytes() const = 0;
};
using PagePtr = std::unique_ptr<DirectoryPage>;

}  // namespace sbxfs
