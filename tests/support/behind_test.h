// A sandbox whose changes are answered before it has them, for tests of what is sent when, and of what becomes of it.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {

class Behind : public MountTest {
 protected:
    explicit Behind(MountSetup setup = WithWriteBehind()) : MountTest(std::move(setup)) {}
    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        TellTheServer();
        files().PutFile("/work/old", "old");
        Advance(std::chrono::seconds(5));
        Learn("first");
    }
    // The first change of a quiet time waits, while the server is asked what is needed for those that follow.
    void Learn(const std::string& name) {
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(me().Mkdir("/box/fs/work/" + name + std::to_string(i)), 0);
            Settle();
        }
        EXPECT_EQ(me().ListPlus("/box/fs/work").empty(), false);
    }
    // The file system does not tell when files were made.
    void HideBirths() {
        supervisor().look = [this](const std::string& path) {
            IdentityStat seen = files().Identity(path);
            seen.birth_ns = 0;
            return seen;
        };
    }
    // From now on nothing that is asked of the sandbox is answered.
    void Hold() { files().SetAnswers(FakeFiles::Answers::kHeld); }
    // /work/new is open, this was written to it, and nobody has answered.
    std::unique_ptr<Client::File> UnderWay(const std::string& text) {
        auto file = me().Create("/box/fs/work/new", O_WRONLY);
        EXPECT_EQ(file->error(), 0);
        Settle();
        Hold();
        EXPECT_EQ(file->Write(text), 0);
        Settle();
        EXPECT_TRUE(IsHeld("write"));
        return file;
    }
    RecordingPtr StartWrite(Client::File& file, std::uint64_t offset, const std::string& text) {
        return me().Ask<WrittenReply>("write", file.ino(), "", [&](WrittenReply reply) {
            me().fs().Write(file.opened().handle, offset, {text.data(), text.size()}, false,
                            std::move(reply));
        });
    }
    // Everything held is let go, in order, until nothing moves.
    void LetGo() {
        files().SetAnswers(FakeFiles::Answers::kAtOnce);
        files().ReleaseAll();
        Settle();
    }
    // What is on its way happens, and the link is cut before anybody has heard.
    void CutAfterwards() {
        (void)world_.loop.Run();
        files().SetAnswers(FakeFiles::Answers::kAtOnce);
        for (std::size_t left = files().Held().size(); left > 0; --left)
            files().LoseAnswer(Error(Errno{EIO}, "cut", Blame::kRemote));
        machine().Cut();
    }
    void HappenUnheard() {
        CutAfterwards();
        Advance(std::chrono::seconds(3));
    }
    bool IsHeld(const std::string& what) {
        const auto held = files().Held();
        return std::any_of(held.begin(), held.end(),
                           [&what](const std::string& one) { return one.starts_with(what); });
    }
    void FailHeld(const std::string& what, const Error& error) {
        const auto held = files().Held();
        for (std::size_t i = 0; i < held.size(); ++i) {
            if (held[i].starts_with(what)) return files().FailWith(error, i);
        }
        FAIL() << what << " is not held";
    }
    // What a shell's `echo` says: 0 or an errno of open, write or close.
    std::string StatusOf(int n) { return me().Cat("/box/events/" + std::to_string(n) + "/status"); }
};

}  // namespace sbxfs::testing
