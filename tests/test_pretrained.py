"""Published layouts in minclip's towers: the same embeddings as the reference models, and clear refusals.

The references are those of `transformers` and `open_clip`, small, with random numbers in every tensor (norms, biases
and batch statistics, too), so that two tensors that change places are seen.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from minclip import pretrained
from minclip.batches import BatchConfig, tokenise
from minclip.clip import CLIP, CLIPConfig, build_clip, start_from
from minclip.data import Pairs
from minclip.pretrained import SUPPORTED, load, load_open_clip, load_openai_clip, load_siglip, read_tokenizer
from minclip.runs import run_command
from minclip.tokenizer import PAD_ID, Tokenizer

transformers = pytest.importorskip("transformers")

WORDS = "a red heart two cats and the dog on blue boat small big ."
TEXTS = ["a red heart", "cats", "", "two small cats and the big dog on the blue boat and the red heart", "b"]
PRECISION = {torch.float32: 1e-5, torch.float64: 1e-10}
each_precision = pytest.mark.parametrize("dtype", PRECISION, ids=str)


def randomise(model, seed=0):
    """Random numbers in every tensor; variances stay positive."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            width = tensor.shape[-1] if tensor.ndim == 2 else tensor[0].numel() if tensor.ndim > 2 else 9
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * width**-0.5)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
            elif name.endswith("logit_scale") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.add_(1)
    return model.eval()


def write_tokenizer(kind, folder):
    """A small tokenizer.json of the kind that a publisher ships; returns the `tokenizers` object."""
    from tokenizers import Tokenizer as Published
    from tokenizers import models, pre_tokenizers, trainers

    if kind == "clip":
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = [("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t"), ("cat", "s</w>"), ("t", "h"), ("th", "e</w>")]
        pieces = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges)]
        pieces += ["<|startoftext|>", "<|endoftext|>"]
        made = Published(models.BPE({p: i for i, p in enumerate(pieces)}, merges, end_of_word_suffix="</w>"))
    elif kind == "siglip":
        made = Published(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        special = {"special_tokens": ["<pad>", "</s>", "<unk>"], "unk_token": "<unk>"}
        made.train_from_iterator([WORDS] * 9, trainers.UnigramTrainer(vocab_size=60, show_progress=False, **special))
    else:
        made = Published(models.WordPiece(unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = {"special_tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]}
        made.train_from_iterator([WORDS] * 9, trainers.WordPieceTrainer(vocab_size=80, show_progress=False, **special))
    made.save(str(folder / "tokenizer.json"))
    return made


def published(ids, folder, strip=False):
    """Our ids as the publisher's."""
    return torch.tensor(read_tokenizer(folder, strip)[1])[ids]


def pictures(size, dtype, mean=pretrained.MEAN, std=pretrained.STD):
    """Pictures in [-1, 1], and the same as the publisher's model sees them."""
    x = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype) * 2 - 1
    mean, std = (torch.tensor(values, dtype=dtype).view(3, 1, 1) for values in (mean, std))
    return x, (x / 2 + 0.5 - mean) / std


def check(found, expected, dtype):
    assert found.dtype == expected.dtype == dtype
    torch.testing.assert_close(found, expected, atol=PRECISION[dtype], rtol=0)
    assert (found[0] - found[1]).abs().max() > 1e-3, "the reference tells its inputs apart"


# --- transformers' layout

CLIP_SIZES = {
    "one layer": (dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=128), 8,
                  dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=128), 16, 8),
    "unlike towers": (dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40), 20,
                      dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=2, intermediate_size=208), 24, 4),
}  # fmt: skip


def transformers_clip(folder, sizes="unlike towers", dtype=torch.float32, **changes):
    from transformers import CLIPConfig as Config
    from transformers import CLIPModel

    text, length, image, size, patch = CLIP_SIZES[sizes]
    entries = write_tokenizer("clip", folder).get_vocab_size()
    ends = {"bos_token_id": entries - 2, "eos_token_id": entries - 1, "pad_token_id": entries - 1}
    text = {**text, **ends, **changes, "vocab_size": entries, "max_position_embeddings": length}
    image = {**image, **changes, "image_size": size, "patch_size": patch}
    reference = randomise(CLIPModel(Config(text_config=text, vision_config=image, projection_dim=28))).to(dtype)
    reference.save_pretrained(folder)
    return reference


@torch.no_grad()
def check_transformers(reference, folder, model, tokenizer, length, dtype, mean, std):
    size = model.config.image_size
    images, pixels = pictures(size, dtype, mean, std)
    for texts in (TEXTS, TEXTS[:2]):
        ids = tokenizer(texts, length)
        out = reference(input_ids=published(ids, folder), pixel_values=pixels)
        image_features, text_features, logit_scale, *bias = model(images, ids)
        logits = logit_scale.exp() * image_features @ text_features.T + sum(bias)
        check(image_features, out.image_embeds, dtype)
        check(text_features, out.text_embeds, dtype)
        check(logits, out.logits_per_image, dtype)
    torch.testing.assert_close(model.encode_text(ids[:1]), out.text_embeds[:1], atol=PRECISION[dtype], rtol=0)


@each_precision
@pytest.mark.parametrize("sizes", CLIP_SIZES)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_clip_of_transformers_has_the_same_embeddings(sizes, activation, dtype, tmp_path):
    reference = transformers_clip(tmp_path, sizes, dtype, hidden_act=activation)
    model, tokenizer = load(tmp_path)
    assert model.config.activation == activation and not model.training
    for length in (CLIP_SIZES[sizes][1], 5):
        check_transformers(reference, tmp_path, model, tokenizer, length, dtype, pretrained.MEAN, pretrained.STD)


def transformers_siglip(folder, dtype=torch.float32, width=32, hidden=60, size=16, patch=8, length=16, layers=2):
    from transformers import SiglipConfig, SiglipModel

    entries = write_tokenizer("siglip", folder).get_vocab_size()
    both = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": hidden}
    ends = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1}
    text = {**both, **ends, "vocab_size": entries, "max_position_embeddings": length}
    image = {**both, "num_attention_heads": 2, "image_size": size, "patch_size": patch}
    reference = randomise(SiglipModel(SiglipConfig(text_config=text, vision_config=image))).to(dtype)
    reference.save_pretrained(folder)
    return reference


@each_precision
@pytest.mark.parametrize("sizes", [{}, {"width": 48, "hidden": 192, "size": 28, "patch": 14, "length": 9, "layers": 1}])
def test_a_siglip_of_transformers_has_the_same_embeddings(sizes, dtype, tmp_path):
    reference = transformers_siglip(tmp_path, dtype, **sizes)
    model, tokenizer = load_siglip(tmp_path)
    assert model.loss == "sigmoid" and model.config.image_pool == "map" and model.config.norm_eps == 1e-6
    for length in (model.config.context_length, 5):
        check_transformers(reference, tmp_path, model, tokenizer, length, dtype, [0.5] * 3, [0.5] * 3)


def test_a_config_may_leave_out_what_its_publisher_takes_for_granted(tmp_path):
    """As those of the first SigLIPs do."""
    reference = transformers_siglip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        del config[part]["hidden_act"], config[part]["layer_norm_eps"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, tokenizer = load(tmp_path)
    assert (model.config.activation, model.config.norm_eps) == ("gelu_tanh", 1e-6)
    check_transformers(reference, tmp_path, model, tokenizer, 16, torch.float32, [0.5] * 3, [0.5] * 3)


def test_what_a_preprocessor_takes_off_is_taken_off(tmp_path):
    reference = transformers_clip(tmp_path, "one layer")
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    model, tokenizer = load_openai_clip(tmp_path)
    assert model.config.image_mean == tuple(mean) and model.config.image_std == tuple(std)
    check_transformers(reference, tmp_path, model, tokenizer, 8, torch.float32, mean, std)


# --- OpenAI's and open_clip's layout

TEXT = {"width": 32, "heads": 4, "layers": 2, "context_length": 12}
TOWERS = {
    "vit": {
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16},
        "quick_gelu": True,
    },
    "large mlp": {
        "vision_cfg": {"image_size": 20, "layers": 1, "width": 48, "patch_size": 4, "head_width": 24, "mlp_ratio": 4.9},
    },
    "resnet": {
        "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None}, "quick_gelu": True,
    },
    "clipa": {
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 48, "patch_size": 4, "head_width": 12, "no_ln_pre": True,
                       "pool_type": "avg", "final_ln_after_pool": True, "pos_embed_type": "sin_cos_2d"},
        "text_cfg": {**TEXT, "pool_type": "last", "no_causal_mask": True, "hf_tokenizer_name": "bert-base-uncased",
                     "tokenizer_kwargs": {"strip_sep_token": True}},
    },
}  # fmt: skip


def open_clip_model(folder, tower, dtype=torch.float32):
    """A reference of open_clip, saved as `push_to_hf_hub` lays it out; its config."""
    open_clip_clip = pytest.importorskip("open_clip").model.CLIP
    made = write_tokenizer("bert" if tower == "clipa" else "clip", folder)
    model = json.loads(json.dumps({"embed_dim": 24, "text_cfg": dict(TEXT), **TOWERS[tower]}))
    model["text_cfg"]["vocab_size"] = made.get_vocab_size() + 7 * (tower == "clipa")  # CLIPA's has rows to spare
    reference = open_clip_clip(**model)
    positions = None if tower != "clipa" else reference.visual.positional_embedding.clone()
    randomise(reference)
    if positions is not None:
        with torch.no_grad():
            reference.visual.positional_embedding.copy_(positions)
    reference.to(dtype)
    seen = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]} if tower == "clipa" else {}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": seen}))
    save_file(
        {key: value.contiguous() for key, value in reference.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return reference


@torch.no_grad()
def check_open_clip(reference, folder, model, tokenizer, dtype, strip=False):
    images, pixels = pictures(model.config.image_size, dtype, model.config.image_mean, model.config.image_std)
    for texts in (TEXTS, TEXTS[:2]):
        ids = tokenizer(texts, 12)
        image_features, text_features, logit_scale = model(images, ids)
        check(image_features, reference.encode_image(pixels, normalize=True), dtype)
        check(text_features, reference.encode_text(published(ids, folder, strip), normalize=True), dtype)
        check(
            logit_scale.exp() * image_features @ text_features.T,
            reference.get_logits(pixels, published(ids, folder, strip))[0],
            dtype,
        )


@each_precision
@pytest.mark.parametrize("tower", TOWERS)
def test_a_model_of_open_clip_has_the_same_embeddings(tower, dtype, tmp_path):
    reference = open_clip_model(tmp_path, tower, dtype)
    model, tokenizer = load(tmp_path)
    check_open_clip(reference, tmp_path, model, tokenizer, dtype, strip=tower == "clipa")
    assert model.config.image_tower == ("resnet" if tower == "resnet" else "vit")
    if tower == "clipa":
        assert model.config.image_mean == (0.485, 0.456, 0.406) and model.config.text_pool == "last"


@each_precision
@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_openais_own_state_dict_has_the_same_embeddings(tower, dtype, tmp_path, monkeypatch):
    """Its heads have 64 dimensions, which no setting says."""
    monkeypatch.setitem(
        TOWERS,
        "vit",
        {"vision_cfg": {"image_size": 16, "layers": 2, "width": 128, "patch_size": 8}, "quick_gelu": True},
    )
    monkeypatch.setitem(TEXT, "width", 128), monkeypatch.setitem(TEXT, "heads", 2)
    reference = open_clip_model(tmp_path, tower, dtype)
    (tmp_path / "open_clip_config.json").unlink()
    extra = {"input_resolution": torch.tensor(16), "context_length": torch.tensor(12), "vocab_size": torch.tensor(500)}
    tensors = load_file(tmp_path / "open_clip_model.safetensors") | extra
    (tmp_path / "open_clip_model.safetensors").unlink()
    file = tmp_path / "ViT.safetensors"
    save_file(tensors, file)
    for place in (file, tmp_path):
        check_open_clip(reference, tmp_path, *load(place), dtype)
    file.unlink()
    torch.save(tensors, tmp_path / "ViT.pt")
    with pytest.raises(ValueError, match="ViT.pt is pickled and could run code, so it is not opened.*unpickle=True"):
        load_openai_clip(tmp_path)
    check_open_clip(reference, tmp_path, *load_openai_clip(tmp_path / "ViT.pt", unpickle=True), dtype)


def test_half_precision_is_widened(tmp_path):
    open_clip_model(tmp_path, "vit", torch.float16)
    model = load(tmp_path)[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# --- what is refused


def refused(place, *said, error=ValueError, **how):
    with pytest.raises(error) as caught:
        load(place, **how)
    assert all(words in str(caught.value) for words in (str(place), *said)), str(caught.value)


def change_tensors(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


BLOCK = "text_model.encoder.layers.1.layer_norm2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(f"{BLOCK}.weight"), "text_tower.blocks.1.norm2.weight"),
        (lambda t: t.pop("text_model.embeddings.token_embedding.weight"), "text_tower.token_embedding.weight"),
        (lambda t: t.pop("vision_model.encoder.layers.0.self_attn.v_proj.bias"), "v_proj.bias"),
        (lambda t: t.update({f"{BLOCK}.weight": torch.ones(7)}), "size mismatch for text_tower.blocks.1.norm2.weight"),
        (lambda t: t.update({"vision_model.registers": torch.ones(7)}), "image_tower.registers"),
        (lambda t: t.update({"text_model.embeddings.token_embedding.weight": torch.ones(99, 24)}), "out of bounds"),
        (lambda t: t.clear() or t.update({"lm_head.weight": torch.ones(3, 3)}), "token_embedding"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(change, said, tmp_path):
    transformers_clip(tmp_path)
    change_tensors(tmp_path / "model.safetensors", change)
    refused(tmp_path, said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(model_type="bert"), "its layout is bert"),
        (
            lambda c: c["text_config"].update(hidden_act="relu"),
            "hidden_act is quick_gelu for pictures and relu for texts",
        ),
        (
            lambda c: [c[part].update(hidden_act="relu") for part in ("text_config", "vision_config")],
            "activation 'relu'",
        ),
        (lambda c: c["vision_config"].update(num_attention_heads=5), "width 48 is not a multiple of heads 5"),
        (lambda c: c["vision_config"].update(num_attention_heads="2"), "unknown image_heads '2'"),
        (lambda c: c.update(text_config=3), "int"),
    ],
)
def test_a_config_that_describes_another_model_is_refused(change, said, tmp_path):
    transformers_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(tmp_path, said)


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("vision_cfg", {"timm_model_name": "vit_base"}, "sets timm_model_name to 'vit_base'"),
        ("text_cfg", {"pool_type": "first"}, "sets pool_type to 'first'"),
        ("text_cfg", {"no_causal_mask": True}, "neither goes alone"),
        ("vision_cfg", {"pool_type": "avg"}, "neither goes alone"),
        ("vision_cfg", {"head_width": 0}, "by zero"),
        ("text_cfg", {"heads": None}, "heads"),
    ],
)
def test_an_open_clip_that_these_towers_cannot_be_is_refused(part, changes, said, tmp_path):
    open_clip_model(tmp_path, "vit")
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["model_cfg"][part] |= changes
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    refused(tmp_path, said)


def test_files_that_are_none_are_refused(tmp_path):
    refused(tmp_path / "missing", "nor any of clip-b-32", error=FileNotFoundError)
    refused(tmp_path, "model.safetensors", error=FileNotFoundError)
    transformers_clip(tmp_path)
    with pytest.raises(ValueError, match="its layout is clip, not siglip"):
        load_siglip(tmp_path)
    with pytest.raises(ValueError, match="its layout is clip, not open_clip"):
        load_open_clip(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04no weights")
    refused(tmp_path, "holds no model")
    for content in ("{", "[" * 200_000, '{"model_type": "clip"}' + " " * 2**20):
        (tmp_path / "config.json").write_text(content)
        refused(tmp_path, "config.json is no JSON that could")
    (tmp_path / "config.json").write_text("[]")
    refused(tmp_path, "list")


@pytest.mark.parametrize(
    "content", ["{}", '{"model": {"type": "BPE", "vocab": {"a": 0}}}', '{"model": {"type": "Other"}}', "\x00"]
)
def test_a_tokenizer_that_is_none_is_refused(content, tmp_path):
    transformers_clip(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    refused(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    refused(tmp_path, "there is no tokenizer.json, merges.txt, spiece.model")


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_pickles_that_would_run_code_are_refused_even_where_pickles_are_asked_for(tmp_path):
    write_tokenizer("clip", tmp_path)
    torch.save({"visual.proj": Evil(tmp_path / "ran")}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "is pickled and could run code")
    refused(tmp_path / "model.pt", "it names", "torch.jit.load(file).state_dict()", unpickle=True)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "model.pt")  # as OpenAI's archives are
    refused(tmp_path / "model.pt", "it names", "torch.jit.load(file).state_dict()", unpickle=True)
    assert not (tmp_path / "ran").exists()


# --- the hub


def test_what_is_not_there_without_a_network_is_said(monkeypatch):
    import huggingface_hub

    def fails(name, allow_patterns):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    for read in (load, CLIP.from_pretrained):
        with pytest.raises(
            FileNotFoundError, match="could not be downloaded.*no route to host.*without a network, copy"
        ):
            read("someone/something")
    with pytest.raises(FileNotFoundError, match="google/siglip-base-patch16-224 is no folder here"):
        load("siglip-b-16")


def test_a_name_of_the_table_is_downloaded_once_small_then_with_its_weights(monkeypatch, tmp_path):
    import huggingface_hub

    transformers_siglip(tmp_path)
    asked = []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, allow_patterns: asked.append((name, allow_patterns)) or str(tmp_path),
    )
    model, _ = load("siglip-b-16")
    assert [name for name, _ in asked] == ["google/siglip-base-patch16-224"] * 2 and model.loss == "sigmoid"
    assert "model.safetensors" not in asked[0][1] and asked[1][1] == [*asked[0][1], "model.safetensors"]
    assert not [pattern for _, patterns in asked for pattern in patterns if "bin" in pattern or "pt" in pattern]


def command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(arguments))
        run_command(pretrained.convert)


def converted(tmp_path, make, *more):
    (tmp_path / "published").mkdir()
    reference = make(tmp_path / "published", *more)
    command("minclip.pretrained", str(tmp_path / "published"), "--output_dir", str(tmp_path / "ours"))
    return reference, tmp_path / "published", tmp_path / "ours"


@pytest.mark.parametrize("make", [transformers_clip, transformers_siglip, "clipa", "resnet"], ids=str)
def test_a_converted_model_is_a_folder_of_minclip(make, tmp_path):
    made = converted(tmp_path, *((open_clip_model, make) if isinstance(make, str) else (make,)))
    _, place, ours = made
    assert {file.name for file in ours.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    direct, tokenizer = load(place)
    for model, words in (load(ours), (CLIP.from_pretrained(ours), Tokenizer.load(ours / "tokenizer.json"))):
        assert model.config == direct.config and words.vocab_size == tokenizer.vocab_size
        assert torch.equal(words(TEXTS, 9), tokenizer(TEXTS, 9))
        images, ids = pictures(direct.config.image_size, torch.float32)[0], tokenizer(TEXTS, 9)
        for a, b in zip(model(images, ids), direct(images, ids)):
            assert torch.equal(a, b)


def test_the_command_lists_its_names_and_refuses_in_one_sentence(tmp_path, capsys):
    command("minclip.pretrained")
    table = capsys.readouterr().out
    assert all(name in table for name in SUPPORTED)
    new = ("--output_dir", str(tmp_path / "new"))
    for arguments in (
        (str(tmp_path / "missing"), *new),
        ("siglip-b-16",),
        ("siglip-b-16", "--output_dir", str(tmp_path)),
    ):
        with pytest.raises(SystemExit, match="^error: .*") as caught:
            command("minclip.pretrained", *arguments)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def some_pairs(*captions):
    images = torch.randint(256, (len(captions), 3, 16, 16), dtype=torch.uint8)
    return Pairs(images, list(captions), torch.full((len(captions),), -1), [], torch.arange(len(captions)))


def test_a_run_can_start_from_a_converted_model(tmp_path):
    from minclip.train import TrainConfig, train

    ours = converted(tmp_path, transformers_siglip)[2]
    start = CLIP.from_pretrained(ours)
    pairs = some_pairs(*([f"cats {i}"] for i in range(8)))
    config = TrainConfig(model=start.config, init_from=str(ours), output_dir=str(tmp_path / "run"), batch_size=4,
                         max_steps=1, lr=1e-12, muon_lr=0.0, early_image_size=0, progress=False, precision="fp32",
                         log_every=1)  # fmt: skip
    with pytest.raises(ValueError, match="activation is gelu_tanh there and gelu in this run"):
        start_from(build_clip(CLIPConfig("vit", vocab_size=start.config.vocab_size)), start)
    train(config, pairs=pairs)
    tuned, tokenizer = load(tmp_path / "run")
    ids = tokenizer(TEXTS, 16)
    torch.testing.assert_close(tuned.encode_text(ids), start.encode_text(ids), atol=1e-5, rtol=0)


def test_captions_keep_their_padding_where_the_last_position_is_pooled(tmp_path):
    transformers_siglip(tmp_path)
    model, tokenizer = load(tmp_path)
    pairs = some_pairs(["cats"], ["a red heart"])
    for pool, length in (("last", 16), ("eos", None)):
        shape = CLIPConfig(text_pool=pool, context_length=16)
        ids = tokenise(pairs, tokenizer, BatchConfig(model=shape)).pick(torch.arange(2), torch.zeros(2), 1.0)
        assert ids.shape[1] == (length or int((tokenizer(["a red heart"], 16) != PAD_ID).sum()))


def test_pushing_uploads_the_model_its_tokenizer_and_a_card(monkeypatch, tmp_path):
    import huggingface_hub.hub_mixin as mixin

    transformers_clip(tmp_path, "one layer")
    model, _ = load(tmp_path)
    model.trained = {"batch_size": 7, "max_steps": 8, "lr": 0.5, "data": "/home/someone"}
    seen = {}

    class Api:
        def __init__(self, **_):
            pass

        def create_repo(self, repo_id, **_):
            return type("Repo", (), {"repo_id": repo_id})()

        def upload_folder(self, folder_path, **_):
            seen.update({file.name: file.read_bytes() for file in Path(folder_path).iterdir()})

    monkeypatch.setattr(mixin, "HfApi", Api)
    model.push_to_hub("someone/hearts")
    assert set(seen) == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    card = seen["README.md"].decode()
    assert "library_name: minclip" in card and "unit vectors of 28 numbers" in card and "16 pixels" in card
    assert "batch_size 7, max_steps 8, lr 0.5" in card and "someone" not in card and "license:" not in card


def test_saving_a_run_writes_no_card_and_keeps_what_is_there(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"train": {"lr": 3}}))
    build_clip(CLIPConfig(vocab_size=300, image_width=8)).save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert CLIP.from_pretrained(tmp_path).trained == {"lr": 3}


# --- pictures, and what the table says


@pytest.mark.parametrize("side", [224, 300, 97])
def test_square_pictures_are_prepared_as_by_the_published_processors(side):
    from minclip.data import plain
    from minclip.sources import decode_picture

    waves = np.add.outer(np.sin(np.arange(side) / 9), np.cos(np.arange(side) / 13))
    picture = Image.fromarray(((waves[..., None] * [40, 50, 60] + 128).clip(0, 255)).astype("uint8"))
    content = io.BytesIO()
    picture.save(content, "PNG")
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64)
    theirs = torch.as_tensor(np.array(processor(picture, return_tensors="np")["pixel_values"]))[0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (pretrained.MEAN, pretrained.STD))
    ours = plain(decode_picture(content.getvalue(), 64)[None], 64)[0] / 2 + 0.5
    assert (ours - (theirs * std + mean)).abs().max() < 2.01 / 255


COMMON = {"image_tower": "vit", "image_pool": "cls", "vocab_size": 49_409, "text_layers": 12, "context_length": 77}
BASE = {**COMMON, "image_width": 768, "image_layers": (12,), "heads": 12}
LARGE = {**COMMON, "image_width": 1024, "image_layers": (24,), "image_heads": 16, "heads": 12, "text_width": 768}
SIGLIP = {
    "image_pool": "map",
    "loss": "sigmoid",
    "projection_bias": "text",
    "image_norms": "after",
    "vocab_size": 32_001,
}
SIGLIP |= {"context_length": 64}
CLIPA = {"image_pool": "cls_mean", "image_norms": "after", "vocab_size": 30_522, "context_length": 32, "patch_size": 14}
SHAPES = {
    "clip-b-32": {**BASE, "patch_size": 32, "text_width": 512, "heads": 8, "embed_dim": 512, "image_heads": 12},
    "clip-b-16": {**BASE, "patch_size": 16, "text_width": 512, "heads": 8, "embed_dim": 512, "image_heads": 12},
    "clip-l-14": {**LARGE, "patch_size": 14, "embed_dim": 768},
    "clip-rn50": {**COMMON, "image_tower": "resnet", "image_width": 64, "image_layers": (3, 4, 6, 3), "stem_stride": 4,
                  "text_width": 512, "heads": 8, "embed_dim": 1024, "projection_bias": "image"},
    "siglip-b-16": {**BASE, **SIGLIP, "patch_size": 16, "text_width": 768, "embed_dim": 768},
    "siglip-l-16": {**LARGE, **SIGLIP, "patch_size": 16, "heads": 16, "text_width": 1024, "text_layers": 24,
                    "embed_dim": 1024},
    "siglip-so400m-14": {**SIGLIP, "image_tower": "vit", "image_width": 1152, "image_layers": (27,), "heads": 16,
                         "image_hidden": 4304, "text_hidden": 4304, "patch_size": 14, "text_width": 1152,
                         "text_layers": 27, "embed_dim": 1152},
    "laion-b-32": {**BASE, "patch_size": 32, "text_width": 512, "heads": 8, "embed_dim": 512, "image_heads": 12},
    "clipa-l-14": {**LARGE, **CLIPA, "embed_dim": 768},
    "clipa-h-14": {**LARGE, **CLIPA, "image_width": 1280, "image_layers": (32,), "text_width": 1024, "text_layers": 24,
                   "heads": 16, "embed_dim": 1024},
}  # fmt: skip


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_table_tells_how_large_a_model_is(name):
    size = SUPPORTED[name]["pixels"]
    with torch.device("meta"):
        model = build_clip(CLIPConfig(image_size=size, **SHAPES[name]))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == SUPPORTED[name]["millions_of_parameters"]
