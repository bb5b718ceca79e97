"""Text becomes rows, rows become batches.

One side uses SeqIO and runs in the caching commands; the other (`rows`, `mixture`, `loader`) is
the trainer's and imports neither TensorFlow nor seqio.
"""
