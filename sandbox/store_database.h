// The SQLite side of the journal: schema, statements, rows to records and back. Private to
// store.cc; used by one thread at a time (opened NOMUTEX). The only door to SQLite.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sandbox/records.h"

struct sqlite3;
struct sqlite3_stmt;

namespace sbxfs {

class StoreDatabase {
 public:
    static Result<std::unique_ptr<StoreDatabase>> Open(const std::string& path);
    ~StoreDatabase();
    StoreDatabase(const StoreDatabase&) = delete;
    StoreDatabase& operator=(const StoreDatabase&) = delete;

    // For whoever is about to make many commits.
    void FillWal();

    Status Begin() { return Execute("BEGIN IMMEDIATE"); }
    Status Commit() { return Execute("COMMIT"); }
    void Rollback();
    // After a commit that failed. It may be on the disk all the same, where the next one to open the journal would find it:
    // a small one is made in its place. An error: nobody can tell.
    Status TakeBack();

    Result<std::string> Meta(std::string_view key);  // empty when not set
    Status SetMeta(std::string_view key, std::string_view value);

    Result<std::vector<SandboxRecord>> Sandboxes();
    Result<std::vector<CommandRecord>> Commands(Generation generation);
    Result<Generation> LastGeneration();  // highest ever used, 0 when none was
    Result<std::string> Script(Generation generation, EventNumber n);

    Status PutSandbox(const SandboxRecord& record);
    Status InsertCommand(const CommandRecord& record, std::string_view script);
    Status FilesArrived(Generation generation, EventNumber n);
    Status UpdateCommand(Generation generation, EventNumber n, const EventState& state);
    Result<std::optional<NextRefusal>> Refusal(Generation generation);
    Status PutRefusal(Generation generation, const NextRefusal& refusal);
    Status DropRefusal(Generation generation);
    Status ForgetCommand(Generation generation, EventNumber n);
    Status RemoveSandbox(Generation generation);

    // What was written in the mount; without a text: one of the configuration that was removed there.
    Result<std::map<std::string, std::optional<std::string>>> Templates();
    Status PutTemplate(std::string_view name, const std::optional<std::string>& text);

 private:
    class Row;
    struct CloseDatabase {
        void operator()(sqlite3* database) const;
    };
    struct FinalizeStatement {
        void operator()(sqlite3_stmt* statement) const;
    };
    using StatementPtr = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

    explicit StoreDatabase(sqlite3* database) : database_(database) {}
    Status Execute(const char* sql);
    Status Migrate();
    Error Failure(std::string_view doing) const;
    int Cause() const;
    Result<StatementPtr> Prepare(std::string_view sql);
    static void BindState(sqlite3_stmt* statement, Generation generation, EventNumber n,
                          const EventState& state, std::string_view holes);
    Status Step(sqlite3_stmt* statement, std::string_view doing);

    std::unique_ptr<sqlite3, CloseDatabase> database_;
    std::string wal_;  // its path
    // The two statements on the way of every command, kept prepared.
    StatementPtr insert_command_;
    StatementPtr insert_script_;
    StatementPtr update_command_;
};

}  // namespace sbxfs
