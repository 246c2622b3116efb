"""A bundle on onnxruntime: audio in, ``Result`` out. No torch."""
