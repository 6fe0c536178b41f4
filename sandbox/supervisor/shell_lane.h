// The serial lane: one persistent shell that reads command after command from a pipe of ours
// (dialect.h says how) and reports through the spool's FIFO. The shell is a child: when it ends,
// its wait status is the outcome of the command it was running, and the next command gets a new
// shell in the directory of the old one.
//
// Settings (config/: shell, user, cwd, environment) come with every Start. What a shell can be told it is told
// before the next script, once for each change, so that what a script set itself stays as long as nobody
// changes the setting; another shell or user needs a new shell.
//
// Nothing here waits. What the pipe does not take goes when there is room; reports, the shell's
// death, and a watch on a shell that is back at its pipe without having reported come as events.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/commands.h"
#include "sandbox/supervisor/dialect.h"
#include "sandbox/supervisor/shells.h"

namespace sbxfs::supervisor {

class ShellLane {
 public:
    ShellLane(Runtime& runtime, Commands& commands) : runtime_(runtime), commands_(commands) {}

    void Enqueue(Command& command);
    // False when it is not waiting here.
    bool Cancel(Command& command);
    // It runs here, and its shell has not got to it yet: whatever else runs is of the shell's start.
    bool HasNotRead(const Command& command) const { return running_ == &command && NeverRead(); }
    // The FIFO has something to read.
    void OnReports();
    // A child of ours ended; true when it was the shell.
    bool OnExit(int pid, int wait_status);
    // There is room in the pipe to the shell; `closed`: or nobody reads it any more.
    void OnRoom(bool closed);
    // exec succeeded or failed.
    void OnSpawned();
    void Tick(int64_t now_ms);
    int64_t NextTick() const { return next_look_ms_; }
    // For a shutdown, or when the sandbox's time ran out.
    void KillShell();
    // Goes on with the next command when the running one is done.
    void Advance();

    size_t Waiting() const { return waiting_.size(); }
    // Bytes of scripts that wait.
    size_t WaitingBytes() const { return waiting_bytes_; }

 private:
    bool StartShell(Command& command);
    const char* RestartReason(const StartOrder& order) const;
    void RestartShell(const StartOrder& order, const char* why);
    bool TellSettings(Command& command);
    void Remember(const StartOrder& order);
    bool ChooseDirectory(const StartOrder& order, Str* cwd);
    void BeginCommand(Command& command);
    void OnReport(const Report& report);
    void Feed();
    bool NeverRead() const;
    void ShellGone(View why);
    void EndRunning(Ending ending);
    Str CurrentDirectory() const;
    bool IsStuck();

    Runtime& runtime_;
    Commands& commands_;
    Vec<uint64_t> waiting_;
    size_t waiting_bytes_ = 0;
    Command* running_ = nullptr;

    ProcessId shell_;  // pid 0: there is none
    Fd input_;         // our end of its pipe
    uint64_t input_inode_ = 0;
    Fd spawned_;  // until exec
    Dialect dialect_;
    Str feed_;  // what the pipe has not taken yet
    size_t fed_ = 0;
    bool feed_watched_ = false;
    bool other_user_ = false;
    uint32_t status_ = 0;    // $? of the last command
    bool traced_ = false;    // set -x is on
    bool errexit_ = false;   // set -e is on
    bool has_exec_ = false;  // the running command was said with an exec
    Str reports_;            // an unfinished line

    // What the newest shell was started with, or told since: a Start that says otherwise is a change of config/.
    struct Settings {
        bool known = false;
        bool login = false;
        Str shell;
        Str user;
        Str cwd;
        Environment env;
    };
    Settings settings_;
    Environment base_env_;  // what it was started with below settings_.env

    Str directory_;   // where the shell was last seen
    Str told_;        // where its EXIT trap says it was
    Str ended_why_;   // why the last shell ended, until the next command was told
    int unread_ = 0;  // shells in a row that ended before they read their command

    int64_t next_look_ms_ = kNever;
    int64_t look_step_ms_ = 0;
    int64_t stuck_since_ms_ = kNever;
    uint64_t stuck_cpu_ = 0;
    bool killed_stuck_ = false;
};

}  // namespace sbxfs::supervisor
