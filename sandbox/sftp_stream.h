// The two byte streams of an SFTP session: SftpInput cuts packets off what arrives, in pieces of
// any size; SftpOutput holds what waits to be sent. Both touch each byte of file data once: the
// payload of a DATA packet is collected straight into the string that its reader gets, that of a
// WRITE stays where its writer has put it. Owned by SftpClient; no thread rules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sandbox/file_bytes.h"
#include "sandbox/sftp_wire.h"

namespace sbxfs {

struct SftpPacket {
    SftpType type{};
    std::uint32_t id = 0;   // of VERSION: the version
    std::string_view body;  // after the id; valid until the next call of Next(). Empty for DATA
    std::string data;       // DATA only: the payload
};

class SftpInput {
 public:
    // Takes bytes off the front of `bytes`. A packet, or nothing when more bytes are needed (then
    // all were taken), or why the stream cannot be followed any further.
    Result<std::optional<SftpPacket>> Next(std::string_view& bytes);

    // Bytes kept of a packet that is not complete yet.
    std::size_t held() const { return partial_.size() + data_.size(); }
    // Whether what has arrived ends inside a packet, once Next() has said nothing.
    bool InPacket() const { return in_data_ || !partial_.empty(); }

 private:
    Result<std::size_t> PacketSize(std::string_view head) const;
    Result<std::optional<SftpPacket>> Cut(std::string_view packet);
    Result<bool> FillPartial(std::string_view& bytes);
    void FillData(std::string_view& bytes);

    std::string partial_;        // the beginning of a packet
    bool partial_done_ = false;  // it was handed out: forget it at the next call
    std::string data_;           // the payload of a DATA packet whose header has been read
    std::size_t data_left_ = 0;
    std::uint32_t data_id_ = 0;
    bool in_data_ = false;
};

class SftpOutput {
 public:
    void Append(std::string_view bytes);
    // `part` of `whole`, which is held instead of copied where that is worth it.
    void Append(FileBytes whole, std::string_view part);
    // The longest piece that lies in one place; empty when nothing waits.
    std::string_view Unsent() const;
    void Sent(std::size_t count);
    void Clear();
    std::size_t size() const { return size_; }

 private:
    // Large enough for a full WRITE; also what a transport is offered at a time.
    static constexpr std::size_t kChunk = 256U << 10;

    struct Chunk {
        std::string own;
        FileBytes held;  // when there are any, `part` of it is what is sent
        std::string_view part;

        std::string_view Bytes() const { return held.empty() ? own : part; }
    };

    std::deque<Chunk> chunks_;
    std::size_t sent_ = 0;  // of the first chunk
    std::size_t size_ = 0;
    std::string spare_;  // an emptied chunk, for the next one
};

}  // namespace sbxfs
