// SPDX-License-Identifier: Apache-2.0
// Strict stream for simulation: reading an empty one is an error, and what is left over can be asked for.
#pragma once
#include <cstddef>
#include <deque>
#include <stdexcept>
#include <utility>

namespace hls {

template <class T>
class stream {
 public:
  stream() = default;
  explicit stream(const char*) {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  T read() {
    if (queue_.empty()) throw std::logic_error("read of an empty stream");
    T x = std::move(queue_.front());
    queue_.pop_front();
    return x;
  }
  void write(const T& x) { queue_.push_back(x); }
  bool empty() const { return queue_.empty(); }
  std::size_t size() const { return queue_.size(); }
  const T& front() const { return queue_.front(); }

 private:
  std::deque<T> queue_;
};

}  // namespace hls
