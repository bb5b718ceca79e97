"""`Run.init = "hf:DIR"`: a Hugging Face folder that a run reads straight to its devices."""

from __future__ import annotations

import pathlib
from typing import Any

import jax

from twjax.config import Model, Run
from twjax.huggingface import carry
from twjax.huggingface.config_fields import same_network
from twjax.huggingface.folder import HubFolder
from twjax.huggingface.probe import tokenizer_of


class HubSource:
    """A folder whose weights a run starts from, at step 0; it has no learning rate of its own."""

    step = 0

    def __init__(self, text: str):
        self._hub = HubFolder.open(text.removeprefix("hf:"))
        self.directory = self._hub.path.resolve()
        # A folder has no record of its loss: a conversion has.
        self.probe = None

    @property
    def model(self) -> Model:
        return self._hub.model

    @property
    def vocabulary(self) -> str | None:
        """The sha256 of the folder's tokenizer, if it has one."""
        tokenizer = tokenizer_of(self._hub.path, self._hub.model)
        return None if tokenizer is None else tokenizer.sha256

    def rate(self) -> None:
        """Returns None: the rate that its authors ended with is not in the folder."""

    def check_model(self, run: Run) -> None:
        """Raises ValueError when `run` describes another network than the folder holds."""
        if not same_network(self.model, run.model):
            names = [n for n in vars(run.model) if n not in ("init_std", "vocab_multiple")]
            listing = "; ".join(
                f"Model.{name} {getattr(self.model, name)!r} there, {getattr(run.model, name)!r} "
                "here"
                for name in names
                if getattr(self.model, name) != getattr(run.model, name)
            )
            raise ValueError(f"Run.init: the model of {self.directory} differs: {listing}.")

    def check_vocabulary(self, sha256: str) -> None:
        """Raises ValueError when the run's rows were made with another tokenizer."""
        known = self.vocabulary
        if known not in (None, sha256):
            raise ValueError(
                f"{self.directory} has another tokenizer (sha256 {known[:12]}…) than the one that "
                f"made the run's rows ({sha256[:12]}…): its token ids mean other text. Cache the "
                "rows with Data.vocabulary set to that folder."
            )

    def params(self, network: Any, mesh: jax.sharding.Mesh) -> Any:
        """Reads the parameters in float32, sharded for `mesh`; each process only its own slices.

        The rows of vocabulary padding are those of `network`.
        """
        with self._hub.padded_like(network) as hub:
            return hub.load(mesh)

    def keep(self, run_dir: pathlib.Path) -> None:
        """Keeps the folder's other files with the run, so that it can be exported."""
        carry.keep(self._hub, run_dir)
