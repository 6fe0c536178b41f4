#include "fs/inode_table.h"

#include "base/check.h"

namespace sbxfs {

void InodeTable::SetRoot(NodePtr root) {
    const MutexLock lock(mu_);
    places_[Raw(kRootIno)] = Place{std::move(root), 1, {}};
}

NodePtr InodeTable::Find(Ino ino) const {
    const MutexLock lock(mu_);
    const auto it = places_.find(Raw(ino));
    return it == places_.end() ? nullptr : it->second.node;
}

NodePtr InodeTable::Enter(const NodePtr& parent, const Child& child) {
    std::pair<Ino, std::string> key{parent->ino(), child.identity};
    Ino ino{};
    {
        const MutexLock lock(mu_);
        const auto known = keys_.find(key);
        if (known != keys_.end()) {
            Place& place = places_.at(Raw(known->second));
            ++place.lookups;
            return place.node;
        }
        ino = Ino{next_++};
    }
    NodePtr made = child.make(ino, parent);  // not under the lock: it is the node's own code
    NodePtr faster;
    {
        const MutexLock lock(mu_);
        const auto [at, fresh] = keys_.emplace(key, ino);
        if (fresh) {
            places_.emplace(Raw(ino), Place{made, 1, std::move(key)});
        } else {
            Place& place = places_.at(Raw(at->second));
            ++place.lookups;
            faster = place.node;
        }
    }
    return faster != nullptr ? faster : made;
}

void InodeTable::Forget(Ino ino, std::uint64_t count) {
    if (ino == kRootIno) return;
    Nodes dropped;
    const MutexLock lock(mu_);
    const auto it = places_.find(Raw(ino));
    CHECK(it != places_.end() && it->second.lookups >= count);
    it->second.lookups -= count;
    DropIdle(ino, dropped);
}

void InodeTable::DropIdle(Ino ino, Nodes& dropped) {
    for (;;) {
        const auto it = places_.find(Raw(ino));
        if (ino == kRootIno || it == places_.end() || it->second.lookups > 0) return;
        const auto below = keys_.lower_bound({ino, ""});
        if (below != keys_.end() && below->first.first == ino) return;
        const auto key = keys_.find(it->second.key);
        if (key != keys_.end() && key->second == ino) keys_.erase(key);
        dropped.push_back(std::move(it->second.node));
        ino = it->second.key.first;
        places_.erase(it);
    }
}

void InodeTable::Rekey(const NodePtr& node, const NodePtr& parent, const std::string& identity) {
    Nodes dropped;
    const MutexLock lock(mu_);
    const auto it = places_.find(Raw(node->ino()));
    if (it == places_.end()) return;
    const auto old = keys_.find(it->second.key);
    if (old != keys_.end() && old->second == node->ino()) keys_.erase(old);
    const Ino above = it->second.key.first;
    it->second.key = {parent->ino(), identity};
    keys_[it->second.key] = node->ino();
    DropIdle(above, dropped);
}

void InodeTable::Unkey(const NodePtr& parent, const std::string& identity) {
    Nodes dropped;
    const MutexLock lock(mu_);
    keys_.erase({parent->ino(), identity});
    DropIdle(parent->ino(), dropped);
}

NodePtr InodeTable::Peek(const NodePtr& parent, const std::string& identity) const {
    const MutexLock lock(mu_);
    const auto it = keys_.find({parent->ino(), identity});
    return it == keys_.end() ? nullptr : places_.at(Raw(it->second)).node;
}

std::size_t InodeTable::Count() const {
    const MutexLock lock(mu_);
    return places_.size();
}

}  // namespace sbxfs
