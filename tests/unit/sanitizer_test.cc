// Deliberate errors, each in a process of its own: the sanitizers this was built with are really on, and
// what they find ends the process.
#include <gtest/gtest.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <memory>
#include <thread>

namespace sbxfs {
namespace {

#if defined(__SANITIZE_ADDRESS__)

void UseAfterFree() {
    auto bytes = std::make_unique<std::array<char, 16>>();
    volatile char* dangling = bytes->data();
    bytes.reset();
    dangling[3] = 1;
}

void Overflow() {
    volatile int number = INT_MAX;
    number = number + 1;
    std::_Exit(number == 0 ? 1 : 0);
}

// The only pointer to it is lost before the process ends.
void Leak() {
    volatile auto* lost = new int(5);
    lost = nullptr;
    (void)lost;
    std::exit(0);  // NOLINT(concurrency-mt-unsafe): the only thread
}

TEST(Sanitizers, AUseAfterFreeEndsTheProcess) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(UseAfterFree(), "heap-use-after-free");
}

TEST(Sanitizers, UndefinedBehaviourEndsTheProcess) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(Overflow(), "signed integer overflow");
}

TEST(Sanitizers, ALeakIsFound) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        Leak(), [](int status) { return status != 0; }, "LeakSanitizer");
}

#elif defined(__SANITIZE_THREAD__)

int shared_number = 0;

void Race() {
    std::thread one([] { ++shared_number; });
    std::thread two([] { ++shared_number; });
    one.join();
    two.join();
    std::exit(0);  // NOLINT(concurrency-mt-unsafe): the only thread by now
}

TEST(Sanitizers, ADataRaceEndsTheProcess) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(Race(), ::testing::ExitedWithCode(66), "ThreadSanitizer: data race");
}

#endif

}  // namespace
}  // namespace sbxfs
