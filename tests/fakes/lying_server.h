// An SFTP server that tells the truth about a small tree, and lies about it: each field of each answer, each length, type
// and id. LieAbout() is the grammar, the same for tests that go through all of it and for fuzzers that pick.
//
// The tree: names that end in "d" and "/" are directories, those that end in "link" are links to "target", those that end
// in "fifo" are FIFOs, "absent" is not there, all else are files of ten bytes. Changes are acknowledged, and forgotten.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fakes/sftp_peer.h"

namespace sbxfs::testing {

class HonestServer {
 public:
    // The right answer.
    std::string Answer(const PeerRequest& request);

 private:
    std::string AnswerExtended(const PeerRequest& request);
    std::string PathOf(const std::string& handle) const;

    std::uint32_t opened_ = 0;
    std::map<std::string, std::string> paths_;  // by handle
    std::map<std::string, int> listed_;         // READDIRs so far, by handle
};

// One thing an answer consists of.
struct WireField {
    enum class Kind { kU32, kU64, kText };
    Kind kind = Kind::kU32;
    std::size_t offset = 0;  // of a text: of its length
    std::string name;
};
// What comes behind the length and the type, the id first. `packet` is one whole, well-formed answer.
std::vector<WireField> FieldsOf(std::string_view packet);

struct Lie {
    std::string what;   // "ATTRS.size = 2^64-1"
    std::string bytes;  // in place of the answer
};
// How many things can be said in place of `truth`, and one of them: number `which`, if there are so many. `other` is the
// id of another request in flight, `handle` one that was given for another file.
struct Lies {
    std::size_t count = 0;
    Lie told;
};
Lies LieAbout(std::string_view truth, std::uint32_t other, std::string_view handle,
              std::size_t which);
// What a name, a target or a handle should not be.
std::vector<std::string> HostileTexts();
std::string WithText(std::string_view packet, const WireField& field, std::string_view text);
std::string WithNumber(std::string_view packet, const WireField& field, std::uint64_t value);

}  // namespace sbxfs::testing
