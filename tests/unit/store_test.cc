// The journal: group commit, what a full or broken disk does to it, and what is read back.
#include "sandbox/store.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "tests/fakes/faulty_disk.h"
#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

using testing::FaultyDisk;
using testing::TempDir;

class Journal : public ::testing::Test {
 protected:
    void SetUp() override { Open(); }
    void Open() {
        auto state = StateDir::Open(dir_ / "state", "a test");
        ASSERT_TRUE(state) << state.error().what();
        state_.emplace(std::move(*state));
        auto store = Store::Open(*state_);
        ASSERT_TRUE(store) << store.error().what();
        store_ = std::move(*store);
    }
    void Reopen() {
        store_.reset();
        state_.reset();
        Open();
    }
    SandboxRecord Sandbox(std::uint64_t generation, const std::string& name = "box") {
        SandboxRecord record;
        record.generation = Generation{generation};
        record.name = name;
        record.created_ms = 1000;
        return record;
    }
    CommandRecord Command(std::uint64_t n, const std::string& name = "") {
        CommandRecord record;
        record.generation = Generation{1};
        record.n = EventNumber{n};
        record.spec.name = name;
        record.accepted_ms = 5;
        return record;
    }
    Done Into(std::vector<std::string>& log, const std::string& what) {
        return [&log, what](const Status& status) {
            log.push_back(
                what +
                (status ? "" : " " + std::to_string(static_cast<int>(status.error().code()))));
        };
    }

    TempDir dir_;
    FaultyDisk disk_;
    std::optional<StateDir> state_;
    std::unique_ptr<Store> store_;
};

TEST_F(Journal, WhatWaitsIsOneCommitAndCompletesInOrder) {
    store_->StartThread();
    std::vector<std::string> log;
    disk_.Hold();
    store_->Put(Sandbox(1), Into(log, "box"));
    disk_.AwaitHeld();
    for (int i = 1; i <= 50; ++i)
        store_->PutCommand(Command(static_cast<std::uint64_t>(i)), "script", Into(log, "command"));
    const std::uint64_t before = disk_.commits();
    disk_.Release();
    store_->Flush();
    EXPECT_EQ(log.size(), 51U);
    EXPECT_EQ(log.front(), "box");
    EXPECT_EQ(disk_.commits() - before, 2U);
}

TEST_F(Journal, NothingIsCompletedBeforeItIsOnTheDisk) {
    store_->StartThread();
    std::vector<std::string> log;
    disk_.Hold();
    store_->Put(Sandbox(1), Into(log, "box"));
    disk_.AwaitHeld();
    EXPECT_TRUE(log.empty());
    disk_.Release();
    store_->Flush();
    EXPECT_EQ(log, std::vector<std::string>{"box"});
}

// A commit whose fsync failed is in the file all the same.
TEST_F(Journal, WhatWasRefusedIsNotFoundByWhoeverOpensItNext) {
    std::uint64_t n = 0;
    for (std::uint64_t at = 0;; ++at) {
        SCOPED_TRACE(at);
        store_->StartThread();
        std::vector<std::string> log;
        if (n == 0) store_->Put(Sandbox(1), Into(log, "box"));
        store_->Flush();
        log.clear();
        disk_.FailAt(at, FaultyDisk::Fault::kBroken, FaultyDisk::Lasting::kOnce);
        store_->PutCommand(Command(++n), "script", Into(log, "command"));
        store_->Flush();
        ASSERT_EQ(log.size(), 1U);
        const bool accepted = log[0] == "command";
        // Killed: nothing is tidied up behind it.
        disk_.Heal();
        disk_.Fail(FaultyDisk::Fault::kBroken);
        store_.reset();
        state_.reset();
        disk_.Heal();
        Open();
        const std::vector<CommandRecord> there = *store_->LoadCommands(Generation{1});
        ASSERT_EQ(there.size(), accepted ? 1U : 0U);
        if (accepted) return;
    }
}

TEST_F(Journal, EverythingIsReadBackAsItWas) {
    store_->StartThread();
    SandboxRecord box = Sandbox(1);
    box.stage = Stage::kLaunched;
    box.provider_id = "id-7";
    box.error = "none";
    box.spool_id = UINT64_MAX;  // random 64 bits
    box.boot_id = 1ULL << 63;
    box.is_protected = true;
    box.phases = {{"requested", 1}, {"ready", 2}};
    box.facts.Set("zone", "a");
    store_->Put(box, {});
    CommandRecord command = Command(3, "t1");
    command.spec.lane = CommandLane::kParallel;
    command.spec.cwd = "/w";
    command.spec.env = {{"A", "1"}, {"B", "\xc3\xa4"}};
    command.spec.timeout_ms = 1500;
    const std::string script("line\n\x01\xff\n", 8);
    command.script_size = script.size();
    store_->PutCommand(command, script, {});
    EventState state;
    state.status = EventStatus::kKilled;
    state.exit_code = 137;
    state.signal = 9;
    state.stdout_size = 1ULL << 40;
    state.reason = "why";
    state.shell_restarted = true;
    store_->UpdateCommand(Generation{1}, EventNumber{3}, state, {});
    Reopen();
    const auto boxes = store_->LoadSandboxes();
    ASSERT_TRUE(boxes);
    ASSERT_EQ(boxes->size(), 1U);
    const SandboxRecord& read = boxes->front();
    EXPECT_EQ(read.name, "box");
    EXPECT_EQ(read.stage, Stage::kLaunched);
    EXPECT_EQ(read.provider_id, "id-7");
    EXPECT_EQ(read.spool_id, UINT64_MAX);
    EXPECT_EQ(read.boot_id, 1ULL << 63);
    EXPECT_TRUE(read.is_protected);
    EXPECT_EQ(read.phases, box.phases);
    EXPECT_EQ(read.facts.GetString("zone"), "a");
    const auto commands = store_->LoadCommands(Generation{1});
    ASSERT_TRUE(commands);
    ASSERT_EQ(commands->size(), 1U);
    const CommandRecord& back = commands->front();
    EXPECT_EQ(back.spec.name, "t1");
    EXPECT_EQ(back.spec.lane, CommandLane::kParallel);
    EXPECT_EQ(back.spec.env, command.spec.env);
    EXPECT_EQ(back.spec.timeout_ms, 1500);
    EXPECT_EQ(back.state.status, EventStatus::kKilled);
    EXPECT_EQ(back.state.exit_code, 137);
    EXPECT_EQ(back.state.stdout_size, 1ULL << 40);
    EXPECT_TRUE(back.state.shell_restarted);
    store_->StartThread();
    std::promise<std::string> text;
    store_->LoadScript(Generation{1}, EventNumber{3}, [&](Result<std::string> found) {
        text.set_value(found ? *found : found.error().what());
    });
    EXPECT_EQ(text.get_future().get(), script);
}

TEST_F(Journal, AForgottenCommandKeepsItsNumberAndNameButNotItsScript) {
    store_->StartThread();
    store_->Put(Sandbox(1), {});
    store_->PutCommand(Command(1, "t1"), "secret script", {});
    store_->ForgetCommand(Generation{1}, EventNumber{1}, {});
    store_->Flush();
    std::promise<bool> found;
    store_->LoadScript(Generation{1}, EventNumber{1}, [&](const Result<std::string>& script) {
        found.set_value(script && script->find("secret") != std::string::npos);
    });
    EXPECT_FALSE(found.get_future().get());
    Reopen();
    const auto commands = store_->LoadCommands(Generation{1});
    ASSERT_EQ(commands->size(), 1U);
    EXPECT_TRUE(commands->front().forgotten);
    EXPECT_EQ(commands->front().spec.name, "t1");
}

TEST_F(Journal, ARemovedSandboxIsGoneWithItsCommandsAndItsGenerationIsNotUsedAgain) {
    store_->StartThread();
    store_->Put(Sandbox(7), {});
    CommandRecord command = Command(1);
    command.generation = Generation{7};
    store_->PutCommand(command, "x", {});
    store_->Remove(Generation{7}, {});
    Reopen();
    EXPECT_TRUE(store_->LoadSandboxes()->empty());
    EXPECT_TRUE(store_->LoadCommands(Generation{7})->empty());
    EXPECT_GE(Raw(store_->last_generation()), 7U);
}

TEST_F(Journal, ANumberIsTakenOnce) {
    store_->StartThread();
    std::vector<std::string> log;
    store_->Put(Sandbox(1), Into(log, "box"));
    store_->PutCommand(Command(1), "first", Into(log, "first"));
    store_->PutCommand(Command(1), "second", Into(log, "second"));
    store_->PutCommand(Command(2), "third", Into(log, "third"));
    store_->Flush();
    ASSERT_EQ(log.size(), 4U);
    EXPECT_EQ(log[0], "box");
    EXPECT_EQ(log[1], "first");
    EXPECT_NE(log[2], "second");  // one record's failure does not break the others' promises
    EXPECT_EQ(log[3], "third");
}

TEST_F(Journal, ABrokenDiskIsToldToEachAndAHealedOneTakesTheNext) {
    store_->StartThread();
    std::vector<std::string> log;
    disk_.Fail(FaultyDisk::Fault::kBroken);
    store_->Put(Sandbox(1, "a"), Into(log, "a"));
    store_->Put(Sandbox(2, "b"), Into(log, "b"));
    store_->Flush();
    disk_.Heal();
    store_->Put(Sandbox(3, "c"), Into(log, "c"));
    store_->Flush();
    EXPECT_EQ(log, (std::vector<std::string>{"a 5", "b 5", "c"}));
    Reopen();
    const auto boxes = store_->LoadSandboxes();
    ASSERT_EQ(boxes->size(), 1U);
    EXPECT_EQ(boxes->front().name, "c");
}

TEST_F(Journal, WhateverCommitIsTheLastWhatWasPromisedIsThere) {
    for (std::uint64_t commits = 0; commits < 8; ++commits) {
        store_->StartThread();
        disk_.BreakAfter(commits);
        std::vector<std::uint64_t> promised;
        for (std::uint64_t i = 1; i <= 6; ++i) {
            const std::uint64_t generation = commits * 100 + i;
            store_->Put(Sandbox(generation, "b" + std::to_string(generation)),
                        [&, generation](const Status& status) {
                            if (status) promised.push_back(generation);
                        });
            store_->Flush();
        }
        store_.reset();
        disk_.Heal();
        Reopen();
        std::vector<std::uint64_t> there;
        const auto boxes = store_->LoadSandboxes();
        ASSERT_TRUE(boxes);
        for (const SandboxRecord& box : *boxes)
            there.push_back(Raw(box.generation));
        for (const std::uint64_t generation : promised)
            EXPECT_NE(std::find(there.begin(), there.end(), generation), there.end()) << generation;
    }
}

// A file that grows costs a transaction of the file system with each commit.
TEST_F(Journal, ItsWalDoesNotGrowWithTheFirstCommits) {
    const auto size = [&] { return std::filesystem::file_size(state_->journal() + "-wal"); };
    store_->StartThread();
    const std::uintmax_t before = size();
    EXPECT_GE(before, std::uintmax_t{4} << 20);
    store_->Put(Sandbox(1), [](const Status& status) { EXPECT_TRUE(status); });
    for (std::uint64_t n = 1; n <= 300; ++n) {
        store_->PutCommand(Command(n), "script", [](const Status& status) { EXPECT_TRUE(status); });
        store_->Flush();
    }
    EXPECT_EQ(size(), before);
    // What a daemon that was killed leaves: frames, and zeros behind them.
    const std::string copy = dir_ / "killed";
    std::filesystem::copy(state_->path(), copy, std::filesystem::copy_options::recursive);
    auto state = StateDir::Open(copy, "a test");
    ASSERT_TRUE(state) << state.error().what();
    auto store = Store::Open(*state);
    ASSERT_TRUE(store) << store.error().what();
    const auto commands = (*store)->LoadCommands(Generation{1});
    ASSERT_TRUE(commands);
    EXPECT_EQ(commands->size(), 300U);
}

TEST_F(Journal, TheReserveIsThereFromTheStart) {
    struct stat found {};
    ASSERT_EQ(::stat((dir_ / "state/reserve").c_str(), &found), 0);
    EXPECT_GE(found.st_size, 8 << 20);
    EXPECT_GE(found.st_blocks * 512, 8 << 20);  // real blocks
}

TEST_F(Journal, AFullDiskGivesUpTheReserveAndTheReserveComesBack) {
    store_->StartThread();
    disk_.Fail(FaultyDisk::Fault::kFull);
    std::vector<std::string> log;
    store_->Put(Sandbox(1), Into(log, "box"));
    store_->Flush();
    EXPECT_EQ(log, std::vector<std::string>{"box " + std::to_string(ENOSPC)});
    disk_.Heal();
    store_->Put(Sandbox(1), Into(log, "again"));
    store_->Flush();
    EXPECT_EQ(log.back(), "again");
    struct stat found {};
    EXPECT_EQ(::stat((dir_ / "state/reserve").c_str(), &found), 0);
}

TEST_F(Journal, RoomIsAskedForBeforeAPromise) {
    EXPECT_TRUE(store_->Admit(1));
    const Status full = store_->Admit(std::uint64_t{1} << 60);
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code(), Errno{ENOSPC});
    EXPECT_NE(full.error().what().find(dir_ / "state"), std::string::npos);
}

TEST_F(Journal, TheMountIdStaysAndEpochsOnlyGrow) {
    const std::string id = store_->mount_id();
    const std::uint64_t epoch = store_->first_epoch();
    EXPECT_EQ(id.size(), 16U);
    Reopen();
    EXPECT_EQ(store_->mount_id(), id);
    EXPECT_GE(store_->first_epoch(), epoch + (1U << 20));
}

TEST_F(Journal, TwoDaemonsNeverShareAStateDirectory) {
    const auto second = StateDir::Open(dir_ / "state", "another");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errno{EBUSY});
    EXPECT_NE(second.error().what().find("a test"), std::string::npos);
}

TEST_F(Journal, ADamagedOneIsRefusedWithARemedy) {
    store_.reset();
    state_.reset();
    for (const char* file : {"state/journal.db-wal", "state/journal.db-shm"})
        (void)::unlink((dir_ / file).c_str());
    std::ofstream(dir_ / "state/journal.db", std::ios::trunc) << std::string(8192, 'x');
    auto state = StateDir::Open(dir_ / "state", "a test");
    ASSERT_TRUE(state);
    const auto store = Store::Open(*state);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errno{EIO});
    EXPECT_NE(store.error().what().find("journal"), std::string::npos) << store.error().what();
}

TEST_F(Journal, WhatIsQueuedAtItsEndIsCommitted) {
    store_->StartThread();
    std::vector<std::string> log;
    store_->Put(Sandbox(1), Into(log, "box"));
    store_.reset();  // commits what is queued
    EXPECT_EQ(log, std::vector<std::string>{"box"});
    Reopen();
    EXPECT_EQ(store_->LoadSandboxes()->size(), 1U);
}

}  // namespace
}  // namespace sbxfs
