#include "tests/support/test_mount.h"

#include <atomic>
#include <cstdio>
#include <thread>

#include "base/check.h"
#include "sandbox/snapshotter.h"

namespace sbxfs::testing {

Template TestTemplate(const std::string& name) {
    Template what;
    what.name = name;
    what.workdir = "/work";
    return what;
}

MountSetup DefaultSetup() {
    MountSetup setup;
    setup.templates["default"] = TestTemplate("default");
    return setup;
}

TestMount::TestMount(World& world, MountSetup setup) : world_(world), setup_(std::move(setup)) {
    const auto must = [](auto result) {
        if (!result) (void)std::fprintf(stderr, "%s\n", result.error().what().c_str());
        CHECK(result.has_value());
        return std::move(*result);
    };
    state_ = must(StateDir::Open(world_.dir / "state", "a test"));
    store_ = must(Store::Open(*state_));
    outputs_ = must(Outputs::Open(state_->outputs()));
    services_.store = store_.get();
    services_.outputs = outputs_.get();
    services_.attacher = &world_.machines;
    services_.timeouts = setup_.timeouts;
    services_.limits = setup_.limits;
    services_.launch_limit = setup_.launch_limit;
    services_.clock = &world_.loop.clock();
    services_.write_behind = setup_.write_behind;
    services_.contents = setup_.contents;
    services_.on_lost = [this](const std::string& box, const std::string& path, const Error& why) {
        fs_->context().refusals.Add(0, "/" + box + "/fs" + path, why);
    };
    sandboxes_ = std::make_unique<Sandboxes>(
        services_, setup_.config,
        [this](const Template&) -> Result<Provider*> { return &world_.provider; },
        [this]() -> Loop& { return world_.loop; });
    must(sandboxes_->Load());
    MountSettings settings;
    settings.written_templates = must(store_->LoadTemplates());
    settings.keep_template = [this](const std::string& name, const std::optional<Template>& what,
                                    Done done) {
        store_->PutTemplate(name, what, std::move(done));
    };
    store_->StartThread();
    outputs_->StartThread();
    settings.uid = setup_.uid;
    settings.gid = setup_.gid;
    settings.mountpoint = "/mnt";
    settings.longest_wait = setup_.longest_wait;
    Config config;
    config.templates = setup_.templates;
    settings.snapshotters = {world_.provider.snapshotter()};
    fs_ = std::make_unique<FileSystem>(*sandboxes_, world_.loop, world_.loop.clock(), settings,
                                       config);
    sandboxes_->SetMount(fs_->context().kernel_cache);
    sandboxes_->Start();
}

TestMount::~TestMount() {
    if (fs_ != nullptr) Unmount();
}

void TestMount::Settle() {
    do {
        (void)world_.loop.Run();
        store_->Flush();
        outputs_->Flush();
    } while (world_.loop.posted() > 0);
}

void TestMount::Advance(Duration by) {
    constexpr Duration kStep = std::chrono::milliseconds(50);
    Settle();
    while (by > Duration::zero()) {
        const Duration step = std::min(by, kStep);
        world_.loop.Advance(step);
        Settle();
        by -= step;
    }
}

SandboxPtr TestMount::Box(const std::string& name) {
    SandboxPtr box = sandboxes_->Find(name);
    CHECK(box != nullptr);
    return box;
}

FakeMachine& TestMount::Machine(const std::string& name) {
    return world_.machines.Of("sbxfs-" + store_->mount_id() + "-" +
                              ToString(Box(name)->generation()));
}

void TestMount::Stop() {
    fs_.reset();
    sandboxes_.reset();
    outputs_.reset();
    store_.reset();
    state_.reset();
}

void TestMount::Unmount() {
    fs_->FailParked();
    std::atomic<bool> stopped{false};
    std::thread stopper([&] {
        sandboxes_->Stop();
        stopped = true;
    });
    while (!stopped) {
        (void)world_.loop.Run();
        std::this_thread::yield();
    }
    stopper.join();
    Settle();
    world_.loop.Clear();
    Stop();
}

void TestMount::Kill() {
    world_.disk.Fail(FaultyDisk::Fault::kBroken);
    store_->Flush();
    outputs_->Flush();
    world_.loop.Clear();
    world_.provider.DropHeld();
    Stop();
    world_.loop.Clear();
    world_.disk.Heal();
}

}  // namespace sbxfs::testing
