// The calls of RemoteFiles as LinkedFiles has them made: what each sends, and how it is checked when a cut of the link has
// taken its answer.
#include <errno.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "sandbox/linked_operation.h"

namespace sbxfs {

template <class T>
void FileOperations::Make(Kind kind, Run<T> run, Check<T> check,
                          UniqueFunction<void(Result<T>)> done, Takes takes) {
    auto operation = std::make_unique<TypedOperation<T>>(kind, std::move(run), std::move(check),
                                                         std::move(done));
    operation->takes = takes;
    Submit(std::move(operation));
}

// Truncates again only where nobody else can have written meanwhile.
template <class T>
FileOperations::Check<T> FileOperations::IfAlone() {
    return [](LinkedFiles&, RemoteFiles&, Alone alone, VerdictDone<T> done) {
        done(alone == Alone::kYes ? Verdict<T>::Repeat() : Verdict<T>::Unknown());
    };
}

void FileOperations::Lstat(const std::string& path, StatDone done) {
    Make<RemoteStat>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, StatDone d) { to.Lstat(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::List(const std::string& path, EntriesDone done) {
    Make<std::vector<RemoteEntry>>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, EntriesDone d) { to.List(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::ReadLink(const std::string& path, TextDone done) {
    Make<std::string>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, TextDone d) { to.ReadLink(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::Statfs(const std::string& path, StatfsDone done) {
    Make<RemoteStatfs>(
        Kind::kQuestion,
        [path](LinkedFiles&, RemoteFiles& to, StatfsDone d) { to.Statfs(path, std::move(d)); }, {},
        std::move(done));
}

void FileOperations::SetStat(const std::string& path, const StatChange& change, StatDone done) {
    Make<RemoteStat>(
        Kind::kChange,
        [path, change](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.SetStat(path, change, std::move(d));
        },
        change.size ? IfAlone<RemoteStat>() : Check<RemoteStat>{}, std::move(done));
}

void FileOperations::MakeDir(const std::string& path, std::uint32_t mode, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [path, mode](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.MakeDir(path, mode, std::move(d));
        },
        [path](LinkedFiles&, RemoteFiles& to, Alone, VerdictDone<RemoteStat> d) {
            CheckMakeDir(to, path, std::move(d));
        },
        std::move(done));
}

void FileOperations::RemoveDir(const std::string& path, Done done) {
    Make<Unit>(
        Kind::kNameChange,
        [path](LinkedFiles&, RemoteFiles& to, Done d) { to.RemoveDir(path, std::move(d)); },
        [path](LinkedFiles&, RemoteFiles& to, Alone alone, VerdictDone<Unit> d) {
            CheckRemoval(to, path, alone, std::move(d));
        },
        std::move(done), Takes::kName);
}

void FileOperations::Unlink(const std::string& path, Done done) {
    Make<Unit>(
        Kind::kNameChange,
        [path](LinkedFiles&, RemoteFiles& to, Done d) { to.Unlink(path, std::move(d)); },
        [path](LinkedFiles&, RemoteFiles& to, Alone alone, VerdictDone<Unit> d) {
            CheckRemoval(to, path, alone, std::move(d));
        },
        std::move(done), Takes::kName);
}

void FileOperations::Symlink(const std::string& target, const std::string& path, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [target, path](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.Symlink(target, path, std::move(d));
        },
        [target, path](LinkedFiles&, RemoteFiles& to, Alone, VerdictDone<RemoteStat> d) {
            CheckSymlink(to, target, path, std::move(d));
        },
        std::move(done));
}

void FileOperations::Link(const std::string& from, const std::string& to_path, StatDone done) {
    Make<RemoteStat>(
        Kind::kNameChange,
        [from, to_path](LinkedFiles&, RemoteFiles& to, StatDone d) {
            to.Link(from, to_path, std::move(d));
        },
        [from, to_path](LinkedFiles&, RemoteFiles& to, Alone, VerdictDone<RemoteStat> d) {
            CheckLink(to, from, to_path, std::move(d));
        },
        std::move(done));
}

void FileOperations::RenameFile(const std::string& from, const std::string& to_path,
                                Replace replace, std::uint64_t size, Done done) {
    // What is moved is looked at in the same flight: after a cut it tells whether it has arrived.
    const auto moved = std::make_shared<std::optional<RemoteStat>>();
    auto operation = std::make_unique<TypedOperation<Unit>>(
        Kind::kNameChange,
        [from, to_path, replace, moved](LinkedFiles& files, RemoteFiles& to, Done d) {
            to.Lstat(from, [moved](const Result<RemoteStat>& stat) {
                if (stat) *moved = *stat;
            });
            files.MoveByHand(from, to_path, replace, std::move(d));
        },
        [from, to_path, replace, size, moved](LinkedFiles& files, RemoteFiles& to, Alone alone,
                                              VerdictDone<Unit> d) {
            CheckRename(to, from, to_path, replace, {*moved, size}, alone,
                        [weak = files.weak_from_this(), from, to_path,
                         d = std::move(d)](Verdict<Unit> verdict) {
                            const auto self = weak.lock();
                            if (self && verdict.what() == Verdict<Unit>::What::kFinished)
                                self->Moved(from, to_path);
                            d(std::move(verdict));
                        });
        },
        std::move(done));
    operation->moves = from;
    operation->takes = Takes::kName;
    Submit(std::move(operation));
}

void FileOperations::Open(const std::string& path, const OpenHow& how, OpenDone done) {
    const Kind kind = how.create     ? Kind::kNameChange
                      : how.truncate ? Kind::kChange
                                     : Kind::kQuestion;
    Check<OpenedFile> check;
    if (how.create && how.exclusive) {
        check = [path, how](LinkedFiles& files, RemoteFiles& to, Alone alone,
                            VerdictDone<OpenedFile> d) {
            CheckExclusive(to, path, how, alone,
                           [weak = files.weak_from_this(), path, how, alone,
                            d = std::move(d)](Verdict<OpenedFile> verdict) {
                               const auto self = weak.lock();
                               if (self && verdict.what() == Verdict<OpenedFile>::What::kFinished &&
                                   verdict.result()) {
                                   OpenedFile& opened = *verdict.result();
                                   opened.file = self->Adopt(path, how, opened, alone);
                               }
                               d(std::move(verdict));
                           });
        };
    } else if (how.truncate) {
        check = IfAlone<OpenedFile>();
    }
    Make<OpenedFile>(
        kind,
        [path, how](LinkedFiles& files, RemoteFiles& to, OpenDone d) {
            to.Open(path, how,
                    [weak = files.weak_from_this(), path, how, alone = files.sending_,
                     d = std::move(d)](Result<OpenedFile> opened) {
                        if (const auto self = weak.lock(); self && opened)
                            opened->file = self->Adopt(path, how, *opened, alone);
                        d(std::move(opened));
                    });
        },
        std::move(check), std::move(done));
}

template <class T>
void FileOperations::MakeOn(const RemoteFilePtr& file, Kind kind, OnFile<T> run, Check<T> check,
                            UniqueFunction<void(Result<T>)> done) {
    MakeOnLinked<T>(
        file, kind,
        [run = std::move(run)](LinkedFiles&, RemoteFiles& to, const LinkedFilePtr& linked,
                               UniqueFunction<void(Result<T>)> d) {
            run(to, linked->inner, std::move(d));
        },
        std::move(check), std::move(done));
}

template <class T>
void FileOperations::MakeOnLinked(const RemoteFilePtr& file, Kind kind, OnLinked<T> run,
                                  Check<T> check, UniqueFunction<void(Result<T>)> done) {
    auto linked = std::dynamic_pointer_cast<LinkedFile>(file);
    CHECK(linked != nullptr);  // of other files: a bug of the layer above
    auto operation = std::make_unique<TypedOperation<T>>(
        kind,
        [linked, run = std::move(run)](LinkedFiles& files, RemoteFiles& to,
                                       UniqueFunction<void(Result<T>)> d) {
            run(files, to, linked, std::move(d));
        },
        std::move(check), std::move(done));
    operation->file = std::move(linked);
    Submit(std::move(operation));
}

void FileOperations::Read(const RemoteFilePtr& file, FileRange range, BytesDone done) {
    MakeOn<std::string>(
        file, Kind::kQuestion,
        [range](RemoteFiles& to, const RemoteFilePtr& inner, BytesDone d) {
            to.Read(inner, range, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                           Done done) {
    if (static_cast<const LinkedFile&>(*file).how.append)
        return Append(file, std::move(bytes), std::nullopt, std::move(done));
    // Kept until it is answered: a cut may want it sent again.
    const FileBytes kept = std::move(bytes);
    MakeOn<Unit>(
        file, Kind::kChange,
        [file, offset, kept](RemoteFiles& to, const RemoteFilePtr& inner, Done d) {
            auto& linked = static_cast<LinkedFile&>(*file);
            linked.most = std::max(linked.most, offset + kept.size());
            to.Write(inner, offset, kept, std::move(d));
        },
        {}, std::move(done));
}

void LinkedFiles::Patient::Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
                                 Done done) {
    if (static_cast<const LinkedFile&>(*file).how.append)
        return Append(file, std::move(bytes), offset, std::move(done));
    FileOperations::Write(file, offset, std::move(bytes), std::move(done));
}

void LinkedFiles::Patient::WriteAside(const RemoteFilePtr& file, std::uint64_t offset,
                                      FileBytes bytes, Done done) {
    CHECK(!static_cast<const LinkedFile&>(*file).how.append);
    const FileBytes kept = std::move(bytes);
    MakeOnLinked<Unit>(
        file, Kind::kChange,
        [offset, kept](LinkedFiles& files, RemoteFiles&, const LinkedFilePtr& linked, Done d) {
            files.WriteAside(linked, offset, kept, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Append(const RemoteFilePtr& file, FileBytes bytes,
                            std::optional<std::uint64_t> size, Done done) {
    const FileBytes kept = std::move(bytes);
    const auto before = std::make_shared<std::optional<std::uint64_t>>(size);
    // The size in the same flight: after a cut it tells whether this has been appended.
    MakeOn<Unit>(
        file, Kind::kChange,
        [file, kept, before, size](RemoteFiles& to, const RemoteFilePtr& inner, Done d) {
            static_cast<LinkedFile&>(*file).most += kept.size();
            if (!size) {
                before->reset();
                to.FileStat(inner, [before](const Result<RemoteStat>& stat) {
                    if (stat) *before = stat->size;
                });
            }
            to.Write(inner, 0, kept, std::move(d));
        },
        [file, kept, before, size](LinkedFiles&, RemoteFiles& to, Alone alone,
                                   VerdictDone<Unit> d) {
            CheckAppend(to, static_cast<const LinkedFile&>(*file).inner,
                        {*before, kept.size(), size.has_value()}, alone, std::move(d));
        },
        std::move(done));
}

void FileOperations::FileStat(const RemoteFilePtr& file, StatDone done) {
    MakeOn<RemoteStat>(
        file, Kind::kQuestion,
        [](RemoteFiles& to, const RemoteFilePtr& inner, StatDone d) {
            to.FileStat(inner, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::SetFileStat(const RemoteFilePtr& file, const StatChange& change,
                                 StatDone done) {
    MakeOn<RemoteStat>(
        file, Kind::kChange,
        [change](RemoteFiles& to, const RemoteFilePtr& inner, StatDone d) {
            to.SetFileStat(inner, change, std::move(d));
        },
        change.size ? IfAlone<RemoteStat>() : Check<RemoteStat>{}, std::move(done));
}

void FileOperations::Sync(const RemoteFilePtr& file, Done done) {
    MakeOnLinked<Unit>(
        file, Kind::kQuestion,
        [](LinkedFiles& files, RemoteFiles&, const LinkedFilePtr& linked, Done d) {
            files.SyncBoth(linked, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to_file,
                          std::uint64_t offset, CopiedDone done) {
    auto source = std::dynamic_pointer_cast<LinkedFile>(from);
    auto target = std::dynamic_pointer_cast<LinkedFile>(to_file);
    CHECK(source != nullptr && target != nullptr);
    MakeOn<std::uint64_t>(
        to_file, Kind::kChange,
        [source, target, range, offset](RemoteFiles& to, const RemoteFilePtr& inner, CopiedDone d) {
            // Whoever reads it instead has it opened again on this link.
            if (source->link != target->link)
                return d(Error(Errno{EOPNOTSUPP}, source->path + ": not open on this link"));
            to.Copy(source->inner, range, inner, offset, std::move(d));
        },
        {}, std::move(done));
}

void FileOperations::Close(const RemoteFilePtr& file, Done done) {
    Make<Unit>(
        Kind::kQuestion,
        [file](LinkedFiles& files, RemoteFiles&, Done d) {
            auto linked = std::static_pointer_cast<LinkedFile>(file);
            // The handle of a link that is gone was closed with it.
            if (linked->link != files.link_) return d(Ok());
            files.CloseBoth(linked, std::move(d));
            linked->link = 0;
        },
        {}, std::move(done));
}

}  // namespace sbxfs
