// Makes the first files of a sandbox's root, owned by the sandbox's own ids. While it lives the
// process does its file operations as those ids (setfsuid(2)), so that everything made belongs to
// them and nothing that only root may read can be copied in by mistake. For fresh trees only, never
// one a sandbox has written to. Helper only.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sbxfs {

struct Owner {
    uid_t uid = 0;
    gid_t gid = 0;
};

class TreeMaker {
 public:
    // `root` stays the caller's. Paths below are relative to it.
    TreeMaker(int root, Owner owner);
    TreeMaker(const TreeMaker&) = delete;
    TreeMaker& operator=(const TreeMaker&) = delete;
    ~TreeMaker();

    // An existing directory is fine and keeps its mode.
    Status Dir(const std::string& path, mode_t mode);
    // Every missing component, 0755. Links on the way are followed inside `root` only.
    Status Dirs(const std::string& path);
    Status File(const std::string& path, std::string_view bytes, mode_t mode);
    // Nothing to write, only to mount on; an existing file is fine. Links as for Dirs().
    Status EmptyFile(const std::string& path);
    Status Link(const std::string& path, const std::string& target);

    // Copies what is at `source` on this machine when it is there: files and links, and below a
    // directory all of them, as far as everybody may read them. Anything else, and what is above 4
    // MiB, is left out.
    void CopyPublic(const std::string& source, const std::string& path);

 private:
    void CopyPublicAt(int source_dir, const std::string& name, const std::string& path, int depth);
    void CopyLink(int source_dir, const std::string& name, const std::string& path);
    void CopyFile(int source_dir, const std::string& name, const std::string& path,
                  const struct stat& found);
    void CopyDir(int source_dir, const std::string& name, const std::string& path, int depth);

    int root_;
    uid_t old_uid_;
    gid_t old_gid_;
    int copied_ = 0;
};

}  // namespace sbxfs
