// Times that others tell: a supervisor, AWS, a journal.
#include "base/clock.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "aws/timestamp.h"

namespace sbxfs {
namespace {

TEST(ForeignTimes, BeyondWhatTheClockHoldsAreItsEnds) {
    EXPECT_EQ(EpochMs(FromEpochMs(1'700'000'000'123)), 1'700'000'000'123);
    for (const std::int64_t ms : {std::int64_t{253'402'300'799'000}, INT64_MAX, INT64_MAX - 1}) {
        EXPECT_GT(FromEpochMs(ms), FromEpochMs(4'000'000'000'000));
        EXPECT_TRUE(Rfc3339(FromEpochMs(ms)).starts_with("2262-")) << Rfc3339(FromEpochMs(ms));
    }
    for (const std::int64_t ms : {INT64_MIN, INT64_MIN + 1})
        EXPECT_TRUE(Rfc3339(FromEpochMs(ms)).starts_with("1677-")) << Rfc3339(FromEpochMs(ms));
}

TEST(ForeignTimes, YearsThatNoCredentialExpiresInAreNoOverflow) {
    for (const char* text :
         {"1013-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"}) {
        const auto time = aws::ParseIso8601(text);
        ASSERT_TRUE(time.has_value()) << text;
        EXPECT_GE(EpochMs(*time), 0) << text;
    }
}

}  // namespace
}  // namespace sbxfs
