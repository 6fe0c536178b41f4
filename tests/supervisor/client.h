// The daemon's side of the conversation, for tests: starts the real `sbxfs-supervisor attach` on a
// socketpair and speaks protocol.h. Waits are for events with a deadline, never for time; what was
// seen is printed when one passes.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "sandbox/supervisor/protocol.h"

namespace sbxfs::supervisor {

// std::string as protocol.h's Writer wants a buffer.
std::string Frame(Type type, const std::function<void(Writer<std::string>&)>& payload);
Text AsText(std::string_view text);
std::string AsString(Text text);

struct StartOptions {
    Lane lane = Lane::kSerial;
    bool login = false;
    std::uint64_t timeout_ms = 0;
    std::uint64_t output_limit = 0;
    std::string shell;
    std::string cwd = "/";
    std::string user;
    std::map<std::string, std::string> env;
};

struct End {
    DoneFields fields;  // its texts are the two below
    std::string reason;
    std::string cwd;
};

// What the client has heard of one command.
struct Heard {
    int known = 0;
    State state = State::kRunning;
    std::array<std::uint64_t, 2> known_size{};
    int started = 0;
    std::uint32_t pid = 0;
    int done = 0;
    End end;
    std::array<std::string, 2> out;               // as pushed since the last Read, holes left out
    std::array<std::uint64_t, 2> next{};          // the offset expected next
    std::array<std::uint64_t, 2> size_at_done{};  // how much had arrived when Done came
    std::vector<std::array<std::uint64_t, 3>> holes;  // stream, offset, length
    std::string order;                                // o and e for Output, D for Done
};

struct Refusal {
    std::uint32_t request = 0;
    std::uint64_t n = 0;
    std::uint32_t error = 0;
    std::string text;
};

struct AttachOptions {
    std::string program;                   // empty: the amd64 (native) one
    std::vector<std::string> prefix;       // e.g. qemu-aarch64
    std::vector<std::string> extra;        // after --spool DIR
    std::vector<std::string> environment;  // added to a small one
};

std::string NativeProgram();

class Client {
 public:
    explicit Client(std::string spool, const AttachOptions& options = {});
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client();

    // Reads up to the magic; false when the channel ended first.
    bool AwaitMagic();
    // Hello and its answer, up to KnownEnd.
    bool Greet(std::uint64_t epoch);
    void Send(const std::string& frame);
    // As Send, for a peer that may have gone.
    bool TrySend(const std::string& bytes);

    void Start(std::uint64_t n, const std::string& script, const StartOptions& options = {});
    void Read(std::uint64_t n, std::uint64_t out, std::uint64_t err);
    void Credit(std::uint32_t bytes);
    void Signal(std::uint64_t n, int signal);
    void Forget(std::uint64_t n);
    void Number(Type type, std::uint32_t request);  // kPing, kProcesses, kEnviron

    // Handles what arrives until `true_now` or the deadline.
    bool Await(const std::function<bool()>& true_now, std::chrono::milliseconds limit);
    bool Await(const std::function<bool()>& true_now) {
        return Await(true_now, std::chrono::seconds(10));
    }
    bool AwaitDone(std::uint64_t n, std::chrono::milliseconds limit = std::chrono::seconds(10));
    bool AwaitStarted(std::uint64_t n);
    bool AwaitOutput(std::uint64_t n, int stream, std::string_view text);
    bool AwaitPong(std::uint32_t request);
    // Everything sent before has been handled, and what it led to at once has been heard.
    bool Sync();
    // True when the supervisor closes the connection.
    bool AwaitClosed();
    // Start, await Done with all its output; the command's number is the next one.
    Heard& Run(const std::string& script, const StartOptions& options = {});

    // Shut down, and remove the spool.
    bool Shutdown(bool remove_spool);
    int AwaitExit();  // of attach; -1 when it does not end
    void CloseChannel();

    std::map<std::uint64_t, Heard> heard;
    std::vector<Refusal> refusals;
    std::vector<std::string>
        answers;  // payloads of StatOk, ProcessesOk, TimerOk, EnvironOk, the type first
    std::vector<std::uint32_t> pongs;
    HelloOkFields hello;
    int known_ends = 0;
    bool closed = false;
    bool auto_credit = true;     // grants what was received
    bool keep_output = true;     // false: counts only
    std::uint64_t received = 0;  // bytes of Output
    std::uint64_t last_n = 0;
    std::string noise;

 private:
    bool ReadSome(int timeout_ms);
    void Handle(Type type, std::string_view payload);
    void HandleOutput(Type type, Reader& reader);
    std::string Describe() const;

    std::string spool_;
    UniqueFd fd_;
    pid_t attach_ = -1;
    std::string in_;
    std::string hello_bytes_;
    std::uint32_t next_sync_ = 1000;
};

// A directory of its own for each test, removed with what still runs from it.
class SpoolDir {
 public:
    SpoolDir();
    SpoolDir(const SpoolDir&) = delete;
    SpoolDir& operator=(const SpoolDir&) = delete;
    ~SpoolDir();
    std::string Path() const { return root_ + "/spool"; }
    std::string Root() const { return root_; }

 private:
    std::string root_;
};

// The processes that have `path` open; with Spool/lock: the supervisors.
std::vector<pid_t> HoldersOf(const std::string& path);
bool IsAlive(pid_t pid);  // and no zombie
bool AwaitTrue(const std::function<bool()>& true_now,
               std::chrono::milliseconds limit = std::chrono::seconds(10));
std::string ReadText(const std::string& path);

}  // namespace sbxfs::supervisor
