// SPDX-License-Identifier: Apache-2.0
// Strict stream for simulation: reading an empty one is an error, and what is left over can be asked for.
#pragma once
#include <cstddef>
#include <stdexcept>
#include <utility>
#include <vector>

namespace hls {

template <class T>
class stream {
 public:
  stream() = default;
  explicit stream(const char*) {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  T read() {
    if (size_ == 0) throw std::logic_error("read of an empty stream");
    T x = std::move(ring_[first_]);
    first_ = (first_ + 1) & (ring_.size() - 1);
    --size_;
    return x;
  }
  void write(const T& x) {
    if (size_ == ring_.size()) grow();
    ring_[(first_ + size_) & (ring_.size() - 1)] = x;
    ++size_;
  }
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  const T& front() const { return ring_[first_]; }

 private:
  // Twice the room, a power of two, with the first element first.
  void grow() {
    std::vector<T> larger(ring_.empty() ? 16 : 2 * ring_.size());
    for (std::size_t n = 0; n < size_; ++n) larger[n] = std::move(ring_[(first_ + n) & (ring_.size() - 1)]);
    ring_.swap(larger);
    first_ = 0;
  }

  std::vector<T> ring_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace hls
