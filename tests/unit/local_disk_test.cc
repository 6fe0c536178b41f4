// The parts of provider local that need only a directory: removal of hostile trees, boxes and their locks, control
// groups as plain files, the registry of id ranges.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/box.h"
#include "sandbox/providers/local/cgroups.h"
#include "sandbox/providers/local/health.h"
#include "sandbox/providers/local/remover.h"
#include "sandbox/providers/local/tree_maker.h"
#include "sandbox/providers/local/uid_range.h"

namespace sbxfs {
namespace {

class LocalDisk : public ::testing::Test {
 protected:
    void SetUp() override {
        // In memory where there is a place: these are many small files.
        parent_ = *OpenFile(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                            O_RDONLY | O_DIRECTORY);
        name_ = "sbxfs-disk-" + Hex(RandomBytes(6));
        directory_ = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(parent_.get()))
                         .string() +
                     "/" + name_;
        ASSERT_TRUE(MakeDirs(directory_, 0700));
        fd_ = *OpenFile(directory_, O_RDONLY | O_DIRECTORY);
    }
    void TearDown() override { EXPECT_TRUE(RemoveTree(parent_.get(), name_)); }
    std::string Path(const std::string& name) const { return directory_ + "/" + name; }
    void Put(const std::string& name, const std::string& text = "x") const {
        std::ofstream(Path(name)) << text;
    }
    bool Exists(const std::string& name) const {
        return std::filesystem::exists(std::filesystem::symlink_status(Path(name)));
    }

    UniqueFd parent_;
    std::string name_;
    std::string directory_;
    UniqueFd fd_;
};

TEST_F(LocalDisk, LinksAreRemovedAndWhatTheyPointToStays) {
    ASSERT_TRUE(MakeDirs(Path("safe/dir"), 0755));
    Put("safe/dir/file");
    ASSERT_TRUE(MakeDirs(Path("tree/sub"), 0755));
    ASSERT_EQ(::symlink(Path("safe").c_str(), Path("tree/link").c_str()), 0);
    ASSERT_EQ(::symlink("../../safe", Path("tree/sub/link").c_str()), 0);
    ASSERT_EQ(::symlink(Path("safe").c_str(), Path("top").c_str()), 0);
    EXPECT_TRUE(RemoveTree(fd_.get(), "tree"));
    EXPECT_TRUE(RemoveTree(fd_.get(), "top"));
    EXPECT_FALSE(Exists("tree"));
    EXPECT_FALSE(Exists("top"));
    EXPECT_TRUE(Exists("safe/dir/file"));
    EXPECT_TRUE(RemoveTree(fd_.get(), "never-there"));
}

TEST_F(LocalDisk, ClosedDirectoriesAreOpened) {
    ASSERT_TRUE(MakeDirs(Path("tree/a/b"), 0755));
    Put("tree/a/b/file");
    ASSERT_EQ(::chmod(Path("tree/a/b/file").c_str(), 0), 0);
    ASSERT_EQ(::chmod(Path("tree/a/b").c_str(), 0), 0);
    ASSERT_EQ(::chmod(Path("tree/a").c_str(), 0), 0);
    ASSERT_EQ(::chmod(Path("tree").c_str(), 0), 0);
    EXPECT_TRUE(RemoveTree(fd_.get(), "tree"));
    EXPECT_FALSE(Exists("tree"));
}

TEST_F(LocalDisk, DepthCostsNeitherDescriptorsNorPaths) {
    ASSERT_EQ(::mkdirat(fd_.get(), "tree", 0755), 0);
    UniqueFd at(::openat(fd_.get(), "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int depth = 0; depth < 4000;
         ++depth) {  // far beyond PATH_MAX and any limit of descriptors
        ASSERT_EQ(::mkdirat(at.get(), "d", 0755), 0);
        if (depth % 100 == 0) {
            ASSERT_EQ(::mkdirat(at.get(), "side", depth % 200 == 0 ? 0 : 0755), 0);
        }
        at = UniqueFd(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        ASSERT_TRUE(at);
    }
    at.reset();
    const Status removed = RemoveTree(fd_.get(), "tree");
    EXPECT_TRUE(removed) << removed.error().what();
    EXPECT_TRUE(std::filesystem::is_empty(directory_));  // nothing left from being moved up, either
}

TEST_F(LocalDisk, ABoxIsLockedByOneAndAliveWhileHeld) {
    ASSERT_TRUE(MakeDirs(Path("boxes"), 0700));
    EXPECT_FALSE(Box::Open(directory_, "t1"));
    ASSERT_TRUE(Box::Create(directory_, "t1"));
    ASSERT_TRUE(Box::Create(directory_, "t1"));
    Box box = *Box::Open(directory_, "t1");
    {
        const auto lock = *box.TryLock(Role::kLaunch);
        ASSERT_TRUE(lock);
        EXPECT_FALSE(*Box::Open(directory_, "t1")->TryLock(Role::kDestroy));
        EXPECT_EQ(box.ReadHolder()->process, *ProcessRecord::Of(::getpid()));
        EXPECT_EQ(box.ReadHolder()->role, Role::kLaunch);
    }
    EXPECT_TRUE(*box.TryLock(Role::kDestroy));
    EXPECT_FALSE(box.IsAlive());
    {
        const auto alive = box.HoldAlive(0);
        ASSERT_TRUE(alive);
        EXPECT_TRUE(box.IsAlive());
        EXPECT_FALSE(Box::Open(directory_, "t1")->HoldAlive(10));
    }
    EXPECT_FALSE(box.IsAlive());
    EXPECT_FALSE(box.IsDestroyed());
    EXPECT_TRUE(box.MarkDestroyed());
    EXPECT_TRUE(box.IsDestroyed());
}

TEST_F(LocalDisk, ALaunchDoesNotMakeTheLockOfABoxThatIsGoing) {
    ASSERT_TRUE(MakeDirs(Path("boxes"), 0700));
    ASSERT_TRUE(Box::Create(directory_, "t1"));
    Box box = *Box::Open(directory_, "t1");
    box.Remove("lock");
    EXPECT_FALSE(box.TryLock(Role::kLaunch));
    EXPECT_FALSE(box.Has("lock"));
}

TEST_F(LocalDisk, HealthTellsHalfMadeFromEnded) {
    ASSERT_TRUE(MakeDirs(Path("boxes"), 0700));
    EXPECT_EQ(HealthOf(directory_, "t1").liveness, Liveness::kVanished);
    ASSERT_TRUE(Box::Create(directory_, "t1"));
    EXPECT_NE(HealthOf(directory_, "t1").why.find("did not come to an end"), std::string::npos);
    Box box = *Box::Open(directory_, "t1");
    ASSERT_TRUE(box.Write("launched.json", "{}"));
    ASSERT_TRUE(box.Write("pid", "123 4 " + BootId() + "\n"));
    EXPECT_NE(HealthOf(directory_, "t1").why.find("killed"), std::string::npos);
    ASSERT_TRUE(box.Write("pid", "123 4 other-boot\n"));
    EXPECT_NE(HealthOf(directory_, "t1").why.find("restarted"), std::string::npos);
    ASSERT_TRUE(box.Write("note", "expired lifetime\n"));
    EXPECT_EQ(HealthOf(directory_, "t1").liveness, Liveness::kExpired);
    ASSERT_TRUE(box.MarkDestroyed());
    EXPECT_NE(HealthOf(directory_, "t1").why.find("being destroyed"), std::string::npos);
}

// Version 2: our own group has processes, so limits go into a sibling below the first ancestor that allows them.
TEST_F(LocalDisk, Version2LimitsGoBesideOurOwnGroup) {
    ASSERT_TRUE(MakeDirs(Path("cg/slice/own"), 0755));
    Put("cg/slice/cgroup.controllers", "cpu memory pids\n");
    Put("cg/slice/cgroup.subtree_control", "cpu memory pids\n");
    Put("cg/slice/own/cgroup.controllers", "\n");
    Put("cg/slice/own/cgroup.subtree_control", "\n");
    const Hierarchy h{true, {}, Path("cg"), Path("cg/slice/own")};
    std::string remembered;
    const CgroupSet set =
        CgroupSet::Make({h}, "sbxfs-t", Limits{512, 64, 100}, [&](const std::string& directory) {
            remembered += directory + ";";
            // What the kernel would make.
            std::filesystem::create_directory(directory);
            for (const char* file :
                 {"cgroup.procs", "cpu.max", "memory.max", "memory.swap.max", "pids.max"}) {
                std::ofstream(directory + "/" + file) << "";
            }
            return Ok();
        });
    EXPECT_EQ(remembered, Path("cg/slice/sbxfs-t") + ";");
    EXPECT_EQ(*ReadWholeFile(Path("cg/slice/sbxfs-t/cpu.max")), "50000 100000");
    EXPECT_EQ(*ReadWholeFile(Path("cg/slice/sbxfs-t/memory.max")), "67108864");
    EXPECT_EQ(*ReadWholeFile(Path("cg/slice/sbxfs-t/memory.swap.max")), "0");
    EXPECT_EQ(*ReadWholeFile(Path("cg/slice/sbxfs-t/pids.max")), "100");
    EXPECT_EQ(set.facts().Dump(), R"({"cpu":"512 units","memory":"64 MiB","pids":"100"})");
    EXPECT_TRUE(set.Join().empty());
    EXPECT_EQ(*ReadWholeFile(Path("cg/slice/sbxfs-t/cgroup.procs")), "0");
}

TEST_F(LocalDisk, LimitsThatCannotBeSetAreSaid) {
    const CgroupSet none =
        CgroupSet::Make({}, "sbxfs-t", Limits{0, 64, 0}, [](const std::string&) { return Ok(); });
    EXPECT_EQ(none.facts().Keys(), std::vector<std::string>{"memory"});  // cpu was not asked for
    EXPECT_TRUE(none.facts().GetString("memory")->starts_with("not applied: "));
    // A group without the files, as on a kernel that lacks the controller.
    ASSERT_TRUE(MakeDirs(Path("cg"), 0755));
    const Hierarchy v1{false, {"memory"}, Path("cg"), Path("cg")};
    const CgroupSet bare =
        CgroupSet::Make({v1}, "sbxfs-t", Limits{0, 64, 0}, [](const std::string&) { return Ok(); });
    EXPECT_TRUE(bare.facts().GetString("memory")->starts_with("not applied: "));
}

Status Noted(std::uint32_t) {
    return Ok();
}

TEST_F(LocalDisk, IdRangesAreGivenOutOnceAndComeBackWithTheirBox) {
    const std::string registry = Path("registry");
    ASSERT_TRUE(MakeDirs(Path("a"), 0700));
    ASSERT_TRUE(MakeDirs(Path("b"), 0700));
    const auto a = TakeUidRange(Path("a"), registry, Noted);
    if (!a) GTEST_SKIP() << a.error().what();
    const auto b = TakeUidRange(Path("b"), registry, Noted);
    ASSERT_TRUE(b);
    EXPECT_NE(*a, *b);
    EXPECT_EQ(*TakeUidRange(Path("a"), registry, Noted), *a);  // its own again
    FreeUidRange(*a, Path("b"), registry);                     // not b's to give
    EXPECT_TRUE(std::filesystem::exists(registry + "/" + std::to_string(*a)));
    FreeUidRange(*a, Path("a"), registry);
    EXPECT_FALSE(std::filesystem::exists(registry + "/" + std::to_string(*a)));
    // A box that went without giving its range back: taken over.
    ASSERT_EQ(::rmdir(Path("b").c_str()), 0);
    ASSERT_TRUE(ReplaceFile(registry + "/" + std::to_string(*a), Path("b"), 0600));
    EXPECT_EQ(*TakeUidRange(Path("a"), registry, Noted), *a);
}

TEST_F(LocalDisk, AnIdRangeComesBackWhereverTheHelperThatTookItWasKilled) {
    const std::string registry = Path("registry");
    ASSERT_TRUE(MakeDirs(Path("a"), 0700));
    std::uint32_t noted = 0;
    const auto entry = [&] { return registry + "/" + std::to_string(noted); };
    const auto taken = TakeUidRange(Path("a"), registry, [&](std::uint32_t first) {
        noted = first;
        EXPECT_FALSE(std::filesystem::exists(entry()));  // the box knows of it before anybody else
        return Ok();
    });
    if (!taken) GTEST_SKIP() << taken.error().what();
    EXPECT_EQ(*taken, noted);
    ASSERT_TRUE(ReplaceFile(entry(), "", 0600));  // killed before it had written whose it is
    FreeUidRange(noted, Path("a"), registry);
    EXPECT_FALSE(std::filesystem::exists(entry()));
}

TEST_F(LocalDisk, OnlyWhatEverybodyMayReadIsCopied) {
    ASSERT_TRUE(MakeDirs(Path("from/sub"), 0755));
    ASSERT_TRUE(MakeDirs(Path("from/private"), 0700));
    Put("from/open");
    Put("from/secret");
    Put("from/sub/open");
    Put("from/private/open");
    ASSERT_EQ(::chmod(Path("from/secret").c_str(), 0640), 0);
    ASSERT_EQ(::symlink("/anywhere", Path("from/link").c_str()), 0);
    ASSERT_EQ(::mkfifo(Path("from/pipe").c_str(), 0644), 0);
    ASSERT_TRUE(MakeDirs(Path("to"), 0755));
    const UniqueFd to = *OpenFile(Path("to"), O_RDONLY | O_DIRECTORY);
    {
        TreeMaker tree(to.get(), Owner{::geteuid(), ::getegid()});
        tree.CopyPublic(Path("from"), "copy");
    }
    EXPECT_TRUE(Exists("to/copy/open"));
    EXPECT_TRUE(Exists("to/copy/sub/open"));
    EXPECT_TRUE(Exists("to/copy/link"));
    EXPECT_FALSE(Exists("to/copy/secret"));
    EXPECT_FALSE(Exists("to/copy/private"));
    EXPECT_FALSE(Exists("to/copy/pipe"));
}

TEST_F(LocalDisk, ParentsThatAreLinksStayInsideTheRoot) {
    ASSERT_TRUE(MakeDirs(Path("root/run"), 0755));
    ASSERT_TRUE(MakeDirs(Path("root/var"), 0755));
    ASSERT_EQ(::symlink("/run", Path("root/var/run").c_str()), 0);
    ASSERT_EQ(::symlink("../../../../../..", Path("root/up").c_str()), 0);
    const UniqueFd root = *OpenFile(Path("root"), O_RDONLY | O_DIRECTORY);
    TreeMaker tree(root.get(), Owner{::geteuid(), ::getegid()});
    EXPECT_TRUE(tree.Dirs("var/run/made/here"));
    EXPECT_TRUE(tree.Dirs("up/also"));
    EXPECT_TRUE(Exists("root/run/made/here"));
    EXPECT_TRUE(Exists("root/also"));
}

}  // namespace
}  // namespace sbxfs
