// One output stream of a command, copied to a descriptor as it grows. What the mount has not kept of it is left
// out, never copied as the zeros it reads as. For subcommands: one thread, which may wait for its reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "sandbox/output_holes.h"

namespace sbxfs {

class OutputCopy {
 public:
    // `event` is the directory events/N; `stream` is stdout or stderr. `on_signal` is called when a signal cuts a
    // wait short.
    OutputCopy(const std::string& event, std::string_view stream, int to,
               UniqueFunction<void()> on_signal);

    // Copies what is new; how many bytes of the stream that was. The error is that of the descriptor: nobody
    // reads any more (EPIPE), its disk is full.
    Result<std::uint64_t> CopyNew();
    // What was left out so far, ascending.
    const OutputHoles& left_out() const { return left_out_; }
    const std::string& stream() const { return stream_; }

 private:
    OutputHoles HolesNow() const;
    Status Write(std::string_view bytes);
    Status WriteKept(std::string_view bytes);

    const std::string event_;
    const std::string stream_;
    const UniqueFd from_;
    const int to_;
    UniqueFunction<void()> on_signal_;
    std::uint64_t offset_ = 0;
    OutputHoles left_out_;
    std::vector<char> chunk_;
};

}  // namespace sbxfs
