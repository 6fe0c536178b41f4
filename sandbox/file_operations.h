// The calls of RemoteFiles, each made into one operation that outlives cuts of the link: the base of LinkedFiles and of its
// views for one caller. Any thread may call; answers come on the sandbox's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_function.h"
#include "sandbox/linked_checks.h"
#include "sandbox/linked_file.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

class LinkedFiles;

class FileOperations : public RemoteFiles {
 public:
    // Whether somebody still waits for the answer. Loop thread.
    virtual bool IsWanted() const { return true; }
    void Lstat(const std::string& path, StatDone done) override;
    void List(const std::string& path, EntriesDone done) override;
    void ReadLink(const std::string& path, TextDone done) override;
    void SetStat(const std::string& path, const StatChange& change, StatDone done) override;
    void MakeDir(const std::string& path, std::uint32_t mode, StatDone done) override;
    void RemoveDir(const std::string& path, Done done) override;
    void Unlink(const std::string& path, Done done) override;
    void Symlink(const std::string& target, const std::string& path, StatDone done) override;
    void Link(const std::string& from, const std::string& to, StatDone done) override;
    void Rename(const std::string& from, const std::string& to, Replace replace,
                Done done) override {
        RenameFile(from, to, replace, 0, std::move(done));
    }
    // Of `size` bytes. Not 0: a new file may be made at `from` right behind this.
    void RenameFile(const std::string& from, const std::string& to, Replace replace,
                    std::uint64_t size, Done done);
    void Statfs(const std::string& path, StatfsDone done) override;
    void Open(const std::string& path, const OpenHow& how, OpenDone done) override;
    void Read(const RemoteFilePtr& file, FileRange range, BytesDone done) override;
    void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
               Done done) override;
    void FileStat(const RemoteFilePtr& file, StatDone done) override;
    void SetFileStat(const RemoteFilePtr& file, const StatChange& change, StatDone done) override;
    void Copy(const RemoteFilePtr& from, FileRange range, const RemoteFilePtr& to,
              std::uint64_t offset, CopiedDone done) override;
    void Sync(const RemoteFilePtr& file, Done done) override;
    // What is done to it later opens it again, as after a cut of the link.
    void Close(const RemoteFilePtr& file, Done done) override;
    // `size`: the file's before it, where the caller knows it because nobody else writes there.
    void Append(const RemoteFilePtr& file, FileBytes bytes, std::optional<std::uint64_t> size,
                Done done);

 protected:
    friend class LinkedFiles;
    enum class Kind { kQuestion, kChange, kNameChange };
    // Whether it takes a name away.
    enum class Takes { kNothing, kName };
    struct Operation;
    template <class T>
    struct TypedOperation;
    template <class T>
    using Run = UniqueFunction<void(LinkedFiles&, RemoteFiles&, UniqueFunction<void(Result<T>)>)>;
    // Whether a change whose answer was lost has been made. Without one it is sent again.
    template <class T>
    using Check = UniqueFunction<void(LinkedFiles&, RemoteFiles&, Alone, VerdictDone<T>)>;

    virtual void Submit(std::unique_ptr<Operation> operation) = 0;

 private:
    template <class T>
    void Make(Kind kind, Run<T> run, Check<T> check, UniqueFunction<void(Result<T>)> done,
              Takes takes = Takes::kNothing);
    template <class T>
    static Check<T> IfAlone();
    // On an open file; `run` is given the one of the present link, and so it is for `check`.
    template <class T>
    using OnFile =
        UniqueFunction<void(RemoteFiles&, const RemoteFilePtr&, UniqueFunction<void(Result<T>)>)>;
    template <class T>
    void MakeOn(const RemoteFilePtr& file, Kind kind, OnFile<T> run, Check<T> check,
                UniqueFunction<void(Result<T>)> done);
    // The same for what concerns more of the file than that.
    template <class T>
    using OnLinked = UniqueFunction<void(LinkedFiles&, RemoteFiles&, const LinkedFilePtr&,
                                         UniqueFunction<void(Result<T>)>)>;
    template <class T>
    void MakeOnLinked(const RemoteFilePtr& file, Kind kind, OnLinked<T> run, Check<T> check,
                      UniqueFunction<void(Result<T>)> done);
};

}  // namespace sbxfs
