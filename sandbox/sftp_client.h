// The SFTP engine: a state machine that turns typed requests into bytes and bytes into answers,
// matched by id, any number in flight. It does no I/O: whoever owns it passes on what Unsent() says
// and gives what arrives to Feed().
//
// Owned (as a shared_ptr) by the link whose bytes it speaks; everyone else holds a weak_ptr. One
// thread, the link's loop. Each request's callback runs exactly once: with the answer from within
// Feed(), or with kConnectionLost from within FailAll(), the destructor, or the request itself when
// the session had already ended. Callbacks may send new requests, may end the session with
// FailAll() and may drop the client; they must not call Feed().
//
// Bytes from the server are hostile: whatever breaks the protocol (an absurd length, an answer to
// nobody, of the wrong type or longer than asked) ends the session with EIO. Guarded by
// tests/unit/sftp_client_test.cc and sftp_hostile_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/sandbox_metrics.h"
#include "sandbox/sftp_stream.h"
#include "sandbox/sftp_wire.h"

namespace sbxfs {

// Why a request came to nothing: what the server said, or how the session ended (status
// kConnectionLost).
struct SftpRefusal {
    SftpStatus status = SftpStatus::kFailure;
    std::string text;           // the server's words, foreign
    std::optional<Error> lost;  // set exactly for kConnectionLost

    static SftpRefusal Lost(const Error& why) {
        return {SftpStatus::kConnectionLost, why.what(), why};
    }
};

// A value, or why there is none. Named as Result.
template <class T>
class [[nodiscard]] SftpAnswer {
 public:
    // NOLINTNEXTLINE(google-explicit-constructor): as Result.
    SftpAnswer(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    // NOLINTNEXTLINE(google-explicit-constructor): as Result.
    SftpAnswer(SftpRefusal refusal) : state_(std::in_place_index<1>, std::move(refusal)) {}

    bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }
    T& operator*() & { return *std::get_if<0>(&state_); }
    const T& operator*() const& { return *std::get_if<0>(&state_); }
    T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
    T* operator->() { return std::get_if<0>(&state_); }
    const T* operator->() const { return std::get_if<0>(&state_); }
    const SftpRefusal& refusal() const& { return *std::get_if<1>(&state_); }
    SftpRefusal&& refusal() && { return std::move(*std::get_if<1>(&state_)); }

 private:
    std::variant<T, SftpRefusal> state_;
};

// What the server offers beyond the draft, in the versions we know.
struct SftpExtensions {
    bool posix_rename = false;
    bool hardlink = false;
    bool fsync = false;
    bool statvfs = false;
    bool fstatvfs = false;
    bool lsetstat = false;
    bool limits = false;
    bool copy_data = false;
    bool expand_path = false;
};

// What the server takes at most; the draft's guarantees until it says more.
struct SftpLimits {
    std::size_t packet = 34000;
    std::size_t read = 32768;
    std::size_t write = 32768;
    std::uint64_t handles = 0;  // 0: unknown
};

struct SftpCounters {
    std::uint64_t requests = 0;
    std::uint64_t bytes_in = 0;
    std::uint64_t packets_in = 0;
    std::uint64_t bytes_out = 0;    // handed to the transport
    std::uint64_t round_trips = 0;  // see SftpClient::RoundTrips
};

class SftpClient : public std::enable_shared_from_this<SftpClient> {
 public:
    template <class T>
    using Callback = UniqueFunction<void(SftpAnswer<T>)>;
    using DoneBack = Callback<Unit>;
    using AttrsBack = Callback<SftpAttrs>;
    using TextBack = Callback<std::string>;  // a handle, a path, file data
    using NamesBack = Callback<std::vector<SftpName>>;
    using StatvfsBack = Callback<SftpStatvfs>;
    // Whether somebody waits for the answer, and it therefore counts as a round trip.
    enum class Awaited { kYes, kNo };

    // `link` numbers the connection: handles of an earlier one are recognised by it. `first_id` is
    // for tests.
    static std::shared_ptr<SftpClient> Make(std::uint64_t link, std::uint32_t first_id = 1);
    // NOLINTNEXTLINE(bugprone-exception-escape): callbacks do not throw, here as elsewhere.
    ~SftpClient();
    SftpClient(const SftpClient&) = delete;
    SftpClient& operator=(const SftpClient&) = delete;

    // --- The owner's side: the bytes.

    // Called when Unsent() stops being empty; it may only take a note (post, kick). Set before
    // Start().
    void SetWake(UniqueFunction<void()> wake) { wake_ = std::move(wake); }
    // Agrees on the version: one round trip. Requests are allowed once `ready` has said OK; when it
    // says anything else the session has ended. limits@openssh.com is asked for along with the
    // first of them.
    void Start(UniqueFunction<void(Status)> ready);
    // Bytes from the server. An error: the session has ended and everyone waiting has been told.
    Status Feed(std::string_view bytes);
    std::string_view Unsent() const { return output_.Unsent(); }
    void Sent(std::size_t count);
    // The link is lost, or shall be: every waiting request fails with `why`, once, and so does
    // every later one.
    void FailAll(const Error& why);

    // --- Facts.

    bool Usable() const { return state_ == State::kReady; }
    const std::optional<Error>& failure() const { return failure_; }
    std::uint64_t link() const { return link_; }
    const SftpExtensions& extensions() const { return extensions_; }
    const SftpLimits& limits() const { return limits_; }
    std::size_t InFlight() const { return waiting_.size(); }
    std::size_t UnsentBytes() const { return output_.size(); }
    std::size_t HeldBytes() const { return input_.held(); }
    // Between two Feeds: whether the rest of a packet is still to come.
    bool InPacket() const { return input_.InPacket(); }
    const SftpCounters& counters() const { return counters_; }
    // The longest chain of "an answer came, then a request was sent" so far: over a link with a
    // round-trip time of T the requests took at least RoundTrips() * T, however many of them
    // overlapped. A request sent while answers are outstanding extends the chain only if it follows
    // a later answer than they did.
    std::uint64_t RoundTrips() const { return counters_.round_trips; }

    // --- Requests. Paths hold no NUL; handles come from Open and Opendir. Data and paths must fit
    // the limits.

    void Open(std::string_view path, std::uint32_t flags, const SftpAttrs& attrs, TextBack done);
    void Close(std::string_view handle, Awaited awaited, DoneBack done);
    void Read(std::string_view handle, std::uint64_t offset, std::uint32_t size, TextBack done);
    // `part` of `whole`.
    void Write(std::string_view handle, std::uint64_t offset, FileBytes whole,
               std::string_view part, DoneBack done);
    void Lstat(std::string_view path, AttrsBack done);
    void Stat(std::string_view path, AttrsBack done);
    void Fstat(std::string_view handle, AttrsBack done);
    void Setstat(std::string_view path, const SftpAttrs& attrs, DoneBack done);  // follows links
    void Fsetstat(std::string_view handle, const SftpAttrs& attrs, DoneBack done);
    void Opendir(std::string_view path, TextBack done);
    void Readdir(std::string_view handle, NamesBack done);  // refused with kEof at the end
    void Remove(std::string_view path, DoneBack done);
    void Mkdir(std::string_view path, const SftpAttrs& attrs, DoneBack done);
    void Rmdir(std::string_view path, DoneBack done);
    void Realpath(std::string_view path, TextBack done);
    void Readlink(std::string_view path, TextBack done);
    void Symlink(std::string_view target, std::string_view path, DoneBack done);
    void Rename(std::string_view from, std::string_view to, DoneBack done);  // never replaces

    // Only when extensions() has them.
    void PosixRename(std::string_view from, std::string_view to, DoneBack done);
    void Hardlink(std::string_view from, std::string_view to, DoneBack done);
    void Fsync(std::string_view handle, DoneBack done);
    void Statvfs(std::string_view path, StatvfsBack done);
    void Fstatvfs(std::string_view handle, StatvfsBack done);
    void Lsetstat(std::string_view path, const SftpAttrs& attrs, DoneBack done);  // not size
    void ExpandPath(std::string_view path, TextBack done);
    // `size` 0: to the end. The server answers nothing else on this channel meanwhile.
    void CopyData(std::string_view from, std::uint64_t from_offset, std::uint64_t size,
                  std::string_view to, std::uint64_t to_offset, DoneBack done);

 private:
    enum class State { kNew, kGreeting, kReady, kEnded };
    // A TextBack waits for one of three kinds of answer.
    enum class Want : std::uint8_t {
        kStatus,
        kAttrs,
        kHandle,
        kData,
        kOneName,
        kNames,
        kStatvfs,
        kLimits
    };
    using Back =
        std::variant<DoneBack, AttrsBack, TextBack, NamesBack, StatvfsBack, Callback<SftpLimits>>;
    struct Waiting {
        Want want;
        std::uint32_t asked;  // bytes, of READ
        std::uint64_t trip;
        std::uint64_t order;
        Back back;
    };
    using WaitingMap = std::unordered_map<std::uint32_t, Waiting>;
    // What some requests have and most have not.
    struct Extra {
        FileBytes whole;
        std::string_view data;    // of it: follows the head that was begun
        std::uint32_t asked = 0;  // bytes, of READ
        Awaited awaited = Awaited::kYes;
    };

    SftpClient(std::uint64_t link, std::uint32_t first_id) : link_(link), next_id_(first_id) {}

    std::string& Begin(SftpType type);
    std::string& BeginExtended(std::string_view name);
    void Finish(Want want, Back back, Extra extra);
    void Finish(Want want, Back back) { Finish(want, std::move(back), Extra{}); }
    std::uint32_t NewId();
    Status TakeVersion(const SftpPacket& packet);
    Status TakeAnswer(SftpPacket packet);
    Status TakeValue(WaitingMap::iterator at, SftpPacket packet);
    template <class T>
    Status Deliver(WaitingMap::iterator at, Result<T> value);
    Waiting Claim(WaitingMap::iterator at);
    void AskLimits();
    void Wake();
    static SftpType AnswerTo(Want want);
    static void Refuse(const Back& back, SftpRefusal refusal);

    const std::uint64_t link_;
    State state_ = State::kNew;
    bool feeding_ = false;
    std::optional<Error> failure_;
    UniqueFunction<void()> wake_;
    UniqueFunction<void(Status)> ready_;
    SftpInput input_;
    SftpOutput output_;
    std::string scratch_;   // the head of the packet being written
    std::size_t kind_ = 0;  // of that packet, for metrics
    WaitingMap waiting_;
    std::uint32_t next_id_;
    std::uint64_t order_ = 0;
    std::uint64_t answered_trip_ = 0;
    SftpExtensions extensions_;
    SftpLimits limits_;
    SftpCounters counters_;
    GaugeShare in_flight_{sandbox_metrics.sftp_in_flight};
};

}  // namespace sbxfs
