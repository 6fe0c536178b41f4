// Caches of fs/ around commands (contract 5, "Consistency"), and what they save.
#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <thread>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The notifications a kernel would get.
class Told final : public KernelNotifier {
 public:
    struct Log {
        Mutex mu{LockRank{2}};
        int names GUARDED_BY(mu) = 0;
        std::vector<Ino> attributes GUARDED_BY(mu);
        std::vector<Ino> pages GUARDED_BY(mu);
    };
    explicit Told(std::shared_ptr<Log> log) : log_(std::move(log)) {}
    bool ForgetNames() override {
        const MutexLock lock(log_->mu);
        ++log_->names;
        return true;
    }
    void ForgetAttributes(Ino ino) override {
        const MutexLock lock(log_->mu);
        log_->attributes.push_back(ino);
    }
    void ForgetPages(Ino ino) override {
        const MutexLock lock(log_->mu);
        log_->pages.push_back(ino);
    }

 private:
    const std::shared_ptr<Log> log_;
};

class Caches : public MountTest {
 protected:
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        files().PutFile("/work/a", "hello");
        files().PutFile("/work/b", "world");
        files().PutLink("/work/l", "a");
        files().PutFile("/work/d/c", "deep");
        Advance(seconds(5));  // none of it is recent
        DropCaches();
    }
    // Equal size, and the mtime it had.
    void Rewrite(const std::string& path, const std::string& text) {
        const std::int64_t mtime = files().Stat(path)->mtime;
        files().PutFile(path, text);
        files().SetTimes(path, mtime);
    }
    void Replace(const std::string& path, const std::string& bytes) {
        files().Remove(path);
        files().PutFile(path, bytes);
    }
    std::uint64_t Trips() { return files().RoundTrips(); }
    // fstat(2).
    std::uint64_t SizeOf(Client::File& file) {
        const auto answer =
            me().Finish(me().Ask<AttrReply>("fstat", file.ino(), "", [&](AttrReply reply) {
                me().fs().GetAttr(file.ino(), file.opened().handle, std::move(reply));
            }));
        return answer.entry.attr.size;
    }
    // Whether open(2) lets the kernel keep what it has of the file.
    bool KeepsPages(const std::string& path) {
        return me().Open(path, O_RDONLY)->opened().keep_cache;
    }
    void SetOthers(std::size_t count) { supervisor().others.resize(count); }
};

TEST_F(Caches, AListingAndAStatOfEachEntryCostTheListingOnly) {
    const std::uint64_t before = files().Log().size();
    EXPECT_EQ(me().ListPlus("/box/fs/work").size(), 4U);
    for (const char* name : {"a", "b", "l", "d"})
        (void)me().Stat(std::string("/box/fs/work/") + name);
    EXPECT_EQ(me().Look("/box/fs/work/none"), ENOENT);
    // The way there, then one listing.
    EXPECT_EQ(files().Log().size() - before, 2U);
}

TEST_F(Caches, ASecondWalkWhileQuietAsksNothing) {
    const auto walk = [this] {
        for (const char* dir : {"/box/fs/work", "/box/fs/work/d"}) {
            for (const std::string& name : me().ListPlus(dir))
                (void)me().Stat(std::string(dir) + "/" + name);
        }
        EXPECT_EQ(me().ReadLink("/box/fs/work/l"), "a");
    };
    walk();
    const std::uint64_t before = files().Log().size();
    walk();
    EXPECT_EQ(files().Log().size(), before);
    Advance(seconds(21));
    walk();
    EXPECT_GT(files().Log().size(), before);
}

TEST_F(Caches, WhatIsNotQuietIsAtMostASecondOld) {
    SetOthers(1);
    Command([] {});
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 5U);
    files().PutFile("/work/a", "longer than before");
    Advance(seconds(1));
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 18U);
}

TEST_F(Caches, AProcessThatAppearsWhileFilesAreUsedEndsTheQuiet) {
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 5U);
    SetOthers(1);
    files().PutFile("/work/a", "longer than before");
    Advance(seconds(1));
    (void)me().Stat("/box/fs/work/a");
    Advance(milliseconds(1001));
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 18U);
}

TEST_F(Caches, QuietReturnsWhenTheLastProcessIsGone) {
    SetOthers(1);
    Command([] {});
    (void)me().Stat("/box/fs/work/a");
    SetOthers(0);
    Advance(seconds(1));
    (void)me().Stat("/box/fs/work/a");
    Settle();
    (void)me().Stat("/box/fs/work/a");
    const std::uint64_t before = files().Log().size();
    Advance(seconds(10));
    (void)me().Stat("/box/fs/work/a");
    EXPECT_EQ(files().Log().size(), before);
}

TEST_F(Caches, ARewriteOfEqualSizeAndMtimeByACommandIsSeenAtItsEnd) {
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
    EXPECT_TRUE(KeepsPages("/box/fs/work/a"));
    Command([this] { Rewrite("/work/a", "HELLO"); });
    EXPECT_FALSE(KeepsPages("/box/fs/work/a"));
    EXPECT_TRUE(KeepsPages("/box/fs/work/a"));  // what was read since is of now
}

TEST_F(Caches, PagesOfAFileThatACommandLeftAloneStay) {
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
    EXPECT_EQ(me().Cat("/box/fs/work/b"), "world");
    Command([this] { Rewrite("/work/b", "WORLD"); });
    EXPECT_TRUE(KeepsPages("/box/fs/work/a"));
    Command([] {});
    EXPECT_TRUE(KeepsPages("/box/fs/work/a"));
}

TEST_F(Caches, PagesAreNotTrustedWhenTheFileChangedWithinTheSecondBeforeTheCommand) {
    files().PutFile("/work/new", "12345");
    EXPECT_EQ(me().Cat("/box/fs/work/new"), "12345");
    Command([] {});
    EXPECT_FALSE(KeepsPages("/box/fs/work/new"));
}

TEST_F(Caches, WithoutASupervisorNoPageOutlivesACommand) {
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
    ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
    Settle();
    machine().CutSupervisor();
    Settle();
    EXPECT_FALSE(KeepsPages("/box/fs/work/a"));
}

TEST_F(Caches, WhileNotQuietOpenComparesIdentities) {
    SetOthers(1);
    Command([] {});
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
    EXPECT_TRUE(KeepsPages("/box/fs/work/a"));
    Rewrite("/work/a", "HELLO");
    EXPECT_FALSE(KeepsPages("/box/fs/work/a"));
}

// A file that had just changed when it was opened was fetched anew every second, for as long as it was read.
TEST_F(Caches, WhileNotQuietAFileThatHadJustChangedIsFetchedAnewUntilItIsOlder) {
    SetOthers(1);
    Command([] {});
    const std::string bytes(1U << 20, 'x');
    files().PutFile("/work/fresh", bytes);
    const auto file = me().Open("/box/fs/work/fresh", O_RDONLY);
    const auto read = [&] {
        const std::size_t before = files().Count("read /work/fresh");
        EXPECT_EQ(file->ReadAt(0, 4096), bytes.substr(0, 4096));
        return files().Count("read /work/fresh") - before;
    };
    EXPECT_GT(read(), 0U);
    Advance(milliseconds(1100));
    EXPECT_GT(read(), 0U);
    for (int i = 0; i < 10; ++i) {
        Advance(milliseconds(600));
        EXPECT_EQ(read(), 0U);
    }
    files().PutFile("/work/fresh", std::string(1U << 20, 'y'));
    Advance(milliseconds(600));
    (void)file->ReadAt(0, 4096);  // looks at it
    Settle();
    EXPECT_EQ(file->ReadAt(0, 4096), std::string(4096, 'y'));
}

TEST_F(Caches, AfterACommandManyPathsAreLookedAtInOneQuestion) {
    for (int i = 0; i < 50; ++i)
        files().PutFile("/work/many/" + std::to_string(i), "x");
    Advance(seconds(5));
    DropCaches();
    EXPECT_EQ(me().ListPlus("/box/fs/work/many").size(), 50U);
    Command([] {});
    const std::size_t looks = supervisor().looks().size();
    const std::uint64_t before = files().Log().size();
    EXPECT_EQ(me().ListPlus("/box/fs/work/many").size(), 50U);
    for (int i = 0; i < 50; ++i)
        (void)me().Stat("/box/fs/work/many/" + std::to_string(i));
    EXPECT_EQ(supervisor().looks().size() - looks, 1U);
    EXPECT_EQ(files().Log().size(), before);
}

TEST_F(Caches, WhatACommandMadeRemovedAndReplacedIsSeenAtItsEnd) {
    EXPECT_EQ(me().ListPlus("/box/fs/work").size(), 4U);
    EXPECT_EQ(me().Look("/box/fs/work/new"), ENOENT);
    EXPECT_EQ(me().ReadLink("/box/fs/work/l"), "a");
    Command([this] {
        files().PutFile("/work/new", "n");
        files().Remove("/work/b");
        files().Remove("/work/l");
        files().PutLink("/work/l", "new");
    });
    EXPECT_EQ(me().Look("/box/fs/work/new"), 0);
    EXPECT_EQ(me().Look("/box/fs/work/b"), ENOENT);
    EXPECT_EQ(me().ReadLink("/box/fs/work/l"), "new");
    EXPECT_EQ(me().ListPlus("/box/fs/work").size(), 4U);
}

TEST_F(Caches, OwnChangesAreSeenAtOnce) {
    EXPECT_EQ(me().ListPlus("/box/fs/work").size(), 4U);
    EXPECT_EQ(me().Echo("more text", "/box/fs/work/a"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 9U);
    EXPECT_EQ(me().Mkdir("/box/fs/work/m"), 0);
    EXPECT_EQ(me().Unlink("/box/fs/work/b"), 0);
    EXPECT_EQ(me().Rename("/box/fs/work/d", "/box/fs/work/e"), 0);
    EXPECT_EQ(me().Look("/box/fs/work/b"), ENOENT);
    EXPECT_EQ(me().Look("/box/fs/work/d"), ENOENT);
    EXPECT_EQ(me().Cat("/box/fs/work/e/c"), "deep");
    EXPECT_EQ(me().List("/box/fs/work").size(), 4U);
    const auto file = me().Open("/box/fs/work/a", O_RDWR);
    EXPECT_EQ(file->Write("and then some"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 13U);
}

TEST_F(Caches, AFileWrittenHereIsKnownWhenItIsClosed) {
    EXPECT_EQ(me().ListPlus("/box/fs/work").size(), 4U);
    EXPECT_EQ(me().Echo("text", "/box/fs/work/a"), 0);
    Settle();
    const std::size_t stats = files().Count("lstat");
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 4U);
    EXPECT_EQ(files().Count("lstat"), stats);
}

TEST_F(Caches, AnotherNameOfAFileIsAskedForEachTime) {
    EXPECT_EQ(me().Link("/box/fs/work/a", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/h").size, 5U);
    EXPECT_EQ(me().Echo("more text", "/box/fs/work/a"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/h").size, 9U);
}

TEST_F(Caches, AFileThatIsOpenedWithOCreatStillHasItsOtherNames) {
    EXPECT_EQ(me().Link("/box/fs/work/a", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Create("/box/fs/work/h", O_CREAT | O_WRONLY)->error(), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/h").size, 5U);
    EXPECT_EQ(me().Echo("more text", "/box/fs/work/a"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/h").size, 9U);
}

TEST_F(Caches, PagesAreNotKeptOfAFileThatIsWrittenThroughAnotherName) {
    EXPECT_EQ(me().Link("/box/fs/work/a", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Echo("hallo", "/box/fs/work/h"), 0);
    EXPECT_FALSE(KeepsPages("/box/fs/work/a"));
    EXPECT_EQ(me().Echo("hullo", "/box/fs/work/h"), 0);  // size and second are the same
    EXPECT_FALSE(KeepsPages("/box/fs/work/a"));
}

TEST_F(Caches, RenamingOneNameOfAFileToAnotherOfItsNamesLeavesBoth) {
    EXPECT_EQ(me().Link("/box/fs/work/a", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().List("/box/fs/work").size(), 5U);
    EXPECT_EQ(me().Rename("/box/fs/work/a", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 5U);
    EXPECT_EQ(me().Stat("/box/fs/work/h").size, 5U);
    EXPECT_EQ(me().List("/box/fs/work").size(), 5U);
}

TEST_F(Caches, ADirectoryThatMovesTakesTheOtherNamesInItAlong) {
    EXPECT_EQ(me().Link("/box/fs/work/d/c", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Rename("/box/fs/work/d", "/box/fs/work/e"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/e/c").size, 4U);
    EXPECT_EQ(me().Echo("deeper", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/e/c").size, 6U);
}

TEST_F(Caches, AnOpenFileWhoseNameIsGoneMayBeWrittenThroughAnother) {
    EXPECT_EQ(me().Link("/box/fs/work/a", "/box/fs/work/h"), 0);
    const auto file = me().Open("/box/fs/work/h", O_RDONLY);
    EXPECT_EQ(me().Unlink("/box/fs/work/h"), 0);
    EXPECT_EQ(SizeOf(*file), 5U);
    EXPECT_EQ(me().Echo("more text", "/box/fs/work/a"), 0);
    EXPECT_EQ(SizeOf(*file), 9U);
}

TEST_F(Caches, OtherNamesAreNotForgottenWhenARenameOfTheirDirectoryFails) {
    EXPECT_EQ(me().Mkdir("/box/fs/work/e"), 0);
    EXPECT_EQ(me().Link("/box/fs/work/d/c", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Rename("/box/fs/work/e", "/box/fs/work/d"), ENOTEMPTY);
    EXPECT_EQ(me().Stat("/box/fs/work/d/c").size, 4U);
    EXPECT_EQ(me().Echo("deeper", "/box/fs/work/h"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/d/c").size, 6U);
}

TEST_F(Caches, ALockTakenWhileNotQuietForgetsItsDirectory) {
    SetOthers(1);
    Command([] {});
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 5U);
    files().PutFile("/work/a", "of the other side");
    const auto lock = me().Create("/box/fs/work/lock", O_CREAT | O_EXCL | O_WRONLY);
    EXPECT_EQ(lock->error(), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 17U);
}

TEST_F(Caches, DropCachesForgetsAtOnce) {
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 5U);
    files().PutFile("/work/a", "longer than before");
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 5U);  // quiet, as far as anybody can tell
    DropCaches();
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 18U);
}

TEST_F(Caches, FstatOfAnOpenFileIsOfThatFileAlsoWhenACommandReplacedIt) {
    const auto file = me().Open("/box/fs/work/a", O_RDONLY);
    Command([this] {
        files().Remove("/work/a");
        files().PutFile("/work/a", "another one");
    });
    EXPECT_EQ(SizeOf(*file), 5U);
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 11U);
}

// --- Room

TEST_F(Caches, StatfsIsAnsweredFromMemoryWhileTheSandboxIsSilent) {
    const Ino work = me().InoOf("/box/fs/work");
    const auto ask = [&] {
        return me().Ask<StatfsReply>("statfs", work, "", [&](StatfsReply reply) {
            me().fs().Statfs(work, std::move(reply));
        });
    };
    EXPECT_EQ(me().Finish(ask()).kind, "statfs");
    const std::size_t asked = files().Count("statfs");
    EXPECT_EQ(me().Finish(ask()).kind, "statfs");
    EXPECT_EQ(files().Count("statfs"), asked);  // a moment ago
    Advance(seconds(2));
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const RecordingPtr waits = ask();
    (void)world_.loop.Run();
    EXPECT_FALSE(waits->answered());
    Advance(milliseconds(300));
    EXPECT_TRUE(waits->answered());
    // Whoever comes while that question is open does not wait at all.
    const RecordingPtr next = ask();
    EXPECT_TRUE(next->answered());
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_EQ(me().Finish(ask()).kind, "statfs");
}

// --- What the kernel may hold

class KernelLeases : public Caches {
 protected:
    void SetUp() override {
        Caches::SetUp();
        context().kernel_cache.Connect(std::make_unique<Told>(log_));
        Probed();
        Advance(seconds(5));
        DropCaches();
        Settle();
    }
    MountContext& context() { return mount().context(); }
    void Probed() {
        const auto deadline = std::chrono::steady_clock::now() + seconds(5);
        while (Names() == 0 && std::chrono::steady_clock::now() < deadline)
            std::this_thread::yield();
    }
    int Names() {
        const MutexLock lock(log_->mu);
        return log_->names;
    }
    std::vector<Ino> Pages() {
        const MutexLock lock(log_->mu);
        return log_->pages;
    }
    std::vector<Ino> Attributes() {
        const MutexLock lock(log_->mu);
        return log_->attributes;
    }
    // The kernel's threads answer the loop.
    void Until(const std::function<bool()>& condition) {
        const auto deadline = std::chrono::steady_clock::now() + seconds(5);
        while (!condition() && std::chrono::steady_clock::now() < deadline)
            Settle();
        EXPECT_TRUE(condition());
    }
    Lease LeaseOf(const std::string& path) {
        const Ino ino = me().InoOf(path);
        return me()
            .Finish(me().Ask<AttrReply>(
                "getattr", ino, "",
                [&](AttrReply reply) { me().fs().GetAttr(ino, Handle{}, std::move(reply)); }))
            .entry.lease;
    }
    const std::shared_ptr<Told::Log> log_ = std::make_shared<Told::Log>();
};

TEST_F(KernelLeases, AreGivenForASecondWhileQuiet) {
    Until([&] { return LeaseOf("/box/fs/work/a").attributes == seconds(1); });
    EXPECT_EQ(LeaseOf("/box/fs/work/a").name, seconds(1));
    EXPECT_EQ(LeaseOf("/box/status").attributes, seconds(0));
}

TEST_F(KernelLeases, OfControlEntriesAreShortAndOnlyOfWhatChangesInNothingButTimes) {
    using std::chrono::milliseconds;
    ASSERT_EQ(me().Echo("true", "/box/cmd"), 0);
    for (const char* fixed : {"/box", "/box/run", "/box/events", "/box/config", "/.mount"}) {
        EXPECT_EQ(LeaseOf(fixed).name, milliseconds(100)) << fixed;
        EXPECT_EQ(LeaseOf(fixed).attributes, milliseconds(100)) << fixed;
    }
    for (const char* goes : {"/box/events/1", "/box/config/env", "/.mount/history", "/box/cmd"}) {
        EXPECT_EQ(LeaseOf(goes).name, seconds(0)) << goes;
        EXPECT_EQ(LeaseOf(goes).attributes, milliseconds(100)) << goes;
    }
    for (const char* asked : {"/", "/box/events/1/stdout", "/box/events/1/status", "/box/ttl",
                              "/box/events/log.jsonl"}) {
        EXPECT_EQ(LeaseOf(asked).name, seconds(0)) << asked;
        EXPECT_EQ(LeaseOf(asked).attributes, seconds(0)) << asked;
    }
}

TEST_F(KernelLeases, AreNotGivenWhileACommandRuns) {
    ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
    Until([&] { return !supervisor().starts().empty(); });
    EXPECT_EQ(LeaseOf("/box/fs/work/a").attributes, seconds(0));
    supervisor().Run(1);
    Until([&] { return me().Cat("/box/events/1/status") == "exited\n"; });
    EXPECT_EQ(LeaseOf("/box/fs/work/a").attributes, seconds(1));
}

TEST_F(KernelLeases, AreTakenBackBeforeACommandStarts) {
    Until([&] { return LeaseOf("/box/fs/work/a").attributes == seconds(1); });
    const int names = Names();
    ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
    Until([&] { return !supervisor().starts().empty(); });
    EXPECT_GT(Names(), names);
    const std::vector<Ino> told = Attributes();
    EXPECT_NE(std::find(told.begin(), told.end(), me().InoOf("/box/fs/work/a")), told.end());
    supervisor().Run(1);
    Until([&] { return me().Cat("/box/events/1/status") == "exited\n"; });
}

TEST_F(KernelLeases, PagesOfOpenFilesAreDroppedBeforeAStatusLeavesRunning) {
    const auto file = me().Open("/box/fs/work/a", O_RDONLY);
    ASSERT_EQ(me().Echo("x", "/box/cmd"), 0);
    Until([&] { return !supervisor().starts().empty(); });
    EXPECT_TRUE(Pages().empty());
    supervisor().Run(1);
    Until([&] { return me().Cat("/box/events/1/status") == "exited\n"; });
    EXPECT_EQ(Pages(), std::vector<Ino>{file->ino()});
}

TEST_F(Caches, PagesReadThroughAHandleOfTheReplacedFileAreNotShownToThoseWhoOpenTheNewOne) {
    const auto old = me().Open("/box/fs/work/a", O_RDONLY);
    Command([this] { Replace("/work/a", "HELLO"); });
    (void)KeepsPages("/box/fs/work/a");
    EXPECT_EQ(old->Read(), "hello");
    EXPECT_FALSE(KeepsPages("/box/fs/work/a"));
}

TEST_F(Caches, AWriteToAReplacedFileSaysNothingOfTheOneInItsPlace) {
    {
        const auto log = me().Open("/box/fs/work/a", O_WRONLY | O_APPEND);
        Command([this] { Replace("/work/a", ""); });
        EXPECT_EQ(log->Write("a line"), 0);
    }
    Settle();
    EXPECT_EQ(me().Stat("/box/fs/work/a").size, 0U);
}

}  // namespace
}  // namespace sbxfs::testing
