"""Tests of harness/analysis. From the repository root:

    /usr/bin/python3 -m unittest discover -s tests/analysis -t .
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "harness"))
