// The machine of a supervisor under test. Files, pipes, sockets and epoll are the real ones, in a directory of the
// test; time, processes, /proc, accounts, signals and inotify are made up, because what is asked for here kills and
// powers off. And all of it can fail: any system call, at its k-th use. One thread.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sbxfs::fuzz {

inline constexpr int kFirstPid = 1000000;  // of the first process that is made
inline constexpr int kSelf = kFirstPid - 1;

// What ends a supervisor's run, thrown through it; its descriptors and memory go as the kernel takes them.
struct Exited {
    int code = 0;
};
struct Stopped {};  // SIGKILL, or the story was over

struct MadeUpProcess {
    int parent = kSelf;
    int session = 0;
    char state = 'S';
    unsigned flags = 0;
    unsigned threads = 1;
    unsigned long long cpu = 0;
    unsigned long long start = 1;
    std::string name = "sh";
    std::string environ;  // NULs between
    std::string cmdline;
    std::string cwd = "/";
    std::string holds;          // the path behind its descriptor 5
    std::string stdin_link;     // of its descriptor 0; empty: its pipe
    bool stubborn = false;      // nothing but SIGKILL ends it
    bool becomes_copy = false;  // the next time its stat is read it has not called exec
    int input = -1;             // a shell's standard input, as ours
    int exec = -1;              // its side of the pipe that tells of exec(2), while that is held
    unsigned long long n = 0;   // the parallel command that it is
};

enum class FaultKind {
    kNone,
    kDiskFull,     // ENOSPC, of what writes to files
    kNoFiles,      // EMFILE
    kNoMemory,     // ENOMEM, ENOSPC of watches, EAGAIN of fork(2)
    kBroken,       // EIO, of files and directories
    kInterrupted,  // EINTR
    kShort,        // one byte read or written
    kKill,         // SIGKILL before the call
};
inline constexpr FaultKind kFaultKinds[] = {
    FaultKind::kDiskFull,    FaultKind::kNoFiles, FaultKind::kNoMemory, FaultKind::kBroken,
    FaultKind::kInterrupted, FaultKind::kShort,   FaultKind::kKill};
const char* NameOf(FaultKind kind);

// What a test arranges, and what became of it.
struct MadeUp {
    // Happens at the `fault_at`-th call that can fail so (0: the first), and ever after when it lasts.
    FaultKind fault = FaultKind::kNone;
    long fault_at = 0;
    bool fault_lasts = false;
    long could_fail = 0;  // calls so far that could have failed so
    long failed = 0;

    // epoll_wait(2) has nothing to tell: something may happen now. False: the run is over. With the timeout.
    std::function<bool(int timeout_ms)> idle;
    // The answer of fork(2) in place of a made-up pid, such as 0.
    std::function<long()> fork;
    // exit(2), while what the process has is still there.
    std::function<void(int)> on_exit;
    // An attach has handed over its channel and waits: what the other end of its socket does before it is closed.
    std::function<void(int)> on_relay;
    int last_pipe = -1;  // where the pipe is read that was made last

    long long now_ns = 1'000'000'000'000;  // all clocks
    std::map<int, MadeUpProcess> processes;
    std::deque<std::pair<int, int>> ended;  // pid, wait status; not waited for yet
    int next_pid = kFirstPid;
    bool fork_fails = false;
    bool saves_held = false;  // fsync(2) in a copy of the supervisor takes until EndProcess
    int save_status = 0;      // what such a copy ends with
    bool exec_held = false;   // exec(2) takes until LetExec
    int exec_step = -1;       // it fails there, with that errno
    int exec_error = 0;
    std::string child_says;  // written to the pipe that was made last, when somebody forks

    std::string boot_id = "0c3e3a4e-7f5e-4b5c-9d5e-1d1f0a0b0c0d\n";
    std::string passwd;  // empty: there is no such file
    std::string group;
    std::string init_name = "sbxfs-superviso";
    std::string init_environ;
    std::set<std::string> programs{"/bin/sh"};
    std::map<std::string, std::string> links;
    unsigned long long soft_files = 1024;
    int uid = -1;       // -1: ours
    int peer_uid = -1;  // of who attaches
    int file_uid = -1;  // of what fstat(2) says
    bool has_children_files = true;
    bool has_leases = true;
    bool has_statx = true;
    bool has_random = true;
    bool has_inotify = true;
    std::string
        unopenable;  // what files end with that cannot be opened for reading, for want of descriptors
    bool has_channel = true;  // standard input and output can be waited for
    long exec_result = -2;    // of execve(2) in a child
    std::string refuses;      // the call that nobody may make, by name

    std::map<unsigned long long, int>
        runs;               // of parallel commands, how often a process was made for them
    int kills = 0;          // kill(2) of processes that were made up
    int kills_of_all = 0;   // of -1
    int kills_of_init = 0;  // of 1
    int power_offs = 0;     // reboot(2)
    std::string said;       // to standard error and output
};
extern MadeUp made_up;

// Forgets everything and empties the test's directory, which is in memory where there is such a place.
void NewMachine();
const std::string& Directory();
inline std::string SpoolPath() {
    return Directory() + "/spool";
}

// Runs a part of the supervisor's program as a process of its own; the exit code, or -1 when it was stopped. A spool
// that it serves is handed over by OpenForIt.
int RunProcess(const std::function<void()>& program);
int OpenForIt(const char* path, int flags);
int GiveToIt(int fd);
// How many descriptors the process has; after RunProcess: those that it left open, which are closed.
std::size_t OpenOfIt();
std::size_t LeftOpen();

void EndProcess(int pid, int wait_status);
// False when there is none that could.
bool EndOldest(int wait_status);
void LetExec(int pid);
void Terminate();  // SIGTERM to the supervisor
// What a shell has been told since; it is taken.
std::string TakeInput(MadeUpProcess& process);
unsigned long long InodeOf(int fd);

// For drivers, which know nothing of libc's headers where those of the supervisor are.
void SocketPair(int ends[2]);  // neither end blocks
// An attach: hands `in` and `out` over as attach.cc does. The socket that it waits on, or -1.
int HandOver(const std::string& socket_path, const std::vector<int>& fds, char byte = 'A');
int Listen(const std::string& socket_path);  // `on_relay` is there in place of a supervisor
bool HasEnded(int fd);                       // its other end was closed
long Put(int fd, std::string_view bytes);    // bytes taken; -1 when it is full or closed
long Get(int fd, char* to,
         unsigned long size);  // bytes read; 0 when there are none, or never will be
void CloseFd(int fd);

// Makes, replaces, appends to or removes what is at a path; whatever goes wrong, goes wrong.
enum class Plant { kFile, kAppend, kTruncate, kDirectory, kLink, kRemove };
void PlantAt(Plant how, const std::string& path, std::string_view bytes, unsigned long size);
inline void PlantAt(Plant how, const std::string& path, std::string_view bytes = {}) {
    PlantAt(how, path, bytes, bytes.size());
}
std::string ReadPlace(const std::string& path);
unsigned long long InodeAt(const std::string& path);  // 0: nothing is there; links are not followed
inline bool IsThere(const std::string& path) {
    return InodeAt(path) != 0;
}

}  // namespace sbxfs::fuzz
