// The tree of contract 2.
#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

using Tree = MountTest;
using Names = std::vector<std::string>;

TEST_F(Tree, TheRootListsReadmeMountAndSandboxes) {
    EXPECT_EQ(me().List("/"), (Names{"README.md", ".mount"}));
    MakeBox("b2");
    MakeBox("b1");
    EXPECT_EQ(me().List("/"), (Names{"README.md", ".mount", "b1", "b2"}));
    EXPECT_EQ(me().Cat("/b1/status"), "ready\n");
}

}  // namespace
}  // namespace sbxfs::testing
