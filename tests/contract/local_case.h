// A test of provider `local`: a world of its own, as root or as an ordinary user, in which every sandbox that was launched
// is destroyed at the end and has left nothing.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "sandbox/providers/local/box.h"
#include "tests/contract/local_world.h"
#include "tests/contract/provider_contract.h"

namespace sbxfs::testing {

class LocalCase : public ::testing::TestWithParam<Who> {
 protected:
    void SetUp() override {
        if (RanElsewhere(GetParam())) {
            over_ = true;
            return;
        }
        world_ = std::make_unique<LocalWorld>();
    }
    void TearDown() override {
        if (!world_) return;
        for (const std::string& token : tokens_) {
            const Status destroyed = DestroyAndWait(world_->provider(), token);
            EXPECT_TRUE(destroyed) << TextOf(destroyed);
            EXPECT_EQ(world_->LeftOf(token), "") << "of " << token;
        }
    }

    LaunchSpec Spec(const std::string& token, const Template& what) {
        tokens_.push_back(token);
        return world_->Spec(token, what);
    }
    Launched MustLaunch(const std::string& token) {
        return MustLaunch(token, world_->SomeTemplate());
    }
    Launched MustLaunch(const std::string& token, const Template& what) {
        Result<Launched> launched = LaunchAndWait(world_->provider(), Spec(token, what));
        if (launched) return *std::move(launched);
        ADD_FAILURE() << TextOf(launched);
        const auto log = ReadWholeFile(world_->BoxPath(token) + "/log");
        if (log) ADD_FAILURE() << *log;
        std::abort();
    }
    static void AwaitExit(pid_t helper) { ASSERT_EQ(::waitpid(helper, nullptr, 0), helper); }
    // The pid of a sandbox's init, as this machine counts.
    pid_t InitOf(const std::string& token) const {
        const auto box = Box::Open(world_->state_dir(), token);
        const auto init = box ? box->Init() : std::nullopt;
        return init ? init->pid : -1;
    }

    bool over_ = false;
    std::unique_ptr<LocalWorld> world_;
    std::vector<std::string> tokens_;
};

}  // namespace sbxfs::testing
