// What a task says of itself, for info.json and for people: its start in phases, and why it ended. Pure.
#pragma once

#include <string>
#include <vector>

#include "aws/ecs.h"
#include "aws/logs.h"
#include "base/json.h"
#include "sandbox/provider.h"

namespace sbxfs {

// For info.json: ARN, status, address, sizes, times of each phase.
Json TaskFacts(const aws::EcsTask& task);

// "the task stopped: TaskFailedToStart: CannotPullContainerError: ...; container main: exit code 1 (...)", the last log
// lines, and what to do. Kept when ECS has long forgotten the task.
std::string WhyStopped(const aws::EcsTask& task, const std::vector<aws::LogLine>& last_lines);

// Whether its own timer ended it.
bool EndedByTimer(const aws::EcsTask& task);
// The exit codes of the entrypoint when the timer ended it (scripts/image/entrypoint).
inline constexpr int kLifetimeExitCode = 120;
inline constexpr int kIdleExitCode = 121;

// "log-prefix/container/task-id": where awslogs writes.
std::string LogStream(const std::string& prefix, const std::string& container,
                      const std::string& arn);

}  // namespace sbxfs
