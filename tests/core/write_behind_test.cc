// Changes that are answered before the sandbox has them (contract 5, "Write-behind"): what is answered at once, what
// waits for what, and what becomes of those that come to nothing.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <algorithm>

#include "sandbox/content_store.h"
#include "tests/support/behind_test.h"

namespace sbxfs::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_F(Behind, AFileIsMadeWrittenAndClosedWhileTheSandboxIsSilent) {
    Hold();
    EXPECT_EQ(me().Echo("hello", "/box/fs/work/new"), 0);
    EXPECT_EQ(me().Mkdir("/box/fs/work/dir"), 0);
    EXPECT_EQ(me().Symlink("new", "/box/fs/work/link"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/new").size, 5U);
    EXPECT_EQ(me().Look("/box/fs/work/dir/none"), ENOENT);
    EXPECT_FALSE(files().Exists("/work/new"));
    LetGo();
    EXPECT_EQ(files().Content("/work/new"), "hello");
    EXPECT_TRUE(files().Exists("/work/dir"));
    EXPECT_EQ(files().OpenFiles(), 0U);
}

TEST_F(Behind, FsyncWaitsForTheFileAndForTheWholeSandbox) {
    Hold();
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->error(), 0);
    ASSERT_EQ(file->Write("hello"), 0);
    const auto sync = me().Ask<EmptyReply>("fsync", file->ino(), "", [&](EmptyReply reply) {
        me().fs().Fsync(file->opened().handle, std::move(reply));
    });
    Settle();
    EXPECT_FALSE(sync->Now().has_value());
    LetGo();
    EXPECT_EQ(me().FinishCode(sync), 0);
    EXPECT_EQ(files().Content("/work/new"), "hello");
}

// A save as editors make it: whatever goes wrong, the old content or the new one, never a third.
TEST_F(Behind, AReplacementIsNotSentBeforeWhatReplacesIsThere) {
    Hold();
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/old.tmp"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    EXPECT_FALSE(IsHeld("rename"));
    EXPECT_EQ(me().Stat("/box/fs/work/old").size, 11U);
    LetGo();
    EXPECT_EQ(files().Content("/work/old"), "new content");
    EXPECT_FALSE(files().Exists("/work/old.tmp"));
}

TEST_F(Behind, AReplacementIsNeverSentWhenWhatReplacesWasLost) {
    Hold();
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/old.tmp"), 0);
    ASSERT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    files().Release();  // made
    Settle();
    FailHeld("write", Error(Errno{ENOSPC}, "no space left there", Blame::kRemote));
    LetGo();
    EXPECT_EQ(files().Content("/work/old"), "old");
    EXPECT_EQ(files().Count("rename"), 0U);
    // Reported: here, and there, and to the next command, which would not have seen it.
    EXPECT_NE(LastError().find("this change was lost: while write /work/old.tmp"),
              std::string::npos)
        << LastError();
    EXPECT_EQ(me().Echo("x", "/box/fs/work/more"), EIO);
    EXPECT_NE(me().Cat("/box/error").find("no space left there"), std::string::npos);
    Settle();
    EXPECT_EQ(me().Echo("x", "/box/fs/work/more"), 0);
    EXPECT_EQ(me().Cat("/box/error"), "");
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_EQ(StatusOf(1), "refused\n");
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_EQ(StatusOf(2), "queued\n");
}

TEST_F(Behind, ALateErrorIsToldToWhoHasTheFileOpen) {
    Hold();
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("hello"), 0);
    files().Release();
    Settle();
    FailHeld("write", Error(Errno{ENOSPC}, "no space left there", Blame::kRemote));
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    Settle();
    EXPECT_EQ(file->Flush(), ENOSPC);
    (void)me().Cat("/box/error");
    Settle();
}

// By its name: after the first loss was heard of, there was a second one, of a file that had never been there.
TEST_F(Behind, NothingIsSentToAFileThatCouldNotBeMade) {
    Hold();
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("hello"), 0);
    AttrChange change;
    change.mode = 0600;
    ASSERT_EQ(me().SetAttr(file->ino(), change), 0);
    FailHeld("open", Error(Errno{EROFS}, "read-only file system"));
    Settle();
    EXPECT_FALSE(IsHeld("setstat"));
    LetGo();
    EXPECT_EQ(file->Flush(), EROFS);
    EXPECT_EQ(files().Count("setstat"), 0U);
    (void)me().Cat("/box/error");
    Settle();
}

TEST_F(Behind, ACommandIsSentWhenWhatItMustSeeHasArrived) {
    Hold();
    ASSERT_EQ(me().Echo("hello", "/box/fs/work/new"), 0);
    ASSERT_EQ(me().Echo("cat new", "/box/cmd"), 0);
    Settle();
    EXPECT_FALSE(supervisor().Knows(1));
    LetGo();
    EXPECT_TRUE(supervisor().Knows(1));
    EXPECT_EQ(files().Content("/work/new"), "hello");
}

TEST_F(Behind, AfterAKillACommandWhoseFilesDidNotArriveIsRefusedAndNamesTheFirst) {
    Hold();
    ASSERT_EQ(me().Mkdir("/box/fs/work/lost"), 0);
    ASSERT_EQ(me().Echo("hello", "/box/fs/work/lost/file"), 0);
    ASSERT_EQ(me().Echo("cat lost/file", "/box/cmd"), 0);
    Settle();
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    Kill();
    Start();
    Settle();
    EXPECT_EQ(StatusOf(1), "refused\n");
    EXPECT_NE(me().Cat("/box/events/1/error").find("mkdir /work/lost"), std::string::npos);
    EXPECT_EQ(me().Echo("true", "/box/cmd"), 0);
    Settle();
    EXPECT_EQ(StatusOf(2), "queued\n");
}

// The loss was noticed before the rename was asked for.
TEST_F(Behind, WhatLacksSomethingTakesNoOthersPlace) {
    Hold();
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/old.tmp"), 0);
    files().Release();
    Settle();
    FailHeld("write", Error(Errno{EDQUOT}, "quota"));
    LetGo();
    EXPECT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), EIO);
    EXPECT_NE(me().Cat("/box/error"), "");
    Settle();
    EXPECT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), EIO)
        << "although it was heard of";
    EXPECT_EQ(files().Content("/work/old"), "old");
    EXPECT_EQ(me().Unlink("/box/fs/work/old.tmp"), 0);
}

// By a command, say; and made anew while changes wait, as they do after a loss.
TEST_F(Behind, AFileMadeAnewLacksNothing) {
    Hold();
    ASSERT_EQ(me().Echo("new content", "/box/fs/work/old.tmp"), 0);
    files().Release();
    Settle();
    FailHeld("write", Error(Errno{EDQUOT}, "quota"));
    LetGo();
    EXPECT_NE(me().Cat("/box/error"), "");
    Settle();
    files().Remove("/work/old.tmp");
    EXPECT_EQ(me().Echo("drop_caches", "/box/ctl"), 0);
    Settle();
    {
        auto anew = me().Create("/box/fs/work/old.tmp", O_WRONLY | O_EXCL);
        ASSERT_EQ(anew->Write("new content"), 0);
        ASSERT_EQ(anew->Flush(), 0);
    }
    EXPECT_EQ(me().Rename("/box/fs/work/old.tmp", "/box/fs/work/old"), 0);
    Settle();
    EXPECT_EQ(files().Content("/work/old"), "new content");
}

TEST_F(Behind, FsyncOfADirectoryTellsOfWhatWasLostMeanwhile) {
    const Ino work = me().InoOf("/box/fs/work");
    const Answer dir = me().Finish(me().StartOpenDir("/box/fs/work"));
    ASSERT_EQ(dir.error, 0);
    Hold();
    ASSERT_EQ(me().Mkdir("/box/fs/work/late"), 0);
    const auto sync = me().Ask<EmptyReply>("fsync", work, "", [&](EmptyReply reply) {
        me().fs().Fsync(dir.opened.handle, std::move(reply));
    });
    Settle();
    EXPECT_FALSE(sync->Now().has_value());
    FailHeld("mkdir", Error(Errno{EROFS}, "read-only file system"));
    LetGo();
    EXPECT_EQ(me().FinishCode(sync), EROFS);
    const Client::File released(me(), work, dir);
}

// A rename of a directory waits for its answer; what is made below it meanwhile must wait, too.
TEST_F(Behind, NothingIsMadeAheadBelowADirectoryThatIsBeingRenamed) {
    ASSERT_EQ(me().Mkdir("/box/fs/work/build"), 0);
    Settle();
    const Ino build = me().InoOf("/box/fs/work/build");
    const Ino work = me().InoOf("/box/fs/work");
    Hold();
    const auto moved = me().Ask<EmptyReply>("rename", work, "build", [&](EmptyReply reply) {
        me().fs().Rename(work, "build", work, "build.old", 0, std::move(reply));
    });
    Settle();
    const auto made = me().Ask<EntryReply>("mkdir", build, "x", [&](EntryReply reply) {
        me().fs().MakeDir(build, "x", 0755, std::move(reply));
    });
    Settle();
    EXPECT_FALSE(made->Now().has_value());
    LetGo();
    EXPECT_EQ(me().FinishCode(moved), 0);
    (void)me().FinishCode(made);
    EXPECT_EQ(me().Cat("/box/error"), "");
}

// The time that was shown stays; who wants the sandbox's own says so.
TEST_F(Behind, DropCachesForgetsTimesThatWereShownAhead) {
    Hold();
    ASSERT_EQ(me().Echo("hello", "/box/fs/work/new"), 0);
    const SystemTime shown = me().Stat("/box/fs/work/new").mtime;
    Advance(seconds(2));
    LetGo();
    Advance(seconds(2));
    EXPECT_EQ(me().Stat("/box/fs/work/new").mtime, shown);
    const SystemTime real{seconds(files().Stat("/work/new")->mtime)};
    ASSERT_NE(real, shown);
    DropCaches();
    EXPECT_EQ(me().Stat("/box/fs/work/new").mtime, real);
}

// Two files are compared by their mtimes: what is written after another one was seen is never shown as older. git takes such
// a change for none: `git add` in a loop beside `git commit` lost entries.
TEST_F(Behind, WhatIsWrittenLaterIsNotShownAsOlderThanWhatWasSeen) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    ASSERT_EQ(file->Write("1"), 0);
    Settle();
    // Near the end of a second of our clock the sandbox's, of which not all is known, may be in the next one.
    const SystemTime before = me().Stat("/box/fs/work/new").mtime;
    const auto now = [this] { return world_.loop.clock().System().time_since_epoch(); };
    Advance(seconds(1) - now() % seconds(1) - milliseconds(20));
    const std::int64_t next = now() / seconds(1) + 1;
    files().SetTimes("/work/old", next);
    DropCaches();
    Settle();
    const SystemTime seen = me().Stat("/box/fs/work/old").mtime;
    ASSERT_GT(seen, before);
    Hold();
    ASSERT_EQ(file->Write("2"), 0);
    EXPECT_GE(me().Stat("/box/fs/work/new").mtime, seen);
    LetGo();
}

TEST_F(Behind, ATimeThatWasShownIsNotThatOfALaterChangeInTheSameSecond) {
    auto file = me().Create("/box/fs/work/new", O_WRONLY);
    Settle();
    Hold();
    ASSERT_EQ(file->Write("1"), 0);
    const SystemTime shown = me().Stat("/box/fs/work/new").mtime;
    Advance(seconds(2));
    LetGo();
    const auto real = [this] { return SystemTime(seconds(files().Stat("/work/new")->mtime)); };
    ASSERT_NE(real(), shown);
    // It stays, whoever asks.
    Advance(seconds(30));
    EXPECT_EQ(me().Stat("/box/fs/work/new").mtime, shown);
    EXPECT_EQ(me().Stat("/box/fs/work/new").mtime, shown);
    const std::int64_t second = files().Stat("/work/new")->mtime;
    ASSERT_EQ(file->Write("2"), 0);
    Settle();
    files().SetTimes("/work/new", second);
    Advance(seconds(30));
    EXPECT_EQ(me().Stat("/box/fs/work/new").mtime, real());
}

TEST_F(Behind, WhereOthersWriteTooTheSandboxsOwnTimesAreShown) {
    supervisor().others.resize(1);
    Advance(seconds(3));
    auto file = me().Open("/box/fs/work/old", O_WRONLY);
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(file->Write("old"), 0);  // what must be known of its file system is asked
        Settle();
    }
    Hold();
    ASSERT_EQ(file->Write("new"), 0);
    const auto asked = me().Ask<AttrReply>("getattr", file->ino(), "", [&](AttrReply reply) {
        me().fs().GetAttr(file->ino(), Handle{}, std::move(reply));
    });
    Settle();
    EXPECT_FALSE(asked->Now().has_value());
    Advance(seconds(2));
    LetGo();
    ASSERT_EQ(me().FinishCode(asked), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/old").mtime,
              SystemTime(seconds(files().Stat("/work/old")->mtime)));
}

// The kernel asks for attributes before each write(2), with the handle; tar(1) sets times, owner and mode.
TEST_F(Behind, WhereOthersWriteTooAFileMadeHereIsWrittenAndSetWithoutWaiting) {
    supervisor().others.resize(1);
    Advance(seconds(3));
    // What must be known of its file system is asked.
    for (const char* name : {"/box/fs/work/one", "/box/fs/work/two", "/box/fs/work/three"}) {
        EXPECT_EQ(me().Echo("x", name), 0);
        Settle();
    }
    const auto file = me().Create("/box/fs/work/new", O_WRONLY | O_CREAT | O_EXCL, 0600);
    ASSERT_EQ(file->error(), 0);
    Hold();
    for (std::uint64_t size = 3; size <= 9; size += 3) {
        ASSERT_EQ(file->Write("abc"), 0);
        const auto asked = file->StartStat();
        Settle();
        ASSERT_TRUE(asked->Now().has_value());
        EXPECT_EQ(me().Finish(asked).entry.attr.size, size);
    }
    AttrChange times;
    times.mtime = SystemTime(seconds(1'000'000'000));
    AttrChange owner;
    owner.uid = 1000;
    AttrChange mode;
    mode.mode = 0640;
    // The kernel gives a handle with ftruncate(2) alone.
    for (const AttrChange& change : {times, owner, mode}) {
        const auto set = me().StartSetAttr(file->ino(), change);
        Settle();
        ASSERT_TRUE(set->Now().has_value());
        const Answer answer = me().Finish(set);
        ASSERT_EQ(answer.error, 0) << answer.why;
        EXPECT_EQ(answer.entry.attr.mtime, *times.mtime);
    }
    const auto flushed = file->StartFlush(7);
    Settle();
    EXPECT_FALSE(flushed->Now().has_value());
    LetGo();
    EXPECT_EQ(me().FinishCode(flushed), 0);
    EXPECT_EQ(file->Close(), 0);
    const auto stat = files().Stat("/work/new");
    EXPECT_EQ(stat->mode & 07777, 0640U);
    EXPECT_EQ(stat->mtime, 1'000'000'000);
    EXPECT_EQ(files().Content("/work/new"), "abcabcabc");
    EXPECT_EQ(me().Stat("/box/fs/work/new").mtime, SystemTime(seconds(1'000'000'000)));
}

// What cp -a and tar do with a directory that may not be written to; a server that is not root cannot change the mode of
// what is in it any more.
TEST_F(Behind, ADirectoryIsShutWhenWhatWasDoneBelowItHasArrived) {
    const auto chmod = [this](Ino ino, std::uint32_t mode) {
        AttrChange change;
        change.mode = mode;
        return me().SetAttr(ino, change);
    };
    Hold();
    ASSERT_EQ(me().Mkdir("/box/fs/work/dir"), 0);
    const Ino dir = me().InoOf("/box/fs/work/dir");
    {
        const auto file = me().Create("/box/fs/work/dir/file", O_WRONLY);
        ASSERT_EQ(file->Write("text"), 0);
        ASSERT_EQ(chmod(file->ino(), 0600), 0);
        ASSERT_EQ(file->Flush(), 0);
    }
    ASSERT_EQ(me().Mkdir("/box/fs/work/dir/sub"), 0);
    ASSERT_EQ(chmod(dir, 0500), 0);
    const auto is_last = [](const std::vector<std::string>& held) {
        return std::find(held.begin(), held.end(), "setstat /work/dir") != held.end();
    };
    while (!files().Held().empty() && !is_last(files().Held())) {
        files().Release();
        Settle();
    }
    EXPECT_EQ(files().Held().size(), 1U) << "what is below it is still under way";
    LetGo();
    EXPECT_EQ(files().Stat("/work/dir/file")->mode & 07777, 0600U);
    EXPECT_EQ(files().Stat("/work/dir")->mode & 07777, 0500U);
}

// Nothing else would have close(2) wait for it.
TEST_F(Behind, WhereOthersWriteTooTheModeOfAFileWithoutDataWaits) {
    supervisor().others.resize(1);
    Advance(seconds(3));
    for (const char* name : {"/box/fs/work/one", "/box/fs/work/two", "/box/fs/work/three"}) {
        EXPECT_EQ(me().Echo("x", name), 0);
        Settle();
    }
    const auto file = me().Create("/box/fs/work/new", O_WRONLY | O_CREAT | O_EXCL, 0600);
    ASSERT_EQ(file->error(), 0);
    Hold();
    AttrChange mode;
    mode.mode = 0640;
    const auto set = me().StartSetAttr(file->ino(), mode);
    Settle();
    EXPECT_FALSE(set->Now().has_value());
    LetGo();
    EXPECT_EQ(me().FinishCode(set), 0);
    EXPECT_EQ(files().Stat("/work/new")->mode & 07777, 0640U);
}

// Where it ends is the sandbox's to say: somebody there appends, too.
TEST_F(Behind, WhereOthersWriteTooAnAppenderThatReadsIsToldTheRealSize) {
    supervisor().others.resize(1);
    Advance(seconds(3));
    const auto file = me().Open("/box/fs/work/old", O_RDWR | O_APPEND);
    ASSERT_EQ(file->error(), 0);
    files().Append("/work/old", "theirs");
    ASSERT_EQ(file->Write("ours"), 0);
    Settle();
    const auto asked = file->StartStat();
    EXPECT_EQ(me().Finish(asked).entry.attr.size, files().Content("/work/old").size());
    EXPECT_EQ(files().Content("/work/old"), "oldtheirsours");
}

TEST_F(Behind, WhereOthersWriteTooTheDirectoryOfANameIsKnownAfterAChange) {
    supervisor().others.resize(1);
    Advance(seconds(3));
    EXPECT_EQ(me().Mkdir("/box/fs/work/one"), 0);
    const std::uint64_t before = files().RoundTrips();
    EXPECT_EQ(me().Stat("/box/fs/work").mtime, SystemTime(seconds(files().Stat("/work")->mtime)));
    EXPECT_EQ(files().RoundTrips(), before);
    EXPECT_EQ(me().Unlink("/box/fs/work/old"), 0);
    const std::uint64_t again = files().RoundTrips();
    (void)me().Stat("/box/fs/work");
    EXPECT_EQ(files().RoundTrips(), again);
}

TEST_F(Behind, NamesWaitForTheSandboxWhileSomethingElseLivesThere) {
    supervisor().others.resize(1);
    Advance(seconds(3));
    const Ino work = me().InoOf("/box/fs/work");
    Hold();
    const auto made = me().Ask<EntryReply>("mkdir", work, "dir", [&](EntryReply reply) {
        me().fs().MakeDir(work, "dir", 0755, std::move(reply));
    });
    Settle();
    EXPECT_FALSE(made->Now().has_value());
    LetGo();
    EXPECT_EQ(me().FinishCode(made), 0);
}

TEST_F(Behind, WhatIsKnownToFailFailsAtOnce) {
    EXPECT_EQ(me().Mkdir("/box/fs/work/old"), EEXIST);
    EXPECT_EQ(me().Rmdir("/box/fs/work"), ENOTEMPTY);
    std::string deep = "/work";
    for (const std::string name(250, 'd'); deep.size() + 1 + name.size() < PATH_MAX;) {
        deep += "/" + name;
        ASSERT_EQ(me().Mkdir("/box/fs" + deep), 0);
    }
    EXPECT_EQ(me().Mkdir("/box/fs" + deep + "/" + std::string(250, 'd')), ENAMETOOLONG);
    EXPECT_EQ(me().Cat("/box/error"), "");
    (void)me().ListPlus("/box/fs/work");
    files().SetReadOnly(true);
    // It was writable a moment ago: what turns out otherwise is reported, not hidden.
    EXPECT_EQ(me().Mkdir("/box/fs/work/late"), 0);
    Settle();
    EXPECT_NE(me().Cat("/box/error").find("mkdir /work/late"), std::string::npos);
    EXPECT_NE(me().Look("/box/fs/work/late"), 0);
}

// fstat(2) beside a write(2) that waits, through another handle: what it is told is older than that.
TEST_F(Behind, AWriteThatWaitsIsInTheSizeThatAnOlderLookTells) {
    const auto first = me().Create("/box/fs/work/new", O_RDWR);
    ASSERT_EQ(first->Write("12345"), 0);
    Advance(seconds(1));
    // A handle that nobody could open again after a cut: what is written through it waits.
    HideBirths();
    const auto second = me().Open("/box/fs/work/new", O_RDWR);
    Settle();
    Hold();
    const auto looked = first->StartStat();
    Settle();
    ASSERT_FALSE(looked->Now().has_value());
    const auto written = StartWrite(*second, 5, "6789");
    Settle();
    ASSERT_FALSE(written->Now().has_value());
    files().Release();  // the look, which came first
    Settle();
    EXPECT_EQ(me().FinishCode(looked), 0);
    ASSERT_EQ(first->WriteAt(0, "0"), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/new").size, 9U);
    LetGo();
    EXPECT_EQ(me().FinishCode(written), 0);
    EXPECT_EQ(me().Stat("/box/fs/work/new").size, 9U);
    EXPECT_EQ(files().Content("/work/new"), "023456789");
}

TEST_F(Behind, NothingIsWrittenBehindWhereRoomIsShort) {
    files().SetCapacity(1U << 20);
    Advance(seconds(6));
    EXPECT_EQ(me().Echo("x", "/box/fs/work/one"), 0);  // room is looked at again
    Settle();
    Hold();
    const auto created = me().StartCreate("/box/fs/work/two", O_WRONLY);
    Settle();
    EXPECT_FALSE(created->Now().has_value());
    LetGo();
    const Answer answer = me().Finish(created);
    EXPECT_EQ(answer.error, 0);
    const Client::File file(me(), answer.entry.ino, answer);
}

// Who has changed something before, after a look, will do it again: tar(1) begins with a look.
TEST_F(Behind, WhatTheFirstChangeMustKnowIsAskedAlongWithALook) {
    Command([] {});
    EXPECT_EQ(me().Look("/box/fs/work/dir"), ENOENT);
    Settle();
    Hold();
    EXPECT_EQ(me().Mkdir("/box/fs/work/dir"), 0);
    EXPECT_EQ(me().Echo("hello", "/box/fs/work/dir/new"), 0);
    LetGo();
    EXPECT_EQ(files().Content("/work/dir/new"), "hello");
}

TEST_F(Behind, RoomIsMeasuredOnTheFileSystemThatWasLookedAt) {
    files().PutFile("/proc/self/mountinfo",
                    "21 1 0:1 / / rw,relatime - ext4 /dev/root rw\n"
                    "22 21 0:2 / /work rw,relatime - ext4 /dev/data rw\n");
    Command([] {});
    const std::size_t all = files().Count("statfs /");
    const std::size_t work = files().Count("statfs /work");
    EXPECT_EQ(me().Look("/box/fs/work"), 0);
    Settle();
    EXPECT_EQ(files().Count("statfs /work"), work + 1);
    EXPECT_EQ(files().Count("statfs /"), all + 1);
}

TEST_F(Behind, WhatWasMadeByWaitingIsOursToSetWithoutWaiting) {
    files().SetCapacity(1U << 20);
    Advance(seconds(6));
    EXPECT_EQ(me().Echo("x", "/box/fs/work/one"), 0);  // room is looked at again
    Settle();
    ASSERT_EQ(me().Mkdir("/box/fs/work/dir"), 0);
    const auto file = me().Create("/box/fs/work/new", O_WRONLY | O_EXCL);
    ASSERT_EQ(file->error(), 0);
    Settle();
    for (const char* path : {"/box/fs/work/dir", "/box/fs/work/new"})
        ASSERT_EQ(me().Look(path), 0);
    Hold();
    AttrChange change;
    change.mode = 0700;
    EXPECT_EQ(me().Set("/box/fs/work/dir", change), 0);
    EXPECT_EQ(me().Set("/box/fs/work/new", change), 0);
    LetGo();
    EXPECT_EQ(files().Stat("/work/dir")->mode & 07777, 0700U);
    EXPECT_EQ(files().Stat("/work/new")->mode & 07777, 0700U);
}

TEST_F(Behind, WhatIsRemovedBeforeItHasLeftDoesNotTravel) {
    Hold();
    ASSERT_EQ(me().Echo("of no use", "/box/fs/work/tmp"), 0);
    ASSERT_EQ(me().Unlink("/box/fs/work/tmp"), 0);
    LetGo();
    EXPECT_EQ(files().Count("write /work/tmp"), 0U);
    EXPECT_EQ(files().Count("open /work/tmp"), 1U);
    EXPECT_FALSE(files().Exists("/work/tmp"));
    EXPECT_EQ(me().Cat("/box/error"), "");
}

TEST_F(Behind, WhatIsRemovedWhileSomebodyHasItOpenIsStillThereForHim) {
    Hold();
    const auto file = me().Create("/box/fs/work/tmp", O_RDWR);
    ASSERT_EQ(file->Write("of some use"), 0);
    ASSERT_EQ(me().Unlink("/box/fs/work/tmp"), 0);
    LetGo();
    EXPECT_EQ(file->ReadAt(0, 100), "of some use");
    EXPECT_FALSE(files().Exists("/work/tmp"));
}

// Memory is the mount's: what other sandboxes have on their way counts.
class BehindOfMany : public Behind {
 protected:
    static constexpr std::size_t kMemory = 6U << 20;
    BehindOfMany() : BehindOfMany(std::make_shared<ContentStore>(kMemory)) {}
    explicit BehindOfMany(const std::shared_ptr<ContentStore>& memory)
        : Behind(With(memory)), memory_(memory) {}
    static MountSetup With(const std::shared_ptr<ContentStore>& memory) {
        MountSetup setup = WithWriteBehind();
        setup.contents = memory;
        return setup;
    }
    // How much is written before somebody has to wait for an answer.
    std::size_t WrittenAhead() {
        const auto file = me().Create("/box/fs/work/new", O_WRONLY);
        Settle();
        Hold();
        const std::string piece(128U << 10, 'x');
        std::size_t written = 0;
        RecordingPtr waits;
        while (written < 2 * kMemory) {
            waits = file->StartWrite(piece);
            Settle();
            if (!waits->Now().has_value()) break;
            (void)me().Finish(waits);
            waits = nullptr;
            written += piece.size();
        }
        LetGo();
        EXPECT_EQ(waits == nullptr ? 0 : me().FinishCode(waits), 0);
        return written;
    }

    const std::shared_ptr<ContentStore> memory_;
};

TEST_F(BehindOfMany, WhatIsOnItsWayIsBoundedByTheMemoryOfTheMount) {
    EXPECT_EQ(WrittenAhead(), kMemory);
}

TEST_F(BehindOfMany, WhereOthersHaveTheMemoryALittleIsWrittenAheadAllTheSame) {
    memory_->Claim(kMemory - (2U << 20));
    EXPECT_EQ(WrittenAhead(), 2U << 20);
    memory_->Claim(2U << 20);
    EXPECT_EQ(me().Unlink("/box/fs/work/new"), 0);
    Settle();
    EXPECT_EQ(WrittenAhead(), 1U << 20);
    memory_->Unclaim(kMemory);
}

}  // namespace
}  // namespace sbxfs::testing
