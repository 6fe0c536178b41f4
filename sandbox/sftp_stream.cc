#include "sandbox/sftp_stream.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace sbxfs {
namespace {

constexpr std::size_t kLength = 4;
constexpr std::size_t kAnswerHead = kLength + 1 + 4;      // length, type, id
constexpr std::size_t kDataHead = kAnswerHead + kLength;  // and the payload's length
// Of less the copy is cheaper than a packet of SSH of its own.
constexpr std::size_t kWorthHolding = 16U << 10;
constexpr std::size_t kKeptBuffer = 64U << 10;

Error BrokenStream(std::string_view what) {
    return {Errno{EIO}, "sftp: " + std::string(what), Blame::kRemote};
}

SftpType TypeOf(std::string_view packet) {
    return SftpType{static_cast<unsigned char>(packet[kLength])};
}

std::string_view TakeFront(std::string_view& bytes, std::size_t count) {
    const std::string_view front = bytes.substr(0, count);
    bytes.remove_prefix(front.size());
    return front;
}

}  // namespace

Result<std::size_t> SftpInput::PacketSize(std::string_view head) const {
    const std::size_t length = Get32(head);
    if (length < kAnswerHead - kLength || length > kSftpMaxPacket) {
        return BrokenStream("a packet of absurd length (" + std::to_string(length) + " bytes)");
    }
    return kLength + length;
}

Result<std::optional<SftpPacket>> SftpInput::Cut(std::string_view packet) {
    SftpPacket cut{
        TypeOf(packet), Get32(packet.substr(kLength + 1)), packet.substr(kAnswerHead), {}};
    if (cut.type == SftpType::kData) {
        PacketReader in(cut.body);
        const std::string_view data = TRY(in.Text());
        if (in.left() != 0) return BrokenStream("bytes behind the end of a DATA packet");
        cut.data = data;
        cut.body = {};
    }
    return std::optional(std::move(cut));
}

Result<std::optional<SftpPacket>> SftpInput::Next(std::string_view& bytes) {
    if (partial_done_) {
        // A thousand idle sessions must not keep a thousand listings' worth of memory.
        if (partial_.capacity() > kKeptBuffer) partial_ = std::string();
        partial_.clear();
        partial_done_ = false;
    }
    if (!in_data_ && partial_.empty() &&
        bytes.size() >= kLength) {  // the common case: nothing is copied
        const std::size_t size = TRY(PacketSize(bytes));
        if (bytes.size() >= size) return Cut(TakeFront(bytes, size));
    }
    if (!in_data_) {
        const bool complete = TRY(FillPartial(bytes));
        if (complete) {
            partial_done_ = true;
            return Cut(partial_);
        }
    }
    if (in_data_) FillData(bytes);
    if (!in_data_ || data_left_ != 0) return std::optional<SftpPacket>();
    in_data_ = false;
    return std::optional(SftpPacket{SftpType::kData, data_id_, {}, std::exchange(data_, {})});
}

// True when partial_ is a whole packet. A DATA packet never is: once its header is there, in_data_
// is set.
Result<bool> SftpInput::FillPartial(std::string_view& bytes) {
    const auto fill_to = [&](std::size_t size) {
        if (partial_.size() < size) partial_ += TakeFront(bytes, size - partial_.size());
        return partial_.size() >= size;
    };
    if (!fill_to(kLength)) return false;
    const std::size_t size = TRY(PacketSize(partial_));
    if (!fill_to(std::min(size, kAnswerHead))) return false;
    if (TypeOf(partial_) != SftpType::kData) return fill_to(size);
    if (size < kDataHead) return BrokenStream("a DATA packet without a length");
    if (!fill_to(kDataHead)) return false;
    if (Get32(std::string_view(partial_).substr(kAnswerHead)) != size - kDataHead) {
        return BrokenStream("a DATA packet whose two lengths disagree");
    }
    data_id_ = Get32(std::string_view(partial_).substr(kLength + 1));
    data_left_ = size - kDataHead;
    data_.reserve(data_left_);
    partial_.clear();
    in_data_ = true;
    return false;
}

void SftpInput::FillData(std::string_view& bytes) {
    const std::string_view part = TakeFront(bytes, data_left_);
    data_ += part;
    data_left_ -= part.size();
}

void SftpOutput::Append(std::string_view bytes) {
    size_ += bytes.size();
    while (!bytes.empty()) {
        if (chunks_.empty() || !chunks_.back().held.empty() ||
            chunks_.back().own.size() == kChunk) {
            chunks_.push_back({std::exchange(spare_, {}), {}, {}});
            chunks_.back().own.clear();
        }
        std::string& chunk = chunks_.back().own;
        // A small session needs no large chunks: they grow by doubling, and are full at kChunk.
        chunk += TakeFront(bytes, std::min(bytes.size(), kChunk - chunk.size()));
    }
}

void SftpOutput::Append(FileBytes whole, std::string_view part) {
    if (part.size() < kWorthHolding) return Append(part);
    size_ += part.size();
    chunks_.push_back({{}, std::move(whole), part});
}

std::string_view SftpOutput::Unsent() const {
    if (chunks_.empty()) return {};
    return chunks_.front().Bytes().substr(sent_);
}

void SftpOutput::Sent(std::size_t count) {
    CHECK(count <= size_);
    size_ -= count;
    while (count != 0) {
        const std::size_t here = std::min(count, chunks_.front().Bytes().size() - sent_);
        sent_ += here;
        count -= here;
        if (sent_ == chunks_.front().Bytes().size()) {
            if (chunks_.front().held.empty()) spare_ = std::move(chunks_.front().own);
            chunks_.pop_front();
            sent_ = 0;
        }
    }
    if (size_ == 0) spare_ = std::string();  // idle: see kKeptBuffer
}

void SftpOutput::Clear() {
    chunks_.clear();
    sent_ = 0;
    size_ = 0;
}

}  // namespace sbxfs
