"""From a trained model to a bundle, and the proof that they are equal."""
