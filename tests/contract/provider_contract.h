// What every provider keeps, as one typed suite: instantiated for each backend with a world that makes a provider
// and can look behind it.
//
//     class MyWorld {
//      public:
//         static std::string WhySkipped();          // why it cannot run on this machine; empty: it can
//         IoLoop& loop();
//         Provider& provider();
//         Template SomeTemplate();                  // one that Check accepts
//         LaunchSpec Spec(const std::string& token);
//         std::string LeftOf(const std::string& token);  // what still exists of it, in words; empty: nothing
//     };
//     INSTANTIATE_TYPED_TEST_SUITE_P(Mine, ProviderContract, MyWorld);
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/provider.h"

namespace sbxfs::testing {

inline constexpr std::chrono::seconds kAnswerLimit{60};

// Tests run side by side and some names of a token are the machine's (control groups): one of this process alone.
inline std::string Token(const std::string& name) {
    return "t-" + std::to_string(::getpid()) + "-" + name;
}

// A callback's argument, once it has come; a test that waits in vain ends with this message.
template <class T>
class Awaited {
 public:
    UniqueFunction<void(T)> Callback() {
        return [promise = promise_](T value) { promise->set_value(std::move(value)); };
    }
    T Get(const std::string& what) {
        if (future_.wait_for(kAnswerLimit) != std::future_status::ready) {
            ADD_FAILURE() << "no answer: " << what;
            std::abort();  // a callback may still come and find nothing
        }
        return future_.get();
    }

 private:
    std::shared_ptr<std::promise<T>> promise_ = std::make_shared<std::promise<T>>();
    std::future<T> future_ = promise_->get_future();
};

inline Result<Launched> LaunchAndWait(Provider& provider, const LaunchSpec& spec) {
    Awaited<Result<Launched>> launched;
    provider.Launch(
        spec, [](std::string_view) {}, launched.Callback());
    return launched.Get("launch of " + spec.token);
}

inline Health ProbeAndWait(Provider& provider, const std::string& token,
                           const std::string& id = "") {
    Awaited<Health> health;
    provider.Probe(token, id, health.Callback());
    return health.Get("probe of " + token);
}

inline Status DestroyAndWait(Provider& provider, const std::string& token,
                             const std::string& id = "") {
    Awaited<Status> done;
    provider.Destroy(token, id, done.Callback());
    return done.Get("destroy of " + token);
}

inline Status StopAndWait(Provider& provider, const std::string& token) {
    Awaited<Status> done;
    provider.Stop(token, "", done.Callback());
    return done.Get("stop of " + token);
}

inline Result<Launched> StartAndWait(Provider& provider, const LaunchSpec& spec) {
    Awaited<Result<Launched>> started;
    provider.Start(
        spec, [](std::string_view) {}, started.Callback());
    return started.Get("start of " + spec.token);
}

inline std::string TextOf(const Result<Launched>& result) {
    return result ? "launched " + result->id : result.error().what();
}
inline std::string TextOf(const Status& status) {
    return status ? "ok" : status.error().what();
}

template <class World>
class ProviderContract : public ::testing::Test {
 protected:
    void SetUp() override {
        const std::string why = World::WhySkipped();
        if (!why.empty()) GTEST_SKIP() << why;
        world_ = std::make_unique<World>();
    }
    void TearDown() override {
        if (!world_) return;
        for (const std::string& token : tokens_) {
            const Status destroyed = DestroyAndWait(provider(), token);
            EXPECT_TRUE(destroyed) << TextOf(destroyed);
            EXPECT_EQ(world_->LeftOf(token), "") << "of " << token;
        }
    }
    Provider& provider() { return world_->provider(); }
    // Everything launched is destroyed at the end of the test, and nothing may be left then.
    LaunchSpec Spec(const std::string& token) {
        tokens_.push_back(token);
        return world_->Spec(token);
    }

    std::unique_ptr<World> world_;
    std::vector<std::string> tokens_;
};
TYPED_TEST_SUITE_P(ProviderContract);

TYPED_TEST_P(ProviderContract, LaunchAnswersWithAllThatIsNeededToConnect) {
    const LaunchSpec spec = this->Spec(Token("connect"));
    const Result<Launched> launched = LaunchAndWait(this->provider(), spec);
    ASSERT_TRUE(launched) << TextOf(launched);
    EXPECT_FALSE(launched->id.empty());
    EXPECT_FALSE(launched->connect.user.empty());
    EXPECT_EQ(launched->connect.host_key, spec.host_key.public_line);
    EXPECT_TRUE(launched->facts.IsObject());
    EXPECT_EQ(ProbeAndWait(this->provider(), spec.token, launched->id).liveness, Liveness::kAlive);
}

TYPED_TEST_P(ProviderContract, ARepeatedLaunchFindsTheSameSandbox) {
    const LaunchSpec spec = this->Spec(Token("again"));
    const Result<Launched> first = LaunchAndWait(this->provider(), spec);
    const Result<Launched> second = LaunchAndWait(this->provider(), spec);
    ASSERT_TRUE(first) << TextOf(first);
    ASSERT_TRUE(second) << TextOf(second);
    EXPECT_EQ(first->id, second->id);
    EXPECT_EQ(first->connect.ToJson().Dump(), second->connect.ToJson().Dump());
}

TYPED_TEST_P(ProviderContract, TwoLaunchesAtOnceMakeOneSandbox) {
    const LaunchSpec spec = this->Spec(Token("twins"));
    Awaited<Result<Launched>> left;
    Awaited<Result<Launched>> right;
    this->provider().Launch(
        spec, [](std::string_view) {}, left.Callback());
    this->provider().Launch(
        spec, [](std::string_view) {}, right.Callback());
    const Result<Launched> first = left.Get("the first launch");
    const Result<Launched> second = right.Get("the second launch");
    ASSERT_TRUE(first) << TextOf(first);
    ASSERT_TRUE(second) << TextOf(second);
    EXPECT_EQ(first->id, second->id);
}

TYPED_TEST_P(ProviderContract, CallbacksRunOnTheLoopAndNotWithinTheCall) {
    const LaunchSpec spec = this->Spec(Token("loop"));
    std::promise<bool> launch_on_loop;
    std::promise<bool> probe_on_loop;
    std::promise<bool> destroy_on_loop;
    IoLoop& loop = this->world_->loop();
    // Started on the loop's own thread: an answer from within would be seen by `inside`.
    bool inside = false;  // the loop thread's
    loop.Post([&] {
        inside = true;
        this->provider().Launch(
            spec, [](std::string_view) {},
            [&](Result<Launched>) { launch_on_loop.set_value(loop.OnThread() && !inside); });
        this->provider().Probe(Token("nobody"), "", [&](Health) {
            probe_on_loop.set_value(loop.OnThread() && !inside);
        });
        this->provider().Destroy(Token("nobody"), "", [&](Status) {
            destroy_on_loop.set_value(loop.OnThread() && !inside);
        });
        inside = false;
    });
    EXPECT_TRUE(probe_on_loop.get_future().get());
    EXPECT_TRUE(destroy_on_loop.get_future().get());
    EXPECT_TRUE(launch_on_loop.get_future().get());
}

TYPED_TEST_P(ProviderContract, OfWhatWasNeverLaunchedNothingIsKnownAndItCanBeDestroyed) {
    const Health health = ProbeAndWait(this->provider(), Token("never"));
    EXPECT_EQ(health.liveness, Liveness::kVanished);
    EXPECT_FALSE(health.why.empty());
    EXPECT_TRUE(DestroyAndWait(this->provider(), Token("never")));
    EXPECT_EQ(this->world_->LeftOf(Token("never")), "");
}

TYPED_TEST_P(ProviderContract, DestroyLeavesNothingAndMayBeRepeated) {
    const LaunchSpec spec = this->Spec(Token("gone"));
    const Result<Launched> launched = LaunchAndWait(this->provider(), spec);
    ASSERT_TRUE(launched) << TextOf(launched);
    const Status destroyed = DestroyAndWait(this->provider(), spec.token, launched->id);
    EXPECT_TRUE(destroyed) << TextOf(destroyed);
    EXPECT_EQ(this->world_->LeftOf(spec.token), "");
    EXPECT_EQ(ProbeAndWait(this->provider(), spec.token, launched->id).liveness,
              Liveness::kVanished);
    EXPECT_TRUE(DestroyAndWait(this->provider(), spec.token, launched->id));
}

TYPED_TEST_P(ProviderContract, TwoDestroysAtOnceBothSucceed) {
    const LaunchSpec spec = this->Spec(Token("twice"));
    ASSERT_TRUE(LaunchAndWait(this->provider(), spec));
    Awaited<Status> left;
    Awaited<Status> right;
    this->provider().Destroy(spec.token, "", left.Callback());
    this->provider().Destroy(spec.token, "", right.Callback());
    const Status first = left.Get("the first destroy");
    const Status second = right.Get("the second destroy");
    EXPECT_TRUE(first) << TextOf(first);
    EXPECT_TRUE(second) << TextOf(second);
    EXPECT_EQ(this->world_->LeftOf(spec.token), "");
}

TYPED_TEST_P(ProviderContract, DestroyCancelsALaunchThatHasJustBegun) {
    const LaunchSpec spec = this->Spec(Token("cancel"));
    Awaited<Result<Launched>> launched;
    Awaited<Status> destroyed;
    this->provider().Launch(
        spec, [](std::string_view) {}, launched.Callback());
    this->provider().Destroy(spec.token, "", destroyed.Callback());
    const Status gone = destroyed.Get("the destroy");
    EXPECT_TRUE(gone) << TextOf(gone);
    (void)launched.Get("the cancelled launch");  // it may have been quicker, but it answers
    EXPECT_EQ(this->world_->LeftOf(spec.token), "");
}

// Once at each point the provider names on the way.
TYPED_TEST_P(ProviderContract, DestroyCancelsALaunchAtEveryPhase) {
    for (int phase = 1; phase <= 3; ++phase) {
        const LaunchSpec spec = this->Spec(Token("phase-") + std::to_string(phase));
        Awaited<Result<Launched>> launched;
        Awaited<Status> destroyed;
        auto seen = std::make_shared<int>(0);
        this->provider().Launch(
            spec,
            [&, seen, phase](std::string_view) {
                if (++*seen == phase)
                    this->provider().Destroy(spec.token, "", destroyed.Callback());
            },
            launched.Callback());
        const Result<Launched> answer = launched.Get("the launch");
        if (*seen < phase) continue;  // a provider with fewer phases
        const Status gone = destroyed.Get("the destroy");
        EXPECT_TRUE(gone) << TextOf(gone);
        EXPECT_EQ(this->world_->LeftOf(spec.token), "") << TextOf(answer);
    }
}

TYPED_TEST_P(ProviderContract, ALaunchThatComesAfterTheDestroyDoesNotBringItBack) {
    const LaunchSpec spec = this->Spec(Token("late"));
    ASSERT_TRUE(LaunchAndWait(this->provider(), spec));
    Awaited<Status> destroyed;
    Awaited<Result<Launched>> during;
    this->provider().Destroy(spec.token, "", destroyed.Callback());
    this->provider().Launch(
        spec, [](std::string_view) {}, during.Callback());
    EXPECT_FALSE(during.Get("the late launch"));
    EXPECT_TRUE(destroyed.Get("the destroy"));
    EXPECT_FALSE(LaunchAndWait(this->provider(), spec));
    EXPECT_EQ(this->world_->LeftOf(spec.token), "");
}

TYPED_TEST_P(ProviderContract, CheckNamesAnUnknownOption) {
    Template good = this->world_->SomeTemplate();
    const Status fine = this->provider().Check(good);
    EXPECT_TRUE(fine) << TextOf(fine);
    good.options["no_such_option"] = std::string("x");
    const Status refused = this->provider().Check(good);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errno{EINVAL});
    EXPECT_NE(refused.error().what().find("no_such_option"), std::string::npos)
        << refused.error().what();
}

REGISTER_TYPED_TEST_SUITE_P(ProviderContract, LaunchAnswersWithAllThatIsNeededToConnect,
                            ARepeatedLaunchFindsTheSameSandbox, TwoLaunchesAtOnceMakeOneSandbox,
                            CallbacksRunOnTheLoopAndNotWithinTheCall,
                            OfWhatWasNeverLaunchedNothingIsKnownAndItCanBeDestroyed,
                            DestroyLeavesNothingAndMayBeRepeated, TwoDestroysAtOnceBothSucceed,
                            DestroyCancelsALaunchThatHasJustBegun,
                            DestroyCancelsALaunchAtEveryPhase,
                            ALaunchThatComesAfterTheDestroyDoesNotBringItBack,
                            CheckNamesAnUnknownOption);

}  // namespace sbxfs::testing
