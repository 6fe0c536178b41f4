#include "sandbox/supervisor/files.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {

void Fd::reset(int fd) {
    sys::Close(fd_);
    fd_ = fd;
}

void CloseAllBut(const int* kept, size_t count) {
    const Fd fds(sys::OpenAt(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY));
    Vec<int> doomed;
    ListNames(fds.get(), [&](View name) {
        uint64_t number = 0;
        if (!ParseNumber(name, &number)) return;
        const int fd = static_cast<int>(number);
        bool keep = fd <= 2 || fd == fds.get();
        for (size_t i = 0; i < count; ++i)
            keep = keep || fd == kept[i];
        if (!keep) doomed.Add(fd);
    });
    for (const int fd : doomed)
        sys::Close(fd);
}

long ReadFile(int dir, const char* path, Str* to, size_t limit) {
    const long opened = sys::OpenAt(dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (opened < 0) return opened;
    const Fd file(opened);
    while (limit > 0) {
        // Small enough for the heap's small blocks: most of these files hold a line.
        const size_t step = limit < 1024 ? limit : 1024;
        const long got = sys::Read(file.get(), to->Room(step), step);
        if (got <= 0) return got;
        to->Grown(static_cast<size_t>(got));
        limit -= static_cast<size_t>(got);
    }
    return 0;
}

long WriteAll(int fd, View bytes) {
    while (!bytes.empty()) {
        const long put = sys::Write(fd, bytes.data, bytes.size);
        if (put == -EINTR) continue;
        if (put < 0) return put;
        bytes = bytes.From(static_cast<size_t>(put));
    }
    return 0;
}

long WriteFile(int dir, const char* path, View bytes) {
    const long opened = sys::OpenAt(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (opened < 0) return opened;
    const Fd file(opened);
    return WriteAll(file.get(), bytes);
}

long ReplaceFile(int dir, const char* path, View bytes) {
    Str temporary{View(path)};
    temporary.append(".new");
    long error = WriteFile(dir, temporary.c_str(), bytes);
    if (error == 0) error = sys::RenameAt(dir, temporary.c_str(), path);
    if (error < 0) sys::UnlinkAt(dir, temporary.c_str());
    return error;
}

long ReadEntries(int dir, void* to, size_t size) {
    return sys::ListDir(dir, to, size);
}

namespace {

// A level costs a descriptor and 2 KiB of stack.
constexpr int kMaxLevels = 16;
// A commands' processes may go on making names; a tree that nobody adds to takes one round for kMaxLevels of its depth.
constexpr int kMaxRounds = 4096;

// One round of taking a tree apart: one listing of each directory down to kMaxLevels. What lies deeper is moved up into
// the top directory, where the next round begins with it.
struct Round {
    int top;
    uint64_t* next_name;
    bool progress = false;

    void Empty(int dir, int level) {
        ListNames(dir, [&](View entry) { progress = Take(dir, entry.data, level) || progress; });
    }

 private:
    bool Take(int dir, const char* name, int level) {
        const long error = sys::UnlinkAt(dir, name);
        if (error != -EISDIR && error != -EPERM) return error == 0;
        if (sys::UnlinkAt(dir, name, AT_REMOVEDIR) == 0) return true;
        if (level == kMaxLevels) return MoveUp(dir, name);
        const Fd inner(sys::OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        if (!inner) return false;
        Empty(inner.get(), level + 1);
        return sys::UnlinkAt(dir, name, AT_REMOVEDIR) == 0;
    }

    bool MoveUp(int dir, const char* name) {
        Str fresh;
        for (int tries = 0; tries < 8; ++tries) {
            fresh.clear();
            fresh.append("deep-").Number((*next_name)++);
            const long error = sys::MoveAt(dir, name, top, fresh.c_str());
            if (error == 0) return true;
            if (error != -EEXIST) return false;
        }
        return true;  // somebody has made such names; there are more
    }
};

}  // namespace

long RemoveTree(int dir, const char* name) {
    long error = sys::UnlinkAt(dir, name);
    if (error != -EISDIR && error != -EPERM) return error;
    uint64_t next_name = 0;
    for (int rounds = 0; rounds < kMaxRounds; ++rounds) {
        error = sys::UnlinkAt(dir, name, AT_REMOVEDIR);
        if (error != -ENOTEMPTY && error != -EEXIST) return error;
        const Fd top(sys::OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        if (!top) return -ENOTDIR;
        Round round{top.get(), &next_name};
        round.Empty(top.get(), 1);
        if (!round.progress) break;
    }
    return sys::UnlinkAt(dir, name, AT_REMOVEDIR);
}

void AppendErrno(Str* to, long error) {
    if (error < 0) error = -error;
    const char* text = nullptr;
    switch (error) {
        case EPERM:
            text = "Operation not permitted";
            break;
        case ENOENT:
            text = "No such file or directory";
            break;
        case EIO:
            text = "Input/output error";
            break;
        case E2BIG:
            text = "Argument list too long";
            break;
        case ENOEXEC:
            text = "Exec format error";
            break;
        case EAGAIN:
            text = "Resource temporarily unavailable";
            break;
        case ENOMEM:
            text = "Cannot allocate memory";
            break;
        case EACCES:
            text = "Permission denied";
            break;
        case EEXIST:
            text = "File exists";
            break;
        case ENOTDIR:
            text = "Not a directory";
            break;
        case EISDIR:
            text = "Is a directory";
            break;
        case EINVAL:
            text = "Invalid argument";
            break;
        case EMFILE:
            text = "Too many open files";
            break;
        case ENOSPC:
            text = "No space left on device";
            break;
        case EROFS:
            text = "Read-only file system";
            break;
        case ENAMETOOLONG:
            text = "File name too long";
            break;
        case ELOOP:
            text = "Too many levels of symbolic links";
            break;
        case EDQUOT:
            text = "Disk quota exceeded";
            break;
        default:
            break;
    }
    if (text != nullptr) {
        to->append(View(text));
    } else {
        to->append("error ").Number(static_cast<uint64_t>(error));
    }
}

}  // namespace sbxfs::supervisor
