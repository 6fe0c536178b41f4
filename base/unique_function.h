// A move-only callable, for callbacks that own what they answer (a reply, a promise). std::function
// must be copyable and std::move_only_function is C++23. Value type; calling an empty one is a bug.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace sbxfs {

template <class Signature>
class UniqueFunction;

template <class R, class... Args>
class UniqueFunction<R(Args...)> {
 public:
    UniqueFunction() = default;

    template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, UniqueFunction> &&
             std::is_invocable_r_v<R, F&, Args...>)
        // NOLINTNEXTLINE(google-explicit-constructor): a lambda is passed where a callback is
        // expected.
        UniqueFunction(F&& f)
        : target_(std::make_unique<Holder<std::decay_t<F>>>(std::forward<F>(f))) {}

    UniqueFunction(UniqueFunction&&) noexcept = default;
    UniqueFunction& operator=(UniqueFunction&&) noexcept = default;
    UniqueFunction(const UniqueFunction&) = delete;
    UniqueFunction& operator=(const UniqueFunction&) = delete;
    ~UniqueFunction() = default;

    explicit operator bool() const { return target_ != nullptr; }
    void swap(UniqueFunction& other) noexcept { target_.swap(other.target_); }

    R operator()(Args... args) const {
        CHECK(target_ != nullptr);
        return target_->Call(std::forward<Args>(args)...);
    }

 private:
    struct Target {
        Target() = default;
        Target(const Target&) = delete;
        Target& operator=(const Target&) = delete;
        virtual ~Target() = default;
        virtual R Call(Args&&... args) = 0;
    };
    template <class F>
    struct Holder final : Target {
        explicit Holder(F&& f) : f_(std::move(f)) {}
        explicit Holder(const F& f) : f_(f) {}
        R Call(Args&&... args) override { return f_(std::forward<Args>(args)...); }
        F f_;
    };

    std::unique_ptr<Target> target_;
};

}  // namespace sbxfs
