// The local copies of what commands print: one file per command and stream below the state
// directory, appended as output arrives, read by byte offset. One thread, `outputs`, does all of
// it, so that neither FUSE nor I/O threads wait for the disk. Owned by the daemon; methods for any
// thread; callbacks run on the outputs thread.
//
// Nothing here is a promise by itself: the supervisor keeps its spool until Sync() said that the
// copy is on disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/batch_thread.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "sandbox/names.h"
#include "sandbox/output_holes.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

enum class OutputStream { kStdout, kStderr };

struct OutputSizes {
    std::uint64_t out = 0;
    std::uint64_t err = 0;
};

// Epoch ms; 0: not known, or there is nothing.
struct OutputTimes {
    std::int64_t out_ms = 0;
    std::int64_t err_ms = 0;
};

class Outputs {
 public:
    // `directory` is made when it is not there.
    static Result<std::unique_ptr<Outputs>> Open(std::string directory);
    Outputs(const Outputs&) = delete;
    Outputs& operator=(const Outputs&) = delete;

    // What is there already, and when the newest of it was written; before StartThread(), at start.
    struct Found {
        OutputSizes sizes;
        OutputTimes times;
    };
    Found FindNow(Generation generation, EventNumber n) const;
    // Where a stream of that size has holes, as exactly as the file system here can tell.
    OutputHoles HolesNow(Generation generation, EventNumber n, OutputStream stream) const;
    // The whole lines of log.jsonl; what a crash left of a last one is cut off. Nothing, and nothing is left of it, where it
    // cannot be read: the journal has all of it.
    std::string LogNow(Generation generation) const;
    void StartThread();

    // Writes `bytes` at `offset`. ENOSPC leaves what was there: offer it again later.
    void Write(Generation generation, EventNumber n, OutputStream stream, std::uint64_t offset,
               std::string bytes, Done done);
    // Shorter than asked at the end; empty where there never was output.
    void Read(Generation generation, EventNumber n, OutputStream stream, FileRange range,
              BytesDone done);
    // The stream grows to `size` without bytes: they are not kept.
    void Skip(Generation generation, EventNumber n, OutputStream stream, std::uint64_t size,
              Done done);
    // Frees a part of a stream; it reads as zeros.
    void Punch(Generation generation, EventNumber n, OutputStream stream, OutputHole hole);
    // Frees all of both streams; their sizes stay.
    void GiveUp(Generation generation, EventNumber n);
    // log.jsonl of a sandbox.
    void WriteLog(Generation generation, std::uint64_t offset, std::string lines, Done done);
    void ReadLog(Generation generation, FileRange range, BytesDone done);
    // Both streams of a command are on the disk.
    void Sync(Generation generation, EventNumber n, Done done);
    void Remove(Generation generation, EventNumber n);
    void RemoveAll(Generation generation);
    // Waits until everything queued so far is done. Not from the outputs thread.
    void Flush();

 private:
    explicit Outputs(std::string directory) : directory_(std::move(directory)) {}
    std::string PathOf(Generation generation) const;
    std::string PathOf(Generation generation, EventNumber n, OutputStream stream) const;
    std::string LogPath(Generation generation) const { return PathOf(generation) + "/log.jsonl"; }
    Result<UniqueFd> OpenForWriting(Generation generation, const std::string& path) const;
    void Enqueue(Job job);

    const std::string directory_;
    std::unique_ptr<BatchThread<Job>> thread_;  // last
};

}  // namespace sbxfs
