// ContentStore: bytes of files in memory, bounded for all together.
#include "sandbox/content_store.h"

#include <gtest/gtest.h>

namespace sbxfs::testing {
namespace {

class Contents : public ::testing::Test {
 protected:
    static std::string Text(const std::optional<ContentSlices>& slices) {
        if (!slices) return "<none>";
        std::string text;
        for (const ContentSlice& slice : *slices)
            text.append(*slice.bytes, slice.at, slice.size);
        return text;
    }
    const std::shared_ptr<ContentStore> store_ = std::make_shared<ContentStore>(100);
    const FileContentsPtr file_ = store_->Make();
};

TEST_F(Contents, ARangeIsToldWhenAllOfItIsThere) {
    file_->Put(0, "abcd");
    file_->Put(4, "efgh");
    EXPECT_EQ(Text(file_->Read({2, 4})), "cdef");
    EXPECT_EQ(Text(file_->Read({6, 4})), "<none>");
    file_->Put(12, "mnop");
    EXPECT_EQ(Text(file_->Read({6, 8})), "<none>");
    const auto missing = file_->Missing({2, 20});
    ASSERT_EQ(missing.size(), 2U);
    EXPECT_EQ(missing[0].offset, 8U);
    EXPECT_EQ(missing[0].size, 4U);
    EXPECT_EQ(missing[1].offset, 16U);
    EXPECT_EQ(missing[1].size, 6U);
}

TEST_F(Contents, ARangeIsCutAtTheEndOfTheFile) {
    file_->Put(0, "abcd");
    EXPECT_FALSE(file_->IsWhole());
    file_->SetEnd(4);
    EXPECT_TRUE(file_->IsWhole());
    EXPECT_EQ(Text(file_->Read({2, 100})), "cd");
    EXPECT_EQ(Text(file_->Read({4, 100})), "");
    EXPECT_EQ(Text(file_->Read({50, 1})), "");
}

TEST_F(Contents, AnEmptyFileIsWholeWithoutAByte) {
    file_->SetEnd(0);
    EXPECT_TRUE(file_->IsWhole());
    EXPECT_EQ(Text(file_->Read({0, 10})), "");
}

TEST_F(Contents, WhatIsThereIsNotReplacedByWhatComesLater) {
    file_->Put(2, "CD");
    file_->Put(0, "abcdef");
    EXPECT_EQ(Text(file_->Read({0, 6})), "abCDef");
    EXPECT_EQ(store_->Bytes(), 6U);
}

TEST_F(Contents, AFileThatChangedTellsAndTakesNothing) {
    file_->Put(0, "abcd");
    file_->Spoil();
    EXPECT_EQ(Text(file_->Read({0, 4})), "<none>");
    file_->Put(0, "abcd");
    EXPECT_EQ(store_->Bytes(), 0U);
}

TEST_F(Contents, TheLeastRecentlyUsedGoesFirst) {
    const FileContentsPtr other = store_->Make();
    file_->Put(0, std::string(40, 'a'));
    other->Put(0, std::string(40, 'b'));
    (void)file_->Read({0, 1});
    other->Put(40, std::string(40, 'c'));
    EXPECT_TRUE(file_->Read({0, 40}));
    EXPECT_FALSE(other->Read({0, 40}));
    EXPECT_TRUE(other->Read({40, 40}));
    EXPECT_LE(store_->Bytes(), store_->most());
}

TEST_F(Contents, DirtyDataCountsAgainstTheSameBound) {
    file_->Put(0, std::string(60, 'a'));
    store_->Claim(50);
    EXPECT_EQ(store_->Bytes(), 0U);
    file_->Put(0, std::string(50, 'a'));
    EXPECT_EQ(store_->Bytes(), 50U);
    store_->Unclaim(50);
    file_->Put(50, std::string(50, 'a'));
    EXPECT_EQ(store_->Bytes(), 100U);
}

TEST_F(Contents, NothingIsLeftOfAFileNobodyHolds) {
    store_->Make()->Put(0, "abcd");
    EXPECT_EQ(store_->Bytes(), 0U);
}

}  // namespace
}  // namespace sbxfs::testing
