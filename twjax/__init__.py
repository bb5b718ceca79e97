"""twjax: continual pretraining of open language models for Taiwan on JAX and TPU."""

__version__ = "0.1.0"
