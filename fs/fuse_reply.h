// The replies of fs/reply.h as libfuse's: the only callers of fuse_reply_*. Private to the fuse_*.cc
// files.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <string>

#include "fs/file_system.h"
#include "fs/reply.h"

namespace sbxfs {

class FuseSink final : public ReplySink {
 public:
    // Copies all it needs of `req` now: the request may be gone once it is answered.
    FuseSink(fuse_req_t req, FileSystem& fs, RequestFacts facts);

    Delivery SendEntry(const Entry& entry) override;
    Delivery SendCreated(const Entry& entry, const Opened& opened) override;
    Delivery SendOpened(const Opened& opened) override;
    void SendAttr(const Entry& entry) override;
    void SendBytes(std::span<const char> bytes) override;
    void SendWritten(std::size_t count) override;
    void SendText(const std::string& text) override;
    void SendStatfs(const StatfsAnswer& answer) override;
    void SendPoll(std::uint32_t events) override;
    void SendOk() override;
    void SendError(const Error& error) override;
    pid_t caller() const override { return facts_.who.tid; }
    const RequestFacts* facts() const override { return &facts_; }
    void OnInterrupt(std::uint64_t id) override;

 private:
    static void Interrupted(fuse_req_t req, void* data);
    // Before the answer: who has it finds it counted.
    void Count() const;

    const fuse_req_t req_;
    FileSystem& fs_;
    const RequestFacts facts_;
};

PagePtr MakeFusePage(std::size_t size);

Caller CallerOf(fuse_req_t req);

}  // namespace sbxfs
