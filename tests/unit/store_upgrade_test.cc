// A journal that an older sbxfs wrote is taken over: what later versions keep in addition is as if it had never been
// changed.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>

#include "sandbox/store.h"
#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

constexpr char kVersion1[] = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE sandboxes(
    generation INTEGER PRIMARY KEY, name TEXT NOT NULL, template TEXT NOT NULL, stage INTEGER NOT NULL,
    client_public TEXT NOT NULL, client_private TEXT NOT NULL,
    host_public TEXT NOT NULL, host_private TEXT NOT NULL,
    provider_id TEXT NOT NULL, connect TEXT, facts TEXT NOT NULL, ended_as TEXT NOT NULL, error TEXT NOT NULL,
    phases TEXT NOT NULL, spool_id INTEGER NOT NULL, boot_id INTEGER NOT NULL, protected INTEGER NOT NULL, created_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL) STRICT;
CREATE TABLE commands(
    generation INTEGER NOT NULL, n INTEGER NOT NULL, forgotten INTEGER NOT NULL DEFAULT 0,
    spec TEXT NOT NULL, script_size INTEGER NOT NULL, accepted_ms INTEGER NOT NULL,
    status INTEGER NOT NULL, exit_code INTEGER, signal INTEGER NOT NULL, started_ms INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL, duration_us INTEGER NOT NULL, stdout_size INTEGER NOT NULL,
    stderr_size INTEGER NOT NULL, shell_restarted INTEGER NOT NULL, reason TEXT NOT NULL,
    holes TEXT NOT NULL, finish_order INTEGER NOT NULL,
    PRIMARY KEY(generation, n)) STRICT;
CREATE TABLE scripts(
    generation INTEGER NOT NULL, n INTEGER NOT NULL, script BLOB NOT NULL, PRIMARY KEY(generation, n)) STRICT;
INSERT INTO sandboxes VALUES(7, 'old', '{"name":"default","max_lifetime_s":60,"idle_timeout_s":30}', 2,
    '', '', '', '', 'id', NULL, '{}', 'failed', '', '[]', 1, 2, 0, 1000, 0);
PRAGMA user_version=1;
)sql";

TEST(JournalUpgrade, AJournalOfVersion1IsTakenOver) {
    const testing::TempDir dir;
    {
        auto state = StateDir::Open(dir / "state", "a test");
        ASSERT_TRUE(state);
        ASSERT_TRUE(Store::Open(*state));  // for its place and its files
        for (const char* end : {"", "-wal", "-shm"})
            std::filesystem::remove(state->journal() + end);
        sqlite3* database = nullptr;
        ASSERT_EQ(sqlite3_open(state->journal().c_str(), &database), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(database, kVersion1, nullptr, nullptr, nullptr), SQLITE_OK)
            << sqlite3_errmsg(database);
        ASSERT_EQ(sqlite3_close(database), SQLITE_OK);
    }
    for (int life = 0; life < 2; ++life) {
        auto state = StateDir::Open(dir / "state", "a test");
        ASSERT_TRUE(state);
        auto store = Store::Open(*state);
        ASSERT_TRUE(store) << store.error().what();
        auto boxes = (*store)->LoadSandboxes();
        ASSERT_TRUE(boxes) << boxes.error().what();
        ASSERT_EQ(boxes->size(), 1U);
        const SandboxRecord& box = boxes->front();
        EXPECT_EQ(box.name, "old");
        EXPECT_EQ(box.config.changed_ms, 0);
        EXPECT_EQ(box.lifetime_end_ms, 61000);
        EXPECT_EQ(box.idle_timeout_s, 30);
        EXPECT_EQ(box.times_set_ms, 0);
        auto templates = (*store)->LoadTemplates();
        ASSERT_TRUE(templates);
        EXPECT_TRUE(templates->empty());
        (*store)->StartThread();
    }
}

}  // namespace
}  // namespace sbxfs
