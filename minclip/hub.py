"""A model on the hub: fetched from there, and described for it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelHubMixin

CARD = """---\n{{ card_data }}\n---\n\n# {{ title | default("A CLIP of minclip") }}\n
Two towers, one space: pictures and captions become unit vectors of {{ model.embed_dim }} numbers, whose cosine says
how well they fit. {{ trained }}\n\n```python\nfrom minclip.pretrained import load\n
model, tokenizer = load("{{ repo_id | default("THIS_FOLDER") }}")\n```\n
Pictures have {{ model.image_size }} pixels a side and values from -1 to 1, captions at most {{ model.context_length }}
tokens. The weights are safetensors; loading them runs no code. The licence is for whoever publishes this to fill in.
"""


class HubModel(ModelHubMixin, library_name="minclip", tags=["clip"], model_card_template=CARD):
    """What huggingface_hub's mixin needs to know of a CLIP: its `push_to_hub(repo_id)` saves, describes and uploads."""

    tokenizer = None  # `minclip.pretrained.load` sets it, so that it is kept beside the model
    trained: dict = {}  # the settings of the run that left this model, where `from_pretrained` found them

    def generate_model_card(self, **words: object):
        """The card (CARD), as `push_to_hub` asks for it; words: what else it may say, such as `title`."""
        known = [f"{key} {self.trained[key]}" for key in ("batch_size", "max_steps", "lr") if key in self.trained]
        trained = f"Trained with minclip: loss {self.config.loss}, {', '.join(known)}." if known else ""
        return super().generate_model_card(model=self.config, trained=trained, **words)


def download(name: str | Path, files: Sequence[str]) -> Path:
    """A folder or file as it is; else a repository of the hub, `owner/name`: the folder that its `files` came to.

    files: names or patterns. Raises FileNotFoundError, which says what to do without a network, where a repository
    cannot be reached.
    """
    if Path(name).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=list(files)))
    except Exception as error:  # no network, no such repository, no right to see it: the library has a dozen of them
        said = f"{name} is no folder here and could not be downloaded from the hub ({str(error) or repr(error):.300})"
        hint = f"without a network, copy the FOLDER that `hf download {name} --local-dir FOLDER` makes, and name that"
        raise FileNotFoundError(f"{said}; {hint}") from error


def read_json(file: Path, most: int = 2**20) -> dict:
    """The JSON in a file of at most so many bytes. Raises ValueError naming the file for anything else."""
    try:
        if file.stat().st_size > most:
            raise ValueError(f"it is larger than {most:,} bytes")
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} is no JSON that could describe a model ({error!s:.300})") from error
