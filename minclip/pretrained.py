"""Published weights in minclip's towers: OpenAI's CLIP, SigLIP, and open_clip's, CLIPA among them.

    python -m minclip.pretrained                                         # the names that are known
    python -m minclip.pretrained siglip-b-16 --output_dir runs/siglip    # as a folder of minclip, as for --init_from

Publishers call the same tensors by other names, so loading is renaming (NAMES), and the shape follows from the tensors.
What can be said in two ways is said in ours, and the embeddings stay the same:

- A bias of the patches is added to their positions: two things that are always added are one.
- Where there is no projection (SigLIP's image tower), the identity is one.
- Ids 0, 1 and 2 are pad, start and end here. So the rows of the token embedding change places, and a special token that
  stands for two things (SigLIP pads with its end token) has a row for each.

Pictures are cut to their centre square, as CLIP's are. SigLIP and CLIPA squeeze what is not square instead.
"""

import json
import math
import re
from pathlib import Path

import torch
import tyro
from torch import Tensor

from minclip.checkpoint import read_pickle
from minclip.clip import CLIP, CLIPConfig, build_clip
from minclip.hub import download, read_json
from minclip.runs import run_command
from minclip.sources import EMOJI_DIR
from minclip.tokenizer import END, MAX_FILE, PAD, START, Tokenizer, empty_bpe

SUPPORTED = json.loads((EMOJI_DIR / "published_models.json").read_text(encoding="utf-8"))  # name: its repository, ...
SMALL = ("*.json", "merges.txt", "spiece.model")  # what is beside the weights
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")
NAMES = [  # regular expressions, and what stands for them here, in this order
    (r"^text\.", ""), (r"^visual_projection|^visual\.attnpool\.c_proj", "image_projection"),
    (r"^visual\.proj$", "image_projection.weight"), (r"^text_projection$", "text_projection.weight"),
    (r"^text_model\.head", "text_projection"), (r"^vision_model\.head", "image_tower.map_pool"),
    (r"^(visual|vision_model)\.", "image_tower."), (r"embeddings\.", ""), (r"class_emb", "cls_emb"),
    (r"^text_model\.|^(?=transformer|token_|positional|ln_f)", "text_tower."), (r"downsample", "shortcut"),
    (r"(encoder\.layers|transformer\.resblocks)\.", "blocks."), (r"(blocks\.\d+\.)(ln_|layer_norm)", r"\1norm"),
    (r"position(al)?_embedding(\.weight)?$", "position_embedding"), (r"(self_)?attn\.in_proj_", "qkv."),
    (r"(self_)?attn\.out_proj", "attention_out"), (r"self_attn\.", ""), (r"pool\.layernorm", "pool.norm"),
    (r"(pool\.mlp\.)fc1", r"\g<1>0"), (r"(pool\.mlp\.)fc2", r"\g<1>2"), (r"mlp\.(c_fc|fc1)", "mlp_in"),
    (r"mlp\.(c_proj|fc2)", "mlp_out"), (r"pre_layrnorm|ln_pre", "norm_in"), (r"attnpool\.k_proj", "pool.key"),
    (r"post_layernorm|ln_post|final_layer_norm|ln_final", "norm_out"), (r"attnpool\.q_proj", "pool.query"),
    (r"attnpool\.v_proj", "pool.value"), (r"attnpool", "pool"), (r"\.(\d+)\.bn(\d)", r".\1.norm\2"),
    (r"tower\.(conv|bn)(\d)", lambda m: f"tower.stem.{3 * int(m[2]) - (3 if m[1] == 'conv' else 2)}"),
]  # fmt: skip
HALF, MEAN, STD = (0.5,) * 3, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LAYOUTS = {  # our settings for OpenAI's layout and those of transformers, whose config.json may say otherwise
    "openai": {"activation": "quick_gelu", "image_mean": MEAN, "image_std": STD},
    "clip": {"activation": "quick_gelu", "image_mean": MEAN, "image_std": STD},
    "siglip": {"activation": "gelu_tanh", "image_mean": HALF, "image_std": HALF, "norm_eps": 1e-6, "text_pool": "last"},
}
OPEN_CLIP = """embed_dim quick_gelu vision_cfg text_cfg custom_text init_logit_scale init_logit_bias image_size layers
    width heads head_width mlp_ratio patch_size no_ln_pre final_ln_after_pool pos_embed_type context_length vocab_size
    proj_bias hf_tokenizer_name tokenizer_kwargs no_causal_mask pool_type=tok pool_type=avg
    pool_type=argmax pool_type=last"""


def load(name: str | Path, unpickle: bool = False, layout: str = "") -> tuple[CLIP, Tokenizer]:
    """A model in evaluation mode, and its tokenizer: by a name of SUPPORTED, a repository of the hub, or a local path.

    name: what it leads to may be a folder of minclip, one in the layout of transformers (CLIP, SigLIP) or open_clip, or
    OpenAI's original state dict (a file with the tokenizer's beside it, or their folder). unpickle: read weights that
    are pickled, too, with torch's `weights_only`; without it they are refused. layout: minclip, clip, siglip, open_clip
    or openai; default: what is found. Raises FileNotFoundError for what is not there, and ValueError for what is no
    model that these towers can hold; both say where, and what is wrong.
    """
    repository = SUPPORTED.get(str(name), {"repository": name})["repository"]
    folder = download(repository, SMALL)
    if not folder.exists():
        raise FileNotFoundError(f"{name} is no file, folder or repository, nor any of {', '.join(SUPPORTED)}")
    try:
        config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        found = "minclip" if "model" in config else config.get("model_type", "openai")
        if found not in ("minclip", "clip", "siglip") and (folder / "open_clip_config.json").is_file():
            found = "open_clip"  # after the others, since some repositories hold two layouts
        if found != (layout or found) or found not in ("minclip", "open_clip", *LAYOUTS):
            raise ValueError(f"its layout is {found}, not {layout or 'one that is known'}")
        folder = download(repository, (*SMALL, weights := WEIGHTS[found == "open_clip"]))
        if found == "minclip":
            model, tokenizer = CLIP.from_pretrained(folder), Tokenizer.load(folder / "tokenizer.json")
        else:
            settings = open_clip_settings(folder) if found == "open_clip" else settings_of(folder, config, found)
            t = rename(read_tensors(folder, weights, unpickle))
            tokenizer, rows = read_tokenizer(folder if folder.is_dir() else folder.parent, settings.pop("strip", False))
            t["text_tower.token_embedding.weight"] = t["text_tower.token_embedding.weight"][rows]
            with torch.device("meta"):
                model = build_clip(CLIPConfig(**{**shape_of(t), **settings, "vocab_size": len(rows)}))
            model.load_state_dict(t, assign=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # what a stranger's files can lead to
        said = f"{error} is missing, or has another name" if isinstance(error, KeyError) else f"{error!s:.1000}"
        raise ValueError(f"{folder} holds no model that minclip's towers can be: {said}") from error
    model.tokenizer = tokenizer
    return model.eval(), tokenizer


def load_openai_clip(place: str | Path, unpickle: bool = False) -> tuple[CLIP, Tokenizer]:
    """OpenAI's CLIP: a folder in the layout of transformers, or the original state dict (see `load`)."""
    return load(place, unpickle, "clip" if (Path(place) / "config.json").is_file() else "openai")


def load_siglip(place: str | Path) -> tuple[CLIP, Tokenizer]:
    """SigLIP: a folder in the layout of transformers (see `load`)."""
    return load(place, layout="siglip")


def load_open_clip(place: str | Path, unpickle: bool = False) -> tuple[CLIP, Tokenizer]:
    """A folder of open_clip whose towers are its own ViT or ResNet (not timm's) and text tower (see `load`)."""
    return load(place, unpickle, "open_clip")


def settings_of(folder: Path, config: dict, layout: str) -> dict:
    """What the tensors do not tell of a CLIP or SigLIP, from transformers' config.json and preprocessor_config.json."""
    image, text = config.get("vision_config", {}), config.get("text_config", {})
    file = folder / "preprocessor_config.json"
    for key in ("hidden_act", "layer_norm_eps"):
        if image.get(key) != text.get(key):
            raise ValueError(f"{key} is {image.get(key)} for pictures and {text.get(key)} for texts; ours is one")
    activation = text.get("hidden_act", "").replace("gelu_pytorch", "gelu")
    found = {"activation": activation, "norm_eps": text.get("layer_norm_eps")}
    found |= {"image_heads": image.get("num_attention_heads"), "heads": text.get("num_attention_heads")}
    seen = read_json(file) if file.is_file() else {}
    found |= {key: tuple(map(float, seen.get(key, ()))) for key in ("image_mean", "image_std")}
    return LAYOUTS[layout] | {key: value for key, value in found.items() if value}


def open_clip_settings(folder: Path) -> dict:
    """The same from open_clip_config.json, and `strip`: whether texts end in padding."""
    content = read_json(folder / "open_clip_config.json")
    model, seen = content["model_cfg"], content.get("preprocess_cfg", {})
    image, text = model["vision_cfg"], model["text_cfg"]
    for key, value in [*model.items(), *image.items(), *text.items()]:
        if value is not None and not {key, f"{key}={value}"} & set(OPEN_CLIP.split()):
            raise ValueError(f"open_clip_config.json sets {key} to {value!r:.80}, which minclip's towers do not have")
    mean, last = image.get("pool_type") == "avg", text.get("pool_type") == "last"
    if (last, mean) != (text.get("no_causal_mask", False), image.get("final_ln_after_pool", False)):
        raise ValueError("pool_type last needs no_causal_mask, avg needs final_ln_after_pool; neither goes alone")
    return {
        "activation": "quick_gelu" if model.get("quick_gelu") else "gelu", "text_pool": "last" if last else "eos",
        "heads": text["heads"], "image_heads": image["width"] // image.get("head_width", 64),
        "image_mean": tuple(seen.get("mean", MEAN)), "image_std": tuple(seen.get("std", STD)),
        "strip": text.get("tokenizer_kwargs", {}).get("strip_sep_token", False),
    } | ({"image_pool": "cls_mean"} if mean else {})  # fmt: skip


def read_tensors(place: Path, name: str, unpickle: bool) -> dict[str, Tensor]:
    """Every tensor of a file, or of the one in a folder that holds weights, if need be in float32."""
    from safetensors.torch import load_file

    pickles = [file for file in sorted(place.glob("*")) if file.suffix in (".bin", ".pt", ".pth")]
    files = [place / name, *sorted(place.glob("*.safetensors")), *pickles] if place.is_dir() else [place]
    file = next((file for file in files if file.is_file()), place / name)
    if file.suffix != ".safetensors" and not unpickle:
        hint = "if you trust it, pass unpickle=True (--unpickle), and nothing but tensors is read from it"
        raise ValueError(f"{file.name} is pickled and could run code, so it is not opened; {hint}")
    tensors = load_file(file) if file.suffix == ".safetensors" else read_pickle(file)
    tensors = tensors.get("state_dict", tensors)
    return {key: value.float() if value.itemsize < 4 else value.clone() for key, value in tensors.items()}


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names and in our shapes. Raises KeyError for one that is missing."""
    t, found = {}, re.findall(r"visual\.layer(\d+)\.(\d+)\.", " ".join(tensors))
    stages = sorted({(int(stage), int(block)) for stage, block in found})  # of a ResNet: its blocks are counted through
    for key, value in tensors.items():
        name = re.sub(r"layer(\d+)\.(\d+)", lambda m: f"blocks.{stages.index((int(m[1]), int(m[2])))}", key)
        for pattern, by in NAMES:
            name = re.sub(pattern, by, name)
        name = name if stages else name.replace("tower.stem.0.", "tower.patch_embedding.")
        if not re.search(r"position_ids|input_resolution|context_length|vocab_size|attn_mask", name):
            t[name] = value.T.contiguous() if key.endswith(("visual.proj", "text_projection")) else value
    for name in [name for name in t if ".q_proj." in name]:
        t[name.replace("q_proj", "qkv")] = torch.cat([t.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"])
    t |= {name: t[name].reshape(()) for name in ("logit_scale", "logit_bias") if name in t}
    if (bias := t.pop("image_tower.patch_embedding.bias", None)) is not None:
        t["image_tower.position_embedding"] = t["image_tower.position_embedding"] + bias
    if "image_projection.weight" not in t and "image_tower.norm_out.bias" in t:
        t["image_projection.weight"] = torch.eye(len(t["image_tower.norm_out.bias"])).to(t["image_tower.norm_out.bias"])
    return t


def shape_of(t: dict[str, Tensor]) -> dict:
    """The settings of CLIPConfig that follow from the tensors. Raises KeyError for one that is missing."""
    depth = lambda tower: len({m[1] for key in t if (m := re.match(tower + r"_tower\.blocks\.(\d+)\.", key))})  # noqa: E731
    hidden = lambda tower, w: (n := len(t[f"{tower}_tower.blocks.0.mlp_in.bias"])) * (n != 4 * w)  # noqa: E731
    context_length, width = t["text_tower.position_embedding"].shape
    shape = {
        "context_length": context_length, "text_width": width, "text_layers": depth("text"),
        "embed_dim": len(t["text_projection.weight"]), "loss": "sigmoid" if "logit_bias" in t else "softmax",
        "projection_bias": next((part for part in ("image", "text") if f"{part}_projection.bias" in t), "none"),
        "text_hidden": hidden("text", width), "heads": max(1, width // 64),
    }  # fmt: skip
    if "image_tower.stem.6.weight" in t:
        starts = [n for n in range(depth("image")) if f"image_tower.blocks.{n}.shortcut.0.weight" in t]
        layers = tuple(b - a for a, b in zip(starts, [*starts[1:], depth("image")]))
        side = math.isqrt(len(t["image_tower.pool.position_embedding"])) * 2 ** (len(layers) + 1)
        shape |= {"image_width": len(t["image_tower.stem.6.weight"]), "stem_stride": 4}
        return shape | {"image_tower": "resnet", "image_layers": layers, "image_size": side}
    width, _, _, patch_size = t["image_tower.patch_embedding.weight"].shape
    side = math.isqrt(len(t["image_tower.position_embedding"])) * patch_size  # isqrt: a class token is no square's
    return shape | {
        "image_tower": "vit", "image_width": width, "patch_size": patch_size, "image_size": side,
        "image_layers": (depth("image"),), "image_heads": max(1, width // 64), "image_hidden": hidden("image", width),
        "image_norms": "both" if "image_tower.norm_in.weight" in t else "after",
        "image_pool": "map" if "image_tower.map_pool.probe" in t else "cls",
    }  # fmt: skip


def read_tokenizer(folder: Path, strip: bool) -> tuple[Tokenizer, list[int]]:
    """The tokenizer in a folder, with our ids, and for each of these the row that it has in the published embedding.

    Read are tokenizer.json, vocab.json with merges.txt (CLIP), or spiece.model (SigLIP; this one with the library
    sentencepiece). strip: texts end in padding (CLIPA).
    """
    from tokenizers import models

    names, merges = ("tokenizer.json", "merges.txt", "spiece.model"), []
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    if file is None or file.stat().st_size > MAX_FILE:
        raise ValueError(f"there is no {', '.join(names)} of at most {MAX_FILE:,} bytes; copy that of the model there")
    if file.suffix == ".json":
        model = read_json(file, MAX_FILE)["model"]
        kind, vocabulary = {"BPE": "clip", "WordPiece": "bert", "Unigram": "siglip"}[model["type"]], model["vocab"]
        merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model.get("merges", [])]
    elif file.suffix == ".txt":
        kind, (vocabulary, merges) = "clip", models.BPE.read_file(str(folder / "vocab.json"), str(file))
    else:
        from sentencepiece import SentencePieceProcessor

        kind, model = "siglip", SentencePieceProcessor(model_file=str(file))
        vocabulary = [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model))]
    scores = dict(map(tuple, vocabulary)) if kind == "siglip" else {}
    vocabulary = {piece: i for i, piece in enumerate(scores)} if scores else vocabulary
    special = {
        "clip": ["<|endoftext|>", "<|startoftext|>", "<|endoftext|>"], "siglip": ["</s>", "</s>", "</s>", "<unk>"],
        "bert": ["[PAD]", "[CLS]", "[PAD]" if strip else "[SEP]"],
    }[kind]  # fmt: skip
    rest = [piece for piece in sorted(vocabulary, key=vocabulary.get) if piece not in (*special, PAD, START, END)]
    pieces = [PAD, START, END, *special[3:], *rest]
    pieces = [(piece, scores.get(piece, 0.0)) for piece in pieces] if scores else pieces
    return Tokenizer(empty_bpe(kind, pieces, merges)), [vocabulary[piece] for piece in (*special, *rest)]


def convert(name: tyro.conf.Positional[str] = "", output_dir: str = "", unpickle: bool = False) -> None:
    """Published weights as a folder of minclip; without a name, the names that are known.

    Args:
        name: one of the table, a repository of the hub, a folder, or a file
        output_dir: where the converted model goes
        unpickle: read pickled weights, too: tensors alone, no code
    """
    for known, row in [] if name else SUPPORTED.items():
        print(f"{known:18s}{row['pixels']} px{row['millions_of_parameters']:5d} M  {row['repository']}")
    if name and (not output_dir or Path(output_dir).exists()):
        raise ValueError(f"output_dir {output_dir!r} exists, or is not given; choose a new --output_dir")
    if name:
        load(name, unpickle)[0].save_pretrained(output_dir, model_card_kwargs={"title": name})


if __name__ == "__main__":
    run_command(convert)
