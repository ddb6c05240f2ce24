// SHA-256 (FIPS 180-4), for the identity of cells and binaries. Not for secrets. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gearbox::harness {

class Sha256 {
 public:
  void add(std::string_view bytes);
  // 64 lower-case hex digits. The object is used up.
  std::string hex();

 private:
  void block(const unsigned char* bytes);
  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> pending_{};
  std::size_t pending_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
};

// The first 16 hex digits of the SHA-256 of `bytes`: the length used for cell and build ids.
std::string short_hash(std::string_view bytes);

}  // namespace gearbox::harness
