// CachedFiles without a mount: what a walk costs in round trips, and what open and read answer from memory.
#include "sandbox/cached_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>
#include <optional>
#include <string>

#include "sandbox/linked_files.h"
#include "sandbox/no_commands.h"
#include "tests/fakes/fake_files.h"
#include "tests/fakes/fake_supervisor.h"
#include "tests/fakes/manual_loop.h"

namespace sbxfs::testing {
namespace {

using std::chrono::seconds;

class CachedTree : public ::testing::Test {
 protected:
    CachedTree() {
        for (int d = 0; d < 40; ++d) {
            for (int f = 0; f < 20; ++f)
                files_.PutFile(Path(d, f), Text(d, f));
        }
        supervisor_.look = [this](const std::string& path) { return files_.Identity(path); };
        linked_->SetWitness(cached_);
        linked_->Up(files_);
        cached_->SupervisorUp(supervisor_.Connect(no_commands_), supervisor_.hello);
        cached_->Settled(0);
        loop_.Advance(seconds(5));
        EXPECT_TRUE(cached_->cache().IsQuiet());
    }
    ~CachedTree() override {
        cached_->SupervisorLost();
        linked_->Cut();
        loop_.Run();
        loop_.Clear();
    }

    static std::string Dir(int d) { return "/t/d" + std::to_string(10 + d); }
    static std::string Path(int d, int f) { return Dir(d) + "/f" + std::to_string(10 + f); }
    static std::string Text(int d, int f) {
        return "text " + std::to_string(d) + "." + std::to_string(f);
    }

    std::vector<std::string> List(const std::string& path) {
        std::vector<std::string> names;
        if (const auto known = cached_->KnownList(path)) {
            for (const auto& name : *known)
                names.push_back(name.name);
            return names;
        }
        cached_->For({}).List(path, [&](const Result<std::vector<RemoteEntry>>& entries) {
            if (!entries) return;
            for (const RemoteEntry& entry : *entries)
                names.push_back(entry.name);
        });
        loop_.Run();
        return names;
    }
    RemoteFilePtr Open(const std::string& path) {
        OpenHow how;
        how.read = true;
        (void)cached_->KnownStat(path);
        if (auto known = cached_->KnownOpen(path, how)) return known->file;
        RemoteFilePtr file;
        cached_->For({}).OpenVerified(path, how, CachedFiles::Asker::Verify::kNo,
                                      [&](const Result<CachedFiles::Opened>& opened) {
                                          if (opened) file = opened->file;
                                      });
        loop_.Run();
        return file;
    }
    std::string ReadAt(const RemoteFilePtr& file, std::uint64_t offset, std::size_t size) {
        std::string bytes = "<nothing>";
        const auto known = CachedFiles::KnownBytes(file, {{offset, size}, 0, true});
        if (known) {
            bytes.clear();
            for (const ContentSlice& slice : *known)
                bytes.append(*slice.bytes, slice.at, slice.size);
            return bytes;
        }
        cached_->For({}).Read(file, {offset, size}, [&](Result<std::string> read) {
            bytes = read ? std::move(*read) : "<" + read.error().what() + ">";
        });
        loop_.Run();
        return bytes;
    }
    void Close(const RemoteFilePtr& file) {
        cached_->For({}).Close(file, [](const Status&) {});
    }
    std::string Cat(const std::string& path) {
        const RemoteFilePtr file = Open(path);
        if (file == nullptr) return "<none>";
        std::string bytes = ReadAt(file, 0, 4096);
        Close(file);
        return bytes;
    }
    void Walk() {
        (void)List("/t");
        for (int d = 0; d < 40; ++d) {
            (void)List(Dir(d));
            for (int f = 0; f < 20; ++f)
                ASSERT_EQ(Cat(Path(d, f)), Text(d, f));
        }
    }

    ManualLoop loop_;
    FakeFiles files_{loop_};
    FakeSupervisor supervisor_{loop_};
    NoCommands no_commands_;
    const std::shared_ptr<LinkedFiles> linked_ =
        std::make_shared<LinkedFiles>(loop_, LinkedFiles::Timeouts{});
    static CachedFiles::Setup OfBox() {
        CachedFiles::Setup setup;
        setup.box = Generation{1};
        return setup;
    }
    const std::shared_ptr<CachedFiles> cached_ =
        std::make_shared<CachedFiles>(loop_, linked_, OfBox());
};

TEST_F(CachedTree, AWalkThatReadsEightHundredFilesWaitsAFewTimes) {
    const std::uint64_t before = files_.RoundTrips();
    Walk();
    EXPECT_LE(files_.RoundTrips() - before, 60U);
    EXPECT_LE(files_.Count("open /t/"), 810U);
}

// As cp -r goes, by numbers of inodes: in no order that could be known here.
TEST_F(CachedTree, AWalkThatGoesAnotherWayThanByNameWaitsAFewTimesToo) {
    const std::uint64_t before = files_.RoundTrips();
    (void)List("/t");
    for (int i = 0; i < 40; ++i) {
        const int d = (i * 17 + 5) % 40;
        (void)List(Dir(d));
        for (int k = 0; k < 20; ++k) {
            const int f = (k * 7 + 3) % 20;
            ASSERT_EQ(Cat(Path(d, f)), Text(d, f));
        }
    }
    EXPECT_LE(files_.RoundTrips() - before, 60U);
    EXPECT_LE(files_.Count("open /t/"), 810U);
}

TEST_F(CachedTree, ASecondWalkAsksNothing) {
    Walk();
    Walk();
    const std::size_t before = files_.Log().size();
    Walk();
    EXPECT_EQ(files_.Log().size(), before);
}

TEST_F(CachedTree, NamesAskedForOneAfterAnotherHaveTheirDirectoriesListed) {
    const auto stat = [this](const std::string& path) {
        if (cached_->KnownStat(path)) return;
        cached_->For({}).Lstat(path, [](const Result<RemoteStat>&) {});
        loop_.Run();
    };
    const std::uint64_t before = files_.RoundTrips();
    stat("/t");
    for (int d = 0; d < 40; ++d) {
        stat(Dir(d));
        for (int f = 0; f < 20; ++f)
            stat(Path(d, f));
    }
    EXPECT_LE(files_.RoundTrips() - before, 20U);
}

TEST_F(CachedTree, AFileOpenedTwiceIsAskedForOnce) {
    EXPECT_EQ(Cat(Path(0, 0)), Text(0, 0));
    const std::size_t before = files_.Log().size();
    EXPECT_EQ(Cat(Path(0, 0)), Text(0, 0));
    loop_.Run();
    EXPECT_EQ(files_.Count("open /t/"), 1U);
    EXPECT_LE(files_.Log().size(), before + 1);  // the CLOSE of the first
}

TEST_F(CachedTree, ALargeFileReadInOrderWaitsAFewTimes) {
    std::string bytes;
    while (bytes.size() < (16U << 20))
        bytes += std::to_string(bytes.size()) + ",";
    files_.PutFile("/t/large", bytes);
    loop_.Advance(seconds(5));
    const RemoteFilePtr file = Open("/t/large");
    const std::uint64_t before = files_.RoundTrips();
    std::string read;
    while (read.size() < bytes.size()) {
        const std::string more = ReadAt(file, read.size(), 128U << 10);
        ASSERT_FALSE(more.empty());
        read += more;
    }
    EXPECT_TRUE(read == bytes);
    EXPECT_EQ(ReadAt(file, bytes.size(), 4096), "");
    EXPECT_LE(files_.RoundTrips() - before, 10U);
    Close(file);
}

}  // namespace
}  // namespace sbxfs::testing
