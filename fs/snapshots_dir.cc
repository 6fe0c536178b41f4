#include "fs/snapshots_dir.h"

#include <errno.h>
#include <sys/stat.h>

#include <map>
#include <string>
#include <utility>

#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::string_view kEnding = ".json";

struct Kept {
    SnapshotFacts facts;
    Snapshotter* snapshotter;
};

std::map<std::string, Kept> All(const MountContext& mount) {
    std::map<std::string, Kept> all;
    for (Snapshotter* snapshotter : mount.settings.snapshotters) {
        for (SnapshotFacts& facts : snapshotter->Snapshots()) {
            std::string file = facts.name + std::string(kEnding);
            all.emplace(std::move(file), Kept{std::move(facts), snapshotter});
        }
    }
    return all;
}

std::string InfoText(const SnapshotFacts& facts) {
    Json json = Json::Object();
    json.Set("name", facts.name).Set("from", facts.from);
    json.Set("generation", static_cast<std::int64_t>(facts.generation));
    json.Set("made", Rfc3339(FromEpochMs(facts.made_ms))).Set("made_ms", facts.made_ms);
    json.Set("bytes", static_cast<std::int64_t>(facts.bytes));
    json.Set("files", static_cast<std::int64_t>(facts.files));
    json.Set("provider", facts.what.provider);
    return json.Dump(2) + "\n";
}

}  // namespace

Attr SnapshotsDir::Stat() const {
    SystemTime newest = mount().mounted;
    for (const auto& [file, kept] : All(mount()))
        newest = std::max(newest, FromEpochMs(kept.facts.made_ms));
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    attr.atime = attr.mtime = attr.ctime = newest;
    return attr;
}

std::vector<ControlDir::Name> SnapshotsDir::List() const {
    std::vector<Name> names;
    for (const auto& [file, kept] : All(mount()))
        names.push_back({file, S_IFREG});
    return names;
}

std::optional<Child> SnapshotsDir::FindChild(std::string_view name) const {
    const std::map<std::string, Kept> all = All(mount());
    const auto it = all.find(std::string(name));
    if (it == all.end()) return std::nullopt;
    const SnapshotFacts& facts = it->second.facts;
    // One of the same name made later is another file.
    return MakeChild<TextNode>(mount(), it->first, it->first + "/" + std::to_string(facts.made_ms),
                               TextFunction([text = InfoText(facts)] { return text; }),
                               TimeFunction([time = FromEpochMs(facts.made_ms)] { return time; }),
                               std::uint32_t{0444});
}

void SnapshotsDir::Unlink(std::string_view name, EmptyReply reply) {
    MountContext& m = mount();
    const std::map<std::string, Kept> all = All(m);
    const auto it = all.find(std::string(name));
    if (it == all.end()) {
        return std::move(reply).Fail(
            Error(Errno{ENOENT}, "no snapshot '" + Printable(name, 64) + "' here"));
    }
    if (m.removals.EndsAWalk(reply.caller(), "/.mount"))
        return RefuseRemoval(name, std::move(reply));
    const std::string& snapshot = it->second.facts.name;
    if (snapshot == m.config.Now()->default_template &&
        IsOfSnapshot(m.config.Now()->templates.at(snapshot))) {
        return std::move(reply).Fail(
            Error(Errno{EBUSY}, "'" + snapshot +
                                    "' is the default template, which mkdir needs: "
                                    "change default_template first"));
    }
    auto parked = m.lot.Park(std::move(reply));
    it->second.snapshotter->RemoveSnapshot(
        snapshot, [&m, parked = std::move(parked)](const Status& status) mutable {
            LearnSnapshots(m);
            if (auto taken = parked.Take()) std::move(*taken).Done(status);
        });
}

bool IsOfSnapshot(const Template& what) {
    const auto it = what.options.find("snapshot");
    if (it == what.options.end()) return false;
    const auto* name = std::get_if<std::string>(&it->second);
    return name != nullptr && *name == what.name;
}

void LearnSnapshots(MountContext& mount) {
    std::map<std::string, Template> there;
    for (auto& [file, kept] : All(mount))
        there[kept.facts.name] = kept.facts.what;
    const auto config = mount.config.Now();
    const SystemTime now = mount.clock.System();
    for (const auto& [name, what] : there) {
        if (!config->templates.contains(name)) mount.config.Write(name, what, now);
    }
    for (const auto& [name, what] : config->templates) {
        if (IsOfSnapshot(what) && !there.contains(name))
            mount.config.Write(name, std::nullopt, now);
    }
}

}  // namespace sbxfs
