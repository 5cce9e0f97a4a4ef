// SPDX-License-Identifier: Apache-2.0
// Reads a vector file (its format: fpga/vectors.py): the memory before a pass, and what it must be after it.
// Whatever does not fit together is an error that names the file and the field.
#pragma once
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "config.hpp"
#include "size.hpp"

namespace zq {

constexpr uint32_t kVectorFormat = 2;
constexpr size_t kTestbenchBytes = size_t(kTestbenchBeats) * 16;

struct vectors {
  uint32_t row_blocks;
  uint32_t instructions;
  uint32_t program;  // byte addresses
  uint32_t image;
  uint32_t io;
  std::vector<uint32_t> verdicts;  // live [3:0], choose [4], output [6:5] of each EXIT
  std::vector<uint8_t> before;
  std::vector<uint8_t> after;
};

class vector_reader {
 public:
  explicit vector_reader(const std::string& path) : path_(path) {
    std::ifstream file(path, std::ios::binary);
    check(file.is_open(), "cannot be read");
    bytes_.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    check(!file.bad(), "cannot be read to its end");
  }

  vectors read() {
    check(bytes_.size() >= 4 && std::memcmp(bytes_.data(), "ZQV1", 4) == 0, "magic: not a file of test vectors");
    at_ = 4;
    expect("format", kVectorFormat);
    expect("columns", kColumns);
    expect("program version", kProgramVersion);
    vectors v;
    v.row_blocks = word("row blocks");
    check(v.row_blocks >= 1 && v.row_blocks <= uint32_t(kRowBlocks), "row blocks: not 1 to 4");
    v.instructions = word("instructions");
    check(v.instructions >= 1, "instructions: none");
    v.program = address("program");
    v.image = address("image");
    v.io = address("io");
    check(v.program + uint64_t(v.instructions) * 64 <= kTestbenchBytes, "instructions: beyond the memory");
    const uint32_t fill = word("fill");
    check(fill <= 255, "fill: not a byte");
    const uint32_t initial = word("initial segments");
    const uint32_t expected = word("expected segments");
    check(expected >= 1, "expected segments: none, so that nothing would be tested");
    const uint32_t verdicts = word("verdicts");
    for (uint32_t n = 0; n < verdicts; ++n) {
      v.verdicts.push_back(word("verdict " + std::to_string(n)));
      check(v.verdicts[n] < 128, "verdict " + std::to_string(n) + ": more than 7 bits");
    }
    v.before.assign(kTestbenchBytes, uint8_t(fill));
    segments("initial segment", initial, v.before);
    v.after = v.before;
    segments("expected segment", expected, v.after);
    check(at_ == bytes_.size(), "end: the file goes on after its last segment");
    return v;
  }

 private:
  void check(bool holds, const std::string& fault) const {
    if (!holds) throw std::runtime_error(path_ + ": " + fault);
  }

  uint32_t word(const std::string& field) {
    check(bytes_.size() - at_ >= 4, field + ": the file ends before it");
    uint32_t x = 0;
    for (int i = 0; i < 4; ++i) x |= uint32_t(bytes_[at_ + i]) << (8 * i);
    at_ += 4;
    return x;
  }

  void expect(const std::string& field, uint32_t value) {
    const uint32_t found = word(field);
    check(found == value, field + ": " + std::to_string(found) + ", this testbench takes " + std::to_string(value));
  }

  uint32_t address(const std::string& field) {
    const uint32_t x = word(field);
    check(x % 16 == 0 && x < kTestbenchBytes, field + ": no multiple of 16 within the memory");
    return x;
  }

  // Each is its address, its size, its bytes.
  void segments(const std::string& field, uint32_t count, std::vector<uint8_t>& memory) {
    for (uint32_t n = 0; n < count; ++n) {
      const std::string name = field + " " + std::to_string(n);
      const uint32_t to = word(name);
      const uint32_t size = word(name);
      check(uint64_t(to) + size <= kTestbenchBytes, name + ": beyond the memory");
      check(size >= 1, name + ": empty");
      check(bytes_.size() - at_ >= size, name + ": the file ends within it");
      std::memcpy(memory.data() + to, bytes_.data() + at_, size);
      at_ += size;
    }
  }

  std::string path_;
  std::vector<uint8_t> bytes_;
  size_t at_ = 0;
};

}  // namespace zq
