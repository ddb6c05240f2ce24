// SourceState: which sources a binary was built from, as far as git knows: for manifests.
#pragma once

#include <string>

#include "harness/json.h"

namespace gearbox::harness {

struct SourceState {
  Json commit;  // 40 hex digits, or null: no git, no repository, or one that git refuses to read
  Json dirty;   // true: something differs from the commit, files that git does not know included; null with commit
  std::string
      diff;  // what differs, for `git apply` on top of the commit; empty when nothing does or it is not to be had
};

// Asks git about the tree whose root is `root`; at most a few seconds. Changes nothing in it, the index included.
SourceState look_at_sources(const std::string& root);

}  // namespace gearbox::harness
