// What WriteBehind keeps of a change, of a file that is written, and of an open file. Private to the
// write_behind*.cc files; loop thread only, but for the death of a BehindFile.
#pragma once

#include <algorithm>

#include "sandbox/write_behind.h"

namespace sbxfs {

// A file of which so many bytes wait is worth a second channel.
constexpr std::uint64_t kWide = 4U << 20;

// From its acceptance until the sandbox has acknowledged it, or it is lost.
struct WriteBehind::Change {
    std::uint64_t id = 0;
    What what;
    bool deferred = false;  // its caller was told that it has been made
    bool data = false;      // what removes or replaces something waits for it
    std::uint64_t bytes = 0;
    std::uint64_t offset = 0;  // of a write, where `plain`
    bool plain = false;        // a write at an offset: may come before or behind one beside it
    bool syncs = false;        // is made of what went by both ways (LinkedFiles::SyncBoth)
    bool aside = false;        // sent by the second way
    std::size_t waits = 0;     // before it may be sent
    bool sent = false;
    bool ended = false;
    std::vector<ChangePtr> after_sent;
    std::vector<ChangePtr> after_ended;
    UniqueFunction<void()> send;
    UniqueFunction<void(const Error&)> fail;  // in place of `send`
    SteadyTime deadline = SteadyTime::max();  // of being sent
    SteadyTime sent_at{};                     // of data
    std::weak_ptr<FileState> state;           // of one that waits in a file's queue
    // Goes, or may go, to the supervisor: has no order with what goes the server's way. Those at the front of a file's queue go in
    // one message.
    bool apart = false;
    // As a part of a new file that goes as a whole (write_behind_whole.cc): what it adds to that.
    std::shared_ptr<Payload> payload;
    std::optional<StatChange> attributes;
    bool closes = false;
    UniqueFunction<void(const Status&)> as_part;  // ends it, where somebody waits for it
};

// Bytes of one WRITE, or of several that lie side by side and have not been sent.
struct WriteBehind::Payload {
    std::uint64_t offset = 0;
    FileBytes bytes;
};

// A file with open handles, or changes under way, whatever its name is by now.
struct WriteBehind::FileState {
    std::string path;      // empty: it has lost its name
    RemoteStat stat;       // as it will be
    VolumePtr volume;      // none: what room there is, is not known
    bool made = false;     // by us, in this era
    bool told = false;     // its mtime, which the sandbox has not confirmed
    bool guessed = false;  // its mtime, by our clock at a write, and nobody was told it
    bool opening = false;  // its creation is under way
    ChangePtr gathers;     // its creation, held back for what comes next: first in the queue
    // Where its end is, so that it can be told what a cut has left of an append.
    bool sure = true;
    std::size_t handles = 0;
    std::size_t open = 0;             // of them, those whose close(2) has not come
    bool let_go = false;              // and nothing was done to it since
    std::weak_ptr<BehindFile> maker;  // the handle that made it where others write, too
    SteadyTime seen{};  // when the sandbox last told what it is like, to one of the handles
    struct Queued {
        ChangePtr change;
        FilePtr file;  // must be open there; none: by its path
    };
    std::deque<Queued> queue;           // not sent, in order
    std::set<std::uint64_t> under_way;  // told to their callers, and not ended
    std::uint64_t unacknowledged = 0;   // bytes
    // Sent and not ended, by number: plain writes, and what has an order with all of them.
    std::map<std::uint64_t, ChangePtr> flying;
    std::size_t asides = 0;       // of them, writes by the second way
    std::size_t fences = 0;       // of them, no plain writes
    bool fenced = false;          // the next in the queue waits for some of them
    std::optional<Error> error;   // what came of its creation
    std::weak_ptr<Payload> tail;  // of the last in the queue, when more can be added to it
    FilePtr tail_file;

    bool IsClean() const { return under_way.empty(); }
    // No change that was given behind `change` is on its way, whether its caller was told or waits: only then is what the
    // sandbox says of it, asked by that change, what it is. Behind.AWriteThatWaitsIsInTheSizeThatAnOlderLookTells.
    bool IsLast(std::uint64_t change) const {
        const auto later = [&](const Change& one) { return one.bytes > 0 && one.id > change; };
        return (under_way.empty() || *under_way.rbegin() <= change) &&
               std::none_of(queue.begin(), queue.end(),
                            [&](const Queued& one) { return later(*one.change); }) &&
               std::none_of(flying.begin(), flying.end(),
                            [&](const auto& one) { return later(*one.second); });
    }
    bool IsStill() const { return IsLast(0); }
    // How far what is on its way reaches; with an append, how large the file is to be.
    std::uint64_t EndOfWrites() const {
        std::uint64_t end = 0;
        const auto look = [&](const Change& one) {
            if (one.bytes > 0) end = std::max(end, one.plain ? one.offset + one.bytes : stat.size);
        };
        for (const Queued& one : queue)
            look(*one.change);
        for (const auto& [id, one] : flying)
            look(*one);
        return end;
    }
    // Nothing more is added to the last in the queue.
    void EndTail() {
        tail.reset();
        tail_file.reset();
    }
    // What the sandbox says of it after a change: its size is not yet that of what is still on its way.
    void Learn(const RemoteStat& said) {
        const std::uint64_t size = stat.size;
        stat = said;
        told = guessed = false;
        if (!IsStill()) stat.size = size;
    }
};

// What CachedFiles hands out as an open file. `inner` comes when the sandbox has opened it.
class WriteBehind::BehindFile final : public RemoteFile {
 public:
    BehindFile(Loop& loop, std::weak_ptr<WriteBehind> owner, StatePtr file,
               const OpenHow& opened_how)
        : state(std::move(file)), how(opened_how), loop_(loop), owner_(std::move(owner)) {}
    BehindFile(const BehindFile&) = delete;
    BehindFile& operator=(const BehindFile&) = delete;
    ~BehindFile() override {
        loop_.Post([owner = owner_, state = std::move(state), counted = counted] {
            const auto self = owner.lock();
            if (self == nullptr) return;
            if (counted) --self->open_files_;
            --state->handles;
            self->DropIfIdle(state);
        });
    }

    StatePtr state;
    const OpenHow how;
    RemoteFilePtr inner;
    bool counted = false;  // in open_files_
    bool wrote = false;    // something, behind its caller's back
    bool made = false;     // the file, by this open
    bool written = false;  // to; its close waits for what follows
    bool let_go = false;   // its CLOSE goes along with its fsync, ahead of its close(2)
    bool closed = false;   // that has come
    bool kept = false;     // not let go any more: something was done to it afterwards
    bool gone = false;     // its CLOSE was on its way by then
    std::weak_ptr<Change> opens_again;  // for that; its CLOSE comes behind it
    std::optional<Error> error;         // the first that came late: told at fsync and close

 private:
    Loop& loop_;
    const std::weak_ptr<WriteBehind> owner_;
};

// --- templates of write_behind.h

template <class T>
void WriteBehind::Through(What what, Runner<T> run, UniqueFunction<void(Result<T>)> done) {
    const ChangePtr change = New(std::move(what), false);
    // Whichever of the two happens has the caller's answer.
    const auto answer = std::make_shared<UniqueFunction<void(Result<T>)>>(std::move(done));
    change->send = [this, change, answer, run = std::move(run)]() mutable {
        run([weak = weak_from_this(), change, answer](Result<T> result) {
            const Status status = result ? Ok() : Status(result.error());
            (*answer)(std::move(result));
            if (const auto self = weak.lock()) self->Ended(change, status);
        });
    };
    change->fail = [answer](const Error& why) { (*answer)(why); };
    DependOnConflicts(change, change->what.reach);
    if (change->what.removes) Hold(change);
    Enter(change);
    if (change->waits == 0) {
        ready_.push_back(change);
    } else {
        change->deadline =
            loop_.clock().Steady() + (change->what.named ? limits_.name_wait : limits_.wait);
        ArmDeadline();
    }
    Run();
}

template <class T>
void WriteBehind::Question(const std::string& path, Reach reach, Runner<T> run,
                           UniqueFunction<void(Result<T>)> done) {
    std::vector<ChangePtr> conflicts = Conflicts(path, reach);
    // One whose caller has not been told may as well come after this.
    std::erase_if(conflicts, [](const ChangePtr& change) { return !change->deferred; });
    if (conflicts.empty()) return run(std::move(done));
    const ChangePtr question = New({.text = "look at " + path, .path = {}, .other = {}}, false);
    const auto answer = std::make_shared<UniqueFunction<void(Result<T>)>>(std::move(done));
    question->send = [weak = weak_from_this(), question, answer, run = std::move(run)]() mutable {
        run([answer](Result<T> result) { (*answer)(std::move(result)); });
        if (const auto self = weak.lock()) self->Ended(question, Ok());
    };
    question->fail = [answer](const Error& why) { (*answer)(why); };
    for (const ChangePtr& earlier : conflicts)
        DependOn(question, earlier, After::kEnded);
    pending_.emplace(question->id, question);
    question->deadline = loop_.clock().Steady() + limits_.wait;
    ArmDeadline();
}

}  // namespace sbxfs
