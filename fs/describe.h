// What the control files say: sandboxes and events in words and in JSON. Pure functions of copies.
#pragma once

#include <string>

#include "fs/mount_context.h"
#include "sandbox/commands.h"
#include "sandbox/sandbox.h"

namespace sbxfs {

// status + "\n".
std::string StatusText(const SandboxSnapshot& snapshot);
// Empty, or a sentence + "\n".
std::string ErrorText(const SandboxSnapshot& snapshot);
// `now`: what it has cost so far grows.
std::string InfoJson(const SandboxSnapshot& snapshot, const MountSettings& settings,
                     SystemTime now);

// "exited 0\n", "killed 143\n", "lost\n": what `wait` prints.
std::string OutcomeLine(const EventState& state);
std::string ResultJson(const EventView& view);
// What went wrong with it beyond its exit code: lost, refused, restarted shell; empty otherwise.
std::string EventErrorText(const EventState& state);
// When it last changed.
SystemTime EventTime(const CommandRecord& record);

}  // namespace sbxfs
