"""The checker finds what was planted, and nothing in a sound run."""

import tempfile
import unittest

from checker import Log, judge
from ledger import Ledger, record_in, value_of

SOUND = """
acked 100 0 0 java a 1
acked 101 0 1 java a 2
acked 102 0 2 rust a 1
acked 103 0 -1 java b 1
acked 104 1 0 java c 1
assigned 90 tail 0 0
read 110 tail 0 0 java a 1
read 111 tail 0 1 java a 2
read 112 tail 0 2 rust a 1
read 113 tail 0 4 java b 1
committed 89 group 0 -1
assigned 90 group/0 0 0
read 110 group/0 0 0 java a 1
read 110 group/0 0 1 java a 2
commit 120 group 0 1
read 122 group/0 0 2 rust a 1
committed 125 group 0 1
assigned 126 group/1 0 1
read 127 group/1 0 1 java a 2
read 127 group/1 0 2 rust a 1
read 127 group/1 0 4 java b 1
commit 130 group 0 5
""".strip().splitlines()

# Offset 3 has a record that nobody was told of only if a test says so.
FIRST = [(0, ("java", "a", 1)), (1, ("java", "a", 2)), (2, ("rust", "a", 1)), (4, ("java", "b", 1))]
SECOND = [(0, ("java", "c", 1))]


def kinds(lines=(), without=(), first=tuple(FIRST), end=5, committed=5):
    ledger = Ledger()
    for line in [*(line for line in SOUND if line not in without), *lines]:
        ledger.add(line)
    logs = [Log(0, list(first), end), Log(1, SECOND, 1)]
    return [finding.kind for finding in judge(ledger, logs, {("group", 0): committed})]


class Checker(unittest.TestCase):
    def test_a_sound_run_has_no_finding(self):
        self.assertEqual(kinds(), [])

    def test_an_acknowledged_record_that_is_not_there_is_lost(self):
        self.assertEqual(kinds(["acked 140 0 5 java a 3"]), ["lost"])
        self.assertEqual(kinds(["acked 140 0 -1 java a 3"]), ["lost"])
        self.assertEqual(kinds(["acked 140 1 0 java a 1"]), ["lost"])

    def test_a_record_that_a_consumer_read_and_that_is_not_there_is_lost(self):
        self.assertEqual(kinds(["read 140 tail 0 5 java a 3"]), ["lost"])
        unread = [line for line in SOUND if "tail 0 4" in line]
        self.assertEqual(kinds(["read 140 tail 0 4 java a 3"], without=unread), ["lost"])

    def test_an_acknowledged_offset_has_the_record(self):
        self.assertEqual(kinds(["acked 140 0 2 java a 1"]), ["misplaced"])

    def test_a_record_twice_is_doubled(self):
        twice = [*FIRST, (5, ("java", "b", 1))]
        self.assertEqual(kinds(first=twice), ["doubled"])
        twice = [*FIRST, (5, ("java", "a", 1))]
        self.assertEqual(kinds(first=twice), ["doubled"])

    def test_records_of_a_key_in_another_order_are_reordered(self):
        later = [*FIRST, (5, ("java", "a", 4)), (6, ("java", "a", 3)), (7, ("java", "a", 5))]
        self.assertEqual(kinds(first=later), ["reordered"])
        later = [*FIRST, (5, ("java", "a", 5)), (6, ("java", "a", 3)), (7, ("java", "a", 4))]
        self.assertEqual(kinds(first=later), ["reordered", "reordered"])

    def test_offsets_that_go_back_in_the_last_reading_are_found(self):
        self.assertEqual(kinds(first=[*FIRST, (3, ("go", "a", 1))])[0], "went back")

    def test_other_keys_and_producers_have_orders_of_their_own(self):
        later = [*FIRST, (5, ("go", "a", 1)), (6, ("java", "d", 1)), (7, ("rust", "a", 2))]
        self.assertEqual(kinds(first=later), [])

    def test_a_reader_that_gets_an_offset_again_went_back(self):
        self.assertEqual(kinds(["read 140 tail 0 4 java b 1"]), ["went back"])
        self.assertEqual(kinds(["read 140 tail 0 1 java a 2"]), ["went back"])
        self.assertEqual(kinds(["assigned 140 tail 0 1", "read 141 tail 0 1 java a 2"]), [])
        self.assertEqual(kinds(["read 140 other 0 0 java a 1"]), ["went back"])

    def test_a_record_that_a_reader_passed_over_is_skipped(self):
        more = [*FIRST[:3], (3, ("go", "a", 1)), FIRST[3]]
        # The reader without a group, and the second member; the group's commit is then above a record that nobody got.
        self.assertEqual(kinds(first=more), ["skipped", "skipped", "undelivered"])
        self.assertEqual(kinds(["assigned 140 late 1 0", "read 141 late 1 0 java c 1"]), [])
        self.assertEqual(kinds(["assigned 140 late 0 0", "read 141 late 0 1 java a 2"]), ["skipped"])

    def test_a_record_below_the_commit_that_no_member_got_is_undelivered(self):
        unread = [line for line in SOUND if "group/1 0 4" in line]
        self.assertEqual(kinds(without=unread), ["undelivered"])
        self.assertEqual(kinds(without=[*unread, "commit 130 group 0 5"], committed=3), [])

    def test_a_committed_offset_never_goes_back(self):
        self.assertEqual(kinds(["committed 131 group 0 1"]), ["uncommitted"])
        self.assertEqual(kinds(["committed 131 group 0 -1"]), ["uncommitted"])
        self.assertEqual(kinds(committed=4), ["uncommitted"])
        # It was asked before the commit was acknowledged.
        self.assertEqual(kinds(["committed 130 group 0 1"]), [])
        self.assertEqual(kinds(["committed 131 other 0 -1"]), [])

    def test_a_committed_offset_lies_in_the_log(self):
        self.assertEqual(kinds(["commit 131 group 1 2"]), ["beyond"])

    def test_half_a_line_of_a_ledger_does_not_count(self):
        ledger = Ledger()
        with tempfile.NamedTemporaryFile("w", suffix=".ledger") as file:
            file.write("acked 1 0 7 java a 1\nacked 2 0 8 ja")
            file.flush()
            ledger.add_file(file.name)
        self.assertEqual(ledger.acked, [(1, 0, 7, ("java", "a", 1))])
        with self.assertRaises(ValueError):
            ledger.add("acknowledged 1 2 3")

    def test_a_record_is_in_its_value(self):
        record = ("java", "a", 12)
        self.assertEqual(record_in(value_of(record, 3)), record)
        self.assertEqual(record_in(value_of(record)), record)


if __name__ == "__main__":
    unittest.main()
