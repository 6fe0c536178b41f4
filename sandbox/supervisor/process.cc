#include "sandbox/supervisor/process.h"

#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

// The next blank-separated number of a stat line; negative ones read as 0.
uint64_t NextNumber(View text, size_t* at) {
    while (*at < text.size && text[*at] == ' ')
        ++*at;
    uint64_t value = 0;
    for (; *at < text.size && text[*at] != ' '; ++*at) {
        if (text[*at] >= '0' && text[*at] <= '9') {
            value = value * 10 + static_cast<uint64_t>(text[*at] - '0');
        }
    }
    return value;
}

// "/proc/PID" + `rest`.
const char* ProcPath(Str* path, int pid, View rest) {
    path->Assign("/proc/");
    path->Number(static_cast<uint64_t>(pid)).append(rest);
    return path->c_str();
}

bool IsServer(View name) {
    return name == "sshd" || name == "sshd-session" || name == "sshd-auth" || name == "dropbear";
}

// attach: main.cc gives it this name whatever its file is called.
bool IsAttach(View name) {
    return name == "sbxfs-superviso";
}

// sshd serves files itself, as a child that still bears its name but says what it does.
bool IsFileServer(const Process& process) {
    if (process.Name() == "sftp-server" || process.Name() == "internal-sftp") return true;
    if (!IsServer(process.Name())) return false;
    Str path;
    Str words;
    (void)ReadFile(AT_FDCWD, ProcPath(&path, process.pid, "/cmdline"), &words, 4096);
    for (size_t at = words.view().Find('@'); at < words.size();
         at = words.view().Find('@', at + 1)) {
        if (words.view().From(at).StartsWith("@internal-sftp")) return true;
    }
    return false;
}

void AddChild(int pid, const Vec<ProcessId>& known, Vec<ProcessId>* to) {
    for (const ProcessId& one : known) {
        if (one.pid == pid) {
            to->Add(one);
            return;
        }
    }
    Process process;
    if (ReadProcess(pid, &process)) to->Add({process.pid, process.start});
}

bool IsAmong(const Vec<int>& pids, int pid) {
    for (const int one : pids) {
        if (one == pid) return true;
    }
    return false;
}

}  // namespace

bool Contains(const Vec<ProcessId>& list, const ProcessId& id) {
    for (const ProcessId& one : list) {
        if (one.pid == id.pid && one.start == id.start) return true;
    }
    return false;
}

bool ParseStat(View text, Process* to) {
    const size_t open = text.Find('(');
    size_t close = text.size;
    while (close > open && text[close - 1] != ')')
        --close;
    if (open >= text.size || close <= open + 1 || close + 2 >= text.size) return false;
    uint64_t pid = 0;
    if (open < 2 || !ParseNumber(text.First(open - 1), &pid) || pid > INT32_MAX) return false;
    to->pid = static_cast<int>(pid);
    const View name(text.data + open + 1, close - open - 2);
    for (size_t i = 0; i < sizeof to->name; ++i) {
        to->name[i] = i < name.size && i + 1 < sizeof to->name ? name[i] : '\0';
    }
    to->state = text[close + 1];
    size_t at = close + 2;
    // proc(5): 4 ppid, 5 pgrp, 6 session, 7 tty, 8 tpgid, 9 flags, 14 utime, 15 stime, 20 threads,
    // 22 starttime.
    uint64_t field[23] = {};
    for (int i = 4; i <= 22; ++i)
        field[i] = NextNumber(text, &at);
    to->parent = static_cast<int>(field[4]);
    to->session = static_cast<int>(field[6]);
    to->flags = static_cast<uint32_t>(field[9]);
    to->cpu = field[14] + field[15];
    to->threads = static_cast<uint32_t>(field[20]);
    to->start = field[22];
    return to->start != 0;
}

bool ReadProcess(int pid, Process* to) {
    Str path;
    const Fd file(sys::OpenAt(AT_FDCWD, ProcPath(&path, pid, "/stat"), O_RDONLY));
    if (!file) return false;
    char text[512];
    const long got = sys::Read(file.get(), text, sizeof text);
    return got > 0 && ParseStat(View(text, static_cast<size_t>(got)), to);
}

// Kernel threads, by pid and the inode of /proc/PID, which changes when the pid is used again: on a
// whole machine they are the larger part of the table, and reading a stat costs ten microseconds.
// On the heap for good, since nothing here has destructors that run at exit.
struct KernelThread {
    int pid;
    uint64_t inode;
};

void ListProcesses(Vec<Process>* to) {
    static Vec<KernelThread>* known = nullptr;
    if (known == nullptr) known = MakeBox<Vec<KernelThread>>().release();
    to->clear();
    const Fd proc(sys::OpenAt(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY));
    if (!proc) return;
    Vec<KernelThread> seen;
    size_t at = 0;
    ListEntries(proc.get(), [&](View name, uint64_t inode) {
        uint64_t number = 0;
        if (!ParseNumber(name, &number) || number > INT32_MAX) return;
        const int pid = static_cast<int>(number);
        // Both lists ascend: the kernel lists pids in that order.
        while (at < known->size() && (*known)[at].pid < pid)
            ++at;
        if (at < known->size() && (*known)[at].pid == pid && (*known)[at].inode == inode) {
            seen.Add({pid, inode});
            return;
        }
        Process found;
        if (!ReadProcess(pid, &found)) return;
        if (found.IsKernel()) {
            seen.Add({pid, inode});
        } else {
            to->Add(found);
        }
    });
    *known = std::move(seen);
}

const Process* FindProcess(const Vec<Process>& all, int pid) {
    size_t low = 0;
    size_t high = all.size();
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (all[middle].pid < pid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < all.size() && all[low].pid == pid ? &all[low] : nullptr;
}

void ListChildren(int pid, const Vec<ProcessId>& known, Vec<ProcessId>* to) {
    to->clear();
    Str path;
    path.append("/proc/").Number(static_cast<uint64_t>(pid)).append("/task/");
    path.Number(static_cast<uint64_t>(pid)).append("/children");
    Str text;
    if (ReadFile(AT_FDCWD, path.c_str(), &text, 1 << 20) == 0) {
        for (size_t at = 0; at < text.size();) {
            const size_t end = text.view().Find(' ', at);
            uint64_t child = 0;
            if (ParseNumber(View(text.data() + at, end - at), &child)) {
                AddChild(static_cast<int>(child), known, to);
            }
            at = end + 1;
        }
        return;
    }
    // Kernels without CONFIG_PROC_CHILDREN.
    Vec<Process> all;
    ListProcesses(&all);
    for (const Process& process : all) {
        if (process.parent == pid) to->Add({process.pid, process.start});
    }
}

bool ReadMark(int pid, Str* mark) {
    Str path;
    const Fd file(sys::OpenAt(AT_FDCWD, ProcPath(&path, pid, "/environ"), O_RDONLY));
    if (!file) return false;
    const View wanted = "SBXFS_EVENT=";
    Str text;
    // An environment may be megabytes long; ours is among the first for parallel commands, and
    // where a shell puts it is its own affair.
    constexpr size_t kStep = 8192;
    for (int steps = 0; steps < 64; ++steps) {
        const long got = sys::Read(file.get(), text.Room(kStep), kStep);
        if (got <= 0) return false;
        text.Grown(static_cast<size_t>(got));
        size_t at = 0;
        for (size_t end = text.view().Find('\0'); end < text.size();
             end = text.view().Find('\0', at)) {
            const View entry(text.data() + at, end - at);
            if (entry.StartsWith(wanted)) {
                mark->Assign(entry.From(wanted.size));
                return true;
            }
            at = end + 1;
        }
        text.DropFront(at);
    }
    return false;
}

uint64_t TicksNow() {
    constexpr int kBootTime = 7;
    return static_cast<uint64_t>(sys::ClockNs(kBootTime)) / 10000000;  // USER_HZ is 100 on both
}

uint32_t CountOthers(const Vec<Process>& all, int self, int shell, Vec<Process>* listed) {
    // What leads from an attach to its sshd, such as the login shell that started it, is ours; that sshd
    // serves this connection of ours, and so do the file servers it has started.
    Vec<int> ours;
    Vec<int> servers;
    for (const Process& process : all) {
        if (!IsAttach(process.Name())) continue;
        const Process* at = &process;
        for (int depth = 0; depth < 32 && at != nullptr && at->pid != 1; ++depth) {
            if (IsServer(at->Name())) {
                servers.Add(at->pid);
                break;
            }
            ours.Add(at->pid);
            at = FindProcess(all, at->parent);
        }
    }
    uint32_t count = 0;
    for (const Process& process : all) {
        if (process.pid == 1 || process.pid == self || process.pid == shell) continue;
        if (!process.IsLiving() || IsAmong(ours, process.pid) || IsAmong(servers, process.pid)) {
            continue;
        }
        if (IsFileServer(process)) {
            // A shell may stand between.
            const Process* at = &process;
            for (int depth = 0; depth < 3 && at != nullptr && !IsAmong(servers, at->pid); ++depth)
                at = FindProcess(all, at->parent);
            if (at != nullptr && IsAmong(servers, at->pid)) continue;
        } else if (IsServer(process.Name())) {
            continue;
        }
        ++count;
        if (listed != nullptr) listed->Add(process);
    }
    return count;
}

}  // namespace sbxfs::supervisor
