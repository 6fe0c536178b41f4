// Which nodes the kernel knows, and how often it looked each up. Numbers are never reused; a node is
// dropped when the kernel has forgotten every lookup of it and of what lies below it: a directory that is looked up
// again must lead to the files that are still open. Owned by FileSystem; any thread. Nodes die
// outside the lock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "fs/node.h"
#include "fs/types.h"

namespace sbxfs {

class InodeTable {
 public:
    InodeTable() = default;
    InodeTable(const InodeTable&) = delete;
    InodeTable& operator=(const InodeTable&) = delete;

    // The root counts as looked up for ever.
    void SetRoot(NodePtr root);

    // Null when the kernel should not know it: a request may race with the last FORGET.
    NodePtr Find(Ino ino) const;
    // The node of this child, found or made, with its count one up: for an answer that hands it out. When
    // the answer is not delivered, Forget(ino, 1).
    NodePtr Enter(const NodePtr& parent, const Child& child);
    void Forget(Ino ino, std::uint64_t count);

    // The node now answers to another identity; whatever had it before is no longer found.
    void Rekey(const NodePtr& node, const NodePtr& parent, const std::string& identity);
    // The name is gone; the node lives on for those who have it open.
    void Unkey(const NodePtr& parent, const std::string& identity);
    // The node of this child if the kernel knows it; its count does not change.
    NodePtr Peek(const NodePtr& parent, const std::string& identity) const;

    std::size_t Count() const;

 private:
    using Nodes = std::vector<NodePtr>;
    // Drops it, and those above it, where nobody needs them any more; what has been dropped dies after the lock.
    void DropIdle(Ino ino, Nodes& dropped) REQUIRES(mu_);

    struct Place {
        NodePtr node;
        std::uint64_t lookups = 0;
        std::pair<Ino, std::string> key;
    };
    mutable Mutex mu_{LockRank::kInodeTable};
    std::unordered_map<std::uint64_t, Place> places_ GUARDED_BY(mu_);
    std::map<std::pair<Ino, std::string>, Ino> keys_ GUARDED_BY(mu_);
    std::uint64_t next_ GUARDED_BY(mu_) = 2;
};

}  // namespace sbxfs
