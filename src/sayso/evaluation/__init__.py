"""Judging Results against Examples: error rates, semantics, calibration, reports. Never imports torch or Lhotse."""
