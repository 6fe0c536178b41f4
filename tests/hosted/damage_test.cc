// A spool that was damaged while no supervisor lived: each of its files cut at each byte, with each bit turned, gone, or
// another kind of thing. The next supervisor comes up or says why not, tells of every command, starts none of them
// again, and kills nobody who is not of the spool.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>

#include "tests/hosted/stories.h"

namespace sbxfs::fuzz {
namespace {

namespace fs = std::filesystem;

// What is in the spool after a command that ended, two that run, one of them by a script in a file, and one that never began.
std::map<std::string, std::string> Spool() {
    World world;
    world.conduct[1].out = "out";
    world.conduct[2].hangs = world.conduct[3].hangs = true;
    Tell(world, {
                    [&] { world.Attach(); },
                    [&] { world.Start(1, true, "echo out"); },
                    [&] { world.Start(2, true, "sleep 1"); },
                    [&] { world.Start(3, false, "#!/bin/sh\nsleep 1\n"); },
                    [&] { world.Start(4, true, "waits"); },
                });
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(SpoolPath())) {
        const std::string name = entry.path().string().substr(SpoolPath().size());
        if (entry.is_regular_file()) files[name] = ReadPlace(entry.path());
    }
    return files;
}

struct Damaged {
    explicit Damaged(const std::map<std::string, std::string>& files) {
        world.damaged = true;
        world.epoch = 1 << 20;  // above what a turned bit makes of the last one
        PlantAt(Plant::kDirectory, SpoolPath() + "/commands");
        for (std::uint64_t n = 1; n <= 4; ++n) {
            PlantAt(Plant::kDirectory, SpoolPath() + "/commands/" + std::to_string(n));
            world.told[n].start = Frame(sup::Type::kStart, [&](auto& w) {
                sup::StartFields fields;
                fields.n = n;
                fields.script = AsText("again");
                sup::PutStartFields(w, fields);
                w.U32(0);
            });
        }
        for (const auto& [name, bytes] : files)
            PlantAt(Plant::kFile, SpoolPath() + name, bytes);
        // What is left of the second, and somebody else's.
        MadeUpProcess orphan;
        orphan.parent = 1;
        orphan.session = 1000000;
        orphan.start = 1'000'000;
        made_up.next_pid += 10;
        made_up.processes[kFirstPid + 5] = orphan;
        orphan.session = 5;
        made_up.processes[kFirstPid + 6] = orphan;
    }
    void Check() {
        world.Settle();
        for (std::uint64_t n = 1; n <= 4; ++n)
            EXPECT_EQ(world.runs[n], 0) << n;
        EXPECT_EQ(made_up.processes.count(kFirstPid + 6), 1U) << "somebody else's";
    }
    World world;
};

TEST(Damage, CutAtAnyByteASpoolIsToldOfAndNothingRunsAgain) {
    const auto files = Spool();
    ASSERT_GE(files.size(), 12U);
    std::size_t cuts = 0;
    for (const auto& [name, bytes] : files) {
        cuts += bytes.size();
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            SCOPED_TRACE(name + " of " + std::to_string(size) + " bytes");
            Damaged damaged(files);
            PlantAt(Plant::kTruncate, SpoolPath() + name, {}, size);
            damaged.Check();
        }
    }
    std::cout << cuts << " cuts\n";
}

TEST(Damage, WithAnyBitTurnedASpoolIsToldOfAndNothingRunsAgain) {
    const auto files = Spool();
    const std::size_t stride = std::getenv("SBXFS_EVERY_CALL") != nullptr ? 1 : 5;
    for (const auto& [name, bytes] : files) {
        for (std::size_t bit = 0; bit < bytes.size() * 8; bit += stride) {
            SCOPED_TRACE(name + ", bit " + std::to_string(bit));
            Damaged damaged(files);
            std::string turned = bytes;
            turned[bit / 8] = static_cast<char>(turned[bit / 8] ^ (1 << (bit % 8)));
            PlantAt(Plant::kFile, SpoolPath() + name, turned);
            damaged.Check();
        }
    }
}

TEST(Damage, AFileThatIsGoneOrSomethingElseIsNoReasonToEnd) {
    const auto files = Spool();
    for (const auto& [name, bytes] : files) {
        for (const Plant how : {Plant::kRemove, Plant::kDirectory, Plant::kLink, Plant::kAppend}) {
            SCOPED_TRACE(name + ", " + std::to_string(static_cast<int>(how)));
            Damaged damaged(files);
            if (how != Plant::kAppend) PlantAt(Plant::kRemove, SpoolPath() + name);
            if (how != Plant::kRemove) PlantAt(how, SpoolPath() + name, "/etc/passwd");
            if (name == "/id" && how == Plant::kDirectory) {
                EXPECT_EQ(damaged.world.Live(), 3) << "there is no place for its number";
                continue;
            }
            damaged.Check();
        }
    }
}

TEST(Damage, ASpoolThatCannotBeListedIsNotServed) {
    const auto files = Spool();
    for (const FaultKind kind : {FaultKind::kBroken, FaultKind::kNoFiles}) {
        long failures = 0;
        for (long at = 0; at < 40; ++at) {
            Damaged damaged(files);
            made_up.fault = kind;
            made_up.fault_at = at;
            // It ends, or it serves all four; never fewer.
            const int code = Tell(damaged.world, {[&] { damaged.world.Attach(); }, [] {}, [] {}});
            failures += code >= 3 ? 1 : 0;
            damaged.Check();
        }
        EXPECT_GT(failures, 3) << NameOf(kind);
    }
}

}  // namespace
}  // namespace sbxfs::fuzz
