// After a cut: whether a change whose answer was lost has been made (contract 5, "link down"). Each asks
// the server and says so: it has been, with what its caller is answered; it has not, and may be sent
// again; or nobody can tell. What may be sent twice without harm needs no check and has none here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "sandbox/remote_files.h"

namespace sbxfs {

template <class T>
class Verdict {
 public:
    enum class What { kFinished, kRepeat, kUnknown };
    static Verdict Finished(Result<T> result) { return {What::kFinished, std::move(result)}; }
    static Verdict Repeat() { return {What::kRepeat, std::nullopt}; }
    static Verdict Unknown() { return {What::kUnknown, std::nullopt}; }

    What what() const { return what_; }
    Result<T>& result() { return *result_; }

 private:
    Verdict(What what, std::optional<Result<T>> result) : what_(what), result_(std::move(result)) {}
    What what_;
    std::optional<Result<T>> result_;
};
template <class T>
using VerdictDone = UniqueFunction<void(Verdict<T>)>;

// Whether nobody but us was there to make the same change, and nothing of ours that uses its names was sent behind it, but for
// what Renamed says.
enum class Alone { kNo, kYes };

// What is there is not what was to be made.
Error Exists(const std::string& path);

void CheckMakeDir(RemoteFiles& files, const std::string& path, VerdictDone<RemoteStat> done);
void CheckSymlink(RemoteFiles& files, const std::string& target, const std::string& path,
                  VerdictDone<RemoteStat> done);
void CheckLink(RemoteFiles& files, const std::string& from, const std::string& to,
               VerdictDone<RemoteStat> done);
// Of a directory or anything else. What is there may be somebody's new one unless we were alone.
void CheckRemoval(RemoteFiles& files, const std::string& path, Alone alone, VerdictDone<Unit> done);
struct Renamed {
    std::optional<RemoteStat> was;  // at the old name when the rename was sent, if that was heard
    std::uint64_t size = 0;  // not 0: a new file may have been made at the old name behind it
};
void CheckRename(RemoteFiles& files, const std::string& from, const std::string& to,
                 RemoteFiles::Replace replace, const Renamed& sent, Alone alone,
                 VerdictDone<Unit> done);
// Opens what O_EXCL made, if it is ours.
void CheckExclusive(RemoteFiles& files, const std::string& path, const OpenHow& how, Alone alone,
                    VerdictDone<OpenedFile> done);
struct Appended {
    std::optional<std::uint64_t> before;  // the size when it was sent, if that is known
    std::size_t count = 0;                // bytes
    bool others_follow = false;           // ours, which may have arrived behind it
};
// `file` is of this link.
void CheckAppend(RemoteFiles& files, const RemoteFilePtr& file, const Appended& sent, Alone alone,
                 VerdictDone<Unit> done);

}  // namespace sbxfs
