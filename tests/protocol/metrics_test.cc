// What is told of the daemon itself, over the real callbacks: .mount/metrics, the warnings of requests that wait, the
// state in the log.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/log.h"
#include "fs/state_report.h"
#include "tests/protocol/protocol_test.h"

namespace sbxfs::testing {
namespace {

// Every line from here to its end, as "event key=value ...".
class LogLines final : public LogSink {
 public:
    LogLines() { SetLogSink(this); }
    ~LogLines() override { SetLogSink(nullptr); }
    void Write(LogLevel level, std::string_view event, std::span<const LogField> fields) override {
        std::string line(event);
        for (const LogField& field : fields)
            line.append(" ").append(field.key).append("=").append(field.value);
        const MutexLock lock(mu_);
        lines_.push_back((level == LogLevel::kWarning ? "warning " : "") + line);
    }
    std::vector<std::string> With(std::string_view word) const {
        std::vector<std::string> found;
        const MutexLock lock(mu_);
        for (const std::string& line : lines_)
            if (line.find(word) != std::string::npos) found.push_back(line);
        return found;
    }

 private:
    mutable Mutex mu_{LockRank::kLog};
    std::vector<std::string> lines_ GUARDED_BY(mu_);
};

class Observed : public ProtocolTest {
 protected:
    void SetUp() override {
        ProtocolTest::SetUp();
        MakeBox();
        files().PutFile("/work/a", "hello", 0640);
    }
    // -1: no such sample.
    static double Sample(const std::string& text, const std::string& name) {
        const std::size_t at = text.find("\n" + name + " ");
        return at == std::string::npos ? -1 : std::stod(text.substr(at + 1 + name.size()));
    }
    double Sample(const std::string& name) { return Sample(Cat("/.mount/metrics"), name); }
    std::string ReadAll(std::uint64_t node, std::uint64_t handle) {
        std::string text;
        for (;;) {
            const Answer answer =
                kernel_->Ask(FUSE_READ, node, ReadBody(handle, text.size(), 10'000));
            EXPECT_EQ(answer.error, 0);
            if (answer.body.empty()) return text;
            text += answer.body;
        }
    }
    void Advance(int ms) { world_.loop.Advance(std::chrono::milliseconds(ms)); }
};

TEST_F(Observed, RequestsAreCountedByOperationAndErrno) {
    const std::string before = Cat("/.mount/metrics");
    EXPECT_EQ(Lookup(1, "nothing").error, ENOENT);
    EXPECT_EQ(kernel_->Ask(FUSE_STATFS, 1).error, 0);
    EXPECT_EQ(kernel_->Ask(FUSE_STATFS, 1).error, 0);
    const std::string after = Cat("/.mount/metrics");
    const auto moved = [&](const std::string& name) {
        return Sample(after, name) - std::max(0.0, Sample(before, name));
    };
    EXPECT_EQ(moved("sbxfs_request_seconds_count{op=\"statfs\"}"), 2);
    EXPECT_EQ(moved("sbxfs_request_seconds_bucket{op=\"statfs\",le=\"+Inf\"}"), 2);
    EXPECT_EQ(moved("sbxfs_request_errors_total{op=\"lookup\",errno=\"ENOENT\"}"), 1);
    // Its own of the first text, one of the second.
    EXPECT_EQ(moved("sbxfs_request_seconds_count{op=\"open\"}"), 1);
}

TEST_F(Observed, AnOpenFileOfMetricsIsOneMomentAndAsLongAsItSays) {
    const std::uint64_t node = Walk("/.mount/metrics");
    const auto size = [&] {
        fuse_getattr_in in{};
        return kernel_->Ask(FUSE_GETATTR, node, Pack(in)).As<fuse_attr_out>().attr.size;
    };
    const std::uint64_t before = size();
    const std::uint64_t handle = Open(node, 0);
    const std::string first = ReadAll(node, handle);
    for (int i = 0; i < 100; ++i)
        (void)kernel_->Ask(FUSE_STATFS, 1);
    EXPECT_EQ(ReadAll(node, handle), first);
    EXPECT_EQ(first.size(), before);
    EXPECT_EQ(Release(node, handle).error, 0);
    EXPECT_EQ(size(), before) << "what is counted makes it no longer";
}

TEST_F(Observed, ReadingMetricsAsksNoSandbox) {
    const std::uint64_t node = Walk("/box/fs/work/a");
    (void)node;
    Settle();
    const std::size_t before = files().Log().size();
    for (int i = 0; i < 10; ++i)
        EXPECT_GT(Cat("/.mount/metrics").size(), 1000U);
    Settle();
    EXPECT_EQ(files().Log().size(), before);
    EXPECT_EQ(world_.loop.posted(), 0U);
}

TEST_F(Observed, MetricsAreReadWhileASandboxIsSilent) {
    const std::uint64_t work = Walk("/box/fs/work");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const std::uint64_t waits = kernel_->Send(FUSE_LOOKUP, work, Name("b"));
    AwaitParked(1);
    Advance(700);
    const std::string text = Cat("/.mount/metrics");
    EXPECT_EQ(Sample(text, "sbxfs_requests_waiting{for=\"sandbox\"}"), 1);
    EXPECT_NEAR(Sample(text, "sbxfs_requests_waiting_oldest_seconds{for=\"sandbox\"}"), 0.7, 0.001);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    EXPECT_EQ(kernel_->Await(waits).error, ENOENT);
    EXPECT_EQ(Sample("sbxfs_requests_waiting{for=\"sandbox\"}"), 0);
    EXPECT_EQ(Sample("sbxfs_requests_waiting_oldest_seconds{for=\"sandbox\"}"), 0);
}

TEST_F(Observed, ARequestThatWaitsForLongIsWarnedOfOnce) {
    const LogLines log;
    const std::uint64_t work = Walk("/box/fs/work");
    const double slow = std::max(0.0, Sample("sbxfs_slow_requests_total{op=\"lookup\"}"));
    files().SetAnswers(FakeFiles::Answers::kHeld);
    kernel_->SetCaller(static_cast<std::uint32_t>(::getpid()));
    const std::uint64_t first = kernel_->Send(FUSE_LOOKUP, work, Name("b"));
    AwaitParked(1);
    Advance(900);
    EXPECT_TRUE(log.With("waits").empty());
    const std::uint64_t second = kernel_->Send(FUSE_LOOKUP, work, Name("c"));
    AwaitParked(2);
    Advance(200);
    ASSERT_EQ(log.With("waits").size(), 1U);
    const std::string line = log.With("waits").front();
    EXPECT_EQ(line.substr(0, line.find(" ms=")),
              "warning a request waits op=lookup path=/box/fs/work/b box=box pid=" +
                  std::to_string(::getpid()) + " for=sandbox");
    EXPECT_GE(std::stoi(line.substr(line.find(" ms=") + 4)), 1000);
    Advance(2000);
    EXPECT_EQ(log.With("waits").size(), 2U);  // the second, too
    Advance(2000);
    EXPECT_EQ(log.With("waits").size(), 2U) << "each once";
    EXPECT_EQ(Sample("sbxfs_slow_requests_total{op=\"lookup\"}"), slow + 2);
    EXPECT_EQ(world_.loop.posted(), 0U);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    EXPECT_EQ(kernel_->Await(first).error, ENOENT);
    EXPECT_EQ(kernel_->Await(second).error, ENOENT);
}

TEST_F(Observed, ManyThatWaitAreAFewLines) {
    const LogLines log;
    const std::uint64_t work = Walk("/box/fs/work");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    std::vector<std::uint64_t> waits;
    for (int i = 0; i < 50; ++i)
        waits.push_back(kernel_->Send(FUSE_LOOKUP, work, Name("n" + std::to_string(i))));
    AwaitParked(50);
    Advance(1500);
    EXPECT_EQ(log.With("a request waits").size(), 8U);
    ASSERT_EQ(log.With("more requests wait").size(), 1U);
    EXPECT_EQ(log.With("more requests wait").front(), "warning more requests wait count=42");
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    for (const std::uint64_t one : waits)
        EXPECT_EQ(kernel_->Await(one).error, ENOENT);
}

TEST_F(Observed, AWaitThatWasAskedForIsNotWarnedOf) {
    const LogLines log;
    const std::uint64_t cmd = Walk("/box/cmd");
    const std::uint64_t writes = Open(cmd, O_WRONLY);
    EXPECT_EQ(kernel_->Ask(FUSE_WRITE, cmd, WriteBody(writes, 0, "sleep 9\n")).error, 0);
    EXPECT_EQ(Release(cmd, writes).error, 0);
    Settle();
    const std::uint64_t wait = Walk("/box/events/1/wait");
    const std::uint64_t handle = Open(wait, 0);
    const std::uint64_t waits = kernel_->Send(FUSE_READ, wait, ReadBody(handle, 0, 100));
    AwaitParked(1);
    Advance(5000);
    EXPECT_TRUE(log.With("waits").empty());
    EXPECT_EQ(Sample("sbxfs_requests_waiting{for=\"asked\"}"), 1);
    supervisor().Started(1);
    supervisor().Exit(1);
    Settle();
    EXPECT_EQ(kernel_->Await(waits).body, "exited 0\n");
    EXPECT_EQ(Release(wait, handle).error, 0);
}

TEST_F(Observed, WhoWaitsForTheJournalIsSeenToo) {
    const LogLines log;
    world_.disk.Hold();
    const std::uint64_t waits =
        kernel_->Send(FUSE_MKDIR, 1, Pack(fuse_mkdir_in{0755, 022}) + Name("other"));
    world_.disk.AwaitHeld();
    EXPECT_EQ(Sample("sbxfs_requests_waiting{for=\"journal\"}"), 1);
    (void)world_.loop.Run();
    Advance(1500);
    ASSERT_EQ(log.With("waits").size(), 1U);
    EXPECT_NE(log.With("waits").front().find("op=mkdir path=/other box=other"), std::string::npos);
    EXPECT_NE(log.With("waits").front().find("for=journal"), std::string::npos);
    world_.disk.Release();
    (void)Counted(kernel_->Await(waits));
    EXPECT_EQ(Sample("sbxfs_requests_waiting{for=\"journal\"}"), 0);
    Settle();
}

TEST_F(Observed, TheStateNamesWhoWaitsAndEachSandbox) {
    const LogLines log;
    const std::uint64_t work = Walk("/box/fs/work");
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const std::uint64_t waits = kernel_->Send(FUSE_LOOKUP, work, Name("b"));
    AwaitParked(1);
    LogState(mount_->context());
    ASSERT_EQ(log.With("state: request").size(), 1U);
    EXPECT_NE(log.With("state: request").front().find("op=lookup path=/box/fs/work/b box=box"),
              std::string::npos);
    ASSERT_EQ(log.With("state: sandbox box=box").size(), 1U);
    EXPECT_NE(log.With("state: sandbox").front().find("status=ready"), std::string::npos);
    EXPECT_EQ(log.With("waiting_for_sandboxes=1").size(), 1U);
    EXPECT_EQ(log.With("state: that is all").size(), 1U);
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    EXPECT_EQ(kernel_->Await(waits).error, ENOENT);
}

}  // namespace
}  // namespace sbxfs::testing
