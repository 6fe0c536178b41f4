// Provider local: what a sandbox sees of this machine, may take of it, and cannot reach.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/box.h"
#include "tests/contract/local_case.h"

namespace sbxfs::testing {

class LocalWalls : public LocalCase {};
INSTANTIATE_TEST_SUITE_P(Who, LocalWalls, ::testing::Values(Who::kRoot, Who::kUser),
                         [](const auto& who) { return WhoName(who.param); });

TEST_P(LocalWalls, WhatASandboxChangesInUsrIsItsOwn) {
    if (over_) return;
    const Launched one = MustLaunch(Token("one"));
    const Launched two = MustLaunch(Token("two"));
    const std::string file = "/usr/local/bin/sbxfs-test-" + Hex(RandomBytes(4));
    const Output made =
        world_->Ssh(one, "printf '#!/bin/sh\\necho mine\\n' > " + file + " && chmod +x " + file +
                             " && " + file + " && rm /usr/bin/env && echo gone > /etc/profile");
    EXPECT_EQ(made.out, "mine\n") << made.err;
    EXPECT_EQ(made.exit_code, 0) << made.err;
    const Output other =
        world_->Ssh(two, "test ! -e " + file + " && env true && grep -c PATH /etc/profile");
    EXPECT_EQ(other.exit_code, 0) << other.err;
    EXPECT_NE(::access(file.c_str(), F_OK), 0);
    EXPECT_EQ(::access("/usr/bin/env", X_OK), 0);
}

TEST_P(LocalWalls, NothingElseOfTheMachineIsVisible) {
    if (over_) return;
    ASSERT_EQ(::setenv("SBXFS_TEST_SECRET", "hidden", 1), 0);
    const Launched box = MustLaunch(Token("blind"));
    const Launched other = MustLaunch(Token("other"));
    (void)world_->Ssh(
        other, "sleep 1000 </dev/null >/dev/null 2>&1 & echo secret > /workspace/other-file");
    const Output seen = world_->Ssh(
        box,
        "for p in " + world_->state_dir() + " " + world_->directory() +
            " /etc/shadow /etc/gshadow /etc/sudoers /etc/ssh/ssh_host_ed25519_key /run/docker.sock"
            " /var/run/docker.sock /run/systemd /boot /sys/kernel /sys/fs /lost+found /oldroot "
            "/newroot"
            " /workspace/other-file /dev/vda /dev/sda /dev/kmsg /dev/mem /dev/fuse;"
            " do [ -e $p ] && echo \"$p is there\"; done;"
            " ls /home | grep -vx \"$(id -un)\"; ls -A /root | grep -v ^.cache;"
            " cat /proc/*/cmdline | tr '\\0' ' ' | grep -o 'sleep 100[0]';"
            " cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep SBXFS_TEST;"
            " ls /proc/self/fd | grep -v '^[0-3]$';"
            " tty");
    EXPECT_EQ(seen.out, "not a tty\n") << seen.err;
    ASSERT_EQ(::unsetenv("SBXFS_TEST_SECRET"), 0);
    // What it runs as elsewhere on this machine: nobody's ids as root, else the mounting user's.
    const ProcessRecord init = *Box::Open(world_->state_dir(), Token("blind"))->Init();
    struct stat process {};
    ASSERT_EQ(::stat(("/proc/" + std::to_string(init.pid)).c_str(), &process), 0);
    const auto status = *ReadWholeFile("/proc/" + std::to_string(init.pid) + "/status");
    const std::size_t uid = status.find("\nUid:\t") + 6;
    const auto real_uid =
        *ParseNumber<uid_t>(std::string_view(status).substr(uid, status.find('\t', uid) - uid));
    if (GetParam() == Who::kRoot) {
        EXPECT_GE(real_uid, 524288U);
    } else {
        EXPECT_EQ(real_uid, ::geteuid());
    }
}

TEST_P(LocalWalls, DescriptorsOfTheHelperDoNotReachASession) {
    if (over_) return;
    const Launched box = MustLaunch(Token("fds"));
    const Output fds = world_->Ssh(
        box,
        "for f in /proc/self/fd/*; do readlink $f; done | grep -v -e pipe: -e fd$ -e ^/dev/null");
    EXPECT_EQ(fds.out, "");
}

TEST_P(LocalWalls, NetworkNoneHasNothingAndSharedHasTheMachines) {
    if (over_) return;
    // An abstract socket and a TCP port of this machine.
    const UniqueFd abstract(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const std::string name = "sbxfs-test-" + Hex(RandomBytes(6));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    ASSERT_EQ(::bind(abstract.get(), reinterpret_cast<sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
              0);
    ASSERT_EQ(::listen(abstract.get(), 1), 0);
    Template none = world_->SomeTemplate();
    none.options["network"] = std::string("none");
    const Launched alone = MustLaunch(Token("alone"), none);
    const Launched shared = MustLaunch(Token("shared"));
    const std::string look =
        "grep -c " + name +
        " /proc/net/unix; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ' ';"
        " ls /etc/resolv.conf";
    const Output inside = world_->Ssh(alone, look);
    EXPECT_EQ(inside.out, "0\nlo ") << inside.err;
    const Output open = world_->Ssh(shared, look);
    EXPECT_EQ(open.out.substr(0, 2), "1\n") << open.out;
    // Seen in the list of a shared network, and still out of reach where the kernel can do that.
    const Output connected = world_->Ssh(
        shared, "perl -MIO::Socket::UNIX -e 'print IO::Socket::UNIX->new(Peer => \"\\0" + name +
                    "\") ? 1 : 0'");
    const bool reachable = shared.facts.Find("abstract_sockets").has_value();
    EXPECT_EQ(connected.out, reachable ? "1" : "0") << connected.err;
    // Its own loopback works.
    const Output lo = world_->Ssh(
        alone,
        "perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(Listen=>1,LocalAddr=>\"127.0.0.1\")"
        " or die; print "
        "IO::Socket::INET->new(PeerAddr=>\"127.0.0.1\",PeerPort=>$s->sockport)?1:0'");
    EXPECT_EQ(lo.out, "1") << lo.err;
}

TEST_P(LocalWalls, LimitsAreAppliedOrSaidNotToBe) {
    if (over_) return;
    Template small = world_->SomeTemplate();
    small.memory = 128;
    small.cpu = 512;
    small.options["pids"] = std::int64_t{40};
    const Launched box = MustLaunch(Token("small"), small);
    const Json limits = *box.facts.Find("limits");
    for (const char* name : {"cpu", "memory", "pids"}) {
        EXPECT_TRUE(limits.GetString(name).has_value()) << name << " in " << limits.Dump();
    }
    const auto applied = [&](const char* name) {
        return !limits.GetString(name)->starts_with("not applied");
    };
    EXPECT_TRUE(applied("pids")) << limits.Dump();  // in one way or the other
    if (applied("memory")) {
        EXPECT_EQ(*limits.GetString("memory"), "128 MiB");
        const Output eaten = world_->Ssh(box, "perl -e '$x = \"a\" x (400 << 20); print 1'");
        EXPECT_EQ(eaten.out, "") << "400 MiB fitted into 128";
        EXPECT_EQ(world_->Ssh(box, "echo alive").out, "alive\n");
    }
    if (applied("pids")) {
        const Output forked =
            world_->Ssh(box,
                        "perl -e '$| = 1; for (1..200) { my $p = fork; last if !defined $p; if "
                        "(!$p) { sleep 60; exit }"
                        " $n++ } print $n < 100 ? \"bounded\" : $n; kill 9, -getpgrp'");
        EXPECT_EQ(forked.out.substr(0, 7), "bounded") << forked.out << forked.err;
    }
    for (const char* name : {"cpu", "memory", "pids"}) {
        if (!applied(name)) std::cerr << name << ": " << *limits.GetString(name) << "\n";
    }
}

TEST_P(LocalWalls, BindsShowWhatTheySayAndNoMore) {
    if (over_) return;
    const std::string host = world_->directory() + "/shown";
    ASSERT_TRUE(MakeDirs(host + "/sub", 0755));
    ASSERT_TRUE(ReplaceFile(host + "/file", "text\n", 0644));
    ASSERT_TRUE(ReplaceFile(world_->directory() + "/single", "one\n", 0600));
    Template bound = world_->SomeTemplate();
    bound.options["binds"] =
        std::vector<std::string>{host + ":/shown", host + ":/srv/deep/writable:rw",
                                 world_->directory() + "/single:/etc/single:ro"};
    const Launched box = MustLaunch(Token("binds"), bound);
    const Output used =
        world_->Ssh(box,
                    "cat /shown/file /etc/single; touch /shown/no 2>&1; touch /etc/single 2>&1;"
                    " echo new > /srv/deep/writable/sub/made; stat -c %U /srv/deep/writable/file");
    EXPECT_NE(used.out.find("text\none\n"), std::string::npos) << used.out << used.err;
    EXPECT_NE(used.out.find("'/shown/no': Read-only file system"), std::string::npos) << used.out;
    EXPECT_NE(used.out.find("'/etc/single': Read-only file system"), std::string::npos) << used.out;
    EXPECT_NE(used.out.find(box.connect.user + "\n"), std::string::npos) << used.out;
    EXPECT_EQ(*ReadWholeFile(host + "/sub/made"), "new\n");
    struct stat made {};
    ASSERT_EQ(::stat((host + "/sub/made").c_str(), &made), 0);
    EXPECT_EQ(made.st_uid, ::geteuid());  // the owner of what is bound
}

TEST_P(LocalWalls, BindsOfOurOwnPlacesAreRefused) {
    if (over_) return;
    const auto refused = [&](const std::string& bind) {
        Template what = world_->SomeTemplate();
        what.options["binds"] = std::vector<std::string>{bind};
        return world_->provider().Check(what);
    };
    for (const std::string& source :
         {world_->state_dir(), world_->state_dir() + "/boxes", world_->directory(),
          world_->directory() + "/mount", std::string("/")}) {
        const Status status = refused(source + ":/x");
        ASSERT_FALSE(status) << source;
        EXPECT_EQ(status.error().code(), Errno{EINVAL}) << source;
    }
    // A link that leads there is only found out by the helper.
    ASSERT_EQ(::symlink(world_->state_dir().c_str(), (world_->directory() + "/link").c_str()), 0);
    Template sly = world_->SomeTemplate();
    sly.options["binds"] = std::vector<std::string>{world_->directory() + "/link:/x"};
    const Result<Launched> launched = LaunchAndWait(world_->provider(), Spec(Token("sly"), sly));
    ASSERT_FALSE(launched);
    EXPECT_EQ(launched.error().code(), Errno{EINVAL}) << TextOf(launched);
    Template missing = world_->SomeTemplate();
    missing.options["binds"] = std::vector<std::string>{"/no/such/place:/x"};
    const Result<Launched> nothing =
        LaunchAndWait(world_->provider(), Spec(Token("missing"), missing));
    ASSERT_FALSE(nothing);
    EXPECT_EQ(nothing.error().code(), Errno{ENOENT}) << TextOf(nothing);
}

TEST_P(LocalWalls, NothingOfOursMayLieWhereSandboxesLook) {
    if (over_) return;
    LocalOptions options;
    options.state_dir = world_->state_dir();
    options.forbidden = {"/usr/local/boxes"};
    const auto provider = *LocalProvider::Open(world_->loop(), options);
    const Status refused = provider->Check(world_->SomeTemplate());
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().what().find("/usr/local/boxes"), std::string::npos);
}

TEST_P(LocalWalls, EscapesFail) {
    if (over_) return;
    const Launched box = MustLaunch(Token("escape"));
    // Each line must fail; those that succeed are printed.
    const std::string attempts =
        "mount -t tmpfs none /mnt\n"
        "mount --bind / /mnt\n"
        "mount -o remount,rw,suid,dev /usr\n"
        "mount -t proc none /mnt\n"
        "umount /usr\n"
        "umount -l /proc\n"
        "mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1\n"
        "mknod /tmp/mem c 1 1 && dd if=/tmp/mem of=/dev/null count=1\n"
        "dd if=/proc/kcore of=/dev/null count=1\n"
        "echo x > /proc/sys/kernel/core_pattern\n"
        "echo x > /proc/sys/kernel/hostname\n"
        "echo h > /proc/sysrq-trigger\n"
        "echo 1 > /proc/sys/vm/drop_caches\n"
        "echo x > /run/sbxfs/init\n"
        "rm /run/sbxfs/init\n"
        "cat /run/sbxfs/init\n"
        "cat /proc/1/environ\n"
        "readlink /proc/1/exe\n"
        "ls /proc/1/root/\n"
        "dd if=/proc/1/mem of=/dev/null bs=1 count=1\n"
        "nsenter -t 1 -m true\n"
        "unshare -m true\n"
        "unshare -n ip link add x type dummy\n"
        "unshare -Ur mount -t proc none /proc\n"
        "unshare -Urm mount -o remount,suid,dev /usr\n"
        "unshare -Urm umount /usr\n"
        "unshare -Urm umount /proc\n"
        "chroot /proc/1/root true\n"
        "reboot -f\n"
        "date -s '2001-01-01'\n"
        "swapoff -a && false || swapon /dev/zero\n"
        "hwclock -w\n"
        "nice -n -5 true 2>&1 | grep -q . && false\n"
        "perl -e 'exit(syscall(101, 16, 1, 0, 0) == -1)'\n"  // ptrace(PTRACE_ATTACH, 1) on x86_64
        "perl -e 'exit(syscall(304, -100, \"x\", 0) == -1)'\n"  // open_by_handle_at on x86_64
        "perl -e 'exit(syscall(321, 5, 0, 0) == -1)'\n";        // bpf on x86_64
    const Output run = world_->Ssh(box,
                                   "while IFS= read -r line; do ( eval \"$line\" ) >/dev/null 2>&1 "
                                   "</dev/null && echo \"$line\"; done; true",
                                   attempts);
    EXPECT_EQ(run.out, "") << "these succeeded";
    EXPECT_EQ(run.exit_code, 0) << run.err;
    // Its init takes no signal from inside that would kill it, and what root may do inside is bounded.
    const Output alive =
        world_->Ssh(box,
                    "kill -9 1; kill -STOP 1; grep -e CapBnd -e CapPrm -e NoNewPrivs "
                    "/proc/self/status; stat -c %u /proc/1/root/.. 2>&1 | tail -1");
    const std::string capabilities =
        GetParam() == Who::kRoot ? "00000000a80425fb" : "0000000000000000";
    EXPECT_NE(alive.out.find("CapPrm:\t" + capabilities), std::string::npos) << alive.out;
    EXPECT_NE(alive.out.find("CapBnd:\t" + capabilities), std::string::npos) << alive.out;
    EXPECT_NE(alive.out.find("NoNewPrivs:\t1"), std::string::npos) << alive.out;
    EXPECT_EQ(world_->Ssh(box, "echo alive").out, "alive\n");
}

}  // namespace sbxfs::testing
