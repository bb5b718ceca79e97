"""The network of a configuration: a decoder, or an encoder-decoder."""

from __future__ import annotations

from twjax.config import Model
from twjax.models.decoder import Network
from twjax.models.encdec import EncoderDecoder

AnyNetwork = Network | EncoderDecoder


def network(config: Model) -> AnyNetwork:
    """Declares the network that `config` describes; nothing is allocated."""
    return EncoderDecoder.create(config) if config.encoder_layers else Network.create(config)
