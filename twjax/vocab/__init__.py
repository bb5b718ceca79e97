"""SentencePiece vocabularies: training, and encoding and decoding without TensorFlow."""
