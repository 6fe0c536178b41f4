#include "sandbox/supervisor/connection.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr size_t kHeader = 4;
constexpr size_t kStep = 64U << 10;
constexpr size_t kFirstStep =
    1024;  // most requests; larger blocks come from the kernel and go back to it

uint32_t LengthAt(const char* bytes) {
    Reader reader(bytes, kHeader);
    return reader.U32();
}

}  // namespace

bool Connection::Open(Runtime& runtime, uint64_t slot, Fd in, Fd out, Fd relay) {
    runtime_ = &runtime;
    slot_ = slot;
    in_ = std::move(in);
    out_ = std::move(out);
    relay_ = std::move(relay);
    greeted = false;
    credit = kFirstCredit;
    reading_ = true;
    writing_ = false;
    sys::Control(in_.get(), F_SETFL, O_NONBLOCK);
    sys::Control(out_.get(), F_SETFL, O_NONBLOCK);
    // Errors and hang-ups of its way out come all the same.
    return runtime.Watch(in_.get(), EPOLLIN, TagOf(End::kIn)) == 0 &&
           runtime.Watch(out_.get(), 0, TagOf(End::kOut)) == 0 &&
           runtime.Watch(relay_.get(), EPOLLIN, TagOf(End::kRelay)) == 0;
}

void Connection::Close() {
    if (!IsOpen()) return;
    // Closing alone does not leave the epoll set while the attach has the same open files.
    runtime_->Unwatch(in_.get());
    runtime_->Unwatch(out_.get());
    runtime_->Unwatch(relay_.get());
    in_.reset();
    out_.reset();
    relay_.reset();
    in_bytes_.reset();
    out_bytes_.reset();
    taken_ = sent_ = 0;
}

Connection::State Connection::Receive() {
    if (taken_ > 0) {
        in_bytes_.DropFront(taken_);
        taken_ = 0;
    }
    const size_t step = in_bytes_.empty() ? kFirstStep : kStep;
    const long got = sys::Read(in_.get(), in_bytes_.Room(step), step);
    if (got == -EAGAIN || got == -EINTR) {
        return State::kOpen;
    }
    if (got <= 0) return State::kClosed;
    in_bytes_.Grown(static_cast<size_t>(got));
    return State::kOpen;
}

bool Connection::NextFrame(Type* type, View* payload) {
    const View rest = in_bytes_.view().From(taken_);
    if (rest.size < kHeader) {
        if (rest.empty()) {
            in_bytes_.size() > kFirstStep ? in_bytes_.reset() : in_bytes_.clear();
            taken_ = 0;
        }
        return false;
    }
    const uint32_t length = LengthAt(rest.data);
    if (length == 0 || length > kMaxFrame) {
        // No frame at all: the session answers a type that does not exist by closing.
        *type = static_cast<Type>(0);
        *payload = View();
        taken_ = in_bytes_.size();
        return true;
    }
    if (rest.size < kHeader + length) return false;
    *type = static_cast<Type>(static_cast<uint8_t>(rest[kHeader]));
    *payload = View(rest.data + kHeader + 1, length - 1);
    taken_ += kHeader + length;
    return true;
}

Connection::State Connection::Flush() {
    while (sent_ < out_bytes_.size()) {
        const long put =
            sys::Write(out_.get(), out_bytes_.data() + sent_, out_bytes_.size() - sent_);
        if (put == -EINTR) continue;
        if (put == -EAGAIN) break;
        if (put < 0) return State::kClosed;
        sent_ += static_cast<size_t>(put);
    }
    if (sent_ == out_bytes_.size()) {
        out_bytes_.size() > kFirstStep ? out_bytes_.reset() : out_bytes_.clear();
        sent_ = 0;
    } else if (sent_ >= kStep) {
        out_bytes_.DropFront(sent_);
        sent_ = 0;
    }
    UpdateOut();
    return State::kOpen;
}

void Connection::UpdateOut() {
    const bool waits = Unsent() > 0;
    if (waits == writing_) return;
    writing_ = waits;
    runtime_->Rewatch(out_.get(), waits ? EPOLLOUT : 0, TagOf(End::kOut));
}

void Connection::SetReading(bool reading) {
    if (reading == reading_) return;
    reading_ = reading;
    runtime_->Rewatch(in_.get(), reading ? EPOLLIN : 0, TagOf(End::kIn));
}

}  // namespace sbxfs::supervisor
