// What the kernel of a machine tells in text, here or in a sandbox that lies: mounts, control groups, processes,
// accounts, the first words of a supervisor.
#include "base/check.h"
#include "fs/mounts.h"
#include "fs/remote_paths.h"
#include "sandbox/providers/local/cgroups.h"
#include "sandbox/providers/local/local_settings.h"
#include "sandbox/providers/local/mounts.h"
#include "sandbox/providers/local/process_record.h"
#include "sandbox/server_view.h"
#include "sandbox/supervisor/accounts.h"
#include "sandbox/supervisor/dialect.h"
#include "sandbox/supervisor/environment.h"
#include "sandbox/supervisor/process.h"
#include "sandbox/supervisor/shebang.h"
#include "sandbox/supervisor_bootstrap.h"
#include "tests/fuzz/fuzz_bytes.h"

namespace sbxfs::fuzz {
namespace {

namespace sup = supervisor;

void Read(std::size_t which, FuzzBytes& in) {
    switch (which) {
        case 0: {
            const std::string status(in.Text());
            const auto view = ServerView::Parse(status, in.Rest());
            if (!view) break;
            CHECK(view->mounts.contains("/"));
            (void)view->MountOf("/work/a");
            for (const auto& [path, mount] : view->mounts)
                CHECK(path.starts_with('/') && mount.path == path);
            break;
        }
        case 1: {
            std::string said(in.Rest());
            const std::size_t before = said.size();
            const auto site = TakeSite(said);
            CHECK(said.size() <= before);
            if (site) CHECK(site->machine.find('\n') == std::string::npos);
            break;
        }
        case 2:
            if (const auto record = ProcessRecord::FromText(in.Rest())) {
                CHECK(record->pid > 0);
                CHECK(ProcessRecord::FromText(record->ToText()) == *record);
            }
            break;
        case 3:
            (void)ParseSbxfsMounts(std::string(in.Rest()));
            break;
        case 4: {
            const std::string prefix(in.Text(12));
            (void)ParseMountPointsBelow(in.Rest(), prefix);
            break;
        }
        case 5: {
            const std::string mountinfo(in.Text());
            (void)ParseHierarchies(mountinfo, in.Rest());
            break;
        }
        case 6:
            (void)ParseBind(in.Rest());
            break;
        case 7: {
            const std::string_view text = in.Rest();
            sup::Account account;
            (void)sup::FindAccount(sup::View(text.data(), text.size()), "me", &account);
            sup::AddGroups(sup::View(text.data(), text.size()), &account);
            break;
        }
        case 8: {
            const std::string_view text = in.Rest();
            sup::Process process;
            if (sup::ParseStat(sup::View(text.data(), text.size()), &process))
                CHECK(process.pid >= 0);
            break;
        }
        case 9: {
            const std::string_view text = in.Rest();
            const sup::Report report = sup::ParseReport(sup::View(text.data(), text.size()));
            if (report.kind == sup::Report::Kind::kDirectory) {
                CHECK(report.directory.size <= text.size());
            }
            break;
        }
        case 10: {
            const std::string_view text = in.Rest();
            sup::Shebang shebang;
            if (sup::ParseShebang(sup::View(text.data(), text.size()), &shebang)) {
                CHECK(shebang.interpreter.size > 0 && shebang.interpreter.size <= text.size());
            }
            break;
        }
        default: {
            const std::uint32_t uid = in.U8();
            const std::string_view text = in.Rest();
            sup::Account account;
            if (sup::FindAccountByUid(sup::View(text.data(), text.size()), uid, &account))
                CHECK(account.uid == uid);
            break;
        }
    }
}

}  // namespace
}  // namespace sbxfs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sbxfs::fuzz::FuzzBytes in(data, size);
    const std::size_t which = in.Below(12);
    sbxfs::fuzz::Read(which, in);
    return 0;
}
