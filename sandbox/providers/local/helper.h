// The hidden subcommand `local-helper launch|destroy`: does for one local sandbox what may wait, in
// a process and session of its own, so that neither a slow disk nor a kill -9 of the daemon touches
// the other. The order comes as JSON on stdin (launch_order.h); stdout gets one JSON object a line:
//
//     {"phase": "namespaces"}                                    any number of them
//     {"launched": {"id": .., "connect": {..}, "facts": {..}}}   or {"destroyed": true}
//     {"errno": 22, "error": "..", "blame": "caller"}            instead, and exit code 1
#pragma once

namespace sbxfs {

// argv as main got it: argv[1] is "local-helper". Returns the exit code. Called before any thread
// is started.
int LocalHelperMain(int argc, char** argv);

}  // namespace sbxfs
