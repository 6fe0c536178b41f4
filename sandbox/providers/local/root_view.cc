#include "sandbox/providers/local/root_view.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/files.h"
#include "sandbox/providers/local/mounts.h"

namespace sbxfs {
namespace {

// bubblewrap puts its own temporary root over /tmp, so that is where ours may be as well: it comes
// to light again below the old root, where bubblewrap takes its sources from.
constexpr char kStage[] = "/tmp";

struct NewDir {
    std::string_view path;
    mode_t mode;
};
constexpr NewDir kDirs[] = {
    {"proc", 0755},      {"dev", 0755},      {"etc", 0755},           {"tmp", 01777},
    {"run", 0755},       {"run/sshd", 0755}, {"run/lock", 01777},     {"run/sbxfs", 0755},
    {"var", 0755},       {"var/lib", 0755},  {"var/lib/sbxfs", 0700}, {"var/tmp", 01777},
    {"var/cache", 0755}, {"var/log", 0755},  {"var/spool", 0755},     {"var/mail", 0755},
    {"home", 0755},      {"root", 0700},     {"opt", 0755},           {"srv", 0755},
    {"mnt", 0755},       {"media", 0755},
};

// Without these nothing starts.
constexpr NewDir kMountedOn[] = {
    {"proc", 0755}, {"dev", 0755},      {"etc", 0755},       {"tmp", 01777},
    {"run", 0755},  {"run/sshd", 0755}, {"run/sbxfs", 0755},
};

Result<UniqueFd> MakeRootDir(int layer, Owner owner) {
    if (::mkdirat(layer, "root", 0755) != 0) return SystemError(errno, "mkdir layer/root");
    UniqueFd root(::openat(layer, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root || ::fchown(root.get(), owner.uid, owner.gid) != 0 ||
        ::fchmod(root.get(), 0755) != 0) {
        return SystemError(errno, "layer/root");
    }
    return root;
}

// A detached mount for each thing to be shown, taken before the stage covers /tmp (a state
// directory may lie there).
struct Clones {
    UniqueFd layer;
    UniqueFd base;
    bool base_mapped = true;
    UniqueFd root;
    UniqueFd init;
    std::vector<LowerTree> lowers;
    std::vector<UniqueFd> binds;
};

Result<UniqueFd> CloneBind(const ReadyBind& bind) {
    UniqueFd tree = TRY(CloneTree(bind.source, Depth::kWithSubmounts));
    struct stat found {};
    if (::fstat(tree.get(), &found) != 0 || found.st_dev != bind.device ||
        found.st_ino != bind.inode) {
        return Error(Errno{ESTALE},
                     "`binds`: " + bind.bind.source + " changed while the sandbox started");
    }
    // Where ids cannot be mapped the files show as nobody's: readable as far as anybody may read
    // them.
    if (bind.ids) (void)MapIds(tree.get(), bind.ids->get(), Depth::kWithSubmounts);
    if (!bind.bind.writable) (void)TRY(MakeReadOnly(tree.get(), Depth::kWithSubmounts));
    return tree;
}

Result<Clones> CloneAll(const ViewPlan& plan, const ProgramTrees& trees) {
    Clones clones;
    clones.layer = TRY(CloneTree(plan.layer, Depth::kThisMount));
    clones.base = TRY(CloneTree(plan.base, Depth::kThisMount));
    if (plan.userns) {
        clones.base_mapped = MapIds(clones.base.get(), *plan.userns, Depth::kThisMount).has_value();
    }
    clones.root = TRY(CloneTree(plan.layer + "/root", Depth::kThisMount));
    clones.init = TRY(CloneTree(plan.init_program, Depth::kThisMount));
    (void)TRY(MakeReadOnly(clones.init.get(), Depth::kThisMount));
    for (const std::string& name : trees.directories) {
        clones.lowers.push_back(TRY(CloneLower(name, plan.userns)));
    }
    for (const ReadyBind& bind : *plan.binds)
        clones.binds.push_back(TRY(CloneBind(bind)));
    return clones;
}

Status MakeStage(const ProgramTrees& trees) {
    const UniqueFd stage = TRY(MakeFileSystem("tmpfs", {{"mode", "0755"}, {"size", "1m"}}));
    (void)TRY(Attach(stage.get(), kStage));
    for (const char* name : {"/root", "/layer", "/base", "/lower"}) {
        (void)TRY(MakeDirs(std::string(kStage) + name, 0755));
    }
    for (const std::string& name : trees.directories) {
        (void)TRY(MakeDirs(std::string(kStage) + "/lower/" + name, 0755));
    }
    return Ok();
}

std::string Relative(const std::string& absolute) {
    return absolute.substr(1);
}

// /etc: the sandbox's own files over the common ones. Where no overlay can be had the common ones
// are copied.
Status ShowEtc(const ViewPlan& plan, bool base_usable, int root) {
    const std::string base = std::string(kStage) + "/base/etc";
    const std::string layer = std::string(kStage) + "/layer/etc";
    if (base_usable) {
        const Result<UniqueFd> overlay = MountOverlay({base}, layer, !plan.userns);
        if (overlay) return AttachInRoot(overlay->get(), root, "etc");
    }
    const UniqueFd upper = TRY(OpenFile(layer + "/upper", O_RDONLY | O_DIRECTORY));
    if (plan.fresh) {
        TreeMaker tree(upper.get(), plan.owner);
        tree.CopyPublic(base, ".");
    }
    const UniqueFd own = TRY(CloneTree(layer + "/upper", Depth::kThisMount));
    return AttachInRoot(own.get(), root, "etc");
}

// A directory where a sandbox that has run may have left anything.
Status MakeOwnDir(TreeMaker& tree, int root, const std::string& path, mode_t mode) {
    struct stat found {};
    if (::fstatat(root, path.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0)
        return tree.Dir(path, mode);
    if (S_ISDIR(found.st_mode)) return Ok();
    return Error(Errno{ENOTDIR},
                 "/" + path + " in the sandbox is no directory any more, and has to be one",
                 Blame::kRemote);
}

Status MakeBindTarget(TreeMaker& tree, const ReadyBind& bind) {
    const std::string target = Relative(bind.bind.target);
    if (bind.directory) return tree.Dirs(target);
    const std::size_t slash = target.rfind('/');
    if (slash != std::string::npos) (void)TRY(tree.Dirs(target.substr(0, slash)));
    return tree.EmptyFile(target);
}

}  // namespace

Status MakeLayer(int box_dir, const LayerPlan& plan) {
    if (::mkdirat(box_dir, "layer", 0700) != 0) return SystemError(errno, "mkdir layer");
    const UniqueFd layer(::openat(box_dir, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!layer) return SystemError(errno, "open layer");
    const ProgramTrees trees = FindProgramTrees("");
    for (const std::string& name : trees.directories)
        (void)TRY(MakeUpper(layer.get(), name, plan.owner));
    (void)TRY(MakeUpper(layer.get(), "etc", plan.owner));
    {
        const UniqueFd etc(::openat(layer.get(), "etc/upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!etc) return SystemError(errno, "open layer/etc");
        TreeMaker tree(etc.get(), plan.owner);
        (void)TRY(FillOwnEtc(tree, plan.etc));
    }
    const UniqueFd root = TRY(MakeRootDir(layer.get(), plan.owner));
    TreeMaker tree(root.get(), plan.owner);
    for (const std::string& name : trees.directories)
        (void)TRY(tree.Dir(name, 0755));
    for (const auto& [name, target] : trees.links)
        (void)TRY(tree.Link(name, target));
    for (const NewDir& dir : kDirs)
        (void)TRY(tree.Dir(std::string(dir.path), dir.mode));
    (void)TRY(tree.Link("var/run", "../run"));
    (void)TRY(tree.Link("var/lock", "../run/lock"));
    (void)TRY(tree.File(Relative(kInitPath), "", 0755));  // where it is mounted
    if (plan.etc.login.home == "/root") return Ok();
    return tree.Dir(Relative(plan.etc.login.home), 0750);
}

Status RenewLayer(int box_dir, Owner owner) {
    const UniqueFd layer(
        ::openat(box_dir, "layer", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!layer) return SystemError(errno, "open layer");
    const std::vector<std::string> trees = FindProgramTrees("").directories;
    for (const std::string& name : trees) {
        if (::faccessat(layer.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            (void)TRY(RenewWork(layer.get(), name));
        } else {
            (void)TRY(MakeUpper(layer.get(), name, owner));  // this machine did not have it before
        }
    }
    (void)TRY(RenewWork(layer.get(), "etc"));

    const UniqueFd root(
        ::openat(layer.get(), "root", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!root) return SystemError(errno, "open layer/root");
    TreeMaker tree(root.get(), owner);
    for (const std::string& name : trees)
        (void)TRY(MakeOwnDir(tree, root.get(), name, 0755));
    // In this order: what is looked at in a directory lies in one that was.
    for (const NewDir& dir : kMountedOn)
        (void)TRY(MakeOwnDir(tree, root.get(), std::string(dir.path), dir.mode));
    return tree.EmptyFile(Relative(kInitPath));
}

Result<std::vector<ShownTree>> MountView(const ViewPlan& plan) {
    const ProgramTrees trees = FindProgramTrees("");
    Clones clones = TRY(CloneAll(plan, trees));
    (void)TRY(MakeStage(trees));
    const std::string stage = kStage;
    (void)TRY(Attach(clones.layer.get(), stage + "/layer"));
    (void)TRY(Attach(clones.base.get(), stage + "/base"));
    (void)TRY(Attach(clones.root.get(), kViewRoot));
    const UniqueFd root = TRY(OpenFile(kViewRoot, O_RDONLY | O_DIRECTORY));
    std::vector<ShownTree> shown;
    for (LowerTree& lower : clones.lowers) {
        const std::string name = lower.name;
        const bool skeleton = name == "usr" && clones.base_mapped;
        const OverlayPaths paths{stage + "/lower/" + name, skeleton ? stage + "/base/usr" : "",
                                 stage + "/layer/" + name, root.get()};
        shown.push_back(TRY(ShowTree(std::move(lower), paths, !plan.userns)));
    }
    (void)TRY(ShowEtc(plan, clones.base_mapped, root.get()));
    (void)TRY(AttachInRoot(clones.init.get(), root.get(), Relative(kInitPath)));
    for (std::size_t i = 0; i < plan.binds->size(); ++i) {
        const ReadyBind& bind = (*plan.binds)[i];
        {
            TreeMaker tree(root.get(), plan.owner);
            (void)TRY(MakeBindTarget(tree, bind));
        }
        (void)TRY(AttachInRoot(clones.binds[i].get(), root.get(), Relative(bind.bind.target)));
    }
    if (plan.workdir != "/") {
        TreeMaker tree(root.get(), plan.owner);
        (void)TRY(tree.Dirs(Relative(plan.workdir)));
    }
    return shown;
}

}  // namespace sbxfs
