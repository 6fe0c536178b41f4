// The directory that stands for one local sandbox on this machine: <state_dir>/boxes/<token>, 0700,
// never visible inside any sandbox.
//
//   lock       flock held by whoever is launching, stopping, starting or destroying it
//   holder     who that is (a ProcessRecord and its role), so that a destroy can stop a launch
//   destroyed  tombstone: no launch begins or goes on from here
//   alive      flock inherited by the sandbox's init: held means alive, whatever became of pids
//   pid        ProcessRecord of that init, written before it is allowed to run anything
//   note       why it ended, in its init's words (hostile input: bounded, printed as text)
//   launched.json  the answer of Launch or Start, written last: without it the box is half made
//   starting   a Start is under way or was killed: launched.json is of what ran before
//   cgroups, uid_range, spec.json, log, ssh.sock, layer/
//
// The daemon makes the directory before it starts a launch helper, and a helper never makes it: a
// helper that comes late, after the box was destroyed, finds nothing and ends. No file here is
// fsynced: they must outlive kill -9, not a power cut, after which nothing of the sandbox runs.
// Values and system calls; one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/providers/local/process_record.h"

namespace sbxfs {

// [a-z0-9-], 1 to 64 characters: a token becomes a file name and a cgroup's name.
Status CheckToken(std::string_view token);

enum class Role { kLaunch, kDestroy };

class Box {
 public:
    static std::string BoxesDir(const std::string& state_dir) { return state_dir + "/boxes"; }
    static std::string PathOf(const std::string& state_dir, const std::string& token) {
        return BoxesDir(state_dir) + "/" + token;
    }

    // The directory and its lock; an existing box is fine.
    static Status Create(const std::string& state_dir, const std::string& token);
    // ENOENT when there is no such box.
    static Result<Box> Open(const std::string& state_dir, const std::string& token);

    int dir() const { return dir_.get(); }
    const std::string& path() const { return path_; }
    // A path that reaches into the box whatever its length: socket addresses hold 107 bytes.
    std::string ShortPath(std::string_view name) const;

    // Nothing when somebody else holds it. Let go when the descriptor closes; close-on-exec.
    Result<std::optional<UniqueFd>> TryLock(Role role);
    // Waits for it, as one who works on a sandbox that is to stay (Role::kLaunch). ECANCELED when it is, or has
    // been, destroyed; EBUSY when that takes too long.
    Result<UniqueFd> AwaitLock(int limit_ms);
    bool Gone() const;  // the directory was removed while we waited for its lock

    // Who holds the lock, by the file `holder`; nothing when unreadable.
    struct Holder {
        Role role = Role::kLaunch;
        ProcessRecord process;
    };
    std::optional<Holder> ReadHolder() const;

    bool IsAlive() const;                      // somebody holds `alive`
    Result<UniqueFd> HoldAlive(int limit_ms);  // waits for stragglers and probes to let go
    bool IsDestroyed() const { return Has("destroyed"); }
    Status MarkDestroyed();

    bool Has(std::string_view name) const;
    // At most 64 KiB, from the front; nothing when absent.
    std::optional<std::string> Read(std::string_view name) const;
    // Replaces the file in one step; 0600.
    Status Write(std::string_view name, std::string_view bytes);
    Result<UniqueFd> OpenForWriting(std::string_view name, int flags);
    void Remove(std::string_view name);

    std::optional<ProcessRecord> Init() const;
    std::optional<Json> Launched() const;

 private:
    Box(std::string path, UniqueFd dir) : path_(std::move(path)), dir_(std::move(dir)) {}

    std::string path_;
    UniqueFd dir_;
};

}  // namespace sbxfs
