"""Speech with meaning: corpora, synthesis, augmentation, splits, features."""
