// The kernel's side of FUSE over a socketpair: sends requests and reads answers, in any order, of the real
// libfuse with our real callbacks. No mount, no /dev/fuse. One packet is one request.
//
// The test's thread only. While it waits for an answer it lets `idle` run: the loop under test.
#pragma once

#include <linux/fuse.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

struct fuse_session;

namespace sbxfs {
class FileSystem;
}

namespace sbxfs::testing {

// A plain struct of linux/fuse.h as the bytes of a request.
template <class T>
std::string Pack(const T& fields) {
    return {reinterpret_cast<const char*>(&fields), sizeof fields};
}
inline std::string Name(std::string_view name) {
    return std::string(name) + '\0';
}

class FakeKernel {
 public:
    struct Answer {
        std::uint64_t unique = 0;
        int error = 0;  // an errno, positive
        std::string body;
        // The body's beginning; zeroes where it is too short.
        template <class T>
        T As(std::size_t offset = 0) const {
            T fields{};
            if (body.size() >= offset + sizeof fields)
                body.copy(reinterpret_cast<char*>(&fields), sizeof fields, offset);
            return fields;
        }
    };

    FakeKernel(FileSystem& fs, std::function<void()> idle);
    // Goes away if it is still there.
    ~FakeKernel();
    FakeKernel(const FakeKernel&) = delete;
    FakeKernel& operator=(const FakeKernel&) = delete;

    // Says hello with these flags; what the file system wants.
    fuse_init_out Init(std::uint32_t flags = kEveryFlag, std::uint32_t minor = 38);
    static constexpr std::uint32_t kEveryFlag = 0x7fffffff & ~FUSE_INIT_EXT;

    // Sends a request; its number.
    std::uint64_t Send(std::uint32_t opcode, std::uint64_t node, std::string_view body = {});
    // Bytes that need not be a request.
    void SendRaw(std::string_view packet);
    // The answer to it; aborts when there is none in a generous while.
    Answer Await(std::uint64_t unique);
    // What has come by now, without waiting.
    std::optional<Answer> Look(std::uint64_t unique);
    Answer Ask(std::uint32_t opcode, std::uint64_t node, std::string_view body = {}) {
        return Await(Send(opcode, node, body));
    }
    // The next answer, whichever it is.
    Answer AwaitAny();

    // What the file system tells without being asked (fuse_notify_code), in its order.
    struct Notification {
        int code = 0;
        std::string body;
    };
    Notification AwaitNotification();
    std::size_t notifications() const { return notifications_.size(); }

    void Interrupt(std::uint64_t unique);
    void Forget(std::uint64_t node, std::uint64_t count);
    // The process that asks from now on.
    void SetCaller(std::uint32_t pid) { pid_ = pid; }

    // Answers that nobody has awaited yet, with what has arrived by now.
    std::size_t Unclaimed();
    // Answers to numbers that were never asked or that were answered before.
    std::size_t Surplus() const { return surplus_; }

    // Goes away, as an unmounted kernel does; what the session's loop returned.
    int Close();

 private:
    bool Receive(int wait_ms);

    UniqueFd end_;
    std::function<void()> idle_;
    fuse_session* session_ = nullptr;
    std::uint64_t next_ = 2;
    std::uint32_t pid_;
    std::map<std::uint64_t, bool> asked_;  // whether it was answered
    std::map<std::uint64_t, Answer> answers_;
    std::vector<Notification> notifications_;
    std::size_t surplus_ = 0;
    int result_ = 0;
    std::thread loop_;  // last
};

inline std::ostream& operator<<(std::ostream& out, const FakeKernel::Answer& answer) {
    return out << "answer to " << answer.unique << ": errno " << answer.error << ", "
               << answer.body.size() << " bytes";
}

}  // namespace sbxfs::testing
