// The primitives of SFTP v3 against bytes written down from the draft.
#include "sandbox/sftp_wire.h"

#include <gtest/gtest.h>

#include "base/strings.h"
#include "tests/fakes/sftp_peer.h"

namespace sbxfs {
namespace {

using testing::FileAttrs;

std::string Bytes(std::string_view hex) {
    std::string out;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
    }
    return out;
}

std::string Encoded(const SftpAttrs& attrs) {
    std::string out;
    PutAttrs(attrs, out);
    return Hex(out);
}

TEST(SftpWire, NumbersAreBigEndian) {
    std::string out;
    Put32(0x01020304, out);
    Put64(0x05060708090a0b0cULL, out);
    PutText("ab", out);
    EXPECT_EQ(Hex(out), "0102030405060708090a0b0c000000026162");
    PacketReader in(out);
    EXPECT_EQ(*in.U32(), 0x01020304U);
    EXPECT_EQ(*in.U64(), 0x05060708090a0b0cULL);
    EXPECT_EQ(*in.Text(), "ab");
    EXPECT_EQ(in.left(), 0U);
}

TEST(SftpWire, AttributesHoldWhatTheirFlagsSay) {
    EXPECT_EQ(Encoded({}), "00000000");
    SftpAttrs size;
    size.size = 5;
    EXPECT_EQ(Encoded(size), "000000010000000000000005");
    SftpAttrs mode;
    mode.permissions = 0755;
    EXPECT_EQ(Encoded(mode), "00000004000001ed");
    EXPECT_EQ(Encoded(FileAttrs(3, 0100600)),
              "0000000f"          // size, owner, permissions, times
              "0000000000000003"  // size
              "000003e800000064"  // uid, gid
              "00008180"          // S_IFREG | 0600
              "0000000b00000016"  // atime, mtime
    );
}

TEST(SftpWire, AttributesComeBackAsTheyWere) {
    for (unsigned bits = 0; bits < 16; ++bits) {
        SftpAttrs attrs;
        if ((bits & 1) != 0) attrs.size = ~std::uint64_t{0};
        if ((bits & 2) != 0) attrs.owner = SftpAttrs::Owner{.uid = 0xffffffff, .gid = 1};
        if ((bits & 4) != 0) attrs.permissions = 0120777;
        if ((bits & 8) != 0) attrs.times = SftpAttrs::Times{.atime = 0xffffffff, .mtime = 0};
        std::string out;
        PutAttrs(attrs, out);
        PacketReader in(out);
        EXPECT_EQ(*in.Attrs(), attrs);
        EXPECT_EQ(in.left(), 0U);
    }
}

TEST(SftpWire, ExtendedAttributesAreSkipped) {
    // flags, permissions, count 1, "a" = "bc", then 0x2a.
    const std::string bytes = Bytes(
        "80000004000081a4"
        "00000001"
        "0000000161"
        "000000026263"
        "2a");
    PacketReader in(bytes);
    EXPECT_EQ(in.Attrs()->permissions, 0100644U);
    EXPECT_EQ(in.left(), 1U);
}

TEST(SftpWire, CountsAndLengthsBeyondThePacketAreErrors) {
    for (const char* attrs : {
             "80000000ffffffff",          // four billion extended attributes
             "8000000080000000",          // a count whose double is 0
             "8000000000000001ffffffff",  // one, with an endless name
             "00000010",                  // an unknown flag: what follows cannot be found
             "0000000100000000",          // half a size
             "00",
         }) {
        const std::string bytes = Bytes(attrs);
        EXPECT_FALSE(PacketReader(bytes).Attrs().has_value()) << attrs;
    }
    for (const char* names : {"ffffffff", "00000001",
                              "00000001"
                              "ffffffff"
                              "0000000000000000"}) {
        const std::string bytes = Bytes(names);
        EXPECT_FALSE(PacketReader(bytes).Names().has_value()) << names;
    }
    EXPECT_FALSE(PacketReader("").U32().has_value());
    EXPECT_FALSE(PacketReader(std::string_view("\0\0\0\1", 4)).Text().has_value());
    EXPECT_FALSE(PacketReader(std::string(87, 'x')).Statvfs().has_value());
    EXPECT_TRUE(PacketReader(std::string(88, 'x')).Statvfs().has_value());
}

TEST(SftpWire, EveryCutOfAnAnswerIsAnError) {
    std::string names;
    Put32(2, names);
    for (const char* name : {"a", "bb"}) {
        PutText(name, names);
        PutText("long", names);
        PutAttrs(FileAttrs(1), names);
    }
    for (std::size_t length = 0; length < names.size(); ++length) {
        EXPECT_FALSE(PacketReader(std::string_view(names).substr(0, length)).Names().has_value())
            << length;
    }
    EXPECT_EQ(PacketReader(names).Names()->size(), 2U);
}

}  // namespace
}  // namespace sbxfs
