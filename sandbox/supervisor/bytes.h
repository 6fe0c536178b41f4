// Text without libc: a view, a growing byte string and a vector, on the heap of heap.h. Pure: the
// hosted tests use them too. Running out of memory ends the program (heap.h), so nothing here
// fails.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <new>
#include <type_traits>
#include <utility>

#include "sandbox/supervisor/heap.h"
#include "sandbox/supervisor/protocol.h"

namespace sbxfs::supervisor {

inline size_t Length(const char* text) {
    size_t length = 0;
    while (text[length] != '\0')
        ++length;
    return length;
}

// Bytes somebody else owns.
struct View {
    const char* data = nullptr;
    size_t size = 0;

    constexpr View() = default;
    constexpr View(const char* bytes, size_t count) : data(bytes), size(count) {}
    // NOLINTNEXTLINE(google-explicit-constructor): literals are passed where text is expected.
    View(const char* text) : data(text), size(Length(text)) {}
    // NOLINTNEXTLINE(google-explicit-constructor): what came in a frame is text like any other.
    View(Text text) : data(text.data), size(text.size) {}

    bool empty() const { return size == 0; }
    char operator[](size_t at) const { return data[at]; }
    View From(size_t at) const { return at < size ? View(data + at, size - at) : View(); }
    View First(size_t count) const { return View(data, count < size ? count : size); }
    bool StartsWith(View prefix) const {
        return size >= prefix.size && __builtin_memcmp(data, prefix.data, prefix.size) == 0;
    }
    // The index of the first `byte` at or after `from`; `size` when there is none.
    size_t Find(char byte, size_t from = 0) const {
        while (from < size && data[from] != byte)
            ++from;
        return from < size ? from : size;
    }
    bool Has(char byte) const { return Find(byte) < size; }
    Text AsText() const { return Text{data, static_cast<uint32_t>(size)}; }
};

inline bool operator==(View a, View b) {
    return a.size == b.size && (a.size == 0 || __builtin_memcmp(a.data, b.data, a.size) == 0);
}

// The part of a path after its last slash.
View BaseName(View path);

// A byte string that grows. Move-only. The names are those protocol.h's Writer asks of a buffer.
class Str {
 public:
    Str() = default;
    Str(const Str&) = delete;
    Str& operator=(const Str&) = delete;
    explicit Str(View text) { append(text); }
    Str(Str&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    Str& operator=(Str&& other) noexcept {
        if (this != &other) {
            reset();
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
            capacity_ = std::exchange(other.capacity_, 0);
        }
        return *this;
    }
    ~Str() { reset(); }

    char* data() { return data_; }
    const char* data() const { return data_; }
    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    View view() const { return View(data_, size_); }
    Text text() const { return Text{data_, static_cast<uint32_t>(size_)}; }
    // NUL-terminated; valid until the next change.
    const char* c_str();

    void append(const char* bytes, size_t count);
    Str& append(View text) {
        append(text.data, text.size);
        return *this;
    }
    Str& Number(uint64_t value);
    Str& Hex(uint64_t value);  // 16 digits
    // As one word of a POSIX shell: in single quotes.
    Str& Quoted(View text);
    void Assign(View text);
    // Room for `count` more bytes at the end, which Grown() then makes part of the string.
    char* Room(size_t count);
    void Grown(size_t count) { size_ += count; }
    void DropFront(size_t count);
    void Shrink(size_t size) { size_ = size; }
    void clear() { size_ = 0; }
    // Gives the memory back.
    void reset();

 private:
    char* data_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
};

// std::vector, as far as it is needed here. Move-only; elements are moved when it grows.
template <class T>
class Vec {
 public:
    Vec() = default;
    Vec(const Vec&) = delete;
    Vec& operator=(const Vec&) = delete;
    Vec(Vec&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    Vec& operator=(Vec&& other) noexcept {
        if (this != &other) {
            reset();
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
            capacity_ = std::exchange(other.capacity_, 0);
        }
        return *this;
    }
    ~Vec() { reset(); }

    T* begin() { return data_; }
    T* end() { return data_ + size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }
    T* data() { return data_; }
    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T& operator[](size_t at) { return data_[at]; }
    const T& operator[](size_t at) const { return data_[at]; }
    T& Last() { return data_[size_ - 1]; }

    T& Add(T value) { return Insert(size_, std::move(value)); }
    T& Insert(size_t at, T value) {
        if (size_ == capacity_) Grow();
        if (at == size_) {
            new (data_ + size_) T(std::move(value));
        } else {
            new (data_ + size_) T(std::move(data_[size_ - 1]));
            for (size_t i = size_ - 1; i > at; --i)
                data_[i] = std::move(data_[i - 1]);
            data_[at] = std::move(value);
        }
        ++size_;
        return data_[at];
    }
    void Remove(size_t at) {
        for (size_t i = at; i + 1 < size_; ++i)
            data_[i] = std::move(data_[i + 1]);
        data_[--size_].~T();
    }
    void clear() {
        while (size_ > 0)
            data_[--size_].~T();
    }
    void reset() {
        clear();
        Release(std::exchange(data_, nullptr));
        capacity_ = 0;
    }

 private:
    void Grow() {
        const size_t capacity = capacity_ == 0 ? 8 : capacity_ * 2;
        T* grown = static_cast<T*>(Allocate(capacity * sizeof(T)));
        for (size_t i = 0; i < size_; ++i) {
            new (grown + i) T(std::move(data_[i]));
            data_[i].~T();
        }
        Release(std::exchange(data_, grown));
        capacity_ = capacity;
    }

    T* data_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
};

// The one owner of a T on the heap.
template <class T>
class Box {
 public:
    Box() = default;
    Box(const Box&) = delete;
    Box& operator=(const Box&) = delete;
    explicit Box(T* owned) : owned_(owned) {}
    Box(Box&& other) noexcept : owned_(std::exchange(other.owned_, nullptr)) {}
    Box& operator=(Box&& other) noexcept {
        if (this != &other) reset(std::exchange(other.owned_, nullptr));
        return *this;
    }
    ~Box() { reset(); }

    T* get() const { return owned_; }
    T* operator->() const { return owned_; }
    T& operator*() const { return *owned_; }
    explicit operator bool() const { return owned_ != nullptr; }
    T* release() { return std::exchange(owned_, nullptr); }
    void reset(T* owned = nullptr) {
        if (owned_ != nullptr) {
            owned_->~T();
            Release(owned_);
        }
        owned_ = owned;
    }

 private:
    T* owned_ = nullptr;
};

template <class T>
Box<T> MakeBox() {
    return Box<T>(new (Allocate(sizeof(T))) T());
}

// Decimal, all of `text`; false when it is anything else or does not fit.
bool ParseNumber(View text, uint64_t* value);

}  // namespace sbxfs::supervisor
