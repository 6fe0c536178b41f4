// The second way into a FakeMachine: what WriteAside() needs, passed on to the machine's FakeFiles. What it holds has not
// reached them. Loop thread (which is the test's) only.
#pragma once

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tests/fakes/fake_files.h"

namespace sbxfs::testing {

class FakeLane final : public RemoteFiles {
 public:
    explicit FakeLane(FakeFiles& files) : files_(files) {}

    // Operations to come wait for Release().
    void Hold(bool hold = true) { hold_ = hold; }
    // As FakeFiles describes them.
    std::vector<std::string> Held() const {
        std::vector<std::string> whats;
        for (const Operation& operation : held_)
            whats.push_back(operation.what);
        return whats;
    }
    void Release() {
        Operation first = Take();
        first.run();
    }
    void LetGo() {
        hold_ = false;
        while (!held_.empty())
            Release();
    }
    void FailWith(const Error& error) {
        Operation first = Take();
        first.fail(error);
    }
    // It is gone: what is held fails, and so does all that follows until Mend().
    void Cut(const Error& error) {
        cut_ = error;
        while (!held_.empty())
            FailWith(error);
    }
    void Mend() { cut_.reset(); }
    const std::vector<std::string>& log() const { return log_; }
    std::size_t Count(std::string_view beginning) const {
        return static_cast<std::size_t>(
            std::count_if(log_.begin(), log_.end(),
                          [&](const std::string& one) { return one.starts_with(beginning); }));
    }

    void Open(const std::string& path, const OpenHow& how, OpenDone done) override {
        CHECK(how.write && !how.create && !how.truncate && !how.append);
        Arrive<OpenedFile>(
            "open " + path, [=, this](OpenDone d) { files_.Open(path, how, std::move(d)); },
            std::move(done));
    }
    void Write(const RemoteFilePtr& file, std::uint64_t offset, FileBytes bytes,
               Done done) override {
        Arrive<Unit>(
            "write " + std::to_string(offset) + "+" + std::to_string(bytes.size()),
            [=, this](Done d) { files_.Write(file, offset, bytes, std::move(d)); },
            std::move(done));
    }
    void Sync(const RemoteFilePtr& file, Done done) override {
        Arrive<Unit>(
            "sync", [=, this](Done d) { files_.Sync(file, std::move(d)); }, std::move(done));
    }
    void Close(const RemoteFilePtr& file, Done done) override {
        Arrive<Unit>(
            "close", [=, this](Done d) { files_.Close(file, std::move(d)); }, std::move(done));
    }

    // Never asked of it.
    void Lstat(const std::string&, StatDone) override { CHECK(false); }
    void List(const std::string&, EntriesDone) override { CHECK(false); }
    void ReadLink(const std::string&, TextDone) override { CHECK(false); }
    void SetStat(const std::string&, const StatChange&, StatDone) override { CHECK(false); }
    void MakeDir(const std::string&, std::uint32_t, StatDone) override { CHECK(false); }
    void RemoveDir(const std::string&, Done) override { CHECK(false); }
    void Unlink(const std::string&, Done) override { CHECK(false); }
    void Symlink(const std::string&, const std::string&, StatDone) override { CHECK(false); }
    void Link(const std::string&, const std::string&, StatDone) override { CHECK(false); }
    void Rename(const std::string&, const std::string&, Replace, Done) override { CHECK(false); }
    void Statfs(const std::string&, StatfsDone) override { CHECK(false); }
    void Read(const RemoteFilePtr&, FileRange, BytesDone) override { CHECK(false); }
    void Copy(const RemoteFilePtr&, FileRange, const RemoteFilePtr&, std::uint64_t,
              CopiedDone) override {
        CHECK(false);
    }
    void FileStat(const RemoteFilePtr&, StatDone) override { CHECK(false); }
    void SetFileStat(const RemoteFilePtr&, const StatChange&, StatDone) override { CHECK(false); }

 private:
    struct Operation {
        std::string what;
        UniqueFunction<void()> run;
        UniqueFunction<void(const Error&)> fail;
    };

    template <class T>
    void Arrive(std::string what, UniqueFunction<void(UniqueFunction<void(Result<T>)>)> act,
                UniqueFunction<void(Result<T>)> done) {
        log_.push_back(what);
        if (cut_) return done(*cut_);
        if (!hold_) return act(std::move(done));
        const auto answer = std::make_shared<UniqueFunction<void(Result<T>)>>(std::move(done));
        held_.push_back({std::move(what),
                         [answer, act = std::move(act)]() mutable { act(std::move(*answer)); },
                         [answer](const Error& error) { (*answer)(error); }});
    }
    Operation Take() {
        CHECK(!held_.empty());
        Operation first = std::move(held_.front());
        held_.pop_front();
        return first;
    }

    FakeFiles& files_;
    bool hold_ = false;
    std::optional<Error> cut_;
    std::deque<Operation> held_;
    std::vector<std::string> log_;
};

}  // namespace sbxfs::testing
