#include "sandbox/stall_watch.h"

#include <utility>

namespace sbxfs {

StallWatch::StallWatch(Loop& loop, std::shared_ptr<SftpClient> client, Ask ask, Job stalled)
    : loop_(loop),
      client_(std::move(client)),
      ask_(std::move(ask)),
      stalled_(std::move(stalled)),
      self_(std::make_shared<StallWatch*>(this)) {}

StallWatch::~StallWatch() {
    *self_ = nullptr;
}

void StallWatch::Begin() {
    before_ = client_->counters();
    ++doubt_;
    answered_ = false;
    timer_ = loop_.After(kTick, [this] { Tick(); });
}

void StallWatch::Tick() {
    timer_.reset();
    if (!client_->Usable() || !client_->InPacket()) return;
    const SftpCounters now = client_->counters();
    const bool comes =
        now.packets_in != before_.packets_in || now.bytes_in >= before_.bytes_in + kLeast;
    if (comes) return Begin();
    if (answered_) return std::exchange(stalled_, {})();
    before_ = now;
    timer_ = loop_.After(kTick, [this] { Tick(); });
    ask_([self = self_, doubt = doubt_] {
        if (*self != nullptr && (*self)->doubt_ == doubt) (*self)->answered_ = true;
    });
}

}  // namespace sbxfs
