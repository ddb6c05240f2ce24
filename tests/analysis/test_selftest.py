"""The error rates of the verdict procedure on families whose truth is known, and the planted bug that proves that the test sees."""
import unittest

from analysis import selftest


class SelfTest(unittest.TestCase):
    def test_every_row_of_the_table(self):
        found = list(selftest.rows())
        self.assertGreater(len(found), 40)
        self.assertEqual([selftest.line(row) for row in found if not row.ok], [])

    def test_the_same_seed_gives_the_same_numbers(self):
        one, other = (selftest.simulate(selftest.unequal, selftest.Design(3), 99, runs=20) for _ in range(2))
        self.assertTrue((one.found.effect == other.found.effect).all() and (one.called == other.called).all())

    def test_effects_are_put_in_and_found(self):
        outcome = selftest.simulate(selftest.equal, selftest.Design(6), 98, effects=1.0, runs=20)
        self.assertEqual(outcome.family_error, 100.0)


if __name__ == "__main__":
    unittest.main()
