// The supervisor of one sandbox in the test's hands: it records what it is asked, and says Started,
// Output and Done when the test does. Its spool outlives links and daemons, so that a test can assert
// that nothing ran twice. Behaves as sandbox/supervisor/protocol.h says: Start is idempotent by
// number, output is pushed from where Start or Read said, Done is repeated at each attach.
//
// Loop thread (which is the test's) only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/loop.h"
#include "sandbox/supervisor_port.h"

namespace sbxfs::testing {

class FakeSupervisor {
 public:
    explicit FakeSupervisor(Loop& loop) : loop_(loop) {}
    FakeSupervisor(const FakeSupervisor&) = delete;
    FakeSupervisor& operator=(const FakeSupervisor&) = delete;

    // --- the test as the sandbox; events of commands that never came abort ---
    void Started(int n, std::int64_t at_ms = 1000);
    void Print(int n, std::string_view bytes, OutputStream stream = OutputStream::kStdout);
    void Exit(int n, int code = 0);
    void End(int n, CommandEnd end);  // sizes are filled in
    // Started, printed, exited.
    void Run(int n, std::string_view out = "", int code = 0);
    // Whether commands run by themselves as they come: they print what they were given, and exit 0.
    void RunByItself(bool on) { by_itself_ = on; }
    // Somebody wiped the spool and started another supervisor; what ran is gone.
    void NewSpool();
    // The machine was restarted. What ran is lost, the spool is there.
    void Reboot();
    // Timers to come are set, and not answered until AnswerTimers() or the end of the link.
    void HoldTimers() { timers_held_ = true; }
    void AnswerTimers();
    // What it says of the idle clock when it is asked to set a timer; nothing: that nobody was idle.
    std::optional<std::int64_t> idle_left_ms;
    // Its spool lost the memory of one command.
    void LoseRecord(int n) { spool_.erase(EventNumber{static_cast<std::uint64_t>(n)}); }

    // --- what happened, over all links, spools and daemons ---
    const std::vector<int>& starts() const { return starts_; }  // Start frames, in order
    const std::vector<int>& runs() const { return runs_; }      // those that made a process
    int TimesRun(int n) const;
    const std::vector<std::pair<int, int>>& signals() const { return signals_; }  // n, signal
    const std::vector<int>& forgets() const { return forgets_; }
    const std::vector<std::pair<int, OutputSizes>>& reads() const { return reads_; }
    std::uint64_t credit() const { return credit_; }
    bool Knows(int n) const;
    const StartRequest& Request(int n) const;
    std::optional<std::pair<std::int64_t, std::int64_t>> timer() const { return timer_; }
    int timers_set() const { return timers_set_; }
    int uses() const { return uses_; }
    int shutdowns() const { return shutdowns_; }  // with the spool cleared
    bool connected() const { return port_ != nullptr; }
    // To say by hand what no honest supervisor says.
    SupervisorListener& listener();

    SupervisorHello hello;
    // What lives there beyond us, and what it sees of a path.
    std::vector<RemoteProcess> others;
    std::function<IdentityStat(const std::string&)> look;
    std::function<std::optional<std::string>(const std::string&)> read;
    bool holds_fetches = false;  // until the link ends
    std::function<StoredFile(const StoreRequest&)> store;
    // Stores to come wait until they are released, or the link ends. One that waits has not taken place yet.
    void HoldStores(bool hold) { holds_stores_ = hold; }
    // The paths of those that wait and have not taken place, oldest first.
    std::vector<std::string> HeldStores() const;
    // The one at `index` of them takes place and is answered.
    void ReleaseStore(std::size_t index = 0);
    // It takes place, and is not answered: what is left is to cut the link.
    void LoseStoreAnswer(std::size_t index = 0);
    // The same of renames, which are numbered by nobody: the oldest first.
    std::function<int(const RenameRequest&)> rename;
    void HoldRenames(bool hold) { holds_renames_ = hold; }
    void ReleaseRename();
    void LoseRenameAnswer();
    const std::vector<RenameRequest>& renames() const { return renames_; }
    // All that came, in order, those included that did not take place.
    const std::vector<StoreRequest>& stores() const { return stores_; }
    // The paths of each batch it was asked to look at.
    const std::vector<std::vector<std::string>>& looks() const { return looks_; }
    // And to read.
    const std::vector<std::vector<std::string>>& fetches() const { return fetches_; }

    // --- for FakeMachine ---
    // A new link: the port is usable until Disconnect(). Speak() says what the spool knows.
    SupervisorPort& Connect(SupervisorListener& listener);
    void Speak();
    void Disconnect();

 private:
    class Port;
    struct Command {
        StartRequest request;
        std::string out;
        std::string err;
        std::optional<std::int64_t> started_ms;
        std::optional<CommandEnd> end;
        bool done_told = false;
        bool pushing = false;
        OutputSizes pushed;
    };
    struct HeldStore {
        StoreRequest request;
        UniqueFunction<void(StoredFile)> answer;
    };
    HeldStore TakeStore(std::size_t index);
    struct HeldRename {
        RenameRequest request;
        UniqueFunction<void(int)> answer;
    };
    HeldRename TakeRename();
    static EventNumber Number(int n) { return EventNumber{static_cast<std::uint64_t>(n)}; }
    Command& Find(int n);
    void Push(EventNumber n, Command& command);
    void Tell(EventNumber n, Command& command);
    void HandleStart(const StartRequest& request);

    Loop& loop_;
    std::map<EventNumber, Command> spool_;
    std::set<EventNumber> forgotten_;
    bool by_itself_ = false;
    std::shared_ptr<Port> port_;
    SupervisorListener* listener_ = nullptr;
    std::vector<int> starts_;
    std::vector<int> runs_;
    std::vector<std::pair<int, int>> signals_;
    std::vector<int> forgets_;
    std::vector<std::pair<int, OutputSizes>> reads_;
    std::uint64_t credit_ = 0;
    std::optional<std::pair<std::int64_t, std::int64_t>> timer_;
    using TimerDone = UniqueFunction<void(Result<TimerState>)>;
    std::vector<TimerDone> timers_;
    bool timers_held_ = false;
    int timers_set_ = 0;
    int uses_ = 0;
    int shutdowns_ = 0;
    std::vector<std::vector<std::string>> looks_;
    std::vector<std::vector<std::string>> fetches_;
    std::vector<StoreRequest> stores_;
    std::vector<HeldStore> held_stores_;
    bool holds_stores_ = false;
    std::vector<RenameRequest> renames_;
    std::vector<HeldRename> held_renames_;
    bool holds_renames_ = false;
};

}  // namespace sbxfs::testing
