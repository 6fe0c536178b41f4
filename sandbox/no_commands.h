// For whoever attaches to a sandbox and has no commands there: hears nothing of them.
#pragma once

#include <cstdint>
#include <string>

#include "sandbox/supervisor_port.h"

namespace sbxfs {

class NoCommands : public SupervisorListener {
 public:
    void OnKnown(EventNumber, bool, OutputSizes) override {}
    void OnKnownEnd() override {}
    void OnStarted(EventNumber, std::int64_t) override {}
    void OnOutput(EventNumber, OutputStream, std::uint64_t, std::string) override {}
    void OnHole(EventNumber, OutputStream, std::uint64_t, std::uint64_t) override {}
    void OnDone(EventNumber, const CommandEnd&) override {}
    void OnCommandError(EventNumber, const Error&) override {}
};

}  // namespace sbxfs
