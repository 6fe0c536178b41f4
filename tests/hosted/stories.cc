#include "tests/hosted/stories.h"

namespace sbxfs::fuzz {
namespace {

std::string Numbered(sup::Type type, std::uint32_t request) {
    return Frame(type, [&](auto& w) { w.U32(request); });
}

std::string PathsOf(sup::Type type, const std::vector<std::string>& paths) {
    return Frame(type, [&](auto& w) {
        w.U32(1);
        if (type == sup::Type::kFetch) w.U32(4096);
        w.U32(static_cast<std::uint32_t>(paths.size()));
        for (const std::string& path : paths)
            w.String(AsText(path));
    });
}

std::string Timer(std::uint64_t lifetime, std::uint64_t idle, sup::TimerAction action) {
    return Frame(sup::Type::kTimer, [&](auto& w) {
        w.U32(1).U64(lifetime).U64(idle).U8(static_cast<std::uint8_t>(action));
    });
}

// A process that a command has left, or has started.
int Plant(int parent, int session, const std::string& name, const std::string& mark = {}) {
    MadeUpProcess one;
    one.parent = parent;
    one.session = session;
    one.name = name;
    one.start = static_cast<unsigned long long>(made_up.now_ns / 10'000'000);
    if (!mark.empty()) one.environ = std::string("A=b\0SBXFS_EVENT=", 16) + mark + '\0';
    const int pid = made_up.next_pid++;
    made_up.processes.emplace(pid, std::move(one));
    return pid;
}

std::string MarkOf(std::uint64_t n) {
    return std::string(16, '5').replace(0, 16, "5a5a5a5a5a5a5a5a") + "-" + std::to_string(n);
}

// Serial commands one after the other, their output, what was forgotten, a newer daemon.
void Serial(World& world) {
    world.conduct[1].out = "one\n";
    world.conduct[1].err = "two\n";
    world.conduct[2].status = 5;
    world.conduct[4].shell_dies = true;
    world.conduct[4].status = 3 << 8;
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] { world.Start(1, true, "echo one"); },
             [&] {
                 world.Start(2, true, "false", [](auto& f) { f.cwd = AsText("/"); }, {{"A", "b"}});
             },
             [&] {
                 world.Start(3, true, "true", {}, {{"B", "c"}});
             },
             [&] { world.Forget(1); },
             [&] { world.Start(1, true, "echo again"); },
             [&] { world.Start(4, true, "exit 3"); },
             [&] { world.Attach(); },
             [&] { world.Start(5, true, "true"); },
             [&] { world.Say(Numbered(sup::Type::kPing, 4)); },
         });
}

// The other lane: scripts in files, programs that are not there, timeouts that nobody hears.
void Parallel(World& world) {
    world.conduct[1].out = std::string(70'000, 'o');
    world.conduct[1].err = "e";
    world.conduct[3].hangs = true;
    world.conduct[5].hangs = true;
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] {
                 world.Start(1, false, "seq 1000", {}, {{"A", "b"}});
             },
             [&] { world.Start(2, false, "#!/usr/bin/env python3\nprint(1)\n"); },
             [&] { world.Start(3, false, "sleep 1000", [](auto& f) { f.timeout_ms = 50; }); },
             [&] {
                 for (auto& [pid, one] : made_up.processes)
                     one.stubborn = true;
                 for (auto& [pid, one] : std::map(made_up.processes))
                     if (one.n == 3) Plant(pid, one.session, "sleep", MarkOf(3));
             },
             [&] { world.Advance(4000); },
             [&] {
                 made_up.exec_step = 3;
                 made_up.exec_error = 2;
             },
             [&] { world.Start(4, false, "true", [](auto& f) { f.shell = AsText("/bin/none"); }); },
             [&] { made_up.exec_step = -1; },
             [&] { world.Start(5, false, std::string(100'000, ' ')); },
             [&] { world.Signal(5, 2); },
             [&] { world.Forget(2); },
         });
}

// Output: more than its limit, from a child that goes on, emptied by somebody, to a daemon that does not read.
void Output(World& world) {
    world.conduct[1].hangs = true;
    world.conduct[1].any_output = true;
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] { world.Start(1, true, "yes", [](auto& f) { f.output_limit = 1 << 20; }); },
             [&] { PlantAt(Plant::kAppend, world.Place(1, "stdout"), std::string(3 << 20, 'y')); },
             [&] { world.Advance(10); },
             [&] { PlantAt(Plant::kAppend, world.Place(1, "stderr"), "e"); },
             [&] { world.Advance(10); },
             [&] { PlantAt(Plant::kAppend, SpoolPath() + "/commands/report", "\nR 1 0 hB\n"); },
             [&] { PlantAt(Plant::kTruncate, world.Place(1, "stdout"), {}, 100); },
             [&] { world.Attach(); },
         });
}

// Facts about files and processes.
void Facts(World& world) {
    const std::string file = Directory() + "/a-file";
    made_up.init_environ = std::string("PATH=/bin\0SBXFS_X=1\0", 20);
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { PlantAt(Plant::kFile, file, "content"); },
                    [&] {
                        world.Say(PathsOf(sup::Type::kStat, {"/", file, "/none", "relative", ""}));
                    },
                    [&] {
                        world.Say(PathsOf(sup::Type::kFetch, {file, "/none", "/"}));
                    },
                    [&] {
                        Plant(kSelf, 1, "sshd");
                        Plant(made_up.next_pid - 1, 1, "sbxfs-superviso");
                        Plant(1, 1, "vim");
                    },
                    [&] { world.Say(Numbered(sup::Type::kProcesses, 2)); },
                    [&] { world.Say(Numbered(sup::Type::kEnviron, 3)); },
                    [&] { world.Say(Timer(100'000, 50'000, sup::TimerAction::kEndCommands)); },
                    [&] { world.Say(Frame(sup::Type::kUse, {})); },
                });
}

// New files: of all kinds, moved, onto the disk one after the other and many at a time, for a daemon that goes away.
void Stores(World& world) {
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Store(1, "a", "bytes", 0640); },
                    [&] { world.Store(2, "a", "again"); },
                    [&] { world.Store(3, "none/a", "bytes"); },
                    [&] { world.Store(4, "empty", "", 0); },
                    [&] { world.Rename(40, "a", "empty", false); },
                    [&] { world.Rename(41, "a", "empty", true); },
                    [&] { world.Rename(42, "none/a", "empty", true); },
                    [&] { world.Store(5, "b", std::string(100'000, 'b'), 0755, sup::kStoreSync); },
                    [&] { made_up.save_status = 5 << 8; },
                    [&] { world.Store(6, "c", "bytes", 0600, sup::kStoreSync); },
                    [&] { made_up.save_status = 9; },
                    [&] { world.Store(7, "d", "bytes", 0600, sup::kStoreSync); },
                    [&] {
                        made_up.save_status = 0;
                        made_up.saves_held = true;
                    },
                    [&] {
                        for (std::uint32_t i = 10; i < 20; ++i)
                            world.Store(i, "s" + std::to_string(i), "bytes", 0604, sup::kStoreSync);
                    },
                    [&] { world.Say(Numbered(sup::Type::kPing, 30)); },
                    [&] { (void)EndOldest(0); },
                    [&] { world.Attach(); },
                    [&] { made_up.saves_held = false; },
                    [&] { world.Store(31, "last", "bytes", 0644, sup::kStoreSync); },
                    [&] {
                        while (EndOldest(0)) {
                        }
                    },
                    [&] { world.Say(Numbered(sup::Type::kPing, 32)); },
                });
}

// Supervisors that are killed while commands run, wait, have ended, and were forgotten.
void Deaths(World& world) {
    world.conduct[1].out = "x";
    world.conduct[2].hangs = true;
    world.conduct[4].hangs = true;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(1, true, "echo x"); },
                    [&] { world.Start(2, true, "sleep 1"); },
                    [&] { world.Start(3, true, "true"); },
                    [&] { world.Start(4, false, "sleep 1"); },
                    [&] { Plant(1, 77, "orphan", MarkOf(2)); },
                });
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(5, true, "true"); },
                    [&] { world.Forget(1); },
                });
    Tell(world, {[&] { world.Attach(); }, [&] { Terminate(); }});
}

// Signals: to processes, to nobody yet, to copies of the shell, to what waits.
void Signals(World& world) {
    world.conduct[1].hangs = true;
    world.conduct[2].hangs = true;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(1, true, "sleep 1"); },
                    [&] { world.Start(2, true, "never"); },
                    [&] { world.Start(3, true, "waits"); },
                    [&] { world.Signal(1, 15); },  // nobody yet
                    [&] {
                        Plant(world.ShellPid(), world.ShellPid(), "sleep", MarkOf(1));
                        made_up.processes.rbegin()->second.becomes_copy = true;
                        made_up.processes.rbegin()->second.stubborn = true;
                    },
                    [&] { world.Advance(20); },
                    [&] { world.Signal(1, 10); },
                    [&] {
                        for (auto& [pid, one] : made_up.processes)
                            one.becomes_copy = one.stubborn = false;
                    },
                    [&] { world.Advance(100); },
                    [&] { world.Signal(3, 15); },
                    [&] { world.Signal(1, 9); },
                    [&] { world.Signal(1, 9); },
                    [&] { world.Signal(2, 19); },
                    [&] { world.Signal(2, 18); },
                    [&] {
                        world.Signal(9, 15);
                        world.Signal(2, 0);
                        world.Signal(2, 65);
                    },
                });
}

// A dead-man timer ends what runs.
void Expiry(World& world) {
    world.conduct[1].hangs = true;
    world.conduct[3].hangs = true;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(1, true, "sleep 1"); },
                    [&] { world.Start(2, true, "waits"); },
                    [&] { world.Start(3, false, "sleep 1"); },
                    [&] { world.Say(Timer(1000, 0, sup::TimerAction::kEndCommands)); },
                    [&] { world.Advance(5000); },
                    [&] { world.Start(4, true, "true"); },
                    [&] { world.Say(Timer(0, 500, sup::TimerAction::kPowerOff)); },
                    [&] { world.Advance(20'000); },
                });
}

// A shell that ends before it reads, that says nothing, that reports in pieces; settings that change between.
void Shells(World& world) {
    made_up.passwd = "root:x:0:0::/root:/bin/sh\nme:x:77:78::/home/me:/bin/sh\n";
    made_up.group = "me:x:78:\nothers:x:79:root,me\n";
    made_up.uid = 0;
    world.conduct[2].says_nothing = true;
    Tell(world,
         {
             [&] { world.Attach(); },
             [&] { made_up.exec_held = true; },
             [&] { world.Start(1, true, "true"); },
             [&] { EndProcess(world.ShellPid(), 9); },
             [&] {
                 made_up.exec_held = false;
                 LetExec(world.ShellPid());
             },
             [&] { world.Start(2, true, "set -n"); },
             [&] { world.Advance(5000); },
             [&] { world.Start(3, true, "true", [](auto& f) { f.user = AsText("me"); }); },
             [&] {
                 world.Start(4, true, "true", [](auto& f) {
                     f.cwd = AsText("/none");
                     f.user = AsText("me");
                 });
             },
             [&] { world.Start(5, true, "true", [](auto& f) { f.cwd = AsText("/none"); }); },
             [&] {
                 world.Start(6, true, "true", [](auto& f) { f.cwd = AsText("/"); }, {{"A", "b"}});
             },
             [&] { world.Start(7, false, "#!/bin/x\n", [](auto& f) { f.user = AsText("me"); }); },
             [&] {
                 made_up.exec_step = 2;
                 made_up.exec_error = 13;
             },
             [&] { world.Start(8, true, "true", [](auto& f) { f.shell = AsText("/bin/bash"); }); },
             [&] { made_up.exec_step = -1; },
         });
}

}  // namespace

const std::vector<Story>& AllStories() {
    static const std::vector<Story> all{
        {"serial", Serial}, {"parallel", Parallel}, {"output", Output},
        {"facts", Facts},   {"deaths", Deaths},     {"signals", Signals},
        {"expiry", Expiry}, {"shells", Shells},     {"stores", Stores},
    };
    return all;
}

}  // namespace sbxfs::fuzz
