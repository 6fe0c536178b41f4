// What of a sandbox's names may be shown, and where its symlinks may lead: nowhere out of its own tree
// (contract 5 "symlinks are contained").
#include "fs/remote_paths.h"

#include <gtest/gtest.h>

#include <map>

#include "base/strings.h"

namespace sbxfs {
namespace {

TEST(ContainLink, WhatNeedsNoChangeIsVerbatim) {
    for (const char* target : {"a", "a/b", "../a", "../../a", "..", "../..", "a/b/c.d"})
        EXPECT_EQ(ContainLink(target, "/x/y", "/"), target);
    // git status, rsync and the like compare the text.
    for (const char* target : {".", "./a", "a/", "a//b", "a/./b", "./../a", "./..//../a/."})
        EXPECT_EQ(ContainLink(target, "/x/y", "/"), target);
}

TEST(ContainLink, AbsoluteTargetsAreRelativeToTheRoot) {
    EXPECT_EQ(ContainLink("/etc/passwd", "", "/"), "etc/passwd");
    EXPECT_EQ(ContainLink("/etc/passwd", "/x/y", "/"), "../../etc/passwd");
    EXPECT_EQ(ContainLink("/", "/x", "/"), "..");
    EXPECT_EQ(ContainLink("/", "", "/"), ".");
    EXPECT_EQ(ContainLink("/srv/data/a", "/x", "/srv/data"), "../a");
    EXPECT_EQ(ContainLink("/srv/data", "/x", "/srv/data"), "..");
    EXPECT_EQ(ContainLink("/srv/database/a", "/x", "/srv/data"), "../srv/database/a");
}

TEST(ContainLink, DotDotIsCollapsedByNameAndClippedAtTheRoot) {
    EXPECT_EQ(ContainLink("../../../../etc", "/x", "/"), "../etc");
    EXPECT_EQ(ContainLink("..", "", "/"), ".");
    EXPECT_EQ(ContainLink("a/../../b", "/x", "/"), "../b");
    EXPECT_EQ(ContainLink("a/..", "/x", "/"), "../x");
    EXPECT_EQ(ContainLink("./..//../a", "/x", "/"), "../a");
    EXPECT_EQ(ContainLink("", "/x", "/"), "../x");
}

TEST(ContainLink, ANulByteEndsATargetBeforeItIsJudged) {
    using namespace std::string_view_literals;
    // The kernel gets a C string: what looked like a name before would be a step up.
    EXPECT_EQ(ContainLink("..\0x"sv, "", "/"), ".");
    EXPECT_EQ(ContainLink("a/..\0"sv, "/x", "/"), "../x");
    EXPECT_EQ(ContainLink("../..\0/b"sv, "/x", "/"), "..");
}

// Whatever the targets, following chains of links as the kernel does stays below the root.
TEST(ContainLink, NoChainOfLinksLeavesTheTree) {
    using namespace std::string_view_literals;
    const std::vector<std::string_view> targets = {
        "..",       "../..",    "/..",      "a/..",       "a/../..", "/a/../..",  "..\0"sv,
        "a/..\0"sv, ".",        "/",        "./..",       "..//..",  "a/b/../..", "../a/..",
        "l1/..",    "l1/../..", "l2/l1/..", "../l1/l2",   "//..//",  "/a",        "/a/b/..",
        "\0"sv,     "..a",      "...",      "l1/l1/l1/..", "./a//l1", "./../.", "l2/./.."};
    for (const std::string_view first : targets) {
        for (const std::string_view second : targets) {
            // Two links, one in /a and one in /, each named as the other may be told to go through.
            const std::map<std::string, std::string> links = {
                {"/a/l1", ContainLink(first, "/a", "/")},
                {"/l2", ContainLink(second, "", "/")},
                {"/l1", ContainLink(first, "", "/")},
                {"/a/l2", ContainLink(second, "/a", "/")}};
            for (const auto& [start, ignored] : links) {
                std::vector<std::string> here;
                std::vector<std::string> todo = Split(start.substr(1), '/');
                for (int steps = 0; !todo.empty() && steps < 200; ++steps) {
                    const std::string part = todo.front();
                    todo.erase(todo.begin());
                    if (part.empty() || part == ".") continue;
                    if (part == "..") {
                        ASSERT_FALSE(here.empty()) << Printable(first) << " and "
                                                   << Printable(second) << " from " << start;
                        here.pop_back();
                        continue;
                    }
                    here.push_back(part);
                    const auto link = links.find("/" + Join(here, "/"));
                    if (link == links.end()) continue;
                    here.pop_back();
                    const std::string shown = link->second.c_str();
                    ASSERT_FALSE(shown.starts_with('/'));
                    const auto parts = Split(shown, '/');
                    todo.insert(todo.begin(), parts.begin(), parts.end());
                }
            }
        }
    }
}

TEST(RemotePaths, ComponentsAreSingleNames) {
    for (const std::string& bad :
         {std::string(), std::string("."), std::string(".."), std::string("a/b"),
          std::string("a\0b", 3), std::string(256, 'a')})
        EXPECT_FALSE(IsComponent(bad));
    for (const std::string& good : {std::string("a"), std::string("..."), std::string("..a"),
                                    std::string("\xff\n"), std::string(255, 'a')})
        EXPECT_TRUE(IsComponent(good));
}

TEST(RemotePaths, HiddenIsWhatIsNotFilesAndTheSpool) {
    Template what;
    EXPECT_TRUE(IsHidden(what, "", "/proc"));
    EXPECT_TRUE(IsHidden(what, "", "/proc/1/environ"));
    EXPECT_TRUE(IsHidden(what, "", "/dev/sda"));
    EXPECT_FALSE(IsHidden(what, "", "/process"));
    EXPECT_FALSE(IsHidden(what, "", "/work/proc"));
    EXPECT_TRUE(IsHidden(what, "/home/u/.sbxfs", "/home/u/.sbxfs/1/stdout"));
    EXPECT_FALSE(IsHidden(what, "/home/u/.sbxfs", "/home/u/.sbxfs2"));
    what.fs_root = "/sys/fs";
    EXPECT_FALSE(IsHidden(what, "", "/sys/fs/cgroup"));
}

TEST(RemotePaths, TheWorkdirIsSeenFromTheRoot) {
    Template what;
    what.workdir = "/work/x";
    EXPECT_EQ(PathBelowRoot(what), "/work/x");
    what.fs_root = "/work";
    EXPECT_EQ(PathBelowRoot(what), "/x");
    what.fs_root = "/work/x";
    EXPECT_EQ(PathBelowRoot(what), "");
    what.fs_root = "/elsewhere";
    EXPECT_EQ(PathBelowRoot(what), "");
}

}  // namespace
}  // namespace sbxfs
