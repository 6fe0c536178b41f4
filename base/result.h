// What a fallible function returns: a value, or an Error with the errno a caller of the file system
// will see and a sentence that says what went wrong and what to do about it.
//
// Result<T> has the names of std::expected (C++23) so that it can become an alias one day. Layers
// that pass an error on add words in front with While() and never change its errno: the errno
// nearest the cause survives. Value types; no thread rules.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace sbxfs {

// An errno value. Positive, never a bare int.
enum class Errno : int {};

// Whose fault an error is. It picks the log level: debug, warning, error.
enum class Blame { kCaller, kRemote, kBug };

// The sentence in strerror(3)'s words, thread-safe.
std::string_view ErrnoText(Errno code);

class [[nodiscard]] Error {
 public:
    // `what` is one sentence or clause: what happened, why, what to do. It ends up in
    // .mount/last_error.
    Error(Errno code, std::string what, Blame blame = Blame::kCaller)
        : code_(code), blame_(blame), what_(std::move(what)) {}

    Errno code() const { return code_; }
    Blame blame() const { return blame_; }
    const std::string& what() const { return what_; }

    // The same error with "while {doing}: " in front of its text.
    Error While(std::string_view doing) const&;

 private:
    Errno code_;
    Blame blame_;
    std::string what_;
};

struct Unit {};

template <class T>
class [[nodiscard]] Result {
 public:
    using value_type = T;

    // Implicit, as in std::expected: `return value;` and `return Error(...)` both read well.
    // NOLINTNEXTLINE(google-explicit-constructor): see above.
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    // NOLINTNEXTLINE(google-explicit-constructor): see above.
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }

    T& operator*() & { return *std::get_if<0>(&state_); }
    const T& operator*() const& { return *std::get_if<0>(&state_); }
    T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
    T* operator->() { return std::get_if<0>(&state_); }
    const T* operator->() const { return std::get_if<0>(&state_); }

    Error& error() & { return *std::get_if<1>(&state_); }
    const Error& error() const& { return *std::get_if<1>(&state_); }
    Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
    std::variant<T, Error> state_;
};

using Status = Result<Unit>;

inline Status Ok() {
    return Unit{};
}

// An Error made from errno after a failed system call: "{what}: {strerror}".
Error SystemError(int code, std::string_view what, Blame blame = Blame::kBug);

}  // namespace sbxfs

// Unwraps a Result or returns its error from the enclosing function. Not for coroutines; cannot
// bind references.
#define TRY(expr)                                  \
    __extension__({                                \
        auto&& try_result_ = (expr);               \
        if (!try_result_) [[unlikely]]             \
            return std::move(try_result_).error(); \
        *std::move(try_result_);                   \
    })
