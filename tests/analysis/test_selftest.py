"""The error rates of the verdict procedure on families whose truth is known, and the planted bug that proves that the test sees."""
import math
import unittest

import numpy as np

from . import noise
from analysis import selftest


class SelfTest(unittest.TestCase):
    def test_every_row_of_the_table(self):
        found = list(selftest.rows())
        self.assertGreater(len(found), 40)
        self.assertEqual([selftest.line(row) for row in found if not row.ok], [])

    def test_noise_of_a_real_run(self):
        """Each combination draws from the residuals of one combination of one workload of a real run of 40 blocks: its spread, its skew, its modes."""
        by_work: dict[str, dict[tuple, list[float]]] = {}
        for row in noise.rows("long"):
            by_work.setdefault(row["workload"], {}).setdefault(noise.treatment(row), []).append(math.log(float(row["value"])))
        pools = [[np.array(values) - np.mean(values) for values in by_treatment.values()] for by_treatment in by_work.values()]
        self.assertEqual([len(one) for one in pools], [4] * 8)

        def real(rng, design, families):
            mine = pools[rng.integers(len(pools))]
            chosen = rng.integers(len(mine), size=design.treatments)
            columns = [mine[index][rng.integers(40, size=(families, design.treatment.size))] for index in range(len(mine))]
            return np.choose(chosen[design.treatment], columns)
        for blocks in (3, 6, 10):
            outcome = selftest.simulate(real, selftest.Design(blocks), 200 + blocks, runs=400)
            self.assertLessEqual(outcome.family_error, 6.5, blocks)

    def test_the_same_seed_gives_the_same_numbers(self):
        one, other = (selftest.simulate(selftest.unequal, selftest.Design(3), 99, runs=20) for _ in range(2))
        self.assertTrue((one.found.effect == other.found.effect).all() and (one.called == other.called).all())

    def test_effects_are_put_in_and_found(self):
        outcome = selftest.simulate(selftest.equal, selftest.Design(6), 98, effects=1.0, runs=20)
        self.assertEqual(outcome.family_error, 100.0)


if __name__ == "__main__":
    unittest.main()
