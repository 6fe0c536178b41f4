#include "tests/fakes/fake_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/strings.h"

namespace sbxfs::testing {
namespace {

constexpr unsigned kMostLinks = 40;

Error Fail(int code, const std::string& path) {
    return {Errno{code}, path + ": " + std::string(ErrnoText(Errno{code})), Blame::kCaller};
}

std::vector<std::string> Names(const std::string& path) {
    std::vector<std::string> names;
    for (std::string& name : Split(path, '/')) {
        if (!name.empty()) names.push_back(std::move(name));
    }
    return names;
}

bool IsDir(const FakeTree::Node& node) {
    return S_ISDIR(node.stat.mode);
}
bool IsLink(const FakeTree::Node& node) {
    return S_ISLNK(node.stat.mode);
}

// Whether `node` is `below` or above it.
bool Contains(const FakeTree::Node& node, const FakeTree::Node* below) {
    if (&node == below) return true;
    return std::any_of(node.children.begin(), node.children.end(),
                       [&](const auto& child) { return Contains(*child.second, below); });
}

}  // namespace

FakeTree::FakeTree(Clock& clock) : clock_(clock), root_(std::make_shared<Node>()) {
    root_->stat.mode = S_IFDIR | 0755;
    root_->stat.size = 4096;
    root_->stat.atime = root_->stat.mtime = Now();
    root_->ino = last_ino_;
    Touch(*root_);
}

void FakeTree::Touch(Node& node) {
    node.ctime_ns = Now() * 1'000'000'000 + ++changes_;
}

IdentityStat FakeTree::Identity(const std::string& path) {
    IdentityStat identity;
    const Result<NodePtr> found = Find(path, Follow::kNo);
    if (!found) {
        identity.error = static_cast<int>(found.error().code());
        return identity;
    }
    const Node& node = **found;
    identity.dev = 1;
    identity.ino = node.ino;
    identity.mode = node.stat.mode;
    identity.nlink = node.nlink;
    identity.size = node.stat.size;
    identity.mtime_ns = node.stat.mtime * 1'000'000'000;
    identity.ctime_ns = node.ctime_ns;
    identity.birth_ns = node.birth_ns;
    return identity;
}

std::int64_t FakeTree::Now() const {
    return EpochMs(clock_.System()) / 1000;
}

Status FakeTree::Writable() const {
    if (read_only_) return Error(Errno{EROFS}, "read-only file system");
    return Ok();
}

Result<FakeTree::Place> FakeTree::Walk(const std::string& path, Follow last, unsigned& links) {
    if (path.size() > 4095) return Fail(ENAMETOOLONG, path);
    const std::vector<std::string> names = Names(path);
    Place at{root_, "", root_};
    std::string walked;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (at.node == nullptr) return Fail(ENOENT, path);
        if (!IsDir(*at.node)) return Fail(ENOTDIR, path);
        if (names[i] == "." || names[i] == "..") return Fail(EINVAL, path);
        if (names[i].size() > 255) return Fail(ENAMETOOLONG, path);
        const auto found = at.node->children.find(names[i]);
        const bool missing = found == at.node->children.end();
        at = Place{at.node, names[i], missing ? nullptr : found->second};
        const bool is_last = i + 1 == names.size();
        if (at.node != nullptr && IsLink(*at.node) && (!is_last || last == Follow::kYes)) {
            if (++links > kMostLinks) return Fail(ELOOP, path);
            // Lexically, as the daemon itself does with `..`: tests do not build trees where it
            // matters.
            std::vector<std::string> resolved;
            const std::string& target = at.node->content;
            const std::string from = target.starts_with('/') ? target : walked + "/" + target;
            for (std::string& name : Names(from)) {
                if (name == "..") {
                    if (!resolved.empty()) resolved.pop_back();
                } else if (name != ".") {
                    resolved.push_back(std::move(name));
                }
            }
            walked = "/";
            walked += Join(resolved, "/");
            at = TRY(Walk(walked, Follow::kYes, links));
        } else {
            walked += "/" + names[i];
        }
    }
    return at;
}

Result<FakeTree::Place> FakeTree::PlaceOf(const std::string& path, Follow last) {
    unsigned links = 0;
    return Walk(path, last, links);
}

Result<FakeTree::Place> FakeTree::EmptyPlace(const std::string& path) {
    Place place = TRY(PlaceOf(path, Follow::kNo));
    if (place.node != nullptr) return Fail(EEXIST, path);
    (void)TRY(Writable());
    return place;
}

Result<FakeTree::NodePtr> FakeTree::Find(const std::string& path, Follow last) {
    Place place = TRY(PlaceOf(path, last));
    if (place.node == nullptr) return Fail(ENOENT, path);
    return std::move(place.node);
}

FakeTree::NodePtr FakeTree::Make(const Place& place, std::uint32_t mode, std::string content) {
    auto node = std::make_shared<Node>();
    node->stat.mode = mode;
    node->stat.size = S_ISDIR(mode) ? 4096 : content.size();
    node->stat.atime = node->stat.mtime = Now();
    node->ino = ++last_ino_;
    Touch(*node);
    node->birth_ns = node->ctime_ns;
    node->content = std::move(content);
    place.directory->children[place.name] = node;
    place.directory->stat.mtime = Now();
    Touch(*place.directory);
    return node;
}

void FakeTree::Remove(const Place& place) {
    place.directory->children.erase(place.name);
    place.directory->stat.mtime = Now();
    Touch(*place.directory);
    --place.node->nlink;
    Touch(*place.node);
}

Result<RemoteStat> FakeTree::Lstat(const std::string& path) {
    return TRY(Find(path, Follow::kNo))->stat;
}

Result<std::vector<RemoteEntry>> FakeTree::List(const std::string& path) {
    const NodePtr node = TRY(Find(path, Follow::kYes));
    if (!IsDir(*node)) return Fail(ENOTDIR, path);
    std::vector<RemoteEntry> entries;
    for (const auto& [name, child] : node->children)
        entries.push_back({name, child->stat});
    return entries;
}

Result<std::string> FakeTree::ReadLink(const std::string& path) {
    const NodePtr node = TRY(Find(path, Follow::kNo));
    if (!IsLink(*node)) return Fail(EINVAL, path);
    return node->content;
}

Result<RemoteStat> FakeTree::SetStat(const std::string& path, const StatChange& change) {
    const NodePtr node = TRY(Find(path, Follow::kNo));
    if (change.size && IsDir(*node)) return Fail(EISDIR, path);
    if (change.size && !S_ISREG(node->stat.mode)) return Fail(EINVAL, path);
    if (change.mode && IsLink(*node)) return Fail(EOPNOTSUPP, path);
    return Change(*node, change);
}

Result<RemoteStat> FakeTree::Change(Node& node, const StatChange& change) {
    (void)TRY(Writable());
    if (change.size) {
        (void)TRY(Resize(node, *change.size));
        node.stat.mtime = Now();
    }
    if (change.mode) node.stat.mode = (node.stat.mode & S_IFMT) | (*change.mode & 07777);
    if (change.uid && change.gid) {
        node.stat.uid = *change.uid;
        node.stat.gid = *change.gid;
    }
    if (change.atime && change.mtime) {  // SFTP v3's range
        node.stat.atime = std::clamp<std::int64_t>(*change.atime, 0, UINT32_MAX);
        node.stat.mtime = std::clamp<std::int64_t>(*change.mtime, 0, UINT32_MAX);
    }
    Touch(node);
    return node.stat;
}

Result<RemoteStat> FakeTree::MakeDir(const std::string& path, std::uint32_t mode) {
    return Make(TRY(EmptyPlace(path)), S_IFDIR | (mode & 07777), "")->stat;
}

Status FakeTree::RemoveDir(const std::string& path) {
    const Place place = TRY(PlaceOf(path, Follow::kNo));
    if (place.node == nullptr) return Fail(ENOENT, path);
    (void)TRY(Writable());
    if (!IsDir(*place.node)) return Fail(ENOTDIR, path);
    if (!place.node->children.empty()) return Fail(ENOTEMPTY, path);
    if (place.node == root_) return Fail(EBUSY, path);
    Remove(place);
    return Ok();
}

Status FakeTree::Unlink(const std::string& path) {
    const Place place = TRY(PlaceOf(path, Follow::kNo));
    if (place.node == nullptr) return Fail(ENOENT, path);
    if (IsDir(*place.node)) return Fail(EISDIR, path);
    (void)TRY(Writable());
    Remove(place);
    return Ok();
}

Result<RemoteStat> FakeTree::Symlink(const std::string& target, const std::string& path) {
    if (target.empty()) return Fail(ENOENT, path);
    if (target.size() > 4095) return Fail(ENAMETOOLONG, path);
    return Make(TRY(EmptyPlace(path)), S_IFLNK | 0777, target)->stat;
}

Result<RemoteStat> FakeTree::Link(const std::string& from, const std::string& to) {
    const NodePtr node = TRY(Find(from, Follow::kNo));
    const Place place = TRY(EmptyPlace(to));
    if (IsDir(*node)) return Fail(EPERM, from);
    place.directory->children[place.name] = node;
    ++node->nlink;
    Touch(*node);
    place.directory->stat.mtime = Now();
    Touch(*place.directory);
    return node->stat;
}

Status FakeTree::Rename(const std::string& from, const std::string& to,
                        RemoteFiles::Replace replace) {
    const Place source = TRY(PlaceOf(from, Follow::kNo));
    if (source.node == nullptr) return Fail(ENOENT, from);
    const Place target = TRY(PlaceOf(to, Follow::kNo));
    if (target.node != nullptr && replace == RemoteFiles::Replace::kNo) return Fail(EEXIST, to);
    (void)TRY(Writable());
    if (target.node == source.node) return Ok();
    if (IsDir(*source.node) && Contains(*source.node, target.directory.get()))
        return Fail(EINVAL, to);
    if (target.node != nullptr) {
        if (IsDir(*target.node) && !IsDir(*source.node)) return Fail(EISDIR, to);
        if (!IsDir(*target.node) && IsDir(*source.node)) return Fail(ENOTDIR, to);
        if (!target.node->children.empty()) return Fail(ENOTEMPTY, to);
    }
    Remove(source);
    target.directory->children[target.name] = source.node;
    target.directory->stat.mtime = Now();
    Touch(*target.directory);
    Touch(*source.node);
    ++source.node->nlink;  // Remove() took one
    return Ok();
}

RemoteStatfs FakeTree::Statfs() const {
    RemoteStatfs space;
    space.blocks = capacity_ / space.block_size;
    space.blocks_free = (capacity_ - std::min(used_, capacity_)) / space.block_size;
    space.blocks_available = space.blocks_free;
    space.files = 1000000;
    space.files_free = 999000;
    return space;
}

Result<FakeTree::NodePtr> FakeTree::Open(const std::string& path, const OpenHow& how) {
    const bool write = how.write || how.append || how.truncate;
    Place place = TRY(PlaceOf(path, how.exclusive ? Follow::kNo : Follow::kYes));
    if (place.node == nullptr) {
        if (!how.create) return Fail(ENOENT, path);
        (void)TRY(Writable());
        return Make(place, S_IFREG | (how.mode & 07777), "");
    }
    if (how.create && how.exclusive) return Fail(EEXIST, path);
    if (IsDir(*place.node) && (write || how.create)) return Fail(EISDIR, path);
    if (!IsDir(*place.node) && !S_ISREG(place.node->stat.mode)) return Fail(ENXIO, path);
    if (write) (void)TRY(Writable());
    if (how.truncate) (void)TRY(Change(*place.node, SizeChange(0)));
    return std::move(place.node);
}

Result<std::string> FakeTree::Read(const Node& node, FileRange range) {
    if (IsDir(node)) return Fail(EISDIR, "read");
    if (range.offset >= node.content.size()) return std::string();
    return node.content.substr(range.offset, range.size);
}

Status FakeTree::Write(Node& node, std::uint64_t offset, std::string_view bytes) {
    if (offset + bytes.size() > node.content.size()) (void)TRY(Resize(node, offset + bytes.size()));
    node.content.replace(offset, bytes.size(), bytes);
    node.stat.mtime = Now();
    Touch(node);
    return Ok();
}

Status FakeTree::Resize(Node& node, std::uint64_t size) {
    if (size > 8ULL << 30) return Fail(EFBIG, "resize");
    if (size > node.content.size() && used_ + size - node.content.size() > capacity_) {
        return Fail(ENOSPC, "resize");
    }
    used_ += size - node.content.size();  // may wrap down
    node.content.resize(size);
    node.stat.size = size;
    return Ok();
}

StoredFile FakeTree::Store(const StoreRequest& request, std::optional<int> torn) {
    StoredFile stored;
    const bool is_path =
        request.path.starts_with('/') && request.path.find('\0') == std::string::npos;
    const Result<NodePtr> made =
        is_path ? Open(request.path,
                       {.write = true, .create = true, .exclusive = true, .mode = request.mode})
                : Result<NodePtr>(Fail(EINVAL, request.path));
    if (!made) {
        stored.error = static_cast<int>(made.error().code());
        return stored;
    }
    Node& node = **made;
    stored.made = true;
    const Status written =
        torn ? Status(Fail(*torn, request.path)) : Write(node, 0, request.bytes.view());
    if (!written) {
        stored.error = static_cast<int>(written.error().code());
    } else if (request.atime && request.mtime) {
        node.stat.atime = *request.atime;
        node.stat.mtime = *request.mtime;
        Touch(node);
    }
    stored.identity = Identity(request.path);
    return stored;
}

Result<RemoteStat> FakeTree::MakeSpecial(const std::string& path, std::uint32_t type_and_mode) {
    return Make(TRY(EmptyPlace(path)), type_and_mode, "")->stat;
}

}  // namespace sbxfs::testing
