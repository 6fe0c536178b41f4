#include "sandbox/supervisor/files.h"

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {

void Fd::reset(int fd) {
    sys::Close(fd_);
    fd_ = fd;
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
    const long error = WriteFile(dir, temporary.c_str(), bytes);
    if (error < 0) {
        sys::UnlinkAt(dir, temporary.c_str());
        return error;
    }
    return sys::RenameAt(dir, temporary.c_str(), path);
}

long ReadEntries(int dir, void* to, size_t size) {
    return sys::ListDir(dir, to, size);
}

long RemoveTree(int dir, const char* name) {
    long error = sys::UnlinkAt(dir, name);
    if (error != -EISDIR && error != -EPERM) return error;
    // Names may appear while we remove; each round is one listing from the start.
    for (int round = 0; round < 16; ++round) {
        error = sys::UnlinkAt(dir, name, AT_REMOVEDIR);
        if (error != -ENOTEMPTY && error != -EEXIST) return error;
        const Fd inner(sys::OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        if (!inner) return -ENOTDIR;
        ListNames(inner.get(), [&](View entry) { RemoveTree(inner.get(), entry.data); });
    }
    return error;
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
