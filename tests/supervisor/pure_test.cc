// The parts of the supervisor that are pure: frames, parsers, what is said to shells, which
// processes are a tree.

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "sandbox/supervisor/accounts.h"
#include "sandbox/supervisor/dialect.h"
#include "sandbox/supervisor/environment.h"
#include "sandbox/supervisor/image.h"
#include "sandbox/supervisor/intervals.h"
#include "sandbox/supervisor/late_signals.h"
#include "sandbox/supervisor/output.h"
#include "sandbox/supervisor/shebang.h"
#include "sandbox/supervisor/timers.h"
#include "sandbox/supervisor/tree.h"
#include "tests/supervisor/client.h"

namespace sbxfs::supervisor {
namespace {

std::string Plain(View view) {
    return {view.data, view.size};
}

TEST(Frames, EveryMessageIsReadAsItWasWritten) {
    StartFields start;
    start.n = 1ULL << 63;
    start.lane = Lane::kParallel;
    start.login_shell = 1;
    start.timeout_ms = 5;
    start.output_limit = UINT64_MAX;
    start.shell = AsText("/bin/sh");
    start.cwd = AsText("");
    start.user = AsText("u");
    start.script = AsText("echo \xff");
    const std::string bytes = Frame(Type::kStart, [&](auto& w) { PutStartFields(w, start); });
    Reader reader(bytes.data(), bytes.size());
    EXPECT_EQ(reader.U32(), bytes.size() - 4);
    EXPECT_EQ(reader.U8(), static_cast<std::uint8_t>(Type::kStart));
    const StartFields read = GetStartFields(reader);
    EXPECT_TRUE(reader.at_end());
    EXPECT_EQ(read.n, start.n);
    EXPECT_EQ(read.lane, start.lane);
    EXPECT_EQ(read.output_limit, start.output_limit);
    EXPECT_EQ(AsString(read.script), "echo \xff");
    EXPECT_EQ(AsString(read.cwd), "");

    StatFields stat;
    stat.mtime_ns = -1;
    stat.ctime_ns = INT64_MIN;
    const std::string stats = Frame(Type::kStatOk, [&](auto& w) { PutStatFields(w, stat); });
    Reader again(stats.data() + 5, stats.size() - 5);
    const StatFields same = GetStatFields(again);
    EXPECT_TRUE(again.at_end());
    EXPECT_EQ(same.mtime_ns, -1);
    EXPECT_EQ(same.ctime_ns, INT64_MIN);

    HelloOkFields hello;
    hello.spool = 7;
    hello.boot = 9;
    hello.home = AsText("/root");
    const std::string hellos = Frame(Type::kHelloOk, [&](auto& w) { PutHelloOkFields(w, hello); });
    Reader third(hellos.data() + 5, hellos.size() - 5);
    const HelloOkFields greeted = GetHelloOkFields(third);
    EXPECT_TRUE(third.at_end());
    EXPECT_EQ(greeted.boot, 9U);
    EXPECT_EQ(AsString(greeted.home), "/root");
}

TEST(Frames, ATruncatedOneIsNeverOkWhereverItIsCut) {
    DoneFields done;
    done.reason = AsText("because");
    done.cwd = AsText("/tmp");
    const std::string whole = Frame(Type::kDone, [&](auto& w) { PutDoneFields(w, done); });
    for (std::size_t cut = 5; cut < whole.size(); ++cut) {
        Reader reader(whole.data() + 5, cut - 5);
        (void)GetDoneFields(reader);
        EXPECT_FALSE(reader.at_end()) << cut;
    }
    // A length beyond the frame reads as nothing, and nothing after it reads.
    const std::string lie(
        "\xff\xff\xff\xff"
        "abc",
        7);
    Reader reader(lie.data(), lie.size());
    EXPECT_EQ(reader.String().size, 0U);
    EXPECT_EQ(reader.U8(), 0U);
    EXPECT_FALSE(reader.ok());
}

TEST(Images, BothMachinesAreCarried) {
    const auto images = SupervisorImages();
    ASSERT_EQ(images.size(), 2U);
    for (const SupervisorImage& image : images) {
        EXPECT_EQ(image.bytes.substr(0, 4),
                  "\x7f"
                  "ELF");
        EXPECT_EQ(image.hash.size(), 64U);
        EXPECT_LT(image.bytes.size(), 128U << 10) << "it is uploaded at every attach";
    }
    EXPECT_EQ(images[0].machine, "x86_64");
    EXPECT_EQ(images[1].machine, "aarch64");
    EXPECT_EQ(images[0].bytes, ReadText(SBXFS_SUPERVISOR_DIR "/sbxfs-supervisor-amd64"));
}

TEST(Bytes, QuotingIsWhatAShellReadsBack) {
    Str text;
    text.Quoted("it's '' \n\\");
    EXPECT_EQ(Plain(text.view()), "'it'\\''s '\\'''\\'' \n\\'");
    std::uint64_t number = 0;
    EXPECT_TRUE(ParseNumber("18446744073709551615", &number));
    EXPECT_EQ(number, UINT64_MAX);
    for (const char* bad : {"", "18446744073709551616", "-1", " 1", "1 ", "0x1"}) {
        EXPECT_FALSE(ParseNumber(bad, &number)) << bad;
    }
}

TEST(Bytes, VectorsKeepOrderAcrossInsertionsAndRemovals) {
    Vec<Str> list;
    std::vector<std::string> model;
    std::mt19937 random(7);
    for (int i = 0; i < 2000; ++i) {
        if (model.empty() || random() % 3 != 0) {
            const std::size_t at = random() % (model.size() + 1);
            list.Insert(at, Str(View(std::to_string(i).c_str())));
            model.insert(model.begin() + static_cast<std::ptrdiff_t>(at), std::to_string(i));
        } else {
            const std::size_t at = random() % model.size();
            list.Remove(at);
            model.erase(model.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }
    ASSERT_EQ(list.size(), model.size());
    for (std::size_t i = 0; i < model.size(); ++i)
        EXPECT_EQ(Plain(list[i].view()), model[i]);
}

TEST(Intervals, AreASetThatStaysSmall) {
    Intervals set;
    for (std::uint64_t n = 1; n <= 1000; n += 2)
        set.Add(n);
    EXPECT_EQ(set.Count(), 500U);
    for (std::uint64_t n = 1000; n >= 2; n -= 2)
        set.Add(n);
    EXPECT_EQ(set.Count(), 1U);
    EXPECT_TRUE(set.Has(1));
    EXPECT_TRUE(set.Has(1000));
    EXPECT_FALSE(set.Has(0));
    EXPECT_FALSE(set.Has(1001));
    set.Add(500);
    EXPECT_EQ(set.Count(), 1U);
}

TEST(Shebang, IsReadAsTheKernelReadsIt) {
    Shebang line;
    ASSERT_TRUE(ParseShebang("#! /usr/bin/env  python3 -u \nprint()", &line));
    EXPECT_EQ(Plain(line.interpreter), "/usr/bin/env");
    EXPECT_EQ(Plain(line.argument), "python3 -u");
    ASSERT_TRUE(ParseShebang("#!/bin/sh\r\necho", &line));
    EXPECT_EQ(Plain(line.interpreter), "/bin/sh");
    EXPECT_TRUE(line.argument.empty());
    ASSERT_TRUE(ParseShebang("#!/bin/sh", &line));
    for (const char* no : {"", "#", "#!", "#!\n", "#!sh\n", " #!/bin/sh\n", "# !/bin/sh"}) {
        EXPECT_FALSE(ParseShebang(no, &line)) << no;
    }
}

TEST(Reports, GarbageIsNothing) {
    const Report status = ParseReport("R 12 255 hBxs");
    EXPECT_EQ(status.kind, Report::Kind::kStatus);
    EXPECT_EQ(status.number, 12U);
    EXPECT_EQ(status.status, 255U);
    EXPECT_TRUE(status.traced);
    const Report where = ParseReport("C 77 /a b //E");
    EXPECT_EQ(where.kind, Report::Kind::kDirectory);
    EXPECT_EQ(Plain(where.directory), "/a b");
    for (const char* bad :
         {"", "R", "R ", "R 1", "R 1 ", "R 1 256 x", "R x 0 x", "R -1 0 x", "R 1 0x0 -", "X 1 0 -",
          "C 1 /cut", "C 1 relative //E", "C 1  //E", "C  / //E", "R 99999999999999999999 0 -"}) {
        EXPECT_EQ(ParseReport(bad).kind, Report::Kind::kNone) << bad;
    }
    std::mt19937 random(1);
    for (int i = 0; i < 20000; ++i) {
        std::string line = i % 2 == 0 ? "R 12 255 hBxs" : "C 77 /a b //E";
        line[random() % line.size()] = static_cast<char>(random());
        line.resize(random() % (line.size() + 1));
        const Report report = ParseReport(View(line.data(), line.size()));
        if (report.kind == Report::Kind::kStatus) {
            EXPECT_LE(report.status, 255U);
        }
    }
}

TEST(Accounts, ComeFromPasswdAndGroup) {
    const View passwd =
        "root:x:0:0:root:/root:/bin/bash\nbroken\n:x:1:1::/:\nbad:x:abc:1::/:\n"
        "dev:x:1000:1001:A,B:/home/dev:/bin/zsh\nlast:x:5:6::/l";
    Account account;
    ASSERT_TRUE(FindAccount(passwd, "dev", &account));
    EXPECT_EQ(account.uid, 1000U);
    EXPECT_EQ(account.gid, 1001U);
    EXPECT_EQ(Plain(account.home.view()), "/home/dev");
    EXPECT_EQ(Plain(account.shell.view()), "/bin/zsh");
    AddGroups("a:x:10:dev\nb:x:11:root,dev\nc:x:12:devel\nd:x:no:dev\ne:x:13:\n", &account);
    ASSERT_EQ(account.groups.size(), 2U);
    EXPECT_EQ(account.groups[0], 10U);
    EXPECT_EQ(account.groups[1], 11U);
    ASSERT_TRUE(FindAccount(passwd, "1000", &account));
    EXPECT_EQ(Plain(account.name.view()), "dev");
    ASSERT_TRUE(FindAccount(passwd, "last", &account));
    for (const char* nobody : {"", "bad", "broken", "nobody", "7"}) {
        EXPECT_FALSE(FindAccount(passwd, nobody, &account)) << nobody;
    }
}

TEST(Environments, TheImageWinsButForWhoWeAre) {
    Environment image;
    image.Set("PATH", "/opt/bin:/bin");
    image.Set("HOME", "/app");
    image.Set("USER", "imageuser");
    std::vector<std::string> words = {"PATH=/bin",   "HOME=/home/dev",
                                      "USER=dev",    "SSH_CONNECTION=1 2 3 4",
                                      "BASH_ENV=/x", "LANG=C"};
    std::vector<char*> login;
    for (std::string& word : words)
        login.push_back(word.data());
    login.push_back(nullptr);
    for (const bool ours : {false, true}) {
        const Environment merged = MergeEnvironment(login.data(), image, ours);
        EXPECT_EQ(Plain(merged.Or("PATH", "")), "/opt/bin:/bin");
        EXPECT_EQ(Plain(merged.Or("HOME", "")), ours ? "/app" : "/home/dev");
        EXPECT_EQ(Plain(merged.Or("USER", "")), "dev");
        EXPECT_EQ(Plain(merged.Or("LANG", "")), "C");
        View value;
        EXPECT_FALSE(merged.Get("SSH_CONNECTION", &value));
        EXPECT_FALSE(merged.Get("BASH_ENV", &value));
    }
}

TEST(ProcStat, NamesMayHoldAnything) {
    Process process;
    ASSERT_TRUE(ParseStat("42 (a) b) (c) S 1 42 40 0 -1 4194560 0 0 0 0 3 4 0 0 20 0 7 0 12345 0",
                          &process));
    EXPECT_EQ(process.pid, 42);
    EXPECT_EQ(Plain(process.Name()), "a) b) (c");
    EXPECT_EQ(process.parent, 1);
    EXPECT_EQ(process.session, 40);
    EXPECT_EQ(process.cpu, 7U);
    EXPECT_EQ(process.threads, 7U);
    EXPECT_EQ(process.start, 12345U);
    for (const char* bad : {"", "42", "42 (", "42 ()", "42 (x)", "42 (x) S", "x (y) S 1 2 3"}) {
        EXPECT_FALSE(ParseStat(bad, &process)) << bad;
    }
}

TEST(OutputLimit, HolesLeaveTheFirstMebibyteAndTheNewestRest) {
    constexpr std::uint64_t kMiB = 1 << 20;
    EXPECT_EQ(HoleFor(100 * kMiB, 0).to, 0U);
    EXPECT_EQ(HoleFor(64 * kMiB, 64 * kMiB).to, 0U);
    const Hole hole = HoleFor(100 * kMiB + 5, 64 * kMiB);
    EXPECT_EQ(hole.from, kMiB);
    EXPECT_EQ(hole.to, 37 * kMiB);
    // What is kept is at least the limit, and less than a page more.
    for (std::uint64_t size = 3 * kMiB; size < 3 * kMiB + 9000; size += 13) {
        const Hole small = HoleFor(size, 2 * kMiB);
        const std::uint64_t kept = size - (small.to - small.from);
        EXPECT_GE(kept, 2 * kMiB);
        EXPECT_LT(kept, 2 * kMiB + 4096);
    }
    EXPECT_EQ(HoleFor(UINT64_MAX, 1).from, 0U);
}

TEST(TimersTest, TheIdleClockStandsStillWhileACommandRuns) {
    Timers timers;
    EXPECT_EQ(timers.NextTick(false), kNever);
    timers.Set(1000, 60000, 5000, TimerAction::kEndSandbox);
    EXPECT_EQ(timers.IdleLeft(2000), 4000U);
    EXPECT_EQ(timers.Check(5999, false), Timers::Due::kNothing);
    EXPECT_EQ(timers.Check(9000, true), Timers::Due::kNothing);
    EXPECT_EQ(timers.NextTick(true), 61000);
    EXPECT_EQ(timers.NextTick(false), 14000);
    EXPECT_EQ(timers.Check(13999, false), Timers::Due::kNothing);
    EXPECT_EQ(timers.Check(14000, false), Timers::Due::kIdle);
    EXPECT_EQ(timers.Check(99000, false), Timers::Due::kNothing) << "once";
    timers.Set(0, UINT64_MAX, UINT64_MAX, TimerAction::kEndCommands);
    EXPECT_EQ(timers.Check(1LL << 40, true), Timers::Due::kNothing) << "no overflow";
    timers.Set(0, 10, 0, TimerAction::kEndCommands);
    EXPECT_EQ(timers.Check(10, true), Timers::Due::kLifetime);
}

TEST(TimersTest, SettingItAgainIsNobodysUse) {
    Timers timers;
    timers.Set(0, 60000, 5000, TimerAction::kEndSandbox);
    timers.Set(4000, 60000, 5000, TimerAction::kEndSandbox);
    EXPECT_EQ(timers.IdleLeft(4000), 1000U);
    timers.Set(4500, 60000, 9000, TimerAction::kEndSandbox);
    EXPECT_EQ(timers.IdleLeft(4500), 4500U);
    timers.Use(4500);
    EXPECT_EQ(timers.IdleLeft(4500), 9000U);
}

// A table of processes for SelectTree, with the marks they would show.
struct Table {
    Vec<Process> all;
    void Add(int pid, int parent, int session, std::uint64_t start, char state = 'S') {
        Process process;
        process.pid = pid;
        process.parent = parent;
        process.session = session;
        process.start = start;
        process.state = state;
        process.threads = 1;
        all.Add(process);
    }
};

bool MarkOf(int pid, Str* mark) {
    if (pid == 60 || pid == 61) mark->Assign("id-2");
    if (pid == 70) mark->Assign("id-1");
    return pid == 60 || pid == 61 || pid == 70;
}

TEST(Trees, AreWhatTheCommandStartedAndNothingOlder) {
    constexpr int kSelf = 10;
    Table table;
    table.Add(1, 0, 1, 1);
    table.Add(kSelf, 1, kSelf, 5);
    table.Add(20, kSelf, 20, 50);     // the shell
    table.Add(30, 20, 20, 100);       // a background child of an earlier command
    table.Add(31, 30, 20, 300);       // which started another one only now
    table.Add(40, 20, 20, 200);       // ours
    table.Add(41, 40, 41, 201);       // ours, with a session of its own
    table.Add(42, 40, 20, 202, 'Z');  // dead
    table.Add(50, kSelf, 20, 250);    // an orphaned subshell of ours: no mark, our session
    table.Add(51, kSelf, 20, 90);     // an older one
    table.Add(60, kSelf, 60, 260);    // a daemon with our mark
    table.Add(61, 60, 60, 261);       // its child
    table.Add(70, kSelf, 70, 270);    // a daemon of another command
    table.Add(71, kSelf, 71, 270);    // a stranger
    table.Add(80, 70, 70, 280);
    Tree tree;
    tree.root = {20, 50};
    tree.session = 20;
    tree.since = 200;
    tree.before.Add({30, 100});
    tree.before.Add({51, 90});
    tree.mark.Assign("id-2");
    const auto select = [&](WithRoot with_root) {
        Vec<ProcessId> members;
        SelectTree(table.all, tree, kSelf, with_root, &MarkOf, &members);
        std::vector<int> pids;
        for (const ProcessId& member : members)
            pids.push_back(member.pid);
        return pids;
    };
    EXPECT_EQ(select(WithRoot::kNo), (std::vector<int>{40, 41, 50, 60, 61}));
    EXPECT_EQ(select(WithRoot::kYes), (std::vector<int>{20, 40, 41, 50, 60, 61}));
    // The same number, but not the same process.
    tree.root = {20, 49};
    EXPECT_EQ(select(WithRoot::kYes), (std::vector<int>{50, 60, 61}));
}

TEST(LateSignals, AreForCopiesAndForTheNewbornOfThoseWhoWereSignalled) {
    constexpr int kSelf = 10;
    constexpr std::uint32_t kForkNoExec = 0x40;
    Table before;
    before.Add(40, 20, 20, 200);  // a program
    before.Add(41, 20, 20, 201);  // a copy of the shell
    before.all[1].flags = kForkNoExec;
    Table after;
    after.Add(40, 20, 20, 200);
    after.Add(41, 20, 20, 201);
    after.Add(42, 40, 20, 202);     // of the program
    after.Add(43, kSelf, 20, 203);  // whose parent is gone already
    after.Add(44, 20, 20, 204);     // what the shell runs next
    Vec<ProcessId> members;
    members.Add({40, 200});
    members.Add({41, 201});
    Vec<ProcessId> now;
    for (const Process& process : after.all)
        now.Add({process.pid, process.start});
    Vec<LateSignals::Missed> missed;
    LateSignals::SelectMissed(before.all, members, after.all, now, kSelf, &missed);
    std::vector<std::pair<int, int>> found;
    for (const LateSignals::Missed& who : missed)
        found.emplace_back(who.id.pid, who.parent.pid);
    EXPECT_EQ(found, (std::vector<std::pair<int, int>>{{41, 0}, {42, 40}, {43, kSelf}}));
}

}  // namespace
}  // namespace sbxfs::supervisor
