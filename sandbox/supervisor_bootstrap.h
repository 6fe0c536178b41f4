// How the supervisor comes to run in a sandbox: one command of the login shell, which says what is there, waits for a
// word, and becomes the supervisor. Pure: the command, what it says, the words.
//
//     BootstrapCommand()           ->
//                                  <-  "sbxfs-attach 1 MACHINE PROGRAM PROOF\n"  (TakeSite)
//     kRunWord                     ->  becomes the program that is there already
//     BringWords(), the program    ->  takes that many bytes, keeps them as the program, becomes it
//     kLeaveWord, or the end       ->  ends
//
// Until it has its word it changes nothing there, so that a sandbox that turns out to be another one is left as it was.
// One command in place of requests over SFTP: each of those is a round trip. Tested with real shells
// (tests/contract/supervisor_bootstrap_test.cc).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sbxfs {

// What a sandbox says of itself: hostile, like all that comes from there.
struct SupervisorSite {
    enum class Program { kPresent, kMissing, kNoSpool };
    std::string machine;  // as `uname -m` says
    Program program = Program::kMissing;
    std::string proof;  // first line of the first proof file that is there
};

// For any login shell. Relative paths are below the login's home directory.
std::string BootstrapCommand(const std::string& program, const std::string& spool,
                             const std::vector<std::string>& proof_files);

// Out of what came so far, behind whatever start-up files print; none until the line is whole. What came before it is
// then taken away, too.
std::optional<SupervisorSite> TakeSite(std::string& said);

inline constexpr std::string_view kRunWord = "run\n";
inline constexpr std::string_view kLeaveWord = "leave\n";
// `nonce` is for the name of the file until it is whole: letters and digits.
std::string BringWords(std::size_t program_size, const std::string& nonce);
// How the command ends when the program could not be kept; why is on stderr.
inline constexpr int kNotBrought = 97;

}  // namespace sbxfs
