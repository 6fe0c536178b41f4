// Every opcode, decoded and answered exactly once; and the counts of what answers hand out (engineering
// facts 5.1, 5.3, 5.4).
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "tests/protocol/protocol_test.h"

namespace sbxfs::testing {
namespace {

struct DirEntry {
    std::uint64_t node = 0;  // of readdirplus
    std::uint64_t ino = 0;
    std::uint64_t next = 0;
    std::uint32_t type = 0;
    std::string name;
};

std::vector<DirEntry> ParseDir(const std::string& body, bool plus) {
    std::vector<DirEntry> entries;
    std::size_t at = 0;
    const std::size_t before = plus ? sizeof(fuse_entry_out) : 0;
    while (at + before + FUSE_NAME_OFFSET <= body.size()) {
        DirEntry entry;
        if (plus) {
            fuse_entry_out out{};
            body.copy(reinterpret_cast<char*>(&out), sizeof out, at);
            entry.node = out.nodeid;
        }
        struct Fixed {
            std::uint64_t ino, off;
            std::uint32_t namelen, type;
        } fixed{};
        body.copy(reinterpret_cast<char*>(&fixed), sizeof fixed, at + before);
        entry.ino = fixed.ino;
        entry.next = fixed.off;
        entry.type = fixed.type;
        entry.name = body.substr(at + before + FUSE_NAME_OFFSET, fixed.namelen);
        entries.push_back(entry);
        at += (before + FUSE_NAME_OFFSET + fixed.namelen + 7) / 8 * 8;
    }
    return entries;
}

class Requests : public ProtocolTest {
 protected:
    void SetUp() override {
        ProtocolTest::SetUp();
        MakeBox();
        files().PutFile("/work/a", "hello", 0640);
        work_ = Walk("/box/fs/work");
    }
    std::uint64_t NodeOf(const Answer& answer) { return answer.As<fuse_entry_out>().nodeid; }
    std::vector<DirEntry> ReadDir(std::uint64_t node, std::uint64_t handle, std::uint64_t offset,
                                  std::uint32_t size, bool plus) {
        const Answer answer = kernel_->Ask(plus ? FUSE_READDIRPLUS : FUSE_READDIR, node,
                                           ReadBody(handle, offset, size));
        EXPECT_EQ(answer.error, 0);
        std::vector<DirEntry> entries = ParseDir(answer.body, plus);
        for (const DirEntry& entry : entries) {
            if (entry.node != 0) ++lookups_[entry.node];
        }
        return entries;
    }
    std::uint64_t work_ = 0;
};

TEST_F(Requests, LookupAndGetattr) {
    const Answer found = Lookup(work_, "a");
    const auto entry = found.As<fuse_entry_out>();
    EXPECT_EQ(entry.attr.mode, S_IFREG | 0640U);
    EXPECT_EQ(entry.attr.size, 5U);
    EXPECT_EQ(entry.attr.uid, 1000U);
    EXPECT_EQ(entry.attr.gid, 1001U);
    EXPECT_EQ(entry.generation, 0U);
    EXPECT_EQ(entry.entry_valid, 0U);  // the kernel caches nothing
    EXPECT_EQ(entry.attr_valid, 0U);
    const Answer attr = kernel_->Ask(FUSE_GETATTR, entry.nodeid, Pack(fuse_getattr_in{}));
    EXPECT_EQ(attr.error, 0);
    EXPECT_EQ(attr.As<fuse_attr_out>().attr.size, 5U);
    EXPECT_EQ(attr.As<fuse_attr_out>().attr.ino, entry.attr.ino);
    EXPECT_EQ(Lookup(work_, "missing").error, ENOENT);
    EXPECT_EQ(Lookup(work_, std::string(256, 'x')).error, ENAMETOOLONG);
    EXPECT_EQ(Lookup(12345, "a").error, ESTALE);
    EXPECT_EQ(kernel_->Ask(FUSE_GETATTR, 12345, Pack(fuse_getattr_in{})).error, ESTALE);
}

TEST_F(Requests, SetattrCarriesEachBit) {
    const std::uint64_t a = NodeOf(Lookup(work_, "a"));
    fuse_setattr_in in{};
    in.valid = FATTR_SIZE;
    in.size = 2;
    EXPECT_EQ(kernel_->Ask(FUSE_SETATTR, a, Pack(in)).As<fuse_attr_out>().attr.size, 2U);
    EXPECT_EQ(files().Content("/work/a"), "he");
    in = {};
    in.valid = FATTR_MODE;
    in.mode = S_IFREG | 0600;
    EXPECT_EQ(kernel_->Ask(FUSE_SETATTR, a, Pack(in)).As<fuse_attr_out>().attr.mode,
              S_IFREG | 0600U);
    in = {};
    in.valid = FATTR_ATIME | FATTR_MTIME;
    in.atime = 1000;
    in.mtime = 2000;
    EXPECT_EQ(kernel_->Ask(FUSE_SETATTR, a, Pack(in)).As<fuse_attr_out>().attr.mtime, 2000U);
    in = {};
    in.valid = FATTR_MTIME | FATTR_MTIME_NOW;
    const auto now = kernel_->Ask(FUSE_SETATTR, a, Pack(in)).As<fuse_attr_out>().attr;
    // By the sandbox's clock, which is another than ours.
    const auto skew = std::chrono::milliseconds(mount_->Box("box")->ClockSkewMs());
    const std::int64_t there = EpochMs(world_.loop.clock().System() + skew);
    EXPECT_NE(skew.count(), 0);
    EXPECT_EQ(now.mtime, static_cast<std::uint64_t>(there / 1000));
    EXPECT_EQ(now.atime, 1000U);
    in = {};
    in.valid = FATTR_UID;
    in.uid = 0;
    EXPECT_EQ(kernel_->Ask(FUSE_SETATTR, a, Pack(in)).error, EPERM);
    in.uid = 1000;
    EXPECT_EQ(kernel_->Ask(FUSE_SETATTR, a, Pack(in)).error, 0);
}

TEST_F(Requests, NameChanges) {
    EXPECT_EQ(Mkdir(work_, "d").error, 0);
    const Answer symlink =
        Counted(kernel_->Ask(FUSE_SYMLINK, work_, Name("s") + Name("../work/a")));
    EXPECT_EQ(symlink.error, 0);
    EXPECT_EQ(kernel_->Ask(FUSE_READLINK, NodeOf(symlink)).body, "../work/a");
    fuse_mknod_in mknod{};
    mknod.mode = S_IFREG | 0644;
    EXPECT_EQ(Counted(kernel_->Ask(FUSE_MKNOD, work_, Pack(mknod) + Name("n"))).error, 0);
    mknod.mode = S_IFIFO | 0644;
    EXPECT_EQ(kernel_->Ask(FUSE_MKNOD, work_, Pack(mknod) + Name("p")).error, EOPNOTSUPP);
    const std::uint64_t a = NodeOf(Lookup(work_, "a"));
    EXPECT_EQ(Counted(kernel_->Ask(FUSE_LINK, work_, Pack(fuse_link_in{a}) + Name("h"))).error, 0);
    EXPECT_TRUE(files().Exists("/work/h"));
    EXPECT_EQ(kernel_->Ask(FUSE_RENAME, work_, Pack(fuse_rename_in{work_}) + Name("n") + Name("n2"))
                  .error,
              0);
    fuse_rename2_in rename{};
    rename.newdir = work_;
    rename.flags = RENAME_NOREPLACE;
    EXPECT_EQ(kernel_->Ask(FUSE_RENAME2, work_, Pack(rename) + Name("n2") + Name("h")).error,
              EEXIST);
    rename.flags = RENAME_EXCHANGE;
    EXPECT_EQ(kernel_->Ask(FUSE_RENAME2, work_, Pack(rename) + Name("n2") + Name("h")).error,
              EINVAL);
    EXPECT_EQ(kernel_->Ask(FUSE_UNLINK, work_, Name("n2")).error, 0);
    EXPECT_EQ(kernel_->Ask(FUSE_RMDIR, work_, Name("d")).error, 0);
    EXPECT_FALSE(files().Exists("/work/d"));
    EXPECT_EQ(kernel_->Ask(FUSE_RMDIR, work_, Name("d")).error, ENOENT);
}

TEST_F(Requests, OpenReadWriteFlushFsyncRelease) {
    const std::uint64_t a = NodeOf(Lookup(work_, "a"));
    const std::uint64_t handle = Open(a, O_RDWR);
    EXPECT_EQ(kernel_->Ask(FUSE_READ, a, ReadBody(handle, 1, 3)).body, "ell");
    EXPECT_EQ(kernel_->Ask(FUSE_READ, a, ReadBody(handle, 5, 3)).body, "");
    const Answer wrote = kernel_->Ask(FUSE_WRITE, a, WriteBody(handle, 1, "ELL"));
    EXPECT_EQ(wrote.As<fuse_write_out>().size, 3U);
    EXPECT_EQ(files().Content("/work/a"), "hELLo");
    EXPECT_EQ(Flush(a, handle).error, 0);
    fuse_fsync_in fsync{};
    fsync.fh = handle;
    EXPECT_EQ(kernel_->Ask(FUSE_FSYNC, a, Pack(fsync)).error, 0);
    EXPECT_EQ(Release(a, handle).error, 0);
    EXPECT_EQ(kernel_->Ask(FUSE_READ, a, ReadBody(handle, 0, 3)).error, EBADF);
    EXPECT_EQ(kernel_->Ask(FUSE_WRITE, a, WriteBody(handle, 0, "x")).error, EBADF);
    EXPECT_EQ(Flush(a, handle).error, EBADF);
    EXPECT_EQ(Release(a, handle).error, 0);
}

TEST_F(Requests, AWriteOfAMebibyteArrivesWhole) {
    const std::uint64_t a = NodeOf(Lookup(work_, "a"));
    const std::uint64_t handle = Open(a, O_RDWR);
    std::string bytes(1U << 20, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<char>(i * 7 + i / 251);
    EXPECT_EQ(kernel_->Ask(FUSE_WRITE, a, WriteBody(handle, 0, bytes)).As<fuse_write_out>().size,
              bytes.size());
    EXPECT_EQ(files().Content("/work/a"), bytes);
    EXPECT_EQ(kernel_->Ask(FUSE_READ, a, ReadBody(handle, 0, 1U << 20)).body, bytes);
    EXPECT_EQ(Release(a, handle).error, 0);
}

TEST_F(Requests, CreateHandsOutANodeAndAHandle) {
    fuse_create_in in{};
    in.flags = O_RDWR | O_CREAT | O_EXCL;
    in.mode = S_IFREG | 0644;
    const Answer made = Counted(kernel_->Ask(FUSE_CREATE, work_, Pack(in) + Name("new")));
    ASSERT_EQ(made.error, 0);
    const auto opened = made.As<fuse_open_out>(sizeof(fuse_entry_out));
    EXPECT_EQ(opened.open_flags & FOPEN_DIRECT_IO, 0U);  // files below fs/ can be mapped
    EXPECT_EQ(kernel_->Ask(FUSE_WRITE, NodeOf(made), WriteBody(opened.fh, 0, "x")).error, 0);
    EXPECT_EQ(Release(NodeOf(made), opened.fh).error, 0);
    EXPECT_EQ(files().Content("/work/new"), "x");
    EXPECT_EQ(kernel_->Ask(FUSE_CREATE, work_, Pack(in) + Name("new")).error, EEXIST);
}

TEST_F(Requests, ControlFilesBypassThePageCacheAndStaySeekable) {
    const std::uint64_t cmd = Walk("/box/cmd");
    fuse_open_in in{};
    in.flags = O_RDWR;
    const auto opened = kernel_->Ask(FUSE_OPEN, cmd, Pack(in)).As<fuse_open_out>();
    EXPECT_NE(opened.open_flags & FOPEN_DIRECT_IO, 0U);
    EXPECT_EQ(opened.open_flags & FOPEN_NONSEEKABLE, 0U);
    EXPECT_EQ(kernel_->Ask(FUSE_WRITE, cmd, WriteBody(opened.fh, 0, "make\n")).error, 0);
    EXPECT_EQ(kernel_->Ask(FUSE_READ, cmd, ReadBody(opened.fh, 5, 100)).body, "1\n");
    EXPECT_EQ(Release(cmd, opened.fh).error, 0);
}

TEST_F(Requests, TheCallerOfAFlushIsTheOneInItsHeader) {
    const std::uint64_t cmd = Walk("/box/cmd");
    const std::uint64_t handle = Open(cmd, O_WRONLY);
    EXPECT_EQ(kernel_->Ask(FUSE_WRITE, cmd, WriteBody(handle, 0, "true")).error, 0);
    kernel_->SetCaller(1);  // a child of the opener, as far as anybody can tell
    EXPECT_EQ(Flush(cmd, handle).error, 0);
    EXPECT_EQ(Lookup(Walk("/box/events"), "1").error, ENOENT);
    kernel_->SetCaller(static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(Flush(cmd, handle).error, 0);
    EXPECT_EQ(Lookup(Walk("/box/events"), "1").error, 0);
    EXPECT_EQ(Release(cmd, handle).error, 0);
}

TEST_F(Requests, ARefusalIsInLastErrorWithPidAndPathBeforeItsAnswerIsSent) {
    EXPECT_EQ(kernel_->Ask(FUSE_UNLINK, Walk("/box"), Name("cmd")).error, EPERM);
    const std::string text = Cat("/.mount/last_error");
    EXPECT_NE(text.find("pid " + std::to_string(::getpid()) + " /box/cmd EPERM: "),
              std::string::npos)
        << text;
}

TEST_F(Requests, StatfsAnswersWhateverTheNode) {
    const Answer answer = kernel_->Ask(FUSE_STATFS, 1);
    EXPECT_EQ(answer.As<fuse_statfs_out>().st.namelen, 255U);
    EXPECT_EQ(kernel_->Ask(FUSE_STATFS, work_).error, 0);
    EXPECT_EQ(kernel_->Ask(FUSE_STATFS, 4711).error, 0);
}

// The kernel then never asks again, and locks work between the programs of this machine.
TEST_F(Requests, WhatIsNotOfferedAnywhereIsEnosys) {
    for (const std::uint32_t opcode :
         {FUSE_GETXATTR, FUSE_SETXATTR, FUSE_LISTXATTR, FUSE_REMOVEXATTR, FUSE_GETLK, FUSE_SETLK,
          FUSE_SETLKW, FUSE_ACCESS, FUSE_BMAP, FUSE_IOCTL, FUSE_FALLOCATE, FUSE_LSEEK}) {
        EXPECT_EQ(kernel_->Ask(opcode, work_, std::string(128, '\0')).error, ENOSYS) << opcode;
    }
    EXPECT_EQ(kernel_->Ask(4000, work_).error, ENOSYS);  // of a kernel to come
}

// ENOSYS would end it for every sandbox of the mount.
TEST_F(Requests, ACopyThatIsNotPossibleHereIsRefusedForThisOnceOnly) {
    const std::uint64_t help = Walk("/box/README.md");
    const std::uint64_t from = Open(help, O_RDONLY);
    fuse_copy_file_range_in copy{};
    copy.fh_in = copy.fh_out = from;
    copy.nodeid_out = help;
    copy.len = 100;
    EXPECT_EQ(kernel_->Ask(FUSE_COPY_FILE_RANGE, help, Pack(copy)).error, EOPNOTSUPP);
    EXPECT_EQ(Release(help, from).error, 0);
    EXPECT_EQ(Cat("/.mount/last_error").find("EOPNOTSUPP"), std::string::npos);
}

TEST_F(Requests, APollThatFindsNothingNewIsAnsweredAtOnceAndToldOnceLater) {
    const std::uint64_t cmd = Walk("/box/cmd");
    const std::uint64_t writer = Open(cmd, O_WRONLY);
    EXPECT_EQ(kernel_->Ask(FUSE_WRITE, cmd, WriteBody(writer, 0, "true")).error, 0);
    EXPECT_EQ(Release(cmd, writer).error, 0);
    Settle();
    const std::uint64_t status = Walk("/box/events/1/status");
    const std::uint64_t handle = Open(status, O_RDONLY);
    EXPECT_EQ(kernel_->Ask(FUSE_READ, status, ReadBody(handle, 0, 100)).body, "queued\n");
    fuse_poll_in poll{};
    poll.fh = handle;
    poll.kh = 4711;
    poll.flags = FUSE_POLL_SCHEDULE_NOTIFY;
    poll.events = POLLIN;
    EXPECT_EQ(kernel_->Ask(FUSE_POLL, status, Pack(poll)).As<fuse_poll_out>().revents & POLLPRI,
              0U);
    EXPECT_EQ(kernel_->notifications(), 0U);
    supervisor().Started(1);
    const FakeKernel::Notification told = kernel_->AwaitNotification();
    EXPECT_EQ(told.code, FUSE_NOTIFY_POLL);
    std::uint64_t which = 0;
    told.body.copy(reinterpret_cast<char*>(&which), sizeof which);
    EXPECT_EQ(which, 4711U);
    EXPECT_NE(kernel_->Ask(FUSE_POLL, status, Pack(poll)).As<fuse_poll_out>().revents, 0U);
    supervisor().Exit(1);
    Settle();
    EXPECT_EQ(Release(status, handle).error, 0);
}

TEST_F(Requests, ReaddirGoesOnWhereItWasAndHandsOutNoNode) {
    for (int i = 0; i < 50; ++i)
        files().PutFile("/work/file-" + std::to_string(i), "");
    const std::uint64_t handle = Open(work_, O_RDONLY, FUSE_OPENDIR);
    const std::size_t known = mount_->context().inodes.Count();
    std::set<std::string> names;
    std::uint64_t offset = 0;
    for (;;) {
        const auto page = ReadDir(work_, handle, offset, 300, false);
        if (page.empty()) break;
        for (const DirEntry& entry : page)
            EXPECT_TRUE(names.insert(entry.name).second) << entry.name << " twice";
        offset = page.back().next;
    }
    EXPECT_EQ(names.size(), 53U);  // with ".", ".." and "a"
    EXPECT_EQ(mount_->context().inodes.Count(), known);
    EXPECT_EQ(Release(work_, handle, FUSE_RELEASEDIR).error, 0);
}

TEST_F(Requests, ReaddirplusCountsWhatItToldAndNotWhatDidNotFit) {
    for (int i = 0; i < 20; ++i)
        files().PutFile("/work/file-" + std::to_string(i), "");
    const std::uint64_t handle = Open(work_, O_RDONLY, FUSE_OPENDIR);
    const std::size_t known = mount_->context().inodes.Count();
    std::size_t told = 0;
    std::uint64_t offset = 0;
    for (;;) {
        const auto page = ReadDir(work_, handle, offset, 700, true);
        if (page.empty()) break;
        for (const DirEntry& entry : page) {
            const bool dots = entry.name == "." || entry.name == "..";
            EXPECT_EQ(entry.node == 0, dots) << entry.name;
            told += dots ? 0 : 1;
        }
        offset = page.back().next;
        EXPECT_EQ(mount_->context().inodes.Count(), known + told);
    }
    EXPECT_EQ(told, 21U);
    // The same node as a look-up finds, with the same number.
    const auto again = ReadDir(work_, handle, 2, 700, true);
    ASSERT_FALSE(again.empty());
    EXPECT_EQ(NodeOf(Lookup(work_, again.front().name)), again.front().node);
    EXPECT_EQ(Release(work_, handle, FUSE_RELEASEDIR).error, 0);
}

TEST_F(Requests, ReaddirplusOfTheControlTreeCountsToo) {
    const std::uint64_t box = Walk("/box");
    const std::uint64_t handle = Open(box, O_RDONLY, FUSE_OPENDIR);
    std::uint64_t offset = 0;
    std::set<std::string> names;
    for (;;) {
        const auto page = ReadDir(box, handle, offset, 500, true);
        if (page.empty()) break;
        for (const DirEntry& entry : page)
            names.insert(entry.name);
        offset = page.back().next;
    }
    EXPECT_TRUE(names.contains("cmd"));
    EXPECT_FALSE(names.contains("fs"));
    EXPECT_EQ(Release(box, handle, FUSE_RELEASEDIR).error, 0);
}

TEST_F(Requests, ANodeIsDroppedWithItsLastForgetAndItsNumberNeverUsedAgain) {
    const std::uint64_t a = NodeOf(Lookup(work_, "a"));
    for (int i = 0; i < 4; ++i)
        EXPECT_EQ(NodeOf(Lookup(work_, "a")), a);
    const std::size_t known = mount_->context().inodes.Count();
    kernel_->Forget(a, 4);
    (void)kernel_->Ask(FUSE_STATFS, 1);
    AwaitForgotten(known);  // one is left
    kernel_->Forget(a, 1);
    AwaitForgotten(known - 1);
    lookups_.erase(a);
    EXPECT_EQ(kernel_->Ask(FUSE_GETATTR, a, Pack(fuse_getattr_in{})).error, ESTALE);
    EXPECT_GT(NodeOf(Lookup(work_, "a")), a);
}

TEST_F(Requests, ABatchOfForgetsForgetsEach) {
    // All of them first: while the sandbox is quiet nobody makes files there behind a listing that was fetched ahead.
    for (int i = 0; i < 100; ++i)
        files().PutFile("/work/file-" + std::to_string(i), "");
    std::string body;
    std::uint32_t count = 0;
    for (int i = 0; i < 100; ++i) {
        const std::uint64_t node = NodeOf(Lookup(work_, "file-" + std::to_string(i)));
        body += Pack(fuse_forget_one{node, lookups_.at(node)});
        lookups_.erase(node);
        ++count;
    }
    const std::size_t known = mount_->context().inodes.Count();
    (void)kernel_->Send(FUSE_BATCH_FORGET, 0, Pack(fuse_batch_forget_in{count, 0}) + body);
    AwaitForgotten(known - 100);
}

TEST_F(Requests, ManyAtOnceAreEachAnsweredOnce) {
    std::vector<std::uint64_t> asked;
    for (int i = 0; i < 300; ++i) {
        asked.push_back(kernel_->Send(FUSE_LOOKUP, work_, Name(i % 3 == 0 ? "missing" : "a")));
        asked.push_back(kernel_->Send(FUSE_GETATTR, work_, Pack(fuse_getattr_in{})));
        asked.push_back(kernel_->Send(FUSE_STATFS, 1));
        if (i % 50 == 49) (void)kernel_->Unclaimed();  // what has arrived is taken from the socket
    }
    for (std::size_t i = 0; i < asked.size(); ++i) {
        const Answer answer = kernel_->Await(asked[i]);
        if (i % 3 == 0) {
            EXPECT_EQ(Counted(answer).error, i / 3 % 3 == 0 ? ENOENT : 0);
        } else {
            EXPECT_EQ(answer.error, 0);
        }
    }
}

TEST_F(Requests, NamesNoKernelSendsDoNotLeaveTheSandbox) {
    for (const char* name : {"..", ".", "", "a/b", "../etc/passwd"}) {
        EXPECT_NE(Lookup(work_, name).error, 0) << name;
        EXPECT_NE(Mkdir(work_, name).error, 0) << name;
        EXPECT_NE(kernel_->Ask(FUSE_UNLINK, work_, Name(name)).error, 0) << name;
    }
    for (const std::string& asked : files().Log())
        EXPECT_EQ(asked.find(".."), std::string::npos) << asked;
}

}  // namespace
}  // namespace sbxfs::testing
