// A whole daemon without a mount: the real Store (SQLite in a directory of its own), Outputs, Sandboxes
// and FileSystem over a FakeProvider and FakeMachines, on a ManualLoop and a clock that moves when told
// to. World is what outlives the daemon: the cloud, the machines, the disk; TestMount is one life of
// the daemon.
//
// The test's thread is the loop's. Store and Outputs have their real threads; Settle() waits for them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "fs/file_system.h"
#include "sandbox/outputs.h"
#include "sandbox/sandboxes.h"
#include "sandbox/state_dir.h"
#include "sandbox/store.h"
#include "tests/fakes/fake_machine.h"
#include "tests/fakes/fake_provider.h"
#include "tests/fakes/faulty_disk.h"
#include "tests/fakes/manual_loop.h"
#include "tests/support/temp_dir.h"

namespace sbxfs::testing {

struct World {
    ManualLoop loop;
    FakeProvider provider{loop};
    FakeMachines machines{loop};
    FaultyDisk disk;
    TempDir dir;
};

// What a test may choose of a mount.
struct MountSetup {
    // Template `default`, and any others.
    std::map<std::string, Template> templates;
    Commands::Limits limits{};
    LinkedFiles::Timeouts timeouts{};
    Sandboxes::Config config{};
    Duration launch_limit = std::chrono::minutes(10);
    Duration longest_wait{0};
    bool write_behind = false;
    std::shared_ptr<ContentStore> contents{};  // none: the mount makes its own
    uid_t uid = 1000;
    gid_t gid = 1001;
};
Template TestTemplate(const std::string& name);
MountSetup DefaultSetup();

class TestMount {
 public:
    TestMount(World& world, MountSetup setup);
    // Unmounts, unless it was killed.
    ~TestMount();
    TestMount(const TestMount&) = delete;
    TestMount& operator=(const TestMount&) = delete;

    World& world() { return world_; }
    ManualLoop& loop() { return world_.loop; }
    FileSystem& fs() { return *fs_; }
    MountContext& context() { return fs_->context(); }
    Sandboxes& sandboxes() { return *sandboxes_; }
    Store& store() { return *store_; }
    Outputs& outputs() { return *outputs_; }

    // Until nothing moves any more without the test or the clock.
    void Settle();
    // The clock moves on, in steps small enough for timers that arm each other.
    void Advance(Duration by);

    SandboxPtr Box(const std::string& name);  // aborts when there is none
    FakeMachine& Machine(const std::string& name);

    // As the daemon does: everyone who waits hears of it, machines stop, threads end.
    void Unmount();
    // kill -9: nothing more reaches the disk, nobody is answered any more.
    void Kill();

 private:
    void Stop();
    World& world_;
    const MountSetup setup_;
    SandboxServices services_;
    std::optional<StateDir> state_;
    std::unique_ptr<Store> store_;
    std::unique_ptr<Outputs> outputs_;
    std::unique_ptr<Sandboxes> sandboxes_;
    std::unique_ptr<FileSystem> fs_;
};

}  // namespace sbxfs::testing
