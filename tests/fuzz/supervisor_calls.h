// The kernel of a supervisor under test, in place of raw system calls: sys.h includes this where
// SBXFS_SUPERVISOR_CALLS names it. Files, pipes, sockets and epoll are the real ones, in a directory of the test;
// time, processes and signals are made up (supervisor_calls.cc), because what is asked for here kills and powers off.
#pragma once

#include <asm/unistd.h>

namespace sbxfs::supervisor::sys {

long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0);

inline long CloneCall(long flags) {
    return Call(__NR_clone, flags);
}

inline constexpr char kMachine[] = "x86_64";

}  // namespace sbxfs::supervisor::sys

namespace sbxfs::fuzz {

// What became of a run. One thread.
struct MadeUp {
    long long now_ns = 0;  // both clocks
    int next_pid = 0;      // of the next fork(2)
    int kills = 0;         // kill(2) of processes that it made
    int kills_of_all = 0;  // kill(2) of 1 or -1
    int power_offs = 0;    // reboot(2)
    bool fork_fails = false;
};
extern MadeUp made_up;
inline constexpr int kFirstPid = 1000000;

// Forgets every process, sets the clock, and keeps all changes of files below `directory`.
void ResetCalls(const char* directory);
// How the oldest process that was made and still lives ends; false when there is none.
bool EndOneProcess(int wait_status);

// What a driver needs of the real kernel; the headers of libc do not go with those of the supervisor.
// A directory of this process in memory where there is one; empty after each call.
const char* EmptyDirectory();
int OpenDirectory(const char* path);
int NewEpoll();
struct EpollNews {
    unsigned events;
    unsigned long long tag;
};
int LookAtEpoll(int epoll, EpollNews* to, int most);  // does not wait
void SocketPair(int ends[2]);                         // neither end blocks
// Bytes taken; -1 when it is full or closed.
long Put(int fd, const char* bytes, unsigned long size);
// Bytes read; 0 when there are none, or never will be.
long Get(int fd, char* to, unsigned long size);
void CloseFd(int fd);
int DuplicateFd(int fd);
// wait4(2) of what was made up: a pid, 0, or a negative errno.
long WaitForOne(int* status);
// Makes, replaces, appends to or removes what is at a path; whatever goes wrong, goes wrong.
enum class Plant { kFile, kAppend, kTruncate, kDirectory, kLink, kRemove };
void PlantAt(Plant how, const char* path, const char* bytes, unsigned long size);
int OpenDescriptors();  // of this process

}  // namespace sbxfs::fuzz
