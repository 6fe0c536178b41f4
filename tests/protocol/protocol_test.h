// The fixture of the protocol tier: a whole daemon (TestMount) behind the real libfuse, with a FakeKernel on
// the other end. At the end of each test every request has exactly one answer and nothing is left.
#pragma once

#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/fakes/fake_kernel.h"
#include "tests/support/test_mount.h"

namespace sbxfs::testing {

class ProtocolTest : public ::testing::Test {
 protected:
    using Answer = FakeKernel::Answer;

    ProtocolTest() {
        world_.machines.furnish = [this](FakeMachine& machine) {
            machine.files().PutDir("/work");
            machine.supervisor().hello.clock_ms = 1'000'000;  // far from ours
            machine_ = &machine;
        };
    }
    void SetUp() override {
        mount_ = std::make_unique<TestMount>(world_, setup_);
        kernel_ = std::make_unique<FakeKernel>(mount_->fs(), [this] { (void)world_.loop.Run(); });
        if (hello_) init_ = kernel_->Init();
    }
    void TearDown() override {
        if (kernel_ == nullptr) return;
        for (const auto& [node, count] : std::exchange(lookups_, {}))
            kernel_->Forget(node, count);
        // FORGET has no answer: one behind them, from each thread there may be, tells that they are done.
        AwaitForgotten(1);
        EXPECT_EQ(mount_->context().lot.Count(), 0U);
        EXPECT_EQ(mount_->context().handles.Count(), 0U);
        EXPECT_EQ(kernel_->Unclaimed(), 0U) << "answers nobody asked for";
        EXPECT_EQ(kernel_->Surplus(), 0U) << "answered twice";
        EXPECT_EQ(kernel_->Close(), 0);
        Down();
    }
    void Down() {
        mount_->Unmount();
        kernel_.reset();  // the session is destroyed last, because answers need it
        mount_.reset();
    }
    // FORGETs are worked off until so many nodes are known.
    void AwaitForgotten(std::size_t nodes) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (mount_->context().inodes.Count() != nodes &&
               std::chrono::steady_clock::now() < deadline) {
            (void)kernel_->Ask(FUSE_STATFS, 1);
        }
        EXPECT_EQ(mount_->context().inodes.Count(), nodes) << "look-ups leaked";
    }

    // --- requests; those that hand out a node are counted ---
    Answer Lookup(std::uint64_t parent, std::string_view name) {
        return Counted(kernel_->Ask(FUSE_LOOKUP, parent, Name(name)));
    }
    Answer Counted(Answer answer) {
        if (answer.error == 0) ++lookups_[answer.As<fuse_entry_out>().nodeid];
        return answer;
    }
    std::uint64_t Walk(const std::string& path) {
        std::uint64_t node = 1;
        std::size_t at = 1;
        while (at < path.size()) {
            const std::size_t end = std::min(path.find('/', at), path.size());
            const Answer answer = Lookup(node, path.substr(at, end - at));
            EXPECT_EQ(answer.error, 0) << path;
            node = answer.As<fuse_entry_out>().nodeid;
            at = end + 1;
        }
        return node;
    }
    Answer Mkdir(std::uint64_t parent, std::string_view name) {
        return Counted(
            kernel_->Ask(FUSE_MKDIR, parent, Pack(fuse_mkdir_in{0755, 022}) + Name(name)));
    }
    // A sandbox that is ready.
    void MakeBox() {
        ASSERT_EQ(Mkdir(1, "box").error, 0);
        Settle();
    }
    void Settle() { mount_->Settle(); }
    std::uint64_t Open(std::uint64_t node, std::uint32_t flags, std::uint32_t opcode = FUSE_OPEN) {
        fuse_open_in in{};
        in.flags = flags;
        const Answer answer = kernel_->Ask(opcode, node, Pack(in));
        EXPECT_EQ(answer.error, 0);
        return answer.As<fuse_open_out>().fh;
    }
    static std::string ReadBody(std::uint64_t handle, std::uint64_t offset, std::uint32_t size) {
        fuse_read_in in{};
        in.fh = handle;
        in.offset = offset;
        in.size = size;
        return Pack(in);
    }
    static std::string WriteBody(std::uint64_t handle, std::uint64_t offset,
                                 std::string_view bytes) {
        fuse_write_in in{};
        in.fh = handle;
        in.offset = offset;
        in.size = static_cast<std::uint32_t>(bytes.size());
        return Pack(in) + std::string(bytes);
    }
    Answer Flush(std::uint64_t node, std::uint64_t handle) {
        fuse_flush_in in{};
        in.fh = handle;
        return kernel_->Ask(FUSE_FLUSH, node, Pack(in));
    }
    Answer Release(std::uint64_t node, std::uint64_t handle, std::uint32_t opcode = FUSE_RELEASE) {
        fuse_release_in in{};
        in.fh = handle;
        return kernel_->Ask(opcode, node, Pack(in));
    }
    // The whole content of a file.
    std::string Cat(const std::string& path) {
        const std::uint64_t node = Walk(path);
        const std::uint64_t handle = Open(node, 0);
        const Answer answer = kernel_->Ask(FUSE_READ, node, ReadBody(handle, 0, 65536));
        EXPECT_EQ(answer.error, 0) << path;
        EXPECT_EQ(Release(node, handle).error, 0);
        return answer.body;
    }
    void AwaitParked(std::size_t count) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (mount_->context().lot.Count() != count &&
               std::chrono::steady_clock::now() < deadline) {
            std::this_thread::yield();
        }
        ASSERT_EQ(mount_->context().lot.Count(), count);
    }
    FakeFiles& files() { return machine_->files(); }
    FakeSupervisor& supervisor() { return machine_->supervisor(); }

    World world_;
    MountSetup setup_ = DefaultSetup();
    bool hello_ = true;
    FakeMachine* machine_ = nullptr;
    fuse_init_out init_{};
    std::map<std::uint64_t, std::uint64_t> lookups_;
    std::unique_ptr<TestMount> mount_;
    std::unique_ptr<FakeKernel> kernel_;
};

}  // namespace sbxfs::testing
