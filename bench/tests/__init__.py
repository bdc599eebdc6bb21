"""Tests of the benchmarks: what they measure with, what they conclude, and what they tell."""
