// What the daemon tells a helper over its stdin: one JSON object. Keys travel here and nowhere
// else, never in arguments or the environment, which other processes can read. Value type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/secret.h"
#include "sandbox/provider.h"
#include "sandbox/providers/local/local_settings.h"
#include "sandbox/snapshotter.h"

namespace sbxfs {

struct LaunchOrder {
    std::string token;
    std::string state_dir;
    std::string hostname;
    std::string workdir;
    std::string client_key;
    SshKeyPair host_key;
    std::int64_t cpu = 0;
    std::int64_t memory = 0;
    std::int64_t lifetime_ms = 0;  // 0: none
    LocalSettings settings;
    std::vector<std::string> forbidden;  // checked again once the sources of binds are resolved
    std::string init_program;            // empty: the carried supervisor
    std::string
        init;  // start only: the box's `pid` when it was asked, so that one that comes late does nothing

    Json ToJson() const;
    static Result<LaunchOrder> FromJson(const Json& json);
    // What is kept in the box: everything but the keys.
    Json ToRecord() const;
};

struct StopOrder {
    std::string token;
    std::string state_dir;
    std::string init;  // as for a start: whom to end

    Json ToJson() const;
    static Result<StopOrder> FromJson(const Json& json);
};

struct SnapshotOrder {
    std::string token;
    std::string state_dir;
    std::string init;  // as for a stop
    SnapshotFacts facts;

    Json ToJson() const;
    static Result<SnapshotOrder> FromJson(const Json& json);
};

struct DropOrder {
    std::string name;  // of a snapshot; empty: only what killed helpers left is removed
    std::string state_dir;

    Json ToJson() const;
    static Result<DropOrder> FromJson(const Json& json);
};

struct DestroyOrder {
    std::string token;
    std::string state_dir;

    Json ToJson() const;
    static Result<DestroyOrder> FromJson(const Json& json);
};

// A host name the kernel and programs take: letters, digits, '-' and '.', at most 63 characters.
std::string HostnameFor(std::string_view sandbox_name);

}  // namespace sbxfs
