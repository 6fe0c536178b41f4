// Requests below fs/ while the answer is out: each kind of them under a signal, a cut link, a link that
// stays down, a deadline, the sandbox's end and the mount's end (contract 1.3, 5 "link down", 10).
#include <fcntl.h>
#include <sys/stat.h>

#include <functional>

#include "tests/support/mount_test.h"

namespace sbxfs::testing {
namespace {

class Waiting : public MountTest {
 protected:
    enum class Is { kQuestion, kChange, kNameChange };
    struct Kind {
        std::string name;
        Is is;
        std::function<RecordingPtr()> start;
    };

    void SetUp() override {
        MountTest::SetUp();
        MakeBox();
        Settle();
        files().PutFile("/work/a", "hello");
        files().PutLink("/work/l", "a");
        files().PutDir("/work/d");
        work_ = me().InoOf("/box/fs/work");
        a_ = me().InoOf("/box/fs/work/a");
        l_ = me().InoOf("/box/fs/work/l");
        open_ = me().Open("/box/fs/work/a", O_RDWR);
        DropCaches();
        MakeKinds();
    }
    void TearDown() override {
        open_.reset();
        if (mount_ != nullptr && provider().Existing().size() == 1 && !machine().attached()) {
            Advance(std::chrono::seconds(20));
        }
        if (mount_ != nullptr) {
            files().SetAnswers(FakeFiles::Answers::kAtOnce);
            files().ReleaseAll();
        }
        MountTest::TearDown();
    }

    template <class R, class F>
    void Add(const char* name, Is is, F request) {
        kinds_.push_back({name, is, [this, name, request] {
                              return me().Ask<R>(name, work_, "x", [this, request](R reply) {
                                  request(me().fs(), std::move(reply));
                              });
                          }});
    }
    void MakeKinds() {
        const Handle handle = open_->opened().handle;
        const Caller who = me().who();
        Add<EntryReply>("lookup", Is::kQuestion,
                        [w = work_](auto& fs, auto r) { fs.Lookup(w, "a", std::move(r)); });
        Add<AttrReply>("getattr", Is::kQuestion,
                       [a = a_](auto& fs, auto r) { fs.GetAttr(a, Handle{}, std::move(r)); });
        Add<AttrReply>("fstat", Is::kQuestion,
                       [a = a_, handle](auto& fs, auto r) { fs.GetAttr(a, handle, std::move(r)); });
        Add<TextReply>("readlink", Is::kQuestion,
                       [l = l_](auto& fs, auto r) { fs.ReadLink(l, std::move(r)); });
        Add<OpenReply>("open", Is::kQuestion, [a = a_, who](auto& fs, auto r) {
            fs.Open(a, OpenRequest{O_RDONLY, who}, std::move(r));
        });
        Add<OpenReply>("opendir", Is::kQuestion,
                       [w = work_](auto& fs, auto r) { fs.OpenDir(w, std::move(r)); });
        Add<DataReply>("read", Is::kQuestion,
                       [handle](auto& fs, auto r) { fs.Read(handle, 0, 100, std::move(r)); });
        Add<EmptyReply>("fsync", Is::kQuestion,
                        [handle](auto& fs, auto r) { fs.Fsync(handle, std::move(r)); });
        Add<WrittenReply>("write", Is::kChange, [handle](auto& fs, auto r) {
            fs.Write(handle, 0, std::span<const char>("HELLO", 5), false, std::move(r));
        });
        Add<OpenReply>("open O_TRUNC", Is::kChange, [a = a_, who](auto& fs, auto r) {
            fs.Open(a, OpenRequest{O_WRONLY | O_TRUNC, who}, std::move(r));
        });
        Add<AttrReply>("truncate", Is::kChange, [a = a_, who](auto& fs, auto r) {
            AttrChange change;
            change.size = 1;
            fs.SetAttr(a, change, Handle{}, who, std::move(r));
        });
        Add<AttrReply>("ftruncate", Is::kChange, [a = a_, who, handle](auto& fs, auto r) {
            AttrChange change;
            change.size = 1;
            fs.SetAttr(a, change, handle, who, std::move(r));
        });
        Add<EntryReply>("mkdir", Is::kNameChange,
                        [w = work_](auto& fs, auto r) { fs.MakeDir(w, "m", 0755, std::move(r)); });
        Add<EntryReply>("mknod", Is::kNameChange, [w = work_](auto& fs, auto r) {
            fs.MakeNode(w, "n", S_IFREG | 0644, std::move(r));
        });
        Add<CreateReply>("create", Is::kNameChange, [w = work_, who](auto& fs, auto r) {
            fs.Create(w, "c", 0644, OpenRequest{O_RDWR, who}, std::move(r));
        });
        Add<EntryReply>("symlink", Is::kNameChange,
                        [w = work_](auto& fs, auto r) { fs.Symlink(w, "s", "a", std::move(r)); });
        Add<EntryReply>("link", Is::kNameChange, [w = work_, a = a_](auto& fs, auto r) {
            fs.Link(a, w, "h", std::move(r));
        });
        Add<EmptyReply>("rename", Is::kNameChange, [w = work_](auto& fs, auto r) {
            fs.Rename(w, "l", w, "r", 0, std::move(r));
        });
        Add<EmptyReply>("rmdir", Is::kNameChange,
                        [w = work_](auto& fs, auto r) { fs.RemoveDir(w, "d", std::move(r)); });
        Add<EmptyReply>("unlink", Is::kNameChange,
                        [w = work_](auto& fs, auto r) { fs.Unlink(w, "l", std::move(r)); });
    }

    // The link is gone and a new one is on its way: requests wait.
    void Cut() {
        machine().SetAttaches(FakeMachine::Answers::kHeld);
        machine().Cut();
        Settle();
    }
    void Mend() {
        machine().SetAttaches(FakeMachine::Answers::kAtOnce);
        machine().Connect();
        Settle();
    }
    std::vector<RecordingPtr> StartAll() {
        std::vector<RecordingPtr> all;
        for (const Kind& kind : kinds_)
            all.push_back(kind.start());
        (void)world_.loop.Run();
        return all;
    }
    void InterruptAll(const std::vector<RecordingPtr>& all) {
        for (std::size_t i = 0; i < all.size(); ++i) {
            SCOPED_TRACE(kinds_[i].name);
            ASSERT_FALSE(all[i]->answered());
            ASSERT_NE(all[i]->interrupt(), 0U) << "it was never parked";
            mount().context().lot.PostInterrupt(all[i]->interrupt());
            EXPECT_EQ(all[i]->Await().error, EINTR);
        }
    }

    Ino work_{};
    Ino a_{};
    Ino l_{};
    Client::FilePtr open_;
    std::vector<Kind> kinds_;
};

TEST_F(Waiting, ASignalFreesEachWhileTheLinkIsDownAndNothingOfItIsSentLater) {
    Cut();
    const std::size_t before = files().Log().size();
    InterruptAll(StartAll());
    Mend();
    const std::vector<std::string> log = files().Log();
    EXPECT_EQ(log.size(), before) << log.back();
    EXPECT_EQ(files().Content("/work/a"), "hello");
    EXPECT_EQ(LastError(), "");  // an interrupt is no refusal
}

TEST_F(Waiting, ASignalFreesEachThatIsInFlight) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const std::vector<RecordingPtr> all = StartAll();
    EXPECT_GE(files().Held().size(), all.size());
    InterruptAll(all);
    // What was sent happens; what it opened is closed again.
    files().SetAnswers(FakeFiles::Answers::kAtOnce);
    files().ReleaseAll();
    Settle();
    EXPECT_TRUE(files().Exists("/work/m"));
    EXPECT_TRUE(files().Exists("/work/c"));
    EXPECT_EQ(files().OpenFiles(), 1U);
}

TEST_F(Waiting, ASecondSignalIsNothing) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const auto lookup = kinds_.front().start();
    (void)world_.loop.Run();
    mount().context().lot.Cancel(lookup->interrupt());
    mount().context().lot.Cancel(lookup->interrupt());
    EXPECT_EQ(lookup->Await().error, EINTR);
}

TEST_F(Waiting, EachEndsWithinItsBoundAndWasNotSentAfterwards) {
    Cut();
    const std::size_t before = files().Log().size();
    const std::vector<RecordingPtr> all = StartAll();
    Advance(std::chrono::milliseconds(4900));
    for (const auto& request : all)
        EXPECT_FALSE(request->answered());
    Advance(std::chrono::milliseconds(600));
    for (std::size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(kinds_[i].name);
        EXPECT_EQ(all[i]->answered(), kinds_[i].is == Is::kNameChange);
    }
    Advance(std::chrono::seconds(25));
    for (std::size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(kinds_[i].name);
        ASSERT_TRUE(all[i]->answered());
        EXPECT_EQ(all[i]->Now()->error, ETIMEDOUT);
    }
    EXPECT_NE(LastError().find("ETIMEDOUT"), std::string::npos);
    Mend();
    EXPECT_EQ(files().Log().size(), before);
}

// A name that the kernel knew: it asks again when it hears that nobody answered, and would wait for as long once more.
TEST_F(Waiting, ALookUpThatWasNotAnsweredIsNotWaitedForTwice) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const auto first = me().StartLookup(work_, "a");
    const auto beside = me().StartLookup(work_, "d");
    for (int i = 0; i < 1600 && !(first->answered() && beside->answered()); ++i)
        Advance(std::chrono::milliseconds(20));
    EXPECT_EQ(me().FinishCode(first), ETIMEDOUT);
    EXPECT_EQ(me().FinishCode(beside), ETIMEDOUT);
    const auto again = me().StartLookup(work_, "a");
    (void)world_.loop.Run();
    EXPECT_TRUE(again->answered());
    // Whoever wants to know once more waits, and so does who comes later.
    const auto once_more = me().StartLookup(work_, "a");
    (void)world_.loop.Run();
    EXPECT_FALSE(once_more->answered());
    Advance(std::chrono::milliseconds(200));
    const auto later = me().StartLookup(work_, "d");
    (void)world_.loop.Run();
    EXPECT_FALSE(later->answered());
    Advance(std::chrono::milliseconds(30500));
    for (const auto& request : {again, once_more, later})
        EXPECT_EQ(me().FinishCode(request), ETIMEDOUT);
}

TEST_F(Waiting, WhatTheServerDoesNotAnswerEndsWithinItsBoundToo) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const std::vector<RecordingPtr> all = StartAll();
    Advance(std::chrono::milliseconds(30500));
    for (std::size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(kinds_[i].name);
        ASSERT_TRUE(all[i]->answered());
        EXPECT_EQ(all[i]->Now()->error, ETIMEDOUT);
        const bool unknown = all[i]->Now()->why.find("may or may not") != std::string::npos;
        EXPECT_EQ(unknown, kinds_[i].is != Is::kQuestion);
    }
}

TEST_F(Waiting, WhileTheLinkIsKnownToBeDownEachFailsAtOnce) {
    Cut();
    machine().Cut(Error(Errno{EHOSTUNREACH}, "no route to host", Blame::kRemote));
    Settle();
    for (const Kind& kind : kinds_) {
        SCOPED_TRACE(kind.name);
        const auto request = kind.start();
        (void)world_.loop.Run();
        ASSERT_TRUE(request->answered());
        EXPECT_EQ(request->Now()->error, EHOSTUNREACH);
        EXPECT_NE(request->Now()->why.find("cannot be reached: no route to host"),
                  std::string::npos);
    }
    EXPECT_EQ(me().Cat("/box/status"), "unreachable\n");
    Advance(std::chrono::seconds(20));  // a new attempt
    Mend();
    EXPECT_EQ(me().Cat("/box/fs/work/a"), "hello");
}

TEST_F(Waiting, AHostKeyThatIsAnotherIsEacces) {
    Cut();
    machine().Cut(Error(Errno{EACCES}, "the host key is another one", Blame::kRemote));
    Settle();
    EXPECT_EQ(me().FinishCode(kinds_.front().start()), EACCES);
    Advance(std::chrono::seconds(20));
    Mend();
}

TEST_F(Waiting, TheSandboxesEndFreesEachWithEhostdown) {
    Cut();
    const std::vector<RecordingPtr> all = StartAll();
    provider().SetHealth({Liveness::kEnded, "it was stopped from outside"});
    // The attempt that was on its way fails; the provider says why.
    machine().Cut();
    Settle();
    for (std::size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(kinds_[i].name);
        ASSERT_TRUE(all[i]->answered());
        EXPECT_TRUE(all[i]->Now()->error == EHOSTUNREACH || all[i]->Now()->error == EHOSTDOWN);
        const auto later = kinds_[i].start();
        (void)world_.loop.Run();
        EXPECT_EQ(later->Await().error, EHOSTDOWN);
        EXPECT_NE(later->Now()->why.find("it was stopped from outside"), std::string::npos);
    }
}

TEST_F(Waiting, UnmountingFreesEachWithEnotconn) {
    files().SetAnswers(FakeFiles::Answers::kHeld);
    const std::vector<RecordingPtr> all = StartAll();
    mount().fs().FailParked();
    for (const auto& request : all)
        EXPECT_EQ(request->Await().error, ENOTCONN);
    EXPECT_EQ(mount().context().lot.Count(), 0U);
}

}  // namespace
}  // namespace sbxfs::testing
