// kStore: new files, each with all its bytes, its mode and its times. Where the daemon wants one on the disk before it is
// answered, a child puts it there: fsync(2) takes as long as the disk likes, and nothing here waits for anything else.
// The child is a copy of this program, without exec, and has nothing but the file: neither the lock of the spool, which
// flock(2) gives to all copies of a descriptor and which must be free when we are killed, nor a channel, whose end the
// daemon must hear of. It bears our name, so that it is nobody in DoneFields::others (process.h), and it has our session
// and no mark, so that it belongs to no command's tree (tree.h). It dies with us.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/runtime.h"

namespace sbxfs::supervisor {

class Stores {
 public:
    explicit Stores(Runtime& runtime) : runtime_(runtime) {}

    // Makes the file. True: `answer` says what became of it; false: TakeAnswer() will.
    bool Make(const StoreFields& order, StoreOkFields* answer);
    // Whether there was an answer.
    bool TakeAnswer(StoreOkFields* answer);
    // False: it is no child of ours.
    bool OnExit(int pid, int wait_status);
    // Whoever asked has gone; nobody is answered.
    void Forget();

 private:
    // Written, and on its way to the disk.
    struct Saving {
        Fd file;  // kept to the end: closing it may wait for the disk too, while there is something to write
        int pid = 0;  // 0: it waits for its turn
        bool wanted = true;
        StoreOkFields answer;
    };

    void SaveNext();
    void End(size_t index, long error);
    [[noreturn]] void SaveAsChild(int file);

    Runtime& runtime_;
    Vec<Saving> saving_;  // oldest first
    size_t children_ = 0;
    Vec<StoreOkFields> answers_;
};

}  // namespace sbxfs::supervisor
