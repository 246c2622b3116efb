"""Cuts with meaning: corpora, manifests, splits, augmentation, synthesis and feature banks."""
