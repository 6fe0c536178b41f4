#include "sandbox/ssh_keys.h"

#include <gtest/gtest.h>

namespace sbxfs {
namespace {

// RFC 8709's and OpenSSH's own examples of lines.
constexpr char kEd25519[] =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIINwpwvbgYSkEvtdaC2GNCJxKqzqAFRDMeqVKNfnNLjZ";

TEST(SshKeys, AMadePairFitsItself) {
    const auto pair = GenerateSshKeyPair();
    ASSERT_TRUE(pair) << pair.error().what();
    EXPECT_TRUE(pair->public_line.starts_with("ssh-ed25519 AAAA"));
    EXPECT_EQ(pair->public_line.find(' ', 12), std::string::npos) << "no comment";
    EXPECT_TRUE(pair->private_pem.Reveal().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    const auto derived = PublicLineOf(pair->private_pem);
    ASSERT_TRUE(derived) << derived.error().what();
    EXPECT_EQ(*derived, pair->public_line);
    EXPECT_FALSE(SamePublicKey(pair->public_line, GenerateSshKeyPair()->public_line));
}

TEST(SshKeys, CommentsDoNotMakeAKeyAnother) {
    EXPECT_EQ(*ParsePublicLine(std::string(kEd25519) + " somebody@somewhere\n"), kEd25519);
    EXPECT_TRUE(SamePublicKey(kEd25519, std::string("  ") + kEd25519 + " other"));
}

TEST(SshKeys, WhatIsNoKeyIsRefusedAndEqualToNothing) {
    for (const std::string& line :
         {std::string(), std::string("ssh-ed25519"), std::string("ssh-ed25519 AAAA"),
          std::string("ssh-ed25519 !!!!"), std::string("nonsense AAAA"),
          std::string(kEd25519).substr(12), std::string("ssh-rsa ") + (kEd25519 + 12)}) {
        const auto parsed = ParsePublicLine(line);
        ASSERT_FALSE(parsed) << line;
        EXPECT_EQ(parsed.error().code(), Errno{EINVAL});
        EXPECT_FALSE(SamePublicKey(line, line)) << line;
    }
    EXPECT_FALSE(PublicLineOf(Secret("not a key")));
}

}  // namespace
}  // namespace sbxfs
