"""Sayso: speech straight into meaning."""
