// How this binary was built; defined in a file that CMake generates.
#pragma once

namespace gearbox::harness {

struct BuildFacts {
  const char* compiler;  // "g++ 12.2.0"
  const char* flags;
  const char* preset;  // release, checked, asan or tsan
};
extern const BuildFacts kBuildFacts;

}  // namespace gearbox::harness
