// The fake supervisor's Store keeps the promises of the real one, which the tests of what rests on it take for granted.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <string>

#include "sandbox/no_commands.h"
#include "tests/fakes/fake_files.h"
#include "tests/fakes/fake_supervisor.h"
#include "tests/fakes/manual_loop.h"

namespace sbxfs {
namespace {

using ::sbxfs::testing::FakeFiles;
using ::sbxfs::testing::FakeSupervisor;
using ::sbxfs::testing::ManualLoop;

class FakeStore : public ::testing::Test {
 protected:
    FakeStore() {
        supervisor_.hello.stores = true;
        supervisor_.store = [this](const StoreRequest& request) { return files_.Store(request); };
        port_ = &supervisor_.Connect(listener_);
        files_.PutDir("/d");
    }
    void Ask(const StoreRequest& request) {
        got_.reset();
        port_->Store(request, [this](Result<StoredFile> stored) { got_ = std::move(stored); });
        loop_.Run();
    }
    ManualLoop loop_;
    FakeFiles files_{loop_};
    FakeSupervisor supervisor_{loop_};
    NoCommands listener_;
    SupervisorPort* port_ = nullptr;
    std::optional<Result<StoredFile>> got_;
};

TEST_F(FakeStore, MakesAFileWithAllItsBytesExactly) {
    Ask({.path = "/d/a", .mode = 06751, .atime = -5, .mtime = 7, .bytes = "bytes"});
    ASSERT_TRUE(got_ && *got_);
    EXPECT_EQ((*got_)->error, 0);
    EXPECT_TRUE((*got_)->made);
    EXPECT_EQ(files_.Content("/d/a"), "bytes");
    EXPECT_EQ((*got_)->identity.mode, S_IFREG | 06751U);
    EXPECT_EQ((*got_)->identity.size, 5U);
    EXPECT_EQ((*got_)->identity.mtime_ns, 7'000'000'000);
    EXPECT_NE((*got_)->identity.birth_ns, 0);
    EXPECT_EQ((*got_)->identity.ino, files_.Identity("/d/a").ino);
    EXPECT_EQ((*got_)->identity.ctime_ns, files_.Identity("/d/a").ctime_ns);
    EXPECT_EQ(files_.Stat("/d/a")->atime, -5);
    EXPECT_EQ(files_.Count("store /d/a 5"), 1U);
    EXPECT_EQ(supervisor_.stores().size(), 1U);
}

TEST_F(FakeStore, LeavesWhatIsThere) {
    files_.PutFile("/d/a", "old");
    files_.PutLink("/d/dangling", "/nowhere");
    for (const auto& [path, error] :
         {std::pair("/d/a", EEXIST), std::pair("/d", EEXIST), std::pair("/d/dangling", EEXIST),
          std::pair("/d/none/a", ENOENT), std::pair("/d/a/b", ENOTDIR), std::pair("d/c", EINVAL)}) {
        Ask({.path = path, .bytes = "new"});
        ASSERT_TRUE(got_ && *got_) << path;
        EXPECT_EQ((*got_)->error, error) << path;
        EXPECT_FALSE((*got_)->made) << path;
    }
    EXPECT_EQ(files_.Content("/d/a"), "old");
    EXPECT_FALSE(files_.Exists("/nowhere"));
    files_.SetReadOnly(true);
    Ask({.path = "/d/b"});
    EXPECT_EQ((*got_)->error, EROFS);
}

TEST_F(FakeStore, WhatFailsHalfWayIsMadeAndStays) {
    files_.SetCapacity(3);
    Ask({.path = "/d/a", .mode = 0600, .bytes = "bytes"});
    ASSERT_TRUE(got_ && *got_);
    EXPECT_EQ((*got_)->error, ENOSPC);
    EXPECT_TRUE((*got_)->made);
    EXPECT_EQ((*got_)->identity.ino, files_.Identity("/d/a").ino);
    EXPECT_EQ(files_.Content("/d/a"), "");
    files_.SetCapacity(1 << 20);
    files_.FailNext("store /d/b", Error(Errno{EACCES}, "planned"));
    Ask({.path = "/d/b", .bytes = "bytes"});
    EXPECT_EQ((*got_)->error, EACCES);
    EXPECT_FALSE((*got_)->made);
    EXPECT_FALSE(files_.Exists("/d/b"));
    files_.FailNext("store bytes /d/b", Error(Errno{EIO}, "planned"));
    Ask({.path = "/d/b", .bytes = "bytes"});
    EXPECT_EQ((*got_)->error, EIO);
    EXPECT_TRUE((*got_)->made);
    EXPECT_TRUE(files_.Exists("/d/b"));
}

TEST_F(FakeStore, ACutFindsItDoneOrNot) {
    supervisor_.HoldStores(true);
    int lost = 0;
    for (const char* path : {"/d/a", "/d/b", "/d/c"}) {
        port_->Store({.path = path, .bytes = "bytes"}, [&](const Result<StoredFile>& stored) {
            lost += !stored && stored.error().code() == Errno{EHOSTUNREACH} ? 1 : 0;
        });
    }
    loop_.Run();
    EXPECT_EQ(supervisor_.HeldStores(), (std::vector<std::string>{"/d/a", "/d/b", "/d/c"}));
    supervisor_.LoseStoreAnswer(1);
    supervisor_.ReleaseStore();
    EXPECT_EQ(lost, 0);
    EXPECT_EQ(supervisor_.HeldStores(), std::vector<std::string>{"/d/c"});
    supervisor_.Disconnect();
    loop_.Run();
    EXPECT_EQ(lost, 2);
    EXPECT_TRUE(files_.Exists("/d/a"));
    EXPECT_TRUE(files_.Exists("/d/b"));
    EXPECT_FALSE(files_.Exists("/d/c"));
    EXPECT_TRUE(supervisor_.HeldStores().empty());
}

}  // namespace
}  // namespace sbxfs
