"""Adding a gear is adding one file: a copy of the tree gets schedulers/newcomer.cc and nothing else, is built, and lists it.

Usage: new_member_test.py <source dir> <build dir>. Rooms other than schedulers come from the build directory, so it takes seconds.
"""
import json
import sys

from spare_tree import Failed, SpareTree

NEWCOMER = """#include "interfaces/registry.h"

namespace gearbox::schedulers {
SchedulerEntry newcomer() {
  SchedulerEntry entry;
  entry.name = "newcomer";
  entry.summary = "Came as one file.";
  entry.make_options = [] { return std::unique_ptr<OptionSet>(std::make_unique<TypedOptions<NoOptions>>()); };
  return entry;
}
}  // namespace gearbox::schedulers
"""


def members(tree):
    return [gear["name"] for gear in json.loads(tree.gearbox("list", "schedulers", "--json"))["schedulers"]]


def main():
    with SpareTree(sys.argv[1], sys.argv[2]) as tree:
        tree.build()
        before = members(tree)
        tree.add("schedulers/newcomer.cc", NEWCOMER)
        tree.build()
        after = members(tree)
        if after != sorted(before + ["newcomer"]):
            print(f"before the file there was {before}, after it {after}")
            return 1
        # A file without its function must not pass unseen.
        tree.add("schedulers/hollow.cc", "namespace gearbox::schedulers {}\n")
        broken = tree.try_to_build()
        if broken.returncode == 0 or "hollow" not in broken.stdout + broken.stderr:
            print("a member file without its function was built without an error that names it")
            return 1
    print("new member: appears with no other edit")
    return 0


try:
    sys.exit(main())
except Failed as failure:
    print(failure)
    sys.exit(1)
