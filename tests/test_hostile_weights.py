"""Folders from strangers: refused with the file's name and a reason, no code run, memory bounded."""

import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from minclip.clip import ALLOWED, CLIP, MAX_PARAMETERS, CLIPConfig, build_clip, check_shape

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "soak"))

import weights  # noqa: E402

SHAPE = CLIPConfig(
    "vit", image_size=16, image_width=16, image_layers=(1,), vocab_size=300, text_width=16, text_layers=1
)


@pytest.fixture
def folder(tmp_path):
    """A model that loads."""
    torch.manual_seed(0)
    build_clip(SHAPE).save_pretrained(tmp_path)
    return tmp_path


def change_config(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    content["model"] |= changes
    (folder / "config.json").write_text(json.dumps(content))


def refused(folder, *said, file="config.json", error=ValueError):
    """Loading fails, and the message names the file and says these words; returns the message."""
    with pytest.raises(error) as caught:
        CLIP.from_pretrained(folder)
    message = str(caught.value)
    assert str(folder) in message and file in message and len(message) < 2000
    assert all(words in message for words in said), message
    return message


# --- config.json


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth": 12}, "unknown setting 'depth'"),
        ({"x" * 10_000: 1}, "unknown setting 'xxx"),
        ({"__class__": "os.system"}, "unknown setting '__class__'"),
        ({"text_width": "64"}, "unknown text_width '64'; choose from 1 to 16384"),
        ({"text_width": 64.0}, "unknown text_width 64.0"),
        ({"text_width": None}, "unknown text_width None"),
        ({"heads": True}, "unknown heads True; choose from 1 to 256"),
        ({"heads": [4]}, "unknown heads [4]"),
        ({"text_layers": -1}, "unknown text_layers -1; choose from 1 to 128"),
        ({"text_layers": 10**9}, "unknown text_layers 1000000000"),
        ({"vocab_size": 10**12}, "unknown vocab_size 1000000000000"),
        ({"embed_dim": 10**400}, "unknown embed_dim 1000"),
        ({"patch_size": 0}, "unknown patch_size 0"),
        ({"image_size": float("inf")}, "unknown image_size inf"),
        ({"dropout": float("nan")}, "unknown dropout nan; choose from numbers from 0 to under 1"),
        ({"dropout": 1.0}, "unknown dropout 1.0"),
        ({"dropout": False}, "unknown dropout False"),
        ({"stem_stride": 3}, "unknown stem_stride 3; choose from 1, 2, 4"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; choose from softmax, sigmoid"),
        ({"image_pool": {"cls": 1}}, "unknown image_pool {'cls': 1}; choose from cls, mean, map"),
        ({"norm": "x" * 100_000}, "unknown norm 'xxx"),
        (
            {"image_layers": [1] * 100_000},
            "unknown image_layers [1, 1, 1, 1, 1, 1, ...]; choose from lists of at most 8",
        ),
        ({"image_layers": [10**9]}, "that sum to at most 128"),
        ({"image_layers": [1, True]}, "unknown image_layers [1, True]"),
        ({"image_layers": [0]}, "unknown image_layers [0]"),
        ({"image_layers": "11"}, "image_layers"),
        ({"image_layers": 3}, "image_layers"),
        ({"image_size": 30}, "image_size 30 is not a multiple of patch_size 4"),
        ({"text_width": 30, "heads": 4}, "width 30 is not a multiple of heads 4"),
        ({"patch_size": 1, "image_size": 1024, "image_positions": "sincos"}, "more than 16,384 patches"),
        ({"text_width": 16_384, "text_layers": 128}, f"parameters; MAX_PARAMETERS is {MAX_PARAMETERS:,}"),
        ({"text_width": 16_384, "vocab_size": 2_000_000}, "parameters; MAX_PARAMETERS is 2,000,000,000"),
        (
            {"image_tower": "resnet", "image_width": 16_384, "image_size": 1024, "image_layers": [1] * 7},
            "it asks for 86,494,727,344,433 parameters",
        ),
    ],
)
def test_a_setting_that_is_none_is_named_at_once(folder, changes, said):
    change_config(folder, **changes)
    began = time.perf_counter()
    refused(folder, "does not describe a minclip model", said)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("no json", "Expecting value"),
        ("[]", "list indices"),
        ("3", "not subscriptable"),
        ("{}", "'model'"),
        ('{"model": []}', "has no attribute 'items'"),
        ('{"model": "vit"}', "has no attribute 'items'"),
        ("[" * 200_000, "recursion"),
        ('{"model": {"heads": ' + "9" * 5000 + "}}", "heads"),
        ('{"model": {}}' + " " * 2**20, "larger than 1,048,576 bytes"),
        (b"\xff\xfe{}", "codec"),
    ],
)
def test_a_config_that_is_none_is_named(folder, text, said):
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refused(folder, "does not describe a minclip model")
    assert said in message or "4300 digits" in message  # how Python refuses numbers that are too long to read


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-1, 200), max_size=9),
)


@given(st.dictionaries(st.sampled_from([*ALLOWED, "other"]), ODD_VALUES, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, database=None, derandomize=True)
def test_any_settings_are_a_model_or_a_value_error(shape):
    try:
        check_shape(shape)
    except ValueError:
        return
    known = {"image_width": 16, "text_width": 16, **{key: value for key, value in shape.items()}}
    if "image_layers" in known:
        known["image_layers"] = tuple(known["image_layers"])
    assert "other" not in known and all(type(value) is not bool for value in known.values())
    try:
        with torch.device("meta"):
            build_clip(CLIPConfig(**known))
    except ValueError:
        pass  # such as a width that the heads do not divide


def test_an_older_config_gets_the_defaults_of_what_it_lacks(folder):
    content = json.loads((folder / "config.json").read_text())
    for key in ("image_positions", "dropout", "stem_stride"):
        del content["model"][key]
    (folder / "config.json").write_text(json.dumps(content))
    assert CLIP.from_pretrained(folder).config == SHAPE


def test_what_could_not_be_loaded_cannot_be_built():
    for changes in ({"text_layers": 129}, {"image_width": -4}, {"image_layers": (1,) * 9}, {"dropout": 1.5}):
        with pytest.raises(ValueError, match=f"unknown {next(iter(changes))}"):
            build_clip(CLIPConfig("vit", **changes))


# --- model.safetensors


def head(file):
    """A safetensors file's header, its text's length, and the data."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), length, data[8 + length :]


def rewrite(file, header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


FIT = "does not fit its config.json"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("empty", "0 bytes"),
        ("seven bytes", "7 bytes"),
        ("no json", FIT),
        ("long header", "999,999,999,999 of them for the header"),
        ("short header", FIT),
        ("overlap", FIT),
        ("hole", FIT),
        ("beyond", FIT),
        ("negative", FIT),
        ("cut", FIT),
        ("longer", FIT),
        ("deep", FIT),
        ("many names", FIT),
        ("huge shape", FIT),
        ("zeros", FIT),
    ],
)
def test_a_damaged_file_of_weights_is_named(folder, what, said):
    file = folder / "model.safetensors"
    header, length, data = head(file)
    first, second = sorted(
        (name for name in header if name != "__metadata__"), key=lambda n: header[n]["data_offsets"]
    )[:2]
    begin, end = header[second]["data_offsets"]
    if what in ("empty", "seven bytes"):
        file.write_bytes(b"" if what == "empty" else b"\x01" + b"\0" * 6)
    elif what == "no json":
        rewrite(file, b"{" * length, data)
    elif what in ("long header", "short header"):
        rewrite(file, header, data, 999_999_999_999 if what == "long header" else length - 10)
    elif what in ("overlap", "hole", "beyond", "negative"):
        shift = {"overlap": -4, "hole": 4, "beyond": 10**9, "negative": -(10**9)}[what]
        header[second]["data_offsets"] = [begin + shift, end + shift]
        rewrite(file, header, data)
    elif what in ("cut", "longer"):
        rewrite(file, header, data[:-4] if what == "cut" else data + b"\0" * 4)
    elif what == "deep":
        rewrite(file, b"[" * 100_000 + b"]" * 100_000, data)
    elif what == "many names":
        header |= {f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}
        rewrite(file, header, data)
    elif what == "huge shape":
        header[first]["shape"] = [2**62, 2**62]
        rewrite(file, header, data)
    elif what == "zeros":
        file.write_bytes(bytes(file.stat().st_size))
    refused(folder, said, file="model.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("logit_scale"), 'Missing key(s) in state_dict: "logit_scale"'),
        (lambda t: t.update(evil=torch.ones(2)), 'Unexpected key(s) in state_dict: "evil"'),
        (lambda t: t.update({"logit_scale": torch.ones(2)}), "size mismatch for logit_scale"),
        (lambda t: t.update({"image_projection.weight": t["image_projection.weight"].T.contiguous()}), "size mismatch"),
        (lambda t: t.update({"logit_scale": t["logit_scale"].double()}), "is torch.float32, logit_scale torch.float64"),
        (lambda t: t.update({"logit_scale": torch.tensor(1)}), "logit_scale"),
        (lambda t: t.update({k: v.to(torch.complex64) for k, v in t.items()}), "complex64"),
        (lambda t: t["image_projection.weight"].view(-1)[3:4].fill_(float("nan")), "image_projection.weight"),
        (
            lambda t: t["text_projection.weight"].view(-1)[:1].fill_(float("-inf")),
            "NaN or infinite number in text_proj",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, change, said):
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, said, file="model.safetensors")


def test_counts_of_a_batch_norm_must_be_whole_numbers(tmp_path):
    build_clip(CLIPConfig(image_size=16, image_width=8, image_layers=(1, 1), vocab_size=300)).save_pretrained(tmp_path)
    tensors = {name: tensor.clone() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file({k: v.float() for k, v in tensors.items()}, tmp_path / "model.safetensors")
    refused(tmp_path, "num_batches_tracked is torch.float32", file="model.safetensors")
    tensors["image_tower.stem.1.running_var"].fill_(float("inf"))
    save_file(tensors, tmp_path / "model.safetensors")
    refused(tmp_path, "NaN or infinite number in image_tower.stem.1.running_var", file="model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_load_as_they_are(dtype, tmp_path):
    model = build_clip(SHAPE).to(dtype)
    model.save_pretrained(tmp_path)
    loaded = CLIP.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype and torch.equal(loaded.state_dict()[name], tensor)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_loaded_model_no_longer_needs_its_file(folder):
    """safetensors maps the file: without a copy, cutting it would kill the process, and a change would change us."""
    model = CLIP.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with open(folder / "model.safetensors", "r+b") as file:
        file.write(bytes((folder / "model.safetensors").stat().st_size))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# --- code in disguise


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def disguised(path, kind, marker):
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(marker)))
    elif kind == "torch":
        torch.save({"logit_scale": torch.ones(()), "evil": Evil(marker)}, path)
    else:  # a zip bomb
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model/data.pkl", bytes(10_000_000))


@pytest.mark.parametrize("kind", ["pickle", "torch", "bomb"])
def test_a_pickle_by_the_name_of_safetensors_is_refused(folder, kind, tmp_path):
    disguised(folder / "model.safetensors", kind, tmp_path / "ran")
    refused(folder, "is it a safetensors file?", file="model.safetensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "last.ckpt"])
def test_a_folder_of_pickles_is_refused_and_none_is_opened(folder, name):
    (folder / "model.safetensors").unlink()
    disguised(folder / name, "torch", folder / "ran")
    opened = []
    AUDITED.append(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    try:
        said = (f"{name} could run code, so it is not opened", "weights_only=True", "safetensors.torch.save_file")
        refused(folder, *said, file="model.safetensors", error=FileNotFoundError)
        (folder / "config.json").read_text()
    finally:
        AUDITED.clear()
    assert any(path.endswith("config.json") for path in opened)  # the audit hears
    assert not any(path.endswith(name) for path in opened) and not (folder / "ran").exists()


AUDITED = []
sys.addaudithook(lambda event, args: [hear(event, args) for hear in AUDITED])


def test_what_is_no_file_is_missing(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")  # opening it would wait for ever
    refused(folder, "does not hold model.safetensors", file="model.safetensors", error=FileNotFoundError)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    refused(folder, "does not hold config.json", error=FileNotFoundError)


# --- memory, in a process of its own


def measured(script, *arguments):
    """Runs a script that ends with printing JSON, in a process with 512 MB of addresses beyond what torch takes."""
    start = f"""
        import json, re, resource, sys, time
        import torch
        from minclip.clip import CLIP, CLIPConfig, build_clip
        from minclip.tokenizer import Tokenizer
        import safetensors.torch, tokenizers
        torch.set_num_threads(1)
        build_clip(CLIPConfig())
        def memory(what):
            return 1024 * int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + 512 * 2**20, resource.RLIM_INFINITY))
        folder, *rest = {list(map(str, arguments))!r}
    """
    code = textwrap.dedent(start) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@needs_proc
def test_a_refusal_takes_no_memory_and_no_time(folder):
    (folder / "tokenizer.json").touch()
    os.truncate(folder / "tokenizer.json", 10**9)  # 1 GB that the disk does not hold
    script = """
        shape = json.load(open(folder + "/config.json"))["model"]
        asked = [
            {"text_width": 16_384, "text_layers": 128}, {"text_layers": 10**9}, {"vocab_size": 10**12},
            {"text_width": 16_384, "vocab_size": 2_000_000}, {"image_layers": [10**9] * 8},
            {"text_width": 1024, "text_layers": 128},  # 1.6 billion are allowed, but the file does not hold them
        ]
        before, said, seconds = memory("VmHWM"), [], []
        def attempt(load, path):
            began = time.perf_counter()
            try:
                load(path)
                said.append("loaded")
            except ValueError as error:
                said.append(str(error))
            seconds.append(time.perf_counter() - began)
        for changes in asked:
            open(folder + "/config.json", "w").write(json.dumps({"model": {**shape, **changes}}))
            attempt(CLIP.from_pretrained, folder)
        open(folder + "/config.json", "w").write(json.dumps({"model": shape}))
        with open(folder + "/model.safetensors", "r+b") as file:
            file.truncate(10**12)  # 1 TB that the disk does not hold
        attempt(CLIP.from_pretrained, folder)
        attempt(Tokenizer.load, folder + "/tokenizer.json")
        print(json.dumps([said, seconds, memory("VmHWM") - before]))
    """
    said, seconds, extra = measured(script, folder)
    assert len(said) == 8 and "loaded" not in said
    assert sum("MAX_PARAMETERS" in words for words in said) == 2 and sum(FIT in words for words in said) == 2
    assert "larger than 20,000,000 bytes" in said[-1]
    assert max(seconds) < 2 and sorted(seconds)[4] < 0.05, seconds
    assert extra < 40e6, extra


@needs_proc
def test_loading_takes_at_most_twice_the_weights(tmp_path):
    shape = CLIPConfig("vit", image_width=64, image_layers=(1,), vocab_size=200_000, text_width=128, text_layers=1)
    build_clip(shape).save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    script = """
        before = memory("VmHWM")
        model = CLIP.from_pretrained(folder)
        print(json.dumps([memory("VmHWM") - before, sum(p.numel() for p in model.parameters())]))
    """
    extra, numbers = measured(script, tmp_path)
    assert size > 100e6 and abs(size / numbers - 4) < 0.1
    assert size < extra < 2.2 * size, (extra, size)


# --- at random


def test_a_hundred_damaged_files_are_refused_or_work(tmp_path):
    rows = weights.fuzz(100, 0, tmp_path)
    result = weights.summary(rows)
    assert result["kept"] and result["cases"] == 100, result["broken"]
    assert result["outcomes"]["refused"] > 50 and result["outcomes"]["loaded equal"] > 0
    assert set(result["by_file"]) == set(weights.FILES) and all(result["by_file"].values())
