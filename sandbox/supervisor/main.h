// The program's modes: attach, init, version. Called by start.cc.
#pragma once

namespace sbxfs::supervisor {

int Main(int argc, char** argv, char** envp);

}  // namespace sbxfs::supervisor
