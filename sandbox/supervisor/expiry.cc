#include "sandbox/supervisor/expiry.h"

#include <linux/reboot.h>

#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {

void Expiry::EndCommands() {
    commands_.EndAll(EndCause::kTimer);
    shell_.KillShell();
}

void Expiry::Begin(Timers::Due due, TimerAction action, int64_t now_ms) {
    action_ = action;
    step_ = 0;
    switch (action) {
        case TimerAction::kEndCommands:
            EndCommands();
            return;
        case TimerAction::kEndSandbox:
            // Our own init (init.cc) takes these as "expired idle" and "expired lifetime"; anything
            // else that is PID 1 and has no handler never hears of them.
            sys::Kill(1, due == Timers::Due::kIdle ? sys::kUsr1 : sys::kUsr2);
            next_ms_ = now_ms + 2000;
            return;
        case TimerAction::kPowerOff:
            EndCommands();
            next_ms_ = now_ms + 2000;
            return;
    }
}

void Expiry::Tick(int64_t now_ms) {
    if (now_ms < next_ms_) return;
    ++step_;
    if (action_ == TimerAction::kPowerOff) {
        sys::Call(__NR_sync);
        sys::Call(__NR_reboot, static_cast<long>(LINUX_REBOOT_MAGIC1), LINUX_REBOOT_MAGIC2,
                  static_cast<long>(LINUX_REBOOT_CMD_POWER_OFF), 0);
        next_ms_ = now_ms + 10000;  // not allowed, or not yet: a paid machine is not given up
        return;
    }
    if (step_ == 1) {
        sys::Kill(1, sys::kTerm);
        next_ms_ = now_ms + 5000;
        return;
    }
    sys::Kill(-1, sys::kKill);  // not PID 1, and not us
    sys::Kill(1, sys::kKill);   // reaches it where it is outside our namespace's protection
    next_ms_ = now_ms + 10000;
}

}  // namespace sbxfs::supervisor
