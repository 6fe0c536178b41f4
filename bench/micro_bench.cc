// What single pieces cost that every byte and every name passes through: the SFTP codec, the cache of
// attributes and names, and the journal. No I/O but the journal's own. Google Benchmark's own options apply.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "sandbox/file_cache.h"
#include "sandbox/sftp_client.h"
#include "sandbox/sftp_wire.h"
#include "sandbox/state_dir.h"
#include "sandbox/store.h"
#include "tests/support/temp_dir.h"

namespace sbxfs {
namespace {

std::string Packet(SftpType type, std::uint32_t id, const std::string& body) {
    std::string out;
    Put32(static_cast<std::uint32_t>(5 + body.size()), out);
    out += static_cast<char>(type);
    Put32(id, out);
    return out + body;
}

std::string Text(const std::string& text) {
    std::string out;
    Put32(static_cast<std::uint32_t>(text.size()), out);
    return out + text;
}

// A session that a server of version 3 without extensions has agreed to.
std::shared_ptr<SftpClient> Ready() {
    std::shared_ptr<SftpClient> client = SftpClient::Make(1);
    client->SetWake([] {});
    client->Start([](Status status) { CHECK(status.has_value()); });
    client->Sent(client->Unsent().size());
    std::string version;
    Put32(5, version);
    version += static_cast<char>(SftpType::kVersion);
    Put32(kSftpVersion, version);
    CHECK(client->Feed(version).has_value() && client->Usable());
    return client;
}

// One request out, its answer in.
void ReadAnswered(benchmark::State& state) {
    const std::shared_ptr<SftpClient> client = Ready();
    const std::string data(static_cast<std::size_t>(state.range(0)), 'x');
    std::string answer = Packet(SftpType::kData, 0, Text(data));
    std::uint32_t id = 1;
    std::size_t got = 0;
    for (auto _ : state) {
        client->Read("handle", 0, static_cast<std::uint32_t>(data.size()),
                     [&got](SftpAnswer<std::string> bytes) { got += bytes ? bytes->size() : 0; });
        client->Sent(client->Unsent().size());
        std::string number;
        Put32(id++, number);
        answer.replace(5, 4, number);
        CHECK(client->Feed(answer).has_value());
    }
    CHECK(got == static_cast<std::size_t>(state.iterations()) * data.size());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(ReadAnswered)->Arg(4096)->Arg(32768);

void WriteAnswered(benchmark::State& state) {
    const std::shared_ptr<SftpClient> client = Ready();
    const FileBytes data(std::string(static_cast<std::size_t>(state.range(0)), 'x'));
    std::string ok;
    Put32(static_cast<std::uint32_t>(SftpStatus::kOk), ok);
    std::string answer = Packet(SftpType::kStatus, 0, ok + Text("Success") + Text(""));
    std::uint32_t id = 1;
    for (auto _ : state) {
        client->Write("handle", 0, data, data.view(),
                      [](SftpAnswer<Unit> done) { CHECK(done.has_value()); });
        while (!client->Unsent().empty())
            client->Sent(client->Unsent().size());
        std::string number;
        Put32(id++, number);
        answer.replace(5, 4, number);
        CHECK(client->Feed(answer).has_value());
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(WriteAnswered)->Arg(4096)->Arg(32768);

// An answer to READDIR as OpenSSH gives it: 100 names with attributes.
void NamesAnswered(benchmark::State& state) {
    const std::shared_ptr<SftpClient> client = Ready();
    std::string body;
    Put32(100, body);
    for (int number = 0; number < 100; ++number) {
        body += Text("file_" + std::to_string(number) + ".c");
        body += Text("-rw-r--r--    1 root     root         4096 Nov 29 21:00 file_" +
                     std::to_string(number) + ".c");
        Put32(0x0f, body);  // size, owner, permissions, times
        Put64(4096, body);
        for (const std::uint32_t value : {0U, 0U, 0100644U, 1'700'000'000U, 1'700'000'000U})
            Put32(value, body);
    }
    std::string answer = Packet(SftpType::kName, 0, body);
    std::uint32_t id = 1;
    for (auto _ : state) {
        client->Readdir("handle", [](SftpAnswer<std::vector<SftpName>> names) {
            CHECK(names && names->size() == 100);
        });
        client->Sent(client->Unsent().size());
        std::string number;
        Put32(id++, number);
        answer.replace(5, 4, number);
        CHECK(client->Feed(answer).has_value());
    }
    state.SetItemsProcessed(state.iterations() * 100);
}
BENCHMARK(NamesAnswered);

std::string Path(std::int64_t number) {
    return "/srv/tree/part_" + std::to_string(number / 20) + "/file_" + std::to_string(number) +
           ".c";
}

// Looking up one of many paths that are known.
void CacheStat(benchmark::State& state) {
    FileCache cache(RealClock());
    cache.BeginEra(FileCache::Quiet::kYes);
    std::vector<std::string> paths;
    for (std::int64_t number = 0; number < state.range(0); ++number) {
        paths.push_back(Path(number));
        cache.PutStat(cache.Ask(paths.back()), RemoteStat{});
    }
    std::size_t at = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(cache.Stat(paths[at]));
        at = (at + 7919) % paths.size();
    }
}
BENCHMARK(CacheStat)->Arg(100)->Arg(50'000);

void CachePut(benchmark::State& state) {
    FileCache cache(RealClock());
    cache.BeginEra(FileCache::Quiet::kYes);
    std::int64_t number = 0;
    for (auto _ : state)
        cache.PutStat(cache.Ask(Path(number++ % state.range(0))), RemoteStat{});
}
BENCHMARK(CachePut)->Arg(100)->Arg(50'000);

// Commands accepted at once, until all of them are on the disk.
void JournalCommands(benchmark::State& state) {
    const testing::TempDir dir;
    auto place = StateDir::Open(dir / "state", "a benchmark");
    CHECK(place.has_value());
    auto store = Store::Open(*place);
    CHECK(store.has_value());
    (*store)->StartThread();
    SandboxRecord sandbox;
    sandbox.generation = Generation{1};
    sandbox.name = "box";
    (*store)->Put(sandbox, [](const Status& kept) { CHECK(kept.has_value()); });
    std::uint64_t n = 0;
    for (auto _ : state) {
        for (std::int64_t i = 0; i < state.range(0); ++i) {
            CommandRecord record;
            record.generation = Generation{1};
            record.n = EventNumber{++n};
            (*store)->PutCommand(record, "true",
                                 [](const Status& kept) { CHECK(kept.has_value()); });
        }
        (*store)->Flush();
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(JournalCommands)->Arg(1)->Arg(16)->Arg(256)->UseRealTime();

}  // namespace
}  // namespace sbxfs

BENCHMARK_MAIN();
