// Names and paths: what passes a check is one component and no more, and no link of a sandbox, whatever its target
// says and wherever it lies, leads out of fs/.
#include "base/check.h"
#include "base/strings.h"
#include "fs/remote_paths.h"
#include "sandbox/clean_path.h"
#include "sandbox/names.h"
#include "tests/fuzz/fuzz_bytes.h"

namespace sbxfs::fuzz {
namespace {

// How many directories below the top, made of whatever the input has of good names.
std::string Directory(FuzzBytes& in, std::size_t most, std::size_t& depth) {
    std::string path = "/";
    for (std::size_t i = in.Below(most + 1); i > 0; --i) {
        const std::string_view name = in.Text(12);
        if (!IsComponent(name)) continue;
        path = JoinPath(path, name);
        ++depth;
    }
    return path;
}

void CheckContained(const std::string& shown, std::size_t depth) {
    CHECK(!shown.starts_with('/'));
    CHECK(shown.find('\0') == std::string::npos);
    std::size_t climbs = 0;
    bool named = false;
    for (const std::string& part : Split(shown, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            CHECK(!named);  // what the name leads to decides where this goes
            ++climbs;
        } else {
            named = true;
        }
    }
    CHECK(climbs <= depth);
}

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sbxfs;
    fuzz::FuzzBytes in(data, size);
    std::size_t depth = 0;
    std::size_t ignored = 0;
    const std::string link_dir = fuzz::Directory(in, 4, depth);
    const std::string root = in.Chance() ? "/" : fuzz::Directory(in, 3, ignored);
    Template what;
    what.fs_root = root;
    what.workdir = fuzz::Directory(in, 3, ignored);
    const std::string spool = fuzz::Directory(in, 3, ignored);
    const std::string target(in.Text(1000));

    const std::string shown = ContainLink(target, link_dir, root);
    fuzz::CheckContained(shown, depth);
    if (!shown.empty()) CHECK(ContainLink(shown, link_dir, root) == shown);

    CHECK(IsWithin(link_dir, ParentOf(link_dir)));
    if (IsHidden(what, spool, link_dir)) CHECK(IsHidden(what, spool, JoinPath(link_dir, "x")));
    if (IsWithin(link_dir, "/proc") && root == "/") CHECK(IsHidden(what, spool, link_dir));
    const std::string below = PathBelowRoot(what);
    CHECK(below.empty() || below.starts_with('/'));

    const std::string_view name = in.Rest();
    if (const auto box = ParseSandboxName(name)) {
        CHECK(IsComponent(box->full) && box->full == name);
        CHECK(box->full.find_first_of("\n ~\\") == std::string::npos);
    }
    if (CheckEventName(name)) CHECK(IsComponent(name));
    if (IsComponent(name)) CHECK(ParentOf(JoinPath(link_dir, name)) == link_dir);
    CHECK(Printable(name).find('\n') == std::string::npos);
    return 0;
}
