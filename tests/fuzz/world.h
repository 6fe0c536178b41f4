// A supervisor's life on a made-up machine (machine.h), as its daemon and its sandbox see it: connections that speak
// protocol.h and hold it to its word, shells that report, commands that write and end, supervisors that are killed and
// come back. What is promised is CHECKed here, whatever fails. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "sandbox/supervisor/protocol.h"
#include "tests/fuzz/machine.h"

namespace sbxfs::fuzz {

namespace sup = supervisor;

sup::Text AsText(std::string_view text);
std::string Frame(sup::Type type, const std::function<void(sup::Writer<std::string>&)>& payload);

// One attach: what the daemon has of it, and what it has heard. Frames are whole and of the right shape, or that is a
// broken promise.
class Peer {
 public:
    using OnFrame = std::function<void(Peer&, sup::Type, sup::Reader&)>;
    // Attaches; `on_frame` may be empty.
    explicit Peer(OnFrame on_frame);
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;
    ~Peer() { Close(); }

    bool IsOpen() const { return end_ >= 0; }
    bool IsEnded() const;  // by the other side
    void CloseRelay();
    void Close();
    void Say(std::string_view bytes);
    // What the socket did not take goes when it does; whether anything did now.
    bool Flush();
    void Listen();
    void ListenNoMore() { deaf_ = true; }

    std::uint64_t epoch = 0;
    bool greeted = false;  // HelloOk came

 private:
    OnFrame on_frame_;
    int end_ = -1;
    int relay_ = -1;
    bool deaf_ = false;
    std::string unsaid_;
    std::string heard_;
    bool past_magic_ = false;
};

// What a command does once it runs.
struct Conduct {
    std::string out;
    std::string err;
    int status = 0;
    bool hangs = false;
    bool shell_dies = false;    // with `status` as its wait status
    bool says_nothing = false;  // ends, but its shell does not report
    bool any_output = false;    // others write to its files
};

// A file that the daemon has asked for, and what it has heard of it.
struct Wanted {
    std::string path;
    std::string bytes;
    std::uint32_t mode = 0;
    unsigned long long there = 0;  // the inode of what was there before
    std::uint64_t said_in = 0;     // the epoch of the connection
    bool answered = false;
    sup::StoreOkFields answer;
};

// A file that the daemon wants at another path, likewise.
struct Moved {
    std::string from;
    std::string to;
    bool replace = false;
    unsigned long long from_there = 0;
    unsigned long long to_there = 0;
    std::uint64_t said_in = 0;
    bool answered = false;
    std::uint32_t error = 0;
};

// What the daemon knows of a command.
struct Told {
    std::string start;  // the frame
    bool serial = true;
    std::uint64_t known_in = 0;  // the epoch of the connection that told of it last
    std::uint64_t said_in = 0;   // and of the one over which it was asked for last
    bool done = false;
    sup::DoneFields fields;
    std::string reason;
    std::array<std::uint64_t, 2> first_sizes{};  // of its output, by the first word of its end
    int done_in_life = 0;
    bool forgotten = false;
    bool forgotten_early = false;  // perhaps before all of its output came
    std::set<std::uint32_t> refused;
    std::array<std::string, 2> out;
    std::array<std::uint64_t, 2> next{};
    std::array<bool, 2> has_hole{};
    int started = 0;
};

class World {
 public:
    World();
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    // What happens each time the supervisor has come to rest; false: enough.
    std::function<bool()> next;
    // Runs one supervisor on the spool until it ends or there is nothing more to do; its exit code, -1: it was killed.
    int Live();

    // For `next`. These need no connection: what is not said now is said by the next one.
    Peer& Attach();
    Peer* Daemon();
    void Say(std::string_view bytes);
    void Start(std::uint64_t n, bool serial, std::string_view script,
               const std::function<void(sup::StartFields&)>& change = {},
               const std::map<std::string, std::string>& env = {});
    void Forget(std::uint64_t n);
    // Files of the test's directory, by their names there. Nobody else changes them before it is answered.
    void Store(std::uint32_t request, const std::string& name, const std::string& bytes,
               std::uint32_t mode = 0644, std::uint8_t flags = 0);
    void Rename(std::uint32_t request, const std::string& from, const std::string& to,
                bool replace);
    void Signal(std::uint64_t n, int signal);
    void Advance(int ms) { wait_ms_ += ms; }
    void AdvanceAtOnce(long long ms) { made_up.now_ns += ms * 1'000'000; }

    // Nothing fails any more; what is asked for is answered, nothing ran twice, nothing was lost without a word, and
    // after a shutdown nothing is left.
    void Settle();

    std::string Place(std::uint64_t n, const char* name) const {
        return SpoolPath() + "/commands/" + std::to_string(n) + "/" + name;
    }
    int ShellPid() const;  // of the persistent one; 0: none

    std::map<std::uint64_t, Conduct> conduct;  // of commands that just succeed: none
    std::map<std::uint64_t, Told> told;
    std::map<std::uint32_t, Wanted> stores;  // by request
    std::map<std::uint32_t, Moved> renames;  // likewise
    std::map<std::uint64_t, int> runs;       // how often each script was run
    std::list<std::unique_ptr<Peer>> peers;
    std::map<sup::Type, int> heard;
    std::uint64_t epoch = 0;
    bool damaged = false;  // what the spool says of commands may be wrong
    bool silent = false;   // no daemon: nothing is said or checked but frames
    int lives = 0;

 private:
    bool Idle(int timeout_ms);
    bool PeopleAct();
    void RunScript(std::uint64_t n, int pid, MadeUpProcess* shell);
    void Hear(Peer& peer, sup::Type type, sup::Reader& reader);
    void HearDone(sup::Reader& reader);
    void HearStored(const Peer& peer, sup::Reader& reader);
    void HearRenamed(const Peer& peer, sup::Reader& reader);
    void HearOutput(sup::Type type, sup::Reader& reader);
    bool AllIsTold() const;
    void CheckTold() const;

    long long wait_ms_ = 0;
    std::map<int, std::string> inputs_;  // by shell: what it has not understood yet
    std::set<int> acted_;                // processes of parallel commands that did what they do
    int rounds_ = 0;
    bool settles_ = false;
};

}  // namespace sbxfs::fuzz
