#include "sandbox/providers/ssh/known_hosts.h"

#include <gtest/gtest.h>

#include <string>

namespace sbxfs {
namespace {

const std::string kKnownKey =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFyJhXa+17Gye5zCs0sK8AA3UPa9fOO5n64xAUiO78kK";
const std::string kOtherKey =
    "ecdsa-sha2-nistp256 "
    "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCv1nOKhLJ5DKP7IOH/"
    "YnrBrlSx0Hzi7mMDtJGZdC5PuZ4HKO/iB3ler8D0+xtSY8+gPbMGINP/JAeG//9GxzXc=";
// Made by ssh-keygen -H of lab.example and [lab.example]:2222.
const std::string kHashed =
    "|1|/gHYnQrdueim0rskf0QcYEY3+Ao=|TNVa7EeVhXpwS5VVi3NoM6sYzgM= " + kKnownKey + "\n";
const std::string kHashedPort =
    "|1|1RjmFm5UKu+NNlLEmkaQvUgGC3A=|cEhQDH6Ab9FAzQwFLghFpZGL7Ug= " + kKnownKey + "\n";

using Keys = std::vector<std::string>;

KnownHost Known(const std::string& text, const std::string& host, std::uint16_t port = 22) {
    KnownHost known;
    ReadKnownHosts(text, host, port, known);
    return known;
}

std::string PinRefusal(const std::string& text, const std::string& host, std::uint16_t port = 22) {
    const auto keys = KeysToPin(Known(text, host, port), host, port, "FILE");
    if (keys) return "";
    EXPECT_EQ(keys.error().code(), Errno{EACCES});
    return keys.error().what();
}

TEST(KnownHosts, FindsAHostByNameAndByAddress) {
    const std::string text = "# comment\n\nlab.example,192.0.2.7 " + kKnownKey + " me@here\n";
    EXPECT_EQ(Known(text, "lab.example").keys, Keys{kKnownKey});
    EXPECT_EQ(Known(text, "192.0.2.7").keys, Keys{kKnownKey});
    EXPECT_EQ(Known(text, "LAB.example").keys, Keys{kKnownKey});
    EXPECT_EQ(Known(text, "lab").keys, Keys{});
    EXPECT_EQ(Known(text, "lab.example.org").keys, Keys{});
}

TEST(KnownHosts, CollectsAllTypesEachOnce) {
    const std::string text =
        "lab " + kKnownKey + "\r\nlab\t" + kOtherKey + "\nlab " + kKnownKey + "\n";
    EXPECT_EQ(Known(text, "lab").keys, (Keys{kKnownKey, kOtherKey}));
}

TEST(KnownHosts, FindsHashedNames) {
    EXPECT_EQ(Known(kHashed, "lab.example").keys, Keys{kKnownKey});
    EXPECT_EQ(Known(kHashed, "lab.exampl").keys, Keys{});
    EXPECT_EQ(Known(kHashedPort, "lab.example", 2222).keys, Keys{kKnownKey});
    EXPECT_EQ(Known(kHashedPort, "lab.example").keys, Keys{});
    EXPECT_EQ(Known("|1|broken " + kKnownKey + "\n", "lab").keys, Keys{});
}

TEST(KnownHosts, AnotherPortHasItsOwnKeysAndElseThoseOfTheHost) {
    const std::string both = "lab " + kKnownKey + "\n[lab]:2222 " + kOtherKey + "\n";
    EXPECT_EQ(Known(both, "lab", 2222).keys, Keys{kOtherKey});
    EXPECT_EQ(Known(both, "lab", 2223).keys, Keys{kKnownKey});
    EXPECT_EQ(Known(both, "lab").keys, Keys{kKnownKey});
    EXPECT_EQ(Known("[::1]:2222 " + kOtherKey + "\n", "::1", 2222).keys, Keys{kOtherKey});
}

TEST(KnownHosts, KnowsPatternsAndExceptions) {
    const std::string text = "*.example,!bad.example,10.0.?.1 " + kKnownKey + "\n";
    EXPECT_EQ(Known(text, "a.example").keys, Keys{kKnownKey});
    EXPECT_EQ(Known(text, "bad.example").keys, Keys{});
    EXPECT_EQ(Known(text, "10.0.7.1").keys, Keys{kKnownKey});
    EXPECT_EQ(Known(text, "10.0.77.1").keys, Keys{});
    EXPECT_EQ(Known("*a*a*a*a*b " + kKnownKey + "\n", std::string(200, 'a')).keys, Keys{});
}

TEST(KnownHosts, WhatIsNotALineIsSkipped) {
    const std::string text = "lab\nlab ssh-ed25519\nlab ssh-ed25519 !!!!\nlab " + kKnownKey + "\n";
    EXPECT_EQ(Known(text, "lab").keys, Keys{kKnownKey});
}

TEST(KnownHosts, AnUnknownHostIsRefusedWithTheWayToLearnItsKey) {
    const std::string text = PinRefusal("other " + kKnownKey + "\n", "lab", 2222);
    EXPECT_NE(text.find("[lab]:2222 is not known"), std::string::npos) << text;
    EXPECT_NE(text.find("ssh-keyscan -p 2222 lab"), std::string::npos) << text;
    EXPECT_NE(text.find("FILE"), std::string::npos) << text;
}

TEST(KnownHosts, ARevokedKeyIsNeverPinned) {
    const std::string revoked = "@revoked * " + kKnownKey + "\n";
    EXPECT_NE(PinRefusal(revoked + "lab " + kKnownKey + "\n", "lab").find("@revoked"),
              std::string::npos);
    // Another key of that host is as good as before, and a revocation counts for all ports.
    const auto keys =
        KeysToPin(Known("lab " + kKnownKey + "\nlab " + kOtherKey + "\n" + revoked, "lab"), "lab",
                  22, "FILE");
    ASSERT_TRUE(keys);
    EXPECT_EQ(*keys, Keys{kOtherKey});
    EXPECT_NE(
        PinRefusal("@revoked lab " + kKnownKey + "\n[lab]:2222 " + kKnownKey + "\n", "lab", 2222),
        "");
}

TEST(KnownHosts, CertificateAuthoritiesAndUnusableTypesAreNamed) {
    EXPECT_NE(PinRefusal("@cert-authority *.example " + kKnownKey + "\n", "lab.example")
                  .find("certificate authority"),
              std::string::npos);
    EXPECT_NE(PinRefusal("lab ssh-dss AAAA\n", "lab").find("ssh-dss"), std::string::npos);
    // A plain line beside it is enough.
    EXPECT_EQ(PinRefusal("@cert-authority * " + kOtherKey + "\nlab " + kKnownKey + "\n", "lab"),
              "");
}

}  // namespace
}  // namespace sbxfs
