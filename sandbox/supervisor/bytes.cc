#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

View BaseName(View path) {
    size_t start = path.size;
    while (start > 0 && path[start - 1] != '/')
        --start;
    return path.From(start);
}

char* Str::Room(size_t count) {
    // One more for c_str().
    if (size_ + count + 1 > capacity_) {
        size_t capacity = capacity_ < 32 ? 32 : capacity_ * 2;
        if (capacity < size_ + count + 1) capacity = size_ + count + 1;
        data_ = static_cast<char*>(Resize(data_, capacity));
        capacity_ = capacity;
    }
    return data_ + size_;
}

const char* Str::c_str() {
    *Room(0) = '\0';
    return data_;
}

void Str::append(const char* bytes, size_t count) {
    if (count == 0) return;
    __builtin_memcpy(Room(count), bytes, count);
    size_ += count;
}

Str& Str::Number(uint64_t value) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value > 0);
    append(digits + at, sizeof digits - at);
    return *this;
}

Str& Str::Hex(uint64_t value) {
    char digits[16];
    for (int i = 15; i >= 0; --i, value >>= 4)
        digits[i] = "0123456789abcdef"[value & 15];
    append(digits, sizeof digits);
    return *this;
}

Str& Str::Quoted(View text) {
    append("'", 1);
    for (size_t at = 0; at < text.size;) {
        const size_t quote = text.Find('\'', at);
        append(text.data + at, quote - at);
        if (quote < text.size) append("'\\''", 4);
        at = quote + 1;
    }
    append("'", 1);
    return *this;
}

void Str::Assign(View text) {
    clear();
    append(text);
}

void Str::DropFront(size_t count) {
    if (count < size_) __builtin_memmove(data_, data_ + count, size_ - count);
    size_ -= count < size_ ? count : size_;
}

void Str::reset() {
    Release(std::exchange(data_, nullptr));
    size_ = 0;
    capacity_ = 0;
}

bool ParseNumber(View text, uint64_t* value) {
    if (text.empty() || text.size > 20) return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < text.size; ++i) {
        if (text[i] < '0' || text[i] > '9') return false;
        const auto digit = static_cast<uint64_t>(text[i] - '0');
        if (sum > (UINT64_MAX - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

}  // namespace sbxfs::supervisor
