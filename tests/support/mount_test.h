// The fixture of the core tier: a World, a mount in it, a client; and at the end of each test nothing
// may be left: no look-up, no handle, no parked request, no open file in any sandbox.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/client.h"
#include "tests/support/test_mount.h"

namespace sbxfs::testing {

class MountTest : public ::testing::Test {
 protected:
    explicit MountTest(MountSetup setup = DefaultSetup()) : setup_(std::move(setup)) {
        world_.machines.furnish = [this](FakeMachine& machine) {
            machine.files().PutDir("/work");
            all_machines_.push_back(&machine);
        };
    }

    static MountSetup WithWriteBehind() {
        MountSetup setup = DefaultSetup();
        setup.write_behind = true;
        return setup;
    }

    void SetUp() override { Start(); }
    void TearDown() override {
        if (mount_ == nullptr) return;
        me_->ForgetAll();
        mount_->Settle();
        EXPECT_EQ(mount_->context().inodes.Count(), 1U) << "look-ups leaked";
        EXPECT_EQ(mount_->context().handles.Count(), 0U) << "handles leaked";
        EXPECT_EQ(mount_->context().lot.Count(), 0U) << "requests are still parked";
        for (FakeMachine* machine : all_machines_)
            EXPECT_EQ(machine->files().OpenFiles(), 0U) << "files are open in the sandbox";
        Unmount();
    }

    void Start() {
        mount_ = std::make_unique<TestMount>(world_, setup_);
        me_ = std::make_unique<Client>(*mount_);
        mount_->Settle();
    }
    void Unmount() {
        me_->ForgetNothing();
        me_.reset();
        mount_->Unmount();
        mount_.reset();
    }
    void Kill() {
        me_->ForgetNothing();
        me_.reset();
        mount_->Kill();
        mount_.reset();
    }
    void KillAndStart() {
        Kill();
        Start();
    }

    // A sandbox that is ready, or whatever the fakes were told to make of it.
    void MakeBox(const std::string& name = "box") { ASSERT_EQ(me().Mkdir("/" + name), 0); }

    Client& me() { return *me_; }
    TestMount& mount() { return *mount_; }
    void Settle() { mount_->Settle(); }
    void Advance(Duration by) { mount_->Advance(by); }
    FakeProvider& provider() { return world_.provider; }
    FakeMachine& machine(const std::string& name = "box") { return mount_->Machine(name); }
    FakeSupervisor& supervisor(const std::string& name = "box") {
        return machine(name).supervisor();
    }
    FakeFiles& files(const std::string& name = "box") { return machine(name).files(); }
    // What is asked next is asked of the sandbox.
    void DropCaches(const std::string& name = "box") {
        EXPECT_EQ(me().Echo("drop_caches\n", "/" + name + "/ctl"), 0);
        Settle();
    }
    // A command that does `change` to the sandbox's files; the first of a test is number 1.
    void Command(const std::function<void()>& change) {
        ++commands_;
        ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
        Settle();
        supervisor().Started(commands_);
        change();
        supervisor().Exit(commands_);
        Settle();
        ASSERT_EQ(me().Cat("/box/events/" + std::to_string(commands_) + "/status"), "exited\n");
    }
    // A file server that says who it is and where it may write: changes can go behind.
    void TellTheServer() {
        files().PutFile("/proc/self/status", "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n");
        files().PutFile("/proc/self/mountinfo", "21 1 0:1 / / rw,relatime - ext4 /dev/root rw\n");
    }
    std::string LastError() { return me().Cat("/.mount/last_error"); }

    World world_;
    MountSetup setup_;
    std::vector<FakeMachine*> all_machines_;
    std::unique_ptr<TestMount> mount_;
    std::unique_ptr<Client> me_;
    int commands_ = 0;  // submitted
};

}  // namespace sbxfs::testing
